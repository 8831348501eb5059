//! A daemon's side of the conversation with netd. Calls block, for as long as netd takes to answer: well under a millisecond.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::wire::{self, Malformed, PORTS_AT_ONCE, Reply, Request, Serving, VERSION};
use crate::dns::{Container, Network, Sockets};
use crate::relay::Port;

/// How long an answer may take: netd answers thousands of queries between two requests.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// How long the daemon of before may take to be gone, and a netd that ends.
const OTHER_WAIT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);
/// How much is read at once.
const PIECE: usize = 1 << 16;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none at that place.
    #[error("no netd answers")]
    Absent(#[source] io::Error),
    /// Another daemon speaks with it.
    #[error("netd serves another daemon")]
    Busy,
    /// It is of a version that this one does not understand.
    #[error("netd speaks version {0} of the protocol")]
    Version(u32),
    /// It did not do it.
    #[error("netd: {0}")]
    Refused(String),
    /// It said something that is no answer.
    #[error("netd answered something else")]
    Unexpected,
    /// A message is too long, or not understood.
    #[error("speak with netd")]
    Malformed(#[from] Malformed),
    /// The connection broke.
    #[error("speak with netd")]
    Broken(#[source] io::Error),
    /// It could not be started.
    #[error("start netd")]
    Start(#[source] io::Error),
}

/// A connection to netd: the only one while it lasts.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects to the netd whose socket is at `path`.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let (dir, name) = parts(path).map_err(Error::Absent)?;
        Self::greet(sys::socket::connect(dir, name).map_err(Error::Absent)?)
    }

    /// Connects to the netd whose socket is at `path`, or starts `program` as one (`program netd --socket path`), where there is none or
    /// one of another version. Its directory must exist.
    pub fn connect_or_start(path: &Path, program: &CStr) -> Result<Self, Error> {
        let since = Instant::now();
        loop {
            match Self::connect(path) {
                // A daemon that was killed is gone in a moment.
                Err(Error::Busy) if since.elapsed() < OTHER_WAIT => thread::sleep(PAUSE),
                Err(Error::Version(_)) => {
                    Self::stop_other(path)?;
                    return Self::start(path, program);
                }
                // One that ends by itself takes the connections that it has not seen with it.
                Err(Error::Absent(_) | Error::Broken(_)) => return Self::start(path, program),
                other => return other,
            }
        }
    }

    fn start(path: &Path, program: &CStr) -> Result<Self, Error> {
        let start = || {
            let path = CString::new(path.as_os_str().as_bytes())?;
            let null = File::options().read(true).write(true).open("/dev/null")?;
            let (ours, theirs) = sys::socket::stream_pair()?;
            let arguments = [c"corten", c"netd", c"--connected", c"--socket", &path];
            let pid = sys::spawn::detached(program, &arguments, &null, &theirs)?;
            let process = sys::spawn::pidfd(pid)?;
            // It does not stay a zombie if it ends while this process lives.
            let reaper = move || drop(sys::process::wait(process));
            thread::Builder::new().name("netd-reaper".into()).spawn(reaper)?;
            Ok(ours)
        };
        Self::greet(start().map_err(Error::Start)?)
    }

    fn greet(socket: OwnedFd) -> Result<Self, Error> {
        let stream = UnixStream::from(socket);
        stream.set_read_timeout(Some(ANSWER_WAIT)).map_err(Error::Broken)?;
        stream.set_write_timeout(Some(ANSWER_WAIT)).map_err(Error::Broken)?;
        let mut client = Self { stream, input: Vec::new() };
        match client.ask(&Request::Hello { version: VERSION }, &[])? {
            Reply::Hello { version: VERSION } => Ok(client),
            Reply::Hello { version } => Err(Error::Version(version)),
            _ => Err(Error::Unexpected),
        }
    }

    /// Stops a netd of another version: that much is the same in all.
    fn stop_other(path: &Path) -> Result<(), Error> {
        let (dir, name) = parts(path).map_err(Error::Absent)?;
        let stream = UnixStream::from(sys::socket::connect(dir, name).map_err(Error::Absent)?);
        stream.set_read_timeout(Some(OTHER_WAIT)).map_err(Error::Broken)?;
        Self { stream, input: Vec::new() }.stop()
    }

    /// What it serves: after a restart of the daemon, what is there already, and what is too much.
    pub fn list(&mut self) -> Result<Serving, Error> {
        match self.ask(&Request::List, &[])? {
            Reply::Serving(serving) => Ok(serving),
            _ => Err(Error::Unexpected),
        }
    }

    /// Has a container served, or from now on in another way. `sockets` are needed the first time, and when the container has a new
    /// network namespace. They keep that namespace in being until the container is forgotten.
    pub fn serve(&mut self, container: &Container, sockets: Option<&Sockets>) -> Result<(), Error> {
        let request = Request::Serve { container: container.clone(), sockets: sockets.is_some() };
        match sockets {
            Some(sockets) => self.done(&request, &sockets.descriptors()),
            None => self.done(&request, &[]),
        }
    }

    /// Has a container that is served forgotten by itself when the process of `pidfd` ends, whether or not a daemon is there then.
    pub fn until(&mut self, id: &str, pidfd: BorrowedFd<'_>) -> Result<(), Error> {
        self.done(&Request::Until { id: id.to_owned() }, &[pidfd])
    }

    /// Has published ports of a container held, and those served that lead somewhere. With `anew` it has no others.
    pub fn ports(&mut self, id: &str, ports: &[(Port, BorrowedFd<'_>)], mut anew: bool) -> Result<(), Error> {
        for some in ports.chunks(PORTS_AT_ONCE) {
            let told = some.iter().map(|(port, _)| port.clone()).collect();
            let sockets: Vec<BorrowedFd<'_>> = some.iter().map(|(_, socket)| *socket).collect();
            self.done(&Request::Ports { id: id.to_owned(), ports: told, anew }, &sockets)?;
            anew = false;
        }
        Ok(())
    }

    /// Has ports of a container served in another way that are held already.
    pub fn change_ports(&mut self, id: &str, ports: &[Port]) -> Result<(), Error> {
        ports.chunks(PORTS_AT_ONCE).try_for_each(|some| {
            self.done(&Request::ChangePorts { id: id.to_owned(), ports: some.to_vec() }, &[])
        })
    }

    /// Closes ports of a container.
    pub fn close_ports(&mut self, id: &str, ports: &[Port]) -> Result<(), Error> {
        ports.chunks(PORTS_AT_ONCE).try_for_each(|some| {
            self.done(&Request::ClosePorts { id: id.to_owned(), ports: some.to_vec() }, &[])
        })
    }

    /// Has ports not served to clients in these subnets or beyond these devices, and to all others; who says to be in one of the subnets `own` is
    /// not spoken for by that address.
    pub fn refuse(&mut self, subnets: &[IpNet], devices: &[String], own: &[IpNet]) -> Result<(), Error> {
        let (subnets, devices, own) = (subnets.to_vec(), devices.to_vec(), own.to_vec());
        self.done(&Request::Refuse { subnets, devices, own }, &[])
    }

    /// By what the end of netd is heard of.
    pub fn hangup(&self) -> io::Result<Hangup> {
        Ok(Hangup(self.stream.try_clone()?))
    }

    /// Has a container served no longer and its ports closed, if it was.
    pub fn forget(&mut self, id: &str) -> Result<(), Error> {
        self.done(&Request::Forget { id: id.to_owned() }, &[])
    }

    /// Gives a network its names: these and no others.
    pub fn set_names(&mut self, network: &Network) -> Result<(), Error> {
        self.done(&Request::Names(network.clone()), &[])
    }

    /// Forgets a network's names, if it had any.
    pub fn forget_network(&mut self, id: &str) -> Result<(), Error> {
        self.done(&Request::ForgetNetwork { id: id.to_owned() }, &[])
    }

    /// Ends netd, and returns when it has.
    pub fn stop(mut self) -> Result<(), Error> {
        self.send(&Request::Stop, &[])?;
        let mut rest = [0; 256];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(Error::Broken(error)),
            }
        }
    }

    fn done(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        match self.ask(request, descriptors)? {
            Reply::Done => Ok(()),
            _ => Err(Error::Unexpected),
        }
    }

    fn ask(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Reply, Error> {
        self.send(request, descriptors)?;
        loop {
            match wire::take(&mut self.input)? {
                Some(Reply::Busy) => return Err(Error::Busy),
                Some(Reply::Refused { why }) => return Err(Error::Refused(why)),
                Some(reply) => return Ok(reply),
                None => {}
            }
            let start = self.input.len();
            self.input.resize(start + PIECE, 0);
            let got = self.stream.read(&mut self.input[start..]);
            self.input.truncate(start + got.as_ref().map_or(0, |length| *length));
            match got {
                Ok(0) => return Err(Error::Broken(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(Error::Broken(error)),
                _ => {}
            }
        }
    }

    fn send(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let frame = wire::encode(request)?;
        let sent = match sys::socket::send_fds(&self.stream, &frame, descriptors) {
            Ok(sent) => sent,
            // It may have said why, and gone.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Error::Broken(error)),
        };
        match self.stream.write_all(&frame[sent..]) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Broken(error)),
            _ => Ok(()),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Whoever waits for the end has it with this one, and netd takes the next daemon.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The end of a conversation with netd, for a thread that waits for it.
#[derive(Debug)]
pub struct Hangup(UnixStream);

impl Hangup {
    /// Waits until netd has ended, or the conversation was ended here.
    pub fn wait(self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            // Not for what is said, which is for others to read.
            let mut ends = [PollFd::new(&self.0, PollFlags::RDHUP)];
            match poll(&mut ends, None) {
                Ok(_) if !ends[0].revents().is_empty() => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The directory and the name of a socket.
pub(super) fn parts(path: &Path) -> io::Result<(&Path, &str)> {
    match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(dir), Some(name)) if path.is_absolute() => Ok((dir, name)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket's path is absolute")),
    }
}
