//! Which builds are meant: `status==completed,ref~=abc`, `startedAt>24h`. What is between commas holds at once, of several filters one is enough.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::BuildHistoryRecord;
use build::remote::Remote;

use crate::error::{Error, Result};
use crate::filter::{self, FILTERS_MAX, Test};

/// What a word is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Status,
    Repository,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Started,
    Completed,
    Took,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Least,
    Most,
    More,
    Less,
}

#[derive(Debug)]
enum Word {
    Field(Field, Test),
    /// Seconds since 1970 for a moment, nanoseconds for how long it took.
    Time(Moment, Order, i128),
}

/// The filters of a call.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<Vec<Word>>);

fn refuse(word: &str, why: &str) -> Error {
    Error::Invalid(format!("failed to parse history filters {word:?}: {why}"))
}

impl Filters {
    /// Reads them.
    ///
    /// # Errors
    /// One of them is wrong.
    pub(super) fn read(texts: &[String]) -> Result<Self> {
        if texts.len() > FILTERS_MAX {
            return Err(Error::Invalid(format!("a history is filtered by {FILTERS_MAX} filters at most")));
        }
        texts
            .iter()
            .map(|text| {
                let words = filter::words(text).map_err(|why| refuse(text, why))?;
                words.iter().map(|text| word(text)).collect()
            })
            .collect::<Result<_>>()
            .map(Self)
    }

    /// Whether they take a build.
    pub(super) fn take(&self, record: &BuildHistoryRecord) -> bool {
        self.0.is_empty() || self.0.iter().any(|words| words.iter().all(|word| word.takes(record)))
    }
}

fn word(text: &str) -> Result<Word> {
    // Of those that begin alike the longer one first.
    let orders = [(">=", Order::Least), ("<=", Order::Most), (">", Order::More), ("<", Order::Less)];
    for (sign, order) in orders {
        let Some((key, value)) = text.split_once(sign) else { continue };
        let moment = match key {
            "startedAt" => Moment::Started,
            "completedAt" => Moment::Completed,
            "duration" => Moment::Took,
            _ => return Err(refuse(text, "only startedAt, completedAt and duration have an order")),
        };
        return Ok(Word::Time(
            moment,
            order,
            time(moment, value).ok_or_else(|| refuse(text, "invalid time"))?,
        ));
    }
    let (key, test) = filter::test(text).map_err(|why| refuse(text, why))?;
    let field = match key {
        "ref" => Field::Name,
        "status" => Field::Status,
        "repository" => Field::Repository,
        _ => return Err(refuse(text, "there are ref, status and repository")),
    };
    Ok(Word::Field(field, test))
}

/// A time, or how long ago it was.
fn time(moment: Moment, text: &str) -> Option<i128> {
    let duration = duration(text);
    if moment == Moment::Took {
        return duration.map(|duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX));
    }
    if let Some(duration) = duration {
        let at = SystemTime::now().checked_sub(duration)?;
        return at.duration_since(UNIX_EPOCH).ok().map(|since| i128::from(since.as_secs()));
    }
    text.parse::<jiff::Timestamp>().ok().map(|at| i128::from(at.as_second()))
}

/// A duration as Go writes it: `1h30m`, `1.5s`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
    }
    Some(total).filter(|_| !text.is_empty())
}

fn nanoseconds(at: &Timestamp) -> i128 {
    i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos)
}

/// How a build stands.
fn status(record: &BuildHistoryRecord) -> &'static str {
    match (&record.completed_at, &record.error) {
        (None, _) => "running",
        (Some(_), None) => "completed",
        (Some(_), Some(error)) if error.message.contains("context canceled") => "canceled",
        (Some(_), Some(_)) => "error",
    }
}

fn value(record: &BuildHistoryRecord, field: Field) -> Option<String> {
    match field {
        Field::Name => Some(record.r#ref.clone()),
        Field::Status => Some(status(record).to_owned()),
        Field::Repository => {
            let attribute = |name: &str| record.frontend_attrs.get(name);
            match (attribute("vcs:source"), attribute("context")) {
                (Some(source), _) => Some(source.clone()),
                (None, Some(context)) => match Remote::parse_context(context) {
                    Ok(Some(Remote::Git(git))) => Some(git.url),
                    _ => None,
                },
                (None, None) => None,
            }
        }
    }
}

impl Word {
    fn takes(&self, record: &BuildHistoryRecord) -> bool {
        match self {
            Self::Field(field, test) => test.holds(value(record, *field).as_deref()),
            Self::Time(moment, order, wanted) => {
                let seconds = |at: &Option<Timestamp>| at.as_ref().map_or(0, |at| i128::from(at.seconds));
                let have = match moment {
                    Moment::Started => seconds(&record.created_at),
                    Moment::Completed => seconds(&record.completed_at),
                    Moment::Took => match (&record.created_at, &record.completed_at) {
                        (Some(from), Some(to)) => nanoseconds(to) - nanoseconds(from),
                        _ => 0,
                    },
                };
                match order {
                    Order::Least => have >= *wanted,
                    Order::Most => have <= *wanted,
                    Order::More => have > *wanted,
                    Order::Less => have < *wanted,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn record() -> BuildHistoryRecord {
        let context = ("context".to_owned(), "https://example.com/team/x.git#v1".to_owned());
        BuildHistoryRecord {
            r#ref: "abcdef".into(),
            frontend_attrs: HashMap::from([context]),
            created_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            completed_at: Some(Timestamp { seconds: 1_700_000_060, nanos: 500_000_000 }),
            ..BuildHistoryRecord::default()
        }
    }

    fn takes(texts: &[&str]) -> bool {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        Filters::read(&texts).unwrap().take(&record())
    }

    #[test]
    fn builds_are_chosen() {
        for text in [
            "ref==abcdef",
            "ref~=bcd",
            "status==completed,ref~=abc",
            "status!=error",
            "repository~=example.com/team",
            "repository==https://example.com/team/x.git",
            "duration>=1m,duration<61s",
            "startedAt<24h",
            "startedAt>=2023-11-14T22:13:20Z",
            "\"ref==abcdef\"",
            "ref",
        ] {
            assert!(takes(&[text]), "{text}");
            assert!(takes(&["status==running", text]), "one is enough: {text}");
        }
        for text in ["ref==abc", "status==error", "ref~=abc,status==error", "startedAt>1h", "duration>2m"] {
            assert!(!takes(&[text]), "{text}");
        }
        assert!(takes(&[]));
        assert_eq!(duration("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(duration("1.5s"), Some(Duration::from_millis(1500)));
        for text in ["", "1", "h", "1x", "1..2s", "-1s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for text in ["other==x", "ref~=(", "startedAt>yesterday", "status>1h", "\"ref==x", ""] {
            assert!(Filters::read(&[text.to_owned()]).is_err(), "{text}");
        }
        assert!(Filters::read(&vec!["ref".to_owned(); FILTERS_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_filter_is_too_strange(text in "[a-zA-Z0-9=!~<>,.\"()*]{0,40}") {
            if let Ok(filters) = Filters::read(&[text]) {
                filters.take(&record());
            }
        }
    }
}
