//! Properties of a unit from annotations: `org.systemd.property.NAME`, whose values are written as GLib writes variants.

use crate::dbus::Value;
use crate::error::Error;

const PREFIX: &str = "org.systemd.property.";

/// How deep arrays may lie in each other: no property of systemd has more.
const DEPTH_MAX: usize = 8;

/// The properties that annotations ask for.
pub(super) fn properties<'a>(
    annotations: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Vec<(String, Value)>, Error> {
    let mut found: Vec<(String, Value)> = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let invalid = |what: &str| Error::Invalid(format!("annotation {key}: {what}: {text:?}"));
        if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Err(invalid("no name of a property"));
        }
        let value = parse(text).ok_or_else(|| invalid("no value that is understood"))?;
        found.push(match name.strip_suffix("Sec") {
            // Seconds, as unit files have them; on the bus they are microseconds.
            Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
                (format!("{stem}USec"), microseconds(&value).ok_or_else(|| invalid("no number of seconds"))?)
            }
            _ => (name.to_owned(), value),
        });
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn microseconds(value: &Value) -> Option<Value> {
    const IN_SECOND: u64 = 1_000_000;
    let whole = |seconds: u64| seconds.checked_mul(IN_SECOND);
    let micros = match value {
        Value::Byte(n) => whole((*n).into()),
        Value::I16(n) => whole(u64::try_from(*n).ok()?),
        Value::U16(n) => whole((*n).into()),
        Value::I32(n) => whole(u64::try_from(*n).ok()?),
        Value::U32(n) => whole((*n).into()),
        Value::I64(n) => whole(u64::try_from(*n).ok()?),
        Value::U64(n) => whole(*n),
        Value::F64(n) if *n >= 0.0 && n.is_finite() => Some((n * IN_SECOND as f64) as u64),
        _ => None,
    };
    micros.map(Value::U64)
}

/// The value that `text` stands for: `5`, `uint64 5`, `@t 5`, `'text'`, `true`, `['a', 'b']`, `[@t 1]`.
fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text.trim_start() };
    let value = parser.value(None, 0)?;
    parser.rest.is_empty().then_some(value)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip(&mut self, length: usize) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest.trim_start();
        Some(taken)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.rest.starts_with(wanted);
        if found {
            self.skip(wanted.len_utf8());
        }
        found
    }

    /// A value; its type, where one is given outside of it, is `kind`.
    fn value(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.rest.chars().next()? {
            '@' => {
                let end = self.rest.find(char::is_whitespace)?;
                let kind = self.skip(end)?.get(1..)?;
                self.value(Some(kind), depth + 1)
            }
            '[' => self.array(kind, depth),
            quote @ ('\'' | '"') => {
                let text = self.quoted(quote)?;
                match kind.unwrap_or("s") {
                    "s" => Some(Value::Text(text)),
                    "o" => Some(Value::Path(text)),
                    "g" => Some(Value::Signature(text)),
                    _ => None,
                }
            }
            _ => self.word(kind, depth),
        }
    }

    fn word(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        let end = self.rest.find(|c: char| c.is_whitespace() || ",]".contains(c)).unwrap_or(self.rest.len());
        let word = self.skip(end)?;
        let named = match word {
            "true" | "false" => return (kind.unwrap_or("b") == "b").then_some(Value::Bool(word == "true")),
            "boolean" => "b",
            "byte" => "y",
            "int16" => "n",
            "uint16" => "q",
            "int32" => "i",
            "uint32" => "u",
            "int64" => "x",
            "uint64" => "t",
            "double" => "d",
            "string" => "s",
            "objectpath" => "o",
            "signature" => "g",
            number => return parse_number(number, kind),
        };
        self.value(Some(named), depth + 1)
    }

    fn array(&mut self, kind: Option<&str>, depth: usize) -> Option<Value> {
        let mut element = match kind {
            Some(kind) => Some(kind.strip_prefix('a')?.to_owned()),
            None => None,
        };
        self.skip(1)?;
        let mut values = Vec::new();
        while !self.eat(']') {
            if !values.is_empty() && !self.eat(',') {
                return None;
            }
            let value = self.value(element.as_deref(), depth + 1)?;
            element.get_or_insert_with(|| value.signature());
            values.push(value);
        }
        let element = element?;
        values.iter().all(|value| value.signature() == element).then_some(Value::Array(element, values))
    }

    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut characters = self.rest.char_indices().skip(1);
        loop {
            match characters.next()? {
                (at, c) if c == quote => {
                    self.skip(at + 1);
                    return Some(text);
                }
                (_, '\\') => text.push(match characters.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    other @ ('\\' | '\'' | '"') => other,
                    _ => return None,
                }),
                (_, c) => text.push(c),
            }
        }
    }
}

fn parse_number(text: &str, kind: Option<&str>) -> Option<Value> {
    let kind = kind.unwrap_or(if text.contains(['.', 'e']) && !text.starts_with("0x") { "d" } else { "i" });
    let hexadecimal = text.strip_prefix("0x");
    macro_rules! integer {
        ($type:ty) => {
            match hexadecimal {
                Some(digits) => <$type>::from_str_radix(digits, 16).ok()?,
                None => text.parse::<$type>().ok()?,
            }
        };
    }
    Some(match kind {
        "y" => Value::Byte(integer!(u8)),
        "n" => Value::I16(integer!(i16)),
        "q" => Value::U16(integer!(u16)),
        "i" => Value::I32(integer!(i32)),
        "u" => Value::U32(integer!(u32)),
        "x" => Value::I64(integer!(i64)),
        "t" => Value::U64(integer!(u64)),
        "d" => Value::F64(text.parse().ok().filter(|n: &f64| n.is_finite())?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn values_are_those_of_glib() {
        let text = |t: &str| Value::Text(t.into());
        for (written, value) in [
            ("5", Value::I32(5)),
            ("-5", Value::I32(-5)),
            ("uint64 5", Value::U64(5)),
            ("@t 0x10", Value::U64(16)),
            ("byte 7", Value::Byte(7)),
            ("1.5", Value::F64(1.5)),
            ("true", Value::Bool(true)),
            ("'a b'", text("a b")),
            ("\"it\\'s\"", text("it's")),
            ("['a', 'b']", Value::Array("s".into(), vec![text("a"), text("b")])),
            ("[uint32 1, 2]", Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)])),
            ("@as []", Value::Array("s".into(), vec![])),
            (
                "[['a'], []]",
                Value::Array(
                    "as".into(),
                    vec![Value::Array("s".into(), vec![text("a")]), Value::Array("s".into(), vec![])],
                ),
            ),
            ("objectpath '/a'", Value::Path("/a".into())),
        ] {
            assert_eq!(parse(written), Some(value), "{written}");
        }
        for wrong in [
            "",
            "'",
            "'a",
            "[",
            "[1",
            "[1,]",
            "[]",
            "[1, 'a']",
            "1 2",
            "uint64 -1",
            "uint64",
            "x",
            "byte 256",
            "@t",
            "'a' b",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(parse(&"[".repeat(100)), None);
    }

    #[test]
    fn seconds_are_microseconds_on_the_bus() {
        let annotations: HashMap<String, String> = [
            ("org.systemd.property.TimeoutStopSec", "uint64 5"),
            ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
            ("org.systemd.property.RuntimeMaxSec", "1.5"),
            ("other", "x"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .into();
        let found = properties(annotations.iter()).unwrap();
        let expected = [
            ("CollectMode", Value::text("inactive-or-failed")),
            ("RuntimeMaxUSec", Value::U64(1_500_000)),
            ("TimeoutStopUSec", Value::U64(5_000_000)),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        for (key, value) in [
            ("org.systemd.property.A", "1"),
            ("org.systemd.property.A-B-C", "1"),
            ("org.systemd.property.Abc", "nonsense"),
        ] {
            let one: HashMap<_, _> = [(key.to_owned(), value.to_owned())].into();
            assert!(properties(one.iter()).unwrap_err().to_string().contains(key));
        }
    }
}
