//! Listing containers: from memory, with Docker's filters.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use api::Filters;
use api::container::Summary;
use jiff::Timestamp;

use super::{Containers, ListOptions};
use crate::containers::record::Record;
use crate::containers::show::{self, Sizes};
use crate::containers::state::Phase;
use crate::context::Context;
use crate::networks::ports;
use crate::{Error, Result, blocking};

/// The filters there are.
const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "expose",
    "exited",
    "health",
    "id",
    "isolation",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: &[&str] = &["starting", "healthy", "unhealthy", "none"];

/// Filters that were checked, with what they refer to found.
struct Wanted<'a> {
    filters: &'a Filters,
    exited: Vec<i32>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    ancestors: Option<Vec<String>>,
    expose: Vec<Ports>,
    publish: Vec<Ports>,
}

/// Ports of one protocol.
struct Ports {
    range: RangeInclusive<u16>,
    protocol: String,
}

impl Ports {
    /// Reads `port[-port][/protocol]`, with Docker's words for what is none.
    fn parse(key: &str, text: &str) -> Result<Self> {
        if text.contains(':') {
            return Err(Error::invalid(format!("filter for '{key}' should not contain ':': {text}")));
        }
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| {
            text.parse::<u16>().map_err(|_| {
                let why = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
                Error::invalid(format!("error while looking up for {key} {text}: {why}"))
            })
        };
        Ok(Self { range: number(first)?..=number(last)?, protocol: protocol.to_ascii_lowercase() })
    }

    fn all(key: &str, filters: &Filters) -> Result<Vec<Self>> {
        filters.get(key).map(|text| Self::parse(key, text)).collect()
    }

    fn has(&self, number: &str, protocol: &str) -> bool {
        protocol == self.protocol && number.parse().is_ok_and(|number: u16| self.range.contains(&number))
    }

    /// Whether it is one of these that a key (`port/protocol`) names.
    fn has_key(&self, key: &str) -> bool {
        let (number, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        self.has(number, protocol)
    }
}

impl Containers {
    /// Lists them, newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        let filters = &options.filters;
        let wanted = self.wanted(filters).await?;
        // A status that is asked for is shown whether it runs or not.
        let all = options.all
            || options.limit.is_some()
            || ["status", "exited", "before", "since"].iter().any(|key| filters.contains(key));
        let mut records: Vec<Arc<Record>> = self
            .context
            .index
            .all()
            .iter()
            .map(|handle| handle.record())
            .filter(|record| all || record.life.pid().is_some() || record.life.phase == Phase::Restarting)
            .filter(|record| wanted.takes(record))
            .collect();
        records.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        if let Some(limit) = options.limit.filter(|limit| *limit > 0) {
            records.truncate(limit);
        }
        let named = self.images_by_name(&records).await?;
        let now = Timestamp::now();
        let mut summaries = Vec::with_capacity(records.len());
        for record in records {
            let sizes = if options.size { Some(sizes(&self.context, &record).await?) } else { None };
            let mut summary = show::summary(&record, now, sizes);
            // A name that means another image now, or none, would mislead.
            if named.get(&record.image.name).is_some_and(|id| *id != record.image.id) {
                summary.image.clone_from(&record.image.id);
            }
            summaries.push(summary);
        }
        Ok(summaries)
    }

    /// The images that the names mean now by which these containers were made; empty where a name means none. An image's id
    /// always means that image, and is left out.
    async fn images_by_name(&self, records: &[Arc<Record>]) -> Result<HashMap<String, String>> {
        let names: HashSet<String> = records.iter().map(|record| record.image.name.clone()).collect();
        let names: Vec<(String, String)> = names
            .into_iter()
            .filter_map(|name| match oci::AnyReference::parse(&name) {
                Ok(oci::AnyReference::Named(reference)) => Some((name, reference.or_latest().to_string())),
                _ => None,
            })
            .collect();
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let store = self.context.store.clone();
        blocking::run("find images by name", move || {
            Ok(store.transaction(|tx| {
                let mut found = HashMap::with_capacity(names.len());
                for (name, canonical) in &names {
                    let id = match tx.image_id_by_name(canonical)? {
                        Some(id) => id.to_string(),
                        // The beginning of an id looks like a name.
                        None => match tx.image_by_prefix(name) {
                            Ok(Some(image)) => image.id().to_string(),
                            _ => String::new(),
                        },
                    };
                    found.insert(name.clone(), id);
                }
                Ok(found)
            })?)
        })
        .await
    }

    async fn wanted<'a>(&self, filters: &'a Filters) -> Result<Wanted<'a>> {
        let invalid = |e: api::Error| Error::invalid(e.to_string());
        filters.validate(FILTERS).map_err(invalid)?;
        let known = |key: &str, values: &[&str]| match filters.get(key).find(|v| !values.contains(v)) {
            Some(wrong) => Err(Error::invalid(format!("invalid filter '{key}={wrong}'"))),
            None => Ok(()),
        };
        known("status", STATUSES)?;
        known("health", HEALTHS)?;
        filters.flag("is-task").map_err(invalid)?;
        let exited = filters
            .get("exited")
            .map(|text| {
                text.parse::<i32>().map_err(|_| Error::invalid(format!("invalid filter 'exited={text}'")))
            })
            .collect::<Result<_>>()?;
        let created = |key: &str| -> Result<Option<Timestamp>> {
            filters
                .get(key)
                .map(|name| Ok(self.context.index.find(name)?.record().created))
                .reduce(|a, b| Ok(if key == "before" { a?.min(b?) } else { a?.max(b?) }))
                .transpose()
        };
        Ok(Wanted {
            filters,
            exited,
            before: created("before")?,
            since: created("since")?,
            ancestors: self.ancestors(filters).await?,
            expose: Ports::all("expose", filters)?,
            publish: Ports::all("publish", filters)?,
        })
    }

    /// The ids of the images that `ancestor` names; one that is not there fits nothing.
    async fn ancestors(&self, filters: &Filters) -> Result<Option<Vec<String>>> {
        if !filters.contains("ancestor") {
            return Ok(None);
        }
        let names: Vec<String> = filters.get("ancestor").map(str::to_owned).collect();
        let store = self.context.store.clone();
        let ids = blocking::run("find images", move || {
            Ok(names
                .iter()
                .filter_map(|name| crate::images::find::find(&store, name).ok())
                .map(|found| found.image.id().to_string())
                .collect())
        });
        ids.await.map(Some)
    }
}

impl Wanted<'_> {
    fn takes(&self, record: &Record) -> bool {
        let life = &record.life;
        let f = self.filters;
        let any = |key: &str, test: &dyn Fn(&str) -> bool| !f.contains(key) || f.get(key).any(test);
        any("id", &|v| record.id.starts_with(v))
            && any("name", &|v| name_fits(&record.name, v))
            && any("status", &|v| v == life.status())
            && (self.exited.is_empty()
                || (life.phase == Phase::Exited && self.exited.contains(&life.exit_code)))
            && self.before.is_none_or(|at| record.created < at)
            && self.since.is_none_or(|at| record.created > at)
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&record.image.id))
            && f.matches_pairs("label", &record.config.labels)
            && any("network", &|v| {
                v == record.host.network_mode
                    || crate::networks::plain_id(&record.host.network_mode).is_some_and(|id| id == v)
                    || record.attachments.iter().any(|a| a.name == v || a.network == v)
            })
            && any("volume", &|v| {
                record
                    .mounts
                    .iter()
                    .any(|m| m.point.name == v || m.point.destination == v || m.point.source == v)
            })
            && (self.expose.is_empty() || self.exposes(record))
            && (self.publish.is_empty() || self.publishes(record))
            && any("health", &|v| v == show::health_word(record))
            && any("is-task", &|v| matches!(v, "false" | "0"))
            && any("isolation", &|v| v == record.host.isolation)
    }
}

impl Wanted<'_> {
    fn exposes(&self, record: &Record) -> bool {
        record.config.exposed_ports.keys().any(|key| self.expose.iter().any(|ports| ports.has_key(key)))
    }

    fn publishes(&self, record: &Record) -> bool {
        let map = ports::map(&record.config, &record.places.published);
        map.iter().any(|(key, bindings)| {
            let protocol = key.split_once('/').map_or("tcp", |(_, protocol)| protocol);
            let fits = |number: &str| self.publish.iter().any(|ports| ports.has(number, protocol));
            bindings.iter().flatten().any(|binding| fits(&binding.host_port))
        })
    }
}

/// Docker takes a regular expression over the name with its slash. What people use of that is understood: plain parts, and
/// the anchors `^` and `$`, with an optional slash.
fn name_fits(name: &str, pattern: &str) -> bool {
    let (begins, rest) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (ends, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match (begins, ends) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

/// How much a container has written: this walks over its files.
pub(crate) async fn sizes(context: &Arc<Context>, record: &Arc<Record>) -> Result<Sizes> {
    let (context, record) = (Arc::clone(context), Arc::clone(record));
    blocking::run("measure a container", move || {
        let rw = context.store.snapshot_usage(&record.id)?.bytes;
        let image = oci::Digest::parse(&record.image.id)
            .ok()
            .and_then(|id| context.store.transaction(|tx| tx.image(&id)).ok().flatten())
            .map_or(0, |image| image.unpacked_bytes);
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(Sizes { rw: number(rw), root_fs: number(rw.saturating_add(image)) })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::tests::record;

    fn takes(change: impl FnOnce(&mut Record), key: &str, value: &str) -> bool {
        let mut record = record();
        change(&mut record);
        let mut filters = Filters::new();
        filters.add(key, value);
        let exited = if key == "exited" { vec![value.parse().unwrap()] } else { Vec::new() };
        let ports = |key| Ports::all(key, &filters).unwrap();
        let (expose, publish) = (ports("expose"), ports("publish"));
        let wanted =
            Wanted { filters: &filters, exited, before: None, since: None, ancestors: None, expose, publish };
        wanted.takes(&record)
    }

    #[test]
    fn filters_choose_as_dockers_do() {
        assert!(
            takes(|_| {}, "name", "we") && takes(|_| {}, "name", "^/web$") && !takes(|_| {}, "name", "^eb")
        );
        assert!(takes(|_| {}, "id", "0123") && !takes(|_| {}, "id", "123"));
        assert!(takes(|_| {}, "status", "created") && !takes(|_| {}, "status", "exited"));
        assert!(takes(|_| {}, "network", "none") && !takes(|_| {}, "network", "host"));
        let ended = |r: &mut Record| {
            r.life.phase = Phase::Exited;
            r.life.exit_code = 3;
        };
        assert!(takes(ended, "exited", "3") && !takes(ended, "exited", "0") && !takes(|_| {}, "exited", "0"));
        let labelled = |r: &mut Record| drop(r.config.labels.insert("a".into(), "1".into()));
        assert!(takes(labelled, "label", "a=1") && !takes(labelled, "label", "a=2"));
        assert!(takes(|_| {}, "health", "none") && !takes(|_| {}, "publish", "80"));
    }
}
