//! Disks that are full.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A small file system on a file; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// A file system of this size (as `truncate` takes it); `None` where it cannot be mounted.
    ///
    /// # Panics
    /// There is no room for temporary files.
    #[must_use]
    pub fn mount(size: &str) -> Option<Self> {
        Self::made(size, &["mkfs.ext4", "-q", "-F"], "loop")
    }

    /// The same with XFS and quotas of projects; `None` also where the kernel has none.
    ///
    /// # Panics
    /// There is no room for temporary files.
    #[must_use]
    pub fn with_quotas(size: &str) -> Option<Self> {
        Self::made(size, &["mkfs.xfs", "-q", "-f"], "loop,pquota")
    }

    /// A file system in memory, which keeps nothing back for root as others do; `None` where it cannot be mounted.
    ///
    /// # Panics
    /// There is no room for temporary files.
    #[must_use]
    pub fn in_memory(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = dir.path().join("mnt");
        fs::create_dir(&at).expect("mkdir");
        let size = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self { dir })
    }

    fn made(size: &str, mkfs: &[&str], options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, at) = (dir.path().join("disk"), dir.path().join("mnt"));
        fs::create_dir(&at).expect("mkdir");
        let run = |program: &str, args: &[&str]| {
            Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
        };
        let (file, at) = (file.display().to_string(), at.display().to_string());
        let mounted = run("truncate", &["-s", size, &file])
            && run(mkfs[0], &[&mkfs[1..], &[&file]].concat())
            && run("mount", &["-o", options, &file, &at]);
        mounted.then_some(Self { dir })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl SmallDisk {
    /// Writes a file until nothing more fits; it is removed to make room again.
    ///
    /// # Panics
    /// The file cannot be made.
    #[must_use]
    pub fn fill(&self) -> PathBuf {
        use std::io::Write as _;
        let path = self.path().join("filling");
        let mut file = fs::File::create(&path).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        let _ = file.sync_all();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}
