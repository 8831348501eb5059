//! The host's criu: found, asked whether it works here, started as a worker, and talked to.

use std::convert::Infallible;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sys::mount::{self, Change, Propagation};
use sys::process::{self, Child, Clone, Cloned};
use sys::{namespace, signal, socket};

use super::protocol::{self, Answer, Writer};
use crate::cgroup::Entry;
use crate::error::{Context as _, Error};
use crate::wire::{self, Message};

/// Where it is looked for, and where it looks for the programs it uses itself (`tar`, `ip`): fixed, as the environment may be anybody's.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const LOCAL: [&str; 2] = ["/usr/local/sbin", "/usr/local/bin"];

/// The longest answer: a reason with a path or two in it.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How much of the end of a log is searched for the last error.
const LOG_TAIL_BYTES: u64 = 64 << 10;

/// criu's own name for the most talkative log, which its errors need to be understood.
const LOG_LEVEL: u64 = 4;

/// Fields of `criu_opts` that both directions have.
const IMAGES_DIR_FD: u32 = 1;
const LOG_LEVEL_FIELD: u32 = 9;
const LOG_FILE: u32 = 10;
const NOTIFY_SCRIPTS: u32 = 12;
const WORK_DIR_FD: u32 = 17;

/// Its program, if it is installed.
pub(crate) fn find() -> Option<PathBuf> {
    LOCAL.iter().chain(&DIRECTORIES).map(|d| Path::new(d).join("criu")).find(|path| path.exists())
}

fn path_variable() -> String {
    DIRECTORIES.join(":")
}

/// Its program, if it says that it works on this kernel; `verb` is what is wanted of it.
pub(super) fn working(verb: &str) -> Result<PathBuf, Error> {
    let refused = |why: &str| Error::Invalid(format!("{verb} is not supported on this host: {why}"));
    let program = find().ok_or_else(|| refused("criu is not installed (package criu)"))?;
    let output = Command::new(&program)
        .arg("check")
        .env_clear()
        .env("PATH", path_variable())
        .output()
        .on("execute", &program)?;
    if output.status.success() {
        return Ok(program);
    }
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let why = first_error(&said).unwrap_or_else(|| output.status.to_string());
    Err(refused(&format!("criu check: {why}")))
}

/// The first error in what criu has logged, without time and place: those that come after it are what it has led to.
fn first_error(log: &str) -> Option<String> {
    // What it finds out about the programs and the kernel of this host is no failure.
    let noise = |line: &str| line.contains("exited, status=");
    let line = log.lines().find(|line| line.contains("Error") && !noise(line))?;
    let text = line.split_once("Error").map_or(line, |(_, rest)| rest).trim();
    // "(criu/files-reg.c:1629): Can't …"
    let text = match text.strip_prefix('(').and_then(|rest| rest.split_once("): ")) {
        Some((_, rest)) => rest,
        None => text.trim_start_matches(':').trim(),
    };
    (!text.is_empty()).then(|| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// Where images are and where the log is written.
#[derive(Debug)]
pub(super) struct Places<'a> {
    images: OwnedFd,
    work: OwnedFd,
    work_path: &'a Path,
    log: &'static str,
}

impl<'a> Places<'a> {
    /// Opens both directories.
    pub(super) fn open(images: &Path, work: &'a Path, log: &'static str) -> Result<Self, Error> {
        Ok(Self {
            images: sys::fsx::open_dir(images).on("open", images)?,
            work: sys::fsx::open_dir(work).on("open", work)?,
            work_path: work,
            log,
        })
    }

    /// The options about them.
    pub(super) fn options(&self) -> Writer {
        let mut options = Writer::default();
        // Descriptors are never negative.
        options.integer(IMAGES_DIR_FD, self.images.as_raw_fd() as u64);
        options.integer(WORK_DIR_FD, self.work.as_raw_fd() as u64);
        options.integer(LOG_LEVEL_FIELD, LOG_LEVEL);
        options.text(LOG_FILE, self.log);
        options.truth(NOTIFY_SCRIPTS, true);
        options
    }

    /// Why criu failed, by the end of its log or by what it has answered.
    fn failure(&self, verb: &str, answer: Option<&Answer>) -> Error {
        let path = self.work_path.join(self.log);
        let logged = tail(&path).and_then(|log| first_error(&log));
        let said = answer.and_then(|answer| answer.reason.clone()).filter(|reason| !reason.is_empty());
        let why = logged.or(said).unwrap_or_else(|| "criu does not say why".into());
        Error::Setup { text: format!("cannot {verb} container: criu: {why} (log: {})", path.display()) }
    }
}

fn tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// How the worker is started.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// The group in which it is, and all that it restores.
    pub(super) group: Option<Entry>,
    /// Descriptors that it is told about, by their numbers; they outlive the request.
    pub(super) descriptors: Vec<i32>,
}

/// A mount namespace of the worker's own, in which this process is meanwhile: the directories that the worker is told of must be opened in
/// it, as it looks them up by our descriptors and mounts in them. It goes with the worker.
#[derive(Debug)]
pub(super) struct Apart {
    namespace: File,
    directory: OwnedFd,
}

impl Apart {
    /// Enters one in which `tree` is mounted at `place`. The caller must have one thread.
    pub(super) fn enter(tree: &OwnedFd, place: &Path) -> Result<Self, Error> {
        const OWN: &str = "/proc/self/ns/mnt";
        let namespace = File::open(OWN).on("open", OWN)?;
        let apart =
            Self { namespace, directory: sys::fsx::open_dir(".").on("open", "the working directory")? };
        namespace::unshare(namespace::MOUNT).on("unshare", "the mount namespace")?;
        match Self::mount(tree, place) {
            Ok(()) => Ok(apart),
            Err(error) => apart.leave().and(Err(error)),
        }
    }

    fn mount(tree: &OwnedFd, place: &Path) -> Result<(), Error> {
        // Nothing mounted from here on is seen by the host.
        let slave = Change { propagation: Some(Propagation::Slave), ..Change::default() };
        mount::change_everything(slave).on("set the propagation of", "/")?;
        let target = sys::fsx::open_dir(place).on("open", place)?;
        mount::attach(tree, target).on("mount", place)
    }

    /// Returns to where this process came from.
    pub(super) fn leave(self) -> Result<(), Error> {
        namespace::join(&self.namespace, namespace::MOUNT).on("return to", "the mount namespace")?;
        process::change_dir_fd(&self.directory).on("return to", "the working directory")
    }
}

/// A worker that waits for a request.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    verb: &'static str,
    places: &'a Places<'a>,
    socket: OwnedFd,
    child: Child,
}

impl<'a> Worker<'a> {
    /// Starts it. The caller must have one thread.
    pub(super) fn start(
        verb: &'static str,
        program: &Path,
        places: &'a Places<'a>,
        mut start: Start,
    ) -> Result<Self, Error> {
        let (socket, theirs) = socket::packet_pair().on("create", "a socket")?;
        let (report, reporting) = socket::packet_pair().on("create", "a socket")?;
        start.descriptors.extend([&places.images, &places.work, &theirs].map(OwnedFd::as_raw_fd));
        let flags = process::CLONE_CLEAR_SIGHAND;
        let cloned = match &mut start.group {
            Some(entry) => entry.clone(flags),
            None => process::clone(Clone { flags, cgroup: None }),
        };
        match cloned.on("clone", "a process for criu")? {
            Cloned::Child => {
                let Err(error) = become_worker(program, &start, &theirs, &reporting);
                wire::send_failure(&reporting, &error);
                process::exit(1)
            }
            Cloned::Parent(child) => {
                drop((theirs, reporting));
                let worker = Self { verb, places, socket, child };
                match wire::receive(&report)? {
                    Message::End => Ok(worker),
                    Message::Failure { code, text } => {
                        worker.end()?;
                        Err(wire::failure(code, text))
                    }
                    other => {
                        worker.end()?;
                        Err(Error::Setup { text: format!("the process for criu sent {other:?}") })
                    }
                }
            }
        }
    }

    /// Makes a request, and answers notices until it is done. A notice that is answered by an error ends it.
    pub(super) fn request(
        self,
        kind: u64,
        options: &Writer,
        mut on_notice: impl FnMut(&str, i32, Vec<OwnedFd>) -> Result<(), Error>,
    ) -> Result<Answer, Error> {
        let sent = socket::send(&self.socket, &protocol::request(kind, options));
        sent.on("send to", "criu")?;
        let mut refused = None;
        let answer = loop {
            let Some((answer, descriptors)) = self.receive() else { break None };
            let Some((script, pid)) = answer.notice.as_ref().filter(|_| answer.kind == protocol::NOTIFY)
            else {
                break Some(answer);
            };
            let heard = on_notice(script, *pid, descriptors);
            let reply = protocol::notified(heard.is_ok());
            refused = refused.or(heard.err());
            if socket::send(&self.socket, &reply).is_err() {
                break None;
            }
        };
        let (verb, places) = (self.verb, self.places);
        self.end()?;
        match (refused, answer) {
            (Some(error), _) => Err(error),
            (None, Some(answer)) if answer.success => Ok(answer),
            (None, answer) => Err(places.failure(verb, answer.as_ref())),
        }
    }

    /// The next message; `None` if it has ended, or sends what is no message.
    fn receive(&self) -> Option<(Answer, Vec<OwnedFd>)> {
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let mut descriptors = Vec::new();
        let length = socket::recv_fds(&self.socket, &mut buffer, &mut descriptors).ok()?;
        let message = buffer.get(..length).filter(|message| !message.is_empty())?;
        Some((Answer::parse(message)?, descriptors))
    }

    /// Closes the conversation, upon which it ends.
    fn end(self) -> Result<(), Error> {
        drop(self.socket);
        process::wait(&self.child.pidfd).on("wait for", "criu").map(drop)
    }
}

fn become_worker(
    program: &Path,
    start: &Start,
    theirs: &OwnedFd,
    reporting: &OwnedFd,
) -> Result<Infallible, Error> {
    const NULL: &str = "/dev/null";
    signal::reset();
    if let Some(group) = &start.group {
        group.join(reporting)?;
    }
    let null = OwnedFd::from(File::options().read(true).write(true).open(NULL).on("open", NULL)?);
    for number in 0..3 {
        process::become_stdio(&null, number).on("use", NULL)?;
    }
    process::close_on_exec_from(3).on("mark", "descriptors")?;
    for number in &start.descriptors {
        process::keep_on_exec(*number, *number).on("keep", "a descriptor")?;
    }
    let number = theirs.as_raw_fd().to_string();
    let error = Command::new(program).args(["swrk", &number]).env_clear().env("PATH", path_variable()).exec();
    Err(error).on("execute", program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_said_without_time_and_place() {
        let log = "(00.01) Warn  (criu/x.c:1): y\n(00.01) Error (criu/util.c:642): exited, status=1\n\
                   (00.02) Error (criu/files-reg.c:1629): Can't open \u{1b}[1mx\n\
                   (00.03) Error (criu/cr-dump.c:2053): Dumping FAILED.\n";
        assert_eq!(first_error(log).as_deref(), Some("Can't open  [1mx"));
        assert_eq!(first_error("Error: no tracefs\n").as_deref(), Some("no tracefs"));
        assert_eq!(first_error("all is well\n"), None);
    }
}
