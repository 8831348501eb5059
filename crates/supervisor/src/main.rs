//! The small executable that Corten embeds and starts beside every container.
//!
//! `corten-supervisor shim` looks after a container; `corten-supervisor init -- argv…` is a container's `--init`;
//! `corten-supervisor runtime …` is the OCI runtime where it makes processes.

mod foreign;

use std::path::Path;
use std::process::ExitCode;

use oci::runtime::{Process, Spec};
use runtime::cgroup::Driver;
use runtime::{Create, Created, Error, Exec, Gate, Manner, Stdio};
use shim::creator::{CreateJob, Creator, ExecJob, Report};
use shim::wire::{Failure, Stage};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|word| word.to_str()) {
        Some("shim") => {
            let Some(control) = sys::process::inherited(sys::spawn::INHERITED) else {
                eprintln!("corten-supervisor: started without its socket");
                return ExitCode::FAILURE;
            };
            shim::main(Creator { create, exec }, control);
            ExitCode::SUCCESS
        }
        Some("runtime") => ExitCode::from(u8::try_from(runtime::command::main(arguments)).unwrap_or(1)),
        Some("init") => {
            let mut arguments = arguments.peekable();
            arguments.next_if(|argument| argument == "--");
            ExitCode::from(u8::try_from(runtime::init::main(arguments)).unwrap_or(1))
        }
        _ => {
            eprintln!("corten-supervisor: for use by corten only");
            ExitCode::FAILURE
        }
    }
}

/// In a forked child: makes the container, reports, exits.
fn create(job: CreateJob) -> ! {
    if let Some(other) = foreign::Foreign::of(&job.dir) {
        foreign::create(job, &other)
    }
    let CreateJob { id, dir, stdio, bind_sources, gate, report } = job;
    let dir = Path::new(&dir);
    let made = read::<Spec>(&dir.join("config.json")).and_then(|spec| {
        runtime::create(Create {
            id: &id,
            state_dir: dir,
            lock: None,
            bundle: dir,
            spec: &spec,
            stdio: stdio_of(stdio),
            bind_sources,
            gate: Gate::Socket(gate),
            cgroups: Driver::Files,
            manner: Manner::default(),
        })
    });
    end(made, report)
}

/// In a forked child: adds a process, reports, exits.
fn exec(job: ExecJob) -> ! {
    if let Some(other) = foreign::Foreign::of(&job.dir) {
        foreign::exec(job, &other)
    }
    let ExecJob { dir, process, stdio, gate, report, .. } = job;
    let made = parse::<Process>(Path::new("process"), &process).and_then(|process| {
        runtime::exec(Exec {
            state_dir: Path::new(&dir),
            process: &process,
            stdio: stdio_of(stdio),
            gate: Gate::Socket(gate),
            preserved: 0,
            ignore_paused: false,
            cgroups: &[],
        })
    });
    end(made, report)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Io { verb: "read", path: path.to_owned(), source })?;
    parse(path, &bytes)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.to_owned(), source })
}

fn stdio_of(stdio: shim::creator::Stdio) -> Stdio {
    match stdio {
        shim::creator::Stdio::Fds(fds) => Stdio::Fds(fds),
        shim::creator::Stdio::Console(socket) => Stdio::Console(socket),
    }
}

fn end(made: Result<Created, Error>, report: Report) -> ! {
    let told = match &made {
        Ok(created) => report.created(u32::try_from(created.pid).unwrap_or(0)),
        Err(error) => report.failed(failure(error)),
    };
    sys::spawn::exit_now(i32::from(told.is_err() || made.is_err()))
}

fn failure(error: &Error) -> Failure {
    let mut text = error.to_string();
    let mut errno = 0;
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        if let Some(number) = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            errno = number;
        }
        source = cause.source();
    }
    let (stage, code) = match error.exit_code() {
        code @ 126..=127 => (Stage::Exec, code),
        _ => (Stage::Create, 125),
    };
    Failure { stage, errno, code, text }
}
