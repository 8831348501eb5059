//! `HEALTHCHECK`.

use super::Problem;
use super::instruction::{Check, CommandLine, Healthcheck, Word};
use super::line::Part;
use super::options::{self, Kind, Options};
use super::read::command_line;

/// The least time between two checks.
const INTERVAL_MIN: i64 = 1_000_000;
/// Names of durations.
const TIMES: [&str; 4] = ["interval", "timeout", "start-period", "start-interval"];

/// Reads a check.
pub fn read(flags: &[Word], rest: Part<'_>) -> Result<Healthcheck, Problem> {
    let (kind, rest) = rest.split();
    if kind.is_empty() {
        return Err(
            Problem::new(kind.span(), "HEALTHCHECK requires at least one argument").expecting("CMD or NONE")
        );
    }
    let upper = kind.text().to_uppercase();
    if upper == "NONE" {
        if !rest.is_empty() {
            return Err(Problem::new(rest.span(), "HEALTHCHECK NONE takes no arguments"));
        }
        return Ok(Healthcheck::None);
    }
    let mut known = TIMES.map(|name| (name, Kind::Text)).to_vec();
    known.push(("retries", Kind::Text));
    let options = options::read(flags, &known)?;
    if upper != "CMD" {
        let message = format!("Unknown type {upper:?} in HEALTHCHECK (try CMD)");
        return Err(Problem::new(kind.span(), message).expecting("CMD or NONE"));
    }
    let line = command_line(rest)?;
    let empty = match &line {
        CommandLine::Exec(words) => words.is_empty(),
        CommandLine::Shell(word) => word.text.is_empty(),
    };
    if empty {
        return Err(Problem::new(kind.span(), "Missing command after HEALTHCHECK CMD").expecting("a command"));
    }
    let [interval, timeout, start_period, start_interval] = TIMES.map(|name| time(&options, name));
    let (interval, timeout) = (interval?, timeout?);
    let (start_period, start_interval) = (start_period?, start_interval?);
    let retries = retries(&options)?;
    Ok(Healthcheck::Command(Check { line, interval, timeout, start_period, start_interval, retries }))
}

fn time(options: &Options, name: &str) -> Result<i64, Problem> {
    let Some(word) = options.text(name) else { return Ok(0) };
    let value = duration(&word.text)
        .map_err(|message| Problem::new(word.span, message).expecting("a duration as 1m30s"))?;
    if value != 0 && value < INTERVAL_MIN {
        return Err(Problem::new(word.span, format!("Interval {name:?} cannot be less than 1ms")));
    }
    Ok(value)
}

fn retries(options: &Options) -> Result<i32, Problem> {
    let Some(word) = options.text("retries") else { return Ok(0) };
    let number: i32 = word.text.parse().map_err(|_| {
        let message = format!("strconv.ParseInt: parsing {:?}: invalid syntax", word.text);
        Problem::new(word.span, message).expecting("a number")
    })?;
    if number < 0 {
        return Err(Problem::new(word.span, format!("--retries cannot be negative ({number})")));
    }
    Ok(number)
}

/// Nanoseconds of `1h15m30.5s`, as Go writes durations.
fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits =
            rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(digits);
        let end = unit.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(unit.len());
        let (unit, next) = unit.split_at(end);
        rest = next;
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
        };
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if number.is_empty() || number == "." || !digits(whole) || !digits(part) || whole.len() > 20 {
            return Err(invalid());
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        total += whole * scale;
        let mut step = scale;
        for digit in part.bytes() {
            step /= 10;
            total += i128::from(digit - b'0') * step;
        }
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
    }
    i64::try_from(total * sign).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_read() {
        let table = [
            ("1s", 1_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1m30s", 90_000_000_000),
            ("0", 0),
            ("-1ms", -1_000_000),
        ];
        for (text, expected) in table {
            assert_eq!(duration(text), Ok(expected), "{text}");
        }
        for text in ["", "1", "s", "1x", "1..2s", "999999999999999h", "1s2", "."] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
