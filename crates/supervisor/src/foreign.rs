//! Another OCI runtime in the place of our own: it makes the processes, and everything else stays as it is.
//!
//! Its command line is the one that runc has. What it is told of the container is in the bundle; the sources of mounts, which
//! our own runtime takes as descriptors, are mounted where only this supervisor and its children see them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Stream};

use oci::runtime::Spec;
use shim::creator::{CreateJob, ExecJob, Report, Stdio};
use shim::wire::{Failure, Stage};
use sys::spawn::{self, Fork};

/// The file in the bundle that names the runtime: a list of its path and its arguments, as JSON.
const NAME: &str = "runtime";
/// Where it looks for what it calls itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where it says what went wrong: the last line counts.
const LOG: &str = "runtime.log";
/// What is read of that: a line is some hundred bytes.
const LOG_BYTES_MAX: u64 = 64 * 1024;
/// A terminal arrives here.
const CONSOLE: &str = "console.sock";
/// Exit codes of what cannot be executed, and of all else.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;
const REFUSED: u8 = 125;

/// A runtime, and the bundle it is called for.
pub(crate) struct Foreign {
    words: Vec<String>,
    dir: PathBuf,
}

impl Foreign {
    /// The one that the bundle names.
    pub(crate) fn of(dir: &str) -> Option<Self> {
        let dir = PathBuf::from(dir);
        let words: Vec<String> = serde_json::from_slice(&fs::read(dir.join(NAME)).ok()?).ok()?;
        (!words.is_empty()).then_some(Self { words, dir })
    }

    /// A call of it, with nothing of ours open but what is given.
    fn call(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.words[0]);
        command
            .args(&self.words[1..])
            .arg("--root")
            .arg(self.dir.join("state"))
            .arg("--log")
            .arg(self.dir.join(LOG))
            .args(["--log-format", "json", verb])
            .env_clear()
            .env("PATH", PATH)
            .current_dir(&self.dir)
            .stdin(Stream::null())
            .stdout(Stream::null())
            .stderr(Stream::null());
        command
    }

    /// Calls it, and gives the process that it has made.
    fn make(&self, mut command: Command, stdio: Stdio, pid_file: &Path, id: &str) -> io::Result<u32> {
        let _ = fs::remove_file(self.dir.join(LOG));
        command.arg("--pid-file").arg(pid_file);
        let console = match stdio {
            Stdio::Fds([stdin, stdout, stderr]) => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
            Stdio::Console(socket) => {
                let _ = fs::remove_file(CONSOLE);
                // By a short path: a socket's may be a hundred bytes long.
                command.args(["--console-socket", CONSOLE]);
                Some((UnixListener::bind(CONSOLE)?, socket))
            }
        };
        let status = command.arg(id).status()?;
        // Whatever it holds of the container's streams goes with it.
        drop(command);
        if !status.success() {
            return Err(io::Error::other(self.reason()));
        }
        if let Some((listener, socket)) = console {
            hand_on(&listener, socket)?;
        }
        let pid = fs::read_to_string(pid_file)?;
        pid.trim().parse().map_err(|_| io::Error::other("the runtime named no process"))
    }

    /// Its own words for what went wrong.
    fn reason(&self) -> String {
        use std::io::Read as _;
        let mut text = String::new();
        let read = File::open(self.dir.join(LOG))
            .and_then(|file| file.take(LOG_BYTES_MAX).read_to_string(&mut text));
        let message = |line: &str| {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(value.get("msg")?.as_str()?.to_owned())
        };
        match read {
            Ok(_) => text.lines().rev().find_map(message),
            Err(_) => None,
        }
        .unwrap_or_else(|| format!("{} said nothing of why it failed", self.words[0]))
    }
}

/// The terminal that the runtime has made goes to whoever asked for it.
fn hand_on(listener: &UnixListener, socket: OwnedFd) -> io::Result<()> {
    // It has connected, sent and gone: nothing is waited for.
    listener.set_nonblocking(true)?;
    let (stream, _) = listener.accept()?;
    let (mut name, mut fds) = ([0; 256], Vec::new());
    sys::socket::recv_fds(&stream, &mut name, &mut fds)?;
    let master = fds.first().ok_or_else(|| io::Error::other("the runtime sent no terminal"))?;
    sys::socket::send_fds(&socket, b"t", &[master.as_fd()]).map(drop)
}

/// In a forked child: has the container made, reports, and leaves somebody behind who has it started.
pub(crate) fn create(job: CreateJob, foreign: &Foreign) -> ! {
    let CreateJob { id, stdio, bind_sources, gate, report, .. } = job;
    let made = prepare(foreign, bind_sources).and_then(|()| {
        let mut command = foreign.call("create");
        command.arg("--bundle").arg(&foreign.dir);
        foreign.make(command, stdio, &foreign.dir.join("pid"), &id)
    });
    let pid = match made {
        Ok(pid) => pid,
        Err(error) => refuse(report, &error),
    };
    match spawn::fork() {
        Ok(Fork::Child) => {
            drop(report);
            spawn::keep_only([gate.as_fd()]);
            start(foreign, &id, gate)
        }
        Ok(Fork::Parent(_)) => {
            drop(gate);
            spawn::exit_now(i32::from(report.created(pid).is_err()))
        }
        Err(error) => refuse(report, &error),
    }
}

/// Waits until the container is to start, and has it started. Whether its program can be executed the runtime has found out
/// when it made the container; that it is executed now is told before: it may have ended when the runtime says so.
fn start(foreign: &Foreign, id: &str, gate: OwnedFd) -> ! {
    let mut byte = [0];
    let go = sys::process::read(&gate, &mut byte).is_ok_and(|n| n == 1);
    drop(gate);
    let started = go && foreign.call("start").arg(id).status().is_ok_and(|status| status.success());
    if !started {
        // Nobody asks for it any more, or it cannot be: what is there must not stay.
        drop(foreign.call("kill").args([OsStr::new(id), OsStr::new("KILL")]).status());
    }
    spawn::exit_now(0)
}

/// In a forked child: has a process added, reports, exits. It does not wait for its start.
pub(crate) fn exec(job: ExecJob, foreign: &Foreign) -> ! {
    let ExecJob { id, process, stdio, gate, report, .. } = job;
    let own = sys::process::id();
    let (spec, pid_file) =
        (foreign.dir.join(format!("exec.{own}.json")), foreign.dir.join(format!("exec.{own}.pid")));
    let made =
        std::env::set_current_dir(&foreign.dir).and_then(|()| fs::write(&spec, process)).and_then(|()| {
            let mut command = foreign.call("exec");
            command.arg("--detach").arg("--process").arg(&spec);
            foreign.make(command, stdio, &pid_file, &id)
        });
    for file in [&spec, &pid_file] {
        let _ = fs::remove_file(file);
    }
    drop(gate);
    match made {
        Ok(pid) => spawn::exit_now(i32::from(report.created(pid).is_err())),
        Err(error) => refuse(report, &error),
    }
}

fn refuse(report: Report, error: &io::Error) -> ! {
    let text = error.to_string();
    let code = code_of(&text);
    let stage = if code == REFUSED { Stage::Create } else { Stage::Exec };
    // What it says before is what the engine says of every program that cannot be executed.
    let text = text.rsplit("error during container init: ").next().unwrap_or_default().to_owned();
    let failure = Failure { stage, errno: error.raw_os_error().unwrap_or(0), code, text };
    let _ = report.failed(failure);
    spawn::exit_now(1)
}

/// The exit code that stands for the reason: scripts tell by it whether a program is there.
fn code_of(text: &str) -> u8 {
    match text.to_ascii_lowercase() {
        text if text.contains("executable file") && text.contains("not found") => NOT_FOUND,
        text if text.contains("no such file or directory") && text.contains("exec") => NOT_FOUND,
        text if text.contains("permission denied") && text.contains("exec") => NOT_EXECUTABLE,
        _ => REFUSED,
    }
}

/// Mounts the sources that were opened for the container, and names them in the bundle.
fn prepare(foreign: &Foreign, sources: Vec<(usize, OwnedFd)>) -> io::Result<()> {
    std::env::set_current_dir(&foreign.dir)?;
    if sources.is_empty() {
        return Ok(());
    }
    let path = foreign.dir.join("config.json");
    let mut spec: Spec = serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)?;
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    let folder = foreign.dir.join("sources");
    fs::create_dir(&folder)?;
    for (index, source) in sources {
        let target = folder.join(index.to_string());
        let stat = sys::fsx::stat(&source)?;
        if sys::fsx::kind(&stat) == sys::fsx::FileType::Directory {
            fs::create_dir(&target)?;
        } else {
            File::create(&target)?;
        }
        sys::mount::attach(&source, File::open(&target)?)?;
        if let Some(mount) = mounts.get_mut(index) {
            mount.set_source(Some(target));
        }
    }
    spec.set_mounts(Some(mounts));
    fs::write(&path, serde_json::to_vec(&spec).map_err(io::Error::other)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_apart() {
        let runc = "unable to start container process: error during container init: exec: \"x\": executable file not found in $PATH";
        assert_eq!(code_of(runc), 127);
        assert_eq!(code_of("executable file `x` not found in $PATH: No such file or directory"), 127);
        assert_eq!(code_of("open executable: Permission denied"), 126);
        assert_eq!(code_of("mount /x: no such device"), 125);
    }

    #[test]
    fn a_bundle_without_the_file_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        assert!(Foreign::of(path).is_none());
        fs::write(directory.path().join(NAME), r#"["/usr/bin/crun","--debug"]"#).unwrap();
        let foreign = Foreign::of(path).unwrap();
        assert_eq!(foreign.words, ["/usr/bin/crun", "--debug"]);
        assert!(foreign.reason().contains("said nothing"));
        fs::write(
            directory.path().join(LOG),
            "{\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\"}\n",
        )
        .unwrap();
        assert_eq!(foreign.reason(), "last");
    }
}
