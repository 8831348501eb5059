//! What a flag's value must look like.

type Verdict = Result<(), String>;

/// Go's spellings of truth.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

pub(super) fn int(text: &str) -> Verdict {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
    }
    match text.parse::<i64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("strconv.ParseInt: parsing {text:?}: value out of range")),
    }
}

pub(super) fn bytes(text: &str) -> Verdict {
    ram_bytes(text).map(drop).ok_or_else(|| format!("invalid size: '{text}'"))
}

/// A size in binary units: `64m`, `1.5GiB`, `512`; `-1` for no limit.
#[must_use]
pub fn ram_bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |at| at + 1);
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix('.').unwrap_or(number);
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') || number.contains(['e', 'E', '+']) {
        return None;
    }
    let value: f64 = number.parse().ok()?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let unit =
        unit.strip_suffix("ib").or(unit.strip_suffix('b').filter(|rest| rest.len() <= 1)).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let size = value * 1024f64.powi(power);
    // Beyond 2^53 a double is not exact, and no machine has that much.
    (0.0..=9.0e18).contains(&size).then_some(size as i64)
}

/// A number of processors, in billionths.
pub fn cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let digits = text.strip_prefix('+').unwrap_or(text);
    let (negative, digits) = digits.strip_prefix('-').map_or((false, digits), |digits| (true, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + part.len() == 0 || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let part = part.trim_end_matches('0');
    if part.len() > 9 {
        return Err("value is too precise".into());
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
    let part: i64 = format!("{part:0<9}").parse().map_err(|_| bad())?;
    let nano = whole.checked_mul(1_000_000_000).and_then(|n| n.checked_add(part)).ok_or_else(bad)?;
    Ok(if negative { -nano } else { nano })
}

pub(super) fn duration(text: &str) -> Verdict {
    api::duration::parse(text).map(drop).map_err(|_| format!("time: invalid duration {text:?}"))
}

pub(super) fn pair(text: &str) -> Verdict {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(()),
        _ => Err(format!("invalid key=value pair: {text:?}")),
    }
}

pub(super) fn filter(text: &str) -> Verdict {
    match text.split_once('=') {
        Some(_) => Ok(()),
        None if text.is_empty() => Ok(()),
        None => Err("bad format of filter (expected name=value)".into()),
    }
}

/// A label: anything with a name.
pub fn label(text: &str) -> Verdict {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid label '{text}': empty name")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, want) in [
            ("512", Some(512)),
            ("64m", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("64mb", Some(64 << 20)),
            ("64MiB", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1 kb", Some(1024)),
            ("2b", Some(2)),
            ("-1", Some(-1)),
            ("0", Some(0)),
            ("", None),
            ("x", None),
            ("-2", None),
            ("1x", None),
            ("1kk", None),
            ("1e3", None),
            ("99999999999999p", None),
        ] {
            assert_eq!(ram_bytes(text), want, "{text}");
        }
    }

    #[test]
    fn processors_are_exact() {
        assert_eq!(cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(cpus("0.000000001"), Ok(1));
        assert_eq!(cpus("0.0000000001"), Err("value is too precise".into()));
        assert_eq!(cpus("x"), Err("failed to parse x as a rational number".into()));
        assert!(cpus(".").is_err() && cpus("").is_err() && cpus("99999999999999999999").is_err());
    }
}
