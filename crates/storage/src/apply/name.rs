//! An entry's name, taken apart.

use std::io;

use crate::error::{Error, Result};

/// What whiteouts begin with.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// `PATH_MAX`, what the kernel resolves in one piece.
const PATH_BYTES_MAX: usize = 4095;

/// `NAME_MAX` of every filesystem that layers are kept on.
const COMPONENT_BYTES_MAX: usize = 255;

/// A name inside the layer: no empty, `.` or `..` component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The directories, joined by `/`; empty for the layer's root.
    pub parent: Vec<u8>,
    /// The last component; empty for the layer's root itself.
    pub last: Vec<u8>,
}

impl Name {
    /// Takes a name apart. `..` may lead back, but not above the root.
    pub fn parse(raw: &[u8], depth_max: usize) -> Result<Self> {
        let shown = || String::from_utf8_lossy(&raw[..raw.len().min(100)]).into_owned();
        if raw.contains(&0) {
            return Err(Error::layer(format!("{:?}: name with a zero byte", shown())));
        }
        let mut components: Vec<&[u8]> = Vec::new();
        for component in raw.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    if components.pop().is_none() {
                        return Err(Error::layer(format!("{:?} leads out of the layer", shown())));
                    }
                }
                name if name.len() > COMPONENT_BYTES_MAX => {
                    return Err(Error::layer(format!("{:?}…: file name too long", shown())));
                }
                name => components.push(name),
            }
        }
        if components.len() > depth_max {
            return Err(Error::Limit { what: "depth of a path in a layer", limit: depth_max as u64 });
        }
        let last = components.pop().unwrap_or_default().to_vec();
        let name = Self { parent: components.join(&b'/'), last };
        if name.parent.len() + 1 + name.last.len() > PATH_BYTES_MAX {
            return Err(Error::layer(format!("{:?}…: path too long", shown())));
        }
        Ok(name)
    }

    /// Whether it is the layer's root.
    pub fn is_root(&self) -> bool {
        self.last.is_empty()
    }

    /// Whether it stands for the absence of something.
    pub fn is_whiteout(&self) -> bool {
        self.last.starts_with(WHITEOUT_PREFIX)
    }

    /// The whole path.
    pub fn path(&self) -> Vec<u8> {
        if self.parent.is_empty() { self.last.clone() } else { [&self.parent[..], b"/", &self.last].concat() }
    }

    /// The archive asks for what is not to be had.
    pub fn invalid(&self, what: &str) -> Error {
        Error::layer(format!("{:?}: {what}", String::from_utf8_lossy(&self.path())))
    }

    /// An operation on it failed.
    pub fn error(&self, verb: &'static str, error: io::Error) -> Error {
        super::entry_error(verb, &self.path(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        let path = |raw: &[u8]| Name::parse(raw, 8).map(|name| name.path());
        assert_eq!(path(b"./a//b/").unwrap(), b"a/b");
        assert_eq!(path(b"/abs/x").unwrap(), b"abs/x");
        assert_eq!(path(b"a/../b").unwrap(), b"b");
        assert_eq!(path(b"./").unwrap(), b"");
        for bad in [&b"../a"[..], b"a/../../b", b"/..", b"a\0b", &[b'x'; 256], &b"a/".repeat(9)] {
            assert!(path(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn nothing_leads_out(raw in proptest::collection::vec(prop_oneof![Just(b'/'), Just(b'.'), Just(b'a')], 0..40)) {
            if let Ok(name) = Name::parse(&raw, 100) {
                for component in name.path().split(|byte| *byte == b'/') {
                    prop_assert!(component != b".." && component != b".");
                }
                prop_assert!(!name.path().starts_with(b"/"));
            }
        }
    }
}
