//! Runs a program to its end, with a limit, and says everything about it when an expectation fails.

use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No command of a test takes longer; one that does hangs.
const LIMIT: Duration = Duration::from_secs(90);

/// What takes longer than this, and is waited for, does not come.
const WAIT: Duration = Duration::from_secs(30);

/// How long a test waits for a state: longer by the factor `CORTEN_TEST_PATIENCE` on machines that are slow because they are
/// emulated.
#[must_use]
pub fn patience() -> Duration {
    WAIT * factor()
}

fn factor() -> u32 {
    std::env::var("CORTEN_TEST_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// A program to be run.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    stdin: Vec<u8>,
    limit: Duration,
}

/// How a program ended and what it wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; 128 + n if a signal n ended it.
    pub code: i32,
    /// Standard output, as text.
    pub stdout: String,
    /// Standard error, as text.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Cmd {
    /// The program `name` with no arguments yet.
    #[must_use]
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(name), stdin: Vec::new(), limit: LIMIT * factor() }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes a variable of the environment.
    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs in this directory.
    #[must_use]
    pub fn current_dir(mut self, path: impl AsRef<std::path::Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Writes these bytes to its standard input, and closes that.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Allows another time than 90 seconds.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Starts it with all three streams piped.
    ///
    /// # Panics
    /// The program cannot be started.
    #[must_use]
    pub fn spawn(mut self) -> Running {
        let line = self.line();
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
        let started = Instant::now();
        let stdout = child.stdout.take().map(reader);
        let stderr = child.stderr.take().map(reader);
        Running { line, child, started, limit: self.limit, stdout, stderr }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// The program cannot be started, or takes longer than its limit.
    #[must_use]
    pub fn run(mut self) -> Output {
        let bytes = std::mem::take(&mut self.stdin);
        let mut running = self.spawn();
        if let Some(mut stdin) = running.child.stdin.take() {
            thread::spawn(move || {
                // A program that does not read its input is none of our business.
                let _ = stdin.write_all(&bytes);
            });
        }
        running.wait()
    }

    /// Runs it and expects exit code 0; returns its standard output without the last newline.
    ///
    /// # Panics
    /// It fails.
    pub fn ok(self) -> String {
        let output = self.run();
        output.expect_code(0);
        output.stdout.trim_end_matches('\n').to_owned()
    }

    /// Runs it and expects this exit code, and `text` in its standard error.
    ///
    /// # Panics
    /// It is otherwise.
    pub fn fails(self, code: i32, text: &str) -> Output {
        let output = self.run();
        output.expect_code(code);
        assert!(output.stderr.contains(text), "no {text:?} in the standard error of {output}");
        output
    }
}

fn reader(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// A program that runs.
#[derive(Debug)]
pub struct Running {
    line: String,
    /// The process; its standard input is open until taken.
    pub child: Child,
    started: Instant,
    limit: Duration,
    stdout: Option<thread::JoinHandle<Vec<u8>>>,
    stderr: Option<thread::JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Writes to its standard input.
    ///
    /// # Panics
    /// Nobody reads there.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("standard input was closed before");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the program does not read");
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It cannot be sent.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid =
            i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("cannot send a signal");
    }

    /// Waits for its end; closes its standard input first.
    ///
    /// # Panics
    /// It takes longer than its limit; it is killed then.
    #[must_use]
    pub fn wait(mut self) -> Output {
        drop(self.child.stdin.take());
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("cannot wait") {
                break status;
            }
            if self.started.elapsed() > self.limit {
                let _ = self.child.kill();
                let _ = self.child.wait();
                panic!("`{}` still ran after {:?}", self.line, self.limit);
            }
            thread::sleep(Duration::from_millis(1));
        };
        let took = self.started.elapsed();
        let text = |handle: Option<thread::JoinHandle<Vec<u8>>>| {
            let bytes = handle.map(|handle| handle.join().unwrap_or_default()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        use std::os::unix::process::ExitStatusExt as _;
        Output {
            line: self.line.clone(),
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
            took,
        }
    }
}

impl Output {
    /// Expects this exit code.
    ///
    /// # Panics
    /// It is another.
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// Standard output without the last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.trim_end_matches('\n')
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "`{}`: exit code {} after {:?}", self.line, self.code, self.took)?;
        writeln!(f, "--- stdout\n{}\n--- stderr\n{}\n---", self.stdout, self.stderr)
    }
}

/// Waits until `check` gives something; that is how a test waits for a state.
///
/// # Panics
/// It gives nothing for as long as [`patience`] has.
pub fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(started.elapsed() < patience(), "waited {:?} in vain for {what}", patience());
        thread::sleep(Duration::from_millis(5));
    }
}
