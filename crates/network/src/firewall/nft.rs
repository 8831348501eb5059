//! nf_tables as the kernel is told them (nfnetlink): the names are those of nft(8), and a rule is written here nearly as it is there. Only
//! what our table needs is here.

pub mod batch;
pub mod rule;

use std::net::IpAddr;

use ipnet::IpNet;

/// A name of a device takes so many bytes, with zeros behind it.
pub const NAME_BYTES: usize = 16;

/// What a part of a key, or of what is found by it, is. The numbers are those by which nft knows how to show it; the kernel only keeps
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `ipv4_addr`
    Ip4 = 7,
    /// `ipv6_addr`
    Ip6 = 8,
    /// `inet_proto`
    Protocol = 12,
    /// `inet_service`
    Port = 13,
    /// `ifname`
    Name = 41,
}

impl Type {
    /// Its size.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Ip4 => 4,
            Self::Ip6 | Self::Name => 16,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    /// How many registers it takes.
    pub const fn words(self) -> usize {
        self.bytes().div_ceil(4)
    }
}

/// A set, or a map if it has data.
#[derive(Debug)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// The parts of its keys.
    pub key: &'static [Type],
    /// The parts of what is found by them.
    pub data: &'static [Type],
    /// Whether keys are from one to another.
    pub interval: bool,
}

/// How big `types` are beside each other: one alone as it is, more than one each in registers of its own.
fn size_of(types: &[Type]) -> usize {
    match types {
        [one] => one.bytes(),
        _ => types.iter().map(|one| one.words() * 4).sum(),
    }
}

/// A part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// Of a device.
    Name(&'a str),
    /// One.
    Address(IpAddr),
    /// All in it.
    Net(IpNet),
    /// By number.
    Protocol(u8),
    /// One.
    Port(u16),
    /// All from one to another.
    Ports(u16, u16),
}

impl Value<'_> {
    fn put(self, high: bool, bytes: &mut Vec<u8>) {
        let mut address = |address: IpAddr| match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        };
        match self {
            Self::Name(name) => {
                // One that is too long is no device's; the zero at the end has its place.
                let name = name.as_bytes().iter().take(NAME_BYTES - 1);
                let end = bytes.len() + NAME_BYTES;
                bytes.extend(name);
                bytes.resize(end, 0);
            }
            Self::Address(one) => address(one),
            Self::Net(net) if high => address(net.broadcast()),
            Self::Net(net) => address(net.network()),
            Self::Protocol(number) => bytes.push(number),
            Self::Port(port) => bytes.extend(port.to_be_bytes()),
            Self::Ports(low, up) => bytes.extend(if high { up } else { low }.to_be_bytes()),
        }
    }
}

/// The lowest, or the highest, key that `values` stand for.
fn encode(values: &[Value<'_>], high: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 4);
    for value in values {
        value.put(high, &mut bytes);
        if values.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

/// What is in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    key: Vec<u8>,
    /// The last key, of a set of intervals of more than one part.
    until: Option<Vec<u8>>,
    /// That the interval that began before ends here, in a set of intervals of one part.
    end: bool,
    data: Option<Vec<u8>>,
}

impl Element {
    /// What says that `key` is in `set`, and that `data` is found by it: one element, or two where an interval's end is one of its own.
    pub fn new(set: &Set, key: &[Value<'_>], data: &[Value<'_>]) -> Vec<Self> {
        let first = Self {
            key: encode(key, false),
            until: (set.interval && set.key.len() > 1).then(|| encode(key, true)),
            end: false,
            data: (!set.data.is_empty()).then(|| encode(data, false)),
        };
        let end = (set.interval && set.key.len() == 1).then(|| after(encode(key, true))).flatten();
        let end = end.map(|key| Self { key, until: None, end: true, data: None });
        std::iter::once(first).chain(end).collect()
    }
}

/// The key behind `key`; none is behind the last.
fn after(mut key: Vec<u8>) -> Option<Vec<u8>> {
    for byte in key.iter_mut().rev() {
        let (next, full) = byte.overflowing_add(1);
        *byte = next;
        if !full {
            return Some(key);
        }
    }
    None
}
