//! `--watch`: builds again whenever something changes that a build may read.

mod place;
mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{Caches, Outputs};
use super::{Builder, Input, include, request, secret, ssh};
use crate::archive::STANDARD;
use crate::error::{Error, Result, told};
use crate::flags::Parsed;
use crate::session::Session;
use place::{Own, Place};
use tree::{CHANGED_MAX, Watcher};

/// How long nothing changes before it is built: editors and version control write several files in one go.
const SETTLE: Duration = Duration::from_millis(100);
/// How long it is waited for that at most: something may change all the time.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Letters of an image's id that are shown.
const ID_LETTERS: usize = 12;
/// Changed files that are named.
const NAMED_MAX: usize = 3;

/// What ends the watching, and the exit codes that a shell would tell.
const ENDS: [(SignalKind, u8); 3] =
    [(SignalKind::interrupt(), 130), (SignalKind::terminate(), 143), (SignalKind::hangup(), 129)];

/// The directory that is built and watched.
///
/// # Errors
/// It is none, or something is asked for that cannot be done again and again.
pub(super) fn directory(parsed: &Parsed) -> Result<PathBuf> {
    let place = &parsed.args[0];
    if place == STANDARD || parsed.text("file") == Some(STANDARD) {
        return Err(Error::say(
            "--watch cannot read standard input again: give a directory, and the Dockerfile as a file",
        ));
    }
    let Input::Directory(directory) = super::input(place, parsed.text("file"))? else {
        return Err(Error::Message(format!("--watch watches a directory on this machine: {place} is none")));
    };
    for text in parsed.list("output") {
        if is_standard_output(text) {
            return Err(Error::Message(format!(
                "--watch cannot write to standard output again and again: give --output {text:?} a file with dest="
            )));
        }
    }
    let outputs = destinations(parsed);
    if let Some(output) = outputs.iter().find(|output| directory.starts_with(output)) {
        return Err(Error::Message(format!(
            "--watch cannot write to {}: it holds the directory that is watched",
            output.display()
        )));
    }
    Ok(directory)
}

/// The fields of an output or of a cache; a path alone is where it goes.
fn destination(text: &str) -> Option<&str> {
    if !text.contains('=') {
        return Some(text);
    }
    text.split(',').find_map(|field| field.trim().strip_prefix("dest="))
}

fn is_standard_output(text: &str) -> bool {
    let is_archive = |kind| text.split(',').any(|field| field.trim() == format!("type={kind}"));
    match destination(text) {
        Some(dest) => dest == STANDARD,
        None => is_archive("tar") || is_archive("oci"),
    }
}

/// Where a build writes itself: what changes there is no reason to build again.
fn destinations(parsed: &Parsed) -> Vec<PathBuf> {
    let outputs = parsed
        .list("output")
        .chain(parsed.list("cache-to"))
        .filter(|text| text.contains("dest=") || !text.contains('='));
    let files = ["iidfile", "metadata-file"].into_iter().filter_map(|flag| parsed.text(flag));
    outputs.filter_map(destination).chain(files).filter_map(|path| place::whole(Path::new(path))).collect()
}

/// Builds, and builds again at each change, until a signal.
///
/// # Errors
/// What is asked for is wrong from the beginning, or nothing can be watched. [`Error::Exit`] at the end.
pub(super) async fn run(
    session: &Session,
    parsed: &Parsed,
    builder: Builder,
    directory: PathBuf,
) -> Result<()> {
    let mut ends = Ends::new()?;
    // What is wrong with the flags is told once.
    if builder == Builder::BuildKit {
        drop(request::read(parsed, Input::Directory(directory.clone()))?);
        drop((Outputs::read(parsed)?, Caches::read(parsed)?));
        drop((secret::read(parsed.list("secret"))?, ssh::read(parsed.list("ssh"))?));
    }
    let file = parsed.text("file").filter(|file| !file.is_empty());
    let mut watcher = Watcher::new(places(parsed, &directory), destinations(parsed))?;
    let is_quiet = parsed.on("quiet");
    let tell = |text: String| {
        if !is_quiet {
            session.note(&format!("[{}] {text}", jiff::Zoned::now().strftime("%H:%M:%S")));
        }
    };
    loop {
        watcher.read_files(own(&directory, file))?;
        let began = Instant::now();
        let input = Input::Directory(directory.clone());
        let built = tokio::select! {
            biased;
            code = ends.next() => return Err(Error::Exit(code)),
            changed = watcher.changed() => Err(changed?),
            built = builder.build(session, parsed, input) => Ok(built),
        };
        let changed = match built {
            // Nobody wants an image of what was.
            Err(changed) => {
                let changed = settled(&mut watcher, &mut ends, changed).await?;
                tell(format!("{} changed while it was built: building anew", names(&changed)));
                continue;
            }
            Ok(built) => {
                let took = format!("{:.1}s", began.elapsed().as_secs_f64());
                if let Err(Error::Exit(_)) = built {
                    return built.map(drop);
                }
                let result = match &built {
                    Ok(Some(id)) => format!("built {} in {took}", short(id)),
                    Ok(None) => format!("done in {took}"),
                    Err(error) => {
                        session.note(&told(error));
                        format!("failed after {took}")
                    }
                };
                tell(format!("{result}; watching {} for changes (Ctrl-C ends)", directory.display()));
                tokio::select! {
                    biased;
                    code = ends.next() => return Err(Error::Exit(code)),
                    changed = watcher.changed() => changed?,
                }
            }
        };
        let changed = settled(&mut watcher, &mut ends, changed).await?;
        tell(format!("{} changed: building", names(&changed)));
    }
}

fn short(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.chars().take(ID_LETTERS).collect()
}

fn names(changed: &BTreeSet<String>) -> String {
    let named: Vec<&str> = changed.iter().take(NAMED_MAX).map(String::as_str).collect();
    match changed.len().saturating_sub(NAMED_MAX) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Waits until nothing changes for a while.
async fn settled(
    watcher: &mut Watcher,
    ends: &mut Ends,
    mut changed: BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let began = Instant::now();
    while began.elapsed() < SETTLE_MAX {
        tokio::select! {
            biased;
            code = ends.next() => return Err(Error::Exit(code)),
            more = watcher.changed() => {
                let room = CHANGED_MAX.saturating_sub(changed.len());
                changed.extend(more?.into_iter().take(room));
            }
            () = tokio::time::sleep(SETTLE) => break,
        }
    }
    Ok(changed)
}

/// The directories that a build reads, and what hides files of them.
fn places(parsed: &Parsed, directory: &Path) -> Vec<Place> {
    let mut places = vec![Place::context(directory)];
    for (_, value) in parsed.list("build-context").filter_map(|text| text.split_once('=')) {
        let is_address = value.contains("://") || value.starts_with("git@");
        if let Some(path) = place::whole(Path::new(value)).filter(|path| !is_address && path.is_dir()) {
            places.push(Place::named(&path));
        }
    }
    places
}

/// The Dockerfile, what it includes from beside it, and what hides files of the context.
fn own(directory: &Path, file: Option<&str>) -> Own {
    let path = file.map_or_else(|| directory.join("Dockerfile"), PathBuf::from);
    let mut own = Own::new(directory, &path);
    if file.is_none() {
        own.add(&directory.join("dockerfile"));
    }
    // What is wrong with it the build tells.
    if let Ok((main, above)) = include::dockerfile(directory, file)
        && let Ok(document) = include::whole(main, Some(directory), Some(&above))
    {
        for (name, _) in document.files().into_iter().skip(1) {
            own.add(&directory.join(name));
            own.add(&above.join(name));
        }
    }
    own
}

/// Signals that end it.
struct Ends(Vec<(Signal, u8)>);

impl Ends {
    fn new() -> Result<Self> {
        let wrong = |source| Error::File { verb: "catch", path: "signals".to_owned(), source };
        let all = ENDS.into_iter().map(|(kind, code)| Ok((signal(kind).map_err(wrong)?, code)));
        Ok(Self(all.collect::<Result<_>>()?))
    }

    /// The exit code of the signal that comes.
    async fn next(&mut self) -> u8 {
        std::future::poll_fn(|context| {
            for (signal, code) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*code);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_outputs_go() {
        for text in ["-", "type=tar", "type=oci,dest=-", "type=oci,name=x"] {
            assert!(is_standard_output(text), "{text}");
        }
        for text in ["out", "type=local,dest=x", "type=tar,dest=x.tar", "type=docker", "type=image,push=true"]
        {
            assert!(!is_standard_output(text), "{text}");
        }
    }

    #[test]
    fn few_names_are_told() {
        let names = |all: &[&str]| names(&all.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(names(&["a"]), "a");
        assert_eq!(names(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
