//! The names of containers: one table for each network, and what one container sees of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::message;

/// A name, and the addresses that have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// In lower case, without a dot at the end. One that DNS has no room for (labels longer than 63 bytes) is never asked for.
    pub name: String,
    /// In any order: each answer has its own.
    pub addresses: Vec<IpAddr>,
}

/// The names in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its own name: each name is known with it as well (`web.front`), and by look-ups of addresses only so. Empty for none.
    #[serde(default)]
    pub domain: String,
    /// The first that has an address is the address's name.
    pub names: Vec<Name>,
}

/// Names by their text, and addresses by their numbers.
#[derive(Debug, Default)]
pub(super) struct Table {
    domain: Box<str>,
    forward: HashMap<Box<str>, Box<[IpAddr]>>,
    reverse: HashMap<IpAddr, Box<str>>,
}

impl Table {
    pub(super) fn new(domain: &str, names: &[Name]) -> Self {
        let mut forward: HashMap<Box<str>, Vec<IpAddr>> = HashMap::with_capacity(names.len());
        let mut reverse = HashMap::new();
        for name in names {
            let text = name.name.to_ascii_lowercase();
            for address in &name.addresses {
                let whole = if domain.is_empty() { text.clone() } else { format!("{text}.{domain}") };
                if message::is_name(&whole) {
                    reverse.entry(address.to_canonical()).or_insert(whole.into());
                }
            }
            let addresses = forward.entry(text.into()).or_default();
            for address in &name.addresses {
                if !addresses.contains(address) {
                    addresses.push(*address);
                }
            }
        }
        let forward = forward.into_iter().map(|(name, addresses)| (name, addresses.into())).collect();
        Self { domain: domain.to_ascii_lowercase().into(), forward, reverse }
    }

    /// The addresses of a name, by itself or with the network's.
    fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        if let Some(found) = self.forward.get(name) {
            return Some(found);
        }
        if self.domain.is_empty() {
            return None;
        }
        let short = name.strip_suffix(&*self.domain)?.strip_suffix('.')?;
        self.forward.get(short).map(|found| &**found)
    }
}

/// What a container sees: its own names before those of its networks, and these in its own order.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) tables: Vec<Rc<Table>>,
}

impl View {
    /// The addresses of a name that fit `wanted`, of the first table that has any; empty if it is known without, `None` if it is not known.
    pub(super) fn addresses<'v>(
        &'v self,
        name: &str,
        wanted: impl Fn(&IpAddr) -> bool,
    ) -> Option<(&'v [IpAddr], usize)> {
        let mut known = None;
        for table in &self.tables {
            let Some(addresses) = table.addresses(name) else { continue };
            let count = addresses.iter().filter(|address| wanted(address)).count();
            if count > 0 {
                return Some((addresses, count));
            }
            known = Some((addresses, 0));
        }
        known
    }

    /// The name of an address.
    pub(super) fn name(&self, address: IpAddr) -> Option<&str> {
        self.tables.iter().find_map(|table| table.reverse.get(&address)).map(|name| &**name)
    }
}
