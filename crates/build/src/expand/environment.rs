//! Variables and their values.

use std::collections::BTreeMap;

/// What a variable costs beside its letters.
const ENTRY_BYTES: usize = 64;

/// Variables, in the order in which they were first set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    values: BTreeMap<String, (usize, String)>,
    bytes: usize,
}

impl Environment {
    /// No variable.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads `NAME=value`, as configurations of images hold them.
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        let mut environment = Self::new();
        for entry in entries {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            environment.set(name, value);
        }
        environment
    }

    /// Sets a variable; one that was there stays at its place.
    pub fn set(&mut self, name: &str, value: &str) {
        let next = self.values.len();
        match self.values.get_mut(name) {
            Some((_, old)) => {
                self.bytes = self.bytes - old.len() + value.len();
                value.clone_into(old);
            }
            None => {
                self.bytes += Self::cost(name, value);
                self.values.insert(name.to_owned(), (next, value.to_owned()));
            }
        }
    }

    /// What a variable takes of memory.
    pub fn cost(name: &str, value: &str) -> usize {
        name.len() + value.len() + ENTRY_BYTES
    }

    /// What all of them take of memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| value.as_str())
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut entries: Vec<_> = self
            .values
            .iter()
            .map(|(name, (place, value))| (*place, name.as_str(), value.as_str()))
            .collect();
        entries.sort_unstable();
        entries.into_iter().map(|(_, name, value)| (name, value))
    }
}
