//! `<<WORD`.

use super::instruction::Heredoc;
use crate::expand::{Environment, Lexer, Quotes};
use crate::text::Span;

/// Files that the words of a line begin; their contents are not known yet.
pub fn find(line: &str) -> Vec<Heredoc> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let lexer = Lexer { quotes: Quotes::Keep, keep_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    let Ok(line) = lexer.process(line, &Environment::new()) else { return Vec::new() };
    line.words.iter().filter_map(|word| parse(word)).collect()
}

/// Reads a word as the beginning of a file.
pub fn parse(word: &str) -> Option<Heredoc> {
    let (descriptor, rest) = word.split_once("<<")?;
    if !descriptor.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (chomps, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let bare = Lexer { keep_unset: true, ..Lexer::new('\\') };
    let kept = Lexer { quotes: Quotes::Keep, keep_escapes: true, ..bare };
    let none = Environment::new();
    let bare = bare.process(rest, &none).ok()?.words;
    let kept = kept.process(rest, &none).ok()?.words;
    let ([bare], [kept]) = (bare.as_slice(), kept.as_slice()) else { return None };
    Some(Heredoc {
        name: bare.clone(),
        // If quotes or escapes changed something, it was quoted.
        expands: bare == kept,
        chomps,
        descriptor: descriptor.parse().unwrap_or_default(),
        content: String::new(),
        span: Span::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_are_found() {
        let names = |line: &str| find(line).into_iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(names("RUN <<EOF"), ["EOF"]);
        assert_eq!(names("RUN cat <<A 3<<-'B C' > x"), ["A", "B C"]);
        assert_eq!(names("RUN cat <<<word"), [""; 0]);
        assert_eq!(names("RUN echo '<<EOF'"), [""; 0]);
        assert_eq!(names("RUN echo $((1 << 2))"), [""; 0]);
        assert_eq!(names("RUN a<<b"), [""; 0]);
        let file = |word| parse(word).map(|file| (file.expands, file.chomps, file.descriptor));
        assert_eq!(file("<<E"), Some((true, false, 0)));
        assert_eq!(file("<<-E"), Some((true, true, 0)));
        assert_eq!(file("3<<\"E\""), Some((false, false, 3)));
        assert_eq!(file("<<E\"O\"F"), Some((false, false, 0)));
        assert_eq!(file("<<\\E"), Some((false, false, 0)));
        assert_eq!(file("<<"), None);
        assert_eq!(file("<<-"), None);
    }
}
