//! The standard streams: what they were is kept beside the images, and what takes their place is said at restore.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sys::proc::Proc;
use sys::process;

use super::outside::Mounts;
use crate::error::{Context as _, Error};

/// runc's name for the file, and its format: a list of three texts.
const FILE: &str = "descriptors.json";

/// The longest file: three paths.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// How many there are.
const COUNT: usize = 3;

/// What the standard streams of process `pid` are, in the words by which criu knows those that come from outside.
pub(super) fn look(proc: &Proc, pid: i32, mounts: &Mounts) -> Result<Vec<String>, Error> {
    (0..COUNT).map(|number| look_at(proc, pid, number, mounts)).collect()
}

fn look_at(proc: &Proc, pid: i32, number: usize, mounts: &Mounts) -> Result<String, Error> {
    const CLOSED: &str = "/dev/null";
    let shown = format!("/proc/{pid}/fd/{number}");
    let Ok(link) = std::fs::read_link(&shown) else { return Ok(CLOSED.to_owned()) };
    let link = link.to_string_lossy().into_owned();
    let info = proc.read(format!("{pid}/fdinfo/{number}")).on("read", &shown)?;
    match mount_id(&info) {
        // A file of the host's, which is in none of the container's mounts.
        Some(mount) if link.starts_with('/') && !mounts.has(mount) => {
            // The file behind the link, without opening it.
            let inode = std::fs::metadata(&shown).on("inspect", &shown)?.ino();
            Ok(format!("file[{mount:x}:{inode:x}]"))
        }
        _ => Ok(link),
    }
}

/// The mount in the lines of `/proc/<pid>/fdinfo/<number>`.
pub(super) fn mount_id(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// Whether criu has to be told that it comes from outside when it writes it down; a pipe it finds out about itself.
pub(super) fn is_external(stream: &str) -> bool {
    stream.starts_with("file[")
}

/// Keeps them beside the images.
pub(super) fn store(images: &Path, streams: &[String]) -> Result<(), Error> {
    let path = images.join(FILE);
    let text = serde_json::to_vec(streams).map_err(|source| Error::Json { path: path.clone(), source })?;
    std::fs::write(&path, text).on("write", path)
}

/// What they were.
fn load(images: &Path) -> Result<Vec<String>, Error> {
    let path = images.join(FILE);
    let mut text = Vec::new();
    let file = File::open(&path).on("open", &path)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).on("read", &path)?;
    let streams: Vec<String> =
        serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
    if streams.len() != COUNT {
        let path = path.display();
        return Err(Error::Invalid(format!("{path} names {} streams, not {COUNT}", streams.len())));
    }
    Ok(streams)
}

/// Copies of our own standard streams for those that came from outside, and criu's names for what they replace.
pub(super) fn ours(images: &Path) -> Result<Vec<(String, OwnedFd)>, Error> {
    let mut seen = HashSet::new();
    let mut ours = Vec::new();
    for (stream, number) in load(images)?.into_iter().zip(0u8..) {
        let replaced = stream.starts_with("pipe:[") || is_external(&stream);
        if replaced && seen.insert(stream.clone()) {
            let own = process::stdio(number).on("copy", format!("standard stream {number}"))?;
            ours.push((stream, own));
        }
    }
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_kept_and_only_three_are_believed() {
        let directory = tempfile::tempdir().unwrap();
        let streams = ["/dev/null", "pipe:[7]", "pipe:[7]"].map(str::to_owned);
        store(directory.path(), &streams).unwrap();
        let ours = ours(directory.path()).unwrap();
        assert_eq!(ours.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["pipe:[7]"]);
        for wrong in ["[]", "{}", "[1,2,3]", "[\"\",\"\",\"\",\"\"]", "["] {
            std::fs::write(directory.path().join(FILE), wrong).unwrap();
            load(directory.path()).unwrap_err();
        }
    }

    #[test]
    fn a_mount_is_found_by_its_name() {
        assert_eq!(mount_id("pos:\t0\nflags:\t02\nmnt_id:\t25\nino:\t4\n"), Some(25));
        assert_eq!(mount_id("pos:\t0\n"), None);
    }
}
