//! The query of a request, read as Docker reads it.

use crate::failure::Failure;
use api::Filters;
use api::timestamp::{self, Nanoseconds};

/// Names and values in the order they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the text after the question mark.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(name, true)?, decode(value, true)?))
            })
            .collect::<Result<_, Failure>>()?;
        Ok(Self { pairs })
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// The first value of a name; empty where there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.optional(name).unwrap_or("")
    }

    /// The first value of a name.
    pub(crate) fn optional(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a name, if it is not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.optional(name).filter(|value| !value.is_empty())
    }

    /// A yes or no: everything is yes but nothing, `0`, `no`, `false` and `none`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let value = self.get(name).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// A number; `None` where there is no value.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.text(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    Failure::invalid(format!("invalid value for {name}: {value:?}: invalid syntax"))
                })
            })
            .transpose()
    }

    /// A point in time; `None` where there is no value.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Nanoseconds>, Failure> {
        timestamp::parse_query(self.get(name), timestamp::now())
            .map_err(|error| Failure::invalid(format!("invalid value for {name:?}: {error}")))
    }

    /// The filters.
    pub(crate) fn filters(&self) -> Result<Filters, Failure> {
        Ok(Filters::parse(self.get("filters"))?)
    }
}

/// Undoes percent-encoding; in a query a plus sign is a space.
pub(crate) fn decode(text: &str, plus: bool) -> Result<String, Failure> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let wrong = || Failure::invalid(format!("invalid URL escape in {text:?}"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit =
                    || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(wrong);
                let (high, low) = (digit()?, digit()?);
                (high << 4 | low) as u8
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read() {
        let query = Query::parse("a=1&b=x+y%2Bz&c&a=2&d=%E2%82%AC").unwrap();
        assert_eq!(query.get("a"), "1");
        assert_eq!(query.get("b"), "x y+z");
        assert_eq!(query.optional("c"), Some(""));
        assert_eq!(query.get("d"), "€");
        assert_eq!(query.optional("e"), None);
        assert_eq!(query.number::<u32>("a").unwrap(), Some(1));
        assert_eq!(query.number::<u32>("e").unwrap(), None);
        assert_eq!(query.number::<u32>("b").unwrap_err().status, 400);
        for wrong in ["a=%", "a=%1", "a=%zz", "a=%ff"] {
            assert_eq!(Query::parse(wrong).unwrap_err().status, 400, "{wrong}");
        }
    }

    #[test]
    fn most_things_mean_yes() {
        let query = Query::parse("a=1&b=True&c=yes&d=0&e=False&f=&g=NONE&h=no&i=banana").unwrap();
        for name in ["a", "b", "c", "i"] {
            assert!(query.flag(name), "{name}");
        }
        for name in ["d", "e", "f", "g", "h", "missing"] {
            assert!(!query.flag(name), "{name}");
        }
    }
}
