//! Sockets of the internet's protocols: to which address a datagram came, and sockets that speak by an address which is not the host's.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd};

/// How many bytes an address has at most, as the kernel has it (`sockaddr_in6`).
const ADDRESS_BYTES: usize = size_of::<libc::sockaddr_in6>();
/// Room for what comes beside a datagram: one head, and where it came to.
const CONTROL_BYTES: usize = 64;
/// The head: a length, a level and a kind (`cmsghdr`).
const HEAD_BYTES: usize = size_of::<libc::cmsghdr>();

/// An address of the host, and the device that it is meant on where the address alone does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The address.
    pub address: IpAddr,
    /// The number of the device; 0 for any.
    pub device: u32,
}

/// What goes beside a datagram, at an address that the kernel takes.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

/// Lets a socket be bound to an address that is not the host's, and speak by it (`IP_TRANSPARENT`; needs `CAP_NET_ADMIN`).
pub fn set_transparent(socket: impl AsFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => switch_on(socket, libc::SOL_IP, libc::IP_TRANSPARENT),
        true => switch_on(socket, libc::SOL_IPV6, libc::IPV6_TRANSPARENT),
    }
}

/// Has [`receive`] tell of each datagram to which address it came.
pub fn tell_places(socket: impl AsFd, v6: bool) -> io::Result<()> {
    match v6 {
        false => switch_on(socket, libc::SOL_IP, libc::IP_PKTINFO),
        true => switch_on(socket, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
    }
}

fn switch_on(socket: impl AsFd, level: i32, option: i32) -> io::Result<()> {
    let on: i32 = 1;
    let (fd, size) = (socket.as_fd().as_raw_fd(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: reads `size` bytes, those of one live `i32`.
    match unsafe { libc::setsockopt(fd, level, option, (&raw const on).cast(), size) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives a datagram: its length, from whom, and to which address of the host's, if [`tell_places`] was asked for. What does not fit
/// into `buffer` is lost.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<Place>)> {
    let mut address = [0_u8; ADDRESS_BYTES];
    let mut control = Control([0; CONTROL_BYTES]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero `msghdr` is valid: nothing anywhere.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = ADDRESS_BYTES as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES as _;
    // SAFETY: all that the message names is alive, written by nobody else meanwhile, and as long as it says.
    let length =
        unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let told = usize::try_from(message.msg_namelen).unwrap_or_default().min(ADDRESS_BYTES);
    let peer = read_address(&address[..told]).ok_or(io::ErrorKind::InvalidData)?;
    let beside = message.msg_controllen.min(CONTROL_BYTES);
    Ok((length, peer, read_place(&control.0[..beside])))
}

/// Sends a datagram, by an address of the host's if one is named.
pub fn send_from(socket: impl AsFd, bytes: &[u8], to: SocketAddr, from: Option<Place>) -> io::Result<usize> {
    let (mut address, size) = put_address(to);
    let mut control = Control([0; CONTROL_BYTES]);
    let used = from.map_or(0, |from| put_place(from, &mut control.0));
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero `msghdr` is valid: nothing anywhere.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = address.as_mut_ptr().cast();
    message.msg_namelen = size as libc::socklen_t;
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    if used > 0 {
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = used as _;
    }
    // SAFETY: all that the message names is alive, only read, and as long as it says.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    match family {
        libc::AF_INET => {
            let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(address), port).into())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, word(24)?).into())
        }
        _ => None,
    }
}

fn put_address(address: SocketAddr) -> ([u8; ADDRESS_BYTES], usize) {
    let mut bytes = [0; ADDRESS_BYTES];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    let (family, size) = match address {
        SocketAddr::V4(v4) => {
            bytes[4..8].copy_from_slice(&v4.ip().octets());
            (libc::AF_INET, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(v6) => {
            bytes[8..24].copy_from_slice(&v6.ip().octets());
            bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
            (libc::AF_INET6, ADDRESS_BYTES)
        }
    };
    bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    (bytes, size)
}

fn read_place(bytes: &[u8]) -> Option<Place> {
    let number = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = usize::from_ne_bytes(*bytes.first_chunk()?);
    let data = bytes.get(HEAD_BYTES..length)?;
    match (number(8)?, number(12)?) {
        // The device, the address by which it is to be answered, and that which it was sent to.
        (libc::SOL_IP, libc::IP_PKTINFO) => {
            let address: [u8; 4] = data.get(4..8)?.try_into().ok()?;
            let device = u32::from_ne_bytes(*data.first_chunk()?);
            Some(Place { address: address.into(), device })
        }
        (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
            let address: [u8; 16] = data.get(..16)?.try_into().ok()?;
            let device = u32::from_ne_bytes(data.get(16..20)?.try_into().ok()?);
            Some(Place { address: address.into(), device })
        }
        _ => None,
    }
}

/// Returns how many bytes it takes.
fn put_place(place: Place, bytes: &mut [u8; CONTROL_BYTES]) -> usize {
    let (level, kind, data) = match place.address {
        IpAddr::V4(address) => {
            let mut data = [0; 12];
            data[4..8].copy_from_slice(&address.octets());
            (libc::SOL_IP, libc::IP_PKTINFO, data.to_vec())
        }
        IpAddr::V6(address) => {
            // An address of one link is to be sought on that link.
            let device = if address.is_unicast_link_local() { place.device } else { 0 };
            let data = [&address.octets()[..], &device.to_ne_bytes()].concat();
            (libc::SOL_IPV6, libc::IPV6_PKTINFO, data)
        }
    };
    let length = HEAD_BYTES + data.len();
    bytes[..8].copy_from_slice(&length.to_ne_bytes());
    bytes[8..12].copy_from_slice(&level.to_ne_bytes());
    bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
    bytes[HEAD_BYTES..length].copy_from_slice(&data);
    length.next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_datagram_says_where_it_came_to_and_is_answered_from_there() {
        for (any, at) in [("0.0.0.0:0", "127.3.2.1"), ("[::]:0", "::1")] {
            let Ok(server) = UdpSocket::bind(any) else { continue };
            tell_places(&server, any.starts_with('[')).expect("tell places");
            let at: IpAddr = at.parse().expect("an address");
            let client = UdpSocket::bind((at, 0)).expect("bind");
            let port = server.local_addr().expect("address").port();
            client.connect((at, port)).expect("connect");
            client.send(b"question").expect("send");
            let mut buffer = [0; 20];
            let (length, peer, place) = receive(&server, &mut buffer).expect("receive");
            assert_eq!((&buffer[..length], peer), (&b"question"[..], client.local_addr().expect("address")));
            assert_eq!(place.map(|place| place.address), Some(at));
            send_from(&server, b"answer", peer, place).expect("send");
            // A connected socket takes it only from the address that was asked.
            let length = client.recv(&mut buffer).expect("the answer");
            assert_eq!(&buffer[..length], b"answer");
        }
    }

    #[test]
    fn without_being_asked_nothing_is_told() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let client = UdpSocket::bind("127.0.0.1:0").expect("bind");
        client.send_to(b"x", server.local_addr().expect("address")).expect("send");
        let (_, _, place) = receive(&server, &mut [0; 4]).expect("receive");
        assert_eq!(place, None);
        send_from(&server, b"y", client.local_addr().expect("address"), None).expect("send");
        assert_eq!(client.recv(&mut [0; 4]).expect("receive"), 1);
    }
}
