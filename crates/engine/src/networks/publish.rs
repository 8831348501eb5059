//! Publishing ports, and telling the packet filters.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard, PoisonError};

use network::firewall::{Network, Port};
use network::ports::{Error as Failed, Wish, outside};

use super::filter::{self, Filter};
use super::join::Places;
use super::live::Endpoint;
use super::options::GatewayMode;
use super::ports::{self, How, Published, Refused};
use super::record::Record;
use super::{Networks, Outlet};
use crate::error::{Error, Result};

impl Networks {
    pub(super) fn filter_state(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn outlets(&self) -> MutexGuard<'_, BTreeMap<String, Outlet>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that there are packet filters: from the first container on a network on.
    pub(super) fn filter(&self) -> Result<()> {
        let mut filter = self.filter_state();
        if filter.is_told() {
            return Ok(());
        }
        self.tell_all(&mut filter)
    }

    /// Has firewalld told of our bridges, if it is there or comes.
    pub(super) fn listen_to_firewalld(&self) {
        let networks = self.filter_state().networks();
        self.firewalld.begin(networks);
    }

    /// Tells everything again, if anything was told before.
    pub(crate) fn filter_again(&self) -> Result<()> {
        let mut filter = self.filter_state();
        if filter.is_told() { self.tell_all(&mut filter) } else { Ok(()) }
    }

    pub(super) fn tell_all(&self, filter: &mut Filter) -> Result<()> {
        let networks: Vec<Network> = self
            .state()
            .values()
            .filter(|live| live.record.is_bridge())
            .map(|live| filter::network(&live.record))
            .collect();
        let ports: Vec<Port> = self.outlets().values().flat_map(|outlet| outlet.rules.clone()).collect();
        filter.tell(networks, ports, self.respect)
    }

    /// Tells of a network that is new.
    pub(super) fn filter_network(&self, record: &Record) -> Result<()> {
        let mut filter = self.filter_state();
        if !filter.is_told() || !record.is_bridge() {
            return Ok(());
        }
        let network = filter::network(record);
        // The first with IPv6 asks more of the host.
        let six = network.subnets.iter().any(|subnet| subnet.net.addr().is_ipv6());
        if !six && filter.change(|firewall| firewall.add_network(&network))? {
            return Ok(());
        }
        self.tell_all(&mut filter)
    }

    /// Tells of a network that is no more.
    pub(super) fn unfilter_network(&self, record: &Record) {
        if !record.is_bridge() {
            return;
        }
        let mut filter = self.filter_state();
        let network = filter::network(record);
        let told = match filter.change(|firewall| firewall.remove_network(&network)) {
            Ok(false) if filter.is_told() => self.tell_all(&mut filter),
            other => other.map(drop),
        };
        if let Err(error) = told {
            tracing::warn!(network = record.name, error = %error.chain(), "packet filters of a network are left");
        }
    }

    /// Who serves published ports.
    pub(super) fn how(&self) -> How {
        How { respect: self.respect, alone: self.settings.no_filters || outside::is_used() }
    }

    /// Finds and holds ports of the host, as the network of `endpoint` has them.
    pub(super) fn hold_ports(
        &self,
        wishes: &[Wish],
        endpoint: &Endpoint,
    ) -> Result<Vec<(Published, Option<OwnedFd>)>, Refused> {
        let record = self.state().get(&endpoint.network).map(|live| Arc::clone(&live.record));
        let routed = [false, true]
            .map(|v6| record.as_ref().is_some_and(|r| r.gateway_mode(v6) == GatewayMode::Routed));
        let wishes = ports::bound(wishes, record.and_then(|record| record.binding()));
        ports::hold(&wishes, endpoint, self.how(), routed)
    }

    /// Finds ports of the host for a container, and has them lead to it.
    pub(super) fn publish(
        &self,
        container: &str,
        wishes: &[Wish],
        endpoint: &Endpoint,
    ) -> Result<Vec<Published>> {
        let how = self.how();
        let held = self
            .hold_ports(wishes, endpoint)
            .map_err(|refused| self.cannot_publish(container, endpoint, refused))?;
        let (published, outlet) = Outlet::of(held, how);
        let rules = outlet.rules.clone();
        self.outlets().insert(container.to_owned(), outlet);
        let told = self.deliver_answers().and_then(|()| {
            let mut filter = self.filter_state();
            match filter.change(|firewall| firewall.publish(&rules)) {
                Ok(false) => self.tell_all(&mut filter)?,
                other => other.map(drop)?,
            }
            // What was asked at this port before goes on to whoever answered then, unless it is forgotten.
            filter.redirect(&rules);
            Ok(())
        });
        if let Err(error) = told.and_then(|()| self.hand_over(container)) {
            self.withdraw(container);
            return Err(error);
        }
        Ok(published)
    }

    /// In Docker's words, which differ by whether it is a container that has the port.
    pub(super) fn cannot_publish(&self, container: &str, endpoint: &Endpoint, refused: Refused) -> Error {
        let error = match refused {
            Refused::Invalid(text) => return Error::invalid(text),
            Refused::Port(error) => error,
        };
        let ours = |at: &SocketAddr, name: &str| {
            self.outlets().values().flat_map(|outlet| &outlet.relays).any(|(port, _)| {
                let (one, other) = (port.at.ip(), at.ip());
                let overlap = one == other
                    || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()));
                network::ports::name(port.protocol) == name && port.at.port() == at.port() && overlap
            })
        };
        let text = match &error {
            Failed::InUse(at, name) if ours(at, name) => {
                format!("Bind for {at} failed: port is already allocated")
            }
            other => other.to_string(),
        };
        let name = self.index.find(container).map(|handle| handle.record().name.clone()).unwrap_or_default();
        let text = format!(
            "driver failed programming external connectivity on endpoint {name} ({}): {text}",
            endpoint.id
        );
        match error {
            Failed::Bind(_, _, source) => Error::system(text).with_source(source),
            _ => Error::system(text),
        }
    }

    /// Takes back the ports of a container that runs no more.
    pub(super) fn withdraw(&self, container: &str) {
        let Some(outlet) = self.outlets().remove(container) else { return };
        let mut filter = self.filter_state();
        let told = match filter.change(|firewall| firewall.withdraw(&outlet.rules)) {
            Ok(false) if filter.is_told() => self.tell_all(&mut filter),
            other => other.map(drop),
        };
        if let Err(error) = told {
            tracing::warn!(container, error = %error.chain(), "packet filters of published ports are left");
        }
        drop(filter);
        self.close_ports(container);
        self.deliver_no_more();
    }

    /// Conversations with containers that are gone must not lead to whoever has their addresses next.
    pub(super) fn forget_conversations(&self, gone: &[Endpoint]) {
        let filter = self.filter_state();
        for net in gone.iter().flat_map(|endpoint| &endpoint.addresses) {
            filter.forget(net.addr());
        }
    }

    /// A container was found running that has these ports: they lead to it already, or do again once all is told.
    pub(super) fn adopt_ports(&self, container: &str, places: &Places) {
        let mut published = places.published.clone();
        {
            let state = self.state();
            let open = |endpoint: &&Endpoint| {
                let live = state.get(&endpoint.network);
                live.is_some_and(|live| live.record.leads_out() && live.record.is_bridge())
            };
            if let Some(endpoint) = places.endpoints.iter().find(open) {
                ports::complete(&mut published, endpoint);
            }
        }
        if !published.is_empty() {
            let (_, outlet) = Outlet::of(published.into_iter().map(|port| (port, None)), self.how());
            self.outlets().insert(container.to_owned(), outlet);
        }
    }
}

impl Outlet {
    /// Of what is published, and what holds it.
    fn of(held: impl IntoIterator<Item = (Published, Option<OwnedFd>)>, how: How) -> (Vec<Published>, Self) {
        let (mut published, mut relays) = (Vec::new(), Vec::new());
        for (port, socket) in held {
            relays.extend(port.relay(how).map(|relay| (relay, socket)));
            published.push(port);
        }
        let rules = if how.alone { Vec::new() } else { ports::rules(&published) };
        (published, Self { rules, relays })
    }
}
