//! Where a build's result goes: what clients write in an exporter's attributes.

use std::collections::{BTreeMap, HashMap};

use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};
use build::output::{
    Annotation, ArchiveOutput, FilesOutput, Form, ImageOutput, Output, Packer, Packing, Subject, image_name,
};
use oci::{Platform, Reference};

use crate::cache::USUAL;
use crate::error::{Error, Result};
use crate::options::is_on;

/// Places that one build puts its result to.
const OUTPUTS_MAX: usize = 32;
/// Annotations of one output, and bytes of one.
const ANNOTATIONS_MAX: usize = 1024;
const ANNOTATION_BYTES_MAX: usize = 64 << 10;
/// Levels at which compressors work. Above 19 zstd wants memory by the gigabyte.
const GZIP_LEVELS: std::ops::RangeInclusive<i64> = 1..=9;
const ZSTD_LEVELS: std::ops::RangeInclusive<i64> = 1..=22;
const ZSTD_LEVEL_MAX: i64 = 19;

/// What is to be done with a build's result.
///
/// # Errors
/// The result is to go where it cannot.
pub(crate) fn outputs(request: &SolveRequest) -> Result<Vec<Output>> {
    let old = Exporter {
        r#type: request.exporter_deprecated.clone(),
        attrs: request.exporter_attrs_deprecated.clone(),
    };
    let exporters = match request.exporters.as_slice() {
        [] if old.r#type.is_empty() => &[],
        [] => std::slice::from_ref(&old),
        exporters => exporters,
    };
    if exporters.len() > OUTPUTS_MAX {
        return Err(Error::Invalid(format!("a build has {OUTPUTS_MAX} outputs at most")));
    }
    exporters.iter().map(output).collect()
}

fn output(exporter: &Exporter) -> Result<Output> {
    let mut attributes = Attributes::new(exporter);
    let output = match exporter.r#type.as_str() {
        // What BuildKit calls its own, and what clients of Docker's engine ask for.
        "image" | "moby" => Output::Image(image(&mut attributes)?),
        "oci" => Output::Archive(archive(&mut attributes, false)?),
        "docker" => Output::Archive(archive(&mut attributes, true)?),
        "local" => Output::Files(files(&mut attributes, false)?),
        "tar" => Output::Files(files(&mut attributes, true)?),
        other => {
            let known = "image, registry, oci, docker, local and tar";
            return Err(Error::Absent(format!("the output {other:?} of a build (there are {known})")));
        }
    };
    attributes.finish()?;
    Ok(output)
}

/// What is still to be read of an exporter.
pub(crate) struct Attributes<'a> {
    what: &'static str,
    kind: &'a str,
    left: BTreeMap<&'a str, &'a str>,
}

impl<'a> Attributes<'a> {
    fn new(exporter: &'a Exporter) -> Self {
        Self { what: "output", ..Self::of_cache(&exporter.r#type, &exporter.attrs) }
    }

    /// Those of a cache.
    pub(crate) fn of_cache(kind: &'a str, attrs: &'a HashMap<String, String>) -> Self {
        let left = attrs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        Self { what: "cache", kind, left }
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<&'a str> {
        self.left.remove(key)
    }

    /// Whether it is on; nothing if it is not said.
    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.left.remove(key) {
            None => Ok(None),
            Some("") => Ok(Some(true)),
            Some(on) if is_on(on) => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(Error::Invalid(format!("non-bool value {other:?} specified for {key}"))),
        }
    }

    /// The names of an image: whether they can be names is said before anything is built.
    fn names(&mut self) -> Result<Vec<Reference>> {
        let names = self.text("name").unwrap_or_default().split(',').map(str::trim);
        let name = |name: &str| image_name(name).map_err(Error::Invalid);
        names.filter(|name| !name.is_empty()).map(name).collect()
    }

    fn absent(&self, key: &str, value: &str) -> Error {
        let value: String = value.chars().take(64).collect();
        Error::Absent(format!("{key}={value} for the {} {:?} of a build", self.what, self.kind))
    }

    /// Refuses what nobody has read.
    pub(crate) fn finish(self) -> Result<()> {
        match self.left.first_key_value() {
            None => Ok(()),
            Some((key, value)) => Err(self.absent(key, value)),
        }
    }

    /// How images are written.
    fn form(&mut self, docker_types: bool) -> Result<Form> {
        let packing = self.packing()?;
        Ok(Form {
            docker_types: !self.flag("oci-mediatypes")?.unwrap_or(!docker_types),
            packing,
            annotations: self.annotations()?,
            rewrite_timestamps: self.flag("rewrite-timestamp")?.unwrap_or(false),
        })
    }

    /// How layers are compressed.
    pub(crate) fn packing(&mut self) -> Result<Option<Packing>> {
        let force = self.flag("force-compression")?.unwrap_or(false);
        let level = self.text("compression-level");
        let by = match self.text("compression") {
            Some("uncompressed") if level.is_some() => {
                return Err(Error::Invalid(
                    "compression-level means nothing of compression=uncompressed".to_owned(),
                ));
            }
            Some("uncompressed") => Packer::Plain,
            Some("gzip") => Packer::Gzip,
            Some("zstd") => Packer::Zstd,
            Some(other) => return Err(self.absent("compression", other)),
            None if level.is_none() && !force => return Ok(None),
            None => Packer::Gzip,
        };
        let levels = if by == Packer::Gzip { GZIP_LEVELS } else { ZSTD_LEVELS };
        let level = match level {
            None => None,
            Some(text) => {
                let level = text.parse::<i64>().ok().filter(|level| levels.contains(level));
                let level = level.ok_or_else(|| {
                    Error::Invalid(format!(
                        "invalid compression-level {text:?}: it is {} to {}",
                        levels.start(),
                        levels.end()
                    ))
                })?;
                u32::try_from(level.min(ZSTD_LEVEL_MAX)).ok()
            }
        };
        Ok(Some(Packing { by, level, force }))
    }

    /// `annotation.KEY`, `annotation-manifest[linux/amd64].KEY` and the like.
    fn annotations(&mut self) -> Result<Vec<Annotation>> {
        let all: Vec<(&str, &str)> = self
            .left
            .iter()
            .filter(|(key, _)| key.starts_with("annotation"))
            .map(|(key, value)| (*key, *value))
            .collect();
        let mut annotations = Vec::new();
        for (whole, value) in all {
            self.left.remove(whole);
            annotations.push(annotation(whole, value)?);
            if annotations.len() > ANNOTATIONS_MAX || whole.len() + value.len() > ANNOTATION_BYTES_MAX {
                return Err(Error::Invalid(format!(
                    "an output has {ANNOTATIONS_MAX} annotations of {ANNOTATION_BYTES_MAX} bytes at most"
                )));
            }
        }
        Ok(annotations)
    }
}

fn annotation(whole: &str, value: &str) -> Result<Annotation> {
    let refuse = || {
        Error::Invalid(format!(
            "invalid annotation {whole:?}: use annotation.KEY, annotation-manifest.KEY, annotation-index.KEY, annotation-manifest-descriptor.KEY or annotation-index-descriptor.KEY"
        ))
    };
    let rest = whole.strip_prefix("annotation").ok_or_else(refuse)?;
    let (head, key) = match rest.find(['.', '[']) {
        Some(at) if rest[at..].starts_with('[') => {
            let end = rest.find("].").ok_or_else(refuse)?;
            (&rest[..=end], &rest[end + 2..])
        }
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => return Err(refuse()),
    };
    let (place, platform) = match head.split_once('[') {
        Some((place, platform)) => (place, Some(platform.trim_end_matches(']'))),
        None => (head, None),
    };
    let subject = match place {
        "" | "-manifest" => Subject::Manifest,
        "-index" => Subject::Index,
        "-manifest-descriptor" => Subject::ManifestDescriptor,
        "-index-descriptor" => Subject::IndexDescriptor,
        _ => return Err(refuse()),
    };
    let platform = platform
        .map(|text| Platform::parse(text).map_err(|error| Error::Invalid(error.to_string())))
        .transpose()?;
    if key.is_empty() || (platform.is_some() && matches!(subject, Subject::Index | Subject::IndexDescriptor))
    {
        return Err(refuse());
    }
    Ok(Annotation { subject, platform, key: key.to_owned(), value: value.to_owned() })
}

fn image(attributes: &mut Attributes<'_>) -> Result<ImageOutput> {
    let names = attributes.names()?;
    let push = attributes.flag("push")?.unwrap_or(false);
    let by_digest = attributes.flag("push-by-digest")?.unwrap_or(false);
    if push && names.is_empty() {
        return Err(Error::Invalid(
            "tag is needed when pushing to registry: give the image a name".to_owned(),
        ));
    }
    let mut form = attributes.form(false)?;
    if push {
        // What travels is compressed, unless it is to be so otherwise.
        form.packing = form.packing.or(Some(USUAL));
    }
    let output = ImageOutput {
        names,
        form,
        store: attributes.flag("store")?.unwrap_or(true),
        dangling_prefix: attributes.text("dangling-name-prefix").map(str::to_owned),
        name_canonical: attributes.flag("name-canonical")?.unwrap_or(false),
        push: push && !by_digest,
        push_by_digest: push && by_digest,
    };
    // Images are unpacked, and those that are stored are loaded: there is one store.
    for key in ["unpack", "load"] {
        if attributes.flag(key)? == Some(false) {
            return Err(attributes.absent(key, "false"));
        }
    }
    // Whether a registry may be spoken to in the clear is the engine's own configuration.
    if attributes.flag("registry.insecure")? == Some(true) {
        return Err(attributes.absent("registry.insecure", "true"));
    }
    Ok(output)
}

fn archive(attributes: &mut Attributes<'_>, docker: bool) -> Result<ArchiveOutput> {
    let directory = attributes.flag("tar")? == Some(false);
    if directory && docker {
        return Err(attributes.absent("tar", "false"));
    }
    Ok(ArchiveOutput { docker, names: attributes.names()?, form: attributes.form(docker)?, directory })
}

fn files(attributes: &mut Attributes<'_>, archive: bool) -> Result<FilesOutput> {
    Ok(FilesOutput {
        archive,
        split: attributes.flag("platform-split")?,
        attestation_prefix: attributes.text("attestation-prefix").unwrap_or_default().to_owned(),
    })
}

/// What the client is told, as the protocol has it.
pub(crate) fn response(told: BTreeMap<String, String>) -> HashMap<String, String> {
    told.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(kind: &str, attrs: &[(&str, &str)]) -> Exporter {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Exporter { r#type: kind.to_owned(), attrs }
    }

    fn read(exporters: Vec<Exporter>) -> Result<Vec<Output>> {
        outputs(&SolveRequest { exporters, ..SolveRequest::default() })
    }

    fn one(kind: &str, attrs: &[(&str, &str)]) -> Output {
        read(vec![exporter(kind, attrs)]).unwrap().remove(0)
    }

    #[test]
    fn images_are_named_and_pushed() {
        let Output::Image(image) = one("moby", &[("name", "a:1, b"), ("load", "true"), ("push", "true")])
        else {
            panic!("no image")
        };
        let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        assert_eq!(names, ["a:1", "b:latest"]);
        assert!(image.push && image.store && !image.push_by_digest && !image.form.docker_types);
        assert_eq!(image.form.packing, Some(USUAL));
        let attrs = [("name", "a"), ("push", ""), ("push-by-digest", "true"), ("store", "false")];
        let Output::Image(image) = one("image", &attrs) else { panic!("no image") };
        assert!(!image.push && image.push_by_digest && !image.store);
        assert_eq!(read(vec![]).unwrap(), []);
        let old = SolveRequest {
            exporter_deprecated: "image".to_owned(),
            exporter_attrs_deprecated: HashMap::from([("name".to_owned(), "x".to_owned())]),
            ..SolveRequest::default()
        };
        assert!(
            matches!(&outputs(&old).unwrap()[0], Output::Image(image) if image.names[0].familiar() == "x:latest")
        );
    }

    #[test]
    fn forms_and_annotations_are_read() {
        let Output::Archive(archive) = one(
            "oci",
            &[
                ("tar", "false"),
                ("compression", "zstd"),
                ("compression-level", "22"),
                ("annotation.org.example.one", "1"),
                ("annotation-index.two", "2"),
                ("annotation-manifest[linux/arm64].org.example.three", "3"),
                ("annotation-manifest-descriptor.four", "4"),
                ("oci-mediatypes", "false"),
            ],
        ) else {
            panic!("no archive")
        };
        assert!(archive.directory && archive.form.docker_types);
        let packing = Packing { by: Packer::Zstd, level: Some(19), force: false };
        assert_eq!(archive.form.packing, Some(packing));
        let Output::Archive(plain) = one("oci", &[("compression", "uncompressed")]) else {
            panic!("no archive")
        };
        assert_eq!(plain.form.packing, Some(Packing { by: Packer::Plain, level: None, force: false }));
        let mut all = archive.form.annotations;
        all.sort_by(|one, other| one.value.cmp(&other.value));
        let all: Vec<_> =
            all.iter().map(|one| (one.subject, one.platform.is_some(), one.key.as_str())).collect();
        assert_eq!(
            all,
            [
                (Subject::Manifest, false, "org.example.one"),
                (Subject::Index, false, "two"),
                (Subject::Manifest, true, "org.example.three"),
                (Subject::ManifestDescriptor, false, "four"),
            ]
        );
        let Output::Archive(archive) = one("docker", &[]) else { panic!("no archive") };
        assert!(archive.docker && archive.form.docker_types && !archive.directory);
        let Output::Files(files) = one("local", &[("platform-split", "false")]) else { panic!("no files") };
        assert_eq!((files.archive, files.split), (false, Some(false)));
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        for (kind, attrs, word) in [
            ("gateway", &[][..], "gateway"),
            ("moby", &[("compression", "estargz")], "compression=estargz"),
            (
                "image",
                &[("compression", "uncompressed"), ("compression-level", "1")],
                "compression=uncompressed",
            ),
            ("moby", &[("unpack", "false")], "unpack=false"),
            ("image", &[("registry.insecure", "true")], "registry.insecure=true"),
            ("docker", &[("tar", "false")], "tar=false"),
            ("local", &[("mode", "delete")], "mode=delete"),
            ("image", &[("push", "maybe")], "maybe"),
            ("image", &[("compression-level", "12")], "1 to 9"),
            ("image", &[("annotation", "x")], "invalid annotation"),
            ("image", &[("annotation-index[linux/amd64].k", "x")], "invalid annotation"),
            ("image", &[("annotation[.k", "x")], "invalid annotation"),
            ("image", &[("annotations.k", "x")], "invalid annotation"),
        ] {
            let error = read(vec![exporter(kind, attrs)]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(read(vec![exporter("moby", &[]); OUTPUTS_MAX + 1]).is_err());
        assert_eq!(read(vec![exporter("moby", &[]), exporter("tar", &[])]).unwrap().len(), 2);
    }
}
