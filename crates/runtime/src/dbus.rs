//! A small client of D-Bus, for asking systemd: one conversation at a time, and every wait has an end.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sys::{process, socket};

mod message;
mod value;

pub use message::{FIXED_BYTES, Kind, MESSAGE_BYTES_MAX, Message};
pub use value::Value;

/// How long an answer is waited for. A busy systemd takes a second or two; one that takes longer is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// The longest line of the conversation before the first message.
const LINE_BYTES_MAX: usize = 1024;

/// Signals kept for later while an answer is waited for: what happens meanwhile, a few at most, is looked at; the oldest go first.
const SIGNALS_MAX: usize = 4096;

/// Bytes that are no message, or values that cannot be in one, by what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message of d-bus: {0}")]
pub struct Malformed(pub(crate) &'static str);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody is at its socket.
    #[error("cannot connect to {path}")]
    Unreachable {
        /// Where that is.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The other side cannot be reached any more.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not speak D-Bus.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It did not let us in.
    #[error("not let in: {0:?}")]
    Denied(String),
    /// It did not do it.
    #[error("{text} ({name})")]
    Refused {
        /// The error's name.
        name: String,
        /// Its words.
        text: String,
    },
}

impl Failure {
    /// Whether it is the error of this name.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name == wanted)
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    serial: u32,
    received: Vec<u8>,
    signals: VecDeque<Message>,
}

/// What is to be called.
#[derive(Debug, Clone, Copy)]
pub struct Method<'a> {
    /// Whose it is.
    pub destination: &'a str,
    /// Which object's.
    pub path: &'a str,
    /// Of which interface.
    pub interface: &'a str,
    /// Its name.
    pub member: &'a str,
}

impl Connection {
    /// Connects to the socket `name` in `directory`.
    pub fn open(directory: &Path, name: &str) -> Result<Self, Failure> {
        let socket = socket::connect(directory, name)
            .map_err(|source| Failure::Unreachable { path: directory.join(name), source })?;
        let mut connection = Self { socket, serial: 0, received: Vec::new(), signals: VecDeque::new() };
        connection.authenticate()?;
        Ok(connection)
    }

    /// The other side knows who we are from the socket, and is not told: from inside a user namespace the number would be wrong.
    ///
    /// All is said at once, and nothing more until it is answered: a systemd that finds the first message in what it read with the
    /// `BEGIN` before it leaves it there until something else comes.
    fn authenticate(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        for expected in ["DATA", "OK"] {
            let line = self.line(deadline)?;
            if line.split(' ').next() != Some(expected) {
                return Err(Failure::Denied(line));
            }
        }
        Ok(())
    }

    fn line(&mut self, deadline: Instant) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.received[..end]).into_owned();
                self.received.drain(..end + 2);
                return Ok(line);
            }
            if self.received.len() > LINE_BYTES_MAX {
                return Err(Malformed("a line that does not end").into());
            }
            self.receive(deadline)?;
        }
    }

    fn send(&self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let sent = socket::send(&self.socket, bytes)?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads what is there, and waits for something to be there.
    fn receive(&mut self, deadline: Instant) -> Result<(), Failure> {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let left = i32::try_from(left).unwrap_or(i32::MAX);
        if !process::wait_ended(&self.socket, left)? {
            return Err(io::Error::from(io::ErrorKind::TimedOut).into());
        }
        let mut buffer = [0; 8192];
        // Descriptors are not asked for, and closed if they come.
        match socket::recv_fds(&self.socket, &mut buffer, &mut Vec::new())? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            length => {
                self.received.extend(&buffer[..length]);
                Ok(())
            }
        }
    }

    fn message(&mut self, deadline: Instant) -> Result<Message, Failure> {
        loop {
            if let Some(fixed) = self.received.first_chunk::<FIXED_BYTES>() {
                let length = Message::length(fixed)?;
                if self.received.len() >= length {
                    let message = Message::decode(&self.received[..length]);
                    self.received.drain(..length);
                    return Ok(message?);
                }
            }
            self.receive(deadline)?;
        }
    }

    /// Calls a method, and returns its results.
    pub fn call(&mut self, method: Method<'_>, body: Vec<Value>) -> Result<Vec<Value>, Failure> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        self.serial += 1;
        let message = Message {
            destination: Some(method.destination.into()),
            path: Some(method.path.into()),
            interface: Some(method.interface.into()),
            member: Some(method.member.into()),
            body,
            ..Message::new(Kind::Call, self.serial)
        };
        self.send(&message.encode()?)?;
        loop {
            let message = self.message(deadline)?;
            match message.kind {
                Kind::Return if message.reply_to == Some(self.serial) => return Ok(message.body),
                Kind::Error if message.reply_to == Some(self.serial) => {
                    let text = match message.body.into_iter().next() {
                        Some(Value::Text(text)) => text,
                        _ => "no reason given".into(),
                    };
                    return Err(Failure::Refused { name: message.error.unwrap_or_default(), text });
                }
                Kind::Signal => self.keep(message),
                _ => {}
            }
        }
    }

    fn keep(&mut self, signal: Message) {
        if self.signals.len() == SIGNALS_MAX {
            self.signals.pop_front();
        }
        self.signals.push_back(signal);
    }

    /// The next signal: what came while an answer was waited for, and then what comes until `deadline`.
    pub fn signal(&mut self, deadline: Instant) -> Result<Message, Failure> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.message(deadline)?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command, Stdio};

    const BUS: Method<'_> = Method {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
    };

    /// A bus of our own, in a directory of its own.
    struct Bus(Child, tempfile::TempDir);

    impl Bus {
        fn start() -> Option<Self> {
            let directory = tempfile::tempdir().unwrap();
            let config = directory.path().join("bus.conf");
            let listen = directory.path().join("bus");
            std::fs::write(
                &config,
                format!(
                    "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
                     <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>",
                    listen.display()
                ),
            )
            .unwrap();
            let mut command = Command::new("dbus-daemon");
            command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--print-address"]);
            let mut child = match command.stdout(Stdio::piped()).spawn() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    println!("skipped: dbus-daemon");
                    return None;
                }
                other => other.unwrap(),
            };
            // It prints its address once it listens.
            let mut byte = [0];
            child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
            Some(Self(child, directory))
        }

        fn connect(&self) -> Connection {
            Connection::open(self.1.path(), "bus").unwrap()
        }
    }

    impl Drop for Bus {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_real_bus_understands_and_is_understood() {
        let Some(bus) = Bus::start() else { return };
        let mut connection = bus.connect();
        let Ok([Value::Text(name)]) = <[Value; 1]>::try_from(connection.call(BUS, vec![]).unwrap()) else {
            panic!("no name");
        };
        assert!(name.starts_with(':'), "{name}");
        let uid = Method { member: "GetConnectionUnixUser", ..BUS };
        let uid = connection.call(uid, vec![Value::text(&name)]).unwrap();
        assert_eq!(uid, [Value::U32(process::effective_user())]);
        let Ok([Value::Array(element, names)]) =
            <[Value; 1]>::try_from(connection.call(Method { member: "ListNames", ..BUS }, vec![]).unwrap())
        else {
            panic!("no list");
        };
        assert!(element == "s" && names.contains(&Value::Text(name)));
        // All that a variant and a dictionary can be, in its answer.
        let credentials = Method { member: "GetConnectionCredentials", ..BUS };
        let answer = connection.call(credentials, vec![Value::text("org.freedesktop.DBus")]).unwrap();
        assert_eq!(answer[0].signature(), "a{sv}");
        let error = connection.call(Method { member: "Nonsense", ..BUS }, vec![]).unwrap_err();
        assert!(error.is("org.freedesktop.DBus.Error.UnknownMethod"), "{error}");
    }

    #[test]
    fn signals_that_come_before_an_answer_are_kept() {
        let Some(bus) = Bus::start() else { return };
        let mut connection = bus.connect();
        connection.call(BUS, vec![]).unwrap();
        let watch = Method { member: "AddMatch", ..BUS };
        connection.call(watch, vec![Value::text("type='signal',member='NameOwnerChanged'")]).unwrap();
        let request = Method { member: "RequestName", ..BUS };
        connection.call(request, vec![Value::text("org.example.One"), Value::U32(0)]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let signal = connection.signal(deadline).unwrap();
            if signal.member.as_deref() == Some("NameOwnerChanged")
                && signal.body.first() == Some(&Value::text("org.example.One"))
            {
                break;
            }
        }
        // Whatever else there was, the wait has an end.
        let error = loop {
            if let Err(error) = connection.signal(Instant::now()) {
                break error;
            }
        };
        assert!(matches!(error, Failure::Io(error) if error.kind() == io::ErrorKind::TimedOut));
    }

    /// A server that says what it is told to say.
    fn with_server(answer: &'static [u8]) -> Result<(), Failure> {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(answer);
            // Until the client has nothing more to say.
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
        let opened = Connection::open(directory.path(), "s").map(drop);
        server.join().unwrap();
        opened
    }

    #[test]
    fn servers_that_do_not_let_us_in_are_reported() {
        let error = with_server(b"REJECTED EXTERNAL\r\n").unwrap_err();
        assert_eq!(error.to_string(), "not let in: \"REJECTED EXTERNAL\"");
        assert!(matches!(with_server(&[b'x'; 4096]).unwrap_err(), Failure::Malformed(_)));
        with_server(b"DATA\r\nOK 1234deadbeef\r\n").unwrap();
    }
}
