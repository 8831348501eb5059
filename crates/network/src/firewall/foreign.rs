//! Chains of others.

mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use sys::netlink::{DUMP, Socket, attributes};

pub use walk::{Fate, Packet};
use walk::{Rule, Rules, States};

use super::nft::batch::{self, NFPROTO_INET};
use super::{ENOENT, attribute, number, table, text};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// As a chain's policy and in a verdict.
const DROP: u32 = 0;
/// So many sets of states of one table are read: nobody has more of them than rules that people write.
const SETS_MAX: usize = 256;

/// A chain as the kernel describes it.
#[derive(Debug)]
pub struct Chain {
    /// Of its table.
    pub family: u8,
    /// Of its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// How many rules it has, and how many lead to it.
    pub uses: u32,
    /// The hook that it is at.
    hook: Option<u32>,
    policy: Option<u32>,
}

/// Reads a chain from a message; `None` if it is about something else.
pub fn read_chain(message: &[u8]) -> Option<Chain> {
    let find = |kind| attribute(message, kind);
    let hook = find(batch::NFTA_CHAIN_HOOK).and_then(|hook| {
        let (_, value) = attributes(hook).find(|(kind, _)| *kind == batch::NFTA_HOOK_HOOKNUM)?;
        number(value)
    });
    Some(Chain {
        family: *message.first()?,
        table: text(find(batch::NFTA_CHAIN_TABLE)?),
        name: text(find(batch::NFTA_CHAIN_NAME)?),
        uses: find(batch::NFTA_CHAIN_USE).and_then(number).unwrap_or_default(),
        hook,
        policy: find(batch::NFTA_CHAIN_POLICY).and_then(number),
    })
}

/// Who made a chain, as far as it concerns how one has it let packets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maker {
    Ufw,
    Firewalld,
    Docker,
    Iptables,
    Other,
}

/// A chain of somebody else's that what the host passes on comes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Whether it drops what none of its rules is about.
    pub drops: bool,
    maker: Maker,
}

impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

impl ForeignChain {
    /// By what it drops, in words.
    pub fn why(&self) -> &'static str {
        if self.drops { "policy drop" } else { "by a rule" }
    }

    /// The commands by which the host's administrator has it let through what goes into the network with `bridge` and comes out of it,
    /// by means of whoever made the chain. Those by `nft` and `iptables` hold until that is loaded anew.
    pub fn allow(&self, bridge: &str) -> [String; 2] {
        let iptables = if self.family == "ip6" { "ip6tables" } else { "iptables" };
        match self.maker {
            Maker::Ufw => ["out", "in"].map(|way| format!("ufw route allow {way} on {bridge}")),
            Maker::Firewalld => ["--permanent ", ""]
                .map(|kept| format!("firewall-cmd {kept}--zone=trusted --change-interface={bridge}")),
            Maker::Docker => {
                ["o", "i"].map(|way| format!("{iptables} -I DOCKER-USER -{way} {bridge} -j ACCEPT"))
            }
            Maker::Iptables => {
                ["o", "i"].map(|way| format!("{iptables} -I {} -{way} {bridge} -j ACCEPT", self.chain))
            }
            Maker::Other => ["oifname", "iifname"]
                .map(|device| format!("nft insert rule {self} {device} \"{bridge}\" accept")),
        }
    }
}

/// The chains of others that what the host passes on comes by, as they are at one moment.
#[derive(Debug, Clone, Default)]
pub struct Foreign {
    chains: Vec<(ForeignChain, Rules)>,
}

impl Foreign {
    /// Reads them.
    pub(super) fn read(socket: &Socket) -> io::Result<Self> {
        let mut chains = Vec::new();
        socket.ask(super::chains(), |kind, message| {
            let about = batch::kind_of(kind) == Some(batch::NEWCHAIN);
            chains.extend(read_chain(message).filter(|_| about));
            Ok(())
        })?;
        chains.retain(|chain| chain.hook == Some(table::FORWARD) && chain.table != table::TABLE);
        let mut foreign = Self::default();
        let mut read: BTreeMap<(u8, String), Rules> = BTreeMap::new();
        for chain in chains {
            let family = match chain.family {
                NFPROTO_INET => "inet",
                NFPROTO_IPV4 => "ip",
                NFPROTO_IPV6 => "ip6",
                // Those of bridges and devices are about something else.
                _ => continue,
            };
            let key = (chain.family, chain.table.clone());
            if !read.contains_key(&key) {
                read.insert(key.clone(), rules(socket, &key)?);
            }
            let rules = read.get(&key).cloned().unwrap_or_default();
            let drops = chain.policy == Some(DROP);
            let maker = maker(family, &chain, &rules);
            let chain = ForeignChain { family, table: chain.table, chain: chain.name, drops, maker };
            foreign.chains.push((chain, rules));
        }
        Ok(foreign)
    }

    /// What becomes of a packet, and by which chain: the one that is the hardest on it. `None` where there is none.
    pub fn fate(&self, packet: &Packet<'_>) -> Option<(Fate, &ForeignChain)> {
        let meant = |chain: &ForeignChain| match chain.family {
            "ip" => !packet.v6,
            "ip6" => packet.v6,
            _ => true,
        };
        let rank = |fate: Fate| match fate {
            Fate::Passes => 0,
            Fate::Depends => 1,
            Fate::Drops => 2,
        };
        let all = self.chains.iter().filter(|(chain, _)| meant(chain));
        all.map(|(chain, rules)| (walk::fate(rules, &chain.chain, chain.drops, packet), chain))
            .reduce(|one, other| if rank(other.0) > rank(one.0) { other } else { one })
    }

    /// Those that drop a packet for certain.
    pub fn drops(&self, packet: &Packet<'_>) -> Vec<&ForeignChain> {
        let meant = |chain: &ForeignChain| match chain.family {
            "ip" => !packet.v6,
            "ip6" => packet.v6,
            _ => true,
        };
        let all = self.chains.iter().filter(|(chain, _)| meant(chain));
        all.filter(|(chain, rules)| walk::fate(rules, &chain.chain, chain.drops, packet) == Fate::Drops)
            .map(|(chain, _)| chain)
            .collect()
    }
}

/// The rules of a table.
fn rules(socket: &Socket, (family, table): &(u8, String)) -> io::Result<Rules> {
    let mut question = batch::message(batch::GETRULE, DUMP, *family);
    question.put_text(batch::NFTA_RULE_TABLE, table);
    let mut rules = Rules::new();
    socket.ask(question, |kind, message| {
        if batch::kind_of(kind) == Some(batch::NEWRULE)
            && let Some(((its, of, chain), rule)) = walk::read_rule(message)
            && (its, &of) == (*family, table)
        {
            rules.entry(chain).or_default().push(rule);
        }
        Ok(())
    })?;
    let mut sets = BTreeMap::new();
    for set in walk::wanted(&rules).into_iter().take(SETS_MAX) {
        if let Some(states) = states(socket, (*family, table), &set)? {
            sets.insert(set, states);
        }
    }
    walk::complete(&mut rules, &sets);
    Ok(rules)
}

/// What is in a set or a map of states; `None` if that is not understood.
fn states(socket: &Socket, (family, table): (u8, &str), set: &str) -> io::Result<Option<States>> {
    let mut question = batch::message(batch::GETSETELEM, DUMP, family);
    question.put_text(batch::NFTA_SET_ELEM_LIST_TABLE, table);
    question.put_text(batch::NFTA_SET_ELEM_LIST_SET, set);
    let (mut states, mut known) = (States::default(), true);
    let asked = socket.ask(question, |kind, message| {
        known = known && (batch::kind_of(kind) != Some(batch::NEWSETELEM) || states.take(message));
        Ok(())
    });
    match asked {
        // It has gone since the rules were read.
        Err(error) if error.raw_os_error() == Some(ENOENT) => Ok(None),
        other => other.map(|()| known.then_some(states)),
    }
}

fn maker(family: &str, chain: &Chain, rules: &Rules) -> Maker {
    let own: &[Rule] = rules.get(&chain.name).map_or(&[], Vec::as_slice);
    let leads = |wanted: &str| walk::leads_to(own).any(|name| name.starts_with(wanted));
    match (family, chain.table.as_str(), chain.name.as_str()) {
        ("ip" | "ip6", "filter", "FORWARD") if leads("ufw") => Maker::Ufw,
        ("ip" | "ip6", "filter", "FORWARD") if leads("DOCKER-USER") => Maker::Docker,
        ("ip" | "ip6", "filter", "FORWARD") => Maker::Iptables,
        (_, "firewalld", _) => Maker::Firewalld,
        _ => Maker::Other,
    }
}
