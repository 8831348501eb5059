//! Compares two documents field by field.

use std::collections::BTreeMap;

use serde_json::Value;

/// How a field is otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Docker has the field, Corten does not.
    OnlyDocker,
    /// Corten has the field, Docker does not.
    OnlyCorten,
    /// One has null, or another type.
    Type,
    /// Another value.
    Value,
}

impl How {
    /// In a table.
    pub fn text(self) -> &'static str {
        match self {
            Self::OnlyDocker => "Docker alone has it",
            Self::OnlyCorten => "Corten alone has it",
            Self::Type => "null, or another type",
            Self::Value => "another value",
        }
    }
}

/// Where, and how.
pub type Place = (String, String, How);

/// Differences with an example of each.
#[derive(Default)]
pub struct Differences {
    /// By the kind of the document, the path in it and how it differs.
    pub found: BTreeMap<Place, String>,
}

/// Fields whose value is of the moment: only its form is compared. A star is any one name.
const OF_THE_MOMENT: &[&str] = &include!("moment.rs");

/// What the kernel counts: only that it is a number is compared.
const COUNTED: &[&str] = &["stats/**", "exec inspect/Pid"];

/// Lists that are empty where nothing was read or written.
const READ_OR_NOT: &str = "stats/blkio_stats/**";

/// A path against a pattern with stars.
pub fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut names) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), names.next()) {
            (Some("**"), Some(_)) | (None, None) => return true,
            (Some(wanted), Some(name))
                if wanted.strip_suffix('*').is_some_and(|start| name.starts_with(start)) => {}
            (Some(wanted), Some(name)) if wanted == name => {}
            _ => return false,
        }
    }
}

/// The form of a value that is of the moment.
fn form(value: &Value) -> String {
    match value {
        Value::Number(number) => if number.as_f64() == Some(0.0) { "zero" } else { "number" }.to_owned(),
        Value::String(text) if text.len() > 18 && text.contains('T') && text.ends_with('Z') => {
            // Trailing zeros are left out of a fraction.
            if text.starts_with("0001") { text.clone() } else { "time".to_owned() }
        }
        // How long ago it was; the exit code is the same.
        Value::String(text) if text.starts_with("Up ") || text.ends_with(" ago") => {
            let is_time = |word: &&str| {
                word.parse::<u32>().is_ok() || ["Less", "than", "a", "second", "seconds"].contains(word)
            };
            text.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
        }
        Value::String(text) => {
            let class = |letter: char| match letter {
                '0'..='9' | 'a'..='f' => 'x',
                other => other,
            };
            let mut form: String = text.chars().map(class).collect();
            // Numbers have the digits that they have.
            if text.len() < 20 {
                form.retain(|letter| letter != 'x');
            }
            form
        }
        other => other.to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// What a list of objects without an order is put in order by.
fn key(value: &Value) -> String {
    let names = ["Destination", "Target", "PrivatePort", "Names", "Name"];
    let found = names.iter().find_map(|name| value.get(name));
    found.map(|found| format!("{found} {}", value["IP"])).unwrap_or_default()
}

fn ordered(list: &[Value]) -> Vec<&Value> {
    let mut list: Vec<&Value> = list.iter().collect();
    list.sort_by_key(|value| key(value));
    list
}

impl Differences {
    /// Compares what Docker said with what Corten did.
    pub fn compare(&mut self, document: &str, name: &str, docker: &Value, corten: &Value) {
        let before = self.found.clone();
        self.descend(document, "", docker, corten);
        for (_, example) in self.found.iter_mut().filter(|(place, _)| !before.contains_key(*place)) {
            *example = format!("{name}: {example}");
        }
    }

    fn descend(&mut self, document: &str, path: &str, docker: &Value, corten: &Value) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
        match (docker, corten) {
            (Value::Object(theirs), Value::Object(ours)) => {
                for (name, value) in theirs {
                    match ours.get(name) {
                        Some(our) => self.descend(document, &below(name), value, our),
                        None => self.note(document, &below(name), How::OnlyDocker, &value.to_string()),
                    }
                }
                for (name, value) in ours.iter().filter(|(name, _)| !theirs.contains_key(*name)) {
                    self.note(document, &below(name), How::OnlyCorten, &value.to_string());
                }
            }
            // Whether something was read of the disk is a matter of what the kernel had in memory.
            (Value::Array(theirs), Value::Array(ours))
                if (theirs.is_empty() || ours.is_empty())
                    && matches(READ_OR_NOT, &format!("{document}/{path}")) => {}
            (Value::Array(theirs), Value::Array(ours)) => {
                if theirs.len() != ours.len() {
                    self.note(document, path, How::Value, &format!("{docker} / {corten}"));
                    return;
                }
                for (their, our) in ordered(theirs).into_iter().zip(ordered(ours)) {
                    self.descend(document, &below("-"), their, our);
                }
            }
            _ if kind(docker) != kind(corten) => {
                self.note(document, path, How::Type, &format!("{docker} / {corten}"));
            }
            _ => {
                let place = format!("{document}/{path}");
                let moment = OF_THE_MOMENT.iter().any(|pattern| matches(pattern, &place));
                let counted = COUNTED.iter().any(|pattern| matches(pattern, &place)) && docker.is_number();
                let same = match (counted, moment) {
                    (true, _) => true,
                    (_, true) => form(docker) == form(corten),
                    _ => docker == corten,
                };
                if !same {
                    self.note(document, path, How::Value, &format!("{docker} / {corten}"));
                }
            }
        }
    }

    /// A document that only one has.
    pub fn alone(&mut self, document: &str, name: &str, how: How, value: &Value) {
        self.note(document, name, how, &value.to_string());
    }

    fn note(&mut self, document: &str, path: &str, how: How, example: &str) {
        let example: String = example.chars().take(200).collect();
        self.found.entry((document.to_owned(), path.to_owned(), how)).or_insert(example);
    }
}
