//! Where a build's result goes, and what goes with it: `--output`, `--push`, `--attest`, `--cache-to` and the like.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use buildkit::client::api::{CacheOptions, CacheOptionsEntry, Exporter};
use buildkit::client::{Stores, Taker, Takers};

use super::{failed, layout};
use crate::archive::STANDARD;
use crate::error::{Error, Result};
use crate::flags::Parsed;

/// Where an image goes that is for the engine itself.
const TO_ENGINE: &str = "moby";
/// Types of outputs that come to us.
const ARCHIVES: [&str; 3] = ["tar", "oci", "docker"];
/// What annotations are of, as their keys begin, and as outputs have it.
const SUBJECTS: [&str; 4] = ["manifest", "index", "manifest-descriptor", "index-descriptor"];

/// What the store is called that an image's blobs go to.
const EXPORT: &str = "export";

/// What begins the names of stores that are caches, and the tag that a cache has where nobody says otherwise.
const LOCAL: &str = "local:";
const LATEST: &str = "latest";
/// By what name the engine tells of a cache; of one of several, with its number behind a dot.
const MANIFEST: &str = "cache.manifest";

/// All outputs.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    pub(super) exporters: Vec<Exporter>,
    pub(super) takers: Takers,
    pub(super) stores: Stores,
    /// The directory that an image's blobs go to.
    layout: Option<PathBuf>,
    /// Archives that have another name until they are whole: that, and their own.
    unfinished: Vec<(PathBuf, PathBuf)>,
}

/// `key=value` words, divided by commas; a word in quotes may have commas itself.
fn fields(text: &str) -> Result<Vec<(String, String)>> {
    let wrong = |why: &str| Error::Message(format!("invalid value {text:?}: {why}"));
    let mut words: Vec<String> = vec![String::new()];
    let mut is_quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => words.push(String::new()),
            letter => words.last_mut().into_iter().for_each(|word| word.push(letter)),
        }
    }
    if is_quoted {
        return Err(wrong("a quote has no end"));
    }
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').ok_or_else(|| wrong("use KEY=VALUE,…"))?;
            Ok((key.trim().to_lowercase(), value.to_owned()))
        })
        .collect()
}

impl Outputs {
    /// Reads the flags.
    ///
    /// # Errors
    /// One of them is wrong, or there is no place for what is to come.
    pub(super) fn read(parsed: &Parsed) -> Result<Self> {
        let mut outputs = Self::default();
        let tags: Vec<&str> = parsed.list("tag").collect();
        let mut annotations = BTreeMap::new();
        for text in parsed.list("annotation") {
            annotation(text, &mut annotations)?;
        }
        let texts: Vec<&str> = parsed.list("output").collect();
        for text in &texts {
            outputs.add(text)?;
        }
        let has_image = outputs.exporters.iter().any(|one| one.r#type == TO_ENGINE);
        if texts.is_empty() || ((parsed.on("push") || parsed.on("load")) && !has_image) {
            outputs.exporters.push(Exporter { r#type: TO_ENGINE.to_owned(), attrs: HashMap::new() });
        }
        for exporter in &mut outputs.exporters {
            let is_image = exporter.r#type == TO_ENGINE;
            if is_image && parsed.on("push") {
                exporter.attrs.insert("push".to_owned(), "true".to_owned());
            }
            if is_image && parsed.on("load") {
                exporter.attrs.insert("store".to_owned(), "true".to_owned());
            }
            if !is_image && !matches!(exporter.r#type.as_str(), "oci" | "docker") {
                continue;
            }
            if !tags.is_empty() {
                exporter.attrs.insert("name".to_owned(), tags.join(","));
            }
            exporter.attrs.extend(annotations.clone());
        }
        Ok(outputs)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        let mut fields = match text {
            STANDARD => vec![("type".to_owned(), "tar".to_owned()), ("dest".to_owned(), STANDARD.to_owned())],
            // A path alone is a directory.
            path if !path.contains('=') => {
                vec![("type".to_owned(), "local".to_owned()), ("dest".to_owned(), path.to_owned())]
            }
            text => fields(text)?,
        };
        let mut take = |key: &str| {
            let at = fields.iter().position(|(name, _)| name == key)?;
            Some(fields.remove(at).1)
        };
        let kind =
            take("type").ok_or_else(|| Error::Message(format!("type is required for --output {text:?}")))?;
        let dest = take("dest");
        let mut attrs: HashMap<String, String> = fields.into_iter().collect();
        let number = self.exporters.len();
        let needed = || Error::Message(format!("dest is required for the output {kind}"));
        let kind = match kind.as_str() {
            "image" => TO_ENGINE.to_owned(),
            "registry" => {
                attrs.insert("push".to_owned(), "true".to_owned());
                attrs.entry("store".to_owned()).or_insert_with(|| "false".to_owned());
                TO_ENGINE.to_owned()
            }
            "cacheonly" => return Ok(()),
            "local" => {
                self.takers.insert(number, directory(&dest.ok_or_else(needed)?)?);
                kind
            }
            archive if ARCHIVES.contains(&archive) => {
                if archive == "oci" && attrs.get("tar").is_some_and(|value| super::is_off(value)) {
                    self.layout(&dest.ok_or_else(needed)?)?;
                    self.exporters.push(Exporter { r#type: kind, attrs });
                    return Ok(());
                }
                match dest {
                    Some(dest) => {
                        let taker = self.archive(&dest)?;
                        self.takers.insert(number, taker);
                        kind
                    }
                    // Without a place an image of Docker's is for the engine.
                    None if archive == "docker" => TO_ENGINE.to_owned(),
                    None => {
                        let taker = self.archive(STANDARD)?;
                        self.takers.insert(number, taker);
                        kind
                    }
                }
            }
            _ => kind,
        };
        self.exporters.push(Exporter { r#type: kind, attrs });
        Ok(())
    }

    /// A directory that an image's blobs go to, instead of an archive of them.
    fn layout(&mut self, dest: &str) -> Result<()> {
        if self.layout.is_some() {
            return Err(Error::say("an output with tar=false is there already: there is one at most"));
        }
        let folder = PathBuf::from(dest);
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        self.stores.insert(EXPORT.to_owned(), folder.clone());
        self.layout = Some(folder);
        Ok(())
    }

    /// A file for an archive: under another name until it is whole.
    fn archive(&mut self, dest: &str) -> Result<Taker> {
        if dest == STANDARD {
            let out = io::stdout();
            if out.is_terminal() {
                return Err(Error::say(
                    "dest file is required for the archive: refusing to write to a terminal",
                ));
            }
            let own = out.as_fd().try_clone_to_owned();
            let own = own.map_err(failed("open", Path::new("standard output")))?;
            return Ok(Taker::Archive(File::from(own)));
        }
        let path = PathBuf::from(dest);
        if path.is_dir() {
            return Err(Error::Message(format!("destination file {dest} is a directory")));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let unfinished = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file = File::create(&unfinished).map_err(failed("write", &unfinished))?;
        self.unfinished.push((unfinished, path));
        Ok(Taker::Archive(file))
    }

    /// Gives archives their names, now that they are whole, and makes what is in a directory be found.
    pub(super) fn finish(mut self, response: &HashMap<String, String>) -> Result<()> {
        if let Some(folder) = &self.layout {
            let told = response.get("containerimage.descriptor").map(|told| decoded(told));
            let descriptor =
                told.flatten().ok_or_else(|| Error::say("the engine does not tell of its image"))?;
            let names = response.get("image.name").map(String::as_str).unwrap_or_default();
            let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
            layout::put(folder, &descriptor, &names)?;
        }
        for (from, to) in std::mem::take(&mut self.unfinished) {
            fs::rename(&from, &to).map_err(failed("write", &to))?;
        }
        Ok(())
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        for (path, _) in &self.unfinished {
            // Nothing half-made stays; that it cannot be removed nobody can change.
            let _ = fs::remove_file(path);
        }
    }
}

fn directory(dest: &str) -> Result<Taker> {
    let path = Path::new(dest);
    fs::create_dir_all(path).map_err(failed("make", path))?;
    let opened = File::open(path).map_err(failed("open", path))?;
    Ok(Taker::Directory(OwnedFd::from(opened)))
}

/// `[SUBJECT[PLATFORM],…:]KEY=VALUE`, as outputs have it.
fn annotation(text: &str, all: &mut BTreeMap<String, String>) -> Result<()> {
    let wrong = || Error::Message(format!("invalid annotation {text:?}: use [manifest|index…:]KEY=VALUE"));
    let (head, value) = text.split_once('=').ok_or_else(wrong)?;
    let (subjects, key) = match head.split_once(':') {
        Some((subjects, key)) => (subjects, key),
        None => ("manifest", head),
    };
    for subject in subjects.split(',') {
        let (name, platform) = match subject.split_once('[') {
            Some((name, platform)) => (name, format!("[{platform}")),
            None => (subject, String::new()),
        };
        if !SUBJECTS.contains(&name) || key.is_empty() {
            return Err(wrong());
        }
        all.insert(format!("annotation-{name}{platform}.{key}"), value.to_owned());
    }
    Ok(())
}

/// `--attest`, `--provenance` and `--sbom`, as options of the frontend.
pub(super) fn attestations(parsed: &Parsed) -> Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for text in parsed.list("attest") {
        let mut words = fields(text)?;
        let at = words.iter().position(|(key, _)| key == "type");
        let at = at.ok_or_else(|| Error::Message(format!("attestation type not specified in {text:?}")))?;
        let (_, kind) = words.remove(at);
        let rest: Vec<String> = words.iter().map(|(key, value)| format!("{key}={value}")).collect();
        all.push((format!("attest:{kind}"), rest.join(",")));
    }
    for kind in ["provenance", "sbom"] {
        let Some(text) = parsed.text(kind) else { continue };
        let value = match text {
            "" | "true" | "1" if kind == "provenance" => "mode=min".to_owned(),
            "" | "true" | "1" => String::new(),
            "false" | "0" => "disabled=true".to_owned(),
            other => other.to_owned(),
        };
        all.push((format!("attest:{kind}"), value));
    }
    Ok(all)
}

/// Caches, and the directories of those that are in some.
#[derive(Debug, Default)]
pub(super) struct Caches {
    pub(super) options: Option<CacheOptions>,
    pub(super) stores: Stores,
    /// Directories that are written, by the numbers of their caches, and the tags that lead to what is.
    written: Vec<(usize, PathBuf, String)>,
}

impl Caches {
    /// Reads `--cache-from` and `--cache-to`.
    ///
    /// # Errors
    /// One of them is wrong, or its directory cannot be used.
    pub(super) fn read(parsed: &Parsed) -> Result<Self> {
        let mut caches = Self::default();
        let mut options = CacheOptions::default();
        for text in parsed.list("cache-from") {
            let mut entry = cache(text)?;
            if entry.r#type == "local" {
                caches.import(&mut entry)?;
            }
            options.imports.push(entry);
        }
        for text in parsed.list("cache-to") {
            let entry = cache(text)?;
            if entry.r#type == "local" {
                caches.export(options.exports.len(), &entry)?;
            }
            options.exports.push(entry);
        }
        // What Docker's users write since before there was --cache-to.
        let inline = super::arguments(parsed).remove("BUILDKIT_INLINE_CACHE");
        if inline.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
            && !options.exports.iter().any(|entry| entry.r#type == "inline")
        {
            options.exports.push(CacheOptionsEntry { r#type: "inline".to_owned(), ..Default::default() });
        }
        let is_none = options.imports.is_empty() && options.exports.is_empty();
        caches.options = (!is_none).then_some(options);
        Ok(caches)
    }

    fn import(&mut self, entry: &mut CacheOptionsEntry) -> Result<()> {
        let src = entry.attrs.get("src").cloned();
        let src = src.ok_or_else(|| Error::say("local cache importer requires src"))?;
        let folder = PathBuf::from(&src);
        let tag = entry.attrs.get("tag").map_or(LATEST, String::as_str);
        if !entry.attrs.contains_key("digest")
            && let Some(digest) = layout::find(&folder, tag)?
        {
            entry.attrs.insert("digest".to_owned(), digest);
        }
        self.stores.insert(format!("{LOCAL}{src}"), folder);
        Ok(())
    }

    fn export(&mut self, number: usize, entry: &CacheOptionsEntry) -> Result<()> {
        let dest = entry.attrs.get("dest").cloned();
        let dest = dest.ok_or_else(|| Error::say("local cache exporter requires dest"))?;
        let folder = PathBuf::from(&dest);
        fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        let tag = entry.attrs.get("tag").map_or(LATEST, String::as_str);
        self.written.push((number, folder.clone(), tag.to_owned()));
        self.stores.insert(format!("{LOCAL}{dest}"), folder);
        Ok(())
    }

    /// Makes what was written be found.
    pub(super) fn finish(&self, response: &HashMap<String, String>) -> Result<()> {
        for (number, folder, tag) in &self.written {
            // Of several each has its own; an engine that tells of one alone tells of the last.
            let own = response.get(&format!("{MANIFEST}.{number}"));
            let Some(told) = own.or_else(|| response.get(MANIFEST)) else { continue };
            let descriptor: serde_json::Value = serde_json::from_str(told)
                .map_err(|error| Error::Message(format!("the engine tells of its cache wrongly: {error}")))?;
            let digest = descriptor["digest"].as_str().unwrap_or_default();
            if layout::has(folder, digest) {
                layout::tag(folder, &descriptor, tag)?;
            }
        }
        Ok(())
    }
}

fn cache(text: &str) -> Result<CacheOptionsEntry> {
    if !text.contains('=') {
        let attrs = HashMap::from([("ref".to_owned(), text.to_owned())]);
        return Ok(CacheOptionsEntry { r#type: "registry".to_owned(), attrs });
    }
    let mut attrs: HashMap<String, String> = fields(text)?.into_iter().collect();
    let kind = attrs.remove("type");
    let kind = kind.ok_or_else(|| Error::Message(format!("type is required in {text:?}")))?;
    Ok(CacheOptionsEntry { r#type: kind, attrs })
}

/// An object that is told as JSON in base64.
fn decoded(value: &str) -> Option<serde_json::Value> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(value).ok()?;
    serde_json::from_slice::<serde_json::Value>(&bytes).ok().filter(serde_json::Value::is_object)
}

/// What a build has told of its outputs, as `--metadata-file` has it: what is JSON in base64 is JSON.
pub(super) fn metadata(build: &str, response: &HashMap<String, String>) -> String {
    let mut all: BTreeMap<&str, serde_json::Value> = response
        .iter()
        .map(|(key, value)| (key.as_str(), decoded(value).unwrap_or_else(|| value.as_str().into())))
        .collect();
    all.insert("buildx.build.ref", build.into());
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_divided() {
        let all = fields("type=local,\"dest=a,b\",X=1=2").unwrap();
        let all: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(all, [("type", "local"), ("dest", "a,b"), ("x", "1=2")]);
        assert!(fields("type=\"x").is_err() && fields("type").is_err());
    }

    #[test]
    fn each_cache_is_found_by_its_own_manifest() {
        let folders = tempfile::tempdir().unwrap();
        let digest = |letter: &str| format!("sha256:{}", letter.repeat(64));
        let told = |letter: &str| format!("{{\"digest\":\"{}\",\"size\":2}}", digest(letter));
        let mut caches = Caches::default();
        for (number, letter) in [(0, "a"), (2, "b"), (3, "c")] {
            let folder = folders.path().join(letter);
            fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
            if letter != "c" {
                fs::write(folder.join("blobs/sha256").join(letter.repeat(64)), "{}").unwrap();
            }
            caches.written.push((number, folder, LATEST.to_owned()));
        }
        let found = |letter: &str| layout::find(&folders.path().join(letter), LATEST).unwrap();
        // Of one that has nothing of what was told nothing is said.
        caches.finish(&HashMap::from([(MANIFEST.to_owned(), told("b"))])).unwrap();
        assert_eq!(["a", "b", "c"].map(found), [None, Some(digest("b")), None]);
        let each = [("cache.manifest", "b"), ("cache.manifest.0", "a"), ("cache.manifest.2", "b")];
        let each = each.into_iter().map(|(key, letter)| (key.to_owned(), told(letter)));
        caches.finish(&each.collect()).unwrap();
        assert_eq!(["a", "b", "c"].map(found), [Some(digest("a")), Some(digest("b")), None]);
    }

    #[test]
    fn annotations_say_what_they_are_of() {
        let mut all = BTreeMap::new();
        annotation("a.b=c=d", &mut all).unwrap();
        annotation("index,manifest[linux/arm64]:k=v", &mut all).unwrap();
        let keys: Vec<_> = all.keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            ["annotation-index.k", "annotation-manifest.a.b", "annotation-manifest[linux/arm64].k"]
        );
        assert!(annotation("x", &mut all).is_err() && annotation("image:k=v", &mut all).is_err());
    }

    #[test]
    fn a_descriptor_is_told_as_one() {
        use base64::Engine as _;
        let descriptor = base64::engine::general_purpose::STANDARD.encode("{\"size\":1}");
        let response = HashMap::from([
            ("containerimage.descriptor".to_owned(), descriptor),
            ("containerimage.digest".to_owned(), "sha256:00".to_owned()),
        ]);
        let text = metadata("x", &response);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["containerimage.descriptor"]["size"], 1);
        assert_eq!(read["containerimage.digest"], "sha256:00");
        assert_eq!(read["buildx.build.ref"], "x");
    }
}
