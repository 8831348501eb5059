//! What options say, read.

use super::Error;

/// Reads how severe messages are to be.
pub(super) fn parse_level(text: &str) -> Result<tracing::level_filters::LevelFilter, Error> {
    use tracing::level_filters::LevelFilter;
    Ok(match text {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" => LevelFilter::WARN,
        "error" | "fatal" | "panic" => LevelFilter::ERROR,
        other => return Err(Error::Usage(format!("invalid logging level: {other}"))),
    })
}

/// Reads a size such as `64m`: a number and an optional binary unit b, k, m, g.
pub(super) fn parse_bytes(text: &str) -> Result<i64, Error> {
    let invalid = || Error::Usage(format!("invalid size: '{text}'"));
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor: i64 = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return Err(invalid()),
    };
    let number: i64 = digits.parse().map_err(|_| invalid())?;
    number.checked_mul(factor).filter(|bytes| *bytes > 0).ok_or_else(invalid)
}
