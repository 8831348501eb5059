//! Programs that the configuration wants run at points of a container's life, with its state on standard input.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use oci::runtime::Hook;
use serde_json::json;

use crate::error::{Context as _, Error};
use crate::state::OCI_VERSION;

/// The state that hooks, and the `state` command, show.
pub(crate) fn state_json(
    id: &str,
    status: &str,
    pid: i32,
    bundle: &Path,
    annotations: Option<&HashMap<String, String>>,
) -> serde_json::Value {
    let mut state =
        json!({"ociVersion": OCI_VERSION, "id": id, "status": status, "pid": pid, "bundle": bundle});
    if let Some(annotations) = annotations.filter(|annotations| !annotations.is_empty()) {
        state["annotations"] = json!(annotations);
    }
    state
}

/// Runs the hooks in their order; the first that fails ends it.
pub(crate) fn run(hooks: &[Hook], kind: &'static str, state: &serde_json::Value) -> Result<(), Error> {
    hooks.iter().try_for_each(|hook| run_one(hook, kind, state, None))
}

/// Hooks that have only to be started: their input is there already.
#[derive(Debug)]
pub(crate) struct Prepared {
    hooks: Vec<(Hook, OwnedFd)>,
}

impl Prepared {
    /// Hooks that are to run later, in a process that can do less by then.
    pub(crate) fn new(hooks: Vec<Hook>, state: &serde_json::Value) -> Result<Self, Error> {
        let prepare = |hook: Hook| input(&hook, state).map(|input| (hook, input));
        Ok(Self { hooks: hooks.into_iter().map(prepare).collect::<Result<_, _>>()? })
    }

    /// What must stay open for them.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hooks.iter().map(|(_, input)| input.as_fd())
    }

    /// Runs them in their order; the first that fails ends it.
    pub(crate) fn run(self, kind: &'static str) -> Result<(), Error> {
        self.hooks.into_iter().try_for_each(|(hook, input)| run_with(&hook, kind, input, None))
    }
}

/// The same, while `process` waits for them: its end is theirs, since whoever deletes a container need not wait for its hooks.
pub(crate) fn run_beside(
    process: &OwnedFd,
    hooks: &[Hook],
    kind: &'static str,
    state: &serde_json::Value,
) -> Result<(), Error> {
    hooks.iter().try_for_each(|hook| run_one(hook, kind, state, Some(process)))
}

/// Runs all hooks in their order, whatever becomes of each: those that failed are the caller's to warn of.
pub(crate) fn run_all(hooks: &[Hook], kind: &'static str, state: &serde_json::Value) -> Vec<Error> {
    hooks.iter().filter_map(|hook| run_one(hook, kind, state, None).err()).collect()
}

fn run_one(
    hook: &Hook,
    kind: &'static str,
    state: &serde_json::Value,
    beside: Option<&OwnedFd>,
) -> Result<(), Error> {
    run_with(hook, kind, input(hook, state)?, beside)
}

/// In memory, not through a pipe: a hook that does not read it is within its rights. Each has its own, to be read from its beginning.
fn input(hook: &Hook, state: &serde_json::Value) -> Result<OwnedFd, Error> {
    sys::memfd::content("state", state.to_string().as_bytes()).on("prepare the state for", hook.path())
}

fn run_with(hook: &Hook, kind: &'static str, input: OwnedFd, beside: Option<&OwnedFd>) -> Result<(), Error> {
    let path = hook.path();
    let failed = |reason: String| Error::Invalid(format!("{kind} hook {}: {reason}", path.display()));
    if !path.is_absolute() {
        return Err(failed("the path is not absolute".into()));
    }
    let mut command = Command::new(path);
    if let Some((name, arguments)) = hook.args().as_deref().and_then(<[String]>::split_first) {
        command.arg0(name).args(arguments);
    }
    let environment = hook.env().iter().flatten().filter_map(|v| v.split_once('='));
    command.env_clear().envs(environment).stdin(Stdio::from(input));
    let mut child = command.spawn().on("execute", path)?;
    let pidfd = sys::process::pidfd(child.id() as i32).on("find", path)?;
    let limit = hook.timeout().filter(|t| *t > 0).map(|t| Duration::from_secs(t as u64));
    let milliseconds = limit.map_or(-1, |t| i32::try_from(t.as_millis()).unwrap_or(i32::MAX));
    // Where there is nobody else, its own end is waited for twice.
    let ends = [pidfd.as_fd(), beside.unwrap_or(&pidfd).as_fd()];
    let ended = sys::process::wait_any_ended(ends, milliseconds).on("wait for", path)?;
    if ended != Some(0) {
        child.kill().on("kill", path)?;
    }
    let status = child.wait().on("wait for", path)?;
    match ended {
        None => Err(failed("timed out".into())),
        Some(0) if status.success() => Ok(()),
        Some(0) => Err(failed(status.to_string())),
        Some(_) => Err(failed("the container was ended meanwhile".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(json: serde_json::Value) -> Vec<Hook> {
        vec![serde_json::from_value(json).unwrap()]
    }

    #[test]
    fn a_hook_gets_the_state_and_its_environment_only() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let script = format!("cat > {0}; echo \" $0 $X $HOME\" >> {0}", out.display());
        let hooks = hook(json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero"], "env": ["X=y"]}));
        run(&hooks, "prestart", &state_json("c", "creating", 7, Path::new("/b"), None)).unwrap();
        let text = std::fs::read_to_string(out).unwrap();
        assert!(text.contains("\"status\":\"creating\"") && text.ends_with(" zero y \n"), "{text}");
    }

    #[test]
    fn failure_and_time_are_reported() {
        let state = json!({});
        let text = run(&hook(json!({"path": "/bin/false"})), "poststop", &state).unwrap_err().to_string();
        assert!(text.contains("poststop hook /bin/false"), "{text}");
        let slow = hook(json!({"path": "/bin/sleep", "args": ["sleep", "60"], "timeout": 1}));
        assert!(run(&slow, "prestart", &state).unwrap_err().to_string().contains("timed out"));
        run(&hook(json!({"path": "relative"})), "prestart", &state).unwrap_err();
    }
}
