//! The parameters of `POST /build`. What is not there is refused by its name.

use crate::call::Call;
use crate::failure::Failure;
use build::expand::Environment;
use build::output::CachePlace;
use build::remote::Remote;
use build::request::{Limits, Network, NoCache, RemoteContext, Request, Ulimit};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// The build; its texts are in the context.
    pub request: Request,
    /// The path of the Dockerfile in the context.
    pub dockerfile: String,
    /// Whether only the image's id is told.
    pub quiet: bool,
    /// Names and passwords, by registry.
    pub credentials: BTreeMap<String, (String, String)>,
}

fn json<T: DeserializeOwned + Default>(call: &Call, name: &str) -> Result<T, Failure> {
    let text = call.query.get(name);
    if text.is_empty() {
        return Ok(T::default());
    }
    let parsed: Option<T> = serde_json::from_str(text)
        .map_err(|error| Failure::invalid(format!("error reading {name}: {error}")))?;
    Ok(parsed.unwrap_or_default())
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LimitIn {
    name: String,
    #[serde(default)]
    soft: i64,
    #[serde(default)]
    hard: i64,
}

/// Reads them.
pub(super) fn read(call: &Call) -> Result<Asked, Failure> {
    let query = &call.query;
    refuse(call)?;
    let arguments: BTreeMap<String, Option<String>> = json(call, "buildargs")?;
    let mut environment = Environment::new();
    for (name, value) in &arguments {
        if let Some(value) = value {
            environment.set(name, value);
        }
    }
    let labels: BTreeMap<String, String> = json(call, "labels")?;
    let ulimits: Vec<LimitIn> = json(call, "ulimits")?;
    let platform = engine::images::parse_platform(query.get("platform"))?;
    let shm_size = query.number::<i64>("shmsize")?.filter(|bytes| *bytes > 0);
    // What images of registries know of their steps; Docker's own builder looked into those that are here, which the cache knows anyway.
    let caches: Vec<String> = json(call, "cachefrom")?;
    let request = Request {
        target: Some(query.get("target").to_owned()).filter(|target| !target.is_empty()),
        arguments: environment,
        labels,
        platforms: platform.into_iter().collect(),
        no_cache: if query.flag("nocache") { NoCache::All } else { NoCache::No },
        pull: query.flag("pull"),
        network: network(query.get("networkmode"))?,
        hosts: hosts(call)?,
        shm_size: shm_size.map(i64::cast_unsigned),
        ulimits: ulimits
            .into_iter()
            .map(|limit| Ulimit { name: limit.name, soft: limit.soft, hard: limit.hard })
            .collect(),
        limits: limits(call)?,
        tags: query.all("t").filter(|tag| !tag.is_empty()).map(str::to_owned).collect(),
        squash: query.flag("squash"),
        remote: remote(query.get("remote"))?,
        cache_from: caches.into_iter().map(CachePlace::Registry).collect(),
        ..Request::default()
    };
    Ok(Asked {
        request,
        dockerfile: query.get("dockerfile").to_owned(),
        quiet: query.flag("q"),
        credentials: super::super::images::credentials_of(call.header("x-registry-config"))?,
    })
}

/// The context, where it is not in the body.
fn remote(text: &str) -> Result<Option<RemoteContext>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = Remote::parse_context(text).map_err(Failure::invalid)?;
    let address = address.ok_or_else(|| {
        Failure::invalid(format!(
            "unable to prepare context: {text:?} is neither a repository of git nor a URL (http, https)"
        ))
    })?;
    Ok(Some(RemoteContext { address, has_dockerfile: true }))
}

fn refuse(call: &Call) -> Result<(), Failure> {
    let query = &call.query;
    if query.get("version") == "2" {
        return Err(Failure::absent(
            "BuildKit's builder (version=2); set DOCKER_BUILDKIT=0 for the classic one, or use corten build: it",
        ));
    }
    if !query.get("securityopt").is_empty() {
        return Err(Failure::invalid(
            "The daemon on this platform does not support setting security options on build (securityopt)",
        ));
    }
    let outputs: Vec<serde_json::Value> = json(call, "outputs")?;
    if !outputs.is_empty() {
        return Err(Failure::absent("the parameter outputs of builds"));
    }
    if !matches!(query.get("isolation"), "" | "default") {
        return Err(Failure::invalid(format!("Unsupported isolation: {:?}", query.get("isolation"))));
    }
    Ok(())
}

fn network(mode: &str) -> Result<Network, Failure> {
    Ok(match mode {
        "" | "default" => Network::Default,
        "none" => Network::None,
        "host" => Network::Host,
        mode if mode.starts_with("container:") => {
            return Err(Failure::absent("networkmode=container:… of builds"));
        }
        name => Network::Named(name.to_owned()),
    })
}

fn hosts(call: &Call) -> Result<Vec<(String, String)>, Failure> {
    let given = call.query.all("extrahosts").flat_map(|text| text.split(',')).map(str::trim);
    given
        .filter(|text| !text.is_empty())
        .map(|text| {
            let pair = text.split_once([':', '=']);
            let (name, address) = pair
                .filter(|(name, address)| !name.is_empty() && !address.is_empty())
                .ok_or_else(|| Failure::invalid(format!("bad format for add-host: {text:?}")))?;
            Ok((name.to_owned(), address.to_owned()))
        })
        .collect()
}

fn limits(call: &Call) -> Result<Limits, Failure> {
    let query = &call.query;
    let number = |name: &str| query.number::<i64>(name).map(Option::unwrap_or_default);
    Ok(Limits {
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: query.get("cpusetcpus").to_owned(),
        cpuset_mems: query.get("cpusetmems").to_owned(),
        cgroup_parent: query.get("cgroupparent").to_owned(),
    })
}

/// How long ago, in seconds, of what `until` and `unused-for` say: `24h`, or a moment.
pub(super) fn age(text: &str) -> Result<i64, Failure> {
    let now = api::timestamp::now();
    let moment = api::timestamp::parse_query(text, now)
        .map_err(|error| Failure::invalid(format!("invalid filter 'until={text}': {error}")))?;
    let moment = moment.ok_or_else(|| Failure::invalid("invalid filter 'until=': nothing is said"))?;
    Ok(now.saturating_sub(moment) / 1_000_000_000)
}
