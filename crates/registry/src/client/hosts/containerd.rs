//! containerd's `hosts.toml` (its documentation, "Registry Configuration - Introduction", `docs/hosts.md`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use url::Url;

use super::{Base, Capabilities, Place, Trust};
use crate::error::{Error, Result};

/// For registries that have no folder of their own.
const DEFAULT: &str = "_default";
/// The longest time that a connection may be waited for.
const DIAL_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// A `hosts.toml`.
#[derive(Debug)]
pub(super) struct File {
    /// The registry itself, if it is said.
    server: Option<(Url, Settings)>,
    /// Mirrors, in the order of the file.
    hosts: Vec<(Url, Settings)>,
}

/// What is said of a place.
#[derive(Debug, Clone)]
struct Settings {
    capabilities: Option<Capabilities>,
    whole_path: bool,
    trust: Trust,
    headers: HeaderMap,
    dial_timeout: Option<Duration>,
}

/// One text or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Several(Vec<String>),
}

impl Texts {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Several(texts) => texts,
        }
    }
}

/// Certificates of ours: a file, files, or files with their keys.
#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Several(Vec<Client>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    Whole(String),
    Pair(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSettings {
    capabilities: Option<Vec<String>>,
    ca: Option<Texts>,
    client: Option<Clients>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    header: Option<toml::Table>,
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
struct RawFile {
    server: Option<String>,
    host: Option<toml::Table>,
    #[serde(flatten)]
    own: toml::Table,
}

/// The settings of a registry; `None` where it has none.
pub(super) fn read(directories: &[PathBuf], registry: &str) -> Result<Option<File>> {
    // `host:port` may be written `host_port_`, for filesystems that have no colon.
    let spelled = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = spelled.as_deref().into_iter().chain([registry, DEFAULT]);
    for name in names {
        for directory in directories {
            let path = directory.join(name).join("hosts.toml");
            if let Some(text) = super::text(&path)? {
                return parse(&path, &text).map(Some);
            }
        }
    }
    Ok(None)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<File> {
    let raw: RawFile = super::parse(path, text)?;
    let own = settings(path, raw.own)?;
    let server = raw.server.map(|server| super::url_of(path, "https", &server)).transpose()?;
    let mut hosts = Vec::new();
    for (name, value) in raw.host.unwrap_or_default() {
        let url = super::url_of(path, "https", &name)?;
        let toml::Value::Table(table) = value else {
            return Err(wrong(path, &format!("host {name:?} should be a table")));
        };
        hosts.push((url, settings(path, table)?));
    }
    Ok(File { server: server.map(|url| (url, own)), hosts })
}

fn wrong(path: &Path, why: &str) -> Error {
    Error::Settings { path: path.to_owned(), why: why.to_owned() }
}

fn settings(path: &Path, table: toml::Table) -> Result<Settings> {
    let raw: RawSettings = table
        .try_into()
        .map_err(|error: toml::de::Error| wrong(path, &error.message().replace('\n', " ")))?;
    // Files are found from where the settings are.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let roots = raw.ca.map(Texts::all).unwrap_or_default();
    let pairs = match raw.client {
        None => Vec::new(),
        Some(Clients::One(file)) => vec![Client::Whole(file)],
        Some(Clients::Several(clients)) => clients,
    };
    let pairs = pairs.into_iter().map(|client| match client {
        Client::Whole(file) => Ok((folder.join(&file), folder.join(file))),
        Client::Pair(files) => match files.as_slice() {
            [both] => Ok((folder.join(both), folder.join(both))),
            [certificate, key] if key.is_empty() => Ok((folder.join(certificate), folder.join(certificate))),
            [certificate, key] => Ok((folder.join(certificate), folder.join(key))),
            _ => Err(wrong(path, "client should be a file, or a pair of a certificate and its key")),
        },
    });
    Ok(Settings {
        capabilities: raw.capabilities.map(|names| capabilities(path, &names)).transpose()?,
        whole_path: raw.override_path,
        trust: Trust {
            skip_verify: raw.skip_verify,
            roots: roots.into_iter().map(|file| folder.join(file)).collect(),
            pairs: pairs.collect::<Result<_>>()?,
        },
        headers: headers(path, raw.header.unwrap_or_default())?,
        dial_timeout: raw.dial_timeout.map(|text| duration(path, &text)).transpose()?,
    })
}

fn capabilities(path: &Path, names: &[String]) -> Result<Capabilities> {
    let has = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted));
    let known = |name: &String| {
        ["pull", "resolve", "push", "referrers"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(wrong(path, &format!("unknown capability {name:?}")));
    }
    Ok(Capabilities { tags: has("pull") && has("resolve"), digests: has("pull"), push: has("push") })
}

fn headers(path: &Path, table: toml::Table) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in table {
        let bad = || wrong(path, &format!("header {name:?} cannot be sent"));
        let values = match value {
            toml::Value::String(text) => vec![text],
            toml::Value::Array(texts) => texts
                .into_iter()
                .map(|text| if let toml::Value::String(text) = text { Ok(text) } else { Err(bad()) })
                .collect::<Result<_>>()?,
            _ => return Err(bad()),
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        for value in values {
            let mut value = HeaderValue::from_str(&value).map_err(|_| bad())?;
            value.set_sensitive(true);
            headers.append(name.clone(), value);
        }
    }
    Ok(headers)
}

/// A time as Go writes it, of whole numbers: `500ms`, `1m30s`.
fn duration(path: &Path, text: &str) -> Result<Duration> {
    let bad = || wrong(path, &format!("dial_timeout {text:?} should be a time such as \"3s\""));
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u32 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..unit_end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(bad()),
        };
        total = unit.checked_mul(number).and_then(|time| total.checked_add(time)).ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    if total.is_zero() || total > DIAL_TIMEOUT_MAX { Err(bad()) } else { Ok(total) }
}

impl File {
    /// The places of `repository` in `registry`, which is reached as `host`.
    pub(super) fn places(self, registry: &str, host: &str, repository: &str) -> Vec<Place> {
        let place = |base: Url, settings: Settings| Place {
            base: Base::Url(base),
            whole_path: settings.whole_path,
            capabilities: settings.capabilities.unwrap_or(Capabilities::ALL),
            trust: settings.trust,
            headers: settings.headers,
            dial_timeout: settings.dial_timeout,
            ..Place::origin(host, repository)
        };
        // The registry itself may be among them, with settings of its own; nobody else gets its users' credentials.
        let itself = Url::parse(&format!("https://{host}/")).ok();
        let origin = |url: &Url| (url.host_str().map(str::to_ascii_lowercase), url.port_or_known_default());
        let own = |url: &Url| {
            itself.as_ref().is_some_and(|itself| origin(itself) == origin(url)) && url.path() == "/"
        };
        let mut places: Vec<_> = self
            .hosts
            .into_iter()
            .map(|(url, settings)| {
                let mirror = !own(&url);
                let namespace = mirror.then(|| registry.to_owned());
                Place { mirror, namespace, ..place(url, settings) }
            })
            .collect();
        match self.server {
            Some((url, settings)) => places.push(place(url, settings)),
            None => places.push(Place::origin(host, repository)),
        }
        places
    }
}
