//! Whose signatures an image must have to be pulled: containers-policy.json(5), as Podman and CRI-O read it, with cosign's signatures
//! (`sigstoreSigned`). Signatures by GnuPG (`signedBy`) are refused by name.
//!
//! ```text
//! {"default": [{"type": "reject"}],
//!  "transports": {"docker": {"registry.example/team": [{"type": "sigstoreSigned", "keyPath": "/etc/corten/team.pub",
//!                                                       "signedIdentity": {"type": "matchRepository"}}]}}}
//! ```
//! The most special scope counts, alone. All its requirements must be met.

mod key;
mod signature;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use oci::{Digest, Reference};
use serde::Deserialize;

use crate::client::{Repository, canonical};
use crate::error::{Error, Result};
use key::Key;

/// Files of policies and keys are written by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The transport of images that come from registries.
const TRANSPORT: &str = "docker";

/// A policy.
#[derive(Debug)]
pub struct Policy {
    path: PathBuf,
    default: Vec<Requirement>,
    scopes: BTreeMap<String, Vec<Requirement>>,
}

/// One thing that is required of an image.
#[derive(Debug)]
enum Requirement {
    Accept,
    Reject,
    /// A signature by one of these keys, for a name that is the image's.
    Signed(Vec<Key>, Identity),
}

/// Which name a signature must be for.
#[derive(Debug, Default, Clone, Deserialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum Identity {
    /// The reference itself.
    MatchExact,
    /// The reference itself, or the repository where it is pulled by digest.
    #[default]
    MatchRepoDigestOrExact,
    /// The repository, with any tag or none.
    MatchRepository,
    /// This reference.
    ExactReference { docker_reference: String },
    /// This repository.
    ExactRepository { docker_repository: String },
    /// As [`Identity::MatchRepoDigestOrExact`], of what the reference is with another beginning.
    #[serde(rename = "remapIdentity")]
    Remap { prefix: String, signed_prefix: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Vec<RawRequirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<RawRequirement>>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum RawRequirement {
    InsecureAcceptAnything {},
    Reject {},
    SigstoreSigned {
        #[serde(default)]
        key_path: Option<PathBuf>,
        #[serde(default)]
        key_paths: Vec<PathBuf>,
        #[serde(default)]
        key_data: Option<String>,
        #[serde(default)]
        key_datas: Vec<String>,
        #[serde(default)]
        signed_identity: Identity,
    },
}

impl Policy {
    /// Reads a policy and the keys that it names.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(path, &read(path, path)?)
    }

    /// Reads a policy's text; `path` is said in errors.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let raw: RawPolicy = serde_json::from_slice(text).map_err(|error| wrong(path, &error.to_string()))?;
        if raw.default.is_empty() {
            return Err(wrong(path, "default holds no requirement"));
        }
        let all = |requirements: Vec<RawRequirement>| -> Result<Vec<Requirement>> {
            requirements.into_iter().map(|requirement| requirement.resolve(path)).collect()
        };
        let default = all(raw.default)?;
        let mut scopes = BTreeMap::new();
        for (transport, said) in raw.transports {
            // What is said of files and other engines' stores is not about pulls; that it can be read is looked at all the same.
            for (scope, requirements) in said {
                if requirements.is_empty() {
                    return Err(wrong(path, &format!("scope {scope:?} holds no requirement")));
                }
                let requirements = all(requirements)?;
                if transport == TRANSPORT && scopes.insert(canonical(&scope), requirements).is_some() {
                    return Err(wrong(path, &format!("scope {scope:?} is there twice, in other letters")));
                }
            }
        }
        Ok(Self { path: path.to_owned(), default, scopes })
    }

    /// What is required of a reference: by the most special scope that it is in.
    fn requirements(&self, reference: &Reference) -> &[Requirement] {
        let scopes = scopes(reference);
        scopes.iter().find_map(|scope| self.scopes.get(scope)).unwrap_or(&self.default)
    }

    /// Whether an image may be pulled that a reference leads to. It is signed if one of these digests is: the index that the name
    /// leads to, or the manifest of the platform in it.
    pub(crate) async fn check(
        &self,
        reference: &Reference,
        repository: &Repository,
        digests: &[&Digest],
    ) -> Result<()> {
        let refused =
            |why: String| Error::Refused { reference: reference.to_string(), policy: self.path.clone(), why };
        let mut found = None;
        for requirement in self.requirements(reference) {
            let (keys, identity) = match requirement {
                Requirement::Accept => continue,
                Requirement::Reject => return Err(refused("it is rejected there".to_owned())),
                Requirement::Signed(keys, identity) => (keys, identity),
            };
            if found.is_none() {
                found = Some(signature::all(repository, digests).await?);
            }
            let signatures = found.as_deref().unwrap_or_default();
            if signatures.is_empty() {
                return Err(refused("it has no signature".to_owned()));
            }
            let mut why = String::new();
            let good = signatures.iter().any(|signature| {
                let checked = signature.check(keys, |name| identity.takes(reference, name));
                checked.map_err(|reason| why = reason).is_ok()
            });
            if !good {
                return Err(refused(why));
            }
        }
        Ok(())
    }
}

impl RawRequirement {
    fn resolve(self, path: &Path) -> Result<Requirement> {
        let (files, datas, identity) = match self {
            Self::InsecureAcceptAnything {} => return Ok(Requirement::Accept),
            Self::Reject {} => return Ok(Requirement::Reject),
            Self::SigstoreSigned { key_path, key_paths, key_data, key_datas, signed_identity } => (
                key_path.into_iter().chain(key_paths).collect::<Vec<_>>(),
                key_data.into_iter().chain(key_datas).collect::<Vec<_>>(),
                signed_identity,
            ),
        };
        let mut keys = Vec::new();
        for file in files {
            let pem = read(path, &file)?;
            keys.push(
                Key::parse(&pem).map_err(|why| wrong(path, &format!("key {}: {why}", file.display())))?,
            );
        }
        for data in datas {
            let pem = base64::engine::general_purpose::STANDARD
                .decode(data)
                .map_err(|_| wrong(path, "keyData is not in base64"))?;
            keys.push(Key::parse(&pem).map_err(|why| wrong(path, &format!("keyData: {why}")))?);
        }
        if keys.is_empty() {
            return Err(wrong(path, "sigstoreSigned names no key (keyPath or keyData)"));
        }
        Ok(Requirement::Signed(keys, identity))
    }
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::Settings { path: path.to_owned(), why: why.to_owned() }
}

fn read(policy: &Path, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| wrong(policy, &format!("{}: {error}", path.display())))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(policy, &format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display())));
    }
    Ok(bytes)
}

/// The scopes that a reference is in, the most special first: its digest, its tag, its repository, its namespaces, its host, the domains
/// above it, all. However it is spelled, it is in the same.
fn scopes(reference: &Reference) -> Vec<String> {
    let repository = canonical(&reference.repository());
    let mut scopes = Vec::new();
    scopes.extend(reference.digest().map(|digest| format!("{repository}@{digest}")));
    scopes.extend(reference.tag().map(|tag| format!("{repository}:{tag}")));
    scopes.push(repository.clone());
    let mut rest = repository.as_str();
    while let Some((above, _)) = rest.rsplit_once('/') {
        scopes.push(above.to_owned());
        rest = above;
    }
    let mut domain = crate::client::host_of(rest);
    while let Some((_, above)) = domain.split_once('.') {
        scopes.push(format!("*.{above}"));
        domain = above;
    }
    scopes.push(String::new());
    scopes
}

impl Identity {
    /// Whether a signature for `name` is one for `reference`.
    fn takes(&self, reference: &Reference, name: &str) -> bool {
        let Ok(signed) = Reference::parse_named(name) else { return false };
        let own = |reference: &Reference| {
            if reference.digest().is_some() {
                signed.repository() == reference.repository()
            } else {
                signed == *reference
            }
        };
        match self {
            Self::MatchExact => reference.tag().is_some() && signed == *reference,
            Self::MatchRepoDigestOrExact => own(reference),
            Self::MatchRepository => signed.repository() == reference.repository(),
            Self::ExactReference { docker_reference } => {
                Reference::parse_named(docker_reference).is_ok_and(|wanted| wanted == signed)
            }
            Self::ExactRepository { docker_repository } => Reference::parse_named(docker_repository)
                .is_ok_and(|wanted| wanted.repository() == signed.repository()),
            Self::Remap { prefix, signed_prefix } => {
                let text = reference.to_string();
                let moved = match text.strip_prefix(prefix.as_str()) {
                    Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => {
                        Reference::parse_named(&format!("{signed_prefix}{rest}"))
                    }
                    _ => Ok(reference.clone()),
                };
                moved.is_ok_and(|moved| own(&moved))
            }
        }
    }
}

/// What the fuzzer gives: a policy, a key, what was signed.
#[doc(hidden)]
pub fn fuzz_policy(bytes: &[u8]) {
    let _ = Policy::parse(Path::new("policy"), bytes);
    let _ = Key::parse(bytes);
    let _ = signature::Payload::parse(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Reference {
        Reference::parse_named(text).unwrap()
    }

    fn parse(text: &str) -> Result<Policy> {
        Policy::parse(Path::new("/p"), text.as_bytes())
    }

    #[test]
    fn the_most_special_scope_counts() {
        let reject = r#"[{"type":"reject"}]"#;
        let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
        let policy = parse(&format!(
            r#"{{"default":{reject},"transports":{{"docker":{{"r.example/team":{accept},"r.example/team/bad":{reject},
               "*.wild.example":{accept},"docker.io/library/busybox:1":{accept}}},"oci":{{"":{accept}}}}}}}"#
        ))
        .unwrap();
        let accepts = |name: &str| matches!(policy.requirements(&of(name)), [Requirement::Accept]);
        for name in [
            "r.example/team/app:1",
            "r.example/team",
            "a.wild.example:5/x",
            "a.b.wild.example/x",
            "busybox:1",
        ] {
            assert!(accepts(name), "{name}");
        }
        for name in
            ["r.example/teams", "r.example/team/bad:2", "wild.example/x", "busybox:2", "other.example/x"]
        {
            assert!(!accepts(name), "{name}");
        }
    }

    #[test]
    fn another_spelling_is_no_way_around() {
        let reject = r#"[{"type":"reject"}]"#;
        let accept = r#"[{"type":"insecureAcceptAnything"}]"#;
        let policy = parse(&format!(
            r#"{{"default":{accept},"transports":{{"docker":{{"r.example/bad":{reject},"r.example:5/team/app:1":{reject},
               "docker.io/library/x":{reject}}}}}}}"#
        ))
        .unwrap();
        let accepts = |name: &str| matches!(policy.requirements(&of(name)), [Requirement::Accept]);
        assert!(accepts("r.example:5/team/app:2") && accepts("r.example/badly"));
        for name in ["R.Example/bad:2", "r.example:443/bad", "r.example:0443/bad:1", "R.EXAMPLE:5/team/app:1"]
        {
            assert!(!accepts(name), "{name}");
        }
        let digest = format!("r.example:05/team/app:1@sha256:{}", "0".repeat(64));
        for name in ["x", "index.docker.io/library/x", "registry-1.docker.io/library/x", &digest] {
            assert!(!accepts(name), "{name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, words) in [
            ("{", "EOF"),
            ("{}", "missing field `default`"),
            (r#"{"default":[]}"#, "default holds no requirement"),
            (r#"{"default":[{"type":"signedBy","keyType":"GPGKeys"}]}"#, "unknown variant `signedBy`"),
            (r#"{"default":[{"type":"reject","x":1}]}"#, "unknown field `x`"),
            (r#"{"default":[{"type":"reject"}],"more":1}"#, "unknown field `more`"),
            (r#"{"default":[{"type":"sigstoreSigned"}]}"#, "names no key"),
            (r#"{"default":[{"type":"sigstoreSigned","keyData":"%"}]}"#, "not in base64"),
            (r#"{"default":[{"type":"sigstoreSigned","keyPath":"/nowhere"}]}"#, "/nowhere: No such file"),
            (r#"{"default":[{"type":"sigstoreSigned","fulcio":{}}]}"#, "unknown field `fulcio`"),
            (
                r#"{"default":[{"type":"reject"}],"transports":{"docker":{"x":[]}}}"#,
                "\"x\" holds no requirement",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn names_that_signatures_are_for() {
        let takes = |identity: &str, reference: &str, name: &str| {
            let identity: Identity = serde_json::from_str(identity).unwrap();
            identity.takes(&of(reference), name)
        };
        let digest = format!("r.example/a@sha256:{}", "0".repeat(64));
        let usual = r#"{"type":"matchRepoDigestOrExact"}"#;
        assert!(takes(usual, "r.example/a:1", "r.example/a:1"));
        assert!(!takes(usual, "r.example/a:1", "r.example/a"));
        assert!(!takes(usual, "r.example/a:1", "r.example/a:2"));
        assert!(takes(usual, &digest, "r.example/a:2"));
        assert!(!takes(usual, &digest, "r.example/b"));
        assert!(takes(r#"{"type":"matchRepository"}"#, "r.example/a:1", "r.example/a"));
        assert!(!takes(r#"{"type":"matchExact"}"#, &digest, &digest));
        assert!(takes(
            r#"{"type":"exactReference","dockerReference":"x.example/y:3"}"#,
            "r.example/a:1",
            "x.example/y:3"
        ));
        assert!(takes(
            r#"{"type":"exactRepository","dockerRepository":"x.example/y"}"#,
            "r.example/a:1",
            "x.example/y:3"
        ));
        let moved = r#"{"type":"remapIdentity","prefix":"mirror.example/x","signedPrefix":"r.example"}"#;
        assert!(takes(moved, "mirror.example/x/a:1", "r.example/a:1"));
        assert!(!takes(moved, "mirror.example/xy/a:1", "r.example/a:1"));
        assert!(!takes(usual, "r.example/a:1", "Not A Name"));
    }
}
