//! Where a build's result goes.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};
use build::request::Outcome;

use crate::error::{Error, Result};

/// Images into the engine's store: what BuildKit calls its own, and what clients of Docker's engine ask for.
const IMAGE: [&str; 2] = ["image", "moby"];
/// Attributes that say what is done anyway: images are unpacked and in the store. `push` is what clients of Docker's engine do
/// themselves, afterwards, by its API.
const ATTRIBUTES_OF_ITSELF: [&str; 3] = ["load", "unpack", "store"];

/// The names that a build's image gets.
///
/// # Errors
/// The result is to go where it cannot.
pub(crate) fn names(request: &SolveRequest) -> Result<Vec<String>> {
    let old = Exporter {
        r#type: request.exporter_deprecated.clone(),
        attrs: request.exporter_attrs_deprecated.clone(),
    };
    let exporters = match request.exporters.as_slice() {
        [] if old.r#type.is_empty() => &[],
        [] => std::slice::from_ref(&old),
        exporters => exporters,
    };
    match exporters {
        [] => Ok(Vec::new()),
        [one] => image_names(one),
        _ => Err(Error::Absent("a build with several outputs".to_owned())),
    }
}

fn image_names(exporter: &Exporter) -> Result<Vec<String>> {
    let kind = exporter.r#type.as_str();
    if !IMAGE.contains(&kind) {
        return Err(Error::Absent(format!("the output {kind:?} of a build")));
    }
    let mut names = Vec::new();
    for (key, value) in &exporter.attrs {
        let is_on = matches!(value.as_str(), "" | "1" | "t" | "T" | "true" | "TRUE" | "True");
        match key.as_str() {
            "name" => names.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
            "push" if kind == "moby" || !is_on => {}
            key if ATTRIBUTES_OF_ITSELF.contains(&key) && is_on => {}
            key => return Err(Error::Absent(format!("{key}={value} for the output {kind:?} of a build"))),
        }
    }
    Ok(names)
}

/// What the client is told of the image.
pub(crate) fn response(outcome: &Outcome) -> HashMap<String, String> {
    let mut told = HashMap::from([
        ("containerimage.digest".to_owned(), outcome.image.to_string()),
        ("containerimage.config.digest".to_owned(), outcome.config.to_string()),
    ]);
    if !outcome.names.is_empty() {
        told.insert("image.name".to_owned(), outcome.names.join(","));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(kind: &str, attrs: &[(&str, &str)]) -> Exporter {
        let attrs = attrs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Exporter { r#type: kind.to_owned(), attrs }
    }

    fn read(exporters: Vec<Exporter>) -> Result<Vec<String>> {
        names(&SolveRequest { exporters, ..SolveRequest::default() })
    }

    #[test]
    fn images_are_named() {
        let compose = exporter("moby", &[("name", "a:1,b"), ("load", "true"), ("push", "true")]);
        assert_eq!(read(vec![compose]).unwrap(), ["a:1", "b"]);
        assert_eq!(read(vec![]).unwrap(), [""; 0]);
        let old = SolveRequest {
            exporter_deprecated: "image".to_owned(),
            exporter_attrs_deprecated: HashMap::from([("name".to_owned(), "x".to_owned())]),
            ..SolveRequest::default()
        };
        assert_eq!(names(&old).unwrap(), ["x"]);
    }

    #[test]
    fn other_outputs_are_refused_by_name() {
        for (kind, attrs, word) in [
            ("local", &[][..], "local"),
            ("oci", &[], "oci"),
            ("image", &[("push", "true")], "push=true"),
            ("moby", &[("compression", "zstd")], "compression=zstd"),
            ("moby", &[("unpack", "false")], "unpack=false"),
        ] {
            let error = read(vec![exporter(kind, attrs)]).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(read(vec![exporter("moby", &[]), exporter("moby", &[])]).is_err());
    }
}
