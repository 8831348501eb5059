//! `--ssh`: the user's agent, another one, or keys, for which an agent is begun that ends with the build.

use std::fs::DirBuilder;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use buildkit::client::Agents;

use crate::error::{Error, Result};

/// The agent that is meant where no other is named.
const DEFAULT: &str = "default";
/// Where the user's own agent is.
const VARIABLE: &str = "SSH_AUTH_SOCK";
/// What an agent of ours goes on for: until nobody writes to its input any more, however this process ends. It says when it is there.
const UNTIL: &str = "echo; cat >/dev/null; kill \"$SSH_AGENT_PID\"; rm -rf -- \"$0\"";

/// An agent with keys of one build.
#[derive(Debug)]
pub(super) struct Keys {
    child: Child,
    /// Where its socket is.
    folder: PathBuf,
}

impl Drop for Keys {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has nothing more to do, and removes the folder itself if it ever ran.
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Keys {
    /// Begins an agent and gives it keys; where it listens.
    fn new(files: &[PathBuf]) -> std::result::Result<(Self, PathBuf), String> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("corten-ssh-{}-{number}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| format!("cannot make {}: {}", folder.display(), error.kind()))?;
        let socket = folder.join("agent");
        let begun = Command::new("ssh-agent")
            .arg("-a")
            .arg(&socket)
            .args(["sh", "-c", UNTIL])
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let child = begun.map_err(|error| {
            let _ = std::fs::remove_dir(&folder);
            format!(
                "cannot run ssh-agent for a key: {}: install OpenSSH's client, or give an agent's socket",
                error.kind()
            )
        })?;
        let mut keys = Self { child, folder };
        let said = keys.child.stdout.take().map(|mut out| out.read_exact(&mut [0]));
        if !matches!(said, Some(Ok(()))) {
            return Err("ssh-agent ended before it was there".to_owned());
        }
        for file in files {
            let added = Command::new("ssh-add").arg("-q").arg(file).env(VARIABLE, &socket).status();
            match added {
                Ok(status) if status.success() => {}
                Ok(_) => return Err(format!("ssh-add does not take the key {}", file.display())),
                Err(error) => return Err(format!("cannot run ssh-add: {}", error.kind())),
            }
        }
        Ok((keys, socket))
    }
}

/// Reads `default` and `NAME[=SOCKET|KEY[,KEY]]`. Without either it is the user's own agent. Agents of ours end with what is returned.
///
/// # Errors
/// There is no agent there, or no key.
pub(super) fn read<'a>(words: impl Iterator<Item = &'a str>) -> Result<(Agents, Vec<Keys>)> {
    let (mut agents, mut begun) = (Agents::new(), Vec::new());
    for text in words {
        let (name, path, keys) = one(text, std::env::var_os(VARIABLE).map(PathBuf::from))?;
        agents.insert(name, path);
        begun.extend(keys);
    }
    Ok((agents, begun))
}

fn one(text: &str, own: Option<PathBuf>) -> Result<(String, PathBuf, Option<Keys>)> {
    let refuse = |why: String| Error::Message(format!("invalid --ssh {text:?}: {why}"));
    let (name, paths) = match text.split_once('=') {
        Some((name, paths)) => (name, paths.split(',').map(PathBuf::from).collect()),
        None => (text, Vec::from_iter(own)),
    };
    let name = if name.is_empty() { DEFAULT } else { name };
    if paths.is_empty() {
        return Err(refuse(format!(
            "{VARIABLE} is not set: start ssh-agent, or give {name}=SOCKET or {name}=KEY"
        )));
    }
    let whole = |path: &PathBuf| {
        std::fs::canonicalize(path)
            .map_err(|error| refuse(format!("cannot use {}: {}", path.display(), error.kind())))
    };
    let paths = paths.iter().map(whole).collect::<Result<Vec<_>>>()?;
    let is_socket = |path: &Path| std::fs::metadata(path).is_ok_and(|about| about.file_type().is_socket());
    match paths.as_slice() {
        [socket] if is_socket(socket) => Ok((name.to_owned(), socket.clone(), None)),
        files if files.iter().any(|file| is_socket(file)) => {
            Err(refuse("one agent's socket, or keys: not both".to_owned()))
        }
        files => {
            let (keys, socket) = Keys::new(files).map_err(refuse)?;
            Ok((name.to_owned(), socket, Some(keys)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().canonicalize().unwrap().join("agent");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let found = |text: &str, own| {
            let (name, path, keys) = one(text, own).unwrap();
            assert!(keys.is_none());
            (name, path)
        };
        assert_eq!(found("default", Some(socket.clone())), (DEFAULT.to_owned(), socket.clone()));
        assert_eq!(found(&format!("git={}", socket.display()), None), ("git".to_owned(), socket.clone()));
        let both = format!("a={},/etc/passwd", socket.display());
        for (text, word) in
            [("default", "is not set"), ("a=/nowhere", "cannot use"), (both.as_str(), "not both")]
        {
            assert!(one(text, None).unwrap_err().to_string().contains(word), "{text}");
        }
    }
}
