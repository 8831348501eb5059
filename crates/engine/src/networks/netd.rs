//! netd: started where there is none, told everything, and started again when it has gone. It holds published ports, and serves those that
//! packet filters do not.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use network::netd::{Client, Hangup, Serving};
use network::{policy, relay};

use super::lookup::{PROGRAM, failed};
use super::{Endpoint, Networks, Places, join, ports};
use crate::containers::files;
use crate::containers::record::Record as Container;
use crate::error::{Error, Result};

/// A netd that has lived for less than this is not started again at once, if it is the second.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// For how long the kernel may close the sockets of a netd that was killed.
const CLOSING: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Before one is started again that could not be.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether what containers answer to netd is delivered, and who sees to it that it stays so.
#[derive(Debug)]
pub(super) struct Answers {
    delivered: bool,
    watched: bool,
    /// Those whose it is.
    networks: Weak<Networks>,
}

impl Answers {
    pub(super) fn new(networks: Weak<Networks>) -> Self {
        Self { delivered: false, watched: false, networks }
    }
}

fn undelivered(error: std::io::Error) -> Error {
    Error::system("cannot have containers' answers delivered to netd").with_source(error)
}

impl Networks {
    /// Sees to it that there is a netd, and that it knows all that it should: those who run have their names and ports there.
    pub(super) fn start_netd(&self, names: &mut super::NamesGuard<'_>) -> Result<()> {
        if names.client.is_some() {
            return Ok(());
        }
        let told = self.start_and_tell(names);
        if told.is_err() {
            // Whoever waits for its end tries again.
            names.client = None;
        }
        told
    }

    fn start_and_tell(&self, names: &mut super::NamesGuard<'_>) -> Result<()> {
        let mut client = Client::connect_or_start(&names.path, PROGRAM).map_err(failed)?;
        let found = client.list().map_err(failed)?;
        names.number += 1;
        let hangup = client.hangup().map_err(|e| Error::system("cannot watch netd").with_source(e))?;
        names.client = Some(client);
        names.served.clear();
        names.relayed.clear();
        watch(names.networks.clone(), hangup, (names.number, names.hasty))?;
        let ids: Vec<String> = self.state().keys().cloned().collect();
        for id in ids {
            self.tell_names(names, &id)?;
        }
        self.tell_internal(names)?;
        // Before others are held: these may be in their way.
        self.close_surplus(names, &found)?;
        self.tell_ports(names, &found)?;
        for (container, pid, places) in self.running() {
            // One of them keeps no others from what they need.
            if let Err(error) = self.tell_container(names, &found, &container, pid, &places) {
                tracing::warn!(id = container.id, error = %error.chain(), "netd does not know a container");
            }
        }
        self.forget_others(names, &found)
    }

    /// The containers that run, with what they have on networks, as far as is known.
    fn running(&self) -> Vec<(Arc<Container>, i32, Places)> {
        let all = self.index.all();
        let on = |handle: &Arc<crate::containers::index::Handle>| {
            let record = handle.record();
            let pid = record.life.pid().filter(|pid| *pid > 0)?;
            let state = self.state();
            let endpoints: Vec<Endpoint> =
                state.values().filter_map(|live| live.endpoints.get(&record.id).cloned()).collect();
            drop(state);
            Some((record, pid, Places { endpoints, published: Vec::new() }))
        };
        all.iter().filter_map(on).collect()
    }

    /// Tells of a container that runs, if netd does not know it.
    fn tell_container(
        &self,
        names: &mut super::NamesGuard<'_>,
        found: &Serving,
        container: &Container,
        pid: i32,
        places: &Places,
    ) -> Result<()> {
        let known = found.containers.iter().any(|served| served.id == container.id);
        // One that has left the last network with names while no daemon was there to say so. The places of another may not be known yet.
        let left =
            known && container.attachments.iter().all(|attachment| !self.names_at(&attachment.network));
        if (left || self.has_names(places)) && !names.served.contains(&container.id) {
            let upstreams = files::name_servers(&self.completed(container));
            if known {
                let wanted = self.described(container, places, &upstreams);
                names.say(|client| client.serve(&wanted, None))?;
                names.served.insert(container.id.clone());
            } else {
                self.serve_names_with(names, container, &join::namespace_of(pid)?, places, &upstreams)?;
            }
        }
        self.until(names, &container.id, pid)
    }

    /// Has netd forget a container by itself when its first process ends.
    pub(super) fn until(&self, names: &mut super::NamesGuard<'_>, id: &str, pid: i32) -> Result<()> {
        if !names.served.contains(id) && !names.relayed.contains(id) {
            return Ok(());
        }
        // One that has ended already is forgotten when its end is told.
        let Ok(pidfd) = sys::process::pidfd(pid) else { return Ok(()) };
        names.say(|client| client.until(id, pidfd.as_fd())).map(drop)
    }

    /// Containers of internal networks do not get to others by way of netd.
    fn tell_internal(&self, names: &mut super::NamesGuard<'_>) -> Result<()> {
        let (subnets, devices, own) = {
            let state = self.state();
            let records = || state.values().map(|live| &live.record).filter(|record| record.internal);
            let subnets: Vec<_> =
                records().flat_map(|record| record.pools.iter().map(|pool| pool.subnet)).collect();
            let devices: Vec<String> =
                records().filter(|record| record.is_bridge()).map(|record| record.device()).collect();
            let own: Vec<_> =
                state.values().flat_map(|live| live.record.pools.iter().map(|p| p.subnet)).collect();
            (subnets, devices, own)
        };
        names.say(|client| client.refuse(&subnets, &devices, &own)).map(drop)
    }

    /// An internal network is there, or is no more.
    pub(super) fn internal_changed(&self) -> Result<()> {
        self.tell_internal(&mut self.names())
    }

    /// Has a netd that was found close the ports that are not published: those that a daemon took back which was killed before it said so.
    fn close_surplus(&self, names: &mut super::NamesGuard<'_>, found: &Serving) -> Result<()> {
        let running = self.running();
        for relayed in &found.ports {
            let surplus = match self.outlets().get(&relayed.id) {
                Some(outlet) => surplus(&relayed.ports, outlet.relays.iter().map(|(port, _)| port)),
                None if running.iter().any(|(container, ..)| container.id == relayed.id) => {
                    relayed.ports.clone()
                }
                // It is forgotten if it has ended; or else its supervisor has not answered yet, and its ports are not known.
                None => continue,
            };
            names.say(|client| client.close_ports(&relayed.id, &surplus))?;
        }
        Ok(())
    }

    /// Has a netd that was found, or is new, hold and serve all published ports.
    fn tell_ports(&self, names: &mut super::NamesGuard<'_>, found: &Serving) -> Result<()> {
        let ids: Vec<String> = self.outlets().keys().cloned().collect();
        let until = Instant::now() + CLOSING;
        for id in ids {
            let there = found.ports.iter().find(|relayed| relayed.id == id);
            let there = there.map(|relayed| relayed.ports.as_slice()).unwrap_or_default();
            if let Err(error) = self.tell_ports_of(names, &id, there, until) {
                tracing::warn!(id, error = %error.chain(), "netd does not hold all ports of a container");
            }
        }
        Ok(())
    }

    /// The same for one container, of whose ports these are there. Those that cannot be had are tried again for a time.
    pub(super) fn tell_ports_of(
        &self,
        names: &mut super::NamesGuard<'_>,
        id: &str,
        there: &[relay::Port],
        until: Instant,
    ) -> Result<()> {
        let mut new: Vec<(relay::Port, OwnedFd)> = Vec::new();
        let mut other = Vec::new();
        let mut lost = Ok(());
        if let Some(outlet) = self.outlets().get(id) {
            for (port, socket) in &outlet.relays {
                match there.iter().find(|there| there.is_at(port)) {
                    Some(there) => other.extend((there != port).then(|| port.clone())),
                    None => match again(port, socket.as_ref(), until) {
                        Ok(socket) => new.push((port.clone(), socket)),
                        // The others are no worse for it.
                        Err(error) => lost = Err(error),
                    },
                }
            }
        }
        let new: Vec<(relay::Port, BorrowedFd<'_>)> =
            new.iter().map(|(port, socket)| (port.clone(), socket.as_fd())).collect();
        names.say(|client| {
            client.change_ports(id, &other)?;
            client.ports(id, &new, false)
        })?;
        names.relayed.insert(id.to_owned());
        lost
    }

    /// Has netd forget what a daemon told it that did not live to see the container start.
    fn forget_others(&self, names: &mut super::NamesGuard<'_>, found: &Serving) -> Result<()> {
        let ids = found.containers.iter().map(|served| &served.id);
        for id in ids.chain(found.ports.iter().map(|relayed| &relayed.id)) {
            let alive = self.index.find(id).is_ok_and(|handle| handle.record().life.pid().is_some());
            if !alive && !names.served.contains(id) && !names.relayed.contains(id) {
                names.say(|client| client.forget(id))?;
            }
        }
        Ok(())
    }

    /// Has netd hold the ports of a container that is about to start, and serve those that it is to serve. They are held by the daemon
    /// already.
    pub(super) fn hand_over(&self, container: &str) -> Result<()> {
        if self.outlets().get(container).is_none_or(|outlet| outlet.relays.is_empty()) {
            return Ok(());
        }
        let mut names = self.names();
        self.start_netd(&mut names)?;
        if names.relayed.contains(container) {
            // It has just been started, and told.
            return Ok(());
        }
        // What it had in another run is not this one's.
        names.say(|client| client.ports(container, &[], true))?;
        self.tell_ports_of(&mut names, container, &[], Instant::now())
    }

    /// Has netd close the ports of a container that does not run any more.
    pub(super) fn close_ports(&self, container: &str) {
        let mut names = self.names();
        if !names.relayed.remove(container) {
            return;
        }
        names.served.remove(container);
        if let Err(error) = names.say(|client| client.forget(container)) {
            tracing::warn!(container, error = %error.chain(), "netd does not close a container's ports");
        }
    }

    /// Once all containers are found that run: netd is told of them, and forgets others; blocks.
    pub(crate) fn settle(&self) {
        if let Err(error) = self.deliver_answers() {
            tracing::error!(error = %error.chain(), "clients from outside may have no answers");
        }
        // Of a daemon that left what is to be published to the host's rules.
        if !self.speaks_for_clients()
            && let Err(error) = policy::deliver_no_more()
        {
            tracing::warn!(%error, "rules of routing may be left that nobody needs");
        }
        let mut names = self.names();
        if (self.needs_netd() || names.path.exists())
            && let Err(error) = self.start_netd(&mut names)
        {
            tracing::error!(error = %error.chain(), "names and ports are not served");
        }
    }

    fn needs_netd(&self) -> bool {
        !self.outlets().is_empty() || self.running().iter().any(|(_, _, places)| self.has_names(places))
    }

    /// netd of that number has gone: whoever needs it has another at once.
    fn netd_gone(&self, number: u64, hasty: bool) -> bool {
        let mut names = self.names();
        if names.number != number {
            return true;
        }
        names.client = None;
        names.hasty = hasty;
        if !self.needs_netd() {
            return true;
        }
        tracing::warn!("netd has gone: another is started");
        match self.start_netd(&mut names) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(error = %error.chain(), "names and ports are not served");
                // It may have begun.
                names.number != number
            }
        }
    }

    /// Sees to it that what containers answer to netd is delivered to it, where it speaks by clients' addresses.
    pub(super) fn deliver_answers(&self) -> Result<()> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.delivered || !self.speaks_for_clients() {
            return Ok(());
        }
        if !answers.watched {
            let watch = policy::Watch::open().map_err(undelivered)?;
            guard(watch, answers.networks.clone()).map_err(undelivered)?;
            answers.watched = true;
        }
        policy::deliver().map_err(undelivered)?;
        answers.delivered = true;
        Ok(())
    }

    /// The same no more, once nobody needs it.
    pub(super) fn deliver_no_more(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if !answers.delivered || self.speaks_for_clients() {
            return;
        }
        answers.delivered = false;
        if let Err(error) = policy::deliver_no_more() {
            tracing::warn!(%error, "rules of routing are left that nobody needs");
        }
    }

    /// Puts it back if somebody has taken it away.
    fn deliver_again(&self) {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if !answers.delivered {
            return;
        }
        tracing::warn!("somebody else changed our rules of routing: they are put back");
        if let Err(error) = policy::deliver() {
            tracing::error!(%error, "cannot put rules of routing back");
        }
    }

    fn speaks_for_clients(&self) -> bool {
        self.outlets().values().flat_map(|outlet| &outlet.relays).any(|(port, _)| port.as_client)
    }
}

/// Those of the ports that are `there` which nobody wants.
fn surplus<'a>(
    there: &[relay::Port],
    wanted: impl Iterator<Item = &'a relay::Port> + Clone,
) -> Vec<relay::Port> {
    there.iter().filter(|port| !wanted.clone().any(|wanted| wanted.is_at(port))).cloned().collect()
}

/// What holds a port, for another netd: the socket that is there, or where only netd had one, one more.
pub(super) fn again(port: &relay::Port, socket: Option<&OwnedFd>, until: Instant) -> Result<OwnedFd> {
    if let Some(socket) = socket {
        return socket.try_clone().map_err(|e| Error::system("cannot hand a port to netd").with_source(e));
    }
    loop {
        match ports::hold_again(port) {
            // One that was killed is heard of before all of its sockets are closed.
            Err(_) if Instant::now() < until => thread::sleep(LOOK_AGAIN),
            other => return other,
        }
    }
}

/// Waits for netd's end, in a thread that ends with it. `hasty` says that the one before had not lived for long.
fn watch(networks: Weak<Networks>, hangup: Hangup, (number, hasty): (u64, bool)) -> Result<()> {
    let started = Instant::now();
    let wait = move || {
        if let Err(error) = hangup.wait() {
            tracing::error!(%error, "cannot hear of netd's end");
            return;
        }
        let short = started.elapsed() < SHORT_LIFE;
        if short && hasty {
            thread::sleep(PAUSE);
        }
        while let Some(networks) = networks.upgrade() {
            if networks.netd_gone(number, short) {
                return;
            }
            drop(networks);
            thread::sleep(PAUSE);
        }
    };
    let spawned = thread::Builder::new().name("netd".into()).spawn(wait);
    spawned.map(drop).map_err(|e| Error::system("cannot watch netd").with_source(e))
}

/// Puts rules of routing back whenever somebody takes them away; in a thread that only ever listens.
fn guard(watch: policy::Watch, networks: Weak<Networks>) -> std::io::Result<()> {
    let listen = move || {
        loop {
            if let Err(error) = watch.next() {
                tracing::error!(%error, "cannot hear of changes of rules of routing any more");
                return;
            }
            let Some(networks) = networks.upgrade() else { return };
            networks.deliver_again();
        }
    };
    thread::Builder::new().name("rules of routing".into()).spawn(listen).map(drop)
}
