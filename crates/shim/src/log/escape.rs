//! Text inside a JSON string, escaped to the byte as Docker's json-file writer does it.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks, with the high bit of its byte, the first byte of `word` that is zero (marks above the first may be false).
const fn zeroes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// How many bytes at the start of `bytes` stand for themselves.
fn plain(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        // `"` and `&` differ in one bit, and so do `<` and `>`.
        let quote = zeroes((word | (ONES * 0x04)) ^ (ONES * 0x26));
        let angle = zeroes((word | (ONES * 0x02)) ^ (ONES * 0x3e));
        let backslash = zeroes(word ^ (ONES * 0x5c));
        let special = control | quote | angle | backslash | (word & HIGHS);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().position(|b| is_special(*b)).unwrap_or(bytes.len() - at)
}

const fn is_special(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&' | 0x80..)
}

/// Appends `bytes` up to their first line feed, and returns how many were taken, the line feed included but not
/// appended; `None` if there is none, with an unfinished rest in `out`.
pub(super) fn line(bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let run = plain(&bytes[at..]);
        out.extend_from_slice(&bytes[at..at + run]);
        at += run;
        match bytes.get(at) {
            None => return None,
            Some(b'\n') => return Some(at + 1),
            Some(_) => at += special(&bytes[at..], out),
        }
    }
}

/// Appends all of `bytes`.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < bytes.len() {
        let run = plain(&bytes[at..]);
        out.extend_from_slice(&bytes[at..at + run]);
        at += run;
        if at < bytes.len() {
            at += special(&bytes[at..], out);
        }
    }
}

/// Appends what the first character of `bytes` becomes, and returns its length.
fn special(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match bytes[0] {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        byte @ 0..0x80 => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
        byte => return wide(byte, bytes, out),
    }
    1
}

/// A character of several bytes, or a byte that is part of none.
fn wide(first: u8, bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let length = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 0,
    };
    match bytes.get(..length) {
        Some(b"\xe2\x80\xa8") => out.extend_from_slice(b"\\u2028"),
        Some(b"\xe2\x80\xa9") => out.extend_from_slice(b"\\u2029"),
        Some(character) if length > 0 && std::str::from_utf8(character).is_ok() => {
            out.extend_from_slice(character);
        }
        _ => {
            out.extend_from_slice(b"\\ufffd");
            return 1;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).expect("utf8")
    }

    #[test]
    fn as_docker_writes_it() {
        assert_eq!(escaped(b"plain text, 100% ~\x7f"), "plain text, 100% ~\x7f");
        assert_eq!(escaped(b"a\"b\\c"), "a\\\"b\\\\c");
        assert_eq!(escaped(b"<b>&</b>"), "\\u003cb\\u003e\\u0026\\u003c/b\\u003e");
        assert_eq!(escaped(b"\x00\x1b[0m\t\r\n"), "\\u0000\\u001b[0m\\u0009\\r\\n");
        assert_eq!(escaped("grüße 日本 🦀".as_bytes()), "grüße 日本 🦀");
        assert_eq!(escaped("a\u{2028}b\u{2029}".as_bytes()), "a\\u2028b\\u2029");
        assert_eq!(escaped(b"\xff\xc3(\xe2\x82"), "\\ufffd\\ufffd(\\ufffd\\ufffd");
        assert_eq!(escaped(b"\xed\xa0\x80\xc0\xaf"), "\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd");
    }

    proptest! {
        #[test]
        fn the_fast_scan_finds_what_the_slow_one_finds(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let slow = bytes.iter().position(|b| is_special(*b)).unwrap_or(bytes.len());
            prop_assert_eq!(plain(&bytes), slow);
        }

        #[test]
        fn a_line_is_the_escape_of_what_comes_before_the_line_feed(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            let taken = line(&bytes, &mut out);
            let end = bytes.iter().position(|b| *b == b'\n');
            prop_assert_eq!(taken, end.map(|at| at + 1));
            if let Some(end) = end {
                let mut expected = Vec::new();
                escape(&bytes[..end], &mut expected);
                // A character cut by the line feed is invalid either way.
                prop_assert_eq!(out, expected);
            }
        }
    }
}
