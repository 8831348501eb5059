//! The steps.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::{Value, json};
use sys::signal::SignalFd;
use sys::{process, trial};

use crate::world;

const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;

/// Runs the steps in their order.
pub fn run(steps: &[Vec<Value>]) -> ExitCode {
    let mut results: Vec<Value> = Vec::new();
    for step in steps {
        let Some((name, operands)) = step.split_first() else { continue };
        let operands = Operands(operands);
        match name.as_str().unwrap_or_default() {
            "exit" => {
                print(&results);
                return ExitCode::from(operands.number(0) as u8);
            }
            "hold" => {
                print(&results);
                return hold();
            }
            name => results.push(perform(name, &operands)),
        }
    }
    print(&results);
    ExitCode::SUCCESS
}

fn print(results: &[Value]) {
    let line = Value::from(results).to_string() + "\n";
    // Whoever closed our output does not want it.
    let _ = io::stdout().write_all(line.as_bytes());
}

/// Writes every signal that comes; the one to terminate ends it. Children are reaped.
fn hold() -> ExitCode {
    const LIBRARY: [i32; 2] = [32, 33];
    let all: Vec<i32> = (1..=sys::signal::MAX).filter(|s| !LIBRARY.contains(s)).collect();
    let Ok(signals) = SignalFd::block(&all) else { return ExitCode::from(3) };
    println!("{}", json!({"holds": std::process::id()}));
    loop {
        let _ = process::wait_ended(&signals, -1);
        while let Ok(Some(number)) = signals.next() {
            if number == SIGCHLD {
                while let Ok(Some(_)) = process::wait_any(false) {}
                continue;
            }
            println!("{}", json!({"signal": number}));
            if number == SIGTERM {
                return ExitCode::from(SIGTERM as u8);
            }
        }
    }
}

/// What a step is about.
struct Operands<'a>(&'a [Value]);

impl<'a> Operands<'a> {
    fn text(&self, at: usize) -> &'a str {
        self.0.get(at).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, at: usize) -> u64 {
        let value = self.0.get(at);
        value.and_then(|v| v.as_u64().or_else(|| v.as_i64().map(|n| n as u64))).unwrap_or(0)
    }

    fn path(&self) -> &'a Path {
        Path::new(self.text(0))
    }
}

fn perform(name: &str, operands: &Operands<'_>) -> Value {
    let result = match name {
        "world" => return world::report(),
        "call" => call(operands).map(Value::from),
        "call-x32" => trial::call_x32(operands.text(0)).map(Value::from),
        "getpid-32" => trial::getpid_32().map(Value::from),
        "in-a-thread" => in_a_thread(operands.text(0).to_owned()),
        "open" => open(operands).map(|_| Value::Null),
        "read" => fs::read(operands.path()).map(|bytes| String::from_utf8_lossy(&bytes).into()),
        "read-fd" => read_descriptor(operands.number(0)),
        "stdin" => io::read_to_string(io::stdin()).map(Value::from),
        "write" => write(operands).map(|()| Value::Null),
        "mkdir" => fs::create_dir(operands.path()).map(|()| Value::Null),
        "unlink" => fs::remove_file(operands.path()).map(|()| Value::Null),
        "mknod" => make_node(operands).map(|()| Value::Null),
        "chown" => {
            let (uid, gid) = (operands.number(1) as u32, operands.number(2) as u32);
            std::os::unix::fs::lchown(operands.path(), Some(uid), Some(gid)).map(|()| Value::Null)
        }
        "stat" => stat(operands.path()),
        "list" => list(operands.path()),
        "execute" => execute(operands),
        "spawn" => spawn(operands),
        "memory" => Ok(touch(operands.number(0))),
        "signal" => {
            let number = operands.number(0) as i32;
            process::kill(process::id(), number).map(|()| Value::Null)
        }
        "resize" => {
            let (rows, columns) = (operands.number(0) as u16, operands.number(1) as u16);
            sys::pty::set_size(io::stdin().as_fd(), rows, columns).map(|()| Value::Null)
        }
        "hook" => hook(operands.path()).map(|()| Value::Null),
        "mark" => mark(operands.path(), operands.text(1)).map(|()| Value::Null),
        // At once, and not with the results: for somebody who waits for it.
        "say" => writeln!(io::stdout(), "{}", operands.text(0)).map(|()| Value::Null),
        "sleep" => {
            std::thread::sleep(std::time::Duration::from_millis(operands.number(0)));
            Ok(Value::Null)
        }
        other => Err(io::Error::other(format!("unknown step {other:?}"))),
    };
    result.map_or_else(|error| world::failure(&error), |value| json!({"ok": value}))
}

fn call(operands: &Operands<'_>) -> io::Result<i64> {
    let mut arguments = [0; 6];
    for (at, argument) in arguments.iter_mut().enumerate() {
        *argument = operands.number(at + 1);
    }
    trial::call(operands.text(0), arguments)
}

/// Makes a call in a second thread, and says whether that came back.
fn in_a_thread(name: String) -> io::Result<Value> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = trial::call(&name, [0; 6]);
        let _ = sender.send(());
    });
    loop {
        if receiver.try_recv().is_ok() {
            return Ok("returned".into());
        }
        // A thread that the kernel has ended does not drop its sender.
        if fs::read_dir("/proc/self/task")?.count() == 1 {
            return Ok(if receiver.try_recv().is_ok() { "returned".into() } else { "ended".into() });
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn open(operands: &Operands<'_>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match operands.text(1) {
        "w" => options.write(true),
        "rw" => options.read(true).write(true),
        "create" => options.write(true).create_new(true),
        _ => options.read(true),
    };
    // A terminal must not become ours, and a pipe without a writer not hold us up.
    options.custom_flags((rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::NONBLOCK).bits() as i32);
    options.open(operands.path())
}

fn read_descriptor(number: u64) -> io::Result<Value> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    let descriptor = process::inherited(number).ok_or_else(|| io::Error::from_raw_os_error(9))?;
    let mut text = String::new();
    File::from(descriptor).read_to_string(&mut text)?;
    Ok(text.into())
}

fn write(operands: &Operands<'_>) -> io::Result<()> {
    // Not created where it is not there: what is tried is whether it can be written.
    let mut file = OpenOptions::new().write(true).truncate(true).open(operands.path())?;
    file.write_all(operands.text(1).as_bytes())
}

fn make_node(operands: &Operands<'_>) -> io::Result<()> {
    let (kind, major, minor) = (operands.text(1), operands.number(2) as u32, operands.number(3) as u32);
    let kind = match kind {
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let device = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(CWD, operands.path(), kind, Mode::from_raw_mode(0o600), device)?)
}

fn stat(path: &Path) -> io::Result<Value> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let kind = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "link",
        () if kind.is_char_device() => "c",
        () if kind.is_block_device() => "b",
        () if kind.is_fifo() => "p",
        () if kind.is_socket() => "socket",
        () => "file",
    };
    let target = fs::read_link(path).ok().map(|target| target.to_string_lossy().into_owned());
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let mode = found.mode() & 0o7777;
    Ok(json!({
        "kind": kind, "mode": mode, "uid": found.uid(), "gid": found.gid(), "size": found.size(), "major": major, "minor": minor,
        "target": target,
    }))
}

fn list(path: &Path) -> io::Result<Value> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.into())
}

/// Executes another program with the rest of the operands as its arguments, and waits.
fn execute(operands: &Operands<'_>) -> io::Result<Value> {
    let arguments = operands.0.iter().skip(1).map(|a| a.as_str().unwrap_or_default());
    let output = Command::new(operands.path()).args(arguments).stdin(Stdio::null()).output()?;
    Ok(json!({
        "code": output.status.code(),
        "stdout": String::from_utf8_lossy(&output.stdout),
        "stderr": String::from_utf8_lossy(&output.stderr),
    }))
}

/// Starts this program once more, with steps of its own.
fn spawn(operands: &Operands<'_>) -> io::Result<Value> {
    let steps = operands.0.first().cloned().unwrap_or_default();
    let child = Command::new("/proc/self/exe")
        .arg(steps.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    Ok(child.id().into())
}

/// Uses memory, page by page.
fn touch(bytes: u64) -> Value {
    const PAGE: usize = 4096;
    let mut memory = vec![0_u8; usize::try_from(bytes).unwrap_or(usize::MAX)];
    for at in (0..memory.len()).step_by(PAGE) {
        memory[at] = 1;
    }
    std::hint::black_box(&memory);
    memory.len().into()
}

/// What a hook is given, as a line in a file.
fn hook(path: &Path) -> io::Result<()> {
    let state = io::read_to_string(io::stdin())?;
    let line = json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "cwd": std::env::current_dir()?.to_string_lossy(),
        "state": serde_json::from_str::<Value>(&state).unwrap_or_else(|_| state.into()),
        "ns": world::namespaces("self"),
        "mounts": world::mounts(),
    });
    append(path, &line.to_string())
}

/// A line in a file that others write to as well.
fn mark(path: &Path, text: &str) -> io::Result<()> {
    append(path, text)
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}
