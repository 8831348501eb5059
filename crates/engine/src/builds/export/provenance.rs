//! How a result came to be, as SLSA has it: who built, of what, by which options, and, if all is asked for, by which steps.
//!
//! What nobody has asked for says neither when nor by which call: an image that is built again of the same is the same image.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use build::output::Provenance;
use build::remote::shown;
use build::request::CONTEXT;
use oci::{Platform, Reference};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::super::result::{Built, Material, Part};
use super::attest::{Predicate, package_url};

const V02: &str = "https://slsa.dev/provenance/v0.2";
const V1: &str = "https://slsa.dev/provenance/v1";
/// How things are built, by which readers know what parameters mean: BuildKit's.
const BUILD_TYPE_V02: &str = "https://mobyproject.org/buildkit@v1";
const BUILD_TYPE_V1: &str =
    "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md";
const METADATA: &str = "https://mobyproject.org/buildkit@v1#metadata";
const FRONTEND: &str = "dockerfile.v0";
/// Options whose values are said only where all is said, and those that say nothing of the result.
const OPTIONS_OF_MAX: [&str; 2] = ["build-arg:", "label:"];
const OPTIONS_OF_NOTHING: [&str; 8] = [
    "attest:",
    "cache-",
    "vcs:",
    "frontend.caps",
    "cgroup-parent",
    "image-resolve-mode",
    "platform",
    "force-network-mode",
];

/// How a platform's result came to be.
pub(super) fn predicate(built: &Built, part: &Part, wanted: &Provenance) -> Predicate {
    let content = if wanted.v1 { v1(built, part, wanted) } else { v02(built, part, wanted) };
    let kind = if wanted.v1 { V1 } else { V02 };
    Predicate { name: "provenance.json", kind, content }
}

fn material(material: &Material) -> Value {
    let name = material.name.split('@').next().unwrap_or_default();
    let uri = Reference::parse_familiar(name).map_or_else(
        |_| format!("pkg:docker/{name}"),
        |name| package_url(&name.or_latest(), &material.platform),
    );
    json!({"uri": uri, "digest": {material.digest.algorithm().as_str(): material.digest.hex()}})
}

/// The options that the client has given.
fn options(built: &Built, max: bool) -> BTreeMap<&str, Cow<'_, str>> {
    let all = built.request.attestations.options.iter();
    all.filter(|(key, _)| !OPTIONS_OF_NOTHING.iter().any(|start| key.starts_with(start)))
        .filter(|(key, _)| max || !OPTIONS_OF_MAX.iter().any(|start| key.starts_with(start)))
        .map(|(key, value)| match key.as_str() {
            "context" => (key.as_str(), shown(value).into()),
            key if key.starts_with("context:") => (key, shown(value).into()),
            key => (key, value.into()),
        })
        .collect()
}

fn parameters(built: &Built, max: bool) -> Value {
    json!({
        "frontend": FRONTEND,
        "args": options(built, max),
        "locals": [{"name": CONTEXT}, {"name": "dockerfile"}],
    })
}

/// The steps.
fn config(part: &Part) -> Value {
    let ids: BTreeMap<_, _> =
        part.steps.iter().enumerate().map(|(at, step)| (&step.digest, format!("step{at}"))).collect();
    let steps: Vec<Value> = part
        .steps
        .iter()
        .map(|step| {
            let inputs: Vec<String> =
                step.inputs.iter().filter_map(|input| ids.get(input)).map(|id| format!("{id}:0")).collect();
            json!({"id": ids.get(&step.digest), "op": {"name": step.name}, "inputs": inputs})
        })
        .collect();
    let digests: BTreeMap<&str, &String> = ids.iter().map(|(digest, id)| (digest.as_str(), id)).collect();
    json!({"llbDefinition": steps, "digestMapping": digests})
}

/// What BuildKit says beside what SLSA does.
fn metadata(built: &Built, part: &Part, max: bool) -> Value {
    let mut all = Map::new();
    let vcs = &built.request.attestations.vcs;
    if !vcs.is_empty() {
        all.insert("vcs".to_owned(), json!(vcs));
    }
    if max {
        let document = &built.request.dockerfile;
        let info = |(name, text): (&str, &str)| json!({"filename": name, "language": "Dockerfile", "data": STANDARD.encode(text)});
        let infos: Vec<Value> = document.files().into_iter().map(info).collect();
        all.insert("source".to_owned(), json!({"infos": infos}));
        let layers: Vec<Value> = part
            .layers
            .iter()
            .map(|layer| json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}))
            .collect();
        all.insert("layers".to_owned(), json!({"step0:0": [layers]}));
    }
    Value::Object(all)
}

/// What one call of a build is called: nobody else's is.
fn invocation(built: &Built) -> String {
    let text = format!("{}\n{}", built.started, built.ended);
    hex::encode(&Sha256::digest(text)[..16])
}

fn v02(built: &Built, part: &Part, wanted: &Provenance) -> Value {
    let materials: Vec<Value> = part.materials.iter().map(material).collect();
    let mut metadata = json!({
        "completeness": {"parameters": true, "environment": true, "materials": false},
        "reproducible": wanted.reproducible,
        METADATA: metadata(built, part, wanted.max),
    });
    if !wanted.inline_only {
        metadata["buildInvocationID"] = invocation(built).into();
        metadata["buildStartedOn"] = built.started.to_string().into();
        metadata["buildFinishedOn"] = built.ended.to_string().into();
    }
    let mut predicate = json!({
        "builder": {"id": wanted.builder_id},
        "buildType": BUILD_TYPE_V02,
        "materials": materials,
        "invocation": {
            "configSource": {"entryPoint": built.request.dockerfile.name},
            "parameters": parameters(built, wanted.max),
            "environment": {"platform": Platform::host().to_string()},
        },
        "metadata": metadata,
    });
    if wanted.max {
        predicate["buildConfig"] = config(part);
    }
    predicate
}

fn v1(built: &Built, part: &Part, wanted: &Provenance) -> Value {
    let materials: Vec<Value> = part.materials.iter().map(material).collect();
    let mut internal = json!({"builderPlatform": Platform::host().to_string()});
    if wanted.max {
        internal["buildConfig"] = config(part);
    }
    let mut run = json!({
        "buildkit_metadata": metadata(built, part, wanted.max),
        "buildkit_hermetic": false,
        "buildkit_completeness": {"request": true, "resolvedDependencies": false},
        "buildkit_reproducible": wanted.reproducible,
    });
    if !wanted.inline_only {
        run["invocationID"] = invocation(built).into();
        run["startedOn"] = built.started.to_string().into();
        run["finishedOn"] = built.ended.to_string().into();
    }
    json!({
        "buildDefinition": {
            "buildType": BUILD_TYPE_V1,
            "externalParameters": {
                "configSource": {"path": built.request.dockerfile.name},
                "request": parameters(built, wanted.max),
            },
            "internalParameters": internal,
            "resolvedDependencies": materials,
        },
        "runDetails": {"builder": {"id": wanted.builder_id}, "metadata": run},
    })
}
