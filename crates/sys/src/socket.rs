//! Unix sockets: pairs, listeners by directory descriptor, and descriptors in messages.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// What `/proc` counts times in: hundredths of a second, on all machines that we know (`USER_HZ`).
const TICK_NANOSECONDS: u128 = 10_000_000;

/// How many descriptors one message carries; the kernel's own limit is 253.
pub const FDS_PER_MESSAGE: usize = 250;

/// A connected pair that keeps the bounds of messages (`SOCK_SEQPACKET`), closed on exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// A connected pair of byte streams, closed on exec.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// The address of `name` in the directory `dir`, whatever the length of the directory's path: the kernel takes 107
/// bytes, so the directory is named by its descriptor.
fn address(dir: &Path, name: &str) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", fd.as_raw_fd()))?;
    Ok((fd, address))
}

/// Listens on a non-blocking stream socket `name` in `dir`, replacing one that is there; mode 0600.
pub fn listen(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    // Connections that have not been accepted yet: one daemon with a few attachments at once.
    const BACKLOG: i32 = 128;
    let (fd, address) = address(dir, name)?;
    match rustix::fs::unlinkat(&fd, name, rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The mode of the socket's inode is taken over by the name that bind makes: it is never open to others.
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Connects a blocking stream socket to the listener `name` in `dir`.
pub fn connect(dir: &Path, name: &str) -> io::Result<OwnedFd> {
    let (_fd, address) = address(dir, name)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    retry_on_intr(|| rustix::net::connect(&socket, &address))?;
    Ok(socket)
}

/// Takes the next connection of a non-blocking listener, itself non-blocking; `None` if there is none.
pub fn accept(listener: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match retry_on_intr(|| rustix::net::accept_with(listener.as_fd(), flags)) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::AGAIN | Errno::CONNABORTED) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The user id of the process that made the other end.
pub fn peer_uid(socket: impl AsFd) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(socket)?.uid.as_raw())
}

/// The process that made the other end, as a descriptor. It may have given its end away since, or have ended.
///
/// Where the kernel has no descriptor of it (before 6.5), its number is looked up; `begun` is when the connection was there, since
/// boot: a process that was started later has got the number of one that has ended.
pub fn peer_process(socket: impl AsFd, begun: Duration) -> io::Result<OwnedFd> {
    match crate::process::peer_pidfd(&socket) {
        Err(error) if error.raw_os_error() == Some(Errno::NOPROTOOPT.raw_os_error()) => {}
        other => return other,
    }
    let pid = rustix::net::sockopt::socket_peercred(socket)?.pid.as_raw_pid();
    let pidfd = crate::process::pidfd(pid)?;
    let started = crate::proc::Proc::open()?.start_time(pid)?;
    if u128::from(started) > begun.as_nanos() / TICK_NANOSECONDS {
        return Err(Errno::SRCH.into());
    }
    Ok(pidfd)
}

/// Sends `bytes` with up to [`FDS_PER_MESSAGE`] descriptors, and returns how many bytes were taken (with them, all
/// descriptors were).
pub fn send_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG.into());
    }
    let iov = [IoSlice::new(bytes)];
    Ok(retry_on_intr(|| rustix::net::sendmsg(socket.as_fd(), &iov, &mut control, SendFlags::NOSIGNAL))?)
}

/// Receives bytes into `buffer` and descriptors, closed on exec, into `fds`; returns how many bytes there were, 0 at
/// the end of the stream. Descriptors that found no room are an error.
pub fn recv_fds(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut iov = [IoSliceMut::new(buffer)];
    let received = retry_on_intr(|| {
        rustix::net::recvmsg(socket.as_fd(), &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.flags.contains(rustix::net::ReturnFlags::CTRUNC) {
        return Err(Errno::TOOBIG.into());
    }
    Ok(received.bytes)
}

/// Writes without a signal when the other end is gone; returns how many bytes were taken.
pub fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(retry_on_intr(|| rustix::net::send(socket.as_fd(), bytes, SendFlags::NOSIGNAL))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn descriptors_travel_with_bytes() {
        let (left, right) = stream_pair().expect("pair");
        let file = tempfile::tempfile().expect("file");
        rustix::io::write(&file, b"inside").expect("write");
        assert_eq!(send_fds(&left, b"ab", &[file.as_fd()]).expect("send"), 2);
        let (mut buffer, mut fds) = ([0_u8; 8], Vec::new());
        assert_eq!(recv_fds(&right, &mut buffer, &mut fds).expect("receive"), 2);
        assert_eq!(fds.len(), 1);
        let mut content = [0_u8; 6];
        rustix::io::pread(&fds[0], &mut content, 0).expect("read");
        assert_eq!(&content, b"inside");
    }

    #[test]
    fn a_listener_in_a_directory_with_a_long_path() {
        let dir = tempfile::tempdir().expect("tempdir");
        let long = dir.path().join("x".repeat(200));
        std::fs::create_dir(&long).expect("mkdir");
        let listener = listen(&long, "s").expect("listen");
        let mode = std::fs::metadata(long.join("s")).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(accept(&listener).expect("accept").is_none());
        let client = connect(&long, "s").expect("connect");
        let server = accept(&listener).expect("accept").expect("one");
        assert_eq!(peer_uid(&server).expect("uid"), rustix::process::getuid().as_raw());
        assert_eq!(send(&client, b"hey").expect("send"), 3);
        drop(listener);
        drop(listen(&long, "s").expect("listen again"));
    }

    #[test]
    fn the_other_end_is_known_and_gives_its_descriptors() {
        let (near, far) = stream_pair().unwrap();
        let peer = peer_process(&near, crate::timer::since_boot()).unwrap();
        let given = crate::process::descriptor_of(&peer, far.as_raw_fd()).unwrap();
        let inode = |fd: &OwnedFd| crate::fsx::stat(fd).unwrap().st_ino;
        assert_eq!(inode(&given), inode(&far));
        crate::process::descriptor_of(&peer, 1 << 20).unwrap_err();
        let (listener, _) = (rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap(), ());
        peer_process(&listener, crate::timer::since_boot()).unwrap_err();
    }
}
