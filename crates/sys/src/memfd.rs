//! Executables that cannot be changed: sealed anonymous files.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

/// An executable in memory that nobody, root included, can alter, or its stand-in on disk where the host forbids
/// executing memory.
#[derive(Debug)]
pub struct Executable {
    fd: OwnedFd,
    sealed: bool,
}

/// A file in memory with this content, to be read from its beginning.
pub fn content(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
    let mut written = 0;
    while written < bytes.len() {
        written += rustix::io::pwrite(&fd, &bytes[written..], written as u64)?;
    }
    Ok(fd)
}

impl Executable {
    /// Copies `bytes` into a sealed memory file named `name`.
    pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<Self> {
        // Kernels before 6.3 do not know MFD_EXEC; theirs are executable without it.
        const EXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x10);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match rustix::fs::memfd_create(name, flags | EXEC) {
            Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
            other => other?,
        };
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(0o500))?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self { fd: file.into(), sealed: true })
    }

    /// Writes `bytes` to a file in `dir` that has no name as soon as it is open: for hosts that forbid executing
    /// memory (`vm.memfd_noexec`).
    pub fn detached(dir: &Path, bytes: &[u8]) -> io::Result<Self> {
        let path = dir.join(format!(".supervisor-{}", std::process::id()));
        let created = rustix::fs::open(
            &path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o500),
        )?;
        let written = File::from(created).write_all(bytes);
        let opened = written
            .and_then(|()| Ok(rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?));
        std::fs::remove_file(&path)?;
        Ok(Self { fd: opened?, sealed: false })
    }

    /// Whether the kernel guards the content against everybody.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The path by which this process, or a child before its exec, executes it.
    pub fn path(&self) -> CString {
        // A number holds no NUL.
        CString::new(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).unwrap_or_default()
    }
}

impl From<Executable> for OwnedFd {
    fn from(executable: Executable) -> Self {
        executable.fd
    }
}

impl AsFd for Executable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn runs(executable: &Executable) {
        let path = executable.path().into_string().expect("utf8");
        let output = Command::new(path).arg("-c").arg("echo hi").output().expect("run");
        assert_eq!(output.stdout, b"hi\n");
    }

    #[test]
    fn sealed_memory_runs_and_refuses_to_change() {
        let shell = std::fs::read("/bin/sh").expect("read");
        let executable = Executable::sealed("sh", &shell).expect("seal");
        runs(&executable);
        assert_eq!(rustix::io::pwrite(&executable, b"x", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&executable, 1), Err(Errno::PERM));
    }

    #[test]
    fn the_stand_in_on_disk_runs_and_leaves_no_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        let shell = std::fs::read("/bin/sh").expect("read");
        let executable = Executable::detached(dir.path(), &shell).expect("write");
        runs(&executable);
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 0);
    }
}
