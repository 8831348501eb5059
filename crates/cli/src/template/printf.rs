//! Go's `printf`.

use super::OUTPUT_BYTES_MAX;
use super::value::{Value, exponent, float};

/// Wider than this is no table's column.
const WIDTH_MAX: usize = 1 << 16;

#[derive(Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats; the error is the text behind `error calling printf: `.
pub(super) fn printf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut chars = format.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if out.len() > OUTPUT_BYTES_MAX {
            return Err("error calling printf: the output is too long".into());
        }
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                '0' => spec.zero = true,
                _ => break,
            }
            chars.next();
        }
        spec.width = digits(&mut chars);
        if chars.peek() == Some(&'.') {
            chars.next();
            spec.precision = Some(digits(&mut chars).unwrap_or(0));
        }
        if spec.width.max(spec.precision).is_some_and(|wide| wide > WIDTH_MAX) {
            return Err(format!("error calling printf: a width of more than {WIDTH_MAX}"));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.get(next) {
            Some(arg) => out.push_str(&one(&spec, verb, arg)),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
        next += 1;
    }
    if next < args.len() {
        let extra: Vec<_> =
            args[next..].iter().map(|arg| format!("{}={}", arg.type_name(), plain(arg))).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut value: Option<usize> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
        chars.next();
    }
    value
}

fn plain(value: &Value) -> String {
    let mut out = String::new();
    value.print(&mut out, 0);
    out
}

fn one(spec: &Spec, verb: char, value: &Value) -> String {
    let wrong = || format!("%!{verb}({}={})", value.type_name(), plain(value));
    let text = match (verb, value) {
        ('v', Value::Float(number)) => signed(spec, float(*number)),
        ('v', Value::Text(text)) if spec.sharp => quoted(text),
        ('d' | 'v', Value::Int(number)) => signed(spec, number.to_string()),
        ('v', other) => plain(other),
        ('s', Value::Text(text)) => match spec.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.to_string(),
        },
        ('s', Value::List(_) | Value::Map(_) | Value::Record(_)) => plain(value),
        ('q', Value::Text(text)) => quoted(text),
        ('q', Value::List(list)) => {
            format!(
                "[{}]",
                list.iter().map(|item| one(&Spec::default(), 'q', item)).collect::<Vec<_>>().join(" ")
            )
        }
        ('t', Value::Bool(value)) => value.to_string(),
        ('T', other) => other.type_name().to_owned(),
        ('x', Value::Int(number)) => format!("{}{number:x}", if spec.sharp { "0x" } else { "" }),
        ('X', Value::Int(number)) => format!("{}{number:X}", if spec.sharp { "0X" } else { "" }),
        ('o', Value::Int(number)) => format!("{number:o}"),
        ('b', Value::Int(number)) => format!("{number:b}"),
        ('c', Value::Int(number)) => {
            u32::try_from(*number).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('x', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('X', Value::Text(text)) => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ('f' | 'F', Value::Float(number)) => {
            signed(spec, format!("{number:.*}", spec.precision.unwrap_or(6)))
        }
        ('e', Value::Float(number)) => {
            signed(spec, exponent(&format!("{number:.*e}", spec.precision.unwrap_or(6))))
        }
        ('g', Value::Float(number)) => signed(spec, float(*number)),
        ('s' | 'd', Value::Nil | Value::Missing) => format!("%!{verb}(<nil>)"),
        _ => wrong(),
    };
    padded(spec, text, matches!(value, Value::Int(_) | Value::Float(_)))
}

fn signed(spec: &Spec, text: String) -> String {
    match (text.starts_with(['-', '+']), spec.plus, spec.space) {
        (false, true, _) => format!("+{text}"),
        (false, false, true) => format!(" {text}"),
        _ => text,
    }
}

fn padded(spec: &Spec, text: String, number: bool) -> String {
    let Some(missing) = spec.width.and_then(|width| width.checked_sub(text.chars().count())) else {
        return text;
    };
    if spec.minus {
        return format!("{text}{}", " ".repeat(missing));
    }
    if spec.zero && number {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+', ' '])));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    let fill = if spec.zero { "0" } else { " " };
    format!("{}{text}", fill.repeat(missing))
}

/// Go's quoted form.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
