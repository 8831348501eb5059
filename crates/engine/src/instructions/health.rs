//! `HEALTHCHECK`.

use oci::image::Healthcheck;

use super::Error;
use super::lines::Line;
use crate::error::Result;

/// The least time between two checks.
const INTERVAL_MIN_NS: i64 = 1_000_000;

/// Reads a check.
pub fn parse(line: &Line, shell: &[String]) -> Result<Healthcheck> {
    let (kind, rest) = line.rest.split_once(char::is_whitespace).unwrap_or((&line.rest, ""));
    let rest = rest.trim_start();
    match kind.to_ascii_uppercase().as_str() {
        "" => Err(Error::invalid("HEALTHCHECK requires at least one argument")),
        "NONE" => {
            line.no_flags()?;
            if !rest.is_empty() {
                return Err(Error::invalid("HEALTHCHECK NONE takes no arguments"));
            }
            Ok(Healthcheck { test: vec!["NONE".into()], ..Default::default() })
        }
        "CMD" => {
            if rest.is_empty() {
                return Err(Error::invalid("Missing command after HEALTHCHECK CMD"));
            }
            let command = Line { rest: rest.to_owned(), ..line.clone() };
            let test = match command.json() {
                Some(words) => [vec!["CMD".to_owned()], words].concat(),
                // The usual shell is implied; another has to be said.
                None if shell == super::SHELL => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
                None => [vec!["CMD".to_owned()], command.command(shell)].concat(),
            };
            flags(line, Healthcheck { test, ..Default::default() })
        }
        _ => Err(Error::invalid(format!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"))),
    }
}

fn flags(line: &Line, mut check: Healthcheck) -> Result<Healthcheck> {
    for flag in &line.flags {
        let (name, value) = flag.trim_start_matches('-').split_once('=').ok_or_else(|| {
            let known = ["interval", "timeout", "start-period", "start-interval", "retries"];
            if known.contains(&flag.trim_start_matches('-')) {
                Error::invalid(format!("missing a value on flag: {}", flag.trim_start_matches('-')))
            } else {
                Error::invalid(format!("unknown flag: {flag}"))
            }
        })?;
        let field = match name {
            "interval" => &mut check.interval,
            "timeout" => &mut check.timeout,
            "start-period" => &mut check.start_period,
            "start-interval" => &mut check.start_interval,
            "retries" => {
                let number = value.parse::<i32>().map_err(|_| {
                    Error::invalid(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
                })?;
                if number < 0 {
                    return Err(Error::invalid(format!("--retries cannot be negative ({number})")));
                }
                check.retries = number.into();
                continue;
            }
            _ => return Err(Error::invalid(format!("unknown flag: --{name}"))),
        };
        let time = api::duration::parse(value).map_err(|e| Error::invalid(e.to_string()))?;
        if time != 0 && time < INTERVAL_MIN_NS {
            return Err(Error::invalid(format!("Interval {name:?} cannot be less than 1ms")));
        }
        *field = time;
    }
    Ok(check)
}
