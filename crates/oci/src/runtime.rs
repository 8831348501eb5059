//! The OCI runtime configuration, `config.json`: the types are those of the `oci-spec` crate.
//!
//! What they lack, as of its version 0.10, is read by the crates that need it from the document itself.

pub use oci_spec::runtime::*;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;

/// The largest `config.json` that is read. Docker's own are about 20 kB; a list of ten thousand mounts fits.
pub const MAX_SPEC_BYTES: u64 = 8 << 20;

/// Reads a `config.json`.
///
/// `process.user` may be left out, as other runtimes allow: it is root then.
pub fn parse_spec(bytes: &[u8]) -> Result<Spec, Error> {
    parse(bytes, "config.json", |document| mend_process(document.get_mut("process")))
}

/// Reads a `process` object, as `exec` is given one.
pub fn parse_process(bytes: &[u8]) -> Result<Process, Error> {
    parse(bytes, "process.json", |document| mend_process(Some(document)))
}

/// Reads the document; only if that fails it is read again as loose JSON, mended by `mend` and tried once more, so that
/// complete documents, which are the rule, cost one pass.
fn parse<T: DeserializeOwned>(bytes: &[u8], what: &'static str, mend: fn(&mut Value)) -> Result<T, Error> {
    let size = bytes.len() as u64;
    if size > MAX_SPEC_BYTES {
        return Err(Error::TooLarge { what, size, limit: MAX_SPEC_BYTES });
    }
    let json = |source| Error::Json { what, source };
    match serde_json::from_slice(bytes) {
        Err(error) if error.is_data() => {
            let mut document: Value = serde_json::from_slice(bytes).map_err(json)?;
            mend(&mut document);
            // Only here, as it costs: the name of the field that is wrong.
            serde_path_to_error::deserialize(document).map_err(|error| Error::Field {
                what,
                field: error.path().to_string(),
                source: error.into_inner(),
            })
        }
        other => other.map_err(json),
    }
}

/// What is missing and may be, and names that the types spell in another way than the specification.
fn mend_process(process: Option<&mut Value>) {
    let Some(Value::Object(process)) = process else { return };
    let user = process.entry("user").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(user) = user {
        user.entry("uid").or_insert(Value::from(0));
        user.entry("gid").or_insert(Value::from(0));
    }
    // No list is the same as none.
    if let Some(Value::Object(affinity)) = process.get_mut("execCPUAffinity") {
        affinity.retain(|_, list| list.as_str() != Some(""));
    }
    let flags = process.get_mut("scheduler").and_then(|s| s.get_mut("flags")).and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let name = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = name.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_configuration() {
        let spec = parse_spec(br#"{"ociVersion":"1.0.2","process":{"cwd":"/","args":["true"]}}"#).unwrap();
        assert_eq!(spec.version(), "1.0.2");
        assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
        let process = parse_process(br#"{"cwd":"/","user":{"uid":7}}"#).unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (7, 0));
        assert_eq!(parse_spec(b"{").unwrap_err().to_string(), "invalid config.json");
        let error = parse_process(br#"{"cwd":"/","args":["true",7]}"#).unwrap_err();
        assert_eq!(error.to_string(), "invalid process.json: args[1]");
        let large = vec![b' '; MAX_SPEC_BYTES as usize + 1];
        assert!(matches!(parse_spec(&large), Err(Error::TooLarge { .. })));
    }
}
