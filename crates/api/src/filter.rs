//! The `filters` query.

use crate::Error;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Filters by name, each with the values of which one must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, BTreeSet<String>>,
}

/// What a filter's `true`, `1`, `false`, `0` say.
const TRUE: [&str; 2] = ["1", "true"];
const FALSE: [&str; 2] = ["0", "false"];

impl Filters {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the query's JSON: `{"name":{"value":true}}`, or `{"name":["value"]}` as old clients send it.
    pub fn parse(json: &str) -> Result<Self, Error> {
        if json.trim().is_empty() {
            return Ok(Self::default());
        }
        let top = match serde_json::from_str(json) {
            Ok(Value::Object(top)) => top,
            Ok(Value::Null) => return Ok(Self::default()),
            _ => return Err(Error::FilterSyntax),
        };
        let mut filters = Self::default();
        for (name, values) in top {
            let values = match values {
                Value::Object(values) => values
                    .into_iter()
                    .map(|(value, on)| on.as_bool().map(|_| value).ok_or(Error::FilterSyntax))
                    .collect::<Result<_, _>>()?,
                Value::Array(values) => values
                    .into_iter()
                    .map(|value| match value {
                        Value::String(value) => Ok(value),
                        _ => Err(Error::FilterSyntax),
                    })
                    .collect::<Result<_, _>>()?,
                Value::Null => BTreeSet::new(),
                _ => return Err(Error::FilterSyntax),
            };
            filters.fields.insert(name, values);
        }
        Ok(filters)
    }

    /// The query's JSON in the form of newer versions.
    pub fn to_json(&self) -> String {
        let top: serde_json::Map<String, Value> = self
            .fields
            .iter()
            .map(|(name, values)| {
                let values = values.iter().map(|value| (value.clone(), Value::Bool(true))).collect();
                (name.clone(), Value::Object(values))
            })
            .collect();
        Value::Object(top).to_string()
    }

    /// Adds a value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.entry(name.into()).or_default().insert(value.into());
    }

    /// Takes all values of a filter away.
    pub fn remove(&mut self, name: &str) {
        self.fields.remove(name);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether this filter is there.
    pub fn contains(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The values of a filter.
    pub fn get(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The names there are.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Refuses the filters that a list does not have.
    pub fn validate(&self, known: &[&str]) -> Result<(), Error> {
        match self.names().find(|name| !known.contains(name)) {
            Some(name) => Err(Error::UnknownFilter(name.to_owned())),
            None => Ok(()),
        }
    }

    /// Whether `value` is one of a filter's values, or the filter is not there.
    pub fn matches(&self, name: &str, value: &str) -> bool {
        match self.fields.get(name) {
            None => true,
            Some(values) => values.is_empty() || values.contains(value),
        }
    }

    /// Whether labels (or other pairs) satisfy every `key` and `key=value` of a filter.
    pub fn matches_pairs(&self, name: &str, pairs: &BTreeMap<String, String>) -> bool {
        self.get(name).all(|wanted| match wanted.split_once('=') {
            None => pairs.contains_key(wanted),
            Some((key, value)) => pairs.get(key).is_some_and(|found| found == value),
        })
    }

    /// A filter that says yes or no; `None` where it is not there.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Error> {
        let Some(values) = self.fields.get(name) else { return Ok(None) };
        // As Go prints a list.
        let wrong = || {
            let words: Vec<&str> = values.iter().map(String::as_str).collect();
            Error::FilterValue { name: name.to_owned(), value: format!("[{}]", words.join(" ")) }
        };
        if values.is_empty() {
            return Err(wrong());
        }
        let all = |words: &[&str]| values.iter().all(|value| words.contains(&value.as_str()));
        if all(&TRUE) {
            Ok(Some(true))
        } else if all(&FALSE) {
            Ok(Some(false))
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let new = Filters::parse(r#"{"label":{"a=b":true,"c":true},"status":{"exited":true}}"#).unwrap();
        let old = Filters::parse(r#"{"label":["a=b","c"],"status":["exited"]}"#).unwrap();
        assert_eq!(new, old);
        assert_eq!(Filters::parse(&new.to_json()).unwrap(), new);
        assert_eq!(new.get("label").collect::<Vec<_>>(), ["a=b", "c"]);
    }

    #[test]
    fn nothing_is_no_filter() {
        for json in ["", "  ", "{}", "null"] {
            assert!(Filters::parse(json).unwrap().is_empty());
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for json in ["x", "[]", "1", r#"{"a":1}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#, r#"{"a":"b"}"#] {
            assert_eq!(Filters::parse(json), Err(Error::FilterSyntax), "{json}");
        }
        let filters = Filters::parse(r#"{"colour":["red"]}"#).unwrap();
        assert_eq!(filters.validate(&["label"]).unwrap_err().to_string(), "invalid filter 'colour'");
    }

    #[test]
    fn labels_must_all_match() {
        let pairs = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]);
        let matches = |json: &str| Filters::parse(json).unwrap().matches_pairs("label", &pairs);
        assert!(matches("{}"));
        assert!(matches(r#"{"label":["a","b"]}"#));
        assert!(matches(r#"{"label":["a=1","b="]}"#));
        assert!(!matches(r#"{"label":["a=1","c"]}"#));
        assert!(!matches(r#"{"label":["a=2"]}"#));
    }

    #[test]
    fn flags_say_yes_or_no() {
        let flag = |json: &str| Filters::parse(json).unwrap().flag("dangling");
        assert_eq!(flag("{}"), Ok(None));
        assert_eq!(flag(r#"{"dangling":["1"]}"#), Ok(Some(true)));
        assert_eq!(flag(r#"{"dangling":{"false":true}}"#), Ok(Some(false)));
        assert!(flag(r#"{"dangling":["maybe"]}"#).is_err());
        assert!(flag(r#"{"dangling":["true","false"]}"#).is_err());
    }
}
