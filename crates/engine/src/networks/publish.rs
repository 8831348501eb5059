//! Publishing ports, and telling the packet filters.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use network::firewall::{Network, Port};
use network::ports::Wish;

use super::filter::{self, Filter};
use super::join::Places;
use super::live::Endpoint;
use super::ports::{self, Published};
use super::record::Record;
use super::{Networks, Outlet};
use crate::error::Result;

impl Networks {
    fn filter_state(&self) -> MutexGuard<'_, Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlets(&self) -> MutexGuard<'_, BTreeMap<String, Outlet>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that there are packet filters: from the first container on a network on.
    pub(super) fn filter(&self) -> Result<()> {
        let mut filter = self.filter_state();
        if filter.is_told() { Ok(()) } else { self.tell_all(&mut filter) }
    }

    /// Tells everything again, if anything was told before.
    pub(crate) fn filter_again(&self) -> Result<()> {
        let mut filter = self.filter_state();
        if filter.is_told() { self.tell_all(&mut filter) } else { Ok(()) }
    }

    fn tell_all(&self, filter: &mut Filter) -> Result<()> {
        let networks: Vec<Network> =
            self.state().values().map(|live| filter::network(&live.record)).collect();
        let ports: Vec<Port> = self.outlets().values().flat_map(|outlet| outlet.rules.clone()).collect();
        filter.tell(networks, ports)
    }

    /// Tells of a network that is new.
    pub(super) fn filter_network(&self, record: &Record) -> Result<()> {
        let mut filter = self.filter_state();
        if !filter.is_told() {
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

    /// Finds ports of the host for a container, and has them lead to it.
    pub(super) fn publish(
        &self,
        container: &str,
        wishes: &[Wish],
        endpoint: &Endpoint,
    ) -> Result<Vec<Published>> {
        let (published, held) = ports::hold(wishes, endpoint)?;
        let rules = ports::rules(&published, endpoint);
        let mut filter = self.filter_state();
        self.outlets().insert(container.to_owned(), Outlet { rules: rules.clone(), _held: held });
        let told = match filter.change(|firewall| firewall.publish(&rules)) {
            Ok(false) => self.tell_all(&mut filter),
            other => other.map(drop),
        };
        if let Err(error) = told {
            self.outlets().remove(container);
            return Err(error);
        }
        // What was asked at this port before goes on to whoever answered then, unless it is forgotten.
        filter.redirect(&rules);
        Ok(published)
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
        let reached = |endpoint: &&Endpoint| {
            places.published.iter().any(|port| endpoint.address(port.address.is_ipv6()).is_some())
        };
        let state = self.state();
        let open =
            |endpoint: &&Endpoint| state.get(&endpoint.network).is_some_and(|live| !live.record.internal);
        if let Some(endpoint) = places.endpoints.iter().filter(open).find(reached) {
            let rules = ports::rules(&places.published, endpoint);
            let held = ports::hold_again(&places.published);
            self.outlets().insert(container.to_owned(), Outlet { rules, _held: held });
        }
    }
}
