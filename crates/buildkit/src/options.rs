//! What a client asks of the Dockerfile frontend: a map of words, which becomes a request.

use std::collections::BTreeMap;
use std::collections::HashMap;

use build::output::CachePlace;
use build::remote::Remote;
use build::request::{NamedContext, Network, NoCache, RemoteContext, Request, Ulimit};
use oci::Platform;

use crate::error::{Error, Result};
use crate::question::Asked;
use crate::{attest, cache};

/// The frontend that there is.
const FRONTEND: &str = "dockerfile.v0";
/// Options of a build, and bytes of all of them: build arguments and labels are among them.
const OPTIONS_MAX: usize = 4096;
const OPTION_BYTES_MAX: usize = 4 << 20;
/// Platforms of one build: there are not so many kinds of processors.
const PLATFORMS_MAX: usize = 32;
/// What clients may demand that the frontend can do.
const CAPABILITIES: [&str; 2] = ["moby.buildkit.frontend.contexts", "moby.buildkit.frontend.subrequests"];
/// The address that stands for the host, as containers reach it.
const HOST_GATEWAY: &str = "host-gateway";
/// Frontends that are ours under another name.
const SYNTAXES: [&str; 2] = ["docker/dockerfile", "docker.io/docker/dockerfile"];

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The Dockerfile's name in its directory.
    pub(crate) filename: String,
    /// What the client calls the Dockerfile's directory.
    pub(crate) dockerfile_dir: String,
    /// What the client calls the context.
    pub(crate) context_dir: String,
    /// What is asked about the Dockerfile instead of a build.
    pub(crate) question: Option<Asked>,
    remote: Option<Remote>,
    sends_dockerfile: bool,
    /// The rest; the Dockerfile itself is not in it yet.
    pub(crate) request: Request,
}

impl Options {
    /// Reads what a client asks a frontend for.
    ///
    /// # Errors
    /// It is wrong, or not there.
    pub(crate) fn read(frontend: &str, options: &HashMap<String, String>) -> Result<Self> {
        if frontend != FRONTEND {
            let name = if frontend.is_empty() {
                "a build from LLB".to_owned()
            } else {
                format!("the frontend {frontend:?}")
            };
            return Err(Error::Absent(name));
        }
        let bytes: usize = options.iter().map(|(key, value)| key.len() + value.len()).sum();
        if options.len() > OPTIONS_MAX || bytes > OPTION_BYTES_MAX {
            return Err(Error::Invalid(format!(
                "a build has {OPTIONS_MAX} options and {OPTION_BYTES_MAX} bytes of them at most"
            )));
        }
        let mut read = Self {
            filename: "Dockerfile".to_owned(),
            dockerfile_dir: "dockerfile".to_owned(),
            context_dir: build::request::CONTEXT.to_owned(),
            question: None,
            remote: None,
            sends_dockerfile: false,
            request: Request::default(),
        };
        read.request.attestations.options = options.clone().into_iter().collect();
        // In the order of their names, so that the same options always mean the same.
        for (key, value) in options.iter().collect::<BTreeMap<_, _>>() {
            read.take(key, value)?;
        }
        if let Some(address) = read.remote.take() {
            // Without a directory of the client's for it, the Dockerfile is where the files are.
            read.request.remote = Some(RemoteContext { address, has_dockerfile: !read.sends_dockerfile });
        }
        Ok(read)
    }

    fn take(&mut self, key: &str, value: &str) -> Result<()> {
        if key == "requestid" {
            self.question = Some(Asked::named(value)?);
            return Ok(());
        }
        let request = &mut self.request;
        if let Some((kind, name)) = key.split_once(':')
            && !name.is_empty()
        {
            return match kind {
                "build-arg" => take_argument(request, name, value),
                "label" => {
                    request.labels.insert(name.to_owned(), value.to_owned());
                    Ok(())
                }
                "context" => {
                    request.contexts.insert(name.to_owned(), context(name, value)?);
                    Ok(())
                }
                "limit" => limit(request, name, value),
                // Where the context came from, for a provenance alone.
                "vcs" => {
                    request.attestations.vcs.insert(name.to_owned(), value.to_owned());
                    Ok(())
                }
                "attest" => attest::take(&mut request.attestations, name, value),
                _ => Err(absent(key, value)),
            };
        }
        match key {
            "filename" if !value.is_empty() => value.clone_into(&mut self.filename),
            "dockerfilekey" if !value.is_empty() => {
                value.clone_into(&mut self.dockerfile_dir);
                self.sends_dockerfile = true;
            }
            "contextkey" if !value.is_empty() => value.clone_into(&mut self.context_dir),
            "target" => request.target = (!value.is_empty()).then(|| value.to_owned()),
            "platform" => request.platforms = platforms(value)?,
            "no-cache" if value.is_empty() => request.no_cache = NoCache::All,
            "no-cache" => request.no_cache = NoCache::Stages(words(value)),
            "image-resolve-mode" => request.pull = resolve_mode(value)?,
            "force-network-mode" => request.network = network(value)?,
            "add-hosts" => request.hosts = hosts(value)?,
            "shm-size" => request.shm_size = Some(number(key, value)?),
            "ulimit" => {
                request.ulimits = words(value).iter().map(|word| ulimit(word)).collect::<Result<_>>()?;
            }
            "squash" => request.squash = is_on(value),
            "cgroup-parent" => value.clone_into(&mut request.limits.cgroup_parent),
            "frontend.caps" => check_capabilities(value)?,
            "multi-platform" => request.multi_platform = value.is_empty() || is_on(value),
            "context" => {
                let address = Remote::parse_context(value).map_err(Error::Invalid)?;
                let address = address.ok_or_else(|| Error::Absent(format!("the build context {value}")))?;
                self.remote = Some(address);
            }
            "cache-imports" => {
                let all = cache::from_json(value)?;
                request.cache_from = cache::merged([&request.cache_from, &all]);
            }
            "cache-from" => {
                let all: Vec<_> = words(value).into_iter().map(CachePlace::Registry).collect();
                request.cache_from = cache::merged([&request.cache_from, &all]);
            }
            _ => return Err(absent(key, value)),
        }
        Ok(())
    }
}

fn absent(key: &str, value: &str) -> Error {
    Error::Absent(format!("the build option {key}={}", value.chars().take(64).collect::<String>()))
}

fn take_argument(request: &mut Request, name: &str, value: &str) -> Result<()> {
    if name == "BUILDKIT_SYNTAX" {
        let image = value.split([':', '@']).next().unwrap_or_default();
        if !SYNTAXES.contains(&image) {
            return Err(Error::Absent(format!("the frontend {value:?}")));
        }
    }
    if name == "BUILDKIT_MULTI_PLATFORM" {
        request.multi_platform |= is_on(value);
    }
    request.arguments.set(name, value);
    Ok(())
}

/// A context by name: a directory of the client, or an image.
fn context(name: &str, value: &str) -> Result<NamedContext> {
    match value.split_once(':') {
        Some(("local", dir)) if !dir.is_empty() => Ok(NamedContext::Local(dir.to_owned())),
        Some(("docker-image", image)) => {
            Ok(NamedContext::Image(image.strip_prefix("//").unwrap_or(image).to_owned()))
        }
        _ => match Remote::parse_context(value).map_err(Error::Invalid)? {
            Some(address) => Ok(NamedContext::Remote(address)),
            None => Err(Error::Absent(format!("the build context {name}={value}"))),
        },
    }
}

fn platforms(value: &str) -> Result<Vec<Platform>> {
    let mut platforms: Vec<Platform> = Vec::new();
    for word in words(value) {
        let platform = Platform::parse(&word).map_err(|error| Error::Invalid(error.to_string()))?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if platforms.len() > PLATFORMS_MAX {
        return Err(Error::Invalid(format!("a build is for {PLATFORMS_MAX} platforms at most")));
    }
    Ok(platforms)
}

/// Whether images are asked for at their registries though they are here.
fn resolve_mode(value: &str) -> Result<bool> {
    match value {
        "pull" => Ok(true),
        "" | "default" | "local" => Ok(false),
        _ => Err(Error::Invalid(format!("invalid image-resolve-mode: {value}"))),
    }
}

fn network(value: &str) -> Result<Network> {
    match value {
        "" | "default" | "sandbox" => Ok(Network::Default),
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        // Another's namespace may be the host's, whatever was allowed.
        other if other.starts_with("container:") => Err(absent("force-network-mode", other)),
        // One of the engine's, as the classic API has it.
        name => Ok(Network::Named(name.to_owned())),
    }
}

fn hosts(value: &str) -> Result<Vec<(String, String)>> {
    let read = |word: &String| {
        let refuse = || Error::Invalid(format!("invalid add-hosts {word:?}: use NAME=ADDRESS"));
        let (name, address) = word.split_once('=').ok_or_else(refuse)?;
        if address == HOST_GATEWAY && !name.is_empty() {
            return Ok((name.to_owned(), address.to_owned()));
        }
        let address = address.trim_start_matches('[').trim_end_matches(']');
        let address: std::net::IpAddr = address.parse().map_err(|_| refuse())?;
        if name.is_empty() {
            return Err(refuse());
        }
        Ok((name.to_owned(), address.to_string()))
    };
    words(value).iter().map(read).collect()
}

/// A limit as clients write it: `nofile=1024:2048`, or one number for both.
fn ulimit(word: &str) -> Result<Ulimit> {
    let refuse = || Error::Invalid(format!("invalid ulimit {word:?}: use NAME=SOFT[:HARD]"));
    let (name, limits) = word.split_once('=').ok_or_else(refuse)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let read = |text: &str| text.parse::<i64>().map_err(|_| refuse());
    Ok(Ulimit { name: name.to_owned(), soft: read(soft)?, hard: read(hard)? })
}

/// Refuses what the frontend cannot do. `+forward` is said to frontends that pass a request on.
fn check_capabilities(value: &str) -> Result<()> {
    for word in words(value) {
        let name = word.split('+').next().unwrap_or_default();
        if !CAPABILITIES.contains(&name) {
            return Err(Error::Absent(format!("the frontend's capability {name}")));
        }
    }
    Ok(())
}

/// A limit of steps: what the classic API has and BuildKit's has not.
fn limit(request: &mut Request, name: &str, value: &str) -> Result<()> {
    let limits = &mut request.limits;
    let number = || -> Result<i64> {
        value.parse().map_err(|_| Error::Invalid(format!("invalid limit {name} {value:?}: use a number")))
    };
    match name {
        "memory" => limits.memory = number()?,
        "memory-swap" => limits.memory_swap = number()?,
        "cpu-shares" => limits.cpu_shares = number()?,
        "cpu-period" => limits.cpu_period = number()?,
        "cpu-quota" => limits.cpu_quota = number()?,
        "cpuset-cpus" => value.clone_into(&mut limits.cpuset_cpus),
        "cpuset-mems" => value.clone_into(&mut limits.cpuset_mems),
        _ => return Err(absent(&format!("limit:{name}"), value)),
    }
    Ok(())
}

fn number(key: &str, value: &str) -> Result<u64> {
    value.parse().map_err(|_| Error::Invalid(format!("invalid {key} {value:?}: use a number of bytes")))
}

/// As Go reads truth.
pub(crate) fn is_on(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// Words divided by commas.
fn words(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&str, &str)]) -> Result<Options> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Options::read(FRONTEND, &options)
    }

    #[test]
    fn options_become_a_request() {
        let read = read(&[
            ("filename", "web.Dockerfile"),
            ("target", "run"),
            ("build-arg:VERSION", "1:2"),
            ("label:com.docker.compose.service", "web"),
            ("platform", "linux/amd64"),
            ("no-cache", "one,two"),
            ("image-resolve-mode", "pull"),
            ("add-hosts", "a=10.0.0.1,b=[::1],up=host-gateway"),
            ("limit:memory", "1048576"),
            ("limit:cpuset-cpus", "0-1"),
            ("squash", "true"),
            ("ulimit", "nofile=1024:2048,nproc=7"),
            ("shm-size", "1048576"),
            ("force-network-mode", "none"),
            ("context:base", "docker-image://alpine:3"),
            ("context:src", "local:src"),
            ("context:far", "https://example.com/x.git#v1"),
            ("context", "git@example.com:y"),
            ("frontend.caps", "moby.buildkit.frontend.contexts+forward"),
            ("vcs:revision", "abc"),
        ])
        .unwrap();
        assert_eq!(read.filename, "web.Dockerfile");
        let request = read.request;
        assert_eq!(request.target.as_deref(), Some("run"));
        assert_eq!(request.arguments.get("VERSION"), Some("1:2"));
        assert_eq!(request.labels["com.docker.compose.service"], "web");
        assert_eq!(request.no_cache, NoCache::Stages(vec!["one".into(), "two".into()]));
        assert!(request.pull);
        let hosts = [("a", "10.0.0.1"), ("b", "::1"), ("up", "host-gateway")];
        assert_eq!(request.hosts, hosts.map(|(name, address)| (name.to_owned(), address.to_owned())));
        assert_eq!((request.limits.memory, request.limits.cpuset_cpus.as_str()), (1 << 20, "0-1"));
        assert!(request.squash);
        assert_eq!(request.ulimits[1], Ulimit { name: "nproc".into(), soft: 7, hard: 7 });
        assert_eq!(request.shm_size, Some(1 << 20));
        assert_eq!(request.network, Network::None);
        assert_eq!(request.contexts["base"], NamedContext::Image("alpine:3".into()));
        assert!(
            matches!(&request.contexts["far"], NamedContext::Remote(Remote::Git(git)) if git.url.ends_with("x.git"))
        );
        assert!(request.remote.is_some_and(|remote| remote.has_dockerfile));
        assert_eq!(request.contexts["src"], NamedContext::Local("src".into()));
    }

    #[test]
    fn nothing_is_ignored() {
        for (key, value) in [
            ("attest:other", "mode=min"),
            ("build-arg:BUILDKIT_SYNTAX", "evil/frontend:1"),
            ("cache-imports", "[{\"Type\":\"registry\"}]"),
            ("context", "file:///srv/x.git"),
            ("context", "https://example.com/x.git#-x"),
            ("context:x", "https://example.com/x.git?y=z"),
            ("context:x", "oci-layout://x"),
            ("frontend.caps", "moby.buildkit.frontend.inputs"),
            ("hostname", "x"),
            ("platform", "linux/amd64,/"),
            ("requestid", "frontend.other"),
            ("new-option", "1"),
            ("add-hosts", "x"),
            ("ulimit", "x=y"),
            ("limit:io", "1"),
            ("limit:memory", "1m"),
            ("shm-size", "-1"),
        ] {
            assert!(read(&[(key, value)]).is_err(), "{key}");
        }
        assert!(Options::read("gateway.v0", &HashMap::new()).unwrap_err().to_string().contains("gateway.v0"));
        assert!(Options::read("", &HashMap::new()).unwrap_err().to_string().contains("LLB"));
        assert!(read(&[("build-arg:BUILDKIT_SYNTAX", "docker/dockerfile:1.7")]).is_ok());
        let refused = read(&[("force-network-mode", "container:web")]).unwrap_err().to_string();
        assert!(refused.contains("container:web"), "{refused}");
    }
}
