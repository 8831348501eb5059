//! What chains of others on this host do to our networks: an `accept` of ours does not overrule them, so people are told.

use std::collections::BTreeMap;
use std::io;

use network::firewall::{Firewall, Foreign, Packet};
use network::ports::Wish;

use super::record::Record;
use super::{Attachment, Networks};

/// Of so many ports it is looked whether they are let through: those beyond are hardly treated otherwise.
const PORTS_MAX: usize = 64;

impl Networks {
    /// The chains of others that what the host passes on comes by.
    pub(super) fn foreign(&self) -> io::Result<Foreign> {
        let filter = self.filter_state();
        match filter.told() {
            Some(firewall) => firewall.foreign(),
            // Nothing is told yet: to look at others no table of ours is needed.
            None => Firewall::open()?.foreign(),
        }
    }

    /// The devices of all networks.
    pub(super) fn bridges(&self) -> Vec<String> {
        self.state()
            .values()
            .filter(|live| live.record.is_bridge())
            .map(|live| live.record.device())
            .collect()
    }

    /// What somebody should know who connects a container so and publishes these ports: which chains of others drop what is sent to it or
    /// what it sends, and how they are told not to.
    pub(crate) fn foreign_warnings(&self, attachments: &[Attachment], wishes: &[Wish]) -> Vec<String> {
        let Some(network) = self.way_in(attachments).and_then(|at| attachments.get(at)) else {
            return Vec::new();
        };
        let record = self.state().get(&network.network).map(|live| std::sync::Arc::clone(&live.record));
        let Some(record) = record else { return Vec::new() };
        // What is left to the host's own rules ends at netd, and is not passed on.
        let how = self.how();
        let wishes = if how.respect || how.alone { &[] } else { wishes };
        match self.foreign() {
            Ok(foreign) => warnings(&foreign, &record, &self.bridges(), wishes),
            Err(error) => {
                tracing::warn!(%error, "cannot tell whether chains of others drop what is sent to containers");
                Vec::new()
            }
        }
    }
}

fn warnings(foreign: &Foreign, record: &Record, bridges: &[String], wishes: &[Wish]) -> Vec<String> {
    let device = record.device();
    let mut chains: BTreeMap<String, (bool, bool, String)> = BTreeMap::new();
    for v6 in record.pools.iter().map(|pool| pool.subnet.addr().is_ipv6()) {
        let out =
            Packet { v6, from: Some(&device), to: None, new: true, dnat: false, port: None, ours: bridges };
        let into = Packet { from: None, to: Some(&device), ..out };
        let mut packets = vec![(out, false), (Packet { new: false, ..into }, false)];
        for wish in wishes.iter().take(PORTS_MAX) {
            let port = Some((wish.protocol as u8, wish.container));
            packets.push((Packet { dnat: true, port, ..into }, true));
            packets.push((Packet { new: false, dnat: true, ..out }, true));
        }
        for (packet, published) in packets {
            for chain in foreign.drops(&packet) {
                let commands = chain.allow(&device).join("; ");
                let found =
                    chains.entry(format!("{chain} ({})", chain.why())).or_insert((false, false, commands));
                (found.0, found.1) = (found.0 || published, found.1 || !published);
            }
        }
    }
    let told = chains.into_iter().map(|(chain, (published, out, commands))| {
        let what = match (published, out) {
            (true, true) => "what is sent to published ports of network {} and what its containers send out",
            (true, false) => "what is sent to published ports of network {}",
            (false, _) => "what containers of network {} send out",
        };
        let what = what.replace("{}", &record.name);
        format!("The chain {chain} of this host drops {what}: allow it by {commands}")
    });
    told.collect()
}
