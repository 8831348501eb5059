//! The OCI runtime configuration, `config.json`: the types are those of the `oci-spec` crate.
//!
//! What they lack, as of its version 0.10, is read by the crates that need it from the document itself.

pub use oci_spec::runtime::*;

use crate::Error;

/// The largest `config.json` that is read. Docker's own are about 20 kB; a list of ten thousand mounts fits.
pub const MAX_SPEC_BYTES: u64 = 8 << 20;

/// Reads a `config.json`.
pub fn parse_spec(bytes: &[u8]) -> Result<Spec, Error> {
    parse(bytes, "config.json")
}

/// Reads a `process` object, as `exec` is given one.
pub fn parse_process(bytes: &[u8]) -> Result<Process, Error> {
    parse(bytes, "process.json")
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, Error> {
    let size = bytes.len() as u64;
    if size > MAX_SPEC_BYTES {
        return Err(Error::TooLarge { what, size, limit: MAX_SPEC_BYTES });
    }
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_configuration() {
        let spec = parse_spec(
            br#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["true"]}}"#,
        )
        .unwrap();
        assert_eq!(spec.version(), "1.0.2");
        assert_eq!(parse_spec(b"{").unwrap_err().to_string(), "invalid config.json");
        let large = vec![b' '; MAX_SPEC_BYTES as usize + 1];
        assert!(matches!(parse_spec(&large), Err(Error::TooLarge { .. })));
    }
}
