//! What a build is asked for, in the words of BuildKit's Dockerfile frontend.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use buildkit::client::{self as builder, Directory, Uploads};

use super::{Input, arguments, dockerfile_from_standard_input, labels, ulimits};
use crate::archive::STANDARD;
use crate::error::{Error, Result};
use crate::flags::Parsed;

/// What the frontend calls the directory of the Dockerfile, and that of the files.
const DOCKERFILE: &str = "dockerfile";
const CONTEXT: &str = "context";
/// What begins the names of directories that were given by name: theirs could be one of ours.
const NAMED: &str = "named-";

/// What is asked for, and what it needs of this machine.
#[derive(Default)]
pub(super) struct Asked {
    /// The frontend's options.
    pub(super) attributes: HashMap<String, String>,
    /// Directories that the engine may have files of.
    pub(super) directories: BTreeMap<String, Directory>,
    /// Archives that are built.
    pub(super) uploads: Uploads,
}

impl Asked {
    fn say(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.attributes.insert(key.into(), value.into());
    }

    fn maybe(&mut self, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.say(key, value.to_string());
        }
    }
}

/// Reads the flags.
///
/// # Errors
/// One of them is wrong, or a file is not there.
pub(super) fn read(parsed: &Parsed, input: Input) -> Result<Asked> {
    let mut asked = Asked::default();
    inputs(&mut asked, input, parsed.text("file").filter(|file| !file.is_empty()))?;
    for (name, value) in arguments(parsed) {
        asked.say(format!("build-arg:{name}"), value);
    }
    for (name, value) in labels(parsed) {
        asked.say(format!("label:{name}"), value);
    }
    for text in parsed.list("build-context") {
        named(&mut asked, text)?;
    }
    let given = |name| parsed.text(name).filter(|value: &&str| !value.is_empty());
    for (key, value) in super::output::attestations(parsed)? {
        asked.say(key, value);
    }
    asked.maybe("target", given("target"));
    asked.maybe("platform", given("platform"));
    asked.maybe("force-network-mode", given("network"));
    asked.maybe("cgroup-parent", given("cgroup-parent"));
    asked.maybe("shm-size", parsed.bytes("shm-size"));
    let stages: Vec<&str> = parsed.list("no-cache-filter").collect();
    if parsed.on("no-cache") {
        asked.say("no-cache", "");
    } else if !stages.is_empty() {
        asked.say("no-cache", stages.join(","));
    }
    if parsed.on("pull") {
        asked.say("image-resolve-mode", "pull");
    }
    if parsed.on("squash") {
        asked.say("squash", "true");
    }
    let limits: Vec<String> =
        ulimits(parsed)?.iter().map(|(name, soft, hard)| format!("{name}={soft}:{hard}")).collect();
    asked.maybe("ulimit", (!limits.is_empty()).then(|| limits.join(",")));
    let hosts = parsed.list("add-host").map(host).collect::<Result<Vec<_>>>()?;
    asked.maybe("add-hosts", (!hosts.is_empty()).then(|| hosts.join(",")));
    for name in ["cpu-period", "cpu-quota", "cpu-shares"] {
        asked.maybe(&format!("limit:{name}"), parsed.int(name));
    }
    for name in ["cpuset-cpus", "cpuset-mems"] {
        asked.maybe(&format!("limit:{name}"), given(name));
    }
    for name in ["memory", "memory-swap"] {
        asked.maybe(&format!("limit:{name}"), parsed.bytes(name));
    }
    Ok(asked)
}

/// A Dockerfile that is in no directory.
fn text(text: String) -> (String, Directory) {
    let texts = BTreeMap::from([("Dockerfile".to_owned(), text.into_bytes())]);
    ("Dockerfile".to_owned(), Directory::Texts(texts))
}

/// The directories of the Dockerfile and of the files, or where they are otherwise.
fn inputs(asked: &mut Asked, input: Input, file: Option<&str>) -> Result<()> {
    let (context, (name, dockerfile)) = match (input, file) {
        (Input::Address(address), file) => return elsewhere(asked, address, file),
        (Input::Archive(begun), file) => {
            let name = builder::name();
            let address = build::remote::upload_address(&name);
            asked.uploads.insert(name, Box::new(io::Cursor::new(begun).chain(io::stdin())));
            return elsewhere(asked, address, file);
        }
        (Input::Dockerfile(given), _) => (Directory::Texts(BTreeMap::new()), text(given)),
        (Input::Directory(directory), Some(STANDARD)) => {
            (Directory::Disk(directory), text(dockerfile_from_standard_input(Vec::new())?))
        }
        (Input::Directory(directory), file) => {
            let (name, above) = dockerfile_at(&directory, file)?;
            (Directory::Disk(directory), (name, Directory::Disk(above)))
        }
    };
    asked.say("filename", name);
    asked.directories.insert(CONTEXT.to_owned(), context);
    asked.directories.insert(DOCKERFILE.to_owned(), dockerfile);
    Ok(())
}

/// What the engine has as a whole before it has anything of ours.
fn elsewhere(asked: &mut Asked, address: String, file: Option<&str>) -> Result<()> {
    asked.say("context", address);
    if file == Some(STANDARD) {
        let (name, dockerfile) = text(dockerfile_from_standard_input(Vec::new())?);
        asked.say("filename", name);
        asked.say("dockerfilekey", DOCKERFILE);
        asked.directories.insert(DOCKERFILE.to_owned(), dockerfile);
    } else {
        asked.say("filename", file.unwrap_or("Dockerfile"));
    }
    Ok(())
}

/// The Dockerfile's name, and the directory that it is in.
pub(super) fn dockerfile_at(directory: &Path, file: Option<&str>) -> Result<(String, PathBuf)> {
    let path = file.map_or_else(|| directory.join("Dockerfile"), PathBuf::from);
    let absent = |path: &Path| {
        Error::Message(format!(
            "failed to read dockerfile: open {}: no such file or directory",
            path.display()
        ))
    };
    let Some(name) = path.file_name().map(|name| name.to_string_lossy().into_owned()) else {
        return Err(absent(&path));
    };
    let is_there = |path: &Path| fs::metadata(path).is_ok();
    // Older ones are written in small letters; the engine looks for both.
    let is_found = is_there(&path) || file.is_none() && is_there(&directory.join("dockerfile"));
    if !is_found {
        return Err(absent(&path));
    }
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = fs::canonicalize(above).map_err(super::failed("open", above))?;
    Ok((name, above))
}

/// `--build-context`.
fn named(asked: &mut Asked, text: &str) -> Result<()> {
    let refuse = |why: &str| Error::Message(format!("invalid --build-context {text:?}: {why}"));
    let (name, value) = text.split_once('=').ok_or_else(|| refuse("use NAME=PATH"))?;
    if name.is_empty() || value.is_empty() {
        return Err(refuse("use NAME=PATH"));
    }
    let key = format!("context:{name}");
    if value.contains("://") || value.starts_with("git@") {
        // What the engine does not have, it refuses by its name.
        asked.say(key, value);
        return Ok(());
    }
    let path = fs::canonicalize(value).map_err(|_| refuse("there is no such directory"))?;
    if !path.is_dir() {
        return Err(refuse("it is not a directory"));
    }
    let place = format!("{NAMED}{name}");
    asked.say(key, format!("local:{place}"));
    asked.directories.insert(place, Directory::Disk(path));
    Ok(())
}

/// `--add-host`, as the frontend reads it.
fn host(text: &str) -> Result<String> {
    let wrong = || Error::Message(format!("invalid argument \"{text}\" for --add-host: use NAME:ADDRESS"));
    let (name, address) = text.split_once('=').or_else(|| text.split_once(':')).ok_or_else(wrong)?;
    if name.is_empty() || address.is_empty() {
        return Err(wrong());
    }
    Ok(format!("{name}={address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        assert_eq!(host("a:10.0.0.1").unwrap(), "a=10.0.0.1");
        assert_eq!(host("a=::1").unwrap(), "a=::1");
        assert_eq!(host("a:[::1]").unwrap(), "a=[::1]");
        assert_eq!(host("up:host-gateway").unwrap(), "up=host-gateway");
        assert!(host("a").is_err() && host(":1").is_err() && host("a:").is_err());
    }

    #[test]
    fn names_of_directories_are_never_ours() {
        let mut asked = Asked::default();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        named(&mut asked, &format!("context={}", path.display())).unwrap();
        named(&mut asked, "base=docker-image://alpine").unwrap();
        assert_eq!(asked.attributes["context:context"], "local:named-context");
        assert_eq!(asked.attributes["context:base"], "docker-image://alpine");
        assert!(matches!(&asked.directories["named-context"], Directory::Disk(disk) if *disk == path));
        for wrong in ["x", "=x", "x=", "x=/nowhere/at/all", "x=/etc/passwd"] {
            assert!(named(&mut asked, wrong).is_err(), "{wrong}");
        }
    }
}
