//! The packet filters of all networks: told anew whenever it is not certain what they are.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Weak;
use std::thread;
use std::time::{Duration, Instant};

use network::firewall::{Error as Refused, Firewall, Model, Network, Outward, Port, Subnet, Watch, host};

use super::Networks;
use super::options::GatewayMode;
use super::record::Record;
use crate::config::Config;
use crate::error::{Error, Result};

/// The file that says that this host passed on no packets before we had it do so.
const CLOSED: &str = "forwarding";

/// The packet filters. Nothing is told to the kernel before there is a container on a network.
#[derive(Debug)]
pub(super) struct Filter {
    /// Told, and as far as is known unchanged.
    firewall: Option<Firewall>,
    /// Where it is noted that the host passed on nothing before.
    note: PathBuf,
    /// Those whose packet filters they are.
    networks: Weak<Networks>,
    /// Whether there are to be none.
    none: bool,
    /// Whether the host is not told to pass packets on.
    still: bool,
}

/// A network as the packet filters know it.
pub(super) fn network(record: &Record) -> Network {
    let outward = |v6: bool| match record.host_address(v6) {
        _ if record.internal || !record.masquerades() => Outward::Own,
        _ if record.gateway_mode(v6) == GatewayMode::Routed => Outward::Own,
        Some(address) => Outward::As(address),
        None => Outward::Masquerade,
    };
    let subnet = |pool: &network::ipam::Pool| {
        let v6 = pool.subnet.addr().is_ipv6();
        Subnet { net: pool.subnet, inward: record.gateway_mode(v6).inward(), outward: outward(v6) }
    };
    Network {
        bridge: record.device(),
        subnets: record.pools.iter().map(subnet).collect(),
        internal: record.internal,
        icc: record.lets_speak(),
    }
}

impl Filter {
    pub(super) fn new(config: &Config, networks: Weak<Networks>) -> Self {
        let (none, still) = (config.networks.no_filters, config.networks.no_forward);
        Self { firewall: None, note: config.exec_root.join(CLOSED), networks, none, still }
    }

    /// Whether anything was told.
    pub(super) fn is_told(&self) -> bool {
        self.firewall.is_some()
    }

    /// Those whose packet filters they are.
    pub(super) fn networks(&self) -> Weak<Networks> {
        self.networks.clone()
    }

    /// The conversation with the kernel, if anything was told.
    pub(super) fn told(&self) -> Option<&Firewall> {
        self.firewall.as_ref()
    }

    /// Tells everything, unless there are to be none.
    pub(super) fn tell(&mut self, networks: Vec<Network>, ports: Vec<Port>, respect: bool) -> Result<()> {
        let v6 =
            networks.iter().flat_map(|network| &network.subnets).any(|subnet| subnet.net.addr().is_ipv6());
        let closed = if self.still { false } else { self.pass_on(v6)? };
        if self.none {
            return Ok(());
        }
        let failed = |e| Error::system("cannot open the packet filters").with_source(e);
        let firewall = match self.firewall.take() {
            Some(firewall) => firewall,
            None => {
                let firewall = Firewall::open().map_err(failed)?;
                guard(firewall.watch().map_err(failed)?, self.networks.clone()).map_err(failed)?;
                firewall
            }
        };
        firewall.apply(&Model { networks, ports, closed, respect }).map_err(refused)?;
        self.firewall = Some(firewall);
        Ok(())
    }

    /// Has the host pass packets on, and remembers whether it did before.
    fn pass_on(&self, v6: bool) -> Result<bool> {
        let failed = |e| Error::system("cannot have the host pass packets on").with_source(e);
        let mut closed = host::forward_v4().map_err(failed)?;
        if v6 {
            closed |= host::forward_v6().map_err(failed)?;
        }
        if closed {
            std::fs::write(&self.note, "").map_err(|e| Error::io("write", &self.note, e))?;
        }
        Ok(closed || self.note.exists())
    }

    /// Forgets conversations that lead past these ports.
    pub(super) fn redirect(&self, ports: &[Port]) {
        let result = self.firewall.as_ref().map_or(Ok(()), |firewall| firewall.redirect(ports));
        if let Err(error) = result {
            tracing::warn!(%error, "older conversations may lead past published ports");
        }
    }

    /// Forgets conversations with an address that nobody has any more.
    pub(super) fn forget(&self, address: IpAddr) {
        let result = self.firewall.as_ref().map_or(Ok(()), |firewall| firewall.forget(address));
        if let Err(error) = result {
            tracing::warn!(%error, %address, "conversations with a container that is gone are not forgotten");
        }
    }

    /// Tells of a change; `false` if everything has to be told.
    pub(super) fn change(&self, change: impl FnOnce(&Firewall) -> Result<(), Refused>) -> Result<bool> {
        let Some(firewall) = &self.firewall else { return Ok(false) };
        match change(firewall) {
            Ok(()) => Ok(true),
            Err(Refused::Changed) => Ok(false),
            Err(error) => Err(refused(error)),
        }
    }
}

/// Puts the packet filters back whenever somebody else has changed them (`nft flush ruleset`, a firewall that loads its rules anew). In a
/// thread that hears of it at once, and ends with the process: it only ever listens.
fn guard(watch: Watch, networks: Weak<Networks>) -> io::Result<()> {
    let thread = thread::Builder::new().name("packet filters".into());
    let mut fight = Fight::default();
    thread.spawn(move || {
        loop {
            match watch.next() {
                Ok(change) if change.ours => {
                    match fight.blow(Instant::now()) {
                        Blow::One => tracing::warn!(
                            by = change.process,
                            "somebody else changed our packet filters: they are put back"
                        ),
                        Blow::TooMany { is_news } => {
                            if is_news {
                                tracing::warn!(
                                    by = change.process,
                                    "somebody else changes our packet filters over and over, another engine in this network namespace \
                                     perhaps: they are put back ten times a second, and nothing more is said of it"
                                );
                            }
                            thread::sleep(Fight::PAUSE);
                        }
                    }
                    let Some(networks) = networks.upgrade() else { return };
                    if let Err(error) = networks.filter_again() {
                        tracing::error!(error = %error.chain(), "cannot put the packet filters back");
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot hear of changes of packet filters any more");
                    return;
                }
            }
        }
    })?;
    Ok(())
}

/// Changes of our packet filters by others, one after the other: two who do not agree are not to keep the machine busy.
#[derive(Debug, Default)]
struct Fight {
    blows: VecDeque<Instant>,
    is_told: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Blow {
    One,
    TooMany { is_news: bool },
}

impl Fight {
    /// So many changes in so long a time are too many.
    const MANY: usize = 10;
    const WITHIN: Duration = Duration::from_secs(30);
    const PAUSE: Duration = Duration::from_millis(100);

    fn blow(&mut self, now: Instant) -> Blow {
        while self.blows.front().is_some_and(|first| now.duration_since(*first) > Self::WITHIN) {
            self.blows.pop_front();
        }
        self.blows.push_back(now);
        if self.blows.len() <= Self::MANY {
            self.is_told = false;
            return Blow::One;
        }
        self.blows.pop_front();
        Blow::TooMany { is_news: !std::mem::replace(&mut self.is_told, true) }
    }
}

fn refused(error: Refused) -> Error {
    Error::system("cannot set up the packet filters").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fights_on_is_told_of_once() {
        let (mut fight, start) = (Fight::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..10 {
            assert_eq!(fight.blow(at(second)), Blow::One);
        }
        assert_eq!(fight.blow(at(10)), Blow::TooMany { is_news: true });
        for second in 11..100 {
            assert_eq!(fight.blow(at(second)), Blow::TooMany { is_news: false }, "{second}");
        }
        // Peace, and war.
        assert_eq!(fight.blow(at(200)), Blow::One);
    }
}
