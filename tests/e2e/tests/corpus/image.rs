//! What an image has: read from archives as `docker save` writes them, told in lines.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::path::Path;

use serde_json::Value;

/// Content that is shown as it is.
const SHOWN_BYTES_MAX: usize = 70;
/// Times before this (2020) are those that a case has set.
const SET_TIME_MAX: u64 = 1_577_836_800;

/// An image.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Its configuration.
    pub config: Value,
    /// Digests of its layers.
    pub layers: Vec<String>,
    files: BTreeMap<String, Node>,
    /// Files so far, of all layers.
    count: usize,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    kind: char,
    mode: u32,
    owner: (u64, u64),
    /// What it holds, where it leads, which device it is.
    content: String,
    attributes: BTreeMap<String, String>,
    time: u64,
    /// Which file it is a name of.
    file: usize,
}

impl Node {
    fn line(&self, path: &str) -> String {
        let (uid, gid) = self.owner;
        let mut line = match self.kind {
            'l' => format!("l {uid}:{gid} {path}"),
            kind => format!("{kind} {:o} {uid}:{gid} {path}", self.mode),
        };
        if !self.content.is_empty() {
            let _ = write!(line, " {}", self.content);
        }
        for (name, value) in &self.attributes {
            let _ = write!(line, " {name}={value}");
        }
        if self.time < SET_TIME_MAX && self.kind != 'l' {
            let _ = write!(line, " @{}", self.time);
        }
        line
    }

    fn is_as(&self, other: &Self) -> bool {
        let same = |node: &Self| Self { time: 0, file: 0, ..node.clone() };
        same(self) == same(other)
    }
}

/// The images of an archive, by their names without tags.
pub fn read(archive: &Path) -> BTreeMap<String, Image> {
    let entries = files(archive);
    let manifest: Value =
        serde_json::from_slice(entries.get("manifest.json").expect("a manifest")).expect("JSON");
    let mut images = BTreeMap::new();
    for one in manifest.as_array().expect("images") {
        let config = &entries[one["Config"].as_str().expect("a configuration")];
        let config: Value = serde_json::from_slice(config).expect("JSON");
        let ids = config["rootfs"]["diff_ids"].as_array().cloned().unwrap_or_default();
        let layers = ids.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut image = Image { config, layers, ..Image::default() };
        for layer in one["Layers"].as_array().expect("layers") {
            image.apply(&entries[layer.as_str().expect("a path")]);
        }
        for name in one["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let name = name.rsplit('/').next().and_then(|name| name.split(':').next()).unwrap_or_default();
            images.insert(name.to_owned(), image.clone());
        }
    }
    images
}

/// The files of an archive; where they are links, what those lead to.
fn files(archive: &Path) -> HashMap<String, Vec<u8>> {
    let file = std::fs::File::open(archive).expect("an archive");
    let mut found = HashMap::new();
    let mut links = Vec::new();
    for entry in tar::Archive::new(file).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let path = entry.path().expect("a path").to_string_lossy().into_owned();
        if let Some(target) = entry.link_name().expect("a link") {
            let target = target.to_string_lossy().trim_start_matches("../").to_owned();
            links.push((path, target));
            continue;
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its content");
        found.insert(path, bytes);
    }
    for (path, target) in links {
        let bytes = found[&target].clone();
        found.insert(path, bytes);
    }
    found
}

impl Image {
    /// One without files.
    pub fn of_config(config: Value) -> Self {
        Self { config, ..Self::default() }
    }

    fn apply(&mut self, layer: &[u8]) {
        let layer: &[u8] = &kit::fixtures::gunzipped(layer);
        let mut added = BTreeMap::new();
        for entry in tar::Archive::new(Cursor::new(layer)).entries().expect("a layer") {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").to_string_lossy().into_owned();
            let path = format!("/{}", path.trim_start_matches("./").trim_matches('/'));
            let (above, name) = path.rsplit_once('/').unwrap_or(("", &path));
            match name.strip_prefix(".wh.") {
                Some(".wh..opq") => {
                    let below = format!("{above}/");
                    self.files.retain(|path, _| !path.starts_with(&below));
                }
                Some(gone) => {
                    let gone = format!("{above}/{gone}");
                    let below = format!("{gone}/");
                    self.files.retain(|path, _| *path != gone && !path.starts_with(&below));
                }
                None => {
                    self.count += 1;
                    let node = node(&mut entry, self.count, &|path| {
                        added.get(path).or_else(|| self.files.get(path)).cloned()
                    });
                    added.insert(path, node);
                }
            }
        }
        for (path, node) in added {
            if node.kind != 'd' {
                let below = format!("{path}/");
                self.files.retain(|path, _| !path.starts_with(&below));
            }
            self.files.insert(path, node);
        }
    }

    /// What it has that its base has not, and what it has lost.
    pub fn tree(&self, base: &Self) -> String {
        let empty = Self::default();
        let base = if self.layers.first() == base.layers.first() { base } else { &empty };
        let mut first: HashMap<usize, &str> = HashMap::new();
        let mut text = String::new();
        for (path, node) in &self.files {
            if path == "/" || base.files.get(path).is_some_and(|other| other.is_as(node)) {
                continue;
            }
            let known = if node.kind == 'f' { first.get(&node.file) } else { None };
            match known {
                Some(first) => writeln!(text, "f {path} is {first}").expect("in memory"),
                None => writeln!(text, "{}", node.line(path)).expect("in memory"),
            }
            first.entry(node.file).or_insert(path);
        }
        for path in base.files.keys().filter(|path| !self.files.contains_key(*path)) {
            writeln!(text, "gone {path}").expect("in memory");
        }
        text
    }

    /// The fields of its configuration that say something its base does not.
    pub fn configuration(&self, base: &Self) -> String {
        let is_on = !self.layers.is_empty() && self.layers.first() == base.layers.first();
        let mut lines = Vec::new();
        let mut tell = |name: &str, value: &Value, other: &Value| {
            let says_nothing = match value {
                Value::Null | Value::Bool(false) => true,
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            if !(says_nothing || is_on && value == other) {
                lines.push(format!("{name}: {value}\n"));
            } else if says_nothing && is_on && !other.is_null() && value != other {
                lines.push(format!("{name}: none\n"));
            }
        };
        let names = self.config["config"].as_object().into_iter().chain(base.config["config"].as_object());
        let mut names: Vec<&String> = names.flat_map(|map| map.keys()).collect();
        names.sort();
        names.dedup();
        // The name of the image below, which is another one for each builder.
        for name in names.into_iter().filter(|name| *name != "Image") {
            tell(name, &self.config["config"][name], &base.config["config"][name]);
        }
        for name in ["author", "architecture", "os", "variant"] {
            tell(name, &self.config[name], &base.config[name]);
        }
        lines.concat()
    }

    /// Its history, but for that of its base: `+` before what made a layer.
    pub fn history(&self, base: &Self) -> String {
        let all = self.config["history"].as_array().cloned().unwrap_or_default();
        let inherited = base.config["history"].as_array().cloned().unwrap_or_default();
        let skip = if all.starts_with(&inherited) { inherited.len() } else { 0 };
        let line = |entry: &Value| {
            let sign = if entry["empty_layer"] == true { ' ' } else { '+' };
            format!("{sign} {}\n", entry["created_by"].as_str().unwrap_or_default().replace('\n', "\\n"))
        };
        all.iter().skip(skip).map(line).collect()
    }
}

fn node(entry: &mut tar::Entry<'_, impl Read>, number: usize, known: &dyn Fn(&str) -> Option<Node>) -> Node {
    let header = entry.header().clone();
    let link = entry.link_name().expect("a link").map(|path| path.to_string_lossy().into_owned());
    if header.entry_type().is_hard_link() {
        let target = format!("/{}", link.unwrap_or_default().trim_start_matches("./").trim_matches('/'));
        return known(&target).unwrap_or_else(|| panic!("a link to {target}, which is not there"));
    }
    let mut attributes = BTreeMap::new();
    for extension in entry.pax_extensions().ok().flatten().into_iter().flatten().flatten() {
        if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
            attributes.insert(name.to_owned(), shown(extension.value_bytes()));
        }
    }
    let (kind, content) = match header.entry_type() {
        tar::EntryType::Directory => ('d', String::new()),
        tar::EntryType::Symlink => ('l', format!("-> {}", link.unwrap_or_default())),
        tar::EntryType::Fifo => ('p', String::new()),
        kind @ (tar::EntryType::Char | tar::EntryType::Block) => {
            let number = |part: std::io::Result<Option<u32>>| part.ok().flatten().unwrap_or_default();
            let device = format!("{}:{}", number(header.device_major()), number(header.device_minor()));
            (if kind.is_character_special() { 'c' } else { 'b' }, device)
        }
        _ => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its content");
            ('f', shown(&bytes))
        }
    };
    Node {
        kind,
        mode: header.mode().expect("a mode") & 0o7777,
        owner: (header.uid().expect("an owner"), header.gid().expect("a group")),
        content,
        attributes,
        time: header.mtime().expect("a time"),
        file: number,
    }
}

fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= SHOWN_BYTES_MAX => format!("{text:?}"),
        _ => format!("{} bytes {}", bytes.len(), &kit::fixtures::digest(bytes)[7..23]),
    }
}
