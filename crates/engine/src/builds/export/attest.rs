//! What is stated of an image: in-toto statements, in a manifest of their own beside the one that they speak of.

use std::collections::BTreeMap;

use build::output::Form;
use oci::image::{Descriptor, media_type};
use oci::{Digest, Platform, Reference};
use serde_json::{Value, json};

use super::super::result::{Built, Part};
use super::{encode, packages, provenance, put};
use crate::error::Result;

/// What a statement is, and the fields that tell of it.
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
const MEDIA_TYPE: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
const ATTESTATION: &str = "attestation-manifest";

/// A statement without what it is about.
pub(super) struct Predicate {
    /// What files of it are called.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// What it says.
    pub content: Value,
}

/// Whether anything is to be stated; `inline` of an image, where also that is which nobody has asked for.
pub(super) fn is_wanted(built: &Built, inline: bool) -> bool {
    let wanted = &built.request.attestations;
    wanted.sbom || wanted.provenance.as_ref().is_some_and(|one| inline || !one.inline_only)
}

/// What is stated of a platform.
pub(super) fn predicates(built: &Built, part: &Part, inline: bool) -> Result<Vec<Predicate>> {
    let wanted = &built.request.attestations;
    let mut all = Vec::new();
    if wanted.sbom {
        all.push(packages::predicate(built, part)?);
    }
    if let Some(provenance) = wanted.provenance.as_ref().filter(|one| inline || !one.inline_only) {
        all.push(provenance::predicate(built, part, provenance));
    }
    Ok(all)
}

/// A statement about things with digests.
pub(super) fn statement(predicate: &Predicate, subjects: &[(String, Digest)]) -> Result<Vec<u8>> {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(name, digest)| json!({"name": name, "digest": {digest.algorithm().as_str(): digest.hex()}}))
        .collect();
    encode(&json!({
        "_type": STATEMENT,
        "predicateType": predicate.kind,
        "subject": subjects,
        "predicate": predicate.content,
    }))
}

/// What an image is called where packages are spoken of.
pub(super) fn package_url(name: &Reference, platform: &str) -> String {
    let version = name.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
    format!("pkg:docker/{}{version}?platform={}", name.familiar_name(), platform.replace('/', "%2F"))
}

/// A manifest with statements about another; how an index names it, and all blobs that belong to it.
pub(super) fn manifest(
    built: &Built,
    part: &Part,
    subject: &Descriptor,
    names: &[Reference],
) -> Result<(Descriptor, Vec<(Digest, u64)>)> {
    let platform = part.config.platform().to_string();
    let mut subjects: Vec<(String, Digest)> =
        names.iter().map(|name| (package_url(name, &platform), subject.digest.clone())).collect();
    if subjects.is_empty() {
        subjects.push(("_".to_owned(), subject.digest.clone()));
    }
    let mut layers = Vec::new();
    for predicate in predicates(built, part, true)? {
        let mut layer = put(built, MEDIA_TYPE, &statement(&predicate, &subjects)?)?;
        layer.annotations.insert(PREDICATE.to_owned(), predicate.kind.to_owned());
        layers.push(layer);
    }
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    let config = json!({
        "architecture": "unknown",
        "os": "unknown",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put(built, media_type::OCI_CONFIG, &encode(&config)?)?;
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    let mut entry = put(built, media_type::OCI_MANIFEST, &encode(&document)?)?;
    let blobs = layers.iter().chain([&config, &entry]).map(|one| (one.digest.clone(), one.size)).collect();
    entry.platform = Some(Platform::new("unknown", "unknown", None));
    entry.annotations = BTreeMap::from([
        (REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned()),
        (REFERENCE_DIGEST.to_owned(), subject.digest.to_string()),
    ]);
    Ok((entry, blobs))
}

/// Media types with which statements can lie beside an image: OCI's alone know other things than images.
pub(super) fn form_for(form: &Form, has_statements: bool) -> Form {
    Form { docker_types: form.docker_types && !has_statements, ..form.clone() }
}
