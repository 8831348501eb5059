//! A look into a root filesystem that is not mounted: a file of its layers, found as overlay would find it.
//!
//! Nothing that an image holds is trusted: links are followed inside the layers alone, and only regular files of a
//! bounded size are read, without ever opening a FIFO or a device.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use sys::fsx::{self, FileType, Stat};

/// Symbolic links followed in one look-up: the kernel's own limit.
const SYMLINKS_MAX: u32 = 40;
/// Components of one look-up, links expanded.
const COMPONENTS_MAX: usize = 4096;
/// The attribute of a directory that hides the directories of the same name below it.
const OPAQUE: &str = "trusted.overlay.opaque";

/// The directories that overlay merges into one, topmost first.
type Merged = Vec<OwnedFd>;

/// The layers of a root filesystem.
#[derive(Debug)]
pub struct Layered {
    root: Merged,
}

/// What a path leads to.
enum Place {
    Nothing,
    Directory(Merged),
    File(File),
}

enum Found {
    Nothing,
    Directory(Merged),
    Link(std::path::PathBuf),
    File(File),
    Odd,
}

impl Layered {
    /// Opens the layers' directories, topmost first.
    pub fn open<P: AsRef<Path>>(dirs: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let root = dirs.into_iter().map(fsx::open_dir).collect::<io::Result<_>>()?;
        Ok(Self { root })
    }

    /// The layers of these directories, topmost first.
    pub fn of(dirs: Vec<OwnedFd>) -> Self {
        Self { root: dirs }
    }

    /// The content of the regular file at `path`; `None` if there is none, or something else.
    pub fn read(&self, path: &str, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let Place::File(file) = self.find(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{path} is larger than {bytes_max} bytes"),
            ));
        }
        Ok(Some(content))
    }

    /// What is called what in the directory at `path`, in order; nothing if there is none, or something else.
    pub fn list(&self, path: &str) -> io::Result<Vec<OsString>> {
        let Place::Directory(merged) = self.find(path)? else { return Ok(Vec::new()) };
        let (mut seen, mut names) = (BTreeSet::new(), Vec::new());
        for dir in &merged {
            for entry in fsx::list(dir)? {
                // The topmost layer that speaks of a name decides whether there is one.
                if seen.insert(entry.name.clone()) && !is_whiteout(&fsx::stat_at(dir, &entry.name)?) {
                    names.push(entry.name);
                }
            }
        }
        names.sort();
        Ok(names)
    }

    fn find(&self, path: &str) -> io::Result<Place> {
        let mut stack: Vec<Merged> = Vec::new();
        let mut todo: VecDeque<OsString> = VecDeque::new();
        prepend(&mut todo, Path::new(path))?;
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                stack.pop();
                continue;
            }
            match look(stack.last().unwrap_or(&self.root), &name)? {
                Found::Nothing | Found::Odd => return Ok(Place::Nothing),
                Found::Directory(next) => stack.push(next),
                Found::Link(target) => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return Ok(Place::Nothing);
                    }
                    if target.is_absolute() {
                        stack.clear();
                    }
                    prepend(&mut todo, &target)?;
                }
                Found::File(_) if !todo.is_empty() => return Ok(Place::Nothing),
                Found::File(file) => return Ok(Place::File(file)),
            }
        }
        Ok(stack.pop().map_or(Place::Nothing, Place::Directory))
    }
}

fn prepend(todo: &mut VecDeque<OsString>, path: &Path) -> io::Result<()> {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            _ => {}
        }
    }
    if todo.len() > COMPONENTS_MAX { Err(io::ErrorKind::InvalidFilename.into()) } else { Ok(()) }
}

fn is_whiteout(stat: &Stat) -> bool {
    fsx::kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// What `name` is in the merged directory.
fn look(here: &Merged, name: &OsString) -> io::Result<Found> {
    let mut merged: Merged = Vec::new();
    for dir in here {
        let stat = match fsx::stat_at(dir, name) {
            Ok(stat) => stat,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        match fsx::kind(&stat) {
            FileType::Directory => {
                let fd = fsx::open_dir_at(dir, name)?;
                let opaque = sys::xattr::get(&fd, OPAQUE)?.is_some_and(|value| value == b"y");
                merged.push(fd);
                if opaque {
                    break;
                }
            }
            // What is not a directory ends the merge; below directories it is hidden by them.
            _ if !merged.is_empty() || is_whiteout(&stat) => break,
            FileType::Symlink => {
                return Ok(Found::Link(sys::path::read_link_at(std::os::fd::AsFd::as_fd(dir), name)?));
            }
            FileType::RegularFile => {
                return match fsx::open_regular_at(dir, name) {
                    Ok(file) => Ok(Found::File(file)),
                    // Not what it was a moment ago.
                    Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(Found::Odd),
                    Err(e) => Err(e),
                };
            }
            _ => return Ok(Found::Odd),
        }
    }
    Ok(if merged.is_empty() { Found::Nothing } else { Found::Directory(merged) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use sys::fsx::Mode;

    fn layers(count: usize) -> (tempfile::TempDir, Vec<std::path::PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..count).map(|n| dir.path().join(n.to_string())).collect();
        for path in &paths {
            fs::create_dir_all(path.join("etc")).unwrap();
        }
        (dir, paths)
    }

    fn read(paths: &[std::path::PathBuf], path: &str) -> Option<String> {
        let content = Layered::open(paths).unwrap().read(path, 1000).unwrap();
        content.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_topmost_file_wins_and_links_stay_inside() {
        let (_dir, l) = layers(2);
        fs::write(l[1].join("etc/passwd"), "below").unwrap();
        assert_eq!(read(&l, "/etc/passwd").as_deref(), Some("below"));
        fs::write(l[0].join("etc/passwd"), "above").unwrap();
        assert_eq!(read(&l, "etc/passwd").as_deref(), Some("above"));
        fs::write(l[1].join("etc/group"), "inside").unwrap();
        symlink("/../../../etc/group", l[0].join("etc/link")).unwrap();
        assert_eq!(read(&l, "/etc/link").as_deref(), Some("inside"));
        symlink("loop", l[0].join("etc/loop")).unwrap();
        assert_eq!(read(&l, "/etc/loop"), None);
        symlink("/etc/hostname", l[0].join("outside")).unwrap();
        assert_eq!(read(&l, "/outside"), None);
    }

    #[test]
    fn a_directory_that_is_a_link_is_followed() {
        let (_dir, l) = layers(2);
        fs::create_dir_all(l[1].join("usr/etc")).unwrap();
        fs::write(l[1].join("usr/etc/passwd"), "x").unwrap();
        fs::remove_dir(l[0].join("etc")).unwrap();
        symlink("usr/etc", l[0].join("etc")).unwrap();
        assert_eq!(read(&l, "/etc/passwd").as_deref(), Some("x"));
        assert_eq!(read(&l, "/etc/../etc/passwd").as_deref(), Some("x"));
        assert_eq!(read(&l, "/etc/passwd/x"), None);
    }

    #[test]
    fn fifos_and_large_files_are_not_read() {
        let (_dir, l) = layers(1);
        let root = sys::path::Root::open(&l[0]).unwrap();
        root.mknod("etc/passwd", FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        assert_eq!(read(&l, "/etc/passwd"), None);
        fs::write(l[0].join("etc/big"), vec![b'x'; 1001]).unwrap();
        assert!(Layered::open(&l).unwrap().read("/etc/big", 1000).is_err());
    }

    #[test]
    fn what_was_deleted_is_not_seen_below() {
        let (_dir, l) = layers(3);
        let list = |path| {
            let names = Layered::open(&l).unwrap().list(path).unwrap();
            names.into_iter().map(|name| name.into_string().unwrap()).collect::<Vec<_>>()
        };
        for (layer, name) in [(2, "old"), (2, "lost"), (1, "new"), (0, "last")] {
            fs::create_dir_all(l[layer].join("var/lib/dpkg")).unwrap();
            fs::write(l[layer].join("var/lib/dpkg").join(name), name).unwrap();
        }
        assert_eq!(list("var/lib/dpkg"), ["last", "lost", "new", "old"]);
        assert_eq!(list("/var"), ["lib"]);
        assert!(list("var/lib/dpkg/old").is_empty() && list("nothing").is_empty());
        let whiteout = |layer: usize, path: &str| {
            let root = sys::path::Root::open(&l[layer]).unwrap();
            root.mknod(path, FileType::CharacterDevice, Mode::empty(), 0).is_ok()
        };
        if !whiteout(1, "var/lib/dpkg/lost") {
            // Nobody but root makes these.
            return;
        }
        assert_eq!(list("var/lib/dpkg"), ["last", "new", "old"]);
        let opaque = fsx::open_dir(l[1].join("var/lib")).unwrap();
        sys::xattr::set(&opaque, OPAQUE, b"y").unwrap();
        assert_eq!(list("var/lib/dpkg"), ["last", "new"]);
        assert_eq!(read(&l, "var/lib/dpkg/old"), None);
        fs::remove_dir_all(l[0].join("var")).unwrap();
        assert!(whiteout(0, "var"));
        assert!(list("var/lib/dpkg").is_empty());
        assert_eq!(read(&l, "var/lib/dpkg/new"), None);
    }
}
