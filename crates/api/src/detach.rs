//! The keys that detach a client from a container.

use crate::Error;

/// `ctrl-p,ctrl-q`.
pub const DEFAULT: [u8; 2] = [16, 17];

/// Reads `a,ctrl-b,…`: each one character, or `ctrl-` with a letter or one of `@ [ \ ] ^ _`. Empty for the
/// default.
pub fn parse(text: &str) -> Result<Vec<u8>, Error> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let wrong = || Error::DetachKeys(text.to_owned());
    text.split(',')
        .map(|key| match key.as_bytes() {
            [one] => Ok(*one),
            _ => match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some(b"@") => Ok(0),
                Some(b"[") => Ok(27),
                Some(b"\\") => Ok(28),
                Some(b"]") => Ok(29),
                Some(b"^") => Ok(30),
                Some(b"_") => Ok(31),
                _ => Err(wrong()),
            },
        })
        .collect()
}

/// Looks for the keys in what is typed. Keys that begin the sequence are held back until it is clear that they
/// do not end it.
#[derive(Clone, Debug)]
pub struct Detector {
    keys: Vec<u8>,
    held: usize,
}

impl Detector {
    /// Looks for these keys.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, held: 0 }
    }

    /// Appends to `out` what is to be passed on, and says whether the keys were typed: then nothing after them
    /// is passed on.
    pub fn push(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if self.keys.is_empty() {
                out.push(byte);
                continue;
            }
            while self.held > 0 && self.keys[self.held] != byte {
                let shorter = self.shorter();
                out.extend_from_slice(&self.keys[..self.held - shorter]);
                self.held = shorter;
            }
            if self.keys[self.held] == byte {
                self.held += 1;
            } else {
                out.push(byte);
            }
            if self.held == self.keys.len() {
                self.held = 0;
                return true;
            }
        }
        false
    }

    /// What is held back, to be passed on when nothing more is typed.
    pub fn held(&self) -> &[u8] {
        &self.keys[..self.held]
    }

    /// The longest beginning of the keys that also ends what is held and is shorter than it.
    fn shorter(&self) -> usize {
        let held = &self.keys[..self.held];
        (0..self.held).rev().find(|length| held.ends_with(&self.keys[..*length])).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_read() {
        assert_eq!(parse("").unwrap(), DEFAULT);
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT);
        assert_eq!(parse("a,ctrl-@,ctrl-_").unwrap(), [b'a', 0, 31]);
        assert_eq!(parse("ctrl-A").unwrap_err().to_string(), "Invalid escape keys (ctrl-A) provided");
        for wrong in ["ctrl-", "ab", "a,,b", "ctrl-pp", ","] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_beginning_is_passed_on_when_it_was_none() {
        let mut detector = Detector::new(DEFAULT.to_vec());
        let mut out = Vec::new();
        assert!(!detector.push(&[b'x', 16], &mut out));
        assert_eq!(out, b"x");
        assert!(!detector.push(&[16], &mut out));
        assert_eq!(out, [b'x', 16]);
        assert!(detector.push(&[17, b'y'], &mut out));
        assert_eq!(out, [b'x', 16]);
    }

    proptest! {
        #[test]
        fn all_is_passed_on_up_to_the_keys(
            keys in proptest::collection::vec(0u8..3, 1..4),
            typed in proptest::collection::vec(0u8..3, 0..40),
            cut in 1usize..5,
        ) {
            let found = typed.windows(keys.len()).position(|window| window == keys);
            let mut detector = Detector::new(keys);
            let mut out = Vec::new();
            let detached = typed.chunks(cut).any(|part| detector.push(part, &mut out));
            prop_assert_eq!(detached, found.is_some());
            out.extend_from_slice(detector.held());
            prop_assert_eq!(&out[..], &typed[..found.unwrap_or(typed.len())]);
        }
    }
}
