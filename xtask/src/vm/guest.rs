//! The machine's own disk: a small Debian with systemd, which starts the payload and nothing else.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::kernel::Kernel;
use crate::run::{Result, output, show};

/// What the tests use there. systemd and D-Bus for the systemd cgroup driver, the rest for containers.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,apparmor,uidmap,iproute2,busybox-static,crun,runc,criu,kmod,procps,\
     util-linux,passwd,openssl,xfsprogs";

/// No test reads them, and copying them takes time.
const LEFT_OUT: &[&str] =
    &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Files of the machine: path and content.
const FILES: &[(&str, &str)] = &[
    // The payload's runner speaks on the console, and its end is the machine's.
    ("etc/systemd/system/payload.service", include_str!("guest/payload.service")),
    ("etc/systemd/system/payload.target", include_str!("guest/payload.target")),
    // An ordinary user with ids to hand out.
    ("etc/subuid", "tester:100000:65536\n"),
    ("etc/subgid", "tester:100000:65536\n"),
    ("etc/hostname", "vm\n"),
    ("etc/hosts", "127.0.0.1 localhost vm\n::1 localhost\n"),
];

/// Units that would only take time.
const MASKED: &[&str] = &[
    "apparmor.service",
    "e2scrub_reap.service",
    "getty@tty1.service",
    "modprobe@.service",
    "remote-fs.target",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-journald.service",
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald-audit.socket",
    "systemd-machine-id-commit.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
];

/// Bytes of the disk: room for what tests write. The file has holes.
const SIZE: &str = "4G";

/// Finds the disk in `cache`, or makes it.
pub fn build(cache: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let (disk, key) = (cache.join("base.img"), cache.join("base.key"));
    let wanted = format!("{} {PACKAGES} {LEFT_OUT:?} {FILES:?} {MASKED:?} {SIZE}\n", kernel.release);
    if disk.exists() && fs::read_to_string(&key).is_ok_and(|key| key == wanted) {
        return Ok(disk);
    }
    let _ = fs::remove_file(&key);
    let part = tempfile::tempdir_in(cache).map_err(|error| format!("cannot make a directory: {error}"))?;
    let tree = part.path().join("root");
    let shown = tree.to_string_lossy();
    let excluded: Vec<String> =
        LEFT_OUT.iter().map(|path| format!("--dpkgopt=path-exclude={path}")).collect();
    let include = format!("--include={PACKAGES}");
    let mut args = vec!["--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io", &include];
    args.extend(excluded.iter().map(String::as_str));
    args.extend(["bookworm", &shown]);
    show("mmdebstrap", &args)?;
    furnish(&tree, kernel)?;
    let image = part.path().join("base.img");
    make_disk(&tree, &image, SIZE)?;
    let kept = fs::rename(&image, &disk).and_then(|()| fs::write(&key, wanted));
    kept.map_err(|error| format!("cannot keep {}: {error}", disk.display()))?;
    Ok(disk)
}

/// Adds modules, files and the user.
fn furnish(tree: &Path, kernel: &Kernel) -> Result {
    let failed = |what: &str, error: std::io::Error| format!("cannot add {what} to the machine: {error}");
    let modules = tree.join("usr/lib/modules");
    fs::create_dir_all(&modules).map_err(|error| failed("modules", error))?;
    output("cp", &["-a", &kernel.modules.to_string_lossy(), &modules.to_string_lossy()])?;
    let tree_name = tree.to_string_lossy();
    output("chroot", &[&tree_name, "depmod", &kernel.release])?;
    output("chroot", &[&tree_name, "useradd", "--create-home", "--uid", "1000", "tester"])?;
    for (path, content) in FILES {
        fs::write(tree.join(path), content).map_err(|error| failed(path, error))?;
    }
    fs::create_dir_all(tree.join("payload")).map_err(|error| failed("/payload", error))?;
    for unit in MASKED {
        let link = tree.join("etc/systemd/system").join(unit);
        symlink("/dev/null", link).map_err(|error| failed(unit, error))?;
    }
    Ok(())
}

/// Writes a directory's content as a file system into a new file.
pub fn make_disk(tree: &Path, image: &Path, size: &str) -> Result {
    let args = ["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"];
    let (tree, image) = (tree.to_string_lossy(), image.to_string_lossy());
    let mut args: Vec<&str> = args.to_vec();
    args.extend([&*tree, &*image, size]);
    output("mke2fs", &args).map(drop)
}
