//! What becomes of a packet on its way through chains of others, as far as can be told without having the packet.

mod states;

use std::collections::BTreeMap;

use sys::netlink::attributes;

use super::super::nft::batch;
use super::super::{attribute, number, text};
pub use states::{States, complete, wanted};

/// How deep chains are followed; the kernel allows 16.
const DEPTH_MAX: usize = 16;
/// How many rules are looked at for one packet: beyond that nothing is said of it.
const RULES_MAX: usize = 20_000;

const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const CONTINUE: i32 = -1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// Of a lookup: it holds for what is not in the set.
const INVERTED: u32 = 1;
/// Targets of iptables after which the next rule is asked.
const GO_ON: &[&str] = &[
    "AUDIT",
    "CHECKSUM",
    "CLASSIFY",
    "CONNMARK",
    "CONNSECMARK",
    "CT",
    "DSCP",
    "ECN",
    "HL",
    "HMARK",
    "IDLETIMER",
    "LED",
    "LOG",
    "MARK",
    "NFLOG",
    "NOTRACK",
    "RATEEST",
    "SECMARK",
    "SET",
    "TCPMSS",
    "TCPOPTSTRIP",
    "TEE",
    "TOS",
    "TRACE",
    "TTL",
    "ULOG",
];

/// States of conversations, as packet filters have them.
const ESTABLISHED: u32 = 2;
const NEW: u32 = 8;
/// Of a conversation's status: it is led elsewhere than it was sent to.
const STATUS_DNAT: u32 = 32;

/// A packet that the host is to pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Of IPv6.
    pub v6: bool,
    /// The device it comes by; `None` is one that is nobody's network.
    pub from: Option<&'a str>,
    /// The device it leaves by.
    pub to: Option<&'a str>,
    /// Whether it begins a conversation.
    pub new: bool,
    /// Whether it was sent to a port of the host.
    pub dnat: bool,
    /// Its protocol's number and the port that it is for, where they are known.
    pub port: Option<(u8, u16)>,
    /// The bridges of our networks: a device that is nobody's network is none of them.
    pub ours: &'a [String],
}

impl Packet<'_> {
    fn state(&self) -> u32 {
        if self.new { NEW } else { ESTABLISHED }
    }
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is let through.
    Passes,
    /// It depends on what is not known here: where it comes from, what a set holds.
    Depends,
    /// It is dropped or refused.
    Drops,
}

/// The rules of a table's chains.
pub type Rules = BTreeMap<String, Vec<Rule>>;

/// A rule: what it looks at, and what becomes of a packet that is like that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    tests: Vec<Test>,
    verdict: Verdict,
}

impl Rule {
    /// All that it may decide.
    fn verdicts(&self) -> Vec<&Verdict> {
        match &self.verdict {
            Verdict::ByState(map) => map.iter().map(|(_, verdict)| verdict).collect(),
            verdict => vec![verdict],
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Nothing: the next rule is asked.
    Continue,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Of a map, or of what is not known here.
    Unknown,
    /// What a map of states says, of which the name is known.
    StateMap(String),
    /// What it says for these.
    ByState(Vec<(u32, Verdict)>),
}

/// Something that a packet has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    From,
    To,
    Version,
    Protocol,
    Port,
    State,
    Status,
    /// With these bits alone.
    StateBits(u32),
    StatusBits(u32),
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    /// It is this, or it is not.
    Compare(Field, bool, Vec<u8>),
    /// The state is one of these, or it is not.
    State(u32, bool),
    /// The state is in a set of that name, or it is not.
    StateSet(String, bool),
    /// Whatever it is.
    Unknown,
}

/// Three values: it may not be known.
type Known = Option<bool>;

impl Test {
    fn holds(&self, packet: &Packet<'_>) -> Known {
        let state = packet.state();
        let status = if packet.dnat { STATUS_DNAT } else { 0 };
        match self {
            Self::Unknown | Self::StateSet(..) => None,
            Self::State(mask, equal) => Some((state & mask != 0) == *equal),
            Self::Compare(field, equal, value) => {
                let is = match field {
                    Field::From => is_device(packet.from, value, packet.ours),
                    Field::To => is_device(packet.to, value, packet.ours),
                    Field::Version => Some(value.as_slice() == [if packet.v6 { 10 } else { 2 }]),
                    Field::Protocol => packet.port.map(|(protocol, _)| value.as_slice() == [protocol]),
                    Field::Port => packet.port.map(|(_, port)| value.as_slice() == port.to_be_bytes()),
                    Field::State => Some(word(value) == state),
                    Field::Status => Some(word(value) == status),
                    Field::StateBits(mask) => Some(word(value) == state & mask),
                    Field::StatusBits(mask) => Some(word(value) == status & mask),
                    Field::Other => None,
                };
                is.map(|is| is == *equal)
            }
        }
    }
}

/// Whether a device's name is this one, or begins with it. Of a device that is nobody's network it is not known, but for names of ours.
fn is_device(device: Option<&str>, value: &[u8], ours: &[String]) -> Known {
    let whole = value.last() == Some(&0);
    let wanted: Vec<u8> = value.iter().copied().take_while(|byte| *byte != 0).collect();
    match device.map(str::as_bytes) {
        Some(name) => Some(if whole { name == wanted } else { name.starts_with(&wanted) }),
        None if whole && ours.iter().any(|own| own.as_bytes() == wanted) => Some(false),
        None => None,
    }
}

fn word(value: &[u8]) -> u32 {
    value.try_into().map(u32::from_ne_bytes).unwrap_or(u32::MAX)
}

/// Reads a rule's expressions.
pub fn read(expressions: &[u8]) -> Rule {
    let mut rule = Rule { tests: Vec::new(), verdict: Verdict::Continue };
    let mut registers: BTreeMap<u32, Field> = BTreeMap::new();
    for (_, expression) in attributes(expressions) {
        let part = |wanted| attributes(expression).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        // NFTA_EXPR_NAME, NFTA_EXPR_DATA.
        let name = part(1).map(text).unwrap_or_default();
        let data = part(2).unwrap_or_default();
        let get = |wanted| attributes(data).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let num = |wanted| get(wanted).and_then(number).unwrap_or_default();
        match name.as_str() {
            "counter" | "log" | "notrack" => {}
            "meta" | "ct" | "payload" => drop(registers.insert(num(1), field(&name, &num))),
            "bitwise" => {
                let mask = get(4).and_then(value).map_or(0, |mask| word(&mask));
                let masked = match registers.get(&num(1)) {
                    Some(Field::State) => Field::StateBits(mask),
                    Some(Field::Status) => Field::StatusBits(mask),
                    _ => Field::Other,
                };
                registers.insert(num(2), masked);
            }
            "cmp" => {
                let field = registers.get(&num(1)).copied().unwrap_or(Field::Other);
                let test = match (num(2), get(3).and_then(value)) {
                    (operation @ 0..=1, Some(value)) => Test::Compare(field, operation == 0, value),
                    _ => Test::Unknown,
                };
                rule.tests.push(test);
            }
            "lookup" => {
                let of_state = registers.get(&num(2)) == Some(&Field::State);
                // With a register for what is found it is a map.
                let set = || get(1).map(text).unwrap_or_default();
                match (get(3).is_some(), of_state) {
                    (true, true) if num(3) == 0 => rule.verdict = Verdict::StateMap(set()),
                    (true, _) => rule.verdict = Verdict::Unknown,
                    (false, true) => rule.tests.push(Test::StateSet(set(), num(5) & INVERTED == 0)),
                    (false, false) => rule.tests.push(Test::Unknown),
                }
            }
            "match" => rule.tests.extend(matched(&get(1).map(text).unwrap_or_default(), get(3))),
            "reject" => rule.verdict = Verdict::Drop,
            "target" => {
                rule.verdict = match get(1).map(text).as_deref() {
                    Some("REJECT" | "DROP") => Verdict::Drop,
                    Some(target) if GO_ON.contains(&target) => Verdict::Continue,
                    // A program decides, or whatever comes.
                    _ => Verdict::Unknown,
                };
            }
            "immediate" => {
                if num(1) == 0 {
                    rule.verdict = get(2).map_or(Verdict::Unknown, verdict);
                }
            }
            // Others decide, or the packet does not come back.
            "queue" | "synproxy" | "tproxy" | "nat" | "masq" | "redir" | "fwd" => {
                rule.verdict = Verdict::Unknown;
            }
            // Limits, quotas, and whatever comes: it may have put something else in any register.
            _ => {
                registers.clear();
                rule.tests.push(Test::Unknown);
            }
        }
    }
    rule
}

/// NFTA_DATA_VALUE
fn value(data: &[u8]) -> Option<Vec<u8>> {
    attributes(data).find(|(kind, _)| *kind == 1).map(|(_, value)| value.to_vec())
}

fn field(name: &str, num: &dyn Fn(u16) -> u32) -> Field {
    match (name, num(2)) {
        ("meta", 6) => Field::From,
        ("meta", 7) => Field::To,
        ("meta", 15) => Field::Version,
        ("meta", 16) => Field::Protocol,
        ("ct", 0) => Field::State,
        ("ct", 2) => Field::Status,
        // Of the transport's header the bytes 2 and 3; of the network's (IPv4) the byte 9.
        ("payload", 2) if (num(3), num(4)) == (2, 2) => Field::Port,
        ("payload", 1) if (num(3), num(4)) == (9, 1) => Field::Protocol,
        _ => Field::Other,
    }
}

/// What a match of iptables is about.
fn matched(name: &str, info: Option<&[u8]>) -> Option<Test> {
    let half = |at: usize| -> Option<u32> {
        let bytes = info?.get(at..at + 2)?;
        Some(u32::from(u16::from_ne_bytes(bytes.try_into().ok()?)))
    };
    match name {
        "comment" => None,
        // struct xt_conntrack_mtinfo3: what is looked at, what of it is turned round, the states.
        "conntrack" => match (half(146), half(148), half(150)) {
            (Some(1), Some(turned), Some(mask)) => Some(Test::State(mask, turned & 1 == 0)),
            _ => Some(Test::Unknown),
        },
        _ => Some(Test::Unknown),
    }
}

/// NFTA_DATA_VERDICT, NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN
fn verdict(data: &[u8]) -> Verdict {
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let Some(verdict) = find(data, 2) else { return Verdict::Unknown };
    let chain = || find(verdict, 2).map(text).unwrap_or_default();
    match find(verdict, 1).and_then(number).map(u32::cast_signed) {
        Some(DROP) => Verdict::Drop,
        Some(ACCEPT) => Verdict::Accept,
        Some(CONTINUE) => Verdict::Continue,
        Some(JUMP) => Verdict::Jump(chain()),
        Some(GOTO) => Verdict::Goto(chain()),
        Some(RETURN) => Verdict::Return,
        _ => Verdict::Unknown,
    }
}

/// Of which chain (family, table, name) a rule is, and the rule.
pub fn read_rule(message: &[u8]) -> Option<((u8, String, String), Rule)> {
    let find = |kind| attribute(message, kind);
    let chain = (*message.first()?, text(find(batch::NFTA_RULE_TABLE)?), text(find(batch::NFTA_RULE_CHAIN)?));
    Some((chain, read(find(batch::NFTA_RULE_EXPRESSIONS).unwrap_or_default())))
}

/// The chains that a chain leads to.
pub fn leads_to(rules: &[Rule]) -> impl Iterator<Item = &str> {
    rules.iter().flat_map(Rule::verdicts).filter_map(|verdict| match verdict {
        Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain.as_str()),
        _ => None,
    })
}

/// What becomes of a packet that comes to the chain `name`; `drops` is the chain's policy.
pub fn fate(rules: &Rules, name: &str, drops: bool, packet: &Packet<'_>) -> Fate {
    let mut walk = Walk { rules, packet, left: RULES_MAX, may_pass: false, may_drop: false };
    let end = walk.chain(name, true, 0).unwrap_or(!drops);
    match (end, walk.left) {
        (_, 0) => Fate::Depends,
        (true, _) if walk.may_drop => Fate::Depends,
        (true, _) => Fate::Passes,
        (false, _) if walk.may_pass => Fate::Depends,
        (false, _) => Fate::Drops,
    }
}

struct Walk<'a> {
    rules: &'a Rules,
    packet: &'a Packet<'a>,
    left: usize,
    may_pass: bool,
    may_drop: bool,
}

impl Walk<'_> {
    /// Whether the packet passes, if that is decided here. `certain` is whether it gets here at all.
    fn chain(&mut self, name: &str, certain: bool, depth: usize) -> Option<bool> {
        let rules = self.rules.get(name)?;
        if depth > DEPTH_MAX {
            return None;
        }
        // Whether all that is left of the chain is asked.
        let mut here = certain;
        for rule in rules {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                return None;
            }
            let mut holds = Some(true);
            for test in &rule.tests {
                match (test.holds(self.packet), holds) {
                    (Some(false), _) => holds = Some(false),
                    (None, Some(true)) => holds = None,
                    _ => {}
                }
            }
            if holds == Some(false) {
                continue;
            }
            let certain = here && holds == Some(true);
            let verdict = match &rule.verdict {
                Verdict::ByState(map) => states::chosen(map, self.packet.state()),
                verdict => verdict,
            };
            let end = match verdict {
                Verdict::Continue => None,
                Verdict::Return if certain => return None,
                Verdict::Return => {
                    here = false;
                    None
                }
                Verdict::Accept => Some(true),
                Verdict::Drop => Some(false),
                Verdict::Jump(chain) => self.chain(chain, certain, depth + 1),
                Verdict::Goto(chain) => {
                    let end = self.chain(chain, certain, depth + 1);
                    if certain && end.is_none() {
                        return None;
                    }
                    here = here && certain;
                    end
                }
                Verdict::Unknown | Verdict::StateMap(_) | Verdict::ByState(_) => {
                    (self.may_pass, self.may_drop) = (true, true);
                    None
                }
            };
            match end {
                Some(end) if certain => return Some(end),
                Some(true) => self.may_pass = true,
                Some(false) => self.may_drop = true,
                None => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attribute.
    fn part(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let name = format!("{name}\0");
        part(1, &[part(1, name.as_bytes()), part(2, &data.concat())].concat())
    }

    fn big(kind: u16, value: u32) -> Vec<u8> {
        part(kind, &value.to_be_bytes())
    }

    /// The state, looked up in the set `s` with these further attributes.
    fn looked_up(more: &[Vec<u8>]) -> Vec<u8> {
        let set = [vec![part(1, b"s\0"), big(2, 1)], more.to_vec()].concat();
        [expression("ct", &[big(1, 1), big(2, 0)]), expression("lookup", &set)].concat()
    }

    fn decide(code: i32) -> Vec<u8> {
        part(2, &big(1, code.cast_unsigned()))
    }

    fn accept() -> Vec<u8> {
        expression("immediate", &[big(1, 0), part(2, &decide(ACCEPT))])
    }

    /// What becomes of a packet that begins a conversation and of one that goes on, by a rule before a chain's end that drops.
    fn fates(expressions: &[u8], elements: &[Vec<u8>]) -> [Fate; 2] {
        let mut rules = Rules::from([("it".to_owned(), vec![read(expressions)])]);
        let mut states = States::default();
        let list: Vec<u8> = elements.iter().flat_map(|element| part(1, element)).collect();
        let known = states.take(&[&[0; 4][..], &part(3, &list)].concat());
        let sets = wanted(&rules).into_iter().filter(|_| known).map(|set| (set, states.clone())).collect();
        complete(&mut rules, &sets);
        let packet = Packet { v6: false, from: None, to: None, new: true, dnat: true, port: None, ours: &[] };
        [true, false].map(|new| fate(&rules, "it", true, &Packet { new, ..packet }))
    }

    fn of(state: u32, verdict: Option<i32>) -> Vec<u8> {
        let key = part(1, &part(1, &state.to_ne_bytes()));
        [key, verdict.map(|code| part(2, &decide(code))).unwrap_or_default()].concat()
    }

    #[test]
    fn what_is_in_a_set_of_states_decides() {
        let rule = [looked_up(&[]), accept()].concat();
        assert_eq!(fates(&rule, &[of(NEW, None), of(ESTABLISHED, None)]), [Fate::Passes; 2]);
        assert_eq!(fates(&rule, &[of(4, None), of(ESTABLISHED, None)]), [Fate::Drops, Fate::Passes]);
        let others = [looked_up(&[big(5, INVERTED)]), accept()].concat();
        assert_eq!(fates(&others, &[of(ESTABLISHED, None)]), [Fate::Passes, Fate::Drops]);
        // Of what is not understood nothing is said.
        assert_eq!(fates(&rule, &[[of(NEW, None), big(3, 1)].concat()]), [Fate::Depends; 2]);
        let many: Vec<Vec<u8>> = (0..40).map(|state| of(state, None)).collect();
        assert_eq!(fates(&rule, &many), [Fate::Depends; 2]);
    }

    #[test]
    fn what_a_map_of_states_says_is_done() {
        let rule = looked_up(&[big(3, 0)]);
        let both = [of(NEW, Some(ACCEPT)), of(ESTABLISHED, Some(ACCEPT)), of(1, Some(DROP))];
        assert_eq!(fates(&rule, &both), [Fate::Passes; 2]);
        assert_eq!(fates(&rule, &both[1..]), [Fate::Drops, Fate::Passes]);
        let all = [[big(3, 2), part(2, &decide(ACCEPT))].concat(), of(ESTABLISHED, Some(DROP))];
        assert_eq!(fates(&rule, &all), [Fate::Passes, Fate::Drops]);
    }

    #[test]
    fn what_others_decide_is_not_known() {
        let target = |name: &str| expression("target", &[part(1, format!("{name}\0").as_bytes())]);
        assert_eq!(fates(&expression("queue", &[]), &[]), [Fate::Depends; 2]);
        assert_eq!(fates(&target("NFQUEUE"), &[]), [Fate::Depends; 2]);
        assert_eq!(fates(&target("LOG"), &[]), [Fate::Drops; 2]);
        assert_eq!(fates(&target("REJECT"), &[]), [Fate::Drops; 2]);
    }
}
