//! Names and ids: how they look, and how the engine makes them up.

use crate::error::{Error, Result};

/// What a name must look like, as Docker writes it in its message.
const NAME_PATTERN: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";
/// Longer names are of no use to anybody and would travel in every list.
const NAME_MAX: usize = 255;

/// Words that go before a surname: the weather, the rust and the workshop.
const FIRST: &[&str] = &[
    "amber",
    "brazen",
    "breezy",
    "bright",
    "brisk",
    "burnished",
    "calm",
    "cloudy",
    "coppery",
    "crisp",
    "dappled",
    "dewy",
    "drifting",
    "dusty",
    "earthy",
    "ember",
    "fair",
    "ferrous",
    "floating",
    "foggy",
    "forged",
    "frosty",
    "gentle",
    "gilded",
    "glowing",
    "golden",
    "hardy",
    "hazy",
    "humming",
    "icy",
    "ivory",
    "jolly",
    "keen",
    "kindled",
    "lively",
    "lucid",
    "mellow",
    "merry",
    "misty",
    "molten",
    "mossy",
    "nimble",
    "oaken",
    "patient",
    "pebbly",
    "plucky",
    "polished",
    "quiet",
    "rainy",
    "riveted",
    "russet",
    "rusty",
    "sandy",
    "sheltered",
    "silver",
    "sleek",
    "snowy",
    "spry",
    "starry",
    "steady",
    "steely",
    "stormy",
    "sturdy",
    "sunny",
    "tempered",
    "tidal",
    "tranquil",
    "umber",
    "velvet",
    "vivid",
    "warm",
    "weathered",
    "welded",
    "wily",
    "windy",
    "woven",
    "zesty",
];

/// People who built, measured, computed or sailed.
const LAST: &[&str] = &[
    "archimedes",
    "babbage",
    "bessemer",
    "boole",
    "brunel",
    "carver",
    "cayley",
    "cochrane",
    "coulomb",
    "curie",
    "darby",
    "diesel",
    "dijkstra",
    "eiffel",
    "euler",
    "faraday",
    "fermat",
    "fourier",
    "franklin",
    "galileo",
    "gauss",
    "germain",
    "goodall",
    "gray",
    "hamilton",
    "heron",
    "hertz",
    "hodgkin",
    "hopper",
    "huygens",
    "hypatia",
    "jacquard",
    "johnson",
    "joule",
    "kelvin",
    "kepler",
    "khwarizmi",
    "lamarr",
    "lovelace",
    "magellan",
    "maxwell",
    "meitner",
    "mercator",
    "mirzakhani",
    "napier",
    "newcomen",
    "newton",
    "noether",
    "oersted",
    "ohm",
    "otis",
    "pascal",
    "pasteur",
    "pike",
    "planck",
    "ptolemy",
    "ramanujan",
    "ritchie",
    "roebling",
    "shannon",
    "siemens",
    "stephenson",
    "telford",
    "tesla",
    "thompson",
    "torvalds",
    "tull",
    "turing",
    "vitruvius",
    "volta",
    "watt",
    "whitney",
    "wren",
    "zuse",
];

/// Checks a name a person gave; the leading slash of Docker's old clients is taken off.
pub fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    let mut chars = bare.bytes();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = bare.len() >= 2
        && bare.len() <= NAME_MAX
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'));
    if first && rest {
        Ok(bare)
    } else {
        Err(Error::invalid(format!(
            "Invalid container name ({}), only {NAME_PATTERN} are allowed",
            bare.chars().take(NAME_MAX).collect::<String>()
        )))
    }
}

/// A new id: 32 random bytes as 64 hexadecimal digits.
///
/// An id whose first twelve digits are all decimal would be a number to a program that guesses types, so none is made.
pub fn new_id() -> Result<String> {
    loop {
        let mut bytes = [0u8; 32];
        random(&mut bytes)?;
        let id = hex::encode(bytes);
        if !id.as_bytes()[..12].iter().all(u8::is_ascii_digit) {
            return Ok(id);
        }
    }
}

/// A name made up from random bytes; `attempt` above zero adds a number, so that it ends even in a full house.
pub fn made_up(attempt: u32) -> Result<String> {
    let mut bytes = [0u8; 4];
    random(&mut bytes)?;
    let [a, b, c, d] = bytes;
    let first = FIRST[usize::from(u16::from_le_bytes([a, b])) % FIRST.len()];
    let last = LAST[usize::from(u16::from_le_bytes([c, d])) % LAST.len()];
    Ok(if attempt == 0 { format!("{first}_{last}") } else { format!("{first}_{last}{attempt}") })
}

fn random(into: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        filled += rustix::rand::getrandom(&mut into[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::system("the kernel gives no random numbers").with_source(e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_dockers_pattern() {
        for good in ["ab", "a1", "web.1-x_y", "/web", "0a"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a", "-a", ".a", "a b", "a/b", "ä1", "a\n", "a:b"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            check("a b").unwrap_err().to_string(),
            "Invalid container name (a b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        );
    }

    #[test]
    fn made_up_names_pass_their_own_check() {
        for first in FIRST {
            for last in LAST {
                assert!(check(&format!("{first}_{last}")).is_ok());
            }
        }
        assert!(made_up(3).unwrap().ends_with('3'));
        let id = new_id().unwrap();
        assert_eq!(id.len(), 64);
    }
}
