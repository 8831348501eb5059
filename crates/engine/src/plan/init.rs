//! The small executable that is the first process of containers with `--init`, as a file that can be bound into them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::containers::record::Paths;
use crate::error::{Error, Result};

/// Its name in the engine's directory for what runs.
const NAME: &str = "init";
/// Everybody may run it, nobody may change it.
const MODE: u32 = 0o555;

/// Where it is, given where one container's files are: `<exec-root>/c/<id>` lies two levels below it.
pub(crate) fn path(paths: &Paths) -> PathBuf {
    paths.run.ancestors().nth(2).unwrap_or(Path::new("/")).join(NAME)
}

/// Writes it, whole or not at all. Containers that run keep the file that they have bound.
pub fn install(exec_root: &Path, executable: &[u8]) -> Result<()> {
    let path = exec_root.join(NAME);
    if fs::read(&path).is_ok_and(|known| known == executable) {
        return Ok(());
    }
    let fresh = exec_root.join(format!(".{NAME}.new"));
    let write = || {
        let _ = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(MODE).open(&fresh)?;
        file.write_all(executable)?;
        drop(file);
        fs::rename(&fresh, &path)
    };
    write().map_err(|e| Error::io("write", &path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), b"one").unwrap();
        install(dir.path(), b"one").unwrap();
        install(dir.path(), b"two").unwrap();
        let paths = Paths { state: PathBuf::new(), run: dir.path().join("c/0123") };
        assert_eq!(fs::read(path(&paths)).unwrap(), b"two");
        assert_eq!(fs::metadata(path(&paths)).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
