//! What earlier builds have left: how clients ask for it, and are told.

use std::time::{Duration, SystemTime};

use bollard_buildkit_proto::moby::buildkit::v1::{PruneRequest, UsageRecord};

use crate::builder::{Cached, Prune};
use crate::error::{Error, Result};
use crate::status::timestamp;

/// What there is.
const KINDS: [&str; 2] = ["regular", "exec.cachemount"];

/// What a client asks for by filters: `id=…`, `type=regular|exec.cachemount`, in each of which all words of one text hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Filter {
    ids: Vec<String>,
    /// The kind that is wanted, if one is.
    kind: Option<String>,
}

impl Filter {
    fn read(filters: &[String]) -> Result<Self> {
        let mut filter = Self::default();
        for text in filters {
            match text.split_once('=').map(|(name, value)| (name.trim_end_matches('='), value)) {
                Some(("id", value)) => filter.ids.push(value.trim_start_matches('=').to_owned()),
                Some(("type", value)) => filter.kind = Some(value.trim_start_matches('=').to_owned()),
                _ => return Err(Error::Absent(format!("the filter {text:?} of the build cache"))),
            }
        }
        Ok(filter)
    }

    fn has(&self, cached: &Cached) -> bool {
        self.kind.as_deref().is_none_or(|kind| kind == cached.kind)
            && (self.ids.is_empty() || self.ids.iter().any(|id| cached.id.starts_with(id)))
    }
}

fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// What was not used for some time, of what filters say.
pub(crate) fn chosen(all: Vec<Cached>, filters: &[String], unused: i64) -> Result<Vec<UsageRecord>> {
    let (filter, unused) = (Filter::read(filters)?, duration(unused));
    let is_old = |cached: &Cached| {
        let age = cached.used.and_then(|used| SystemTime::now().duration_since(used).ok());
        unused.is_zero() || age.is_some_and(|age| age >= unused)
    };
    Ok(all.into_iter().filter(|cached| filter.has(cached) && is_old(cached)).map(record).collect())
}

/// What a client wants to be removed; nothing if nothing is meant.
pub(crate) fn prune(request: &PruneRequest) -> Result<Option<Prune>> {
    for (name, value) in
        [("max-used-space", request.max_used_space), ("min-free-space", request.min_free_space)]
    {
        if value > 0 {
            return Err(Error::Absent(format!("{name} of pruning")));
        }
    }
    let filter = Filter::read(&request.filter)?;
    let is_known = filter.kind.as_deref().is_none_or(|kind| KINDS.contains(&kind));
    Ok(is_known.then(|| Prune {
        all: request.all,
        keep_bytes: u64::try_from(request.reserved_space).unwrap_or(0),
        keep_for: duration(request.keep_duration),
        kind: filter.kind,
        ids: filter.ids,
    }))
}

/// An entry as clients are told of it.
pub(crate) fn record(cached: Cached) -> UsageRecord {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    UsageRecord {
        id: cached.id,
        size: number(cached.bytes),
        created_at: cached.created.map(timestamp),
        last_used_at: cached.used.map(timestamp),
        usage_count: number(cached.uses),
        description: cached.description,
        record_type: cached.kind.to_owned(),
        shared: cached.shared,
        ..UsageRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, age_s: u64) -> Cached {
        let used = SystemTime::now().checked_sub(Duration::from_secs(age_s));
        Cached { kind: "regular", id: id.to_owned(), bytes: 7, used, ..Cached::default() }
    }

    fn ids(filters: &[&str], unused_s: i64) -> Vec<String> {
        let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let all = vec![entry("abc", 0), entry("abd", 100), entry("x", 1000)];
        let chosen = chosen(all, &filters, unused_s * 1_000_000_000).unwrap();
        chosen.into_iter().map(|record| record.id).collect()
    }

    #[test]
    fn entries_are_chosen() {
        assert_eq!(ids(&[], 0), ["abc", "abd", "x"]);
        assert_eq!(ids(&["id=ab"], 0), ["abc", "abd"]);
        assert_eq!(ids(&["id==ab", "type==regular"], 50), ["abd"]);
        assert_eq!(ids(&["type=source.local"], 0), Vec::<String>::new());
        chosen(Vec::new(), &["shared".to_owned()], 0).unwrap_err();
    }

    #[test]
    fn what_is_to_be_removed_is_understood() {
        let request = PruneRequest {
            filter: vec!["id=a".to_owned()],
            keep_duration: 5_000_000_000,
            reserved_space: 9,
            ..PruneRequest::default()
        };
        let wanted = Prune {
            all: false,
            keep_bytes: 9,
            keep_for: Duration::from_secs(5),
            kind: None,
            ids: vec!["a".to_owned()],
        };
        assert_eq!(prune(&request).unwrap(), Some(wanted));
        let mounts =
            PruneRequest { filter: vec!["type=exec.cachemount".to_owned()], ..PruneRequest::default() };
        assert_eq!(prune(&mounts).unwrap().unwrap().kind.as_deref(), Some("exec.cachemount"));
        let none = PruneRequest { filter: vec!["type=frontend".to_owned()], ..PruneRequest::default() };
        assert_eq!(prune(&none).unwrap(), None);
        prune(&PruneRequest { min_free_space: 1, ..PruneRequest::default() }).unwrap_err();
    }
}
