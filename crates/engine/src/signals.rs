//! Signals by name and number, as Docker reads them.

use crate::error::{Error, Result};

/// SIGTERM, the signal a container is stopped with where it does not say.
pub const SIGTERM: i32 = 15;
/// The first and last real-time signals that programs may use (the C library keeps two).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Linux's names on the architectures we build for, by number from 1.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Other names of the same.
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];

/// Reads a number, or a name with or without `SIG`, in any case.
pub fn parse(text: &str) -> Result<i32> {
    let wrong = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(wrong()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).map_err(|_| wrong());
    }
    if let Some((_, number)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
        return Ok(*number);
    }
    real_time(name).filter(|n| (RTMIN..=RTMAX).contains(n)).ok_or_else(wrong)
}

fn real_time(name: &str) -> Option<i32> {
    match name {
        "RTMIN" => Some(RTMIN),
        "RTMAX" => Some(RTMAX),
        _ => {
            if let Some(above) = name.strip_prefix("RTMIN+") {
                Some(RTMIN + above.parse::<u8>().map(i32::from).ok()?)
            } else {
                Some(RTMAX - name.strip_prefix("RTMAX-")?.parse::<u8>().map(i32::from).ok()?)
            }
        }
    }
}

/// The signal a container is stopped with, from its configuration.
pub fn stop_signal(configured: &str) -> Result<i32> {
    if configured.is_empty() { Ok(SIGTERM) } else { parse(configured) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("SYS", 31),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("64", 64),
            ("WINCH", 28),
        ] {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "FOO", "SIG", "RTMIN+31", "RTMAX-31", "RTMIN+-1", "999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(stop_signal("").unwrap(), SIGTERM);
    }
}
