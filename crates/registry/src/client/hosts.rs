//! Where a repository is to be asked for: mirrors first, then the registry itself.
//!
//! Three kinds of settings say so, each in the format of the engine that people know it from:
//!
//! ```text
//! registry-mirrors               of the daemon, for docker.io alone
//! <dir>/<registry>/hosts.toml    containerd's, for one registry, or <dir>/_default/hosts.toml for all others
//! registries.conf                Podman's, for registries, namespaces and repositories
//! ```
//!
//! The files are read anew for each question, so that a change needs no restart. Where a registry has a `hosts.toml`,
//! `registries.conf` is asked only whether it is blocked.

mod containerd;
mod podman;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci::Reference;
use reqwest::header::HeaderMap;
use url::Url;

use super::HUB;
use crate::error::{Error, Result};

/// Files of settings are written by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// More places than this for one repository are a mistake.
const PLACES_MAX: usize = 32;

/// What a place may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// What a tag names.
    pub(crate) tags: bool,
    /// What a digest names.
    pub(crate) digests: bool,
    /// To take something in.
    pub(crate) push: bool,
}

impl Capabilities {
    pub(crate) const ALL: Self = Self { tags: true, digests: true, push: true };
    pub(crate) const PULL: Self = Self { push: false, ..Self::ALL };
}

/// How a place is trusted, beyond what the folders of certificates say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Trust {
    /// Any certificate will do.
    pub(crate) skip_verify: bool,
    /// Files of authorities.
    pub(crate) roots: Vec<PathBuf>,
    /// Files of a certificate of ours, and of its key; they may be one.
    pub(crate) pairs: Vec<(PathBuf, PathBuf)>,
}

/// A place where a repository may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// `scheme://host[:port]/`, perhaps with a path; without a scheme it is found out.
    pub(crate) base: Base,
    /// Whether the path is the API's root already, without `v2/`.
    pub(crate) whole_path: bool,
    /// The repository's path there.
    pub(crate) repository: String,
    /// The registry that is meant, said to mirrors of several (`?ns=`).
    pub(crate) namespace: Option<String>,
    /// Whether it is not the registry itself: asked without the user's credentials.
    pub(crate) mirror: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) trust: Trust,
    /// Said in every request.
    pub(crate) headers: HeaderMap,
    /// How long a connection may take.
    pub(crate) dial_timeout: Option<Duration>,
}

/// The beginning of a place's URLs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Base {
    /// As it is written.
    Url(Url),
    /// `host[:port]`: HTTPS, and HTTP where the host may be insecure.
    Host(String),
}

impl Place {
    pub(super) fn origin(host: &str, repository: &str) -> Self {
        Self {
            base: Base::Host(host.to_owned()),
            whole_path: false,
            repository: repository.to_owned(),
            namespace: None,
            mirror: false,
            capabilities: Capabilities::ALL,
            trust: Trust::default(),
            headers: HeaderMap::new(),
            dial_timeout: None,
        }
    }
}

/// Where settings of places are.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    /// For docker.io.
    pub(crate) mirrors: Vec<Url>,
    /// Folders with `<registry>/hosts.toml`; the first that has one counts.
    pub(crate) directories: Vec<PathBuf>,
    /// Files in the format of `registries.conf`, each with those in the folder `<file>.d`.
    pub(crate) registries: Vec<PathBuf>,
}

impl Hosts {
    /// The places of a reference's repository, in the order in which they are to be asked. The registry itself is the last.
    pub(crate) fn places(&self, reference: &Reference) -> Result<Vec<Place>> {
        let domain = reference.domain();
        let registry = if domain == oci::reference::DEFAULT_DOMAIN { HUB } else { domain };
        let name = canonical(&reference.repository());
        let rules = podman::read(&self.registries)?;
        let rule = rules.iter().filter(|rule| rule.covers(&name)).max_by_key(|rule| rule.prefix.len());
        if let Some(rule) = rule.filter(|rule| rule.blocked) {
            return Err(Error::Blocked { reference: reference.to_string(), path: rule.path.clone() });
        }
        let mut places = Vec::new();
        if domain == oci::reference::DEFAULT_DOMAIN {
            places.extend(self.mirrors.iter().map(|base| Place {
                base: Base::Url(base.clone()),
                mirror: true,
                capabilities: Capabilities::PULL,
                ..Place::origin(HUB, reference.path())
            }));
        }
        match containerd::read(&self.directories, domain)? {
            Some(file) => places.extend(file.places(domain, registry, reference.path())),
            None => match rule {
                Some(rule) => places.extend(rule.places(&name)?),
                None => places.push(Place::origin(registry, reference.path())),
            },
        }
        if places.len() > PLACES_MAX {
            return Err(Error::Option {
                option: format!("settings of registry {domain}"),
                why: format!("there are more than {PLACES_MAX} mirrors"),
            });
        }
        Ok(places)
    }
}

/// A name of a registry, of a repository or of a part of them, in the one spelling that rules are compared in: registries in lower
/// case, without the port that HTTPS has anyway, and Docker Hub by its one name.
pub(crate) fn canonical(name: &str) -> String {
    let (host, path) = name.split_once('/').map_or((name, None), |(host, path)| (host, Some(path)));
    let mut host = host.to_ascii_lowercase();
    if let Some((before, port)) = host.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        let port = port.trim_start_matches('0');
        host = if port == "443" { before.to_owned() } else { format!("{before}:{port}") };
    }
    if matches!(host.as_str(), HUB | "index.docker.io") {
        host = oci::reference::DEFAULT_DOMAIN.to_owned();
    }
    path.map_or_else(|| host.clone(), |path| format!("{host}/{path}"))
}

/// The text of a file of settings; `None` where there is none.
fn text(path: &Path) -> Result<Option<String>> {
    let unusable = |why: String| Error::Settings { path: path.to_owned(), why };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(unusable(error.to_string())),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| unusable(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unusable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Some(text))
}

/// Reads TOML; what is wrong is said with its line.
fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Error::Settings {
            path: path.to_owned(),
            why: format!("line {line}: {}", error.message().replace('\n', " ")),
        }
    })
}

/// `host[:port][/path]` as the URL it is with a scheme.
fn url_of(path: &Path, scheme: &str, location: &str) -> Result<Url> {
    let wrong = |why: String| Error::Settings { path: path.to_owned(), why: format!("{location:?}: {why}") };
    let whole = if location.contains("://") { location.to_owned() } else { format!("{scheme}://{location}") };
    let mut url = Url::parse(&whole).map_err(|error| wrong(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("it should name a host, by https:// or http://".into()));
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some()
    {
        return Err(wrong("it should be a host with a path at most".into()));
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

/// What the fuzzer gives: settings in all formats, for any reference.
#[doc(hidden)]
pub fn fuzz_settings(settings: &str, reference: &str) {
    let path = Path::new("settings");
    let Ok(reference) = Reference::parse_named(reference) else { return };
    if let Ok(file) = containerd::parse(path, settings) {
        let _ = file.places(reference.domain(), reference.domain(), reference.path());
    }
    if let Ok(rules) = podman::parse(path, settings) {
        let name = reference.repository();
        for rule in rules.iter().filter(|rule| rule.covers(&name)) {
            let _ = rule.places(&name);
        }
    }
}
