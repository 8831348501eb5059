//! Names of containers: netd answers for them, and is told here who has which.
//!
//! It is started with the first container on a network of somebody's making or with a published port, outlives the daemon, and is adopted
//! by the next. All that it is told can be told again: where it has gone a new one is started, and told everything.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Weak;

use network::dns::{self, Name, Sockets};
use network::firewall::names::lead_names;
use network::namespace::Namespace;
use network::netd::{Client, Error as Failed};

use super::live::Live;
use super::{Networks, Places, join};
use crate::containers::record::Record as Container;
use crate::containers::{files, linked};
use crate::error::{Error, Result};

/// The daemon's own program, which is netd as well.
pub(super) const PROGRAM: &CStr = c"/proc/self/exe";
/// Its socket in the runtime directory.
const SOCKET: &str = "netd.sock";
/// Where name servers are asked.
const PORT: u16 = 53;

/// The conversation with netd, once there is one.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) path: PathBuf,
    pub(super) client: Option<Client>,
    /// How many there have been.
    pub(super) number: u64,
    /// Whether the one before had not lived for long.
    pub(super) hasty: bool,
    /// The containers whose names it looks up for us.
    pub(super) served: BTreeSet<String>,
    /// The containers whose ports it has.
    pub(super) relayed: BTreeSet<String>,
    /// Those who tell it.
    pub(super) networks: Weak<Networks>,
}

impl Names {
    pub(super) fn new(exec_root: &Path, networks: Weak<Networks>) -> Self {
        Self {
            path: exec_root.join(SOCKET),
            client: None,
            number: 0,
            hasty: false,
            served: BTreeSet::new(),
            relayed: BTreeSet::new(),
            networks,
        }
    }

    /// Says something; if netd has gone meanwhile `None`: another is started, and told everything.
    pub(super) fn say<T>(
        &mut self,
        what: impl FnOnce(&mut Client) -> std::result::Result<T, Failed>,
    ) -> Result<Option<T>> {
        let Some(client) = &mut self.client else { return Ok(None) };
        match what(client) {
            Ok(said) => Ok(Some(said)),
            Err(error @ (Failed::Broken(_) | Failed::Unexpected)) => {
                tracing::debug!(%error, "netd does not answer");
                self.client = None;
                self.served.clear();
                self.relayed.clear();
                Ok(None)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

pub(super) fn failed(error: Failed) -> Error {
    Error::system("cannot tell netd of a container's names and ports").with_source(error)
}

/// The names of one container on one network: its own, its aliases, and its short id.
fn names_of(container: &Container, addresses: &[IpAddr], aliases: &[String]) -> Vec<Name> {
    let all = std::iter::once(container.name.as_str())
        .chain(aliases.iter().map(String::as_str))
        .chain([container.short_id(), container.hostname()]);
    let mut names: Vec<Name> = Vec::new();
    for name in all {
        let name = name.to_lowercase();
        if !names.iter().any(|known| known.name == name) {
            names.push(Name { name, addresses: addresses.to_vec() });
        }
    }
    names
}

impl Networks {
    /// Whether a container that is on these networks has names looked up by netd: on the default network there are none.
    pub(crate) fn has_names(&self, places: &Places) -> bool {
        places.endpoints.iter().any(|endpoint| self.names_at(&endpoint.network))
    }

    /// Whether netd looks up names of a network.
    pub(super) fn names_at(&self, network: &str) -> bool {
        self.state().get(network).is_some_and(|live| !live.record.is_default())
    }

    /// Has netd serve a container that is about to start; blocks. `upstreams` are asked for what is not a container's name.
    pub(crate) fn serve_names(
        &self,
        container: &Container,
        namespace: &Namespace,
        places: &Places,
        upstreams: &[IpAddr],
    ) -> Result<()> {
        if !self.has_names(places) {
            return Ok(());
        }
        let mut names = self.names();
        self.start_netd(&mut names)?;
        self.serve_names_with(&mut names, container, namespace, places, upstreams)
    }

    /// The same, of a container that has names, to a netd that is there.
    pub(super) fn serve_names_with(
        &self,
        names: &mut super::NamesGuard<'_>,
        container: &Container,
        namespace: &Namespace,
        places: &Places,
        upstreams: &[IpAddr],
    ) -> Result<()> {
        let opened = namespace.run(|| {
            let sockets = Sockets::open()?;
            lead_names(sockets.ports()?).map_err(std::io::Error::other)?;
            Ok(sockets)
        });
        let sockets = opened
            .map_err(|e| Error::system("cannot open the sockets for a container's names").with_source(e))?;
        let wanted = self.described(container, places, upstreams);
        if names.say(|client| client.serve(&wanted, Some(&sockets)))?.is_some() {
            names.served.insert(container.id.clone());
        }
        Ok(())
    }

    pub(super) fn described(
        &self,
        container: &Container,
        places: &Places,
        upstreams: &[IpAddr],
    ) -> dns::Container {
        let state = self.state();
        let named = |live: &&Live| !live.record.is_default();
        let lives = || places.endpoints.iter().filter_map(|e| state.get(&e.network));
        dns::Container {
            id: container.id.clone(),
            networks: lives().filter(named).map(|live| live.record.id.clone()).collect(),
            own: self.linked(container, places, &state),
            outside: lives().any(|live| live.record.leads_out()),
            upstreams: upstreams.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect(),
        }
    }

    /// The names that a container alone knows: other names of those on its networks.
    fn linked(
        &self,
        container: &Container,
        places: &Places,
        state: &std::collections::BTreeMap<String, Live>,
    ) -> Vec<Name> {
        let mut all = Vec::new();
        for attachment in &container.attachments {
            let on = places.endpoints.iter().any(|endpoint| endpoint.network == attachment.network);
            let Some(live) = state.get(&attachment.network).filter(|_| on) else { continue };
            for (name, alias) in attachment.settings.links.iter().filter_map(|text| linked::parse(text).ok())
            {
                let name = name.to_lowercase();
                let known = self.names_on(live).into_iter().find(|known| known.name == name);
                if let Some(known) = known {
                    merge(&mut all, vec![Name { name: alias.to_lowercase(), ..known }]);
                }
            }
        }
        all
    }

    /// Has netd forget a container by itself when its first process ends; blocks. If netd has gone since it was told of the container,
    /// it is told again.
    pub(crate) fn names_until(&self, container: &Container, pid: i32, places: &Places) -> Result<()> {
        let mut names = self.names();
        if self.has_names(places) && !names.served.contains(&container.id) {
            self.start_netd(&mut names)?;
            if !names.served.contains(&container.id) {
                let namespace = join::namespace_of(pid)?;
                let upstreams = files::name_servers(&self.completed(container));
                self.serve_names_with(&mut names, container, &namespace, places, &upstreams)?;
            }
        }
        self.until(&mut names, &container.id, pid)
    }

    /// Tells netd what names a network has now.
    pub(super) fn tell_names(&self, names: &mut super::NamesGuard<'_>, network: &str) -> Result<()> {
        let Some(table) = self.table(network) else { return Ok(()) };
        names.say(|client| client.set_names(&table))?;
        for (container, wanted) in self.linking(network) {
            if names.served.contains(&container) {
                names.say(|client| client.serve(&wanted, None))?;
            }
        }
        Ok(())
    }

    /// Containers on a network that have links there, as netd is to know them.
    fn linking(&self, network: &str) -> Vec<(String, dns::Container)> {
        let on: Vec<String> = {
            let state = self.state();
            state.get(network).map(|live| live.endpoints.keys().cloned().collect()).unwrap_or_default()
        };
        let mut all = Vec::new();
        for id in on {
            let Ok(handle) = self.index.find(&id) else { continue };
            let container = handle.record();
            if container.attachments.iter().all(|attachment| attachment.settings.links.is_empty()) {
                continue;
            }
            let places = self.places_of(&container);
            let upstreams = files::name_servers(&self.completed(&container));
            all.push((id, self.described(&container, &places, &upstreams)));
        }
        all
    }

    /// What a container has on its networks now, by what these know.
    fn places_of(&self, container: &Container) -> Places {
        let state = self.state();
        let live = container.attachments.iter().filter_map(|attachment| state.get(&attachment.network));
        let endpoints = live.filter_map(|live| live.endpoints.get(&container.id).cloned()).collect();
        Places { endpoints, ..Places::default() }
    }

    fn table(&self, network: &str) -> Option<dns::Network> {
        let state = self.state();
        let live = state.get(network).filter(|live| !live.record.is_default())?;
        let names = self.names_on(live);
        Some(dns::Network { id: network.to_owned(), domain: live.record.name.clone(), names })
    }

    /// The names that a network has.
    fn names_on(&self, live: &Live) -> Vec<Name> {
        let mut all = Vec::new();
        for (id, endpoint) in &live.endpoints {
            let Ok(handle) = self.index.find(id) else { continue };
            let container = handle.record();
            let aliases = container
                .attachments
                .iter()
                .find(|attachment| attachment.network == live.record.id)
                .map(|attachment| attachment.settings.aliases.clone())
                .unwrap_or_default();
            let addresses: Vec<IpAddr> = endpoint.addresses.iter().map(ipnet::IpNet::addr).collect();
            merge(&mut all, names_of(&container, &addresses, &aliases));
        }
        all
    }

    /// Tells netd of changes on these networks; what fails is said in the log, and told again with the next change.
    pub(crate) fn names_changed(&self, networks: impl IntoIterator<Item = String>) {
        let mut names = self.names();
        for network in networks {
            if let Err(error) = self.tell_names(&mut names, &network) {
                tracing::warn!(network, error = %error.chain(), "names of a network are not told");
            }
        }
    }

    /// Has netd forget a network.
    pub(super) fn forget_network_names(&self, network: &str) {
        if let Err(error) = self.names().say(|client| client.forget_network(network)) {
            tracing::warn!(network, error = %error.chain(), "netd does not forget a network");
        }
    }

    /// Has netd forget a container.
    pub(crate) fn forget_names(&self, container: &str) {
        let mut names = self.names();
        if names.served.remove(container)
            && let Err(error) = names.say(|client| client.forget(container))
        {
            tracing::warn!(container, error = %error.chain(), "netd does not forget a container");
        }
    }

    /// A container that runs has left a network: netd answers it no more of that one, and no more from outside if it has no way there. What
    /// serves it stays, as it may come to another network.
    pub(crate) fn names_left(
        &self,
        container: &Container,
        places: &Places,
        upstreams: &[IpAddr],
    ) -> Result<()> {
        let mut names = self.names();
        if !names.served.contains(&container.id) {
            return Ok(());
        }
        let wanted = self.described(container, places, upstreams);
        names.say(|client| client.serve(&wanted, None)).map(drop)
    }

    /// A container that was found running has its names looked up, if it was not there when netd was told of all.
    pub(crate) fn adopt_names(
        &self,
        container: &Container,
        pid: i32,
        places: &Places,
        upstreams: &[IpAddr],
    ) -> Result<()> {
        if !self.has_names(places) {
            return Ok(());
        }
        {
            let mut names = self.names();
            self.start_netd(&mut names)?;
            let wanted = self.described(container, places, upstreams);
            let known = names.served.contains(&container.id)
                && names.say(|client| client.serve(&wanted, None))?.is_some();
            if !known {
                self.serve_names_with(&mut names, container, &join::namespace_of(pid)?, places, upstreams)?;
            }
            self.until(&mut names, &container.id, pid)?;
        }
        // One whose supervisor answered late was not there when the others' names were told.
        self.names_changed(places.endpoints.iter().map(|endpoint| endpoint.network.clone()));
        Ok(())
    }
}

/// Adds names; of those that several containers have all addresses are kept.
fn merge(all: &mut Vec<Name>, more: Vec<Name>) {
    for name in more {
        match all.iter_mut().find(|known| known.name == name.name) {
            Some(known) => known.addresses.extend(name.addresses),
            None => all.push(name),
        }
    }
}
