//! What templates compute with.

use std::fmt::{self, Write};
use std::rc::Rc;

/// A row of a list, whose fields are made when they are asked for.
pub trait Record {
    /// Go's name of the type, for messages.
    fn type_name(&self) -> &'static str;
    /// The fields, in the order of `{{json .}}`.
    fn fields(&self) -> &'static [&'static str];
    /// The value of a field.
    fn field(&self, name: &str) -> Option<Value>;
    /// The row as `{{.}}` prints it, where that is not its fields in braces.
    fn text(&self) -> Option<String> {
        None
    }
    /// A method with arguments, such as `.Label "name"`.
    fn method(&self, _name: &str, _args: &[Value]) -> Option<Value> {
        None
    }
}

/// Whether an object was a struct or a map in Go: they print differently, and a struct has no keys
/// that may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{a b}`.
    Struct,
    /// `map[k:v]`.
    Map,
}

/// An object, in the order it came.
#[derive(Debug, Clone)]
pub struct Map {
    /// The pairs.
    pub pairs: Vec<(String, Value)>,
    /// How it prints.
    pub shape: Shape,
    /// Go's name of a struct, for messages; empty where nobody asks.
    pub type_name: &'static str,
}

impl Map {
    /// The value at a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The field of a struct: JSON and Go differ in the case of some names (`ApiVersion`, `APIVersion`).
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Value> {
        self.get(key).or_else(|| {
            self.pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
        })
    }
}

/// A value.
#[derive(Clone)]
pub enum Value {
    /// `nil`.
    Nil,
    /// What a map has at a key it does not have: prints as `<no value>`.
    Missing,
    /// A list that is `null` in JSON.
    NilList,
    /// A map that is `null` in JSON.
    NilMap,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(Rc<str>),
    /// A list.
    List(Rc<Vec<Value>>),
    /// An object.
    Map(Rc<Map>),
    /// A row.
    Record(Rc<dyn Record>),
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printed())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(list: Vec<Value>) -> Self {
        Self::List(Rc::new(list))
    }
}

/// Keys whose objects are maps in Docker's own types; the others are structs.
const MAPS: &[&str] = &[
    "Annotations",
    "Attributes",
    "AuxiliaryAddresses",
    "Config.Labels",
    "Containers",
    "Details",
    "DriverOpts",
    "DriverOptions",
    "ExposedPorts",
    "IndexConfigs",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Runtimes",
    "Status",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
    "EndpointsConfig",
    "Endpoints",
    "annotations",
];

/// Keys whose `null` is an empty list in Docker's own types.
const LISTS: &[&str] = &[
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "SecurityOpt",
    "Ulimits",
    "VolumesFrom",
    "Aliases",
    "DNSNames",
    "RepoTags",
    "RepoDigests",
    "Shell",
    "Layers",
    "Warnings",
    "Authorization",
    "Mirrors",
];

impl Value {
    /// A JSON object whose type has a name that messages show.
    #[must_use]
    pub fn typed(type_name: &'static str, json: &serde_json::Value) -> Self {
        match Self::from_json("", json) {
            Self::Map(map) => {
                Self::Map(Rc::new(Map { type_name, shape: Shape::Struct, pairs: map.pairs.clone() }))
            }
            other => other,
        }
    }

    /// A JSON value; `key` is where it was found.
    #[must_use]
    pub fn from_json(key: &str, json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null if MAPS.contains(&key) => Self::NilMap,
            Json::Null if LISTS.contains(&key) => Self::NilList,
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value.into()),
                (None, Some(value)) => Self::Int(value.into()),
                _ => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text.as_str().into()),
            Json::Array(list) => list.iter().map(|item| Self::from_json("", item)).collect::<Vec<_>>().into(),
            Json::Object(object) => {
                // A struct always has some field, but for those that are left out when empty.
                let shape = if object.is_empty() || MAPS.contains(&key) { Shape::Map } else { Shape::Struct };
                let pairs =
                    object.iter().map(|(name, item)| (name.clone(), Self::from_json(name, item))).collect();
                Self::Map(Rc::new(Map { pairs, shape, type_name: "" }))
            }
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Nil | Self::Missing | Self::NilList | Self::NilMap => Json::Null,
            Self::Bool(value) => Json::Bool(*value),
            Self::Int(value) => i64::try_from(*value)
                .map(Json::from)
                .or_else(|_| u64::try_from(*value).map(Json::from))
                .unwrap_or(Json::Null),
            Self::Float(value) => Json::from(*value),
            Self::Text(text) => Json::String(text.to_string()),
            Self::List(list) => Json::Array(list.iter().map(Self::to_json).collect()),
            Self::Map(map) => Json::Object(map.pairs.iter().map(|(k, v)| (k.clone(), v.to_json())).collect()),
            Self::Record(record) => Json::Object(
                record
                    .fields()
                    .iter()
                    .map(|name| ((*name).to_owned(), record.field(name).unwrap_or(Self::Nil).to_json()))
                    .collect(),
            ),
        }
    }

    /// Go's notion of truth: what is not empty.
    #[must_use]
    pub fn truth(&self) -> bool {
        match self {
            Self::Nil | Self::Missing | Self::NilList | Self::NilMap => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(list) => !list.is_empty(),
            Self::Map(map) => map.shape == Shape::Struct || !map.pairs.is_empty(),
            Self::Record(_) => true,
        }
    }

    /// The value as `{{.}}` shows it.
    #[must_use]
    pub fn printed(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Missing => out.push_str("<no value>"),
            other => other.print(&mut out, 0),
        }
        out
    }

    /// Go's `%v`.
    pub(super) fn print(&self, out: &mut String, depth: usize) {
        if depth > super::DEPTH_MAX || out.len() > super::OUTPUT_BYTES_MAX {
            return;
        }
        match self {
            Self::Nil | Self::Missing => out.push_str("<nil>"),
            Self::NilList => out.push_str("[]"),
            Self::NilMap => out.push_str("map[]"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Float(value) => out.push_str(&float(*value)),
            Self::Text(text) => out.push_str(text),
            Self::List(list) => {
                out.push('[');
                for (index, item) in list.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    item.print(out, depth + 1);
                }
                out.push(']');
            }
            Self::Map(map) => print_map(map, out, depth),
            Self::Record(record) => {
                if let Some(text) = record.text() {
                    out.push_str(&text);
                    return;
                }
                out.push('{');
                for (index, name) in record.fields().iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    record.field(name).unwrap_or(Self::Nil).print(out, depth + 1);
                }
                out.push('}');
            }
        }
    }

    /// Go's name of the value's type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Nil | Self::Missing => "interface {}",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) | Self::NilList => "[]interface {}",
            Self::Map(map) if !map.type_name.is_empty() => map.type_name,
            Self::Map(_) | Self::NilMap => "map[string]interface {}",
            Self::Record(record) => record.type_name(),
        }
    }
}

fn print_map(map: &Map, out: &mut String, depth: usize) {
    let mut pairs: Vec<_> = map.pairs.iter().collect();
    let (open, close) = match map.shape {
        Shape::Struct => ("{", '}'),
        Shape::Map => {
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            ("map[", ']')
        }
    };
    out.push_str(open);
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        if map.shape == Shape::Map {
            out.push_str(name);
            out.push(':');
        }
        value.print(out, depth + 1);
    }
    out.push(close);
}

/// Go's shortest form: exponents outside of 1e-4 … 1e21.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        return exponent(&format!("{value:e}"));
    }
    format!("{value}")
}

/// Rust's `1e7` as Go's `1e+07`.
pub(super) fn exponent(text: &str) -> String {
    let Some((mantissa, power)) = text.split_once('e') else { return text.to_owned() };
    let (sign, digits) = power.strip_prefix('-').map_or(('+', power), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
