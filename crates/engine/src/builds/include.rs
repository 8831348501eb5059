//! Files that a Dockerfile includes: read of the context, or of where the Dockerfile is.

use std::io;
use std::path::Path;

use build::dockerfile::TEXT_BYTES_MAX;
use build::ignore::Ignore;
use build::include::{self, Assembled, Files};
use build::request::{CONTEXT, Request, SharedSources, Wanted};
use sys::fsx::{self, FileType};
use sys::path::Root;

use super::{Failed, copying};
use crate::blocking;
use crate::error::{Error, Result};

/// What hides files, and what it is called.
type Rules = (Ignore, String);

/// A file that is wanted.
enum Found {
    Text(String),
    /// It may be elsewhere; why it is not here.
    Missing(String),
    /// It is not to be had.
    Refused(String),
}

/// Puts all that the Dockerfile includes into it.
pub(super) async fn assemble(request: &mut Request, sources: &SharedSources) -> Result<(), Failed> {
    let mut files = Files::new();
    // Each round knows files that were not known before, and how many there may be is bounded.
    loop {
        match include::assemble(&request.dockerfile, &files).map_err(Error::invalid)? {
            Assembled::Whole(document) => {
                request.dockerfile = document;
                return Ok(());
            }
            Assembled::Wants(paths) => find(request, sources, paths, &mut files).await?,
        }
    }
}

async fn find(
    request: &Request,
    sources: &SharedSources,
    paths: Vec<String>,
    files: &mut Files,
) -> Result<(), Failed> {
    let rules = super::ignore(request)?;
    let hidden = request.ignore.iter().flat_map(|ignore| ignore.text.lines()).map(str::to_owned).collect();
    let own = Path::new(&request.dockerfile.name).parent().filter(|above| !above.as_os_str().is_empty());
    let beside = |path: &str| own.map(|own| own.join(path).to_string_lossy().into_owned());
    // Where the Dockerfile is of the context itself, what lies beside it is as well.
    let is_one = request.beside.is_none();
    let mut wanted = paths.clone();
    wanted.extend(paths.iter().filter(|_| is_one).filter_map(|path| beside(path)));
    let context = sources.files(CONTEXT, &Wanted { paths: wanted, hidden }).await;
    let context =
        context.map_err(|error| Error::invalid(format!("failed to load the build context: {error}")))?;
    let root = copying::opened(&context)?;
    let names = paths.into_iter().map(|path| {
        let other = beside(&path).filter(|_| is_one);
        (path, other)
    });
    let mut missing = Vec::new();
    for (path, found) in read(root, names.collect(), rules).await? {
        match found {
            Found::Text(text) => drop(files.insert(path, Ok(text))),
            Found::Refused(why) => drop(files.insert(path, Err(why))),
            Found::Missing(why) => missing.push((path, why)),
        }
    }
    let Some(place) = request.beside.as_ref().filter(|_| !missing.is_empty()) else {
        files.extend(missing.into_iter().map(|(path, why)| (path, Err(why))));
        return Ok(());
    };
    let wanted = Wanted { paths: missing.iter().map(|(path, _)| path.clone()).collect(), hidden: Vec::new() };
    // What is wrong there says less than that the context has no such file.
    let found = match sources.files(place, &wanted).await {
        Ok(directory) => {
            let names = wanted.paths.into_iter().map(|path| (path, None)).collect();
            read(copying::opened(&directory)?, names, Rules::default()).await?
        }
        Err(_) => Vec::new(),
    };
    let mut found = found.into_iter();
    for (path, why) in missing {
        let text = match found.next() {
            Some((_, Found::Text(text))) => Ok(text),
            Some((_, Found::Refused(why))) => Err(why),
            _ => Err(why),
        };
        files.insert(path, text);
    }
    Ok(())
}

/// Reads files, each by its first name or by its second.
async fn read(
    root: Root,
    names: Vec<(String, Option<String>)>,
    rules: Rules,
) -> Result<Vec<(String, Found)>> {
    blocking::run("read included files", move || {
        let mut left = TEXT_BYTES_MAX;
        let mut all = Vec::new();
        for (path, other) in names {
            let mut found = one(&root, &path, &rules, left)?;
            if let (Found::Missing(why), Some(other)) = (&found, other) {
                let why = why.clone();
                found = match one(&root, &other, &rules, left)? {
                    Found::Missing(_) => Found::Missing(why),
                    found => found,
                };
            }
            if let Found::Text(text) = &found {
                left = left.saturating_sub(text.len());
            }
            all.push((path, found));
        }
        Ok(all)
    })
    .await
}

fn one(root: &Root, path: &str, (ignore, ignore_name): &Rules, bytes_max: usize) -> Result<Found> {
    match root.stat(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            let why = include::missing(path, ignore, ignore_name);
            if ignore.hides(path).is_some() {
                return Ok(Found::Refused(why));
            }
            let named = root.parent(Path::new(path)).and_then(|(dir, name)| fsx::stat_at(&dir, &name));
            let is_link = named.is_ok_and(|stat| fsx::kind(&stat) == FileType::Symlink);
            return Ok(Found::Missing(if is_link {
                format!("{why}: it is a link that leads out of it, or to nothing")
            } else {
                why
            }));
        }
        other => other.map_err(|error| Error::io("look at", Path::new(path), error))?,
    };
    let real = root.real(path).map_err(|error| Error::io("look at", Path::new(path), error))?;
    if let Some(rule) = include::hidden(path, &real.to_string_lossy(), ignore) {
        return Ok(Found::Refused(include::hidden_by(path, rule, ignore_name)));
    }
    Ok(match root.read_bounded(path, bytes_max as u64) {
        Ok(bytes) => match build::text::decode(path, bytes) {
            Ok(text) => Found::Text(text),
            Err(why) => Found::Refused(why),
        },
        Err(error) => Found::Refused(format!("{path:?}: cannot read it: {error}")),
    })
}
