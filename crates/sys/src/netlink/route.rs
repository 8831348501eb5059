//! Network devices and their addresses, by the kernel's route socket (rtnetlink(7)): what a runtime needs to move a
//! device into another network namespace. Synchronous, and for a handful of messages.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use rustix::io::Errno;

use super::{ACK, CREATE, DUMP, EXCLUSIVE, Family, Message, Socket, attributes, u32_at};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;

const IFF_UP: u32 = 1;
/// An address that does not go away by itself.
const IFA_F_PERMANENT: u32 = 0x80;
/// No duplicates are looked for: the address was in use already.
const IFA_F_NODAD: u32 = 0x02;
/// An address that is valid everywhere (`RT_SCOPE_UNIVERSE`).
const SCOPE_UNIVERSE: u8 = 0;

/// Addresses of one device: far more than anyone gives by hand.
const ADDRESSES_MAX: usize = 4096;

const LINK_BYTES: usize = 16;
const ADDRESS_BYTES: usize = 8;

/// The longest name of a device (`IFNAMSIZ` with its NUL).
pub const NAME_BYTES_MAX: usize = 15;

/// Whether the kernel takes `name` as that of a network device (`dev_valid_name`).
pub fn is_device_name(name: &str) -> bool {
    let bad = |b: u8| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace();
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name != "." && name != ".." && !name.bytes().any(bad)
}

/// Whether nobody else takes it for anything but a name either: it may be put in commands that people are told, where there are wildcards, and the
/// kernel has `%d` stand for a number of its own choice.
pub fn is_plain_device_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    is_device_name(name) && !name.starts_with('-') && name.bytes().all(plain)
}

/// An address of a device, as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// A conversation with the kernel about the network namespace that the caller was in when it began.
#[derive(Debug)]
pub struct Route {
    socket: Socket,
}

impl Route {
    /// Opens one.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Family::Route)? })
    }

    /// The number of the device `name`.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        let mut request = Message::new(RTM_GETLINK, ACK, &[0; LINK_BYTES]);
        request.put_text(IFLA_IFNAME, &cut(name));
        let mut index = None;
        self.socket.ask(request, |kind, message| {
            if kind == RTM_NEWLINK {
                index = u32_at(message, 4);
            }
            Ok(())
        })?;
        index.ok_or_else(|| Errno::NODEV.into())
    }

    /// The addresses of the device that somebody gave it for good, and that are valid beyond the link.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let mut found = Vec::new();
        let request = Message::new(RTM_GETADDR, DUMP, &[0; ADDRESS_BYTES]);
        self.socket.ask(request, |kind, message| {
            if kind == RTM_NEWADDR && found.len() < ADDRESSES_MAX {
                found.extend(parse_address(message, index));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Moves a device into the network namespace behind `namespace`, where it gets `name`.
    pub fn move_device(&self, index: u32, namespace: impl AsFd, name: &str) -> io::Result<()> {
        let number = namespace.as_fd().as_raw_fd().to_ne_bytes();
        let mut request = Message::new(RTM_NEWLINK, ACK, &link(index, 0, 0)).with(IFLA_NET_NS_FD, &number);
        request.put_text(IFLA_IFNAME, &cut(name));
        Ok(self.socket.tell(request)?)
    }

    /// Gives a device an address.
    pub fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let mut body = vec![address.family, address.prefix, 0, SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        let mut request = Message::new(RTM_NEWADDR, ACK | CREATE | EXCLUSIVE, &body);
        for (kind, value) in &address.attributes {
            request.put(*kind, value);
        }
        request.put(IFA_FLAGS, &(IFA_F_PERMANENT | IFA_F_NODAD).to_ne_bytes());
        Ok(self.socket.tell(request)?)
    }

    /// Switches a device on.
    pub fn set_up(&self, index: u32) -> io::Result<()> {
        Ok(self.socket.tell(Message::new(RTM_NEWLINK, ACK, &link(index, IFF_UP, IFF_UP)))?)
    }
}

fn parse_address(message: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope, ..] = *message.first_chunk::<ADDRESS_BYTES>()?;
    let mut flags = u32::from(flags);
    let mut kept = Vec::new();
    for (kind, value) in attributes(message.get(ADDRESS_BYTES..)?) {
        match kind {
            IFA_FLAGS => flags = u32_at(value, 0)?,
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => kept.push((kind, value.to_vec())),
            _ => {}
        }
    }
    let wanted = scope == SCOPE_UNIVERSE && flags & IFA_F_PERMANENT != 0;
    (wanted && u32_at(message, 4)? == index).then_some(Address { family, prefix, attributes: kept })
}

fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for field in [index, flags, change] {
        body.extend(field.to_ne_bytes());
    }
    body
}

fn cut(name: &str) -> String {
    name.chars().take(NAME_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_first_device_and_a_strange_one_is_not_there() {
        let route = Route::open().unwrap();
        assert_eq!(route.index("lo").unwrap(), 1);
        assert_eq!(route.index("not-a-device").unwrap_err().raw_os_error(), Some(19));
        assert!(route.addresses(1).unwrap().is_empty(), "those of loopback are the host's own");
    }

    #[test]
    fn names_are_those_the_kernel_takes() {
        for name in ["eth0", "a", "exactly15bytes_", "veth0.1"] {
            assert!(is_device_name(name), "{name}");
        }
        for name in ["", ".", "..", "a/b", "a b", "a:1", "sixteen_bytes_is"] {
            assert!(!is_device_name(name), "{name}");
        }
    }

    #[test]
    fn a_damaged_address_is_none() {
        assert_eq!(parse_address(&[2, 24, 0x80, 0, 1, 0, 0, 0, 200, 0, 1, 0], 2), None);
        assert_eq!(parse_address(&[2, 24, 0x80], 1), None);
    }
}
