//! A description as it is written: JSON, or YAML without its references, each of which could stand for a thousand others.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// How deep lists and maps may lie in each other: descriptions have five levels.
const DEPTH_MAX: usize = 32;
/// How many values a description may have.
const VALUES_MAX: usize = 200_000;

/// Reads either.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    if text.trim_start().starts_with('{')
        && let Ok(value) = serde_json::from_str(text)
    {
        return Ok(value);
    }
    yaml(text)
}

/// A list or map that is not complete.
enum Open {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<String>),
}

fn yaml(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut root: Option<Value> = None;
    let mut values = 0;
    while let Some(event) = parser.next_event() {
        let (event, _) = event.map_err(|error| error.to_string())?;
        let complete = match event {
            Event::Alias(_) => return Err("references (*name) are not read".to_owned()),
            Event::Scalar(text, style, _, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if plain { scalar(&text) } else { Value::String(text.into_owned()) }
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                deep(&open)?;
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Map::new(), None));
                deep(&open)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Map(map, _)) => Value::Object(map),
                None => return Err("a list or map ends that has not begun".to_owned()),
            },
            Event::DocumentStart(_) if root.is_some() => return Err("more than one document".to_owned()),
            _ => continue,
        };
        values += 1;
        if values > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        match open.last_mut() {
            None => root = Some(complete),
            Some(Open::List(list)) => list.push(complete),
            Some(Open::Map(map, key)) => put(map, key, complete)?,
        }
    }
    root.ok_or_else(|| "empty".to_owned())
}

fn deep(open: &[Open]) -> Result<(), String> {
    if open.len() > DEPTH_MAX { Err(format!("deeper than {DEPTH_MAX} levels")) } else { Ok(()) }
}

/// Of two scalars in a map the first is a key, and the second its value.
fn put(map: &mut Map<String, Value>, key: &mut Option<String>, value: Value) -> Result<(), String> {
    match key.take() {
        Some(name) => {
            if map.contains_key(&name) {
                return Err(format!("{name} is said twice"));
            }
            map.insert(name, value);
        }
        None => {
            *key = Some(match value {
                Value::String(text) => text,
                Value::Array(_) | Value::Object(_) => return Err("a key is a list or a map".to_owned()),
                other => other.to_string(),
            });
        }
    }
    Ok(())
}

/// What stands there without quotes: nothing, a truth, a whole number, or text. Modes of files are written as in C.
fn scalar(text: &str) -> Value {
    let octal = |digits: &str| i64::from_str_radix(digits, 8).ok();
    let number = match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ if text.starts_with("0o") => octal(&text[2..]),
        _ if text.starts_with("0x") => i64::from_str_radix(&text[2..], 16).ok(),
        _ if text.len() > 1 && text.starts_with('0') => octal(&text[1..]),
        _ if text.starts_with('+') => None,
        _ => text.parse().ok(),
    };
    number.map_or_else(|| Value::String(text.to_owned()), |number| Value::Number(Number::from(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_forms_are_read() {
        let yaml = "---\n# note\nkind: \"a/b\"\nlist:\n- name: 0\n  mode: 0660\n  text: '0660'\n- {x: [1, yes, ~, true]}\n";
        let want = json!({
            "kind": "a/b",
            "list": [{"name": 0, "mode": 0o660, "text": "0660"}, {"x": [1, "yes", null, true]}],
        });
        assert_eq!(parse(yaml.as_bytes()).unwrap(), want);
        assert_eq!(parse(want.to_string().as_bytes()).unwrap(), want);
    }

    #[test]
    fn what_grows_is_refused() {
        let text = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(text(b"a: &x [1]\nb: *x\n"), "references (*name) are not read");
        assert!(text("[".repeat(100).as_bytes()).contains("levels"));
        assert_eq!(text(b"a: 1\na: 2\n"), "a is said twice");
        assert_eq!(text(b"a: 1\n---\nb: 2\n"), "more than one document");
        assert_eq!(text(b""), "empty");
        assert_eq!(text(b"\xff"), "not UTF-8");
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,80}", pieces in proptest::collection::vec("[-a:{}\\[\\]&*!|>'\"# \n]{0,12}", 0..20)) {
            let _ = parse(text.as_bytes());
            let _ = parse(pieces.concat().as_bytes());
        }
    }
}
