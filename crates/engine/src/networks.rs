//! Networks: bridges of this host, and `none` and `host`, which are none.
//!
//! A network is a record in the store and a bridge. The record comes first when one is made and goes last when it is removed, so that a bridge
//! always has its record; where the bridge is missing it is made again when a container needs it.

pub(crate) mod change;
mod create;
mod endpoint;
mod filter;
mod firewalld;
mod foreign;
mod join;
mod live;
mod lookup;
mod netd;
mod options;
pub(crate) mod ports;
mod publish;
pub(crate) mod rates;
mod reach;
mod record;
mod relead;
pub(crate) mod republish;
mod settings;
mod show;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::container::{HostConfig, NetworkingConfig};
use api::network::{
    CreateRequest, CreateResponse, EndpointIpamConfig, EndpointSettings, Inspect, Network, PruneReport,
};
use api::reach::ReachedPort;
use api::{Filters, timestamp};
use network::bridge;
use network::firewall::Port;
use network::ipam::Defaults;
use network::relay;
use network::traffic::Rates;
use serde::{Deserialize, Serialize};
use storage::{NewRecord, Store};

use crate::blocking;
use crate::config::Config;
use crate::containers::index::{Handle, Index};
use crate::containers::linked;
use crate::containers::record::Record as Container;
use crate::containers::show::nanoseconds;
use crate::error::{Error, Result};
use crate::events::{Events, Subject};
use crate::names;

use filter::Filter;
use firewalld::Firewalld;
pub use join::Places;
pub(crate) use join::{Joined, abandon};
pub use live::Endpoint;
use live::Live;
use lookup::Names;
use netd::Answers;
/// Ports of the host, for an engine that is not in its network namespace.
pub use network::ports::outside as host_ports;
pub(crate) use options::BRIDGE;
pub use ports::Published;
use record::{Record, Taken};
pub use settings::Settings;

/// The kind of a network's record in the store.
const NETWORK: &str = "network";
/// The names of networks that are none, and with each the letter its id is made of: fixed, so that it is the same after every start.
const PLAIN: [(&str, &str); 2] = [(NONE, "0"), ("host", "f")];
/// The network of containers that are to have none.
const NONE: &str = "none";
/// What prune can be filtered by.
const PRUNE_FILTERS: &[&str] = &["label", "label!", "until"];
/// How many characters of an id are enough to name a network by.
const ID_PREFIX_MIN: usize = 2;
/// The name that stands for the network of containers that ask for none.
const DEFAULT: &str = "default";

/// The networks.
#[derive(Debug)]
pub struct Networks {
    store: Store,
    events: Arc<Events>,
    index: Arc<Index>,
    defaults: Defaults,
    settings: Settings,
    /// By id.
    state: Mutex<BTreeMap<String, Live>>,
    /// The packet filters. Taken before the state and before what is published, where both are.
    filter: Mutex<Filter>,
    /// What firewalld is told.
    firewalld: Firewalld,
    /// What is said to netd. Taken before all others.
    names: Mutex<Names>,
    /// Who makes a network.
    turn: Mutex<()>,
    /// What containers have published, by their ids.
    published: Mutex<BTreeMap<String, Outlet>>,
    /// Whether what comes from outside for published ports is left to the host's own rules.
    respect: bool,
    /// What answers to netd need to be delivered, if any are.
    answers: Mutex<Answers>,
}

/// The conversation with netd, while somebody has it.
type NamesGuard<'a> = MutexGuard<'a, Names>;

/// The published ports of a container that runs.
#[derive(Debug, Default)]
struct Outlet {
    rules: Vec<Port>,
    /// As netd knows them, each with what holds it: a socket that netd has as well, and that another netd gets. Those of a daemon before
    /// are netd's alone.
    relays: Vec<(relay::Port, Option<OwnedFd>)>,
}

/// A network that a container is to be connected with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// Its id.
    pub network: String,
    /// Its name.
    pub name: String,
    /// What is asked of it.
    pub settings: EndpointSettings,
}

/// The id of a network that is none, by its name.
pub(crate) fn plain_id(name: &str) -> Option<String> {
    PLAIN.iter().find(|(known, _)| *known == name).map(|(known, letter)| id(known, letter))
}

/// The name's bytes in hexadecimal, filled up to 64 digits.
fn id(name: &str, letter: &str) -> String {
    let name = hex::encode(name);
    format!("{name}{}", letter.repeat(64 - name.len()))
}

fn not_found(name: &str) -> Error {
    Error::not_found(format!("network {name} not found"))
}

impl Networks {
    /// Reads the networks of a store; the one that every engine has is made if it is not there. `machine` is this installation's id.
    pub(crate) fn open(
        store: Store,
        events: Arc<Events>,
        index: Arc<Index>,
        config: &Config,
        machine: &str,
    ) -> Result<Arc<Self>> {
        let mut host = [0; 5];
        for (at, byte) in host.iter_mut().enumerate() {
            let digits = machine.get(at * 2..at * 2 + 2).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
        }
        let defaults = config.networks.defaults(host)?;
        let networks = Arc::new_cyclic(|networks| Self {
            store,
            events,
            index,
            defaults,
            settings: config.networks.clone(),
            state: Mutex::default(),
            filter: Mutex::new(Filter::new(config, networks.clone())),
            firewalld: Firewalld::default(),
            names: Mutex::new(Names::new(&config.exec_root, networks.clone())),
            turn: Mutex::default(),
            published: Mutex::default(),
            respect: config.respect_firewall,
            answers: Mutex::new(Answers::new(networks.clone())),
        });
        let rows = networks.store.transaction(|tx| tx.records(NETWORK))?;
        for row in rows {
            match serde_json::from_slice::<Record>(&row.json) {
                // With --bridge none it is there again once it is wanted.
                Ok(record) if record.is_default() && config.no_bridge => {}
                Ok(record) => drop(networks.state().insert(record.id.clone(), Live::of(record)?)),
                // It is left alone, for a person or a newer version to look at.
                Err(error) => tracing::error!(id = %row.id, %error, "cannot read a network's record"),
            }
        }
        if !config.no_bridge {
            networks.renew_default()?;
        }
        Ok(networks)
    }

    /// Makes the default network, or has it be what the daemon is told now.
    fn renew_default(&self) -> Result<()> {
        let before = {
            let state = self.state();
            state.values().find(|live| live.record.is_default()).map(|live| Arc::clone(&live.record))
        };
        let taken = self.taken()?;
        let taken = [taken.networks, taken.routes].concat();
        let wanted =
            self.settings.default_network(before.as_deref(), names::new_id()?, &self.defaults, &taken)?;
        match before {
            Some(before) if *before == wanted => Ok(()),
            // Over what was there, in one step: containers know it by its id.
            Some(_) => self.write(wanted, true),
            None => self.keep(wanted),
        }
    }

    /// A container's record with what the daemon says of names where it says nothing itself.
    pub(crate) fn completed(&self, record: &Container) -> Container {
        let mut completed = record.clone();
        let (host, own) = (&mut completed.host, &self.settings);
        if host.dns.is_empty() {
            host.dns = own.dns.iter().map(ToString::to_string).collect();
        }
        if host.dns_search.is_empty() {
            host.dns_search.clone_from(&own.dns_search);
        }
        if host.dns_options.is_empty() {
            host.dns_options.clone_from(&own.dns_options);
        }
        completed
    }

    fn names(&self) -> NamesGuard<'_> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, BTreeMap<String, Live>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subnets that nobody else may have: those of networks, and where the host has routes to.
    fn taken(&self) -> Result<Taken> {
        let routes = bridge::routes(&join::route()?).map_err(join::kernel)?;
        let state = self.state();
        let own = state.values().filter(|live| !live.record.config_only);
        let networks = own.flat_map(|live| live.record.pools.iter().map(|pool| pool.subnet)).collect();
        Ok(Taken { networks, routes })
    }

    fn keep(&self, record: Record) -> Result<()> {
        self.write(record, false)
    }

    /// Writes a record, `over` one that is there or where none is.
    fn write(&self, record: Record, over: bool) -> Result<()> {
        let json = serde_json::to_vec(&record)
            .map_err(|e| Error::system(format!("cannot write network {}", record.name)).with_source(e))?;
        let new = NewRecord { kind: NETWORK, id: &record.id, name: Some(&record.name), json: &json };
        self.store.transaction(|tx| if over { tx.put_record(&new) } else { tx.insert_record(&new) })?;
        self.state().insert(record.id.clone(), Live::of(record)?);
        Ok(())
    }

    /// The record of the network that a person means: by id, by name, or by an id's beginning that fits one alone.
    fn find(&self, text: &str) -> Result<Arc<Record>> {
        let state = self.state();
        let all = || state.values().map(|live| &live.record);
        if let Some(found) = all().find(|r| r.id == text).or_else(|| all().find(|r| r.name == text)) {
            return Ok(Arc::clone(found));
        }
        let begins = |record: &&Arc<Record>| text.len() >= ID_PREFIX_MIN && record.id.starts_with(text);
        let mut found = all().filter(begins);
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(Arc::clone(record)),
            (Some(_), Some(_)) => {
                Err(Error::invalid(format!("network {text} is ambiguous (several ids begin with it)")))
            }
            (None, _) => Err(not_found(text)),
        }
    }

    /// Makes a network.
    pub async fn create(self: &Arc<Self>, request: CreateRequest) -> Result<CreateResponse> {
        let this = Arc::clone(self);
        blocking::run("create a network", move || this.create_blocking(request)).await
    }

    fn forget(&self, record: &Record) -> Result<()> {
        self.store.transaction(|tx| tx.delete_record(NETWORK, &record.id))?;
        self.state().remove(&record.id);
        Ok(())
    }

    /// Removes a network that no container is on.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<()> {
        if let Some((plain, _)) =
            PLAIN.iter().find(|(known, letter)| *known == name || id(known, letter) == name)
        {
            return Err(predefined(plain));
        }
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("remove a network", move || this.remove_blocking(&name)).await
    }

    fn remove_blocking(&self, name: &str) -> Result<()> {
        // The subnet is another's to have from the moment that the record is gone, and what is told of it must be taken back before.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.find(name)?;
        if record.is_default() {
            return Err(predefined(&record.name));
        }
        self.check_unused(&record)?;
        let live = self.take_out(&record)?;
        let removed = self
            .leave_device(&record)
            .and_then(|others| if others { Ok(()) } else { join::remove(&record) })
            .and_then(|()| Ok(self.store.transaction(|tx| tx.delete_record(NETWORK, &record.id))?));
        if let Err(error) = removed {
            self.state().insert(record.id.clone(), live);
            return Err(error);
        }
        self.unfilter_network(&record);
        self.firewalld.leave(&record.device());
        self.forget_network_names(&record.id);
        if (record.internal || self.respect)
            && let Err(error) = self.internal_changed()
        {
            tracing::warn!(network = record.name, error = %error.chain(), "netd refuses a subnet that is free");
        }
        self.tell(&record, "destroy", None);
        Ok(())
    }

    /// Has another network on the same device of the host's remove it later, if it was made for the first; whether there is one.
    fn leave_device(&self, record: &Record) -> Result<bool> {
        if record.is_bridge() || record.config_only || !record.made {
            return Ok(false);
        }
        let mut state = self.state();
        let same = |live: &&mut Live| {
            let other = &live.record;
            !other.is_bridge() && !other.config_only && other.device() == record.device()
        };
        let Some(heir) = state.values_mut().find(same) else { return Ok(false) };
        let changed = Record { made: true, ..Record::clone(&heir.record) };
        let json = serde_json::to_vec(&changed)
            .map_err(|e| Error::system(format!("cannot write network {}", changed.name)).with_source(e))?;
        let row = NewRecord { kind: NETWORK, id: &changed.id, name: Some(&changed.name), json: &json };
        self.store.transaction(|tx| tx.put_record(&row))?;
        heir.record = Arc::new(changed);
        Ok(true)
    }

    /// Takes a network out of those that containers can join, unless one is on it.
    fn take_out(&self, record: &Record) -> Result<Live> {
        let mut state = self.state();
        let live = state.remove(&record.id).ok_or_else(|| not_found(&record.name))?;
        if live.endpoints.is_empty() {
            return Ok(live);
        }
        let who: Vec<String> = live
            .endpoints
            .keys()
            .map(|id| {
                let name = self.index.find(id).map(|handle| handle.record().name.clone()).unwrap_or_default();
                format!("name:{name:?} id:{:?}", id.get(..12).unwrap_or(id))
            })
            .collect();
        state.insert(record.id.clone(), live);
        Err(Error::forbidden(format!(
            "error while removing network: network {} has active endpoints ({})",
            record.name,
            who.join(", ")
        )))
    }

    /// Removes all that no container uses, running or not.
    pub async fn prune(self: &Arc<Self>, filters: &Filters) -> Result<PruneReport> {
        filters.validate(PRUNE_FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let until = until(filters)?;
        let used: Vec<String> = self
            .index
            .all()
            .iter()
            .flat_map(|handle| {
                handle.record().attachments.iter().map(|a| a.network.clone()).collect::<Vec<_>>()
            })
            .collect();
        let wanted: Vec<Arc<Record>> = {
            let state = self.state();
            let all = state.values().map(|live| Arc::clone(&live.record));
            all.filter(|record| !record.is_default() && !used.contains(&record.id))
                .filter(|record| until.is_none_or(|until| nanoseconds(Some(record.created)) < until))
                .filter(|record| show::labels_match(filters, &record.labels))
                .collect()
        };
        let mut report = PruneReport::default();
        for record in wanted {
            match self.remove(&record.id).await {
                Ok(()) => report.networks_deleted.push(record.name.clone()),
                // Taken or removed by somebody since.
                Err(Error::Forbidden(_) | Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let reclaimed = BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]);
        self.events.emit(Subject::Network, "prune", "", reclaimed);
        Ok(report)
    }

    /// Lists them.
    pub async fn list(&self, filters: &Filters) -> Result<Vec<Network>> {
        show::list(self, filters)
    }

    /// All published ports, with who can reach them.
    pub async fn ports(self: &Arc<Self>, filters: &Filters) -> Result<Vec<ReachedPort>> {
        let (this, filters) = (Arc::clone(self), filters.clone());
        blocking::run("list published ports", move || this.reached_ports(&filters)).await
    }

    /// All about one, by name or id.
    pub async fn inspect(&self, name: &str) -> Result<Inspect> {
        show::inspect(self, name)
    }

    /// What a container that is being made is to be connected with.
    pub(crate) fn attachments(
        &self,
        host: &HostConfig,
        networking: Option<&NetworkingConfig>,
    ) -> Result<Vec<Attachment>> {
        let mode = host.network_mode.clone();
        let asked: Vec<(&String, &EndpointSettings)> =
            networking.iter().flat_map(|networking| &networking.endpoints_config).collect();
        if plain_id(&mode).is_some() || mode.starts_with("container:") {
            if let Some((name, _)) = asked.iter().find(|(name, _)| **name != mode && *name != DEFAULT) {
                return Err(Error::invalid(format!(
                    "container cannot be connected to network {name} and to {mode} at once"
                )));
            }
            asked.iter().try_for_each(|(_, settings)| check_plain(&mode, settings))?;
            return Ok(Vec::new());
        }
        let first = self.named(&mode)?;
        let mut all: Vec<Attachment> = Vec::new();
        for (name, settings) in &asked {
            let record = if *name == DEFAULT { Arc::clone(&first) } else { self.named(name)? };
            all.push(attachment(&record, settings)?);
        }
        if !all.iter().any(|attachment| attachment.network == first.id) {
            all.push(attachment(&first, &EndpointSettings::default())?);
        }
        // The network that gives the mode its name comes first, the others by their names.
        all.sort_by_key(|attachment| (attachment.network != first.id, attachment.name.clone()));
        all.dedup_by(|one, other| one.network == other.network);
        Ok(all)
    }

    /// Not a 404: a client would take that for a missing image, and pull it.
    fn named(&self, name: &str) -> Result<Arc<Record>> {
        self.find(name).map_err(|error| Error::invalid(error.to_string()))
    }

    /// What a container is to be connected with further.
    pub(crate) fn attachment(&self, name: &str, settings: &EndpointSettings) -> Result<Attachment> {
        if plain_id(name).is_some() {
            return Err(Error::forbidden(format!("container cannot be connected to {name} network")));
        }
        attachment(&*self.find(name)?, settings)
    }

    /// Where the host is from the default network.
    pub fn host_gateways(&self) -> Vec<IpAddr> {
        if !self.settings.host_gateways.is_empty() {
            return self.settings.host_gateways.clone();
        }
        let state = self.state();
        let default = state.values().find(|live| live.record.is_default());
        default.iter().flat_map(|live| &live.record.pools).filter_map(|pool| pool.gateway).collect()
    }

    /// The network of containers that name none.
    pub(crate) fn default_mode(&self) -> &'static str {
        if self.state().values().any(|live| live.record.is_default()) { BRIDGE } else { NONE }
    }

    /// The id of the network that a person means.
    pub(crate) fn id_of(&self, name: &str) -> Result<String> {
        plain_id(name).map_or_else(|| self.find(name).map(|record| record.id.clone()), Ok)
    }

    fn tell(&self, record: &Record, action: &str, container: Option<&str>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), record.name.clone()),
            ("type".to_owned(), record.driver.clone()),
        ]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_owned())));
        self.events.emit(Subject::Network, action, &record.id, attributes);
    }

    /// Tells the world that a container is on networks, or is no more.
    pub(crate) fn tell_endpoints(&self, container: &str, endpoints: &[Endpoint], action: &str) {
        for endpoint in endpoints {
            let found = self.state().get(&endpoint.network).map(|live| Arc::clone(&live.record));
            if let Some(record) = found {
                self.tell(&record, action, Some(container));
            }
        }
    }
}

/// Refuses what is asked of a network that is none, or another container's: there is nothing that it could be done to.
fn check_plain(mode: &str, settings: &EndpointSettings) -> Result<()> {
    let address =
        settings.ipam_config.as_ref().is_some_and(|config| *config != EndpointIpamConfig::default());
    let wrong = [
        (!settings.mac_address.is_empty(), "conflicting options: mac-address and the network mode"),
        (address, "user specified IP address is supported on user defined networks only"),
        (!settings.driver_opts.is_empty(), "options of endpoints are supported on networks only"),
        (settings.gw_priority != 0, "a priority of the gateway is supported on networks only"),
    ];
    match wrong.iter().find(|(is, _)| *is) {
        Some((_, text)) => Err(Error::invalid(format!("{text} (network mode {mode})"))),
        None => Ok(()),
    }
}

/// The time that `until` names, in nanoseconds since 1970.
fn until(filters: &Filters) -> Result<Option<i64>> {
    let mut until = None;
    for text in filters.get("until") {
        until = timestamp::parse_query(text, timestamp::now()).map_err(|e| Error::invalid(e.to_string()))?;
    }
    Ok(until)
}

fn predefined(name: &str) -> Error {
    Error::forbidden(format!("{name} is a pre-defined network and cannot be removed"))
}

fn attachment(record: &Record, settings: &EndpointSettings) -> Result<Attachment> {
    live::check_settings(record, settings)?;
    if !settings.aliases.is_empty() && record.is_default() {
        return Err(Error::invalid("network-scoped aliases are only supported for user-defined networks"));
    }
    for link in &settings.links {
        linked::parse(link)?;
    }
    if rates::of(&settings.driver_opts)? != Rates::default() && !record.is_bridge() {
        return Err(Error::not_implemented(format!(
            "rates (corten.rate-in, corten.rate-out) on networks of the driver {} are not available",
            record.driver
        )));
    }
    Ok(Attachment { network: record.id.clone(), name: record.name.clone(), settings: settings.clone() })
}

/// The address of a container's own, for `/etc/hosts`, and the names that lead to it.
pub(crate) fn own_hosts(endpoints: &[Endpoint], hostname: &str, domainname: &str) -> Vec<(String, String)> {
    let names = match domainname {
        "" => hostname.to_owned(),
        domain => format!("{hostname}.{domain} {hostname}"),
    };
    let addresses = endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
    addresses.map(|net| (net.addr().to_string(), names.clone())).collect()
}

/// The containers that run on a network that is none.
fn on_plain(index: &Index, name: &str) -> Vec<Arc<Handle>> {
    let all = index.all();
    all.into_iter()
        .filter(|handle| {
            let record = handle.record();
            record.host.network_mode == name && record.life.pid().is_some()
        })
        .collect()
}
