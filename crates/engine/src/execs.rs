//! Commands in running containers.

pub(crate) mod table;

use std::sync::Arc;

use api::exec::{CreateRequest, CreateResponse, Inspect, ProcessConfig, StartRequest};
use shim::wire::{ExecSpec, Size, Stage, Streams, Target};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::blocking;
use crate::containers::Attachment;
use crate::containers::attachment::Leaving;
use crate::containers::record::Record;
use crate::containers::start;
use crate::containers::state::Phase;
use crate::context::Context;
use crate::names;
use crate::supervisor::{self, Shim};
use crate::{Error, Result};

use table::{Exec, State};

/// The exit code of a command that could not be executed, unless the supervisor says better.
const EXIT_CANNOT_EXECUTE: i32 = 126;
/// What the kernel takes as arguments and environment is bounded too; a frame to the supervisor is a megabyte.
const STRINGS_MAX_BYTES: usize = 512 * 1024;

/// The commands in running containers.
#[derive(Debug)]
pub struct Execs {
    context: Arc<Context>,
}

/// What came of a start.
#[derive(Debug)]
pub enum Started {
    /// It runs, and nobody is attached.
    Detached,
    /// It runs, and this is attached to it. What could not be executed says so on the stream, and `inspect` has the code.
    Attached(Attachment),
}

impl Execs {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Makes a command ready in the container of that name or id.
    pub async fn create(&self, container: &str, body: CreateRequest) -> Result<CreateResponse> {
        let handle = self.context.index.find(container)?;
        let record = handle.record();
        running(&record)?;
        check(&body)?;
        let exec = Arc::new(Exec::new(names::new_id()?, record.id.clone(), body));
        self.context.execs.add(Arc::clone(&exec))?;
        self.tell(&record, "exec_create", &exec);
        Ok(CreateResponse { id: exec.id.clone() })
    }

    /// Starts it.
    pub async fn start(&self, id: &str, body: StartRequest) -> Result<Started> {
        let exec = self.context.execs.find(id)?;
        let handle = self.context.index.find(&exec.container)?;
        let record = handle.record();
        running(&record)?;
        let shim = handle.shim().ok_or_else(|| not_running(&record))?;
        exec.begin()?;
        // From here on it has been run, whatever comes; a client that goes away does not stop it.
        let context = Arc::clone(&self.context);
        let started = self.context.tasks.spawn(async move {
            let result = launch(&context, &record, &shim, &exec, &body).await;
            if let Err((code, _)) = &result {
                exec.ended(*code);
            }
            (result, exec, body)
        });
        let (result, exec, body) =
            started.await.map_err(|e| Error::system("a bug: exec start panicked").with_source(e))?;
        match result {
            Ok(None) => Ok(Started::Detached),
            Ok(Some(stream)) => {
                let leaving = Leaving {
                    context: Arc::clone(&self.context),
                    record: handle.record(),
                    action: format!("exec_detach: {}", exec.command()),
                    more: table::attributes(&exec, None),
                };
                let attachment = Attachment::of_stream(exec.request.tty, stream).leaving(leaving);
                Ok(Started::Attached(attachment))
            }
            Err((_, error)) if body.detach => Err(error),
            Err((_, error)) => {
                let stream = told(&error, exec.request.tty).await?;
                Ok(Started::Attached(Attachment::of_stream(exec.request.tty, stream)))
            }
        }
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, id: &str, height: u32, width: u32) -> Result<()> {
        let exec = self.context.execs.find(id)?;
        let handle = self.context.index.find(&exec.container)?;
        if !matches!(exec.state(), State::Running { .. } | State::Starting) {
            return Err(Error::conflict(format!("exec {} is not running", exec.id)));
        }
        let shim = handle.shim().ok_or_else(|| not_running(&handle.record()))?;
        shim.exec_resize(&exec.id, size(height, width)?).await.map_err(Error::supervisor)
    }

    /// All about it.
    pub async fn inspect(&self, id: &str) -> Result<Inspect> {
        let exec = self.context.execs.find(id)?;
        if matches!(exec.state(), State::Running { .. }) {
            self.catch_up(&exec).await;
        }
        let request = &exec.request;
        let words = request.cmd.clone().unwrap_or_default();
        let (running, pid, exit_code) = match exec.state() {
            State::Created => (false, 0, None),
            State::Starting => (true, 0, None),
            State::Running { pid } => (true, i64::from(pid), None),
            State::Ended { code } => (false, 0, Some(i64::from(code))),
        };
        Ok(Inspect {
            id: exec.id.clone(),
            running,
            exit_code,
            process_config: ProcessConfig {
                tty: request.tty,
                entrypoint: words.first().cloned().unwrap_or_default(),
                arguments: words.into_iter().skip(1).collect(),
                privileged: Some(request.privileged),
                user: request.user.clone(),
            },
            open_stdin: request.attach_stdin,
            open_stderr: request.attach_stderr,
            open_stdout: request.attach_stdout,
            can_remove: exit_code.is_some(),
            container_id: exec.container.clone(),
            detach_keys: if request.detach_keys.is_empty() {
                Vec::new()
            } else {
                api::detach::parse(&request.detach_keys).unwrap_or_default()
            },
            pid,
        })
    }

    /// A client that has seen the end of the stream asks for the exit code at once: the supervisor has it, even where its
    /// message has not come through to the table yet.
    async fn catch_up(&self, exec: &Arc<Exec>) {
        let Ok(handle) = self.context.index.find(&exec.container) else { return };
        let Some(shim) = handle.shim() else { return };
        let Ok(status) = shim.status().await else { return };
        let ended = status.execs.iter().find(|e| e.id == exec.id).and_then(|e| e.exit);
        if let Some(exit) = ended
            && let Some(exec) = self.context.execs.exited(&exec.id, exit.code)
        {
            self.context.tell_exec_end(&handle.record(), &exec, exit.code);
        }
    }

    fn tell(&self, record: &Record, action: &str, exec: &Exec) {
        tell(&self.context, record, action, exec);
    }
}

fn tell(context: &Context, record: &Record, action: &str, exec: &Exec) {
    let action = format!("{action}: {}", exec.command());
    context.tell(record, &action, table::attributes(exec, None));
}

/// The size of a terminal, as the supervisor takes it.
pub(crate) fn size(height: u32, width: u32) -> Result<Size> {
    match (u16::try_from(height), u16::try_from(width)) {
        (Ok(rows), Ok(columns)) => Ok(Size { rows, columns }),
        _ => Err(Error::invalid(format!("invalid size of a terminal: {height} by {width}"))),
    }
}

fn not_running(record: &Record) -> Error {
    Error::conflict(format!("container {} is not running", record.id))
}

fn running(record: &Record) -> Result<()> {
    let id = &record.id;
    match record.life.phase {
        Phase::Running { .. } => Ok(()),
        Phase::Paused { .. } => {
            Err(Error::conflict(format!("container {id} is paused, unpause the container before exec")))
        }
        Phase::Restarting => {
            Err(Error::conflict(format!("container {id} is restarting, wait until the container is running")))
        }
        _ => Err(not_running(record)),
    }
}

fn check(body: &CreateRequest) -> Result<()> {
    let words = body.cmd.as_deref().unwrap_or_default();
    if words.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    let strings = || words.iter().chain(&body.env).chain([&body.user, &body.working_dir]);
    if strings().any(|s| s.contains('\0')) {
        return Err(Error::invalid("invalid exec: a string contains a NUL byte"));
    }
    if strings().map(String::len).sum::<usize>() > STRINGS_MAX_BYTES {
        return Err(Error::invalid("invalid exec: arguments and environment are too large"));
    }
    if !body.working_dir.is_empty() && !body.working_dir.starts_with('/') {
        return Err(Error::invalid("Cwd must be an absolute path"));
    }
    if let Some(wrong) = body.env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return Err(Error::invalid(format!("invalid environment variable: {wrong}")));
    }
    api::detach::parse(&body.detach_keys).map_err(|e| Error::invalid(e.to_string()))?;
    Ok(())
}

/// Makes the command known to the supervisor, attaches, starts. The exit code stands beside an error.
async fn launch(
    context: &Arc<Context>,
    record: &Arc<Record>,
    shim: &Shim,
    exec: &Exec,
    body: &StartRequest,
) -> std::result::Result<Option<UnixStream>, (i32, Error)> {
    let fail = |error: Error| (EXIT_CANNOT_EXECUTE, error);
    let request = &exec.request;
    let (shared, owned, asked) = (Arc::clone(context), Arc::clone(record), request.clone());
    let process = blocking::run("prepare a command", move || start::exec_process(&shared, &owned, &asked))
        .await
        .map_err(fail)?;
    let console = body.console_size.or(request.console_size);
    let size = match console {
        Some([height, width]) if request.tty && height > 0 && width > 0 => {
            Some(size(height, width).map_err(fail)?)
        }
        _ => None,
    };
    let spec = ExecSpec { id: exec.id.clone(), tty: request.tty, stdin: request.attach_stdin, size, process };
    shim.exec_create(spec).await.map_err(|e| fail(Error::supervisor(e)))?;
    let stream = if body.detach {
        None
    } else {
        let streams = Streams {
            stdin: request.attach_stdin,
            stdout: request.attach_stdout,
            stderr: request.attach_stderr && !request.tty,
        };
        let target = Target::Exec(exec.id.clone());
        Some(shim.attach(target, streams).await.map_err(|e| fail(Error::supervisor(e)))?)
    };
    tell(context, record, "exec_start", exec);
    match shim.exec_start(&exec.id).await {
        Ok(pid) => {
            exec.runs(i32::try_from(pid).unwrap_or_default());
            Ok(stream)
        }
        Err(error) => {
            // Forgotten there too; that it is not known is as good.
            let _ = shim.exec_remove(&exec.id).await;
            let (code, error) = refused(error);
            // Unless the container's end has told it.
            if exec.ended(code) {
                context.tell(record, "exec_die", table::attributes(exec, Some(code)));
            }
            Err((code, error))
        }
    }
}

/// Why a command could not be started, in the words that scripts match on.
fn refused(error: supervisor::Error) -> (i32, Error) {
    let text = |inner: &str| {
        format!("OCI runtime exec failed: exec failed: unable to start container process: {inner}: unknown")
    };
    match error {
        supervisor::Error::Failed(failure) if failure.stage == Stage::Exec => {
            (i32::from(failure.code), Error::invalid(text(&failure.text)))
        }
        supervisor::Error::Failed(failure) if failure.stage == Stage::Create => {
            (EXIT_CANNOT_EXECUTE, Error::invalid(text(&failure.text)))
        }
        other => (EXIT_CANNOT_EXECUTE, Error::supervisor(other)),
    }
}

/// A stream that says what went wrong, and ends: that is where Docker's clients look for it.
async fn told(error: &Error, tty: bool) -> Result<UnixStream> {
    let broken = |e| Error::system("cannot make a pair of sockets").with_source(e);
    let (ours, mut theirs) = UnixStream::pair().map_err(broken)?;
    let text = format!("{}\r\n", error.chain());
    let mut bytes = Vec::new();
    if tty {
        bytes.extend_from_slice(text.as_bytes());
    } else {
        api::stream::frame(&mut bytes, api::stream::Stream::Stdout, text.as_bytes());
    }
    theirs.write_all(&bytes).await.map_err(broken)?;
    Ok(ours)
}
