//! Sockets handed over by a service manager (`sd_listen_fds(3)`), and telling it that we are ready (`sd_notify(3)`).

#![expect(unsafe_code, reason = "the descriptors handed over have to be taken into ownership")]

use std::io;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};

use rustix::net::AddressFamily;

/// The first descriptor that a service manager hands over.
const FIRST: RawFd = 3;
/// More sockets than any unit file names; a larger number means that the environment is not meant for us.
const SOCKETS_MAX: RawFd = 64;

/// Takes the sockets that were handed over to this process; none if there was no service manager.
///
/// To be called once, early: a second call would own the same descriptors again, so it returns an error.
///
/// # Errors
/// A malformed environment, a descriptor that is not open, or a second call.
pub fn sockets() -> io::Result<Vec<OwnedFd>> {
    use std::sync::atomic::{AtomicBool, Ordering};
    static TAKEN: AtomicBool = AtomicBool::new(false);

    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<RawFd>().ok());
    if number("LISTEN_PID") != Some(rustix::process::getpid().as_raw_nonzero().get()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    if !(0..=SOCKETS_MAX).contains(&count) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("LISTEN_FDS={count} is out of range"),
        ));
    }
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("the inherited sockets were taken before"));
    }
    (FIRST..FIRST + count)
        .map(|raw| {
            // SAFETY: the protocol of sd_listen_fds gives these descriptors to this process, and TAKEN makes sure
            // that only one owner is made of each. Whether it is open is checked before it is used.
            let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
            match rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC) {
                Ok(()) => Ok(descriptor),
                Err(error) => {
                    // Closing what was never open would close somebody else's descriptor later.
                    let _ = std::os::fd::IntoRawFd::into_raw_fd(descriptor);
                    Err(error.into())
                }
            }
        })
        .collect()
}

/// Whether `descriptor` is a unix socket.
///
/// # Errors
/// It is not a socket.
pub fn is_unix(descriptor: impl AsFd) -> io::Result<bool> {
    Ok(rustix::net::sockopt::socket_domain(descriptor)? == AddressFamily::UNIX)
}

/// Tells the service manager `state` (such as `READY=1`), if there is one.
///
/// # Errors
/// There is one, and it cannot be reached.
pub fn notify(state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_service_manager_there_are_no_sockets() {
        assert!(sockets().unwrap().is_empty());
    }

    #[test]
    fn kinds_of_sockets() {
        let (unix, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(is_unix(&unix).unwrap());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_unix(&tcp).unwrap());
    }
}
