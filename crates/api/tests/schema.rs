//! Our types against Docker's own description of the API. From each schema a value with every property is made; read
//! into our type and written again it must be the same: no property is lost, none has another name or type, and none is
//! added that the schema does not have.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its oracle fails")]

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The descriptions are no part of the project; they may lie beside it.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/specs");
/// Schemas refer to each other; none of ours is deeper.
const DEPTH: usize = 12;

/// The description of one version, as JSON.
struct Description {
    definitions: Value,
}

impl Description {
    fn read(version: &str) -> Option<Self> {
        let folder = std::env::var("CORTEN_SPECS").unwrap_or_else(|_| FOLDER.to_owned());
        let path = Path::new(&folder).join(format!("engine-api-v{version}.yaml"));
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("skipped: no description of the Engine API ({})", path.display());
            return None;
        };
        // Examples end with a brace at their parent's indentation, which YAML forbids and Go's parser takes.
        let indent = |line: &str| {
            if matches!(line.trim(), "}" | "]") { format!("    {line}\n") } else { format!("{line}\n") }
        };
        let text: String = text.lines().map(indent).collect();
        let documents = Yaml::load_from_str(&text).unwrap();
        let definitions = to_json(&documents[0])["definitions"].take();
        assert!(definitions.is_object(), "no definitions in {}", path.display());
        Some(Self { definitions })
    }

    /// The properties of a schema, with those of all it consists of.
    fn properties(&self, schema: &Value, depth: usize) -> Map<String, Value> {
        let mut all = Map::new();
        if depth == 0 {
            return all;
        }
        if let Some(target) = self.target(schema) {
            return self.properties(target, depth - 1);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            all.extend(self.properties(part, depth - 1));
        }
        all.extend(schema["properties"].as_object().cloned().unwrap_or_default());
        all
    }

    fn target(&self, schema: &Value) -> Option<&Value> {
        let name = schema["$ref"].as_str()?.rsplit('/').next()?;
        Some(&self.definitions[name])
    }

    /// A value with every property.
    fn example(&self, schema: &Value, depth: usize) -> Value {
        if depth == 0 {
            return Value::Null;
        }
        if let Some(target) = self.target(schema) {
            return self.example(target, depth - 1);
        }
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().find(|word| **word != "" && **word != 0).cloned().unwrap_or_default();
        }
        let properties = self.properties(schema, depth);
        if !properties.is_empty() {
            return properties
                .iter()
                .map(|(name, schema)| (name.clone(), self.example(schema, depth - 1)))
                .collect();
        }
        match schema["type"].as_str() {
            Some("string") => json!("x"),
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            // Pairs are lists of two; no other list minds.
            Some("array") => {
                let item = self.example(&schema["items"], depth - 1);
                json!([item.clone(), item])
            }
            _ if schema["additionalProperties"].is_object() => {
                json!({"key": self.example(&schema["additionalProperties"], depth - 1)})
            }
            _ => match schema["allOf"].as_array() {
                Some(parts) if parts.len() == 1 => self.example(&parts[0], depth - 1),
                _ => json!({}),
            },
        }
    }
}

fn to_json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => json!(value),
        Yaml::Value(Scalar::Integer(value)) => json!(value),
        Yaml::Value(Scalar::FloatingPoint(value)) => json!(value.into_inner()),
        Yaml::Value(Scalar::String(value)) => json!(value),
        Yaml::Sequence(list) => list.iter().map(to_json).collect(),
        Yaml::Mapping(map) => map
            .iter()
            .map(|(key, value)| {
                let key = match to_json(key) {
                    Value::String(key) => key,
                    other => other.to_string(),
                };
                (key, to_json(value))
            })
            .collect(),
        other => panic!("unexpected YAML: {other:?}"),
    }
}

/// Where two values differ, by path.
fn differences(path: &str, wanted: &Value, found: &Value, out: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, value) in wanted {
                match found.get(name) {
                    Some(found) => differences(&format!("{path}.{name}"), value, found, out),
                    None => out.push(format!("{path}.{name} lost")),
                }
            }
            out.extend(
                found
                    .keys()
                    .filter(|name| !wanted.contains_key(*name))
                    .map(|name| format!("{path}.{name} added")),
            );
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => {
            if let (Some(wanted), Some(found)) = (wanted.first(), found.first()) {
                differences(&format!("{path}[]"), wanted, found, out);
            }
        }
        _ if wanted == found => {}
        _ => out.push(format!("{path}: {wanted} became {found}")),
    }
}

/// Checks one type against one schema; `known` are the differences that are meant.
fn check<T: DeserializeOwned + Serialize>(description: &Description, schema: &str, known: &[&str]) {
    let definition = &description.definitions[schema];
    assert!(definition.is_object(), "no schema {schema}");
    let example = description.example(definition, DEPTH);
    let ours: T = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{schema}: {error}"));
    let mut found = Vec::new();
    differences("", &example, &serde_json::to_value(&ours).unwrap(), &mut found);
    found.retain(|difference| !known.contains(&difference.as_str()));
    assert!(found.is_empty(), "{schema}: {found:#?}");
    // What holds nothing is read from nothing.
    let _: T = serde_json::from_value(json!({})).unwrap();
    let nulls: Map<String, Value> =
        example.as_object().unwrap().keys().map(|name| (name.clone(), Value::Null)).collect();
    let _: T = serde_json::from_value(Value::Object(nulls))
        .unwrap_or_else(|error| panic!("{schema} of nulls: {error}"));
}

#[test]
fn containers_are_as_described() {
    use api::container::*;
    let Some(newest) = Description::read("1.56") else { return };
    check::<Config>(&newest, "ContainerConfig", &[]);
    check::<HostConfig>(&newest, "HostConfig", &[]);
    check::<Resources>(&newest, "Resources", &[]);
    check::<Mount>(&newest, "Mount", &[]);
    check::<MountPoint>(&newest, "MountPoint", &[]);
    check::<State>(&newest, "ContainerState", &[]);
    check::<NetworkSettings>(&newest, "NetworkSettings", &[]);
    check::<CreateResponse>(&newest, "ContainerCreateResponse", &[]);
    check::<UpdateResponse>(&newest, "ContainerUpdateResponse", &[]);
    check::<WaitResponse>(&newest, "ContainerWaitResponse", &[]);
    check::<Top>(&newest, "ContainerTopResponse", &[]);
    check::<Change>(&newest, "FilesystemChange", &[]);
    check::<Summary>(&newest, "ContainerSummary", &[]);
    check::<Inspect>(&newest, "ContainerInspectResponse", &[]);
}

#[test]
fn images_are_as_described() {
    use api::image::*;
    let Some(newest) = Description::read("1.56") else { return };
    // Nobody here signs images or remembers who built them.
    let identity: Vec<String> = ["", ".Manifests[].ImageData", ".ImageData"]
        .iter()
        .flat_map(|of| ["Signature", "Build"].map(|part| format!("{of}.Identity.{part} lost")))
        .collect();
    let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
    check::<Descriptor>(&newest, "OCIDescriptor", &[]);
    check::<Platform>(&newest, "OCIPlatform", &[]);
    check::<Config>(&newest, "ImageConfig", &[]);
    check::<Summary>(&newest, "ImageSummary", &identity);
    check::<Inspect>(&newest, "ImageInspect", &identity);
    check::<ManifestSummary>(&newest, "ImageManifestSummary", &identity);
    check::<History>(&newest, "ImageHistoryResponseItem", &[]);
    check::<DeleteItem>(&newest, "ImageDeleteResponseItem", &[]);
}

#[test]
fn the_rest_is_as_described() {
    let Some(newest) = Description::read("1.56") else { return };
    let cluster = [".ClusterVolume lost", ".Volumes[].ClusterVolume lost"];
    check::<api::volume::Volume>(&newest, "Volume", &cluster);
    check::<api::volume::List>(&newest, "VolumeListResponse", &cluster);
    check::<api::volume::CreateRequest>(&newest, "VolumeCreateRequest", &[]);
    check::<api::network::EndpointSettings>(&newest, "EndpointSettings", &[]);
    check::<api::network::Network>(&newest, "Network", &[".Peers lost"]);
    check::<api::network::Inspect>(
        &newest,
        "NetworkInspect",
        &[".Peers lost", ".Services lost", ".Status lost"],
    );
    check::<api::event::Message>(&newest, "EventMessage", &[]);
    check::<api::exec::ProcessConfig>(&newest, "ProcessConfig", &[]);
    check::<api::system::Version>(&newest, "SystemVersion", &[".Components[].Details lost"]);
    check::<api::system::Info>(&newest, "SystemInfo", &[".NRI lost", ".Swarm.Cluster lost"]);
    check::<api::system::AuthResponse>(&newest, "AuthResponse", &[]);
    check::<api::stream::ProgressDetail>(&newest, "ProgressDetail", &[]);
    check::<api::stream::ErrorDetail>(&newest, "ErrorDetail", &[]);
    check::<api::stream::Progress>(&newest, "CreateImageInfo", &[]);
    check::<api::error::Message>(&newest, "ErrorResponse", &[]);
}

/// A client meets older engines too; what they answer must be readable.
#[test]
fn older_engines_are_understood() {
    for version in ["1.41", "1.44", "1.47", "1.50"] {
        let Some(old) = Description::read(version) else { return };
        let read = |schema: &str| old.example(&old.definitions[schema], DEPTH);
        let _: api::container::HostConfig = serde_json::from_value(read("HostConfig")).unwrap();
        let _: api::container::Config = serde_json::from_value(read("ContainerConfig")).unwrap();
        let _: api::image::Summary = serde_json::from_value(read("ImageSummary")).unwrap();
        let _: api::image::Inspect = serde_json::from_value(read("ImageInspect")).unwrap();
        let _: api::volume::Volume = serde_json::from_value(read("Volume")).unwrap();
        let _: api::system::Info = serde_json::from_value(read("SystemInfo")).unwrap();
        let _: api::network::Network = serde_json::from_value(read("Network")).unwrap();
    }
}
