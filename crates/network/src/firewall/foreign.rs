//! Chains of others.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use sys::netlink::{DUMP, Socket, attributes};

use super::nft::batch::{self, NFPROTO_INET};
use super::{attribute, number, table, text};

const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
/// As a chain's policy and in a verdict.
const DROP: u32 = 0;

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

/// A chain of somebody else's that drops what no rule of its own accepts, of all that the host passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

impl fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)
    }
}

impl ForeignChain {
    /// The commands by which the host's administrator has it let through what goes into and comes out of the network with `bridge`, until
    /// whoever made the chain makes it again.
    pub fn allow(&self, bridge: &str) -> [String; 2] {
        ["iifname", "oifname"].map(|device| format!("nft insert rule {self} {device} \"{bridge}\" accept"))
    }
}

/// Finds those that drop: by their policy, or by a last rule that is about all packets.
pub fn drops(socket: &Socket) -> io::Result<Vec<ForeignChain>> {
    let mut chains = Vec::new();
    socket.ask(super::chains(), |kind, message| {
        let about = batch::kind_of(kind) == Some(batch::NEWCHAIN);
        chains.extend(read_chain(message).filter(|_| about));
        Ok(())
    })?;
    chains.retain(|chain| chain.hook == Some(table::FORWARD) && chain.table != table::TABLE);
    let mut last = BTreeMap::new();
    if chains.iter().any(|chain| chain.policy != Some(DROP)) {
        socket.ask(batch::message(batch::GETRULE, DUMP, 0), |kind, message| {
            if batch::kind_of(kind) == Some(batch::NEWRULE)
                && let Some((chain, drops)) = read_rule(message)
            {
                last.insert(chain, drops);
            }
            Ok(())
        })?;
    }
    let drops = |chain: &Chain| {
        let key = (chain.family, chain.table.clone(), chain.name.clone());
        chain.policy == Some(DROP) || last.get(&key) == Some(&true)
    };
    let found = chains.iter().filter(|chain| drops(chain)).filter_map(|chain| {
        let family = match chain.family {
            NFPROTO_INET => "inet",
            NFPROTO_IPV4 => "ip",
            NFPROTO_IPV6 => "ip6",
            // Those of bridges and devices are about something else.
            _ => return None,
        };
        Some(ForeignChain { family, table: chain.table.clone(), chain: chain.name.clone() })
    });
    Ok(found.collect())
}

/// Of which chain (family, table, name) a rule is, and whether it drops or rejects all that comes to it.
fn read_rule(message: &[u8]) -> Option<((u8, String, String), bool)> {
    let find = |kind| attribute(message, kind);
    let chain = (*message.first()?, text(find(batch::NFTA_RULE_TABLE)?), text(find(batch::NFTA_RULE_CHAIN)?));
    let expressions = find(batch::NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    let mut drops = false;
    for (_, expression) in attributes(expressions) {
        let part = |wanted| attributes(expression).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        // NFTA_EXPR_NAME, NFTA_EXPR_DATA.
        match part(1).map(text).as_deref() {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            Some("immediate") => drops = part(2).and_then(verdict) == Some(DROP),
            _ => return Some((chain, false)),
        }
    }
    Some((chain, drops))
}

/// The verdict that an `immediate` gives: NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE.
fn verdict(immediate: &[u8]) -> Option<u32> {
    let find = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    number(find(find(find(immediate, 2)?, 2)?, 1)?)
}
