//! Archives between the daemon and a file, a pipe or standard input.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use client::{Streaming, Upload};

use crate::error::{Error, Result};
use crate::session::output_failed;
use crate::terminal;

/// What means standard input or output.
pub const STANDARD: &str = "-";
/// Who may read an archive: what is in it may be secret.
const MODE: u32 = 0o600;

/// Where an archive goes.
#[derive(Debug)]
pub enum Output {
    /// Standard output.
    Standard,
    /// This file: whole, or as it was before.
    File(PathBuf),
}

impl Output {
    /// What `--output` says. `what` is what fails.
    pub fn parse(target: Option<&str>, what: &str) -> Result<Self> {
        let Some(target) = target.filter(|target| !target.is_empty() && *target != STANDARD) else {
            if terminal::stdout_is_terminal() {
                return Err(Error::say(
                    "cowardly refusing to save to a terminal. Use the -o flag or redirect",
                ));
            }
            return Ok(Self::Standard);
        };
        let path = PathBuf::from(target);
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !directory.is_dir() {
            return Err(Error::Message(format!(
                "{what}: invalid output path: directory {:?} does not exist",
                directory.display().to_string()
            )));
        }
        match fs::metadata(&path) {
            Ok(there) if there.is_dir() => {
                Err(Error::Message(format!("{what}: invalid output path: {target:?} must be a file")))
            }
            _ => Ok(Self::File(path)),
        }
    }

    /// Writes what comes. A file appears under its name when it is complete; what is no regular file is written to as it is.
    pub async fn write(&self, body: Streaming) -> Result<()> {
        let Self::File(path) = self else {
            return copy(body, &mut io::stdout().lock(), output_failed).await;
        };
        let failed = |source| Error::File { verb: "writing", path: path.display().to_string(), source };
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let mut file = File::options().write(true).open(path).map_err(failed)?;
            return copy(body, &mut file, failed).await;
        }
        let new = Unfinished::make(path).map_err(failed)?;
        copy(body, &mut &new.file, failed).await?;
        fs::rename(&new.path, path).map_err(failed)
    }
}

async fn copy(mut body: Streaming, to: &mut impl Write, failed: impl Fn(io::Error) -> Error) -> Result<()> {
    while let Some(chunk) = body.chunk().await? {
        to.write_all(&chunk).map_err(&failed)?;
    }
    to.flush().map_err(failed)
}

/// A file beside the one that it is to become, removed unless it has.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn make(beside: &Path) -> io::Result<Self> {
        let name = beside.file_name().unwrap_or_default().to_string_lossy();
        let path = beside.with_file_name(format!(".{name}.{}", std::process::id()));
        let file = File::options().write(true).create_new(true).mode(MODE).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Where it was renamed it is not here any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// An archive to be sent: of a file, or of standard input.
pub fn input(path: Option<&str>) -> Result<Upload> {
    let named = path.filter(|path| *path != STANDARD);
    let upload = match named {
        None => Upload::new(io::stdin()),
        Some(path) => File::open(path).and_then(|file| {
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Upload::new(file)
        }),
    };
    let path = named.unwrap_or("standard input");
    upload.map_err(|source| Error::File { verb: "open", path: path.to_owned(), source })
}
