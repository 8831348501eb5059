//! A Dockerfile with all that it includes, as the engine puts it together: read here, where a question is answered without one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use build::dockerfile::TEXT_BYTES_MAX;
use build::ignore::Ignore;
use build::include::{Assembled, Files, Text, assemble, hidden, hidden_by, missing};
use build::request::Document;
use sys::path::Root;

use super::{failed, request};
use crate::error::{Error, Result};

/// What hides files of a context.
const IGNORE: &str = ".dockerignore";

/// The Dockerfile as it was written, and the directory that it is in.
pub(super) fn dockerfile(directory: &Path, file: Option<&str>) -> Result<(Document, PathBuf)> {
    let (name, above) = request::dockerfile_at(directory, file)?;
    let path = above.join(&name);
    let path = if path.exists() { path } else { above.join(name.to_lowercase()) };
    let bytes = fs::read(&path).map_err(failed("read", &path))?;
    let text = build::text::decode(&name, bytes).map_err(Error::Message)?;
    Ok((Document::new(name, text), above))
}

/// Puts in what it includes: files of the context, or of the directory that it is in.
pub(super) fn whole(main: Document, context: Option<&Path>, above: Option<&Path>) -> Result<Document> {
    let mut files = Files::new();
    // Each round knows files that were not known before, and how many there may be is bounded.
    loop {
        match assemble(&main, &files).map_err(Error::Message)? {
            Assembled::Whole(document) => return Ok(document),
            Assembled::Wants(paths) => find(&main.name, paths, context, above, &mut files)?,
        }
    }
}

fn find(
    name: &str,
    paths: Vec<String>,
    context: Option<&Path>,
    above: Option<&Path>,
    files: &mut Files,
) -> Result<()> {
    let (ignore, ignore_name) = rules(name, context, above)?;
    let open = |directory: &Path| Root::open(directory).map_err(failed("open", directory));
    let context = context.map(open).transpose()?;
    let above = above.map(open).transpose()?;
    for path in paths {
        let mut found: Option<Text> = None;
        if let Some(root) = &context {
            found = one(root, &path, &ignore, &ignore_name);
        }
        let may_be_beside = found.is_none() && ignore.hides(&path).is_none();
        if let Some(root) = above.as_ref().filter(|_| may_be_beside) {
            found = one(root, &path, &Ignore::default(), "");
        }
        let found: Text = found.unwrap_or_else(|| Err(missing(&path, &ignore, &ignore_name)));
        files.insert(path, found);
    }
    Ok(())
}

/// What hides files: that of the Dockerfile's own, or of the context.
pub(super) fn rules(name: &str, context: Option<&Path>, above: Option<&Path>) -> Result<(Ignore, String)> {
    let own = format!("{name}{IGNORE}");
    let places = [(above, own.as_str()), (context, IGNORE)];
    for (directory, name) in places {
        let Some(path) = directory.map(|directory| directory.join(name)) else { continue };
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(failed("read", &path))?,
        };
        let ignore = Ignore::parse(&text).map_err(|error| Error::Message(format!("{name}: {error}")))?;
        return Ok((ignore, name.to_owned()));
    }
    Ok((Ignore::default(), String::new()))
}

/// A file of a directory, or why it cannot be had; nothing if there is none.
fn one(root: &Root, path: &str, ignore: &Ignore, ignore_name: &str) -> Option<Text> {
    let read = || -> io::Result<Text> {
        let real = root.real(path)?;
        if let Some(rule) = hidden(path, &real.to_string_lossy(), ignore) {
            return Ok(Err(hidden_by(path, rule, ignore_name)));
        }
        Ok(build::text::decode(path, root.read_bounded(path, TEXT_BYTES_MAX as u64)?))
    };
    match read() {
        Ok(read) => Some(read),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        Err(error) => Some(Err(format!("{path:?}: cannot read it: {error}"))),
    }
}
