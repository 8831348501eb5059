//! Functions: Go's own, and Docker's.

use super::Mode;
use super::printf::printf;
use super::value::Value;
use std::cmp::Ordering;

/// A text may be padded by this much on a side.
const PAD_MAX: usize = 1 << 16;

/// Name, fewest arguments, most arguments (none: any number).
const FUNCTIONS: &[(&str, usize, Option<usize>)] = &[
    ("and", 1, None),
    ("eq", 1, None),
    ("ge", 2, Some(2)),
    ("gt", 2, Some(2)),
    ("html", 0, None),
    ("index", 1, None),
    ("join", 2, Some(2)),
    ("js", 0, None),
    ("json", 1, Some(1)),
    ("le", 2, Some(2)),
    ("len", 1, Some(1)),
    ("lower", 1, Some(1)),
    ("lt", 2, Some(2)),
    ("ne", 2, Some(2)),
    ("not", 1, Some(1)),
    ("or", 1, None),
    ("pad", 3, Some(3)),
    ("print", 0, None),
    ("printf", 1, None),
    ("println", 0, None),
    ("slice", 1, Some(4)),
    ("split", 2, Some(2)),
    ("title", 1, Some(1)),
    ("truncate", 2, Some(2)),
    ("upper", 1, Some(1)),
    ("urlquery", 0, None),
];

pub(super) fn exists(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, _, _)| *known == name)
}

type Result = std::result::Result<Value, String>;

/// Calls a function. The error is the text behind `at <…>: `.
pub(super) fn call(name: &str, args: &[Value], mode: Mode) -> Result {
    let Some((_, fewest, most)) = FUNCTIONS.iter().find(|(known, _, _)| *known == name) else {
        return Err(format!("function {name:?} not defined"));
    };
    if args.len() < *fewest || most.is_some_and(|most| args.len() > most) {
        let want = match most {
            Some(most) if most == fewest => format!("want {fewest}"),
            _ => format!("want at least {fewest}"),
        };
        return Err(format!("wrong number of args for {name}: {want} got {}", args.len()));
    }
    if mode.header && matches!(name, "json" | "title" | "lower" | "upper" | "truncate" | "split" | "join") {
        return Ok(args[0].clone());
    }
    match name {
        "and" | "or" => Ok(args[args.len() - 1].clone()),
        "not" => Ok(Value::Bool(!args[0].truth())),
        "eq" => equal(args).map(Value::Bool),
        "ne" => equal(args).map(|same| Value::Bool(!same)),
        "lt" => compare(name, args, |o| o == Ordering::Less),
        "le" => compare(name, args, |o| o != Ordering::Greater),
        "gt" => compare(name, args, |o| o == Ordering::Greater),
        "ge" => compare(name, args, |o| o != Ordering::Less),
        "len" => length(&args[0]),
        "index" => args[1..].iter().try_fold(args[0].clone(), |value, key| index(&value, key)),
        "slice" => slice(args),
        "print" => Ok(print(args).into()),
        "println" => {
            let mut text = args.iter().map(printed).collect::<Vec<_>>().join(" ");
            text.push('\n');
            Ok(text.into())
        }
        "printf" => printf(&text(name, args, 0)?, &args[1..]).map(Value::from),
        "html" => Ok(escape(&print(args), html).into()),
        "js" => Ok(escape(&print(args), javascript).into()),
        "urlquery" => Ok(query(&print(args)).into()),
        _ => docker(name, args),
    }
}

fn docker(name: &str, args: &[Value]) -> Result {
    match name {
        "json" => Ok(super::value_json(&args[0]).into()),
        "split" => {
            let (all, by) = (text(name, args, 0)?, text(name, args, 1)?);
            let parts: Vec<Value> = if by.is_empty() {
                all.chars().map(|c| Value::from(c.to_string())).collect()
            } else {
                all.split(&by).map(Value::from).collect()
            };
            Ok(parts.into())
        }
        "join" => {
            let by = text(name, args, 1)?;
            match &args[0] {
                Value::List(list) => Ok(list.iter().map(Value::printed).collect::<Vec<_>>().join(&by).into()),
                Value::Nil | Value::NilList => Ok("".into()),
                other => Err(wrong(other, "[]string")),
            }
        }
        "title" => Ok(title(&text(name, args, 0)?).into()),
        "lower" => Ok(text(name, args, 0)?.to_lowercase().into()),
        "upper" => Ok(text(name, args, 0)?.to_uppercase().into()),
        "pad" => {
            let text = text(name, args, 0)?;
            if text.is_empty() {
                return Ok(text.into());
            }
            let (before, after) = (number(&args[1])?, number(&args[2])?);
            if before > PAD_MAX || after > PAD_MAX {
                return Err(format!("error calling pad: more than {PAD_MAX} spaces"));
            }
            Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
        }
        _ => {
            let length = number(&args[1])?;
            Ok(text(name, args, 0)?.chars().take(length).collect::<String>().into())
        }
    }
}

fn wrong(value: &Value, wanted: &str) -> String {
    format!("wrong type for value; expected {wanted}; got {}", value.type_name())
}

fn text(_name: &str, args: &[Value], at: usize) -> std::result::Result<String, String> {
    match &args[at] {
        Value::Text(text) => Ok(text.to_string()),
        other => Err(wrong(other, "string")),
    }
}

fn number(value: &Value) -> std::result::Result<usize, String> {
    match value {
        Value::Int(number) => {
            usize::try_from(*number).map_err(|_| format!("error calling: number {number} is out of range"))
        }
        other => Err(wrong(other, "int")),
    }
}

fn printed(value: &Value) -> String {
    let mut out = String::new();
    value.print(&mut out, 0);
    out
}

/// Go's `Sprint`: a space between operands when neither is text.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    let mut previous_text = true;
    for (index, arg) in args.iter().enumerate() {
        let is_text = matches!(arg, Value::Text(_));
        if index > 0 && !is_text && !previous_text {
            out.push(' ');
        }
        arg.print(&mut out, 0);
        previous_text = is_text;
    }
    out
}

fn order(a: &Value, b: &Value) -> std::result::Result<Ordering, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Greater)),
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (Value::Bool(_), Value::Bool(_)) => Err("invalid type for comparison".into()),
        (Value::List(_) | Value::Map(_) | Value::Record(_), _)
        | (_, Value::List(_) | Value::Map(_) | Value::Record(_)) => Err("invalid type for comparison".into()),
        _ => Err("incompatible types for comparison".into()),
    }
}

fn compare(name: &str, args: &[Value], decide: impl Fn(Ordering) -> bool) -> Result {
    order(&args[0], &args[1])
        .map(|o| Value::Bool(decide(o)))
        .map_err(|text| format!("error calling {name}: {text}"))
}

fn equal(args: &[Value]) -> std::result::Result<bool, String> {
    if args.len() == 1 {
        return Err("error calling eq: missing argument for comparison".into());
    }
    for other in &args[1..] {
        let same = match (&args[0], other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Nil | Value::Missing, Value::Nil | Value::Missing) => true,
            (Value::Nil | Value::Missing, _) | (_, Value::Nil | Value::Missing) => false,
            (a, b) => {
                order(a, b).map_err(|text| {
                    let text =
                        if text.starts_with("invalid") { "non-comparable type".to_owned() } else { text };
                    format!("error calling eq: {text}")
                })? == Ordering::Equal
            }
        };
        if same {
            return Ok(true);
        }
    }
    Ok(false)
}

fn length(value: &Value) -> Result {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        Value::Map(map) => map.pairs.len(),
        Value::NilList | Value::NilMap => 0,
        Value::Nil | Value::Missing => return Err("error calling len: len of nil pointer".into()),
        other => return Err(format!("error calling len: len of type {}", other.type_name())),
    };
    Ok(Value::Int(length as i128))
}

fn index(value: &Value, key: &Value) -> Result {
    let fail = |text: String| Err(format!("error calling index: {text}"));
    match (value, key) {
        (Value::Map(map), Value::Text(key)) => Ok(map.get(key).cloned().unwrap_or(match map.pairs.first() {
            // The zero value of the map's type: a map of texts has empty ones.
            Some((_, Value::Text(_))) => Value::from(""),
            _ => Value::Missing,
        })),
        (Value::List(list), Value::Int(at)) => match usize::try_from(*at).ok().and_then(|at| list.get(at)) {
            Some(item) => Ok(item.clone()),
            None => fail(format!("index out of range: {at}")),
        },
        (Value::Text(text), Value::Int(at)) => {
            match usize::try_from(*at).ok().and_then(|at| text.as_bytes().get(at)) {
                Some(byte) => Ok(Value::Int(i128::from(*byte))),
                None => fail(format!("index out of range: {at}")),
            }
        }
        (Value::NilMap, Value::Text(_)) => Ok(Value::from("")),
        (Value::NilList, Value::Int(at)) => fail(format!("index out of range: {at}")),
        (Value::Nil | Value::Missing, _) => fail("index of untyped nil".into()),
        (Value::Map(_), key) => fail(format!("value has type {}; should be string", key.type_name())),
        (Value::List(_) | Value::Text(_), key) => {
            fail(format!("cannot index slice/array with type {}", key.type_name()))
        }
        (other, _) => fail(format!("can't index item of type {}", other.type_name())),
    }
}

fn slice(args: &[Value]) -> Result {
    let fail = |text: &str| Err(format!("error calling slice: {text}"));
    let length = match &args[0] {
        Value::Text(text) => text.len(),
        Value::List(list) => list.len(),
        other => return fail(&format!("can't slice item of type {}", other.type_name())),
    };
    let bound = |at: usize, default: usize| match args.get(at) {
        None => Ok(default),
        Some(value) => match number(value) {
            Ok(value) if value <= length => Ok(value),
            _ => Err(format!("error calling slice: index out of range: {}", value.printed())),
        },
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err(format!("error calling slice: invalid slice index: {from} > {to}"));
    }
    match &args[0] {
        Value::Text(text) => Ok(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned().into()),
        Value::List(list) => Ok(list[from..to].to_vec().into()),
        _ => fail("not a list"),
    }
}

/// Every word's first letter large.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut previous = ' ';
    for c in text.chars() {
        let inside = previous.is_alphanumeric() || previous == '_';
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        previous = c;
    }
    out
}

fn escape(text: &str, by: fn(char) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match by(c) {
            Some(instead) => out.push_str(instead),
            None => out.push(c),
        }
    }
    out
}

fn html(c: char) -> Option<&'static str> {
    Some(match c {
        '"' => "&#34;",
        '\'' => "&#39;",
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '\0' => "\u{fffd}",
        _ => return None,
    })
}

fn javascript(c: char) -> Option<&'static str> {
    Some(match c {
        '\\' => "\\\\",
        '\'' => "\\'",
        '"' => "\\\"",
        '<' => "\\u003C",
        '>' => "\\u003E",
        '&' => "\\u0026",
        '=' => "\\u003D",
        '\n' => "\\u000A",
        '\r' => "\\u000D",
        '\t' => "\\u0009",
        _ => return None,
    })
}

fn query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(FUNCTIONS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
