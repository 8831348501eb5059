//! The table `inet corten`: its sets, its chains and their rules. All that changes with networks and containers is in the sets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

use super::nft::batch::{Base, Batch};
use super::nft::rule::*;
use super::nft::{Set, Type};
use crate::policy::MARK;

/// What the table is called; it is of the family `inet`.
pub const TABLE: &str = "corten";

const fn set(name: &'static str, key: &'static [Type]) -> Set {
    Set { name, key, data: &[], interval: false }
}

const fn intervals(name: &'static str, key: &'static [Type]) -> Set {
    Set { name, key, data: &[], interval: true }
}

/// The bridges of our networks.
pub static BRIDGES: Set = set("bridges", &[Type::Name]);
/// Of networks with nothing outside.
pub static INTERNAL: Set = set("internal", &[Type::Name]);
/// Of networks whose containers may speak to each other: from a bridge to itself.
pub static WITHIN: Set = set("within", &[Type::Name, Type::Name]);

/// The sets and maps that there are for each version.
#[derive(Debug)]
pub struct Sets {
    /// The networks' subnets, each with its bridge.
    pub subnets: Set,
    /// Subnets whose containers have the host's address outside.
    pub masquerade: Set,
    /// Subnets whose containers have an address outside that is given.
    pub outward: Set,
    /// Subnets whose containers can be reached at all their ports.
    pub unprotected: Set,
    /// Subnets whose containers are known outside by their own addresses.
    pub routed: Set,
    /// Those containers' ports that can be reached.
    pub open: Set,
    /// Published at all addresses of the host's.
    pub ports: Set,
    /// Published at one address.
    pub ports_at: Set,
    /// Published in numbers, each under its own.
    pub ranges: Set,
}

macro_rules! sets {
    ($number:literal, $address:expr) => {
        Sets {
            subnets: intervals(concat!("subnets", $number), &[Type::Name, $address]),
            masquerade: intervals(concat!("masquerade", $number), &[$address]),
            outward: Set { data: &[$address], ..intervals(concat!("outward", $number), &[$address]) },
            unprotected: intervals(concat!("unprotected", $number), &[$address]),
            routed: intervals(concat!("routed", $number), &[$address]),
            open: intervals(concat!("open", $number), &[$address, Type::Protocol, Type::Port]),
            ports: Set {
                data: &[$address, Type::Port],
                ..set(concat!("ports", $number), &[Type::Protocol, Type::Port])
            },
            ports_at: Set {
                data: &[$address, Type::Port],
                ..set(concat!("ports_at", $number), &[$address, Type::Protocol, Type::Port])
            },
            ranges: Set {
                data: &[$address],
                ..intervals(concat!("ranges", $number), &[$address, Type::Protocol, Type::Port])
            },
        }
    };
}

/// For version 4.
pub static V4: Sets = sets!("4", Type::Ip4);
/// For version 6.
pub static V6: Sets = sets!("6", Type::Ip6);

impl Sets {
    /// Those for an address.
    pub fn of(address: IpAddr) -> &'static Self {
        if address.is_ipv4() { &V4 } else { &V6 }
    }

    fn all(&self) -> [&Set; 9] {
        [
            &self.subnets,
            &self.masquerade,
            &self.outward,
            &self.unprotected,
            &self.routed,
            &self.open,
            &self.ports,
            &self.ports_at,
            &self.ranges,
        ]
    }
}

/// A chain and its rules.
#[derive(Debug)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    base: Option<Base>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

const PREROUTING: u32 = 0;
/// The hook that packets meet which are neither from the host nor for it.
pub const FORWARD: u32 = 2;
/// The hook that packets of the namespace's own meet.
pub const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

const RAW: i32 = -300;
const MANGLE: i32 = -150;
/// Where destinations are changed.
pub const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

const ICMP: u8 = 1;
const ICMP6: u8 = 58;

fn base(kind: &'static str, hook: u32, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority })
}

fn loopback4() -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into()
}

/// The fields, numbers and sets of a version.
struct Version {
    ip: Ip,
    saddr: Field,
    daddr: Field,
    icmp: u8,
    sets: &'static Sets,
}

fn versions() -> [Version; 2] {
    [
        Version { ip: Ip::V4, saddr: IP_SADDR, daddr: IP_DADDR, icmp: ICMP, sets: &V4 },
        Version { ip: Ip::V6, saddr: IP6_SADDR, daddr: IP6_DADDR, icmp: ICMP6, sets: &V6 },
    ]
}

/// Which of its forms the table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// What neither comes from our networks nor goes into them is not passed on.
    pub closed: bool,
    /// What comes from outside for a published port is for the host itself, whose rules for what comes in decide.
    pub respect: bool,
}

impl Form {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .map(|(closed, respect)| Self { closed, respect })
    }
}

/// All chains, those first that others lead to.
pub fn chains(form: Form) -> Vec<Chain> {
    let to_ports = || rule().is(FIB_DADDR_TYPE, &LOCAL).goto("ports");
    let chain = |name, base, rules| Chain { name, base, rules };
    let arriving = if form.respect {
        rule().in_set(&[IIFNAME], &BRIDGES).is(FIB_DADDR_TYPE, &LOCAL).goto("ports")
    } else {
        to_ports()
    };
    let mut chains = vec![
        chain("ports", None, ports()),
        chain("into", None, into()),
        chain("out", None, out()),
        chain("raw", base("filter", PREROUTING, RAW), raw()),
        chain("arriving", base("nat", PREROUTING, DSTNAT), vec![arriving]),
        chain("own", base("nat", OUTPUT, DSTNAT), vec![to_ports()]),
        chain("forward", base("filter", FORWARD, FILTER), forward(form.closed)),
        chain("source", base("nat", POSTROUTING, SRCNAT), source()),
    ];
    if form.respect {
        chains.push(chain("answers", base("filter", PREROUTING, MANGLE), answers()));
    }
    chains
}

/// What containers answer to netd, which speaks to them by its clients' addresses, is delivered here: by the rules of routing that know
/// the mark. A proxy of somebody else's that listens at all addresses is not meant.
fn answers() -> Vec<Rule> {
    let own = rule().in_set(&[IIFNAME], &BRIDGES).is(SOCKET_TRANSPARENT, &[1]).is(SOCKET_WILDCARD, &[0]);
    vec![own.mark(MARK)]
}

/// A port that is published on 127.0.0.1 is the host's own, and what has such an address does not come by a cable.
fn raw() -> Vec<Rule> {
    let outside = || rule().unless(IIFNAME, "lo");
    vec![outside().within(IP_SADDR, loopback4()).drop(), outside().within(IP_DADDR, loopback4()).drop()]
}

/// What is for a published port goes to its container. Not what the host sends to `::1`: it would leave by no bridge, and is for whoever
/// listens there.
fn ports() -> Vec<Rule> {
    let mut rules = vec![rule().within(IP6_DADDR, IpAddr::from(Ipv6Addr::LOCALHOST).into()).end()];
    for v in versions() {
        rules.extend([
            rule().dnat(v.ip, &[v.daddr, L4PROTO, TH_DPORT], &v.sets.ports_at),
            rule().dnat(v.ip, &[L4PROTO, TH_DPORT], &v.sets.ports),
            rule().dnat(v.ip, &[v.daddr, L4PROTO, TH_DPORT], &v.sets.ranges),
        ]);
    }
    rules
}

/// Only what goes into our networks or comes out of them concerns us, unless the host is not to pass on anything else.
fn forward(closed: bool) -> Vec<Rule> {
    let mut rules = vec![
        rule().in_set(&[OIFNAME], &BRIDGES).goto("into"),
        rule().in_set(&[IIFNAME], &BRIDGES).goto("out"),
    ];
    rules.extend(closed.then(|| rule().counter().drop()));
    rules
}

/// What goes into a network: from itself, in a conversation, or to what is published.
fn into() -> Vec<Rule> {
    let mut rules = vec![
        rule().in_set(&[IIFNAME, OIFNAME], &WITHIN).accept(),
        rule().any(CT_STATE, ESTABLISHED | RELATED).accept(),
        rule().in_set(&[IIFNAME], &INTERNAL).counter().drop(),
        rule().in_set(&[OIFNAME], &INTERNAL).counter().drop(),
        rule().any(CT_STATUS, TO_ELSEWHERE).accept(),
    ];
    for v in versions() {
        rules.extend([
            rule().in_set(&[v.daddr], &v.sets.unprotected).accept(),
            rule().in_set(&[v.daddr, L4PROTO, TH_DPORT], &v.sets.open).accept(),
            rule().in_set(&[v.daddr], &v.sets.routed).is(L4PROTO, &[v.icmp]).accept(),
        ]);
    }
    rules.push(rule().counter().drop());
    rules
}

/// What leaves a network: nothing from an internal one, and nothing that would keep an address which nobody knows outside.
fn out() -> Vec<Rule> {
    let mut rules = vec![rule().in_set(&[IIFNAME], &INTERNAL).counter().drop()];
    for v in versions() {
        rules.push(rule().any(CT_STATE, INVALID).in_set(&[v.saddr], &v.sets.masquerade).counter().drop());
    }
    rules
}

/// What leaves a network has an address that answers find; so has what comes back into it by way of the host.
fn source() -> Vec<Rule> {
    let mut rules = vec![rule().in_set(&[OIFNAME], &BRIDGES).within(IP_SADDR, loopback4()).masquerade()];
    for v in versions() {
        let subnets = &v.sets.subnets;
        rules.extend([
            rule().any(CT_STATUS, TO_ELSEWHERE).in_set(&[OIFNAME, v.saddr], subnets).masquerade(),
            rule().in_set(&[OIFNAME, v.saddr], subnets).end(),
            rule().snat(v.ip, &[v.saddr], &v.sets.outward),
            rule().in_set(&[v.saddr], &v.sets.masquerade).masquerade(),
        ]);
    }
    rules
}

/// The table, with its sets empty.
pub fn layout(batch: &mut Batch, form: Form) {
    batch.table(&comment(form));
    for set in [&BRIDGES, &INTERNAL, &WITHIN].into_iter().chain(V4.all()).chain(V6.all()) {
        batch.set(set);
    }
    let chains = chains(form);
    for chain in &chains {
        batch.chain(chain.name, chain.base);
    }
    for chain in &chains {
        for rule in &chain.rules {
            batch.rule(chain.name, rule);
        }
    }
}

/// How often each chain is used, as the kernel counts: by its rules, and by those that lead to it.
pub fn uses(form: Form) -> Vec<(&'static str, u32)> {
    let chains = chains(form);
    let lead_to = |name| {
        let rules = chains.iter().flat_map(|chain| &chain.rules);
        rules.filter(|rule| rule.leads_to() == Some(name)).count()
    };
    chains.iter().map(|chain| (chain.name, (chain.rules.len() + lead_to(chain.name)) as u32)).collect()
}

/// By what a table is known to be of this layout. A change to sets, chains or rules changes the number.
pub fn comment(form: Form) -> String {
    let closed = if form.closed { "closed" } else { "open" };
    let respect = if form.respect { ", respect" } else { "" };
    format!("corten's own: do not edit; layout 1, {closed}{respect}")
}
