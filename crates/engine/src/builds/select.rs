//! Which files an instruction means: patterns, `.dockerignore`, `--exclude`; and a walk over them.
//!
//! Trees are walked by descriptor, nothing in them is followed but the path that was named itself, inside its root.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use build::ignore::{Above, Glob, Ignore, Rule, clean};
use sys::fsx::{self, FileType, Stat};
use sys::path::Root;

use super::ahead::{self, Ahead};
use crate::error::{Error, Result};

/// Directories within each other: as deep as a layer may be.
const DEPTH_MAX: usize = 512;
/// Files that one pattern may stand for: a copy of more names directories.
const PICKED_MAX: usize = 1_000_000;
/// Where the directories begin that `--parents` keeps.
const PIVOT: &str = "/./";

/// What hides files.
#[derive(Debug, Clone, Default)]
pub(super) struct Sieve {
    /// `.dockerignore`, which counts from the root.
    pub ignore: Ignore,
    /// The name of the file that it is from.
    pub ignore_name: String,
    /// Whether what it sifts is the build's context.
    pub is_of_context: bool,
    /// `--exclude`, which counts from what is copied.
    pub exclude: Ignore,
}

/// Something that was named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Picked {
    /// From the root, clean, without a slash at its beginning; empty for the root itself.
    pub path: PathBuf,
    /// The same with all links followed: what `.dockerignore` hides is hidden by whatever name.
    pub real: PathBuf,
    /// Whether it is a directory, or a link to one.
    pub is_directory: bool,
    /// Of a directory: the pattern of what is meant in it, with the directories above; everything if there is none.
    pub only: Option<String>,
}

/// What is meant of a directory, where not everything is.
#[derive(Debug)]
struct Only {
    /// What matches is meant, with all that is below it.
    pattern: Ignore,
    /// The steps of the pattern up to the first that may be any number of directories.
    steps: Vec<Glob>,
    /// Whether there is one such.
    is_open: bool,
}

impl Only {
    fn new(pattern: &str) -> Result<Self> {
        let wrong = |error: build::ignore::Error| Error::invalid(error.to_string());
        let steps: Vec<&str> = pattern.split('/').collect();
        let closed = steps.iter().take_while(|step| !step.contains("**")).count();
        Ok(Self {
            pattern: Ignore::from_patterns([pattern]).map_err(wrong)?,
            steps: steps
                .iter()
                .take(closed)
                .map(|step| Glob::parse(step))
                .collect::<Result<_, _>>()
                .map_err(wrong)?,
            is_open: closed < steps.len(),
        })
    }

    /// Whether something below a directory may be meant.
    fn may_be_below(&self, path: &Path) -> bool {
        let mut steps = self.steps.iter();
        for name in path {
            match steps.next() {
                Some(glob) if glob.matches(&name.to_string_lossy()) => {}
                Some(_) => return false,
                None => return self.is_open,
            }
        }
        self.is_open || steps.next().is_some()
    }
}

fn failed(verb: &'static str, path: &Path, error: io::Error) -> Error {
    Error::io(verb, path, error)
}

/// What a pattern stands for. What is named without wildcards has to be there.
pub(super) fn pick(root: &Root, pattern: &str, sieve: &Sieve) -> Result<Vec<Picked>> {
    let path = clean(&format!("/{pattern}"));
    let path = path.trim_start_matches('/');
    if !Glob::is_pattern(path) {
        return Ok(vec![named(root, path, sieve)?]);
    }
    let steps: Vec<&str> = path.split('/').collect();
    let mut found = Vec::new();
    // Links before the first wildcard are followed, those that a walk meets are not.
    let wild = steps.iter().position(|step| Glob::is_pattern(step)).unwrap_or(0);
    let (fixed, steps) = steps.split_at(wild);
    let above: PathBuf = fixed.iter().collect();
    expand(root, &above, steps, sieve, &mut found)?;
    found.sort();
    Ok(found)
}

/// What a pattern of `--parents` stands for: directories, and the pattern of what is meant in each.
pub(super) fn pick_with_parents(root: &Root, source: &str, sieve: &Sieve) -> Result<Vec<Picked>> {
    let (pivot, pattern) = source.split_once(PIVOT).unwrap_or(("", source));
    let pattern = clean(&format!("/{pattern}"));
    let pattern = pattern.trim_start_matches('/');
    let pivots = pick(root, pivot, sieve)?;
    if !Glob::is_pattern(pivot) && !Glob::is_pattern(pattern) {
        let whole = clean(&format!("/{pivot}/{pattern}"));
        let whole = whole.trim_start_matches('/');
        named(root, whole, sieve)?;
        no_links_above(root, Path::new(whole), clean(&format!("/{pivot}")).trim_start_matches('/'))?;
    }
    let directories = pivots.into_iter().filter(|picked| picked.is_directory);
    let only = Some(pattern.to_owned()).filter(|pattern| !pattern.is_empty());
    Ok(directories.map(|picked| Picked { only: only.clone(), ..picked }).collect())
}

/// Refuses a path that goes by way of a link: the directories above would be others than those that are named.
fn no_links_above(root: &Root, path: &Path, pivot: &str) -> Result<()> {
    for above in path
        .ancestors()
        .skip(1)
        .take_while(|above| !above.as_os_str().is_empty() && *above != Path::new(pivot))
    {
        let parted = root.parent(above).and_then(|(dir, name)| fsx::stat_at(&dir, &name));
        let stat = parted.map_err(|error| failed("look at", above, error))?;
        if fsx::kind(&stat) == FileType::Symlink {
            return Err(Error::invalid(format!(
                "failed to compute cache key: \"/{}\": not found: {} is a link, which --parents does not follow: name where it leads",
                path.display(),
                above.display()
            )));
        }
    }
    Ok(())
}

/// What is at a path.
pub(super) fn pick_one(root: &Root, path: &str, sieve: &Sieve) -> Result<Picked> {
    named(root, clean(&format!("/{path}")).trim_start_matches('/'), sieve)
}

fn named(root: &Root, path: &str, sieve: &Sieve) -> Result<Picked> {
    let missing =
        |why: &str| Error::invalid(format!("failed to compute cache key: \"/{path}\": not found{why}"));
    let told = |rule: &Rule| format!("{} hides it (line {}: {})", sieve.ignore_name, rule.line, rule.text);
    let stat = match root.stat(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            // Who sends a context leaves out what is hidden.
            let rule = hidden(path, Path::new(path), false, &sieve.ignore);
            let why = match (rule, sieve.is_of_context) {
                (Some(rule), _) => format!(" in the build context: if it is there, {}", told(rule)),
                (None, true) => " in the build context".to_owned(),
                (None, false) => String::new(),
            };
            return Err(missing(&why));
        }
        other => other.map_err(|error| failed("look at", Path::new(path), error))?,
    };
    let is_directory = fsx::kind(&stat) == FileType::Directory;
    let real = root.real(path).map_err(|error| failed("look at", Path::new(path), error))?;
    if let Some(rule) = hidden(path, &real, is_directory, &sieve.ignore) {
        return Err(missing(&format!(": it is in the build context, and {}", told(rule))));
    }
    Ok(Picked { path: PathBuf::from(path), real, is_directory, only: None })
}

/// The rule that hides what was found, by its name or by what the name leads to. In a directory something may be brought back.
fn hidden<'a>(path: &str, real: &Path, is_directory: bool, ignore: &'a Ignore) -> Option<&'a Rule> {
    if ignore.is_empty() || (is_directory && ignore.has_exceptions()) {
        return None;
    }
    let hides = |path: &str| if path.is_empty() { None } else { ignore.hides(path) };
    hides(path).or_else(|| hides(&real.to_string_lossy()))
}

fn expand(root: &Root, above: &Path, steps: &[&str], sieve: &Sieve, found: &mut Vec<Picked>) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else { return Ok(()) };
    let glob = Glob::parse(step).map_err(|error| Error::invalid(error.to_string()))?;
    let dir = match root.open_dir(if above.as_os_str().is_empty() { Path::new(".") } else { above }) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        other => other.map_err(|error| failed("open", above, error))?,
    };
    let real_above = root.real(above).map_err(|error| failed("look at", above, error))?;
    for entry in fsx::list(&dir).map_err(|error| failed("list", above, error))? {
        let name = entry.name.to_string_lossy();
        if !glob.matches(&name) {
            continue;
        }
        let path = above.join(&entry.name);
        if !rest.is_empty() {
            if fsx::stat_at(&dir, &entry.name).is_ok_and(|stat| fsx::kind(&stat) == FileType::Symlink) {
                continue;
            }
            expand(root, &path, rest, sieve, found)?;
            continue;
        }
        let Ok(stat) = root.stat(&path) else { continue };
        let is_directory = fsx::kind(&stat) == FileType::Directory;
        let real = match entry.kind {
            FileType::Symlink | FileType::Unknown => match root.real(&path) {
                Ok(real) => real,
                Err(_) => continue,
            },
            _ => real_above.join(&entry.name),
        };
        if hidden(&path.to_string_lossy(), &real, is_directory, &sieve.ignore).is_some() {
            continue;
        }
        if found.len() == PICKED_MAX {
            return Err(Error::invalid(format!("a pattern stands for more than {PICKED_MAX} files")));
        }
        found.push(Picked { path, real, is_directory, only: None });
    }
    Ok(())
}

/// One entry of a tree.
pub(super) struct Item<'a> {
    /// The directory that it is in.
    pub dir: &'a OwnedFd,
    /// Its name there.
    pub name: &'a OsStr,
    /// What it is.
    pub stat: &'a Stat,
    /// Its path from what was named.
    pub path: &'a Path,
}

/// Who is told of a tree's entries, in the order of their names.
pub(super) trait Visitor {
    /// A directory, whose entries follow.
    fn enter(&mut self, item: &Item<'_>, fd: &OwnedFd) -> io::Result<()>;
    /// The end of the directory that was entered last.
    fn leave(&mut self) -> io::Result<()>;
    /// Anything else.
    fn node(&mut self, item: &Item<'_>) -> io::Result<()>;
}

struct Pending {
    parent: OwnedFd,
    name: OsString,
    stat: Stat,
    path: PathBuf,
    fd: OwnedFd,
}

struct Walker<'a, V> {
    sieve: &'a Sieve,
    only: Option<Only>,
    visitor: &'a mut V,
    /// Directories that are hidden, while nothing in them was found that is not.
    pending: Vec<Pending>,
    depth: usize,
    /// Where it is: from the root of all, and from what was named.
    whole: PathBuf,
    path: PathBuf,
    ahead: Option<&'a Ahead>,
}

/// Tells of what is in a directory that was picked.
pub(super) fn walk<V: Visitor>(root: &Root, picked: &Picked, sieve: &Sieve, visitor: &mut V) -> Result<()> {
    let (fd, at) = opened(root, picked)?;
    let ignored = above(&sieve.ignore, &picked.real);
    let only = picked.only.as_deref().map(Only::new).transpose()?;
    Walker::new((sieve, only), visitor, picked, None).all(&fd, &ignored, at)
}

/// The same, with a second thread that asks the kernel: for who does little else.
pub(super) fn walk_with_a_look_ahead<V: Visitor>(
    root: &Root,
    picked: &Picked,
    sieve: &Sieve,
    visitor: &mut V,
) -> Result<()> {
    if picked.only.is_some() {
        return walk(root, picked, sieve, visitor);
    }
    let (fd, at) = opened(root, picked)?;
    let ignored = above(&sieve.ignore, &picked.real);
    ahead::beside(&fd, sieve, &picked.real, &ignored, |ahead| {
        Walker::new((sieve, None), visitor, picked, ahead).all(&fd, &ignored, at)
    })
}

fn opened<'a>(root: &Root, picked: &'a Picked) -> Result<(OwnedFd, &'a Path)> {
    let at = if picked.path.as_os_str().is_empty() { Path::new(".") } else { &picked.path };
    Ok((root.open_dir(at).map_err(|error| failed("open", at, error))?, at))
}

/// Which rules matched the directories above a path.
fn above(ignore: &Ignore, path: &Path) -> Above {
    let mut above = Above::default();
    let mut so_far = PathBuf::new();
    for step in path {
        so_far.push(step);
        above = ignore.hides_below(&so_far.to_string_lossy(), &above).1;
    }
    above
}

/// Whether a path is hidden, and what matched it.
fn sifted(ignore: &Ignore, path: &Path, above: &Above) -> (bool, Above) {
    if ignore.is_empty() {
        return (false, Above::default());
    }
    let (rule, matched) = ignore.hides_below(&path.to_string_lossy(), above);
    (rule.is_some(), matched)
}

/// What patterns say of an entry.
pub(super) struct Judged {
    pub ignored: Above,
    pub excluded: Above,
    is_hidden: bool,
    /// Whether nothing below brings anything back.
    pub is_buried: bool,
}

impl Sieve {
    /// Judges what is at a path, from the root of all and from what was named, below what was judged.
    pub(super) fn judge(&self, whole: &Path, path: &Path, above: (&Above, &Above)) -> Judged {
        let (is_ignored, ignored) = sifted(&self.ignore, whole, above.0);
        let (is_excluded, excluded) = sifted(&self.exclude, path, above.1);
        let is_buried =
            is_ignored && !self.ignore.has_exceptions() || is_excluded && !self.exclude.has_exceptions();
        Judged { ignored, excluded, is_hidden: is_ignored || is_excluded, is_buried }
    }
}

impl<'a, V: Visitor> Walker<'a, V> {
    fn new(
        (sieve, only): (&'a Sieve, Option<Only>),
        visitor: &'a mut V,
        picked: &Picked,
        ahead: Option<&'a Ahead>,
    ) -> Self {
        let (whole, path) = (picked.real.clone(), PathBuf::new());
        Self { sieve, only, visitor, pending: Vec::new(), depth: 0, whole, path, ahead }
    }

    /// Tells of all that is in a directory, which errors call `at`.
    fn all(mut self, fd: &OwnedFd, ignored: &Above, at: &Path) -> Result<()> {
        let walked = self.directory(fd, ignored, &Above::default(), &Above::default());
        walked.map_err(|error| failed("copy", &at.join(&self.path), error))
    }

    /// Where it fails, the path stays as it is.
    fn directory(
        &mut self,
        fd: &OwnedFd,
        ignored: &Above,
        excluded: &Above,
        meant: &Above,
    ) -> io::Result<()> {
        if self.depth >= DEPTH_MAX {
            return Err(io::Error::other(format!("directories are deeper than {DEPTH_MAX}")));
        }
        let seen: Vec<(OsString, Option<Stat>)> = match self.ahead.and_then(|ahead| ahead.take(&self.path)) {
            Some(seen) => seen.into_iter().map(|(name, stat)| (name, Some(stat))).collect(),
            None => {
                let mut entries = fsx::list(fd)?;
                entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
                entries.into_iter().map(|entry| (entry.name, None)).collect()
            }
        };
        for (name, stat) in seen {
            self.whole.push(&name);
            self.path.push(&name);
            self.entry(fd, (&name, stat), [ignored, excluded, meant])?;
            self.whole.pop();
            self.path.pop();
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: &OwnedFd,
        (name, seen): (&OsStr, Option<Stat>),
        above: [&Above; 3],
    ) -> io::Result<()> {
        let judged = self.sieve.judge(&self.whole, &self.path, (above[0], above[1]));
        let (is_meant, meant) = match &self.only {
            Some(only) => sifted(&only.pattern, &self.path, above[2]),
            None => (true, Above::default()),
        };
        let beside = !is_meant && self.only.as_ref().is_some_and(|only| !only.may_be_below(&self.path));
        if judged.is_buried || beside {
            return Ok(());
        }
        let hidden = judged.is_hidden || !is_meant;
        let stat = match seen.map_or_else(|| fsx::stat_at(dir, name), Ok) {
            // Gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if fsx::kind(&stat) != FileType::Directory {
            if hidden {
                return Ok(());
            }
            self.show()?;
            return self.visitor.node(&Item { dir, name, stat: &stat, path: &self.path });
        }
        let fd = fsx::open_dir_at(dir, name)?;
        let entered = self.pending.len();
        if hidden {
            self.pending.push(Pending {
                parent: dir.try_clone()?,
                name: name.to_owned(),
                stat,
                path: self.path.clone(),
                fd: fd.try_clone()?,
            });
        } else {
            self.show()?;
            self.visitor.enter(&Item { dir, name, stat: &stat, path: &self.path }, &fd)?;
        }
        self.depth += 1;
        self.directory(&fd, &judged.ignored, &judged.excluded, &meant)?;
        self.depth -= 1;
        if self.pending.len() > entered {
            // Nothing was found in it.
            self.pending.truncate(entered);
            return Ok(());
        }
        self.visitor.leave()
    }

    /// Something is found: the directories above it are there.
    fn show(&mut self) -> io::Result<()> {
        for pending in std::mem::take(&mut self.pending) {
            let item =
                Item { dir: &pending.parent, name: &pending.name, stat: &pending.stat, path: &pending.path };
            self.visitor.enter(&item, &pending.fd)?;
        }
        Ok(())
    }
}

/// The extended attributes that belong to a file and are copied with it.
pub(super) fn attributes(fd: impl AsFd) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    use std::os::unix::ffi::OsStrExt;
    let names = match sys::xattr::list(&fd) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) =>
        {
            return Ok(Vec::new());
        }
        other => other?,
    };
    let mut kept = Vec::new();
    for name in names {
        let bytes = name.as_bytes();
        let own = bytes == b"security.capability"
            || (bytes.starts_with(b"user.") && !bytes.starts_with(b"user.overlay."));
        if own && let Some(value) = sys::xattr::get(&fd, &name)? {
            kept.push((name, value));
        }
    }
    kept.sort();
    Ok(kept)
}
