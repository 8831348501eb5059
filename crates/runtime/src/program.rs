//! The program to run: found as a shell would, and executed.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci::runtime::Process;
use sys::process;

use crate::error::{Error, NOT_EXECUTABLE, NOT_FOUND};

/// Where programs are looked for if the environment has no `PATH`.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// A program with its arguments and environment, ready to be executed.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    name: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Finds the program of `process` from the calling process's root and working directory, by its rights.
    pub(crate) fn find(process: &Process) -> Result<Self, Error> {
        let arguments = process.args().as_deref().unwrap_or_default();
        Self::find_among(arguments, process.env().as_deref().unwrap_or_default())
    }

    /// Finds the program that `arguments` begin with.
    pub(crate) fn find_among(arguments: &[String], environment: &[String]) -> Result<Self, Error> {
        let name = arguments.first().cloned().unwrap_or_default();
        let path = find(&name, environment)?;
        Ok(Self {
            path: CString::new(path.as_os_str().as_bytes()).map_err(|_| nul())?,
            name,
            arguments: c_strings(arguments)?,
            environment: c_strings(environment)?,
        })
    }

    /// Becomes the program. Returns only if that failed.
    pub(crate) fn execute(&self) -> Error {
        let error = process::execve(&self.path, &self.arguments, &self.environment);
        let code = match error.kind() {
            io::ErrorKind::NotFound => NOT_FOUND,
            _ => NOT_EXECUTABLE,
        };
        Error::Program { code, text: format!("exec {}: {}", self.name, words(&error)) }
    }
}

fn nul() -> Error {
    Error::Invalid("a NUL byte in process.args or process.env".into())
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, Error> {
    strings.iter().map(|s| CString::new(s.as_bytes()).map_err(|_| nul())).collect()
}

fn find(name: &str, environment: &[String]) -> Result<PathBuf, Error> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match executable(&path) {
            Ok(()) => Ok(path),
            Err(error) => Err(refused(name, Some(&path), &error)),
        };
    }
    let search = environment.iter().rev().find_map(|v| v.strip_prefix("PATH=")).unwrap_or(PATH_DEFAULT);
    let mut denied = None;
    for directory in search.split(':') {
        let path = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match executable(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => denied = Some(error),
            Err(_) => {}
        }
    }
    match denied {
        Some(error) if !name.is_empty() => Err(refused(name, None, &error)),
        _ => Err(Error::Program {
            code: NOT_FOUND,
            text: format!("exec: {name:?}: executable file not found in $PATH"),
        }),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the root is the container's already, and the kernel looks the path up again"
)]
fn executable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    process::may_execute(path)
}

fn refused(name: &str, path: Option<&Path>, error: &io::Error) -> Error {
    let (code, reason) = match (error.kind(), path) {
        (io::ErrorKind::NotFound, Some(path)) => {
            (NOT_FOUND, format!("stat {}: no such file or directory", path.display()))
        }
        (io::ErrorKind::NotADirectory, Some(path)) => {
            (NOT_EXECUTABLE, format!("stat {}: not a directory", path.display()))
        }
        (_, _) => (NOT_EXECUTABLE, words(error)),
    };
    Error::Program { code, text: format!("exec: {name:?}: {reason}") }
}

/// The words of C for the errors that scripts match on.
fn words(error: &io::Error) -> String {
    const ENOEXEC: i32 = 8;
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "is a directory".into(),
        _ if error.raw_os_error() == Some(ENOEXEC) => "exec format error".into(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(path: &str) -> Vec<String> {
        vec![format!("PATH={path}")]
    }

    fn error(name: &str, path: &str) -> (u8, String) {
        let error = find(name, &environment(path)).unwrap_err();
        (error.exit_code(), error.to_string())
    }

    #[test]
    fn programs_are_found_along_the_path() {
        assert_eq!(find("sh", &environment("/nowhere:/bin")).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("/bin/sh", &[]).unwrap(), Path::new("/bin/sh"));
        assert_eq!(find("sh", &[]).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn refusals_have_the_words_that_scripts_match_on() {
        let text = "exec: \"nope\": executable file not found in $PATH".to_owned();
        assert_eq!(error("nope", "/bin"), (127, text));
        let text = "exec: \"/nope\": stat /nope: no such file or directory".to_owned();
        assert_eq!(error("/nope", "/bin"), (127, text));
        assert_eq!(error("/etc", "/bin"), (126, "exec: \"/etc\": is a directory".to_owned()));
        assert_eq!(error("/etc/passwd", ""), (126, "exec: \"/etc/passwd\": permission denied".to_owned()));
        assert_eq!(error("passwd", "/etc"), (126, "exec: \"passwd\": permission denied".to_owned()));
        assert_eq!(error("", "/bin").0, 127);
    }
}
