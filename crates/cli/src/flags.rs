//! Flags, in the grammar that Docker's users type: clusters of one-letter flags, values that follow, stick or
//! come behind `=`, and for `run` and `exec` no flags behind the first argument.
//!
//! A command's flags are a constant table: parsing, help and completion read the same one, and nothing is built
//! when the program starts. Messages are pflag's, to the letter.

mod check;

pub use check::{boolean, cpus, label, ram_bytes};

use crate::error::{Error, Result};

/// How a flag takes its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None, or `=true`, `=false`.
    Bool,
    /// One; the last one counts.
    Text,
    /// As many as there are.
    List,
}

/// Looks at a value; the error is what pflag would say of it.
pub type Check = fn(&str) -> std::result::Result<(), String>;

/// A flag.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The long name.
    pub long: &'static str,
    /// The letter.
    pub short: Option<char>,
    /// How it takes its value.
    pub kind: Kind,
    /// The word that stands for the value in help.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What holds without it, for help.
    pub default: &'static str,
    /// Whether help leaves it out.
    pub hidden: bool,
    /// The flag that it is another name of.
    pub same_as: &'static str,
    /// Looks at a value.
    pub check: Option<Check>,
}

/// Flags that belong together in help.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The heading; none for the plain `Options`.
    pub title: &'static str,
    /// The flags.
    pub flags: &'static [Flag],
}

const fn flag(kind: Kind, value: &'static str, long: &'static str, help: &'static str) -> Flag {
    Flag { long, short: None, kind, value, help, default: "", hidden: false, same_as: "", check: None }
}

/// A switch.
#[must_use]
pub const fn switch(long: &'static str, help: &'static str) -> Flag {
    flag(Kind::Bool, "", long, help)
}

/// A flag with one value.
#[must_use]
pub const fn text(long: &'static str, help: &'static str) -> Flag {
    flag(Kind::Text, "string", long, help)
}

/// A flag that can be given several times.
#[must_use]
pub const fn list(long: &'static str, help: &'static str) -> Flag {
    flag(Kind::List, "list", long, help)
}

/// A whole number.
#[must_use]
pub const fn int(long: &'static str, help: &'static str) -> Flag {
    flag(Kind::Text, "int", long, help).check(check::int)
}

/// A size such as `64m`.
#[must_use]
pub const fn bytes(long: &'static str, help: &'static str) -> Flag {
    flag(Kind::Text, "bytes", long, help).check(check::bytes)
}

/// A time such as `1m30s`.
#[must_use]
pub const fn duration(long: &'static str, help: &'static str) -> Flag {
    flag(Kind::Text, "duration", long, help).check(check::duration)
}

/// `key=value`, several times.
#[must_use]
pub const fn pairs(long: &'static str, help: &'static str) -> Flag {
    flag(Kind::List, "map", long, help).check(check::pair)
}

/// `--filter`.
#[must_use]
pub const fn filter(help: &'static str) -> Flag {
    flag(Kind::List, "filter", "filter", help).check(check::filter)
}

impl Flag {
    /// With a letter.
    #[must_use]
    pub const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    /// Left out of help.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.hidden = true;
        self
    }

    /// With a default that help shows.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Self {
        self.default = text;
        self
    }

    /// With a word for its value.
    #[must_use]
    pub const fn value(mut self, word: &'static str) -> Self {
        self.value = word;
        self
    }

    /// With a check of its value.
    #[must_use]
    pub const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// Another name of a flag; hidden.
    #[must_use]
    pub const fn same_as(mut self, name: &'static str) -> Self {
        self.same_as = name;
        self.hidden = true;
        self
    }

    const fn name(&self) -> &'static str {
        if self.same_as.is_empty() { self.long } else { self.same_as }
    }

    fn shown(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

/// What was given.
#[derive(Debug, Default, Clone)]
pub struct Parsed {
    values: Vec<(&'static str, String)>,
    /// The arguments that are not flags.
    pub args: Vec<String>,
    /// Whether help was asked for.
    pub help: bool,
}

impl Parsed {
    /// Whether a switch is on.
    #[must_use]
    pub fn on(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| boolean(value) == Some(true))
    }

    /// Whether a switch that is on by itself was left on.
    #[must_use]
    pub fn left_on(&self, name: &str) -> bool {
        self.text(name).is_none_or(|value| boolean(value) == Some(true))
    }

    /// Whether a flag was given.
    #[must_use]
    pub fn given(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// The last value of a flag.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The last value of a flag, or nothing.
    #[must_use]
    pub fn or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// All values of a flag.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All values of a flag, owned.
    #[must_use]
    pub fn owned(&self, name: &str) -> Vec<String> {
        self.list(name).map(str::to_owned).collect()
    }

    /// A number; the table's check has seen it already.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// A size in bytes.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<i64> {
        ram_bytes(self.text(name)?)
    }

    /// `--filter` as the query wants it.
    #[must_use]
    pub fn filters(&self) -> api::Filters {
        let mut filters = api::Filters::new();
        for text in self.list("filter") {
            if let Some((name, value)) = text.split_once('=') {
                filters.add(name.trim().to_lowercase(), value.trim());
            }
        }
        filters
    }
}

/// Reads arguments. With `interspersed` off, flags end at the first argument.
pub fn parse(groups: &[&[Group]], interspersed: bool, args: &[String]) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            parsed.args.extend(rest.cloned());
            break;
        }
        if let Some(name) = arg.strip_prefix("--") {
            long(groups, &mut parsed, name, &mut rest)?;
        } else if arg.len() > 1 && arg.starts_with('-') {
            cluster(groups, &mut parsed, &arg[1..], &mut rest)?;
        } else if interspersed {
            parsed.args.push(arg.clone());
        } else {
            parsed.args.push(arg.clone());
            parsed.args.extend(rest.cloned());
            break;
        }
    }
    Ok(parsed)
}

fn find<'a>(groups: &'a [&'a [Group]], matches: impl Fn(&Flag) -> bool) -> Option<&'a Flag> {
    groups.iter().flat_map(|groups| groups.iter()).flat_map(|group| group.flags).find(|flag| matches(flag))
}

fn long<'a>(
    groups: &[&[Group]],
    parsed: &mut Parsed,
    text: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<()> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.is_empty() || name.starts_with('-') {
        return Err(Error::Flag(format!("bad flag syntax: --{text}")));
    }
    let Some(flag) = find(groups, |flag| flag.long == name) else {
        if name == "help" {
            parsed.help = true;
            return Ok(());
        }
        return Err(Error::Flag(format!("unknown flag: --{name}")));
    };
    let value = match (value, flag.kind) {
        (Some(value), _) => value,
        (None, Kind::Bool) => "true",
        (None, _) => {
            rest.next().ok_or_else(|| Error::Flag(format!("flag needs an argument: --{name}")))?.as_str()
        }
    };
    set(parsed, flag, value)
}

fn cluster<'a>(
    groups: &[&[Group]],
    parsed: &mut Parsed,
    letters: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<()> {
    let mut tail = letters;
    while let Some(letter) = tail.chars().next() {
        let behind = &tail[letter.len_utf8()..];
        let Some(flag) = find(groups, |flag| flag.short == Some(letter)) else {
            if letter == 'h' {
                parsed.help = true;
                return Ok(());
            }
            return Err(Error::Flag(format!("unknown shorthand flag: {letter:?} in -{tail}")));
        };
        if let Some(value) = behind.strip_prefix('=').filter(|_| tail.len() > 2) {
            return set(parsed, flag, value);
        }
        if flag.kind == Kind::Bool {
            set(parsed, flag, "true")?;
            tail = behind;
            continue;
        }
        if !behind.is_empty() {
            return set(parsed, flag, behind);
        }
        let value = rest
            .next()
            .ok_or_else(|| Error::Flag(format!("flag needs an argument: {letter:?} in -{tail}")))?;
        return set(parsed, flag, value);
    }
    Ok(())
}

fn set(parsed: &mut Parsed, flag: &Flag, value: &str) -> Result<()> {
    let verdict = match (flag.kind, flag.check) {
        (Kind::Bool, _) if boolean(value).is_none() => {
            Err(format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))
        }
        (_, Some(check)) => check(value),
        _ => Ok(()),
    };
    if let Err(why) = verdict {
        return Err(Error::Flag(format!("invalid argument {value:?} for \"{}\" flag: {why}", flag.shown())));
    }
    parsed.values.push((flag.name(), value.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Group] = &[Group {
        title: "",
        flags: &[
            switch("interactive", "").short('i'),
            switch("tty", "").short('t'),
            list("env", "").short('e'),
            text("name", ""),
            bytes("memory", "").short('m'),
            int("last", "").short('n'),
            text("network", ""),
            text("net", "").same_as("network"),
        ],
    }];

    fn run(interspersed: bool, args: &[&str]) -> std::result::Result<Parsed, String> {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        parse(&[FLAGS], interspersed, &args).map_err(|err| err.to_string())
    }

    #[test]
    fn clusters_and_values() {
        let parsed =
            run(false, &["-ite=a", "-eb", "-e", "c", "--env=d=e", "--name", "n", "-i=false", "img", "-t"])
                .unwrap();
        assert_eq!(parsed.owned("env"), ["a", "b", "c", "d=e"]);
        assert!(!parsed.on("interactive") && parsed.on("tty"));
        assert_eq!(parsed.text("name"), Some("n"));
        assert_eq!(parsed.args, ["img", "-t"]);
        assert_eq!(run(true, &["a", "--net", "x", "-", "--", "-t"]).unwrap().args, ["a", "-", "-t"]);
        assert_eq!(run(true, &["--net", "x"]).unwrap().text("network"), Some("x"));
    }

    #[test]
    fn bad_flags_are_told_in_pflags_words() {
        for (args, want) in [
            (&["--foo"][..], "unknown flag: --foo"),
            (&["--foo=1"], "unknown flag: --foo"),
            (&["-Z"], "unknown shorthand flag: 'Z' in -Z"),
            (&["-iZt"], "unknown shorthand flag: 'Z' in -Zt"),
            (&["--name"], "flag needs an argument: --name"),
            (&["-e"], "flag needs an argument: 'e' in -e"),
            (&["-te"], "flag needs an argument: 'e' in -e"),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["---x"], "bad flag syntax: ---x"),
            (&["-m", "x"], "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'"),
            (
                &["--tty=x"],
                "invalid argument \"x\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
            (
                &["-n", "x"],
                "invalid argument \"x\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            (
                &["-n", "99999999999999999999"],
                "invalid argument \"99999999999999999999\" for \"-n, --last\" flag: strconv.ParseInt: parsing \"99999999999999999999\": value out of range",
            ),
        ] {
            assert_eq!(run(true, args).unwrap_err(), want);
        }
    }

    proptest::proptest! {
        /// No arguments make the parser panic, and what is behind `--` is never a flag.
        #[test]
        fn any_arguments(args in proptest::collection::vec("[-=a-zé]{0,6}", 0..6), last in "\\PC{0,6}") {
            let mut all: Vec<&str> = args.iter().map(String::as_str).collect();
            let _ = run(true, &all);
            all.insert(0, "--");
            all.push(&last);
            let parsed = run(true, &all).unwrap();
            proptest::prop_assert_eq!(parsed.args.last().map(String::as_str), Some(last.as_str()));
        }
    }
}
