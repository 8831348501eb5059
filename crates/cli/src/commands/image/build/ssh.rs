//! `--ssh`.

use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;

use buildkit::client::Agents;

use crate::error::{Error, Result};

/// The agent that is meant where no other is named.
const DEFAULT: &str = "default";
/// Where the user's own agent is.
const VARIABLE: &str = "SSH_AUTH_SOCK";

/// Reads `default` and `NAME[=SOCKET]`. Without a socket it is the user's own agent.
///
/// # Errors
/// There is no agent there.
pub(super) fn read<'a>(words: impl Iterator<Item = &'a str>) -> Result<Agents> {
    words.map(|text| one(text, std::env::var_os(VARIABLE).map(PathBuf::from))).collect()
}

fn one(text: &str, own: Option<PathBuf>) -> Result<(String, PathBuf)> {
    let refuse = |why: String| Error::Message(format!("invalid --ssh {text:?}: {why}"));
    let (name, path) = match text.split_once('=') {
        Some((name, path)) => (name, Some(PathBuf::from(path))),
        None => (text, own),
    };
    let name = if name.is_empty() { DEFAULT } else { name };
    let path =
        path.ok_or_else(|| refuse(format!("{VARIABLE} is not set: start ssh-agent, or give {name}=SOCKET")))?;
    let path = std::fs::canonicalize(&path)
        .map_err(|error| refuse(format!("cannot use {}: {}", path.display(), error.kind())))?;
    let is_socket = std::fs::metadata(&path).is_ok_and(|about| about.file_type().is_socket());
    if !is_socket {
        let shown = path.display();
        return Err(refuse(format!(
            "{shown} is not an agent's socket: add a key to ssh-agent (ssh-add {shown})"
        )));
    }
    Ok((name.to_owned(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().canonicalize().unwrap().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(one("default", Some(socket.clone())).unwrap(), (DEFAULT.to_owned(), socket.clone()));
        let named = one(&format!("git={}", socket.display()), None).unwrap();
        assert_eq!(named, ("git".to_owned(), socket));
        for (text, word) in
            [("default", "is not set"), ("a=/nowhere", "cannot use"), ("a=/etc/passwd", "ssh-add")]
        {
            assert!(one(text, None).unwrap_err().to_string().contains(word), "{text}");
        }
    }
}
