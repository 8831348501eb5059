//! Device rules in the form that the files of version 1 hold them in: all or nothing, and exceptions from that.

use std::collections::BTreeMap;

use super::devices::{ALL, Rule, letters, parse_letters};
use crate::error::Error;

/// Which devices an exception is about: `b` or `c`, major, minor; `None` for all of them.
type Key = (char, Option<u32>, Option<u32>);

/// A line to write: whether to the file of what is allowed, and its text.
pub(super) type Line = (bool, String);

/// What a group of version 1 holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct List {
    /// Whether all is allowed but for the exceptions, or nothing.
    open: bool,
    exceptions: BTreeMap<Key, u8>,
}

impl List {
    /// What the rules come to. Refused where version 1 cannot express it: an exception from an exception.
    pub(super) fn of(rules: &[Rule]) -> Result<Self, Error> {
        let mut list = Self { open: true, exceptions: BTreeMap::new() };
        rules.iter().try_for_each(|rule| list.add(rule))?;
        Ok(list)
    }

    fn add(&mut self, rule: &Rule) -> Result<(), Error> {
        if rule.is_for_all() {
            (self.open, self.exceptions) = (rule.allows(), BTreeMap::new());
            return Ok(());
        }
        let key = (if rule.block == Some(true) { 'b' } else { 'c' }, rule.major, rule.minor);
        if rule.allows() != self.open {
            *self.exceptions.entry(key).or_default() |= rule.access;
            return Ok(());
        }
        for (other, access) in &mut self.exceptions {
            if covers(&key, other) {
                *access &= !rule.access;
            } else if covers(other, &key) && *access & rule.access != 0 {
                return Err(Error::Unsupported(format!(
                    "linux.resources.devices: {} out of {} on a host with cgroup version 1",
                    text(&key, rule.access),
                    text(other, *access)
                )));
            }
        }
        self.exceptions.retain(|_, access| *access != 0);
        Ok(())
    }

    /// What is in a group's `devices.list`. Exceptions of one in which all is allowed are not shown there.
    pub(super) fn parse(shown: &str) -> Self {
        let mut list = Self { open: false, exceptions: BTreeMap::new() };
        for line in shown.lines() {
            if line.starts_with('a') {
                list.open = true;
            } else if let Some((key, access)) = parse_line(line) {
                *list.exceptions.entry(key).or_default() |= access;
            }
        }
        list
    }

    /// The lines that make it, whatever there was.
    pub(super) fn lines(&self) -> Vec<Line> {
        let all = (self.open, "a".to_owned());
        let exceptions = self.exceptions.iter().map(|(key, access)| (!self.open, text(key, *access)));
        std::iter::once(all).chain(exceptions).collect()
    }

    /// The lines that make `other` of it, such that what both allow is allowed all the time.
    pub(super) fn to(&self, other: &Self) -> Vec<Line> {
        if self.open || other.open {
            return other.lines();
        }
        let beyond = |these: &Self, those: &Self| -> Vec<(Key, u8)> {
            let more = |(key, access): (&Key, &u8)| {
                (*key, access & !those.exceptions.get(key).copied().unwrap_or_default())
            };
            these.exceptions.iter().map(more).filter(|(_, access)| *access != 0).collect()
        };
        let allow = beyond(other, self).into_iter().map(|(key, access)| (true, text(&key, access)));
        let deny = beyond(self, other).into_iter().map(|(key, access)| (false, text(&key, access)));
        allow.chain(deny).collect()
    }
}

/// Whether all that `small` is about is in `large`.
fn covers(large: &Key, small: &Key) -> bool {
    let wider = |large: Option<u32>, small: Option<u32>| large.is_none() || large == small;
    large.0 == small.0 && wider(large.1, small.1) && wider(large.2, small.2)
}

fn text((kind, major, minor): &Key, access: u8) -> String {
    let number = |n: &Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
    format!("{kind} {}:{} {}", number(major), number(minor), letters(access))
}

fn parse_line(line: &str) -> Option<(Key, u8)> {
    let mut words = line.split_whitespace();
    let kind = words.next()?.chars().next()?;
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let access = parse_letters(words.next()?).unwrap_or(ALL);
    Some(((kind, number(major)?, number(minor)?), access))
}

#[cfg(test)]
mod tests {
    use super::super::devices::rules;
    use super::*;
    use serde_json::json;

    fn list(json: serde_json::Value) -> Result<List, Error> {
        List::of(&rules(&serde_json::from_value::<Vec<_>>(json).unwrap()).unwrap())
    }

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|(allow, text)| format!("{}{text}", if *allow { '+' } else { '-' })).collect()
    }

    #[test]
    fn everything_goes_and_exceptions_come() {
        let made =
            texts(&list(json!([{"allow": true, "type": "c", "major": 10, "access": "r"}])).unwrap().lines());
        assert_eq!(made[0], "-a");
        assert!(made.contains(&"+c 10:* r".to_owned()) && made.contains(&"+b *:* m".to_owned()), "{made:?}");
        let all = json!([{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"}]);
        assert_eq!(texts(&list(all).unwrap().lines()), ["+a"]);
    }

    #[test]
    fn a_rule_that_is_not_about_everything_never_opens_everything() {
        let made =
            texts(&list(json!([{"allow": true, "major": 10, "minor": 7, "access": "rwm"}])).unwrap().lines());
        assert!(made.contains(&"+b 10:7 rwm".to_owned()) && made.contains(&"+c 10:7 rwm".to_owned()));
        assert!(!made.iter().any(|line| line.starts_with("+a")), "{made:?}");
    }

    #[test]
    fn what_is_denied_later_is_not_there() {
        let json = json!([
            {"allow": true, "type": "b", "major": 8, "minor": 1, "access": "rw"},
            {"allow": false, "type": "b", "major": 8, "access": "w"},
        ]);
        assert!(texts(&list(json).unwrap().lines()).contains(&"+b 8:1 r".to_owned()));
        let hole = json!([
            {"allow": true, "type": "b", "major": 8, "access": "rw"},
            {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"},
        ]);
        let error = list(hole).unwrap_err().to_string();
        assert!(error.contains("b 8:1 w out of b 8:* rw"), "{error}");
    }

    #[test]
    fn a_change_goes_through_no_moment_without() {
        let old = List::parse("c 1:3 rwm\nc 10:200 rw\n");
        let new = List::parse("c 1:3 rwm\nc 10:200 r\nb 7:* r\n");
        assert_eq!(texts(&old.to(&new)), ["+b 7:* r", "-c 10:200 w"]);
        assert_eq!(texts(&new.to(&old)), ["+c 10:200 w", "-b 7:* r"]);
        let all = List::parse("a *:* rwm\n");
        assert_eq!(texts(&all.to(&old)), ["-a", "+c 1:3 rwm", "+c 10:200 rw"]);
        assert_eq!(texts(&old.to(&all)), ["+a"]);
    }
}
