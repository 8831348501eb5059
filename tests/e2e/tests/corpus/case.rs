//! A case: what is built of what, and what has to come of it, as a text that is read, compared and written again.
//!
//! A file is a sentence on what it is about and sections, each begun by a line `== name`:
//!
//! - `base`: a Dockerfile that is built before, with an empty context, as the image `base-<group>-<name>`;
//! - `context`: a shell script that makes the context, in its directory, as root, with umask 022;
//! - `Dockerfile`, with words after it: `crlf` ends its lines as Windows does, `bom` puts a byte order mark before it, `stdin` sends it
//!   alone, without a context, `elsewhere` is none at all (the context has it);
//! - `build`: arguments of the build, one a line;
//! - `client`: `corten` where the classic builder's client has no word for what is asked;
//! - `tree`, `config`, `history`: what the image has that its base has not; `cached`: how many steps the second build finds in the cache;
//! - `change`: a script in the context after that, and `changed`: how many are found then;
//! - `error`: what is said in place of all that;
//! - `docker`, `buildah`: why this one makes something else of it, and what.
//!
//! `CORTEN_WRITE=1` writes what comes of them into them; the reasons are for people to give.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A case, by the names of its sections.
#[derive(Debug, Clone)]
pub struct Case {
    /// `group-name`.
    pub name: String,
    path: PathBuf,
    about: String,
    sections: Vec<(String, String)>,
}

/// What is written of a section that was blessed without a reason.
pub const UNREASONED: &str = "(why?)";

impl Case {
    /// All of them below a directory.
    pub fn all(directory: &Path) -> Vec<Self> {
        let mut cases = Vec::new();
        for group in fs::read_dir(directory).expect("the corpus").flatten() {
            for file in fs::read_dir(group.path()).expect("a group").flatten() {
                cases.push(Self::read(&file.path()));
            }
        }
        cases.sort_by(|one, other| one.name.cmp(&other.name));
        cases
    }

    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let of = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{}-{}", of(path.parent().unwrap_or(path)), of(path));
        let mut case = Self { name, path: path.to_owned(), about: String::new(), sections: Vec::new() };
        for line in text.split_inclusive('\n') {
            match (line.strip_prefix("== "), case.sections.last_mut()) {
                (Some(title), _) => case.sections.push((title.trim_end().to_owned(), String::new())),
                (None, None) => case.about.push_str(line),
                (None, Some((_, body))) => body.push_str(line),
            }
        }
        case
    }

    /// The same by another name.
    pub fn called(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    /// A section's text, whatever words follow its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.sections.iter().find(|(title, _)| title.split(' ').next() == Some(name));
        found.map(|(_, body)| body.as_str())
    }

    /// Whether the Dockerfile is said to be so.
    pub fn dockerfile_is(&self, how: &str) -> bool {
        let title = self.sections.iter().find(|(title, _)| title.split(' ').next() == Some("Dockerfile"));
        title.is_some_and(|(title, _)| title.split(' ').any(|word| word == how))
    }

    /// The Dockerfile as bytes.
    pub fn dockerfile(&self, server: &str) -> Option<Vec<u8>> {
        let mut text = self.get("Dockerfile").unwrap_or_default().replace("{server}", server);
        if self.dockerfile_is("elsewhere") {
            return None;
        }
        if self.dockerfile_is("crlf") {
            text = text.replace('\n', "\r\n");
        }
        if self.dockerfile_is("bom") {
            text.insert(0, '\u{feff}');
        }
        Some(text.into_bytes())
    }

    /// Arguments of the build.
    pub fn arguments(&self) -> Vec<&str> {
        self.get("build").unwrap_or_default().lines().collect()
    }

    /// Whether only our own client can ask for it.
    pub fn is_for_ours(&self) -> bool {
        self.get("client").is_some()
    }

    /// Puts a section in its place; one that there is nothing to say in goes.
    pub fn set(&mut self, name: &str, body: Option<&str>) {
        let at = self.sections.iter().position(|(title, _)| title.split(' ').next() == Some(name));
        match (at, body) {
            (Some(at), Some(body)) => self.sections[at].1 = body.to_owned(),
            (Some(at), None) => drop(self.sections.remove(at)),
            (None, Some(body)) => self.sections.push((name.to_owned(), body.to_owned())),
            (None, None) => {}
        }
        let order = [
            "base",
            "context",
            "Dockerfile",
            "client",
            "build",
            "tree",
            "config",
            "history",
            "cached",
            "change",
            "changed",
            "error",
            "docker",
            "buildah",
        ];
        let rank = |title: &str| order.iter().position(|known| title.split(' ').next() == Some(*known));
        self.sections.sort_by_key(|(title, _)| rank(title));
    }

    /// Writes the file again.
    pub fn write(&self) {
        let sections = self.sections.iter().map(|(title, body)| format!("== {title}\n{body}"));
        let text = format!("{}{}", self.about, sections.collect::<String>());
        fs::write(&self.path, text).expect("write a case");
    }

    /// Compares sections with what came of them; or puts that into the file, if that is asked for.
    pub fn compare(&mut self, found: &BTreeMap<&str, Option<String>>) -> Vec<String> {
        if std::env::var_os("CORTEN_WRITE").is_some() {
            for (name, text) in found {
                self.set(name, text.as_deref());
            }
            self.write();
            return Vec::new();
        }
        let mut wrong = Vec::new();
        for (name, text) in found {
            if self.get(name) != text.as_deref() {
                let lines =
                    difference(self.get(name).unwrap_or_default(), text.as_deref().unwrap_or_default());
                wrong.push(format!("{}: {name}:\n{lines}", self.name));
            }
        }
        wrong
    }

    /// The reason that is given for a peer's other result, and what that is.
    pub fn peer(&self, name: &str) -> (Option<String>, String) {
        let Some(text) = self.get(name) else { return (None, String::new()) };
        let is_change = |line: &&str| line.starts_with("+ ") || line.starts_with("- ");
        let (changes, reason): (Vec<&str>, Vec<&str>) = text.lines().partition(is_change);
        (Some(reason.join("\n")), changes.iter().map(|line| format!("{line}\n")).collect())
    }
}

/// Lines that only one of two texts has.
pub fn difference(expected: &str, found: &str) -> String {
    let lacks = |text: &str, line: &str| !text.lines().any(|other| other == line);
    let gone = expected.lines().filter(|line| lacks(found, line)).map(|line| format!("- {line}\n"));
    let new = found.lines().filter(|line| lacks(expected, line)).map(|line| format!("+ {line}\n"));
    gone.chain(new).collect()
}
