//! The engine itself: `_ping`, `version`, `info`, `events`, `system/df`.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use crate::versions::{self, Resource};
use api::event::{Actor, Message};
use api::system::{CacheRecord, DiskUsage, Usage, ping};
use api::volume::Volume;
use axum::body::Body;
use buildkit::KeptDirectory;
use bytes::Bytes;
use engine::builds::CacheEntry;
use engine::events::{FILTER_KEYS, Heard, Listener, Query};
use hyper::{HeaderMap, Response, header};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Filters of things that this engine does not have; nothing matches them.
const FILTER_KEYS_OF_SWARM: [&str; 5] = ["config", "node", "plugin", "secret", "service"];
/// What begins each text of a JSON text sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;

pub(crate) fn ping(call: &Call) -> Answer {
    let body = if call.parts.method == hyper::Method::HEAD { Body::empty() } else { Body::from("OK") };
    let mut response: Response<Body> = Reply::of_type("text/plain; charset=utf-8", body);
    let headers: &mut HeaderMap = response.headers_mut();
    let mut put = |name: &'static str, value: &'static str| {
        if let Ok(name) = header::HeaderName::try_from(name) {
            headers.insert(name, header::HeaderValue::from_static(value));
        }
    };
    put("Cache-Control", "no-cache, no-store, must-revalidate");
    put("Pragma", "no-cache");
    // Clients that can choose are to build by BuildKit's API.
    put(ping::BUILDER_VERSION, "2");
    put(ping::SWARM, "inactive");
    Ok(response)
}

pub(crate) async fn version(call: Call) -> Answer {
    versions::json(call.version, Resource::Version, &call.engine.system().version().await?)
}

pub(crate) async fn info(call: Call) -> Answer {
    versions::json(call.version, Resource::Info, &call.engine.system().info().await?)
}

pub(crate) async fn disk_usage(call: Call) -> Answer {
    let wanted: Vec<&str> = call.query.all("type").collect();
    if let Some(unknown) =
        wanted.iter().find(|kind| !["container", "image", "volume", "build-cache"].contains(kind))
    {
        return Err(Failure::invalid(format!("unknown object type: {unknown}")));
    }
    // Before 1.52 every thing was listed, always.
    let verbose = call.version.before(52) || call.query.flag("verbose");
    let is_wanted = |kind: &str| wanted.is_empty() || wanted.contains(&kind);
    let mut usage = DiskUsage::default();
    if is_wanted("container") {
        usage = call.engine.system().disk_usage(verbose).await?;
    }
    if is_wanted("image") {
        usage.image_usage = Some(call.engine.images().disk_usage(verbose).await?);
    }
    if is_wanted("volume") {
        usage.volume_usage = Some(volumes_usage(call.engine.volumes().disk_usage().await?, verbose));
    }
    if is_wanted("build-cache") {
        let kept = Arc::clone(call.buildkit.kept());
        let kept = engine::blocking::run("measure what clients have sent", move || Ok(kept.list()));
        usage.build_cache_usage =
            Some(cache_usage(call.engine.builds().cache().await?, kept.await?, verbose));
    }
    versions::json(call.version, Resource::DiskUsage, &usage)
}

/// The sum of the build cache, without what images occupy in any case. Nothing of it is in use but while it is copied from.
fn cache_usage(entries: Vec<CacheEntry>, kept: Vec<KeptDirectory>, verbose: bool) -> Usage<CacheRecord> {
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let bytes = entries.iter().filter(|entry| !entry.shared).map(|entry| entry.bytes);
    let own = size(bytes.chain(kept.iter().map(|one| one.bytes)).sum());
    let count = i64::try_from(entries.len() + kept.len()).unwrap_or(i64::MAX);
    let at = |seconds| jiff::Timestamp::from_second(seconds).ok().map(|at| at.to_string());
    let shown = |entry: CacheEntry| CacheRecord {
        id: entry.id,
        kind: entry.kind.name().to_owned(),
        description: entry.description,
        in_use: entry.in_use,
        shared: entry.shared,
        size: size(entry.bytes),
        created_at: entry.created,
        last_used_at: at(entry.used_s),
        usage_count: size(entry.uses),
    };
    let sent = |one: KeptDirectory| CacheRecord {
        id: one.name,
        kind: "source.local".to_owned(),
        description: "files of a client".to_owned(),
        size: size(one.bytes),
        created_at: at(one.used_s).unwrap_or_default(),
        last_used_at: at(one.used_s),
        usage_count: 1,
        ..CacheRecord::default()
    };
    Usage {
        active_count: 0,
        total_count: count,
        // Nothing of it is shared with what stays.
        reclaimable: own,
        total_size: own,
        items: if verbose {
            entries.into_iter().map(shown).chain(kept.into_iter().map(sent)).collect()
        } else {
            Vec::new()
        },
    }
}

/// The sum of volumes; those that no container uses would be freed.
fn volumes_usage(volumes: Vec<Volume>, verbose: bool) -> Usage<Volume> {
    let of = |volume: &Volume| {
        volume.usage_data.as_ref().map_or((0, 0), |data| (data.ref_count, data.size.max(0)))
    };
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    Usage {
        active_count: count(volumes.iter().filter(|volume| of(volume).0 > 0).count()),
        total_count: count(volumes.len()),
        reclaimable: volumes.iter().map(of).filter(|(users, _)| *users == 0).map(|(_, size)| size).sum(),
        total_size: volumes.iter().map(|volume| of(volume).1).sum(),
        items: if verbose { volumes } else { Vec::new() },
    }
}

/// How events are written.
#[derive(Clone, Copy)]
struct Format {
    content_type: &'static str,
    separated: bool,
}

/// From 1.52 on a client may choose.
fn format(call: &Call) -> Format {
    let accept = if call.version.from(52) { call.header("accept") } else { "" };
    let names =
        |wanted: &str| accept.split(',').any(|one| one.split(';').next().unwrap_or("").trim() == wanted);
    if names("application/jsonl") {
        Format { content_type: "application/jsonl", separated: false }
    } else if names("application/x-ndjson") {
        Format { content_type: "application/x-ndjson", separated: false }
    } else if names("application/json-seq") {
        Format { content_type: "application/json-seq", separated: true }
    } else {
        Format { content_type: "application/json", separated: false }
    }
}

pub(crate) async fn events(call: Call) -> Answer {
    let time = |name| -> Result<Option<jiff::Timestamp>, Failure> {
        let at = call.query.time(name)?;
        at.map(|at| {
            jiff::Timestamp::from_nanosecond(at.into()).map_err(|error| Failure::invalid(error.to_string()))
        })
        .transpose()
    };
    let (since, until) = (time("since")?, time("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        return Err(Failure::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            call.query.get("since"),
            call.query.get("until")
        )));
    }
    let filters = call.query.filters()?;
    let known: Vec<&str> = FILTER_KEYS.iter().copied().chain(FILTER_KEYS_OF_SWARM).collect();
    filters.validate(&known)?;
    let listener = call.engine.events().listen(Query { since, until, filters });
    let format = format(&call);
    let state = (listener, call.shutdown.clone(), call.version, format.separated);
    Reply::stream(
        format.content_type,
        futures_util::stream::unfold(state, |(mut listener, shutdown, version, separated)| async move {
            let message = tokio::select! {
                message = heard(&mut listener) => message?,
                () = shutdown.cancelled() => return None,
            };
            let line = Reply::encode(&versions::convert(version, Resource::Event, &message));
            let line = if separated { [&[RECORD_SEPARATOR][..], &line].concat() } else { line };
            Some((Ok(Bytes::from(line)), (listener, shutdown, version, separated)))
        }),
    )
}

/// The next event; that some were lost is one too.
async fn heard(listener: &mut Listener) -> Option<Message> {
    Some(match listener.next().await? {
        Heard::Event(event) => event.message(),
        Heard::Lagged(lost) => {
            let now = api::timestamp::now();
            Message {
                kind: "daemon".to_owned(),
                action: "lag".to_owned(),
                actor: Actor {
                    id: String::new(),
                    attributes: BTreeMap::from([("lost".to_owned(), lost.to_string())]),
                },
                scope: "local".to_owned(),
                time: now / 1_000_000_000,
                time_nano: now,
            }
        }
    })
}
