//! Rules: what of a packet is looked at, and what becomes of it.

use ipnet::IpNet;
use sys::netlink::{Message, NESTED};

use super::{Set, Type, Value, encode};

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// The register whose value is what becomes of the packet.
const VERDICT: u32 = 0;
/// The first of those that hold four bytes each.
const FIRST_WORD: u32 = 8;

const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;
const NAT_ADDRESS: u32 = 1;
const NAT_PORT: u32 = 2;
const SNAT: u32 = 0;
const DNAT: u32 = 1;
const SOCKET_TRANSPARENT_KEY: u32 = 0;
const SOCKET_WILDCARD_KEY: u32 = 2;
const META_MARK: u32 = 3;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_DADDR: u32 = 2;

/// Where in a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Meta(u32),
    Ct(u32),
    /// Of the network's header (1) or the transport's (2), from a byte on.
    Payload(u32, u32),
    FibDaddrType,
    SocketTransparent,
    SocketWildcard,
}

/// Internet protocol's version, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    /// 4
    V4 = 2,
    /// 6
    V6 = 10,
}

/// Something of a packet that can be looked at.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    load: Load,
    bytes: usize,
    /// Which version it is a part of.
    ip: Option<Ip>,
}

const fn meta(key: u32, bytes: usize) -> Field {
    Field { load: Load::Meta(key), bytes, ip: None }
}

const fn header(ip: Ip, offset: u32, kind: Type) -> Field {
    Field { load: Load::Payload(1, offset), bytes: kind.bytes(), ip: Some(ip) }
}

/// The device it came by.
pub const IIFNAME: Field = meta(6, Type::Name.bytes());
/// The device it leaves by.
pub const OIFNAME: Field = meta(7, Type::Name.bytes());
/// The version.
const NFPROTO: Field = meta(15, 1);
/// The protocol above it.
pub const L4PROTO: Field = meta(16, 1);
/// `ip saddr`
pub const IP_SADDR: Field = header(Ip::V4, 12, Type::Ip4);
/// `ip daddr`
pub const IP_DADDR: Field = header(Ip::V4, 16, Type::Ip4);
/// `ip6 saddr`
pub const IP6_SADDR: Field = header(Ip::V6, 8, Type::Ip6);
/// `ip6 daddr`
pub const IP6_DADDR: Field = header(Ip::V6, 24, Type::Ip6);
/// `th dport`: at the same place with TCP, UDP and SCTP.
pub const TH_DPORT: Field = Field { load: Load::Payload(2, 2), bytes: 2, ip: None };
/// How it belongs to a conversation: bits.
pub const CT_STATE: Field = Field { load: Load::Ct(0), bytes: 4, ip: None };
/// What was done with the conversation: bits.
pub const CT_STATUS: Field = Field { load: Load::Ct(2), bytes: 4, ip: None };
/// Whether it is for an address of the host's own.
pub const FIB_DADDR_TYPE: Field = Field { load: Load::FibDaddrType, bytes: 4, ip: None };

/// Whether it is for a socket of the host's that speaks by an address which need not be the host's own (one byte, 1 if so).
pub const SOCKET_TRANSPARENT: Field = Field { load: Load::SocketTransparent, bytes: 1, ip: None };

/// Whether it is for a socket that takes what is for any address (one byte, 1 if so).
pub const SOCKET_WILDCARD: Field = Field { load: Load::SocketWildcard, bytes: 1, ip: None };

/// Of [`CT_STATE`].
pub const INVALID: u32 = 1;
/// Of [`CT_STATE`].
pub const ESTABLISHED: u32 = 2;
/// Of [`CT_STATE`].
pub const RELATED: u32 = 4;
/// Of [`CT_STATUS`]: it is sent elsewhere than it was meant to.
pub const TO_ELSEWHERE: u32 = 1 << 5;
/// Of [`FIB_DADDR_TYPE`].
pub const LOCAL: [u8; 4] = 2_u32.to_ne_bytes();

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Load(Load, usize, usize),
    Compare(u32, Vec<u8>),
    Mask(Vec<u8>),
    Lookup { set: &'static str, data: bool },
    Nat { kind: u32, ip: Ip, port: Option<usize> },
    Masquerade,
    Counter,
    Verdict(i32, Option<&'static str>),
    Value(Vec<u8>),
    SetMark,
}

/// A rule that is being written, from left to right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<Expression>,
    ip: Option<Ip>,
}

/// Begins a rule.
pub fn rule() -> Rule {
    Rule::default()
}

impl Rule {
    /// If the field is `value`.
    pub fn is(self, field: Field, value: &[u8]) -> Self {
        self.load(&[field]).and(Expression::Compare(CMP_EQ, value.to_vec()))
    }

    /// If it is not from the device `name`.
    pub fn unless(self, field: Field, name: &str) -> Self {
        self.load(&[field]).and(Expression::Compare(CMP_NEQ, encode(&[Value::Name(name)], false)))
    }

    /// If the address is in `net`.
    pub fn within(self, field: Field, net: IpNet) -> Self {
        let mut rule = self.load(&[field]);
        if net.prefix_len() < net.max_prefix_len() {
            rule = rule.and(Expression::Mask(encode(&[Value::Address(net.netmask())], false)));
        }
        rule.and(Expression::Compare(CMP_EQ, encode(&[Value::Net(net)], false)))
    }

    /// If any of these bits is in the field.
    pub fn any(self, field: Field, bits: u32) -> Self {
        self.load(&[field])
            .and(Expression::Mask(bits.to_ne_bytes().to_vec()))
            .and(Expression::Compare(CMP_NEQ, vec![0; 4]))
    }

    /// If the fields, beside each other, are in `set`.
    pub fn in_set(self, fields: &[Field], set: &Set) -> Self {
        self.load(fields).and(Expression::Lookup { set: set.name, data: false })
    }

    /// Sends it to what is found by the fields in `map`: an address, or an address and a port.
    pub fn dnat(self, ip: Ip, fields: &[Field], map: &Set) -> Self {
        self.nat(DNAT, ip, fields, map)
    }

    /// Has it come from what is found by the fields in `map`.
    pub fn snat(self, ip: Ip, fields: &[Field], map: &Set) -> Self {
        self.nat(SNAT, ip, fields, map)
    }

    fn nat(self, kind: u32, ip: Ip, fields: &[Field], map: &Set) -> Self {
        let port = match map.data {
            [address, Type::Port] => Some(address.words()),
            _ => None,
        };
        self.load(fields).and(Expression::Lookup { set: map.name, data: true }).and(Expression::Nat {
            kind,
            ip,
            port,
        })
    }

    /// Gives it a mark, by which rules of routing know it.
    pub fn mark(self, mark: u32) -> Self {
        self.and(Expression::Value(mark.to_ne_bytes().to_vec())).and(Expression::SetMark)
    }

    /// Has it come from the host.
    pub fn masquerade(self) -> Self {
        self.and(Expression::Masquerade)
    }

    /// Counts it.
    pub fn counter(self) -> Self {
        self.and(Expression::Counter)
    }

    /// It goes on to other tables.
    pub fn accept(self) -> Self {
        self.and(Expression::Verdict(1, None))
    }

    /// It goes nowhere.
    pub fn drop(self) -> Self {
        self.and(Expression::Verdict(0, None))
    }

    /// `chain` decides, and does not come back.
    pub fn goto(self, chain: &'static str) -> Self {
        self.and(Expression::Verdict(-4, Some(chain)))
    }

    /// Nothing more of this chain.
    pub fn end(self) -> Self {
        self.and(Expression::Verdict(-5, None))
    }

    /// The chain to which it leads.
    pub fn leads_to(&self) -> Option<&'static str> {
        self.expressions.iter().find_map(|expression| match expression {
            Expression::Verdict(_, chain) => *chain,
            _ => None,
        })
    }

    fn and(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    /// Reads the fields into registers one behind the other; before those of a version, that it is that one.
    fn load(mut self, fields: &[Field]) -> Self {
        let version = fields.iter().find_map(|field| field.ip);
        if let Some(ip) = version
            && self.ip.is_none()
        {
            self.ip = version;
            self = self.is(NFPROTO, &[ip as u8]);
        }
        let mut word = 0;
        for field in fields {
            self.expressions.push(Expression::Load(field.load, field.bytes, word));
            word += field.bytes.div_ceil(4);
        }
        self
    }

    /// Writes it as the list that the kernel reads.
    pub fn put(&self, message: &mut Message, kind: u16) {
        message.nest(kind | NESTED, |m| {
            for expression in &self.expressions {
                m.nest(NFTA_LIST_ELEM | NESTED, |m| {
                    m.put_text(NFTA_EXPR_NAME, expression.name());
                    m.nest(NFTA_EXPR_DATA | NESTED, |m| expression.put(m));
                });
            }
        });
    }
}

fn number(message: &mut Message, kind: u16, value: u32) {
    message.put(kind, &value.to_be_bytes());
}

fn register(message: &mut Message, kind: u16, word: usize) {
    number(message, kind, FIRST_WORD + word as u32);
}

fn data(message: &mut Message, kind: u16, value: &[u8]) {
    message.nest(kind | NESTED, |m| m.put(NFTA_DATA_VALUE, value));
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Load(Load::Meta(_), ..) | Self::SetMark => "meta",
            Self::Load(Load::Ct(_), ..) => "ct",
            Self::Load(Load::Payload(..), ..) => "payload",
            Self::Load(Load::FibDaddrType, ..) => "fib",
            Self::Load(Load::SocketTransparent | Load::SocketWildcard, ..) => "socket",
            Self::Compare(..) => "cmp",
            Self::Mask(_) => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Counter => "counter",
            Self::Verdict(..) | Self::Value(_) => "immediate",
        }
    }

    /// Its attributes, whose kinds count from 1 in each.
    fn put(&self, m: &mut Message) {
        match self {
            // NFTA_META_DREG, _KEY; NFTA_CT_DREG, _KEY; NFTA_FIB_DREG, _RESULT, _FLAGS.
            Self::Load(Load::Meta(key) | Load::Ct(key), _, word) => {
                register(m, 1, *word);
                number(m, 2, *key);
            }
            Self::Load(Load::FibDaddrType, _, word) => {
                register(m, 1, *word);
                number(m, 2, FIB_RESULT_ADDRTYPE);
                number(m, 3, FIB_DADDR);
            }
            // NFTA_SOCKET_KEY, _DREG.
            Self::Load(Load::SocketTransparent, _, word) => {
                number(m, 1, SOCKET_TRANSPARENT_KEY);
                register(m, 2, *word);
            }
            Self::Load(Load::SocketWildcard, _, word) => {
                number(m, 1, SOCKET_WILDCARD_KEY);
                register(m, 2, *word);
            }
            // NFTA_PAYLOAD_DREG, _BASE, _OFFSET, _LEN.
            Self::Load(Load::Payload(base, offset), bytes, word) => {
                register(m, 1, *word);
                number(m, 2, *base);
                number(m, 3, *offset);
                number(m, 4, *bytes as u32);
            }
            // NFTA_CMP_SREG, _OP, _DATA.
            Self::Compare(operation, value) => {
                register(m, 1, 0);
                number(m, 2, *operation);
                data(m, 3, value);
            }
            // NFTA_BITWISE_SREG, _DREG, _LEN, _MASK, _XOR.
            Self::Mask(mask) => {
                register(m, 1, 0);
                register(m, 2, 0);
                number(m, 3, mask.len() as u32);
                data(m, 4, mask);
                data(m, 5, &vec![0; mask.len()]);
            }
            // NFTA_LOOKUP_SET, _SREG, _DREG.
            Self::Lookup { set, data } => {
                m.put_text(1, set);
                register(m, 2, 0);
                if *data {
                    register(m, 3, 0);
                }
            }
            // NFTA_NAT_TYPE, _FAMILY, _REG_ADDR_MIN, _REG_ADDR_MAX, _REG_PROTO_MIN, _REG_PROTO_MAX, _FLAGS.
            Self::Nat { kind, ip, port } => {
                number(m, 1, *kind);
                number(m, 2, *ip as u32);
                register(m, 3, 0);
                register(m, 4, 0);
                if let Some(word) = port {
                    register(m, 5, *word);
                    register(m, 6, *word);
                }
                number(m, 7, if port.is_some() { NAT_ADDRESS | NAT_PORT } else { NAT_ADDRESS });
            }
            Self::Masquerade | Self::Counter => {}
            // NFTA_IMMEDIATE_DREG, _DATA.
            Self::Value(value) => {
                register(m, 1, 0);
                data(m, 2, value);
            }
            // NFTA_META_KEY, _SREG.
            Self::SetMark => {
                number(m, 2, META_MARK);
                register(m, 3, 0);
            }
            Self::Verdict(code, chain) => {
                number(m, 1, VERDICT);
                m.nest(2 | NESTED, |m| {
                    m.nest(NFTA_DATA_VERDICT | NESTED, |m| {
                        m.put(NFTA_VERDICT_CODE, &code.to_be_bytes());
                        if let Some(chain) = chain {
                            m.put_text(NFTA_VERDICT_CHAIN, chain);
                        }
                    });
                });
            }
        }
    }
}
