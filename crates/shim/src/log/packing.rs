//! Compresses a full file of a log, in a process of its own: the container goes on meanwhile.
//!
//! The compressed file appears whole or not at all, and the plain one is removed after that: whoever is killed in between
//! leaves the plain file, a part that the next one removes, or both files with the same lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use flate2::{Compression, GzBuilder};
use sys::spawn::{self, Fork};

/// What a compressed file has after its name.
pub const SUFFIX: &str = ".gz";
/// What one has that is not whole.
const PART: &str = ".gz.part";
/// How the comment begins that tells the number of the file that was compressed: who reads that file knows by it where
/// to go on.
pub const ORIGIN: &str = "inode=";
/// How much is read at a time.
const BLOCK: usize = 64 * 1024;

/// A file that is being compressed.
#[derive(Debug)]
pub struct Packing {
    process: OwnedFd,
}

impl Packing {
    /// Begins to compress `path`.
    pub fn start(path: &str) -> io::Result<Self> {
        let source = File::open(path)?;
        let parent = sys::process::id();
        match spawn::fork()? {
            Fork::Child => {
                sys::signal::reset();
                let _ = sys::process::set_parent_death_signal(SIGKILL);
                // Who has gone before that was asked for is not waited for; nobody else may rename these files meanwhile.
                if sys::process::parent_id() != parent {
                    spawn::exit_now(1);
                }
                let _ = sys::process::set_name(c"corten-log-pack");
                spawn::keep_only([source.as_fd()]);
                spawn::exit_now(i32::from(pack(&source, path).is_err()))
            }
            Fork::Parent(pid) => Ok(Self { process: spawn::pidfd(pid)? }),
        }
    }

    /// Whether it has come to its end.
    pub fn is_over(&self) -> bool {
        self.wait_ended(0)
    }

    /// Waits until it is done; after `milliseconds` it is given up, and the file stays as it is.
    pub fn wait(self, milliseconds: i32) {
        if !self.wait_ended(milliseconds) {
            let _ = sys::signal::send(&self.process, SIGKILL);
        }
        // A supervisor may have reaped it already, among its other children.
        let _ = sys::process::wait(&self.process);
    }

    fn wait_ended(&self, milliseconds: i32) -> bool {
        sys::process::wait_ended(&self.process, milliseconds).unwrap_or(false)
    }
}

const SIGKILL: i32 = 9;

/// Puts `path`, which is `source`, into a compressed file beside it, and removes it.
fn pack(source: &File, path: &str) -> io::Result<()> {
    let part = format!("{path}{PART}");
    let done = write(source, &part).and_then(|()| fs::rename(&part, format!("{path}{SUFFIX}")));
    if done.is_err() {
        let _ = fs::remove_file(&part);
    }
    done?;
    fs::remove_file(path)
}

fn write(mut source: &File, part: &str) -> io::Result<()> {
    remove(part)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(part)?;
    let origin = format!("{ORIGIN}{}", source.metadata()?.ino());
    // A container that writes faster than this waits: the best compression is not worth it.
    let packed = GzBuilder::new().comment(origin).write(BufWriter::new(file), Compression::fast());
    let mut packed = packed;
    let mut block = vec![0; BLOCK];
    loop {
        match source.read(&mut block) {
            Ok(0) => break,
            Ok(read) => packed.write_all(&block[..read])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let file = packed.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    // After a loss of power a name with nothing behind it would be all that is left.
    file.sync_data()
}

/// Removes what killed processes left of compressing `path`; whether `path` itself is there to be compressed.
pub fn clean(path: &str) -> io::Result<bool> {
    remove(&format!("{path}{PART}"))?;
    let plain = fs::symlink_metadata(path).is_ok();
    if plain {
        remove(&format!("{path}{SUFFIX}"))?;
    }
    Ok(plain)
}

/// Removes a file that may not be there.
pub fn remove(path: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    #[test]
    fn a_packed_file_is_whole_and_says_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.1").to_str().unwrap().to_owned();
        let text = "a line\n".repeat(50_000);
        fs::write(&path, &text).unwrap();
        fs::write(format!("{path}{PART}"), "left by a killed one").unwrap();
        let source = File::open(&path).unwrap();
        pack(&source, &path).unwrap();
        let mut packed = GzDecoder::new(File::open(format!("{path}{SUFFIX}")).unwrap());
        let mut back = String::new();
        packed.read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
        let comment = packed.header().and_then(flate2::GzHeader::comment).unwrap().to_vec();
        let number = source.metadata().unwrap().ino();
        assert_eq!(String::from_utf8(comment).unwrap(), format!("{ORIGIN}{number}"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_killed_ones_left_is_removed_and_no_line_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l.1").to_str().unwrap().to_owned();
        assert!(!clean(&path).unwrap());
        fs::write(&path, "plain").unwrap();
        fs::write(format!("{path}{PART}"), "half").unwrap();
        fs::write(format!("{path}{SUFFIX}"), "the same lines").unwrap();
        assert!(clean(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::rename(&path, format!("{path}{SUFFIX}")).unwrap();
        assert!(!clean(&path).unwrap());
        assert!(fs::metadata(format!("{path}{SUFFIX}")).is_ok());
    }
}
