//! Starting shims and talking to them: the stand-in of this crate, or, in the supervisor's own tests, the real one.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use shim::launch::{Launch, Log, Overlay, Rootfs};
use shim::wire::{ExecSpec, Exit, Frame, HELLO, Hello, Kind, Message, Status, Streams, Target};

/// Whether this machine lets us: a mount namespace needs root.
pub fn able() -> bool {
    let able = rustix::process::geteuid().is_root();
    if !able {
        println!("skipped: not root");
    }
    able
}

/// The real supervisor, when these tests are built as that crate's.
pub const REAL: Option<&str> = option_env!("CARGO_BIN_EXE_corten-supervisor");

/// The supervisor, built beside the tests.
fn executable() -> CString {
    if let Some(real) = REAL {
        // A build with the supervisor's own profile, to measure that.
        let other = std::env::var("CORTEN_SUPERVISOR").ok();
        return CString::new(other.unwrap_or_else(|| real.to_owned())).expect("path");
    }
    let tests = std::env::current_exe().expect("own path");
    let profile = tests.ancestors().nth(2).expect("target directory");
    CString::new(profile.join("examples/standin").as_os_str().as_bytes()).expect("path")
}

/// A shim and the directory of its container.
pub struct Host {
    pub dir: tempfile::TempDir,
    pub control: Control,
    pub pid: rustix::process::Pid,
    pub id: String,
    /// Its number may be another's by now.
    reaped: bool,
}

/// A control connection.
pub struct Control {
    stream: UnixStream,
    next: u32,
    events: Vec<Message>,
}

impl Host {
    /// Starts a shim for a program; `change` may alter the launch.
    pub fn launch(argv: &[&str], change: impl FnOnce(&mut Launch)) -> (Self, Message) {
        Self::launch_with(argv, &[], change)
    }

    /// As [`Host::launch`], with descriptors.
    pub fn launch_with(argv: &[&str], fds: &[OwnedFd], change: impl FnOnce(&mut Launch)) -> (Self, Message) {
        let dir = tempfile::tempdir().expect("tempdir");
        let name = dir.path().file_name().and_then(|name| name.to_str()).expect("name");
        let id = format!("test-{}", name.trim_start_matches('.'));
        let mut launch = Launch {
            id: id.clone(),
            rootfs: rootfs(),
            dir: dir.path().to_str().expect("utf8").to_owned(),
            start_now: true,
            log: Some(Log {
                path: dir.path().join("json.log").to_str().expect("utf8").to_owned(),
                max_size: 0,
                max_files: 1,
                attrs: Vec::new(),
                buffer: 0,
                compress: false,
            }),
            ..Launch::default()
        };
        change(&mut launch);
        std::fs::write(dir.path().join("config.json"), config(argv, &id, launch.tty)).expect("config");
        let (ours, theirs) = sys::socket::stream_pair().expect("pair");
        let null = File::options().read(true).write(true).open("/dev/null").expect("null");
        let pid = sys::spawn::detached(&executable(), &[c"corten-supervisor", c"shim"], &null, &theirs)
            .expect("spawn");
        drop(theirs);
        let mut bytes = Hello::new(Kind::Control).encode().to_vec();
        Frame { id: 1, message: Message::Launch(Box::new(launch)) }.encode(&mut bytes).expect("encode");
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let sent = sys::socket::send_fds(&ours, &bytes, &borrowed).expect("send");
        assert_eq!(sent, bytes.len());
        let mut control = Control { stream: UnixStream::from(ours), next: 2, events: Vec::new() };
        control.hello();
        let answer = control.answer(1);
        (Self { dir, control, pid, id, reaped: false }, answer)
    }

    /// Starts a shim that must succeed.
    pub fn running(argv: &[&str], change: impl FnOnce(&mut Launch)) -> Self {
        let (host, answer) = Self::launch(argv, change);
        assert!(matches!(answer, Message::Started { .. } | Message::Ready { .. }), "{answer:?}");
        host
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("json.log")).expect("log")
    }

    /// A second control connection, as the next daemon makes one.
    pub fn connect(&self) -> Control {
        let mut control = Control { stream: connect(self.path()), next: 1, events: Vec::new() };
        control.stream.write_all(&Hello::new(Kind::Control).encode()).expect("hello");
        control.hello();
        control
    }

    /// Attaches.
    pub fn attach(&self, target: Target, streams: Streams) -> UnixStream {
        let (stream, answer) = self.try_attach(target, streams);
        assert_eq!(answer, Message::Ok);
        stream
    }

    /// Attaches, or not.
    pub fn try_attach(&self, target: Target, streams: Streams) -> (UnixStream, Message) {
        let mut stream = connect(self.path());
        let mut bytes = Hello::new(Kind::Attach).encode().to_vec();
        Frame { id: 9, message: Message::Attach { target, streams } }.encode(&mut bytes).expect("encode");
        stream.write_all(&bytes).expect("send");
        let mut hello = [0; HELLO];
        stream.read_exact(&mut hello).expect("hello");
        let frame = read_frame(&mut stream).expect("answer");
        assert_eq!(frame.id, 9);
        (stream, frame.message)
    }

    /// Waits for the container's end.
    pub fn exit(&mut self) -> Exit {
        self.control.event(|message| if let Message::Exited(exit) = message { Some(*exit) } else { None })
    }

    /// Waits for the shim's own end.
    pub fn gone(mut self) -> tempfile::TempDir {
        let mut rest = Vec::new();
        let _ = self.control.stream.read_to_end(&mut rest);
        rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty()).expect("wait");
        self.reaped = true;
        self.remove_cgroups();
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("tempdir"))
    }

    /// A number, in KiB, of the shim's `smaps_rollup`.
    pub fn memory(&self, key: &str) -> u64 {
        let path = PathBuf::from(format!("/proc/{}/smaps_rollup", self.pid.as_raw_nonzero()));
        let text = std::fs::read_to_string(path).expect("smaps");
        text.lines()
            .filter(|line| line.starts_with(key))
            .map(|line| line.split_ascii_whitespace().nth(1).expect("value").parse::<u64>().expect("number"))
            .sum()
    }

    /// A real container's cgroups are left to whoever deletes it: here the test.
    fn remove_cgroups(&self) {
        let root = Path::new("/sys/fs/cgroup");
        let controllers = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        for dir in controllers.chain([root.to_owned()]) {
            let _ = std::fs::remove_dir(dir.join(&self.id));
        }
    }

    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).expect("list").count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        let _ = self.control.send(Message::Signal { target: Target::Init, signal: 9 });
        let mut rest = Vec::new();
        let _ = self.control.stream.set_read_timeout(Some(std::time::Duration::from_secs(5)));
        let _ = self.control.stream.read_to_end(&mut rest);
        let _ = rustix::process::kill_process(self.pid, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), rustix::process::WaitOptions::empty());
        self.remove_cgroups();
    }
}

/// The program's root: for the real supervisor the machine's own, read-only.
fn rootfs() -> Rootfs {
    match REAL {
        Some(_) => Rootfs::Overlay(Overlay { lower: vec!["/".to_owned()], ..Overlay::default() }),
        None => Rootfs::Given,
    }
}

fn process(argv: &[&str], tty: bool) -> String {
    // Arguments of these tests have nothing that Rust and JSON would quote differently.
    format!(
        r#"{{"terminal":{tty},"user":{{"uid":0,"gid":0}},"args":{argv:?},"env":["PATH=/usr/bin:/bin","TERM=xterm"],"cwd":"/"}}"#
    )
}

fn config(argv: &[&str], id: &str, tty: bool) -> String {
    if REAL.is_none() {
        return argv.join("\n");
    }
    let process = process(argv, tty);
    format!(
        r#"{{"ociVersion":"1.2.0","process":{process},"root":{{"path":"rootfs","readonly":true}},"hostname":"t",
        "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}},
        {{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]}},
        {{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666","mode=0620"]}}],
        "linux":{{"cgroupsPath":"/{id}","namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},
        {{"type":"uts"}},{{"type":"network"}},{{"type":"cgroup"}}]}}}}"#
    )
}

fn connect(dir: &Path) -> UnixStream {
    UnixStream::from(sys::socket::connect(dir, shim::SOCKET).expect("connect"))
}

pub fn read_frame(stream: &mut UnixStream) -> Option<Frame> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).ok()?;
    let length = Frame::length(&bytes).expect("length").expect("known");
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[4..]).ok()?;
    Some(Frame::decode(&bytes).expect("frame"))
}

impl Control {
    fn hello(&mut self) {
        let mut hello = [0; HELLO];
        self.stream.read_exact(&mut hello).expect("hello");
        assert_eq!(Hello::decode(hello), Ok(Hello::new(Kind::Control)));
    }

    pub fn send(&mut self, message: Message) -> u32 {
        let id = self.next;
        self.next += 1;
        let mut bytes = Vec::new();
        Frame { id, message }.encode(&mut bytes).expect("encode");
        let _ = self.stream.write_all(&bytes);
        id
    }

    pub fn answer(&mut self, id: u32) -> Message {
        loop {
            let frame = read_frame(&mut self.stream).expect("an answer before the end");
            if frame.id == id {
                return frame.message;
            }
            assert_eq!(frame.id, 0);
            self.events.push(frame.message);
        }
    }

    pub fn ask(&mut self, message: Message) -> Message {
        let id = self.send(message);
        self.answer(id)
    }

    /// Waits for an event of a kind.
    pub fn event<T>(&mut self, mut pick: impl FnMut(&Message) -> Option<T>) -> T {
        if let Some((at, value)) = self.events.iter().enumerate().find_map(|(at, e)| Some((at, pick(e)?))) {
            self.events.remove(at);
            return value;
        }
        loop {
            let frame = read_frame(&mut self.stream).expect("an event before the end");
            assert_eq!(frame.id, 0, "{frame:?}");
            if let Some(value) = pick(&frame.message) {
                return value;
            }
            self.events.push(frame.message);
        }
    }

    pub fn status(&mut self) -> Status {
        match self.ask(Message::StatusRequest) {
            Message::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub fn create_exec(&mut self, id: &str, argv: &[&str], change: impl FnOnce(&mut ExecSpec)) {
        let mut spec =
            ExecSpec { id: id.to_owned(), tty: false, stdin: false, size: None, process: Vec::new() };
        change(&mut spec);
        spec.process = match REAL {
            Some(_) => process(argv, spec.tty).into_bytes(),
            None => argv.join("\n").into_bytes(),
        };
        assert_eq!(self.ask(Message::ExecCreate(spec)), Message::Ok);
    }

    pub fn exec_exit(&mut self, exec: &str) -> Exit {
        self.event(|message| match message {
            Message::ExecExited { id, exit } if id == exec => Some(*exit),
            _ => None,
        })
    }
}

/// Takes apart what an attached client without a terminal gets.
pub fn split(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err, mut rest) = (Vec::new(), Vec::new(), bytes);
    while let Some((header, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (payload, tail) = tail.split_at(length);
        if header[0] == 1 { &mut out } else { &mut err }.extend_from_slice(payload);
        rest = tail;
    }
    assert!(rest.is_empty());
    (out, err)
}

/// Reads to the end of the stream.
pub fn all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("read");
    bytes
}

/// Says that no more input comes.
pub fn half_close(stream: &UnixStream) {
    stream.shutdown(Shutdown::Write).expect("shutdown");
}
