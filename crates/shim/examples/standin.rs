//! A supervisor whose creator only forks and executes: the shim's tests run it, so that they need no container runtime.
//! `config.json` and an exec's `process` are here an argument vector, one argument a line.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use shim::creator::{CreateJob, Creator, ExecJob, Report, Stdio};
use shim::wire::{Failure, Stage};
use sys::spawn::{Fork, exit_now, fork};

fn main() {
    let control = sys::process::inherited(sys::spawn::INHERITED).expect("control socket");
    shim::main(Creator { create, exec }, control);
}

fn create(job: CreateJob) -> ! {
    let config = std::fs::read_to_string(format!("{}/config.json", job.dir));
    for (index, fd) in &job.bind_sources {
        println!("{index} {fd:?}");
    }
    make(config, job.stdio, job.gate, job.report)
}

fn exec(job: ExecJob) -> ! {
    let config = String::from_utf8(job.process).map_err(io::Error::other);
    make(config, job.stdio, job.gate, job.report)
}

fn make(config: io::Result<String>, stdio: Stdio, gate: OwnedFd, report: Report) -> ! {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let failure = Failure { stage: Stage::Create, errno, code: 125, text: error.to_string() };
            report.failed(failure).expect("report");
            exit_now(1)
        }
    };
    if config.starts_with("crash") {
        exit_now(3);
    }
    match fork().expect("fork") {
        Fork::Parent(pid) => {
            report.created(pid.as_raw_nonzero().get().unsigned_abs()).expect("report");
            exit_now(0)
        }
        Fork::Child => init(&config, stdio, &gate),
    }
}

fn init(config: &str, stdio: Stdio, gate: &OwnedFd) -> ! {
    rustix::process::setsid().expect("session");
    match stdio {
        Stdio::Fds([stdin, stdout, stderr]) => become_stdio(&stdin, &stdout, &stderr),
        Stdio::Console(socket) => {
            let master = sys::pty::open_master().expect("master");
            let slave = sys::pty::open_slave(&master).expect("slave");
            sys::socket::send_fds(&socket, b"m", &[master.as_fd()]).expect("send");
            rustix::process::ioctl_tiocsctty(&slave).expect("terminal");
            become_stdio(&slave, &slave, &slave);
        }
    }
    let mut go = [0_u8];
    if rustix::io::read(gate, &mut go) != Ok(1) {
        exit_now(1);
    }
    let mut words = config.lines();
    let program = words.next().unwrap_or_default();
    let error = Command::new(program).args(words).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    let mut message = vec![b'E', code];
    message.extend_from_slice(error.to_string().as_bytes());
    sys::socket::send(gate, &message).expect("tell");
    exit_now(i32::from(code))
}

fn become_stdio(stdin: &OwnedFd, stdout: &OwnedFd, stderr: &OwnedFd) {
    rustix::stdio::dup2_stdin(stdin).expect("stdin");
    rustix::stdio::dup2_stdout(stdout).expect("stdout");
    rustix::stdio::dup2_stderr(stderr).expect("stderr");
}
