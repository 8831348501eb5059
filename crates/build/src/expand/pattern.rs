//! Patterns of `${x#…}`, `${x%…}` and `${x/…}`: `*` is any letters and `?` is one, neither of which crosses a line.
//!
//! Matched by following all ways at once, the preferred first, so that the work is letters times pattern and never more.

use super::Step;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Letter(char),
    Any,
    Star,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    pub fn parse(text: &str) -> Step<Self> {
        let mut parts = Vec::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            parts.push(match letter {
                '*' => Part::Star,
                '?' => Part::Any,
                // These had to be escaped for what is around the pattern.
                '\\' if matches!(letters.peek(), Some('}' | '/')) => continue,
                '\\' => match letters.next() {
                    Some(letter @ ('*' | '?' | '\\')) => Part::Letter(letter),
                    other => {
                        let letter = other.map(String::from).unwrap_or_default();
                        return Err(format!(
                            "invalid pattern ({text}) in substitution: invalid escape '\\{letter}'"
                        ));
                    }
                },
                letter => Part::Letter(letter),
            });
        }
        Ok(Self { parts })
    }

    /// The value without the shortest or longest beginning that matches.
    pub fn without_beginning(&self, value: &str, longest: bool, work: &mut usize) -> Step<String> {
        let letters: Vec<char> = value.chars().collect();
        let end = self.find(&letters, 0, longest, true, work)?.map_or(0, |(_, end)| end);
        Ok(letters[end..].iter().collect())
    }

    /// The value without the shortest or longest end that matches.
    pub fn without_end(&self, value: &str, longest: bool, work: &mut usize) -> Step<String> {
        let letters: Vec<char> = value.chars().rev().collect();
        let mirrored = Self { parts: self.parts.iter().rev().copied().collect() };
        let end = mirrored.find(&letters, 0, longest, true, work)?.map_or(0, |(_, end)| end);
        Ok(letters[end..].iter().rev().collect())
    }

    /// The value with the first match, or with all, replaced.
    pub fn replace(&self, value: &str, by: &str, all: bool, work: &mut usize) -> Step<String> {
        let letters: Vec<char> = value.chars().collect();
        let mut out = String::new();
        let mut copied = 0;
        let mut from = 0;
        let mut last_end = None;
        while let Some((start, end)) = self.find(&letters, from, true, false, work)? {
            // Nothing matches once more right behind a match.
            let again = start == end && last_end == Some(end);
            if !again {
                out.extend(&letters[copied..start]);
                out.push_str(by);
                if out.len() > super::WORD_BYTES_MAX {
                    return Err(format!("the values are longer than {} bytes", super::WORD_BYTES_MAX));
                }
                copied = end;
                last_end = Some(end);
            }
            from = if start == end { end + 1 } else { end };
            if !all || from > letters.len() {
                break;
            }
        }
        out.extend(&letters[copied..]);
        Ok(out)
    }

    /// The leftmost match from a place on; of several that begin there, the one whose stars are as greedy as can be.
    fn find(
        &self,
        letters: &[char],
        from: usize,
        greedy: bool,
        anchored: bool,
        work: &mut usize,
    ) -> Step<Option<(usize, usize)>> {
        *work = work.checked_sub(self.parts.len()).ok_or(TOO_LONG)?;
        let mut ways: Vec<Way> = Vec::new();
        let mut found = None;
        // The step at which a part was last reached: each is followed once a step.
        let mut reached = vec![usize::MAX; self.parts.len() + 1];
        for at in from..=letters.len() {
            if found.is_none() && (!anchored || at == from) {
                ways.push(Way { part: 0, start: at, takes: false });
            }
            if ways.is_empty() {
                break;
            }
            let letter = letters.get(at).copied();
            let inside_line = letter.is_some_and(|letter| letter != '\n');
            // The most preferred is on top, here and in what goes on.
            let mut stack: Vec<Way> = ways.drain(..).rev().collect();
            while let Some(way) = stack.pop() {
                *work = work.checked_sub(1).ok_or(TOO_LONG)?;
                if way.takes {
                    ways.push(Way { takes: false, ..way });
                    continue;
                }
                if std::mem::replace(&mut reached[way.part], at) == at {
                    continue;
                }
                let behind = Way { part: way.part + 1, ..way };
                match self.parts.get(way.part) {
                    None => {
                        found = Some((way.start, at));
                        // What is left is wanted less.
                        break;
                    }
                    Some(Part::Letter(wanted)) if letter == Some(*wanted) => ways.push(behind),
                    Some(Part::Any) if inside_line => ways.push(behind),
                    Some(Part::Star) if inside_line => {
                        let takes = Way { takes: true, ..way };
                        stack.extend(if greedy { [behind, takes] } else { [takes, behind] });
                    }
                    Some(Part::Star) => stack.push(behind),
                    Some(_) => {}
                }
            }
        }
        Ok(found)
    }
}

/// How far a match has come.
#[derive(Clone, Copy)]
struct Way {
    /// The next part.
    part: usize,
    /// Where the match begins.
    start: usize,
    /// Whether it takes the letter, and stays at its part.
    takes: bool,
}

const TOO_LONG: &str = "the pattern takes too long";
