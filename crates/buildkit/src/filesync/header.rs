//! Which files are asked for, in the headers of the call.

use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

use crate::error::{Error, Result};

/// Bytes of all headers together: what Go's HTTP/2 takes without complaint is 16 MiB; each pattern is a line of a Dockerfile or of
/// `.dockerignore`.
const HEADER_BYTES_MAX: usize = 4 << 20;

/// Which directory of the client, and which files of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ask {
    /// The directory's name: `context`, `dockerfile`.
    pub name: String,
    /// Paths, with wildcards, of which links are followed; all if there is none.
    pub follow: Vec<String>,
    /// Patterns of what is not wanted.
    pub exclude: Vec<String>,
}

impl Ask {
    /// Writes the headers.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn write(&self, headers: &mut MetadataMap) -> Result<()> {
        let bytes: usize = self.follow.iter().chain(&self.exclude).map(String::len).sum();
        if bytes > HEADER_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "the patterns of .dockerignore and of COPY are longer than {HEADER_BYTES_MAX} bytes together"
            )));
        }
        put(headers, "dir-name", std::slice::from_ref(&self.name))?;
        put(headers, "followpaths", &self.follow)?;
        put(headers, "exclude-patterns", &self.exclude)
    }
}

/// What is asked for, from the headers.
impl Ask {
    /// Reads the headers.
    ///
    /// # Errors
    /// They are not what this protocol has.
    pub(crate) fn read(headers: &MetadataMap) -> Result<Self> {
        let name = get(headers, "dir-name")?.into_iter().next().unwrap_or_default();
        for other in ["include-patterns", "override-excludes"] {
            if headers.get(other).is_some() {
                return Err(Error::Absent(format!("asking for files by {other}")));
            }
        }
        Ok(Self { name, follow: get(headers, "followpaths")?, exclude: get(headers, "exclude-patterns")? })
    }
}

/// The values under a name, as they were before they were escaped.
fn get(headers: &MetadataMap, name: &str) -> Result<Vec<String>> {
    let is_escaped = headers.get(format!("{name}-encoded")).is_some();
    let wrong = || Error::Invalid(format!("the header {name} is not what this protocol has"));
    let values = headers.get_all(name).iter().map(|value| value.to_str().map_err(|_| wrong()));
    values
        .map(|text| match text? {
            text if is_escaped => unescape(text).ok_or_else(wrong),
            text => Ok(text.to_owned()),
        })
        .collect()
}

/// What [`escape`] has made, as it was.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let mut decoded = [0];
                hex::decode_to_slice(digits, &mut decoded).ok()?;
                decoded[0]
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Puts values under a name. Where one of them is more than ASCII, all are escaped and a second header says so.
fn put(headers: &mut MetadataMap, name: &'static str, values: &[String]) -> Result<()> {
    let refuse = |value: &str| Error::Invalid(format!("the pattern {value:?} cannot be asked of the client"));
    let is_plain = |value: &String| value.is_ascii();
    let is_escaped = !values.iter().all(is_plain);
    let key = |name: &str| MetadataKey::<Ascii>::from_bytes(name.as_bytes()).map_err(|_| refuse(name));
    for value in values {
        let text = if is_escaped { escape(value) } else { value.clone() };
        let value = MetadataValue::try_from(text).map_err(|_| refuse(value))?;
        headers.append(key(name)?, value);
    }
    if is_escaped {
        headers.insert(key(&format!("{name}-encoded"))?, MetadataValue::from_static("1"));
    }
    Ok(())
}

/// As in the query of a URL: a space is `+`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ask: &Ask) -> MetadataMap {
        let mut headers = MetadataMap::new();
        ask.write(&mut headers).unwrap();
        headers
    }

    #[test]
    fn patterns_become_headers() {
        let ask = Ask {
            name: "context".into(),
            follow: vec!["src/*.c".into(), "100% +.txt".into()],
            exclude: vec!["naïve dir/**".into(), "a+b".into()],
        };
        let headers = written(&ask);
        let all = |name| -> Vec<_> {
            headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(all("dir-name"), ["context"]);
        assert_eq!(all("followpaths"), ["src/*.c", "100% +.txt"]);
        assert!(headers.get("followpaths-encoded").is_none());
        assert_eq!(all("exclude-patterns"), ["na%C3%AFve+dir%2F%2A%2A", "a%2Bb"]);
        assert_eq!(all("exclude-patterns-encoded"), ["1"]);
        assert_eq!(Ask::read(&headers).unwrap(), ask);
    }

    #[test]
    fn what_no_header_can_hold_is_refused() {
        let ask = Ask { follow: vec!["a\nb".into()], ..Ask::default() };
        assert!(ask.write(&mut MetadataMap::new()).is_err());
        let ask = Ask { exclude: vec!["x".repeat(HEADER_BYTES_MAX + 1)], ..Ask::default() };
        assert!(ask.write(&mut MetadataMap::new()).is_err());
    }
}
