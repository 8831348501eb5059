//! Go's `path.Match`, as Docker's `reference` filter has it: `*`, `?`, `[a-z]`, `\`, none of which matches a `/`.

/// Whether a pattern matches the whole of a text; `None` if it is no pattern.
pub(super) fn matches(pattern: &str, text: &str) -> Option<bool> {
    let pattern: Vec<char> = pattern.chars().collect();
    check(&pattern)?;
    let text: Vec<char> = text.chars().collect();
    // Where to go on when the last star has to take one character more.
    let mut star: Option<(usize, usize)> = None;
    let (mut p, mut t) = (0, 0);
    loop {
        if p == pattern.len() && t == text.len() {
            return Some(true);
        }
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        if t < text.len()
            && p < pattern.len()
            && let Some(next) = one(&pattern, p, text[t])
        {
            (p, t) = (next, t + 1);
            continue;
        }
        match star {
            Some((after, taken)) if taken < text.len() && text[taken] != '/' => {
                star = Some((after, taken + 1));
                (p, t) = (after, taken + 1);
            }
            _ => return Some(false),
        }
    }
}

/// Whether the element at `p` takes the character; where the next element begins.
fn one(pattern: &[char], p: usize, character: char) -> Option<usize> {
    match pattern[p] {
        '?' => (character != '/').then_some(p + 1),
        '[' => {
            let (inside, end) = class(pattern, p, character)?;
            (inside && character != '/').then_some(end)
        }
        '\\' => (*pattern.get(p + 1)? == character).then_some(p + 2),
        plain => (plain == character).then_some(p + 1),
    }
}

/// Whether a class takes the character, and where it ends; `None` if it is not well formed.
fn class(pattern: &[char], start: usize, character: char) -> Option<(bool, usize)> {
    let mut p = start + 1;
    let negated = pattern.get(p) == Some(&'^');
    if negated {
        p += 1;
    }
    let mut inside = false;
    let mut ranges = 0;
    loop {
        if *pattern.get(p)? == ']' && ranges > 0 {
            return Some((inside != negated, p + 1));
        }
        let (low, next) = literal(pattern, p)?;
        let (high, next) =
            if pattern.get(next) == Some(&'-') { literal(pattern, next + 1)? } else { (low, next) };
        inside |= (low..=high).contains(&character);
        ranges += 1;
        p = next;
    }
}

fn literal(pattern: &[char], p: usize) -> Option<(char, usize)> {
    match *pattern.get(p)? {
        '\\' => Some((*pattern.get(p + 1)?, p + 2)),
        '-' | ']' => None,
        plain => Some((plain, p + 1)),
    }
}

/// Go refuses a malformed pattern, also where the text does not get that far.
fn check(pattern: &[char]) -> Option<()> {
    let mut p = 0;
    while p < pattern.len() {
        p = match pattern[p] {
            '[' => class(pattern, p, '\0')?.1,
            '\\' => {
                pattern.get(p + 1)?;
                p + 2
            }
            _ => p + 1,
        };
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn as_go_does() {
        for (pattern, text, expected) in [
            ("abc", "abc", Some(true)),
            ("*", "abc", Some(true)),
            ("*c", "abc", Some(true)),
            ("a*", "a", Some(true)),
            ("a*", "ab/c", Some(false)),
            ("a*/b", "abc/b", Some(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Some(true)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Some(true)),
            ("ab[c]", "abc", Some(true)),
            ("ab[b-d]", "abc", Some(true)),
            ("ab[e-g]", "abc", Some(false)),
            ("ab[^c]", "abc", Some(false)),
            ("ab[^e-g]", "abc", Some(true)),
            ("a\\*b", "a*b", Some(true)),
            ("a\\*b", "ab", Some(false)),
            ("a?b", "a/b", Some(false)),
            ("[\\]a]", "]", Some(true)),
            ("[]a]", "]", None),
            ("[", "a", None),
            ("[-x]", "x", None),
            ("a[", "ab", None),
            ("\\", "a", None),
            ("*x", "xxx", Some(true)),
            ("busybox:*", "busybox:latest", Some(true)),
            ("*box", "localhost:5000/busybox", Some(false)),
            ("*/*box", "localhost:5000/busybox", Some(true)),
            ("", "", Some(true)),
            ("", "a", Some(false)),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
