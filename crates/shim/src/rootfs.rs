//! The mount namespace of a container's supervisor, and the overlay in it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};

use sys::lock::Lock;

use crate::launch::{Overlay, VOLATILE};

/// The kernel takes one page of mount options from mount(2).
const MAX_OPTIONS: usize = 4095;

/// The first kernel whose overlay takes its layers one by one. Older ones write a line into their log if they are asked.
const LOWERDIR_PLUS: (u32, u32) = (6, 7);

/// Moves this process into a mount namespace of its own, which hears of the host's mounts but not the other way round.
pub fn enter() -> io::Result<()> {
    sys::spawn::unshare_mounts()?;
    Ok(rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?)
}

/// An overlay that is mounted. Until it is unmounted nobody else mounts the same writable layer: the kernel writes it back
/// only then, and two mounts of one layer would see what neither wrote.
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
    _layer: Option<Lock>,
}

impl Mounted {
    /// Takes it out of the tree. The kernel ends it with its last user, which may take as long as the disk takes to
    /// write everything that waits to be written.
    pub fn unmount(self) -> io::Result<()> {
        Ok(rustix::mount::unmount(&self.target, UnmountFlags::DETACH)?)
    }
}

/// Mounts `overlay` at `target`, which is made if need be; waits for an earlier mount of its writable layer to end.
pub fn mount(overlay: &Overlay, target: &Path) -> io::Result<Mounted> {
    let layer = overlay.upper.as_ref().map(|upper| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Lock::exclusive_fd(rustix::fs::open(upper.work.as_str(), flags, Mode::empty())?)
    });
    let mounted = Mounted { target: target.to_owned(), _layer: layer.transpose()? };
    mount_at(overlay, target)?;
    Ok(mounted)
}

/// As [`mount`], but `None` where an earlier mount of the writable layer has not ended yet.
pub fn try_mount(overlay: &Overlay, target: &Path) -> io::Result<Option<Mounted>> {
    let mut layer = None;
    if let Some(upper) = &overlay.upper {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let work = rustix::fs::open(upper.work.as_str(), flags, Mode::empty())?;
        layer = Lock::try_exclusive_fd(work)?;
        if layer.is_none() {
            return Ok(None);
        }
    }
    let mounted = Mounted { target: target.to_owned(), _layer: layer };
    mount_at(overlay, target)?;
    Ok(Some(mounted))
}

fn mount_at(overlay: &Overlay, target: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(target, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    if overlay.options.iter().any(|option| option == VOLATILE) {
        forget_volatile(overlay)?;
    }
    match (&overlay.upper, overlay.lower.as_slice()) {
        (None, [layer]) => return bind_read_only(layer, target),
        // Of an image that has no files there is nothing to lay over.
        (None, []) => return Ok(rustix::mount::mount("tmpfs", target, "tmpfs", MountFlags::RDONLY, None)?),
        (Some(upper), []) => return Ok(rustix::mount::mount_bind(upper.dir.as_str(), target)?),
        _ => {}
    }
    if kernel() < LOWERDIR_PLUS {
        return by_short_paths(overlay, target);
    }
    match by_descriptor(overlay, target) {
        // A kernel that says it is newer than it is.
        Err(Errno::INVAL) => by_short_paths(overlay, target),
        other => other.map_err(io::Error::from),
    }
}

/// Major and minor of the kernel's release; zeros for what cannot be read.
fn kernel() -> (u32, u32) {
    version(rustix::system::uname().release().to_bytes())
}

fn version(release: &[u8]) -> (u32, u32) {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit());
    let mut next = || {
        let digits = numbers.next().and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    (next(), next())
}

/// The kernel marks the work directory of a volatile overlay, so that it is not used again after a loss of power, when the
/// upper layer may be torn. This one was used by an earlier run of a container that would have been removed by then.
fn forget_volatile(overlay: &Overlay) -> io::Result<()> {
    let Some(upper) = &overlay.upper else { return Ok(()) };
    let marks = Path::new(&upper.work).join("work/incompat");
    let mark = marks.join("volatile");
    let removed = rustix::fs::unlink(mark.join("dirty"))
        .and_then(|()| rustix::fs::rmdir(&mark))
        .and_then(|()| rustix::fs::rmdir(&marks));
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn by_descriptor(overlay: &Overlay, target: &Path) -> Result<(), Errno> {
    let fs = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for dir in &overlay.lower {
        rustix::mount::fsconfig_set_string(&fs, "lowerdir+", dir.as_str())?;
    }
    if let Some(upper) = &overlay.upper {
        rustix::mount::fsconfig_set_string(&fs, "upperdir", upper.dir.as_str())?;
        rustix::mount::fsconfig_set_string(&fs, "workdir", upper.work.as_str())?;
    }
    for option in &overlay.options {
        match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&fs, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&fs, option.as_str())?,
        }
    }
    rustix::mount::fsconfig_set_string(&fs, "source", "overlay")?;
    rustix::mount::fsconfig_create(&fs)?;
    let read_only =
        if overlay.upper.is_none() { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let mount = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, read_only)?;
    rustix::mount::move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// One page of options holds more than a hundred layers when each is named by a descriptor, relative to the folder of
/// them: `12:13:14`.
fn by_short_paths(overlay: &Overlay, target: &Path) -> io::Result<()> {
    let back = open_dir(Path::new("."))?;
    rustix::process::chdir("/proc/self/fd")?;
    let mounted = mount_relative(overlay, target);
    rustix::process::fchdir(&back)?;
    mounted
}

fn mount_relative(overlay: &Overlay, target: &Path) -> io::Result<()> {
    let lower: Vec<OwnedFd> =
        overlay.lower.iter().map(|dir| open_dir(Path::new(dir))).collect::<io::Result<_>>()?;
    let mut options = String::from("lowerdir=");
    for (index, fd) in lower.iter().enumerate() {
        if index > 0 {
            options.push(':');
        }
        options.push_str(&fd.as_raw_fd().to_string());
    }
    let mut opened = Vec::new();
    let mut flags = MountFlags::RDONLY;
    if let Some(upper) = &overlay.upper {
        flags = MountFlags::empty();
        for (key, dir) in [("upperdir", &upper.dir), ("workdir", &upper.work)] {
            let fd = open_dir(Path::new(dir))?;
            options.push_str(&format!(",{key}={}", fd.as_raw_fd()));
            opened.push(fd);
        }
    }
    for option in &overlay.options {
        options.push(',');
        match option.split_once('=') {
            // A label of SELinux has commas of its own.
            Some((key, value)) if value.contains(',') => options.push_str(&format!("{key}=\"{value}\"")),
            _ => options.push_str(option),
        }
    }
    if options.len() > MAX_OPTIONS {
        return Err(Errno::TOOBIG.into());
    }
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    Ok(rustix::mount::mount("overlay", target, "overlay", flags, Some(options.as_c_str()))?)
}

/// An overlay needs two layers; one alone that is not to be written is shown as it is.
fn bind_read_only(layer: &str, target: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(layer, target)?;
    Ok(rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "")?)
}

fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::Upper;
    use std::fs;

    type Mounter = fn(&Overlay, &Path) -> io::Result<()>;

    fn layers(dir: &Path, count: usize) -> Overlay {
        let text = |p: PathBuf| p.to_str().expect("utf8").to_owned();
        let mut lower = Vec::new();
        for number in (0..count).rev() {
            let layer = dir.join(format!("layer,{number}:x"));
            fs::create_dir(&layer).expect("mkdir");
            fs::write(layer.join("who"), number.to_string()).expect("write");
            fs::write(layer.join(format!("only{number}")), "").expect("write");
            lower.push(text(layer));
        }
        for name in ["upper", "work", "root"] {
            fs::create_dir(dir.join(name)).expect("mkdir");
        }
        let upper = Some(Upper { dir: text(dir.join("upper")), work: text(dir.join("work")) });
        Overlay { lower, upper, options: vec!["index=off".to_owned()] }
    }

    /// Runs in a thread of its own, as it changes what the thread sees.
    fn in_namespace(test: fn(&Path)) {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: not root");
            return;
        }
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().to_owned();
        let done = std::thread::spawn(move || {
            enter().expect("namespace");
            test(&path);
        });
        done.join().expect("the thread's own assertion");
        assert!(
            !fs::read_to_string("/proc/self/mounts")
                .expect("mounts")
                .contains(dir.path().to_str().expect("utf8"))
        );
    }

    fn check(mounter: Mounter, dir: &Path, count: usize) {
        let mut overlay = layers(dir, count);
        let root = dir.join("root");
        mounter(&overlay, &root).expect("mount");
        let unmount = || rustix::mount::unmount(&root, UnmountFlags::DETACH);
        assert_eq!(fs::read_to_string(root.join("who")).expect("read"), (count - 1).to_string());
        assert!(root.join("only0").exists());
        fs::write(root.join("new"), "x").expect("write");
        assert!(dir.join("upper/new").exists());
        unmount().expect("unmount");
        assert!(!root.join("who").exists());
        overlay.upper = None;
        overlay.options.clear();
        mounter(&overlay, &root).expect("mount");
        assert!(fs::write(root.join("new"), "x").is_err());
        unmount().expect("unmount");
    }

    #[test]
    fn versions_of_kernels_are_compared_as_numbers() {
        assert_eq!(version(b"6.1.0-56-cloud-amd64"), (6, 1));
        assert!(version(b"6.18.5") > LOWERDIR_PLUS && version(b"6.7-rc1") >= LOWERDIR_PLUS);
        assert!(version(b"5.14.0") < LOWERDIR_PLUS && version(b"odd") < LOWERDIR_PLUS);
    }

    #[test]
    fn an_overlay_by_the_new_mount_api() {
        if kernel() < LOWERDIR_PLUS {
            println!("skipped: this kernel's overlay does not take its layers one by one");
            return;
        }
        in_namespace(|dir| check(|o, t| by_descriptor(o, t).map_err(io::Error::from), dir, 150));
    }

    #[test]
    fn an_overlay_for_kernels_without_lowerdir_plus() {
        in_namespace(|dir| check(by_short_paths, dir, 127));
    }

    #[test]
    fn a_writable_layer_is_mounted_once_at_a_time() {
        in_namespace(|dir| {
            let overlay = layers(dir, 2);
            let root = dir.join("root");
            let mounted = mount(&overlay, &root).expect("mount");
            let (sender, done) = std::sync::mpsc::channel();
            let second = dir.join("second");
            std::thread::spawn(move || {
                let _ = sender.send(mount(&overlay, &second).and_then(Mounted::unmount));
            });
            let early = done.recv_timeout(std::time::Duration::from_millis(50));
            assert!(early.is_err(), "it was mounted twice");
            mounted.unmount().expect("unmount");
            done.recv().expect("an outcome").expect("mounted and unmounted");
        });
    }

    #[test]
    fn a_volatile_overlay_is_mounted_again() {
        in_namespace(|dir| {
            let mut overlay = layers(dir, 2);
            overlay.options.push(VOLATILE.to_owned());
            let root = dir.join("root");
            for round in 0..2 {
                let mounted = mount(&overlay, &root).expect("mount");
                assert!(dir.join("work/work/incompat/volatile").exists());
                assert_eq!(root.join("new").exists(), round == 1);
                fs::write(root.join("new"), "x").expect("write");
                mounted.unmount().expect("unmount");
            }
        });
    }

    #[test]
    fn one_layer_alone_is_read_only() {
        in_namespace(|dir| {
            let mut overlay = layers(dir, 1);
            overlay.upper = None;
            let root = dir.join("root");
            mount(&overlay, &root).expect("mount");
            assert_eq!(fs::read_to_string(root.join("who")).expect("read"), "0");
            assert!(fs::write(root.join("new"), "x").is_err());
        });
    }
}
