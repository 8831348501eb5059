//! What earlier builds have left: how clients ask for it, and are told.

use std::time::{Duration, SystemTime};

use bollard_buildkit_proto::moby::buildkit::v1::{PruneRequest, UsageRecord};

use crate::builder::{Cached, Prune};
use crate::error::{Error, Result};
use crate::filter::{self, FILTERS_MAX, Test};
use crate::status::timestamp;

/// What is made anew in one place, and what is kept for steps to write to.
const MOUNT: &str = "exec.cachemount";

/// What a word is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Kind,
    Description,
    InUse,
    Mutable,
    Immutable,
    Shared,
    Private,
}

const FIELDS: [(&str, Field); 8] = [
    ("id", Field::Id),
    ("type", Field::Kind),
    ("description", Field::Description),
    ("inuse", Field::InUse),
    ("mutable", Field::Mutable),
    ("immutable", Field::Immutable),
    ("shared", Field::Shared),
    ("private", Field::Private),
];

/// Which entries of the build cache are meant: by BuildKit's filters, or by `key=value` as people write it.
#[derive(Debug, Default)]
pub struct Selection(Vec<Vec<(Field, Test)>>);

impl Selection {
    /// Reads filters.
    ///
    /// # Errors
    /// One of them is wrong, or about something that entries do not have.
    pub fn read(texts: &[String]) -> Result<Self> {
        if texts.len() > FILTERS_MAX {
            return Err(Error::Invalid(format!(
                "the build cache is filtered by {FILTERS_MAX} filters at most"
            )));
        }
        let one = |text: &String| {
            let words = filter::words(text).map_err(|why| refuse(text, why))?;
            words.iter().map(|text| word(text)).collect()
        };
        // Clients that have nothing to say say so.
        texts.iter().filter(|text| !text.is_empty()).map(one).collect::<Result<_>>().map(Self)
    }

    /// Of values as Docker's API has them: all have to hold at once, of several ids one.
    ///
    /// # Errors
    /// One of them is wrong.
    pub fn of(fields: &[(&str, Vec<&str>)]) -> Result<Self> {
        let one = |(key, values): &(&str, Vec<&str>)| match (*key, values.as_slice()) {
            (key, []) => Ok(key.to_owned()),
            ("id", several) => Ok(filter::quoted(&format!("id~={}", several.join("|")))),
            (key, [value]) => Ok(filter::quoted(&format!("{key}=={value}"))),
            _ => Err(Error::Invalid("filters expect only one value".to_owned())),
        };
        let words: Vec<String> = fields.iter().map(one).collect::<Result<_>>()?;
        Self::read(&[words.join(",")])
    }

    /// Whether it takes all there is.
    pub fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it takes an entry.
    pub fn takes(&self, cached: &Cached) -> bool {
        let holds = |(field, test): &(Field, Test)| field.holds(test, cached);
        self.is_all() || self.0.iter().any(|words| words.iter().all(holds))
    }
}

fn refuse(word: &str, why: &str) -> Error {
    Error::Invalid(format!("failed to parse filters {word:?} of the build cache: {why}"))
}

fn word(text: &str) -> Result<(Field, Test)> {
    let (mut key, mut test) = filter::test(text).map_err(|why| refuse(text, why))?;
    if let (Test::There, Some((name, value))) = (&test, key.split_once('=')) {
        // Ids are long, and told by their first letters.
        test = match name {
            "id" => Test::Matches(
                filter::pattern(&format!("^{}", regex::escape(value))).map_err(|why| refuse(text, why))?,
            ),
            _ => Test::Is(value.to_owned()),
        };
        key = name;
    }
    let field = FIELDS.iter().find(|(name, _)| *name == key).map(|(_, field)| *field);
    let field = field.ok_or_else(|| Error::Absent(format!("the filter {text:?} of the build cache")))?;
    if let (Test::Is(value) | Test::IsNot(value), true) = (&test, field.is_flag()) {
        let is_true = flag(value).ok_or_else(|| refuse(text, "it is true or false"))?.to_string();
        test = if matches!(test, Test::Is(_)) { Test::Is(is_true) } else { Test::IsNot(is_true) };
    }
    Ok((field, test))
}

/// Who names what is or is not, without a value, means that it is.
fn flag(value: &str) -> Option<bool> {
    match value {
        "" | "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

impl Field {
    fn is_flag(self) -> bool {
        !matches!(self, Self::Id | Self::Kind | Self::Description)
    }

    fn holds(self, test: &Test, cached: &Cached) -> bool {
        let is = match self {
            Self::Id => return test.holds(Some(&cached.id)),
            Self::Kind => return test.holds(Some(cached.kind)),
            Self::Description => {
                return test.holds(Some(cached.description.as_str()).filter(|text| !text.is_empty()));
            }
            Self::InUse => cached.in_use,
            Self::Mutable => cached.kind == MOUNT,
            Self::Immutable => cached.kind != MOUNT,
            Self::Shared => cached.shared,
            Self::Private => !cached.shared,
        };
        match test {
            Test::There => is,
            test => test.holds(Some(if is { "true" } else { "false" })),
        }
    }
}

fn duration(nanoseconds: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0))
}

/// What was not used for some time, of what filters say.
pub(crate) fn chosen(all: Vec<Cached>, filters: &[String], unused: i64) -> Result<Vec<UsageRecord>> {
    let (selection, unused) = (Selection::read(filters)?, duration(unused));
    let is_old = |cached: &Cached| {
        let age = cached.used.and_then(|used| SystemTime::now().duration_since(used).ok());
        unused.is_zero() || age.is_some_and(|age| age >= unused)
    };
    Ok(all.into_iter().filter(|cached| selection.takes(cached) && is_old(cached)).map(record).collect())
}

/// What a client wants to be removed, and of which entries.
pub(crate) fn prune(request: &PruneRequest) -> Result<(Prune, Selection)> {
    for (name, value) in
        [("max-used-space", request.max_used_space), ("min-free-space", request.min_free_space)]
    {
        if value > 0 {
            return Err(Error::Absent(format!("{name} of pruning")));
        }
    }
    let prune = Prune {
        all: request.all,
        keep_bytes: u64::try_from(request.reserved_space).unwrap_or(0),
        keep_for: duration(request.keep_duration),
        only: None,
    };
    Ok((prune, Selection::read(&request.filter)?))
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
        in_use: cached.in_use,
        mutable: cached.kind == MOUNT,
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
        assert_eq!(ids(&["id=ab,type==regular"], 50), ["abd"]);
        assert_eq!(ids(&["id==ab"], 0), Vec::<String>::new());
        assert_eq!(ids(&["id==x", "id~=b[c]"], 0), ["abc", "x"]);
        assert_eq!(ids(&["type=source.local"], 0), Vec::<String>::new());
        assert_eq!(ids(&["type!=source.local", ""], 0), ["abc", "abd", "x"]);
        for text in ["colour=red", "parent==x", "shared==maybe", "id~=(", "\"id"] {
            chosen(Vec::new(), &[text.to_owned()], 0).unwrap_err();
        }
    }

    #[test]
    fn entries_are_what_filters_say() {
        let step = Cached { description: "RUN make, and more".to_owned(), shared: true, ..entry("a", 0) };
        let mount = Cached { kind: MOUNT, in_use: true, ..entry("b", 0) };
        for (text, of_step, of_mount) in [
            ("type==exec.cachemount", false, true),
            ("type!=exec.cachemount", true, false),
            ("description~=make", true, false),
            ("\"description==RUN make, and more\"", true, false),
            ("description", true, false),
            ("shared", true, false),
            ("shared!=true", false, true),
            ("shared==false", false, true),
            ("private=1", false, true),
            ("inuse", false, true),
            ("inuse==", false, true),
            ("mutable", false, true),
            ("immutable,shared", true, false),
            ("shared,private", false, false),
        ] {
            let selection = Selection::read(&[text.to_owned()]).unwrap();
            assert_eq!((selection.takes(&step), selection.takes(&mount)), (of_step, of_mount), "{text}");
        }
        let of = |fields: &[(&str, Vec<&str>)]| {
            Selection::of(fields).map(|one| (one.takes(&step), one.takes(&mount)))
        };
        assert_eq!(of(&[]).unwrap(), (true, true));
        assert_eq!(of(&[("id", vec!["a", "b"]), ("shared", vec![])]).unwrap(), (true, false));
        assert_eq!(of(&[("description", vec!["RUN make, and more"])]).unwrap(), (true, false));
        of(&[("type", vec!["a", "b"])]).unwrap_err();
    }

    #[test]
    fn what_is_to_be_removed_is_understood() {
        let request = PruneRequest {
            filter: vec!["id=a".to_owned()],
            keep_duration: 5_000_000_000,
            reserved_space: 9,
            ..PruneRequest::default()
        };
        let wanted = Prune { all: false, keep_bytes: 9, keep_for: Duration::from_secs(5), only: None };
        let (read, selection) = prune(&request).unwrap();
        assert!(read == wanted && selection.takes(&entry("abc", 0)) && !selection.takes(&entry("b", 0)));
        prune(&PruneRequest { min_free_space: 1, ..PruneRequest::default() }).unwrap_err();
    }
}
