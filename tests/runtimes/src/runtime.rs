//! Which runtimes are under test.

use std::path::{Path, PathBuf};
use std::process::Command;

/// crun refuses a hybrid hierarchy whose second half has controllers, so it is not shown them.
const WITHOUT_CONTROLLERS: &str =
    "mount --bind /dev/null /sys/fs/cgroup/unified/cgroup.controllers && exec \"$@\"";

/// A runtime, driven by its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// How the table of what is known calls it.
    pub kind: Kind,
    command: Vec<String>,
}

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Corten,
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// Another.
    Other,
}

impl Runtime {
    /// Those that `RUNTIME_UNDER_TEST` names, separated by commas (`runc,crun`, `/opt/corten runtime`); else the project's.
    #[must_use]
    pub fn under_test() -> Vec<Self> {
        match std::env::var("RUNTIME_UNDER_TEST") {
            Ok(list) => list.split(',').filter(|one| !one.trim().is_empty()).map(Self::parse).collect(),
            Err(_) => vec![Self::own()],
        }
    }

    /// The project's.
    #[must_use]
    pub fn own() -> Self {
        let binary = kit::binary().display().to_string();
        Self { kind: Kind::Corten, command: vec![binary, "runtime".to_owned()] }
    }

    fn parse(text: &str) -> Self {
        let command: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let program = command.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program));
        let kind = match program {
            "runc" => Kind::Runc,
            "crun" => Kind::Crun,
            // The crate's example, and the binary by any name that leads to the runtime.
            "corten" | "corten-runtime" | "runtime" => Kind::Corten,
            _ => Kind::Other,
        };
        Self { kind, command }
    }

    /// The runtime with no arguments yet.
    #[must_use]
    pub fn command(&self) -> Command {
        if self.kind == Kind::Crun && crate::cgroup::hybrid_with_controllers() {
            let mut command = Command::new("unshare");
            // Mounts of the host must still arrive.
            command
                .args(["--mount", "--propagation", "slave", "sh", "-c", WITHOUT_CONTROLLERS, "sh"])
                .args(&self.command);
            return command;
        }
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().map_or("", String::as_str));
        command.args(words);
        command
    }

    /// One path in `directory` that is the runtime, as engines want it.
    ///
    /// # Panics
    /// The link cannot be made.
    #[must_use]
    pub fn executable(&self, directory: &Path) -> PathBuf {
        let program = self.command.first().map_or("", String::as_str);
        // By this name the project's binary is a runtime and nothing else.
        let link = directory.join(if self.kind == Kind::Corten { "corten-runtime" } else { "runtime" });
        let path = std::env::var("PATH").unwrap_or_default();
        let mut places = path.split(':').map(|place| Path::new(place).join(program));
        let target =
            if program.contains('/') { Some(PathBuf::from(program)) } else { places.find(|p| p.exists()) };
        std::os::unix::fs::symlink(target.expect("the runtime in the path"), &link).expect("link");
        link
    }

    /// Its name for messages.
    #[must_use]
    pub fn name(&self) -> String {
        self.command.join(" ")
    }
}

/// The program inside; the crate's tests know where cargo put it, and `RUNTIMES_PROBE` says it where there is no cargo.
#[must_use]
pub fn probe() -> PathBuf {
    if let Some(path) = std::env::var_os("RUNTIMES_PROBE") {
        return PathBuf::from(path);
    }
    // target/<triple>/debug/deps/<test> is this program.
    let test = std::env::current_exe().expect("own path");
    let path = test.ancestors().nth(2).unwrap_or(Path::new("/")).join("probe");
    assert!(path.exists(), "{} is not there: build it with `cargo build -p runtimes`", path.display());
    path
}
