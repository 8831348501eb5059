//! Caches, as clients write where they are: a type, and attributes.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptions, CacheOptionsEntry};
use build::output::{CacheOutput, CachePlace, Packer, Packing};

use crate::error::{Error, Result};
use crate::exporter::Attributes;

/// Caches of one build.
const CACHES_MAX: usize = 32;
/// Bytes of a list of caches in an option.
const LIST_BYTES_MAX: usize = 1 << 20;
/// How layers are compressed that go to registries, where nobody says otherwise.
pub(crate) const USUAL: Packing = Packing { by: Packer::Gzip, level: None, force: false };
/// The type that a name alone means.
const REGISTRY: &str = "registry";

/// Where steps may have been made already.
///
/// # Errors
/// It is a place that is not read.
pub(crate) fn imports(options: Option<&CacheOptions>) -> Result<Vec<CachePlace>> {
    let Some(options) = options else { return Ok(Vec::new()) };
    let mut places = list(options.imports.iter().map(|entry| (entry.r#type.as_str(), &entry.attrs)))?;
    places.extend(options.import_refs_deprecated.iter().cloned().map(CachePlace::Registry));
    bounded(places)
}

/// The same of the gateway's own list.
pub(crate) fn places<'a>(
    entries: impl Iterator<Item = (&'a str, &'a HashMap<String, String>)>,
) -> Result<Vec<CachePlace>> {
    bounded(list(entries)?)
}

fn list<'a>(
    entries: impl Iterator<Item = (&'a str, &'a HashMap<String, String>)>,
) -> Result<Vec<CachePlace>> {
    entries.map(|(kind, attrs)| place(kind, attrs)).collect()
}

fn bounded<T>(list: Vec<T>) -> Result<Vec<T>> {
    if list.len() > CACHES_MAX {
        return Err(Error::Invalid(format!("a build has {CACHES_MAX} caches at most")));
    }
    Ok(list)
}

fn place(kind: &str, attrs: &HashMap<String, String>) -> Result<CachePlace> {
    let mut attributes = Attributes::of_cache(kind, attrs);
    let place = match kind {
        REGISTRY => CachePlace::Registry(needed(&mut attributes, kind, "ref")?),
        "local" => {
            let store = format!("local:{}", needed(&mut attributes, kind, "src")?);
            let digest = attributes.text("digest").map(str::to_owned);
            let tag = attributes.text("tag").unwrap_or("latest").to_owned();
            CachePlace::Local { store, digest, tag }
        }
        other => return Err(Error::Absent(format!("the cache import {other}"))),
    };
    attributes.finish()?;
    Ok(place)
}

fn needed(attributes: &mut Attributes<'_>, kind: &str, key: &str) -> Result<String> {
    let value = attributes.text(key).filter(|value| !value.is_empty());
    value.map(str::to_owned).ok_or_else(|| Error::Invalid(format!("{kind} cache requires {key}")))
}

/// The caches of an option of the frontend: a list in JSON.
pub(crate) fn from_json(text: &str) -> Result<Vec<CachePlace>> {
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(rename = "Type")]
        kind: String,
        #[serde(rename = "Attrs", default)]
        attrs: Option<HashMap<String, String>>,
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.len() > LIST_BYTES_MAX {
        return Err(Error::Invalid(format!("a list of caches has {LIST_BYTES_MAX} bytes at most")));
    }
    let wrong = |error| Error::Invalid(format!("failed to unmarshal cache-imports: {error}"));
    let entries: Option<Vec<Entry>> = serde_json::from_str(text).map_err(wrong)?;
    let entries: Vec<(String, HashMap<String, String>)> = entries
        .unwrap_or_default()
        .into_iter()
        .map(|one| (one.kind, one.attrs.unwrap_or_default()))
        .collect();
    places(entries.iter().map(|(kind, attrs)| (kind.as_str(), attrs)))
}

/// The caches that are written.
///
/// # Errors
/// It is a place, or a form, that is not written.
pub(crate) fn exports(options: Option<&CacheOptions>) -> Result<Vec<CacheOutput>> {
    let Some(options) = options else { return Ok(Vec::new()) };
    let old = CacheOptionsEntry {
        r#type: REGISTRY.to_owned(),
        attrs: options
            .export_attrs_deprecated
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .chain([("ref".to_owned(), options.export_ref_deprecated.clone())])
            .collect(),
    };
    let old = Some(&old).filter(|_| !options.export_ref_deprecated.is_empty());
    bounded(options.exports.iter().chain(old).map(export).collect::<Result<_>>()?)
}

fn export(entry: &CacheOptionsEntry) -> Result<CacheOutput> {
    let kind = entry.r#type.as_str();
    let mut attributes = Attributes::of_cache(kind, &entry.attrs);
    let place = match kind {
        "inline" => CachePlace::Inline,
        REGISTRY => CachePlace::Registry(needed(&mut attributes, kind, "ref")?),
        "local" => {
            let store = format!("local:{}", needed(&mut attributes, kind, "dest")?);
            // The client writes its own index.json.
            let tag = attributes.text("tag").unwrap_or("latest").to_owned();
            CachePlace::Local { store, digest: None, tag }
        }
        other => return Err(Error::Absent(format!("the cache export {other}"))),
    };
    let max = match attributes.text("mode") {
        None | Some("min") => false,
        Some("max") => true,
        Some(other) => return Err(Error::Invalid(format!("invalid cache mode {other:?}: use min or max"))),
    };
    if max && place == CachePlace::Inline {
        return Err(Error::Absent("mode=max of an inline cache".to_owned()));
    }
    let image_manifest = attributes.flag("image-manifest")?.unwrap_or(true);
    let docker_types = attributes.flag("oci-mediatypes")? == Some(false);
    if docker_types && image_manifest {
        // As BuildKit: an image's manifest of Docker's has no other configurations.
        return Err(Error::Invalid("oci-mediatypes=false needs image-manifest=false".to_owned()));
    }
    let travels = place != CachePlace::Inline;
    let output = CacheOutput {
        place,
        max,
        image_manifest,
        docker_types,
        // What travels is compressed, unless it is to be so otherwise.
        packing: attributes.packing()?.or(travels.then_some(USUAL)),
        ignore_error: attributes.flag("ignore-error")?.unwrap_or(false),
    };
    attributes.finish()?;
    Ok(output)
}

/// Lists without what is named twice, in their order.
pub(crate) fn merged(lists: [&[CachePlace]; 2]) -> Vec<CachePlace> {
    let mut all: Vec<CachePlace> = Vec::new();
    for place in lists.concat() {
        if !all.contains(&place) {
            all.push(place);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(list: &[(&str, &str)]) -> HashMap<String, String> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn options(kind: &str, list: &[(&str, &str)]) -> CacheOptions {
        let entry = CacheOptionsEntry { r#type: kind.to_owned(), attrs: attrs(list) };
        CacheOptions { imports: vec![entry.clone()], exports: vec![entry], ..CacheOptions::default() }
    }

    #[test]
    fn places_are_read() {
        let read = |kind: &str, list: &[(&str, &str)]| imports(Some(&options(kind, list))).unwrap().remove(0);
        assert_eq!(read("registry", &[("ref", "a/b:c")]), CachePlace::Registry("a/b:c".to_owned()));
        let local = read("local", &[("src", "/x"), ("digest", "sha256:1")]);
        assert!(matches!(local, CachePlace::Local { store, digest: Some(_), .. } if store == "local:/x"));
        let text = r#"[{"Type":"registry","Attrs":{"ref":"x"}},{"Type":"registry","Attrs":{"ref":"x"}}]"#;
        let all = from_json(text).unwrap();
        assert_eq!(merged([&all, &all]).len(), 1);
        assert!(from_json("null").unwrap().is_empty() && from_json("").unwrap().is_empty());
        assert!(from_json("{").is_err());
        let export = exports(Some(&options("registry", &[("ref", "x"), ("mode", "max")]))).unwrap().remove(0);
        assert!(export.max && export.image_manifest && !export.ignore_error);
        let index = [("ref", "x"), ("image-manifest", "false"), ("oci-mediatypes", "false")];
        let index = exports(Some(&options("registry", &index))).unwrap().remove(0);
        assert!(!index.image_manifest && index.docker_types);
        let inline = exports(Some(&options("inline", &[]))).unwrap().remove(0);
        assert_eq!(inline.place, CachePlace::Inline);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for kind in ["gha", "s3", "azblob"] {
            let error = imports(Some(&options(kind, &[]))).unwrap_err().to_string();
            assert!(error.contains(&format!("the cache import {kind} is not")), "{error}");
            let error = exports(Some(&options(kind, &[]))).unwrap_err().to_string();
            assert!(error.contains(&format!("the cache export {kind} is not")), "{error}");
        }
        for (kind, list, word) in [
            ("registry", &[][..], "requires ref"),
            ("local", &[], "requires dest"),
            ("inline", &[("mode", "max")], "mode=max"),
            ("registry", &[("ref", "x"), ("mode", "much")], "min or max"),
            ("registry", &[("ref", "x"), ("oci-mediatypes", "false")], "image-manifest=false"),
            ("local", &[("dest", "x"), ("other", "y")], "other=y"),
        ] {
            let error = exports(Some(&options(kind, list))).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
