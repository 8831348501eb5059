//! A data root of one's own, and layers to put into it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use oci::Digest;
use storage::{Expected, Store};

/// A temporary directory with a data root in it.
pub struct World {
    dir: tempfile::TempDir,
    root: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        Self { dir, root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn open(&self) -> Store {
        Store::open(&self.root).unwrap()
    }

    /// How many files there are below a directory of the data root.
    pub fn files_below(&self, directory: &str) -> usize {
        count(&self.root.join(directory))
    }

    /// Runs a script in the temporary directory; its output.
    pub fn shell(&self, script: &str) -> Vec<u8> {
        let output = Command::new("sh").arg("-ec").arg(script).current_dir(self.dir.path()).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Sends bytes through a command.
    pub fn filter(&self, command: &str, input: &[u8]) -> Vec<u8> {
        filter(command, input)
    }

    /// GNU tar's archive of these files, without entries for directories.
    pub fn tar(&self, files: &[(&str, &str)]) -> Vec<u8> {
        let tree = tempfile::tempdir_in(self.dir.path()).unwrap();
        let list = self.dir.path().join("list");
        let mut names = String::new();
        for (name, content) in files {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
            names += &format!("{name}\n");
        }
        fs::write(&list, names).unwrap();
        self.shell(&format!("tar -C {} --mtime=@1 -cf - -T {}", tree.path().display(), list.display()))
    }
}

fn count(directory: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        files += if entry.file_type().unwrap().is_dir() { count(&entry.path()) } else { 1 };
    }
    files
}

/// A layer compressed by gzip.
#[derive(Clone)]
pub struct Layer {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    pub diff_id: Digest,
}

impl Layer {
    pub fn of(world: &World, files: &[(&str, &str)]) -> Self {
        Self::from_tar(world.tar(files))
    }

    pub fn from_tar(tar: Vec<u8>) -> Self {
        let bytes = gzip(&tar);
        Self { digest: digest(&bytes), diff_id: digest(&tar), bytes }
    }

    pub fn expected(&self, media_type: &str) -> Expected {
        Expected { digest: self.digest.clone(), size: self.bytes.len() as u64, media_type: media_type.into() }
    }
}

/// Sends bytes through a command.
pub fn filter(command: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command}");
        output.stdout
    })
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    filter("gzip -n -c", bytes)
}

pub fn digest(bytes: &[u8]) -> Digest {
    let hex = filter("sha256sum", bytes);
    Digest::from_sha256_hex(std::str::from_utf8(&hex[..64]).unwrap()).unwrap()
}

/// Text that does not compress well, always the same.
pub fn noise(length: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b' ' + (state % 94) as u8)
        })
        .collect()
}
