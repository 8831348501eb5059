//! Options in runc's style: `--name value`, `--name=value`, `-n value`; they end at the first operand, or at `--`. Letters
//! cannot be joined (`-dt`): runc refuses that as well, and a word behind one dash may be a long option (`-detach`).

use crate::error::Error;

/// An option that a command knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag {
    name: &'static str,
    short: Option<char>,
    takes_value: bool,
}

impl Flag {
    /// One without a value.
    pub(super) const fn switch(name: &'static str) -> Self {
        Self { name, short: None, takes_value: false }
    }

    /// One with a value.
    pub(super) const fn value(name: &'static str) -> Self {
        Self { name, short: None, takes_value: true }
    }

    /// Its name, without dashes.
    #[cfg(test)]
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Its letter.
    pub(super) const fn short(self, letter: char) -> Self {
        Self { short: Some(letter), ..self }
    }
}

/// Options given, and the operands behind them.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    given: Vec<(&'static str, Option<String>)>,
    rest: Vec<String>,
}

impl Arguments {
    /// Sorts arguments; an option that is not in `known` is refused by its name.
    pub(super) fn parse(arguments: Vec<String>, known: &[Flag]) -> Result<Self, Error> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == "--" {
                parsed.rest.extend(arguments);
                break;
            }
            if !argument.starts_with('-') || argument == "-" {
                parsed.rest.push(argument);
                parsed.rest.extend(arguments);
                break;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (argument, None),
            };
            let bare = name.trim_start_matches('-');
            let is_letter = |flag: &&Flag| flag.short.is_some_and(|s| bare.chars().eq([s]));
            let flag = known.iter().find(|f| f.name == bare).or_else(|| known.iter().find(is_letter));
            let flag =
                flag.ok_or_else(|| Error::Invalid(format!("flag provided but not defined: {name}")))?;
            let value = match (flag.takes_value, value) {
                (true, None) => Some(
                    arguments
                        .next()
                        .ok_or_else(|| Error::Invalid(format!("flag needs an argument: {name}")))?,
                ),
                (false, Some(value)) if value == "false" => continue,
                (false, Some(value)) if value != "true" => {
                    return Err(Error::Invalid(format!("flag {name} takes no value")));
                }
                (_, value) => value,
            };
            parsed.given.push((flag.name, value));
        }
        Ok(parsed)
    }

    /// Whether the switch was given.
    pub(super) fn take(&mut self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// The option's last value.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.given.iter().rev().find(|(given, _)| *given == name).and_then(|(_, value)| value.clone())
    }

    /// All values of an option that can be repeated.
    pub(super) fn values(&self, name: &str) -> Vec<String> {
        self.given.iter().filter(|(given, _)| *given == name).filter_map(|(_, value)| value.clone()).collect()
    }

    /// The operands.
    pub(super) fn rest(self) -> Vec<String> {
        self.rest
    }

    /// The only operand.
    pub(super) fn only(self, what: &str) -> Result<String, Error> {
        match <[String; 1]>::try_from(self.rest) {
            Ok([one]) => Ok(one),
            Err(rest) => {
                Err(Error::Invalid(format!("exactly 1 argument ({what}) is needed, not {}", rest.len())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] =
        &[Flag::value("bundle").short('b'), Flag::switch("force").short('f'), Flag::value("env")];

    fn parse(arguments: &[&str]) -> Result<Arguments, Error> {
        Arguments::parse(arguments.iter().map(|a| (*a).to_owned()).collect(), KNOWN)
    }

    #[test]
    fn all_spellings_are_understood() {
        for spelling in [
            &["--bundle", "/x", "id"][..],
            &["--bundle=/x", "id"],
            &["-b", "/x", "id"],
            &["-bundle", "/x", "id"],
        ] {
            let parsed = parse(spelling).unwrap();
            assert_eq!(parsed.value("bundle").as_deref(), Some("/x"));
            assert_eq!(parsed.only("id").unwrap(), "id");
        }
    }

    #[test]
    fn options_end_at_the_first_operand() {
        let mut parsed = parse(&["-f", "id", "ls", "-f", "--bundle"]).unwrap();
        assert!(parsed.take("force"));
        assert_eq!(parsed.rest(), ["id", "ls", "-f", "--bundle"]);
        assert_eq!(parse(&["--", "-f"]).unwrap().rest(), ["-f"]);
    }

    #[test]
    fn unknown_and_incomplete_options_are_refused_by_name() {
        assert_eq!(parse(&["--nope"]).unwrap_err().to_string(), "flag provided but not defined: --nope");
        assert_eq!(parse(&["--bundle"]).unwrap_err().to_string(), "flag needs an argument: --bundle");
        assert!(parse(&["--force=perhaps"]).is_err());
        assert!(!parse(&["--force=false"]).unwrap().take("force"));
        parse(&["a", "b"]).unwrap().only("id").unwrap_err();
    }
}
