//! PAX extended headers: lines of `length key=value`.

use sys::fsx::Time;

use super::sparse::SparseMap;
use crate::error::{Error, Result};

/// Attributes of one entry: the kernel gives room for about as many names.
const XATTRS_MAX: usize = 1024;

/// What an extended header says that we use.
#[derive(Debug, Default)]
pub struct Pax {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    pub mtime: Option<Time>,
    pub atime: Option<Time>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: Option<SparseMap>,
}

impl Pax {
    /// Reads all records of a header.
    pub fn parse(mut data: &[u8]) -> Result<Self> {
        let mut pax = Self::default();
        // Filled up with zeros by some writers.
        while data.first().is_some_and(|byte| *byte != 0) {
            let (key, value, rest) = record(data).ok_or_else(|| Error::layer("invalid extended header"))?;
            pax.set(key, value)?;
            data = rest;
        }
        if let Some(sparse) = &mut pax.sparse
            && let Some(name) = sparse.name.take()
        {
            pax.path = Some(name);
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        // An empty value means: as in the header.
        let text = |value: &[u8]| {
            if value.contains(&0) {
                return Err(Error::layer("name with a zero byte"));
            }
            Ok((!value.is_empty()).then(|| value.to_vec()))
        };
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.link = text(value)?,
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, id)?,
            b"gid" => self.gid = optional(value, id)?,
            b"mtime" => self.mtime = optional(value, time)?,
            b"atime" => self.atime = optional(value, time)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.set_xattr(name, value)?;
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().set(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        if name.is_empty() || name.contains(&0) {
            return Err(Error::layer("extended attribute with an invalid name"));
        }
        if value.len() > sys::xattr::VALUE_BYTES_MAX {
            return Err(Error::Limit {
                what: "size of an extended attribute",
                limit: sys::xattr::VALUE_BYTES_MAX as u64,
            });
        }
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() >= XATTRS_MAX {
            return Err(Error::Limit {
                what: "number of extended attributes of an entry",
                limit: XATTRS_MAX as u64,
            });
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// The first record: key, value, and what follows.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
        return None;
    }
    let (line, rest) = (&data[space + 1..length - 1], &data[length..]);
    let equals = line.iter().position(|byte| *byte == b'=')?;
    if equals == 0 {
        return None;
    }
    Some((&line[..equals], &line[equals + 1..], rest))
}

fn optional<T>(value: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
    if value.is_empty() {
        return Ok(None);
    }
    parse(value).map(Some).ok_or_else(|| Error::layer("invalid number in an extended header"))
}

/// A number without sign, at most what fits into `i64`.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = std::str::from_utf8(digits).ok()?.parse::<u64>().ok()?;
    i64::try_from(value).is_ok().then_some(value)
}

fn id(value: &[u8]) -> Option<i64> {
    decimal(value).and_then(|id| i64::try_from(id).ok())
}

/// Seconds with a sign and any number of decimals, of which nine count.
fn time(value: &[u8]) -> Option<Time> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let mut nanoseconds = 0u32;
    if let Some(decimals) = parts.next() {
        if !decimals.iter().all(u8::is_ascii_digit) {
            return None;
        }
        for at in 0..9 {
            nanoseconds = nanoseconds * 10 + decimals.get(at).map_or(0, |digit| u32::from(digit - b'0'));
        }
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(b"12.5").unwrap(), Time { seconds: 12, nanoseconds: 500_000_000 });
        assert_eq!(time(b"-1.25").unwrap(), Time { seconds: -2, nanoseconds: 750_000_000 });
        assert_eq!(time(b"7").unwrap(), Time { seconds: 7, nanoseconds: 0 });
        assert!(time(b"1e9").is_none());
        assert!(time(b"99999999999999999999").is_none());
    }

    #[test]
    fn records() {
        let pax = Pax::parse(b"11 path=abc\n26 SCHILY.xattr.user.a=x\ny\n").unwrap_err();
        assert!(matches!(pax, Error::InvalidLayer { .. }), "one byte too short: {pax}");
        let pax = Pax::parse(b"12 path=abc\n27 SCHILY.xattr.user.a=x\ny\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"abc"[..]));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"x\ny".to_vec())]);
        assert!(Pax::parse(b"12 path=a\0c\n").is_err());
        assert!(Pax::parse(b"99999999999999999999 a=b\n").is_err());
        assert!(Pax::parse(b"5 =b\n").is_err());
    }
}
