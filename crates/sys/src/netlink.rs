//! Network devices and their addresses, by the kernel's route socket (rtnetlink(7)): what a runtime needs to move a
//! device into another network namespace. Synchronous, and for a handful of messages.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_NEW: u16 = 0x600;

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

/// The kernel fills at most this much at once when it lists.
const BUFFER_BYTES: usize = 64 << 10;
/// Addresses of one device: far more than anyone gives by hand.
const ADDRESSES_MAX: usize = 4096;

const HEADER_BYTES: usize = 16;
const LINK_BYTES: usize = 16;
const ADDRESS_BYTES: usize = 8;

/// The longest name of a device (`IFNAMSIZ` with its NUL).
pub const NAME_BYTES_MAX: usize = 15;

/// Whether the kernel takes `name` as that of a network device (`dev_valid_name`).
pub fn is_device_name(name: &str) -> bool {
    let bad = |b: u8| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace();
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name != "." && name != ".." && !name.bytes().any(bad)
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
pub struct Netlink {
    socket: OwnedFd,
}

impl Netlink {
    /// Opens one.
    pub fn open() -> io::Result<Self> {
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket })
    }

    /// The number of the device `name`.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        let mut body = vec![0; LINK_BYTES];
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        let mut index = None;
        self.ask(RTM_GETLINK, NLM_F_ACK, &body, |kind, message| {
            if kind == RTM_NEWLINK {
                index = read_u32(message, 4);
            }
            Ok(())
        })?;
        index.ok_or_else(|| Errno::NODEV.into())
    }

    /// The addresses of the device that somebody gave it for good, and that are valid beyond the link.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let mut found = Vec::new();
        self.ask(RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS_BYTES], |kind, message| {
            if kind == RTM_NEWADDR && found.len() < ADDRESSES_MAX {
                found.extend(parse_address(message, index));
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Moves a device into the network namespace behind `namespace`, where it gets `name`.
    pub fn move_device(&self, index: u32, namespace: impl AsFd, name: &str) -> io::Result<()> {
        let mut body = link(index, 0, 0);
        let number = namespace.as_fd().as_raw_fd().to_ne_bytes();
        attribute(&mut body, IFLA_NET_NS_FD, &number);
        attribute(&mut body, IFLA_IFNAME, &terminated(name));
        self.ask(RTM_NEWLINK, NLM_F_ACK, &body, |_, _| Ok(()))
    }

    /// Gives a device an address.
    pub fn add_address(&self, index: u32, address: &Address) -> io::Result<()> {
        let mut body = vec![address.family, address.prefix, 0, SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            attribute(&mut body, *kind, value);
        }
        attribute(&mut body, IFA_FLAGS, &(IFA_F_PERMANENT | IFA_F_NODAD).to_ne_bytes());
        self.ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE_NEW, &body, |_, _| Ok(()))
    }

    /// Switches a device on.
    pub fn set_up(&self, index: u32) -> io::Result<()> {
        self.ask(RTM_NEWLINK, NLM_F_ACK, &link(index, IFF_UP, IFF_UP), |_, _| Ok(()))
    }

    /// Sends one request, and gives each message of the answer to `take`.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut take: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let length = u32::try_from(HEADER_BYTES + body.len()).map_err(|_| Errno::TOOBIG)?;
        let mut request = length.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        retry_on_intr(|| rustix::net::send(&self.socket, &request, SendFlags::empty()))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let (_, length) =
                retry_on_intr(|| rustix::net::recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC))?;
            let answer = buffer.get(..length).ok_or(Errno::MSGSIZE)?;
            if each_message(answer, &mut take)? {
                return Ok(());
            }
        }
    }
}

/// Walks the messages in `answer`; true once the one that ends the conversation was among them.
fn each_message(mut answer: &[u8], take: &mut impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<bool> {
    while let Some(length) = read_u32(answer, 0) {
        let length = length as usize;
        let message = answer.get(HEADER_BYTES..length).ok_or(Errno::BADMSG)?;
        match u16::from_ne_bytes([answer[4], answer[5]]) {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                return match read_u32(message, 0).ok_or(Errno::BADMSG)? as i32 {
                    0 => Ok(true),
                    number => Err(io::Error::from_raw_os_error(number.saturating_neg())),
                };
            }
            kind => take(kind, message)?,
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn parse_address(message: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope, ..] = *message.first_chunk::<ADDRESS_BYTES>()?;
    let mut flags = u32::from(flags);
    let mut attributes = Vec::new();
    let mut rest = message.get(ADDRESS_BYTES..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]);
        let value = rest.get(4..length)?;
        match kind {
            IFA_FLAGS => flags = read_u32(value, 0)?,
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST => attributes.push((kind, value.to_vec())),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let wanted = scope == SCOPE_UNIVERSE && flags & IFA_F_PERMANENT != 0;
    (wanted && read_u32(message, 4)? == index).then_some(Address { family, prefix, attributes })
}

fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for field in [index, flags, change] {
        body.extend(field.to_ne_bytes());
    }
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (4 + value.len()) as u16;
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn terminated(name: &str) -> Vec<u8> {
    name.bytes().take(NAME_BYTES_MAX).chain([0]).collect()
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_first_device_and_a_strange_one_is_not_there() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.index("lo").unwrap(), 1);
        assert_eq!(netlink.index("not-a-device").unwrap_err().raw_os_error(), Some(19));
        assert!(netlink.addresses(1).unwrap().is_empty(), "those of loopback are the host's own");
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
    fn damaged_answers_end_in_an_error() {
        let mut take = |_, _: &[u8]| Ok(());
        assert!(each_message(&[255, 0, 0, 0, 16, 0, 0, 0], &mut take).is_err());
        assert!(each_message(&[3, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut take).is_err());
        assert!(!each_message(&[], &mut take).unwrap());
        assert_eq!(parse_address(&[2, 24, 0x80, 0, 1, 0, 0, 0, 200, 0, 1, 0], 1), None);
    }
}
