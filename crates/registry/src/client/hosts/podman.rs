//! Podman's `registries.conf` (containers-registries.conf(5)), of version 2, and what version 1 says of insecure and blocked
//! registries. Short names are Docker's: what is searched for unqualified names is not read.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Base, Capabilities, Place, Trust};
use crate::client::HUB;
use crate::error::{Error, Result};

/// More files than this are in no folder of settings.
const FILES_MAX: usize = 256;

/// What is said of the names that begin in one way.
#[derive(Debug)]
pub(super) struct Rule {
    /// `host[:port][/namespace…[/repository]]` or `*.domain`.
    pub(super) prefix: String,
    pub(super) blocked: bool,
    /// The file that says so.
    pub(super) path: PathBuf,
    location: String,
    insecure: bool,
    digests_only: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawRule {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Deserialize, Default)]
struct RawFile {
    #[serde(default)]
    registry: Vec<RawRule>,
    registries: Option<FirstVersion>,
}

/// `[registries.insecure]` and `[registries.block]`.
#[derive(Deserialize)]
struct FirstVersion {
    #[serde(default)]
    insecure: List,
    #[serde(default)]
    block: List,
}

#[derive(Deserialize, Default)]
struct List {
    #[serde(default)]
    registries: Vec<String>,
}

/// The rules of all files; what a later file says of a prefix counts.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for file in files {
        let mut paths = vec![file.clone()];
        paths.extend(below(file)?);
        for path in paths {
            let Some(text) = super::text(&path)? else { continue };
            for rule in parse(&path, &text)? {
                rules.retain(|known| known.prefix != rule.prefix);
                rules.push(rule);
            }
        }
    }
    Ok(rules)
}

/// The files `<file>.d/*.conf`, in order.
fn below(file: &Path) -> Result<Vec<PathBuf>> {
    let folder = PathBuf::from(format!("{}.d", file.display()));
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .take(FILES_MAX + 1)
        .collect();
    if paths.len() > FILES_MAX {
        return Err(Error::Settings { path: folder, why: format!("it holds more than {FILES_MAX} files") });
    }
    paths.sort();
    Ok(paths)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Rule>> {
    let wrong = |why: &str| Error::Settings { path: path.to_owned(), why: why.to_owned() };
    let raw: RawFile = super::parse(path, text)?;
    let mut rules = Vec::new();
    for rule in raw.registry {
        let wildcard = rule.prefix.starts_with("*.");
        let location = rule.location.trim_end_matches('/').to_owned();
        let prefix = if rule.prefix.is_empty() { &location } else { rule.prefix.trim_end_matches('/') };
        if prefix.is_empty() {
            return Err(wrong("a registry has neither prefix nor location"));
        }
        if wildcard && !location.is_empty() || location.starts_with('*') {
            return Err(wrong("a prefix with a wildcard has no location"));
        }
        let known = |mirror: &Mirror| {
            matches!(mirror.pull_from_mirror.as_str(), "" | "all" | "digest-only" | "tag-only")
        };
        if rule.mirror.iter().any(|mirror| !known(mirror)) {
            return Err(wrong("pull-from-mirror should be all, digest-only or tag-only"));
        }
        rules.push(Rule {
            prefix: super::canonical(prefix),
            blocked: rule.blocked,
            path: path.to_owned(),
            location: if location.is_empty() && !wildcard { prefix.to_owned() } else { location.clone() },
            insecure: rule.insecure,
            digests_only: rule.mirror_by_digest_only,
            mirrors: rule.mirror,
        });
    }
    if let Some(FirstVersion { insecure, block }) = raw.registries {
        let mut names = [insecure.registries.clone(), block.registries.clone()].concat();
        names.sort();
        names.dedup();
        rules.extend(names.into_iter().filter(|name| !name.is_empty()).map(|name| Rule {
            blocked: block.registries.contains(&name),
            insecure: insecure.registries.contains(&name),
            path: path.to_owned(),
            prefix: super::canonical(&name),
            digests_only: false,
            mirrors: Vec::new(),
            location: name,
        }));
    }
    Ok(rules)
}

impl Rule {
    /// Whether it says something of a repository, by its whole name.
    pub(super) fn covers(&self, name: &str) -> bool {
        if let Some(domain) = self.prefix.strip_prefix("*.") {
            let host = name.split('/').next().unwrap_or(name);
            let host = super::super::options::host_of(host);
            return host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        }
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':']))
    }

    /// The places of a repository that it covers.
    pub(super) fn places(&self, name: &str) -> Result<Vec<Place>> {
        let mut places = Vec::new();
        for mirror in &self.mirrors {
            let (tags, digests) = match mirror.pull_from_mirror.as_str() {
                "digest-only" => (false, true),
                "tag-only" => (true, false),
                _ => (!self.digests_only, true),
            };
            places.push(Place {
                mirror: true,
                capabilities: Capabilities { tags, digests, push: false },
                ..self.place(name, &mirror.location, mirror.insecure)?
            });
        }
        places.push(self.place(name, &self.location, self.insecure)?);
        Ok(places)
    }

    /// The place that a repository has where the names with this prefix begin with `location`.
    fn place(&self, name: &str, location: &str, insecure: bool) -> Result<Place> {
        let location = location.trim_end_matches('/');
        let moved = match name.strip_prefix(&self.prefix) {
            Some(rest) if !location.is_empty() => format!("{location}{rest}"),
            // By a wildcard: the registry stays, or another one has the repository at the same path.
            _ if location.is_empty() => name.to_owned(),
            _ => format!("{location}/{}", name.split_once('/').map_or("", |(_, path)| path)),
        };
        let wrong = || Error::Settings {
            path: self.path.clone(),
            why: format!("{name} at {location:?} makes no repository"),
        };
        let (host, repository) = moved.split_once('/').ok_or_else(wrong)?;
        super::url_of(&self.path, "https", host)?;
        if repository.is_empty()
            || oci::Reference::parse_named(&format!("host.example/{repository}")).is_err()
        {
            return Err(wrong());
        }
        let host = if host == oci::reference::DEFAULT_DOMAIN { HUB } else { host };
        let trust = Trust { skip_verify: insecure, ..Trust::default() };
        Ok(Place { trust, base: Base::Host(host.to_owned()), ..Place::origin(host, repository) })
    }
}
