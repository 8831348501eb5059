//! What is to be stated of a result, as clients write it: `attest:provenance=mode=max,version=v1`.

use build::output::{Attestations, Provenance};

use crate::error::{Error, Result};
use crate::options::is_on;

/// Bytes of what is called who has built.
const BUILDER_BYTES_MAX: usize = 4096;

/// Takes one of the options.
pub(crate) fn take(attestations: &mut Attestations, kind: &str, value: &str) -> Result<()> {
    // Compose writes what its file says as the type: `type=mode=max`, `type=false`.
    let value = value.strip_prefix("type=").unwrap_or(value);
    let words: Vec<(&str, &str)> = value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(|word| word.split_once('=').unwrap_or((word, "true")))
        .collect();
    let is_off = words.iter().any(|(key, value)| is_on(value) && matches!(*key, "disabled" | "false"));
    match kind {
        "provenance" if is_off => attestations.provenance = None,
        "sbom" if is_off => attestations.sbom = false,
        "provenance" => attestations.provenance = Some(provenance(&words)?),
        "sbom" => {
            for (key, value) in words {
                match key {
                    "disabled" | "true" | "sbom" => {}
                    // The engine looks itself.
                    "generator" if value.is_empty() => {}
                    _ => return Err(Error::Absent(format!("{key}={value} of the attestation sbom"))),
                }
            }
            attestations.sbom = true;
        }
        other => return Err(Error::Absent(format!("the attestation {other}"))),
    }
    Ok(())
}

fn provenance(words: &[(&str, &str)]) -> Result<Provenance> {
    let mut provenance = Provenance::default();
    for (key, value) in words {
        match (*key, *value) {
            ("mode", "min") | ("version", "v0.2") | ("disabled" | "true" | "provenance", _) => {}
            ("mode", "max") => provenance.max = true,
            ("version", "v1") => provenance.v1 = true,
            ("builder-id", id) if id.len() <= BUILDER_BYTES_MAX => id.clone_into(&mut provenance.builder_id),
            ("reproducible", value) => provenance.reproducible = is_on(value),
            ("inline-only", value) => provenance.inline_only = is_on(value),
            (key, value) => {
                let value: String = value.chars().take(64).collect();
                return Err(Error::Invalid(format!(
                    "invalid {key}={value} of the attestation provenance: use mode=min|max, version=v0.2|v1, builder-id, reproducible"
                )));
            }
        }
    }
    Ok(provenance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attestations_are_read() {
        let mut all = Attestations::default();
        take(&mut all, "provenance", "mode=max,version=v1,builder-id=https://x,inline-only=true").unwrap();
        let provenance = all.provenance.clone().unwrap();
        assert!(provenance.max && provenance.v1 && provenance.inline_only && !provenance.reproducible);
        assert_eq!(provenance.builder_id, "https://x");
        take(&mut all, "sbom", "").unwrap();
        assert!(all.sbom);
        take(&mut all, "provenance", "disabled=true").unwrap();
        take(&mut all, "sbom", "disabled=true").unwrap();
        take(&mut all, "provenance", "type=false").unwrap();
        take(&mut all, "sbom", "type=false").unwrap();
        take(&mut all, "provenance", "type=mode=max").unwrap();
        assert!(all.provenance.take().unwrap().max);
        assert_eq!(all, Attestations::default());
        for (kind, value, word) in [
            ("sbom", "generator=docker/scanner", "generator=docker/scanner"),
            ("provenance", "mode=much", "mode=much"),
            ("other", "", "the attestation other"),
        ] {
            let error = take(&mut all, kind, value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
