//! Names of signals.

use crate::error::Error;

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The first real-time signal that programs can use: the C library keeps two below it.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The number of the signal called `name`: `9`, `KILL`, `SIGKILL`, `RTMIN+3`.
pub(super) fn number(name: &str) -> Result<i32, Error> {
    let unknown = || Error::Invalid(format!("unknown signal {name:?}"));
    if let Ok(number) = name.parse::<i32>() {
        return if (0..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == bare) {
        return Ok(at as i32 + 1);
    }
    let offset = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<i32>().ok() };
    let number = match (bare.strip_prefix("RTMIN"), bare.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest).map(|n| RTMIN + n),
        (_, Some(rest)) => offset(rest).map(|n| RTMAX + n),
        _ => match bare {
            "POLL" => Some(29),
            "IOT" => Some(6),
            "CLD" => Some(17),
            _ => None,
        },
    };
    number.filter(|n| (RTMIN..=RTMAX).contains(n) || *n < RTMIN - 2).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (name, expected) in [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("RTMIN", 34),
            ("0", 0),
        ] {
            assert_eq!(number(name).unwrap(), expected, "{name}");
        }
        for name in ["", "NOPE", "65", "-1", "SIGRTMIN+99", "RTMIN-1"] {
            number(name).unwrap_err();
        }
    }
}
