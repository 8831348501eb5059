//! Changing which ports lead to a container that runs.

use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use network::firewall::Port;
use network::ports::Wish;
use network::relay;

use super::live::Endpoint;
use super::ports::{self, Published, Refused};
use super::{Attachment, Networks, Outlet, Places};
use crate::error::{Error, Result};

/// For how long netd may have a socket that it was told to close: who serves it ends a little later.
const LETTING_GO: Duration = Duration::from_millis(200);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Ports that are held for a container, and lead nowhere yet.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// What the container is to have from now on.
    pub published: Vec<Published>,
    container: String,
    /// Its first process.
    pid: i32,
    gone: Vec<Published>,
    moved: Vec<Moved>,
    added: Vec<(Published, Option<OwnedFd>)>,
    /// Whether those that are to go were let go for those to come.
    let_go: bool,
}

/// A port that stays the host's, and leads elsewhere.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) from: Published,
    pub(super) to: Published,
}

/// What becomes of the ports that there are.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) gone: Vec<Published>,
    pub(super) moved: Vec<Moved>,
}

impl Networks {
    /// Finds and holds what a container wishes beside what it has. Nothing leads anywhere else before [`Networks::switch`]; it is all as
    /// it was after [`Networks::give_up`], and if this fails.
    pub(crate) fn reserve(
        &self,
        container: (&str, i32),
        attachments: &[Attachment],
        places: &Places,
        gone: Vec<Published>,
        wishes: &[Wish],
    ) -> Result<Reserved> {
        let endpoint = self.entry(attachments, &places.endpoints);
        self.reserve_at(container, endpoint, &places.published, Turn { gone, moved: Vec::new() }, wishes)
    }

    /// What a container has on the network that ports lead to it by.
    pub(super) fn entry<'a>(
        &self,
        attachments: &[Attachment],
        endpoints: &'a [Endpoint],
    ) -> Option<&'a Endpoint> {
        let network = self.way_in(attachments).and_then(|at| attachments.get(at)).map(|a| &a.network);
        endpoints.iter().find(|endpoint| Some(&endpoint.network) == network)
    }

    /// The same, of ports that lead to `endpoint`; if there is none, only what is to go is of account.
    pub(super) fn reserve_at(
        &self,
        (container, pid): (&str, i32),
        endpoint: Option<&Endpoint>,
        published: &[Published],
        turn: Turn,
        wishes: &[Wish],
    ) -> Result<Reserved> {
        let Turn { gone, moved } = turn;
        let kept = published.iter().filter(|port| !gone.contains(port));
        let kept =
            kept.map(|port| moved.iter().find(|moved| moved.from == *port).map_or(port, |moved| &moved.to));
        let mut reserved = Reserved {
            published: kept.cloned().collect(),
            container: container.to_owned(),
            pid,
            gone,
            moved,
            added: Vec::new(),
            let_go: false,
        };
        let Some(endpoint) = endpoint else { return Ok(reserved) };
        let mut found = self.hold_ports(wishes, endpoint);
        if matches!(found, Err(Refused::Port(_))) && !reserved.gone.is_empty() {
            // It may be its own that is in the way.
            self.let_go(container, &reserved.gone);
            reserved.let_go = true;
            let until = Instant::now() + LETTING_GO;
            found = self.hold_ports(wishes, endpoint);
            while matches!(found, Err(Refused::Port(_))) && Instant::now() < until {
                thread::sleep(LOOK_AGAIN);
                found = self.hold_ports(wishes, endpoint);
            }
        }
        match found {
            Ok(added) => {
                reserved.published.extend(added.iter().map(|(port, _)| port.clone()));
                reserved.added = added;
                Ok(reserved)
            }
            Err(refused) => {
                self.give_up(reserved);
                Err(self.cannot_publish(container, endpoint, refused))
            }
        }
    }

    /// Lets go what was reserved.
    pub(crate) fn give_up(&self, reserved: Reserved) {
        let Reserved { container, pid, added, gone, let_go, .. } = reserved;
        drop(added);
        if !let_go {
            return;
        }
        let there = self.outlet(&container, |outlet| relays(outlet));
        let until = Instant::now() + LETTING_GO;
        let again = gone.iter().filter_map(|port| port.relay(self.how())).filter_map(|relay| {
            let held = super::netd::again(&relay, None, until);
            let held =
                held.inspect_err(|error| tracing::warn!(container, error = %error.chain(), "a port is lost"));
            held.ok().map(|socket| (relay, Some(socket)))
        });
        let again: Vec<_> = again.collect();
        self.outlet(&container, |outlet| outlet.relays.extend(again));
        if let Err(error) = self.tell_change((&container, pid), &there, &[]) {
            tracing::warn!(container, error = %error.chain(), "netd does not hold all ports of a container");
        }
    }

    /// Has those ports lead to the container that were reserved, and no others.
    pub(crate) fn switch(&self, mut reserved: Reserved) -> Result<()> {
        if reserved.gone.is_empty() && reserved.moved.is_empty() && reserved.added.is_empty() {
            return Ok(());
        }
        let container = reserved.container.clone();
        let (from, to): (Vec<_>, Vec<_>) =
            reserved.moved.iter().map(|moved| (moved.from.clone(), moved.to.clone())).unzip();
        let turned: Vec<relay::Port> = to.iter().filter_map(|port| port.relay(self.how())).collect();
        let added: Vec<Published> = reserved.added.iter().map(|(port, _)| port.clone()).chain(to).collect();
        let gone: Vec<Published> = reserved.gone.iter().cloned().chain(from).collect();
        let closed: Vec<relay::Port> =
            reserved.gone.iter().filter_map(|port| port.relay(self.how())).collect();
        let rules = self.rules(&reserved.published);
        let new = std::mem::take(&mut reserved.added).into_iter();
        let new: Vec<_> = new.filter_map(|(port, socket)| Some((port.relay(self.how())?, socket))).collect();
        let opened: Vec<relay::Port> = new.iter().map(|(port, _)| port.clone()).collect();
        let (before, there) = self.outlet(&container, |outlet| {
            let before = std::mem::replace(&mut outlet.rules, rules);
            outlet.relays.retain(|(port, _)| !closed.iter().any(|closed| closed.is_at(port)));
            let there = relays(outlet);
            turn(outlet, &turned);
            outlet.relays.extend(new);
            (before, there)
        });
        let told = self.deliver_answers().and_then(|()| self.filter_change(&added, &gone));
        if let Err(error) = told.and_then(|()| self.tell_change((&container, reserved.pid), &there, &closed))
        {
            let changed = self.outlet(&container, |outlet| {
                outlet.rules = before;
                outlet.relays.retain(|(port, _)| !opened.iter().any(|opened| opened.is_at(port)));
                let changed = relays(outlet);
                turn(outlet, &there);
                changed
            });
            let _ = self.filter_again();
            let _ = self.tell_change((&container, reserved.pid), &changed, &opened);
            reserved.let_go = true;
            self.give_up(reserved);
            return Err(error);
        }
        self.deliver_no_more();
        let mut outlets = self.outlets();
        if outlets.get(&container).is_some_and(|outlet| outlet.rules.is_empty() && outlet.relays.is_empty()) {
            outlets.remove(&container);
        }
        Ok(())
    }

    /// As the packet filters know them, if there are any.
    fn rules(&self, published: &[Published]) -> Vec<Port> {
        if self.how().alone { Vec::new() } else { ports::rules(published) }
    }

    /// Tells the packet filters of a change; the outlets say it already.
    fn filter_change(&self, added: &[Published], gone: &[Published]) -> Result<()> {
        let [added, gone] = [added, gone].map(|list| self.rules(list));
        let mut filter = self.filter_state();
        let changed = match (added.is_empty(), gone.is_empty()) {
            (true, true) => Ok(true),
            (true, false) => filter.change(|firewall| firewall.withdraw(&gone)),
            (false, true) => filter.change(|firewall| firewall.publish(&added)),
            // Nobody is to find a port closed that only leads elsewhere.
            (false, false) => Ok(false),
        };
        match changed {
            Ok(false) => self.tell_all(&mut filter)?,
            other => other.map(drop)?,
        }
        filter.redirect(&added);
        Ok(())
    }

    /// Tells netd of a change: what is in the outlet and not `there` is new, and these are to be closed.
    fn tell_change(
        &self,
        (container, pid): (&str, i32),
        there: &[relay::Port],
        closed: &[relay::Port],
    ) -> Result<()> {
        let mut names = self.names();
        if names.client.is_some() && names.relayed.contains(container) {
            names.say(|client| client.close_ports(container, closed))?;
            self.tell_ports_of(&mut names, container, there, Instant::now())?;
            if self.outlet(container, |outlet| outlet.relays.is_empty()) {
                names.relayed.remove(container);
            }
        } else {
            drop(names);
            self.hand_over(container)?;
            names = self.names();
        }
        self.until(&mut names, container, pid)
    }

    /// Whether a container has a network that ports can be published by.
    pub(crate) fn can_publish(&self, attachments: &[Attachment]) -> bool {
        self.way_in(attachments).is_some()
    }

    fn outlet<T>(&self, container: &str, change: impl FnOnce(&mut Outlet) -> T) -> T {
        change(self.outlets().entry(container.to_owned()).or_default())
    }

    /// Lets go what holds these ports.
    fn let_go(&self, container: &str, gone: &[Published]) {
        let closed: Vec<relay::Port> = gone.iter().filter_map(|port| port.relay(self.how())).collect();
        self.outlet(container, |outlet| {
            outlet.relays.retain(|(port, _)| !closed.iter().any(|closed| closed.is_at(port)));
        });
        let mut names = self.names();
        if let Err(error) = names.say(|client| client.close_ports(container, &closed)) {
            tracing::warn!(container, error = %error.chain(), "netd does not close ports of a container");
        }
    }
}

/// Has the ports of an outlet lead where these do.
fn turn(outlet: &mut Outlet, to: &[relay::Port]) {
    for (port, _) in &mut outlet.relays {
        if let Some(to) = to.iter().find(|to| to.is_at(port)) {
            port.clone_from(to);
        }
    }
}

/// What netd knows of an outlet.
fn relays(outlet: &Outlet) -> Vec<relay::Port> {
    outlet.relays.iter().map(|(port, _)| port.clone()).collect()
}

/// Refuses to publish ports of a container that has no network of its own, in words like those of a start.
pub(crate) fn check_mode(mode: &str, wishes: &[Wish]) -> Result<()> {
    if wishes.is_empty() || !(matches!(mode, "host" | "none") || mode.starts_with("container:")) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "conflicting options: port publishing and the container type network mode ({mode})"
    )))
}
