//! Where published ports lead after the networks of a container that runs have changed.

use network::firewall::Protocol;
use network::ports::Wish;

use super::live::Endpoint;
use super::options::GatewayMode;
use super::ports::{self, Published};
use super::republish::{Moved, Reserved, Turn};
use super::{Attachment, Networks};
use crate::error::Result;

impl Networks {
    /// Plans that the ports of a container lead to it by the best of these networks, and holds those that were wished for and could not be had
    /// before. What leads by no network is to go. `before` is what it had on its networks, `after` what it is to have.
    pub(crate) fn relead(
        &self,
        container: (&str, i32),
        attachments: &[Attachment],
        (before, after): (&[Endpoint], &[Endpoint]),
        published: &[Published],
        wishes: &[Wish],
    ) -> Result<Reserved> {
        let Some(endpoint) = self.entry(attachments, after) else {
            let turn = Turn { gone: published.to_vec(), moved: Vec::new() };
            return self.reserve_at(container, None, published, turn, &[]);
        };
        let (mut turn, mut wanted) = (Turn::default(), Vec::new());
        for (wish, own) in shared_out(published, wishes) {
            let moved: Option<Vec<Moved>> =
                own.iter().map(|port| self.turned(port, wish, before, endpoint)).collect();
            match moved {
                Some(moved) if !own.is_empty() => turn.moved.extend(moved),
                _ => {
                    // One that was found keeps its number.
                    let number = own.iter().map(|port| port.host).find(|number| *number != 0);
                    let host = number.map(|number| number..=number).or(wish.host.clone());
                    wanted.push(Wish { host, ..wish.clone() });
                    turn.gone.extend(own.into_iter().cloned());
                }
            }
        }
        // Of two wishes that have a port, one may have lost others.
        turn.moved.retain(|moved| moved.from != moved.to && !turn.gone.contains(&moved.from));
        let nobodys = published.iter().filter(|port| !wishes.iter().any(|wish| is_of(port, wish)));
        turn.gone.extend(nobodys.cloned());
        self.reserve_at(container, Some(endpoint), published, turn, &wanted)
    }

    /// A port as it leads to `endpoint`, if that network has it at the same places of the host as the one that it led by.
    fn turned(
        &self,
        port: &Published,
        wish: &Wish,
        before: &[Endpoint],
        endpoint: &Endpoint,
    ) -> Option<Moved> {
        let leads_to = |endpoint: &Endpoint| {
            endpoint.addresses.iter().any(|net| port.to.is_some_and(|to| to == net.addr()))
        };
        if leads_to(endpoint) {
            return Some(Moved { from: port.clone(), to: port.clone() });
        }
        let old = before.iter().find(|endpoint| leads_to(endpoint))?;
        let (old, new) = {
            let state = self.state();
            let record = |endpoint: &Endpoint| state.get(&endpoint.network).map(|live| live.record.clone());
            (record(old)?, record(endpoint)?)
        };
        let routed = |v6: bool| {
            new.gateway_mode(v6) == GatewayMode::Routed || old.gateway_mode(v6) == GatewayMode::Routed
        };
        if port.host == 0
            || [false, true].into_iter().any(routed)
            || (wish.address.is_none() && old.binding() != new.binding())
        {
            return None;
        }
        let v6 = port.address.is_ipv6();
        let to = endpoint.address(v6);
        if wish.protocol == Protocol::Sctp && to.is_none() {
            return None;
        }
        let to = to.or_else(|| endpoint.address(!v6))?.addr();
        Some(Moved { from: port.clone(), to: Published { to: Some(to), ..port.clone() } })
    }
}

/// Each wish with the ports that were published for it: those first that leave the least choice.
fn shared_out<'a>(published: &'a [Published], wishes: &'a [Wish]) -> Vec<(&'a Wish, Vec<&'a Published>)> {
    let choice = |wish: &&Wish| {
        (wish.host.as_ref().map_or(usize::MAX, ExactSizeIterator::len), wish.address.is_none())
    };
    let mut wishes: Vec<&Wish> = wishes.iter().collect();
    wishes.sort_by_key(choice);
    let mut free: Vec<&Published> = published.iter().collect();
    let mut all = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let number =
            free.iter().filter(|port| is_of(port, wish)).map(|port| port.host).find(|number| *number != 0);
        let is_own = |port: &&Published| is_of(port, wish) && (port.host == 0 || Some(port.host) == number);
        all.push((wish, free.iter().copied().filter(is_own).collect()));
        // The container's own addresses are for all who wish for the port.
        free.retain(|port| port.host == 0 || !is_own(port));
    }
    all
}

/// Whether a port was published as this was wished for.
fn is_of(port: &Published, wish: &Wish) -> bool {
    let at = wish.address.is_none_or(|address| address == port.address);
    let number = wish.host.as_ref().is_none_or(|range| range.contains(&port.host));
    ports::protocol(&port.protocol) == Some(wish.protocol)
        && port.container == wish.container
        && (port.host == 0 || (at && number))
}
