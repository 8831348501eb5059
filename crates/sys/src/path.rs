//! Paths inside a tree that somebody else controls: a root filesystem, a volume, a layer.
//!
//! [`Root`] is a directory held by descriptor. Every path given to it is resolved by the kernel (`openat2`) as if that
//! directory were `/`: a symbolic link or `..` can lead anywhere inside, never outside, however fast the
//! tree is changed meanwhile. Objects are made, renamed and removed relative to the descriptor of
//! their parent directory, so that nothing between look-up and use can be swapped.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use sys::path::{Mode, OFlags, Root};
//! let root = Root::open("/var/lib/corten/snapshots/1/fs")?;
//! root.mkdir_all("var/run", Mode::from_raw_mode(0o755))?;
//! let passwd = root.read_bounded("etc/passwd", 1 << 20)?; // never a FIFO, a device or the host's file
//! let log = root.open_at("var/log/x", OFlags::WRONLY | OFlags::CREATE, Mode::from_raw_mode(0o644))?;
//! # Ok(()) }
//! ```

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

pub use rustix::fs::{AtFlags, Dev, FileType, Mode, OFlags, Stat};
use rustix::fs::{CWD, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

/// How often a look-up is repeated that the kernel gave up because of a rename going on at the same time.
/// The kernel's advice is to try again; an attacker who renames in a loop must not hold us for ever.
const LOOKUP_RETRIES_MAX: u32 = 128;

/// Symbolic links followed in one look-up done by hand: the kernel's own limit.
const SYMLINKS_MAX: u32 = 40;

/// Components of one path done by hand, links expanded: `PATH_MAX` is 4096 bytes, so no honest path has more.
const COMPONENTS_MAX: usize = 4096;

/// A directory, held by descriptor, that all paths are confined to.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Root> for OwnedFd {
    fn from(root: Root) -> Self {
        root.fd
    }
}

impl Root {
    /// Opens the directory at `path`, a path of the host that we ourselves chose. The last component is not followed.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::openat(CWD, path.as_ref(), flags, Mode::empty()))?;
        Ok(Self { fd })
    }

    /// Opens the directory that `path` leads to, a path of the host that we ourselves chose: `/proc/PID/root` is a link. As a handle
    /// (`O_PATH`).
    pub fn open_followed(path: impl AsRef<Path>) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::openat(CWD, path.as_ref(), flags, Mode::empty()))?;
        Ok(Self { fd })
    }

    /// Takes a directory that is already open.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Another handle to the same directory.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// Opens `rel` inside the root. Symbolic links are followed inside it unless `oflags` has `NOFOLLOW`;
    /// `CLOEXEC` is always set. Opening a FIFO blocks unless `oflags` has `NONBLOCK`.
    pub fn open_at(&self, rel: impl AsRef<Path>, oflags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        resolve(self.fd.as_fd(), rel.as_ref(), oflags, mode)
    }

    /// Opens the directory `rel` for reading and as a parent of others.
    pub fn open_dir(&self, rel: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open_at(rel, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    /// Opens the directory `rel` as a root of its own.
    pub fn sub(&self, rel: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { fd: self.open_dir(rel)? })
    }

    /// A handle (`O_PATH`) to what `rel` leads to: it cannot be read or written, and opening it has no effect on
    /// FIFOs and devices. Add `NOFOLLOW` through [`Root::open_at`] for the link itself.
    pub fn open_path(&self, rel: impl AsRef<Path>) -> io::Result<OwnedFd> {
        self.open_at(rel, OFlags::PATH, Mode::empty())
    }

    /// What `rel` leads to.
    pub fn stat(&self, rel: impl AsRef<Path>) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.open_path(rel)?)?)
    }

    /// What is called `rel`: a symbolic link is not followed.
    pub fn lstat(&self, rel: impl AsRef<Path>) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self.open_at(rel, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?)?)
    }

    /// The target of the symbolic link `rel`.
    pub fn read_link(&self, rel: impl AsRef<Path>) -> io::Result<PathBuf> {
        let (dir, name) = self.parent(rel.as_ref())?;
        read_link_at(dir.as_fd(), &name)
    }

    /// The path of what `rel` leads to, without links and dots, from the root. It tells what names mean; to open something, give the
    /// path that was meant, since what lies between may change.
    pub fn real(&self, rel: impl AsRef<Path>) -> io::Result<PathBuf> {
        let mut todo: VecDeque<OsString> = VecDeque::new();
        let prepend = |todo: &mut VecDeque<OsString>, path: &Path| {
            for component in steps(path).rev() {
                todo.push_front(component);
            }
            if todo.len() > COMPONENTS_MAX { Err(io::Error::from(Errno::NAMETOOLONG)) } else { Ok(()) }
        };
        prepend(&mut todo, rel.as_ref())?;
        let (mut real, mut links) = (PathBuf::new(), 0);
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(name);
            let handle = self.open_at(&real, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
            if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) != FileType::Symlink {
                continue;
            }
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(Errno::LOOP.into());
            }
            let target = read_link_at(handle.as_fd(), OsStr::new(""))?;
            if target.is_absolute() {
                real.clear();
            } else {
                real.pop();
            }
            prepend(&mut todo, &target)?;
        }
        Ok(real)
    }

    /// The descriptor of the directory that `rel` is in, and the last component. The directory must exist;
    /// what stands at the last component is neither looked at nor followed.
    pub fn parent(&self, rel: impl AsRef<Path>) -> io::Result<(OwnedFd, OsString)> {
        let (dir, name) = split(rel.as_ref())?;
        Ok((self.open_dir(dir)?, name))
    }

    /// Makes the directory `rel` and those above it that do not exist, each with `mode` (without umask), and
    /// opens it. Existing directories stay as they are. Symbolic links on the way are followed inside the root, also
    /// one whose target does not exist yet. `..` does not lead above the root.
    pub fn mkdir_all(&self, rel: impl AsRef<Path>, mode: Mode) -> io::Result<OwnedFd> {
        self.mkdir_all_with(rel, mode, |_| Ok(()))
    }

    /// As [`Root::mkdir_all`]; `made` is called with each directory that was made, before the next one is
    /// made in it: the place to set an owner.
    pub fn mkdir_all_with(
        &self,
        rel: impl AsRef<Path>,
        mode: Mode,
        mut made: impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<OwnedFd> {
        let rel = rel.as_ref();
        match self.open_dir(rel) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let mut walk = Walk::new(self.fd.try_clone()?, rel)?;
        while let Some(name) = walk.todo.pop_front() {
            walk.step(&self.fd, &name, mode, &mut made)?;
        }
        walk.here.pop().ok_or_else(|| Errno::NOENT.into())
    }

    /// Makes the file `rel`, which must not exist, and opens it for reading and writing. The mode is as given, without umask.
    pub fn create_file(&self, rel: impl AsRef<Path>, mode: Mode) -> io::Result<File> {
        let (dir, name) = self.parent(rel.as_ref())?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = retry_on_intr(|| rustix::fs::openat(&dir, &name, flags, mode))?;
        rustix::fs::fchmod(&fd, mode)?;
        Ok(File::from(fd))
    }

    /// Makes the symbolic link `rel` with the text `target`, which is not checked: it is the reader's look-up that confines it.
    pub fn symlink(&self, target: impl AsRef<Path>, rel: impl AsRef<Path>) -> io::Result<()> {
        let (dir, name) = self.parent(rel.as_ref())?;
        Ok(rustix::fs::symlinkat(target.as_ref(), &dir, &name)?)
    }

    /// Makes `new` a further name of the file `old`. A symbolic link is linked itself, not followed.
    pub fn link(&self, old: impl AsRef<Path>, new: impl AsRef<Path>) -> io::Result<()> {
        let (old_dir, old_name) = self.parent(old.as_ref())?;
        let (new_dir, new_name) = self.parent(new.as_ref())?;
        Ok(rustix::fs::linkat(&old_dir, &old_name, &new_dir, &new_name, AtFlags::empty())?)
    }

    /// Makes a device, FIFO or socket. The mode is subject to the umask.
    pub fn mknod(&self, rel: impl AsRef<Path>, kind: FileType, mode: Mode, dev: Dev) -> io::Result<()> {
        let (dir, name) = self.parent(rel.as_ref())?;
        Ok(rustix::fs::mknodat(&dir, &name, kind, mode, dev)?)
    }

    /// Renames `old` to `new`, replacing it.
    pub fn rename(&self, old: impl AsRef<Path>, new: impl AsRef<Path>) -> io::Result<()> {
        let (old_dir, old_name) = self.parent(old.as_ref())?;
        let (new_dir, new_name) = self.parent(new.as_ref())?;
        Ok(rustix::fs::renameat(&old_dir, &old_name, &new_dir, &new_name)?)
    }

    /// Removes the file, link or node `rel`.
    pub fn unlink(&self, rel: impl AsRef<Path>) -> io::Result<()> {
        let (dir, name) = self.parent(rel.as_ref())?;
        Ok(rustix::fs::unlinkat(&dir, &name, AtFlags::empty())?)
    }

    /// Removes the empty directory `rel`.
    pub fn rmdir(&self, rel: impl AsRef<Path>) -> io::Result<()> {
        let (dir, name) = self.parent(rel.as_ref())?;
        Ok(rustix::fs::unlinkat(&dir, &name, AtFlags::REMOVEDIR)?)
    }

    /// Opens `rel`, which must lead to a regular file, for reading. A FIFO, device, socket or directory is refused
    /// without being opened, so nothing blocks and no driver is woken. Needs the host's `/proc`.
    pub fn open_regular(&self, rel: impl AsRef<Path>) -> io::Result<File> {
        crate::fsx::open_regular_handle(self.open_path(rel)?)
    }

    /// The content of the regular file that `rel` leads to, refused if it is longer than `bytes_max`.
    pub fn read_bounded(&self, rel: impl AsRef<Path>, bytes_max: u64) -> io::Result<Vec<u8>> {
        let file = self.open_regular(rel)?;
        let mut content = Vec::new();
        file.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
        if content.len() as u64 > bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("larger than {bytes_max} bytes"),
            ));
        }
        Ok(content)
    }
}

/// The state of a look-up done by hand: a stack of open directories, so that `..` goes back the way we came
/// and not to wherever a directory has been moved meanwhile.
struct Walk {
    here: Vec<OwnedFd>,
    todo: VecDeque<OsString>,
    symlinks: u32,
}

impl Walk {
    fn new(root: OwnedFd, rel: &Path) -> io::Result<Self> {
        let mut walk = Self { here: vec![root], todo: VecDeque::new(), symlinks: 0 };
        walk.prepend(rel)?;
        Ok(walk)
    }

    fn prepend(&mut self, path: &Path) -> io::Result<()> {
        steps(path).rev().for_each(|step| self.todo.push_front(step));
        if self.todo.len() > COMPONENTS_MAX { Err(Errno::NAMETOOLONG.into()) } else { Ok(()) }
    }

    fn step(
        &mut self,
        root: &OwnedFd,
        name: &OsStr,
        mode: Mode,
        made: &mut impl FnMut(BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if name == ".." {
            if self.here.len() > 1 {
                self.here.pop();
            }
            return Ok(());
        }
        let here = self.here.last().ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || retry_on_intr(|| rustix::fs::openat(here, name, flags, Mode::empty()));
        let next = match open() {
            Err(Errno::NOENT) => match rustix::fs::mkdirat(here, name, mode) {
                Ok(()) => {
                    let next = open()?;
                    rustix::fs::fchmod(&next, mode)?;
                    made(next.as_fd())?;
                    Ok(next)
                }
                Err(Errno::EXIST) => open(),
                Err(error) => Err(error),
            },
            other => other,
        };
        match next {
            Ok(fd) => self.here.push(fd),
            Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
                let target = read_link_at(here.as_fd(), name).map_err(|_| error)?;
                self.symlinks += 1;
                if self.symlinks > SYMLINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                if target.is_absolute() {
                    self.here = vec![root.try_clone()?];
                }
                self.prepend(&target)?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// `openat2` confined to `root`, repeated when the kernel saw a rename under way.
fn resolve(root: BorrowedFd<'_>, rel: &Path, oflags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let rel = if rel.as_os_str().is_empty() { Path::new(".") } else { rel };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // The kernel refuses a mode where nothing can be created.
    let mode = if oflags.intersects(OFlags::CREATE | OFlags::TMPFILE) { mode } else { Mode::empty() };
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, rel, oflags | OFlags::CLOEXEC, mode, how) {
            Err(Errno::AGAIN) if tries < LOOKUP_RETRIES_MAX => tries += 1,
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Directory and last component of `rel`. A path that names the root itself or ends in `..` has no last component.
fn split(rel: &Path) -> io::Result<(&Path, OsString)> {
    let (Some(name), Some(dir)) = (rel.file_name(), rel.parent()) else {
        return Err(Errno::INVAL.into());
    };
    Ok((dir, name.to_owned()))
}

/// The text of the symbolic link `name` in `dir`.
pub fn read_link_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// The steps of a path that lead somewhere: names, and `..`.
fn steps(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// The path without `.`, doubled slashes and `..`, relative to the root: what a path means that a configuration
/// gives for the inside of a container. `..` at the root stays there.
pub fn normalize(path: &Path) -> PathBuf {
    let mut clean: Vec<&[u8]> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name.as_bytes()),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    PathBuf::from(OsString::from_vec(clean.join(&b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn tree() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::write(dir.path().join("outside"), "canary").unwrap();
        let root = Root::open(dir.path().join("root")).unwrap();
        (dir, root)
    }

    const DIR: Mode = Mode::from_raw_mode(0o755);

    #[test]
    fn links_and_dots_stay_inside() {
        let (dir, root) = tree();
        symlink("../outside", dir.path().join("root/rel")).unwrap();
        symlink("/outside", dir.path().join("root/abs")).unwrap();
        symlink(dir.path(), dir.path().join("root/up")).unwrap();
        for path in ["rel", "abs", "up/outside", "../outside", "/../../outside", "a/../../outside"] {
            let error = root.read_bounded(path, 100).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}");
        }
        fs::write(dir.path().join("root/outside"), "inside").unwrap();
        for path in ["rel", "abs", "../outside"] {
            assert_eq!(root.read_bounded(path, 100).unwrap(), b"inside", "{path}");
        }
    }

    #[test]
    fn what_links_lead_to_has_one_path() {
        let (dir, root) = tree();
        fs::create_dir_all(dir.path().join("root/a/b")).unwrap();
        fs::write(dir.path().join("root/a/b/c"), "").unwrap();
        symlink("/a/../../a/b", dir.path().join("root/up")).unwrap();
        symlink("../up/c", dir.path().join("root/a/file")).unwrap();
        for (path, real) in [
            ("", ""),
            (".", ""),
            ("a//b/./c", "a/b/c"),
            ("up", "a/b"),
            ("a/file", "a/b/c"),
            ("../up/..", "a"),
        ] {
            assert_eq!(root.real(path).unwrap(), Path::new(real), "{path}");
        }
        symlink("loop", dir.path().join("root/loop")).unwrap();
        assert!(root.real("loop").is_err() && root.real("none").is_err());
    }

    #[test]
    fn directories_are_made_inside_through_dangling_links() {
        let (dir, root) = tree();
        symlink("/run/../../../deep", dir.path().join("root/link")).unwrap();
        root.mkdir_all("link/a/../b", DIR).unwrap();
        assert!(dir.path().join("root/deep/b").is_dir());
        assert!(!dir.path().join("deep").exists());
        root.mkdir_all("../../etc", DIR).unwrap();
        assert!(dir.path().join("root/etc").is_dir());
        symlink("loop", dir.path().join("root/loop")).unwrap();
        assert!(root.mkdir_all("loop/x", DIR).is_err());
    }

    #[test]
    fn odd_files_are_refused_without_blocking() {
        let (_dir, root) = tree();
        root.mknod("fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(root.read_bounded("fifo", 10).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let null = Root::open("/dev").unwrap().read_bounded("null", 10).unwrap_err();
        assert_eq!(null.kind(), io::ErrorKind::InvalidInput);
        assert!(
            Root::open(format!("/proc/{}", std::process::id())).unwrap().read_bounded("exe", 10).is_err(),
            "magic link"
        );
        root.create_file("big", Mode::from_raw_mode(0o600)).unwrap().set_len(11).unwrap();
        assert_eq!(root.read_bounded("big", 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_component_swapped_for_a_link_leads_nowhere() {
        let (dir, root) = tree();
        let base = dir.path().join("root");
        fs::create_dir(dir.path().join("victim")).unwrap();
        fs::create_dir(base.join("a")).unwrap();
        symlink(dir.path().join("victim"), base.join("b")).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let fd = Root::open(&base).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let _ = rustix::fs::renameat_with(&fd, "a", &fd, "b", rustix::fs::RenameFlags::EXCHANGE);
                }
            });
            for round in 0..2000 {
                let _ = root.mkdir_all(format!("a/x{round}/y"), DIR);
                let _ = root.create_file(format!("a/f{round}"), DIR);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(dir.path().join("victim")).unwrap().count(), 0);
    }

    #[test]
    fn normalized() {
        for (given, want) in [("/../../etc", "etc"), ("a/./b//c/..", "a/b"), ("/", ""), ("..", "")] {
            assert_eq!(normalize(Path::new(given)), Path::new(want), "{given}");
        }
    }
}
