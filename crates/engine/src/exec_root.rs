//! Whose the directory of what runs is: one daemon's at a time, and one data root's as long as something runs.
//!
//! What runs without a record is half-made, and removed at the start. That is only true of records that are looked for in the right
//! data root: with another one, every container would seem to be nobody's.

use std::path::Path;

use sys::lock::Lock;

use crate::error::{Error, Result};

/// The file that is locked.
const LOCK: &str = "lock";
/// The file that names the data root.
const OWNER: &str = "owner";

/// The exec root, taken.
#[derive(Debug)]
pub(crate) struct ExecRoot {
    _lock: Lock,
}

impl ExecRoot {
    /// Takes `root` for the engine `id` in `data_root`. Refused while another daemon has it, or while containers of another
    /// data root run in it.
    pub fn take(root: &Path, id: &str, data_root: &Path) -> Result<Self> {
        let lock = Lock::try_exclusive(root.join(LOCK)).map_err(|e| Error::io("lock", root, e))?;
        let lock = lock.ok_or_else(|| {
            Error::conflict(format!("the exec root {} is in use by another daemon", root.display()))
        })?;
        let path = root.join(OWNER);
        let owner = match std::fs::read_to_string(&path) {
            Ok(owner) => owner,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Error::io("read", &path, e)),
        };
        let (of, at) = owner.trim_end().split_once(' ').unwrap_or((id, ""));
        if of != id && runs_something(root)? {
            return Err(Error::conflict(format!(
                "containers of the data root {at} run in the exec root {}: use that data root, or another --exec-root, or end them first",
                root.display()
            )));
        }
        let new = root.join(format!("{OWNER}.new"));
        std::fs::write(&new, format!("{id} {}\n", data_root.display()))
            .map_err(|e| Error::io("write", &new, e))?;
        std::fs::rename(&new, &path).map_err(|e| Error::io("write", &path, e))?;
        Ok(Self { _lock: lock })
    }
}

/// Whether a container or a supervisor in `root` lives. What only lies about is nobody's.
fn runs_something(root: &Path) -> Result<bool> {
    let dir = root.join("c");
    for entry in std::fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, e))? {
        let path = entry.map_err(|e| Error::io("list", &dir, e))?.path();
        let init = shim::exit::read_init(&path).ok().flatten();
        if init.is_some_and(shim::exit::is_alive) || sys::socket::connect(&path, shim::SOCKET).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_one_data_roots_while_something_runs() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir(root.join("c")).unwrap();
        let take = |id: &str| ExecRoot::take(root, id, Path::new("/data").join(id).as_path());
        let first = take("one").unwrap();
        assert!(take("one").unwrap_err().to_string().ends_with("is in use by another daemon"));
        drop(first);
        drop(take("two").unwrap());
        // What lies about without a process is no reason.
        std::fs::create_dir(root.join("c/abc")).unwrap();
        drop(take("one").unwrap());
        drop(take("two").unwrap());
        shim::exit::write_init(&root.join("c/abc"), std::process::id()).unwrap();
        let error = take("one").unwrap_err().to_string();
        assert!(error.starts_with("containers of the data root /data/two run in"), "{error}");
        std::fs::remove_dir_all(root.join("c/abc")).unwrap();
        take("one").unwrap();
    }
}
