//! Connecting containers with their networks when they start, and while they run.

use std::cmp::Reverse;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::network::EndpointSettings;
use network::bridge::{self, Bridge};
use network::firewall::Firewall;
use network::firewall::host::allow_loopback;
use network::further;
use network::namespace::Namespace;
use network::ports::Wish;
use serde::{Deserialize, Serialize};
use sys::netlink::{Family, Socket};

use super::endpoint;
use super::live::{Endpoint, local_mac};
use super::ports::Published;
use super::record::Record;
use super::{Attachment, Networks, rates};
use crate::containers::lender;
use crate::error::{Error, Result};
use crate::names;

/// A bridge's own address for its neighbours, as Docker's.
const LINK_LOCAL: ipnet::IpNet =
    ipnet::IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), 64));
/// Version 4, and whether it is version 6.
const FAMILIES: [bool; 2] = [false, true];
/// What is to be made is there.
const EEXIST: i32 = 17;

/// A container's network namespace, plumbed.
#[derive(Debug)]
pub(crate) struct Joined {
    /// It lives as long as this or a process in it does.
    pub namespace: Namespace,
    /// Where it is connected.
    pub places: Places,
}

/// What a container has on its networks while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// On each of them.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub published: Vec<Published>,
}

impl Joined {
    /// A path that leads to the namespace, for as long as this is there.
    pub(crate) fn path(&self) -> PathBuf {
        let number = self.namespace.as_fd().as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{number}", std::process::id()))
    }
}

impl Networks {
    /// Makes a namespace for a container that is about to start, and connects it with its networks; blocks. On failure nothing is left.
    pub(crate) fn enter(
        &self,
        container: &str,
        attachments: &[Attachment],
        wishes: &[Wish],
    ) -> Result<Joined> {
        let entered = self.try_enter(container, attachments, wishes);
        if entered.is_err() {
            self.leave(container);
        }
        entered
    }

    fn try_enter(&self, container: &str, attachments: &[Attachment], wishes: &[Wish]) -> Result<Joined> {
        let failed = |e| Error::system("cannot make a network namespace").with_source(e);
        self.listen_to_firewalld();
        let namespace = Namespace::create().map_err(failed)?;
        bridge::loopback(&namespace).map_err(kernel)?;
        let mut endpoints = Vec::with_capacity(attachments.len());
        let way_out = self.way_out(attachments);
        for (number, attachment) in attachments.iter().enumerate() {
            let goes_out = way_out.map(|best| best == Some(number));
            endpoints.push(self.connect_to(container, attachment, &namespace, &endpoints, goes_out)?);
        }
        let way_in = self.way_in(attachments);
        if endpoints.iter().any(|endpoint| !endpoint.port.is_empty()) {
            self.filter()?;
        }
        let published = match way_in.and_then(|number| endpoints.get(number)) {
            Some(endpoint) if !wishes.is_empty() => self.publish(container, wishes, endpoint)?,
            _ => Vec::new(),
        };
        Ok(Joined { namespace, places: Places { endpoints, published } })
    }

    /// Makes again what is missing of the networks: after a start of the machine all of it. Who listens at a gateway's address finds it before
    /// the first container comes. What cannot be made is said in the log, and to whoever needs it.
    pub(crate) fn converge(&self) {
        let records: Vec<_> = self.state().values().map(|live| live.record.clone()).collect();
        let used = self.state().values().any(|live| !live.endpoints.is_empty());
        for record in records.iter().filter(|record| !record.config_only) {
            if let Err(error) = route().and_then(|host| ensure(&host, record)) {
                tracing::warn!(network = record.name, error = %error.chain(), "cannot make a network's bridge");
            }
        }
        if let Err(error) = route().and_then(|host| network::traffic::sweep(&host).map_err(kernel)) {
            tracing::warn!(error = %error.chain(), "devices of rates may be left");
        }
        // What an earlier daemon told is told again, as it should be now, and looked after.
        let told = Firewall::open().and_then(|firewall| firewall.is_there()).unwrap_or_default();
        if (used || told)
            && let Err(error) = self.filter()
        {
            tracing::error!(error = %error.chain(), "cannot make the packet filters");
        }
    }

    /// Which of the networks the default routes go by, that of version 4 and that of version 6: the one with the highest priority, then the
    /// first by name, of those that have the family; none that is internal.
    fn way_out(&self, attachments: &[Attachment]) -> [Option<usize>; 2] {
        FAMILIES.map(|v6| self.best(attachments, |record| leads_out_by(record, v6)))
    }

    /// Which of the networks published ports lead in by: the first in the same order that is a bridge.
    pub(super) fn way_in(&self, attachments: &[Attachment]) -> Option<usize> {
        self.best(attachments, |record| record.leads_out() && record.is_bridge())
    }

    /// Whether one of the networks is a bridge: ports are not published on others.
    pub(crate) fn has_bridge(&self, attachments: &[Attachment]) -> bool {
        let state = self.state();
        attachments.iter().any(|a| state.get(&a.network).is_some_and(|live| live.record.is_bridge()))
    }

    fn best(&self, attachments: &[Attachment], fits: impl Fn(&Record) -> bool) -> Option<usize> {
        let state = self.state();
        let open = attachments
            .iter()
            .enumerate()
            .filter(|(_, attachment)| state.get(&attachment.network).is_some_and(|live| fits(&live.record)));
        let best = open.min_by_key(|(_, a)| (Reverse(a.settings.gw_priority), a.name.clone()));
        best.map(|(number, _)| number)
    }

    /// Connects a namespace with one network.
    fn connect_to(
        &self,
        container: &str,
        attachment: &Attachment,
        namespace: &Namespace,
        others: &[Endpoint],
        goes_out: [bool; 2],
    ) -> Result<Endpoint> {
        let (record, endpoint) = self.take_place(container, attachment, others)?;
        if let Err(error) = self.lay(&record, &endpoint, attachment, namespace, goes_out) {
            self.give_back(container, attachment);
            return Err(error);
        }
        Ok(endpoint)
    }

    /// Gives a container a place on a network, where nothing is yet.
    fn take_place(
        &self,
        container: &str,
        attachment: &Attachment,
        others: &[Endpoint],
    ) -> Result<(Arc<Record>, Endpoint)> {
        let id = names::new_id()?;
        let mut state = self.state();
        let live = state
            .get_mut(&attachment.network)
            .ok_or_else(|| Error::not_found(format!("network {} not found", attachment.name)))?;
        let interface = endpoint::interface(&live.record, &attachment.settings, others)?;
        let endpoint = live.take(container, id, interface, &attachment.settings)?;
        Ok((live.record.clone(), endpoint))
    }

    fn give_back(&self, container: &str, attachment: &Attachment) {
        if let Some(live) = self.state().get_mut(&attachment.network) {
            live.release(container);
        }
    }

    /// Connects a container that runs with one more network, and adds the place to `places`: they are noted by `note` before anything is there.
    pub(crate) fn connect(
        &self,
        (container, pid): (&str, i32),
        others: &[Attachment],
        attachment: &Attachment,
        places: &mut Places,
        note: impl Fn(&Places) -> Result<()>,
    ) -> Result<()> {
        let namespace = namespace_of(pid)?;
        let has_way_out = FAMILIES.map(|v6| self.goes_out(&places.endpoints, v6));
        let (record, endpoint) = self.take_place(container, attachment, &places.endpoints)?;
        let goes_out = FAMILIES.map(|v6| !has_way_out[usize::from(v6)] && leads_out_by(&record, v6));
        places.endpoints.push(endpoint.clone());
        let priority = attachment.settings.gw_priority;
        let above = others.iter().all(|other| other.settings.gw_priority < priority);
        let connected = note(places).and_then(|()| {
            self.lay(&record, &endpoint, attachment, &namespace, goes_out)?;
            if !(above && has_way_out.contains(&true) && record.leads_out()) {
                return Ok(());
            }
            // Every family that it leads out by goes by it from now on.
            let turned = bridge::turn_to(&namespace, &endpoint.interface, &endpoint.gateways).map_err(kernel);
            if turned.is_err() {
                // The address is another's to have. The first error is the one that explains.
                let _ = self.take_up(&endpoint, &namespace);
            }
            turned
        });
        if let Err(error) = connected {
            self.give_back(container, attachment);
            places.endpoints.pop();
            // What stays noted is taken away by the next daemon, where there is nothing.
            let _ = note(places);
            return Err(error);
        }
        Ok(())
    }

    /// Lays a cable, holds back what goes over it, and has firewalld know the bridge. On failure there is no cable.
    fn lay(
        &self,
        record: &Record,
        endpoint: &Endpoint,
        attachment: &Attachment,
        namespace: &Namespace,
        goes_out: [bool; 2],
    ) -> Result<()> {
        plumb(record, endpoint, &attachment.settings, namespace, goes_out)?;
        if !endpoint.port.is_empty()
            && attachment.settings.driver_opts.keys().any(|option| rates::is_rate(option))
            && let Err(error) = self.limit(std::slice::from_ref(attachment), std::slice::from_ref(endpoint))
        {
            self.release_rates(std::slice::from_ref(endpoint));
            route().and_then(|host| bridge::remove(&host, &endpoint.port).map_err(kernel))?;
            return Err(error);
        }
        if record.is_bridge() {
            self.firewalld.join(&record.device());
        }
        Ok(())
    }

    fn goes_out(&self, endpoints: &[Endpoint], v6: bool) -> bool {
        let state = self.state();
        endpoints.iter().any(|e| state.get(&e.network).is_some_and(|live| leads_out_by(&live.record, v6)))
    }

    /// Disconnects a container that runs from the network of `endpoint`; `rest` are those it is still to be on.
    pub(crate) fn disconnect(
        &self,
        container: &str,
        pid: i32,
        endpoint: &Endpoint,
        rest: &[(Attachment, Endpoint)],
    ) -> Result<()> {
        self.take_up(endpoint, &namespace_of(pid)?)?;
        if let Some(live) = self.state().get_mut(&endpoint.network) {
            live.release(container);
        }
        self.forget_conversations(std::slice::from_ref(endpoint));
        let attachments: Vec<Attachment> = rest.iter().map(|(attachment, _)| attachment.clone()).collect();
        for (v6, next) in FAMILIES.into_iter().zip(self.way_out(&attachments)) {
            let Some((_, next)) = next.and_then(|number| rest.get(number)) else { continue };
            match bridge::send_by(
                &namespace_of(pid)?,
                &next.interface,
                &of_families(&next.gateways, [!v6, v6]),
            ) {
                // There is one already: what was cut off was not the way out.
                Err(error) if error.errno() == Some(EEXIST) => {}
                other => other.map_err(kernel)?,
            }
        }
        Ok(())
    }

    /// Removes what connects a namespace with a network; the routes that go by it go along.
    fn take_up(&self, endpoint: &Endpoint, namespace: &Namespace) -> Result<()> {
        if !endpoint.port.is_empty() {
            bridge::remove(&route()?, &endpoint.port).map_err(kernel)?;
            self.release_rates(std::slice::from_ref(endpoint));
            return Ok(());
        }
        // With the capability it can be renamed inside; it would stay there, with an address that is another's.
        if bridge::device(namespace.route(), &endpoint.interface).map_err(kernel)?.is_none() {
            return Err(Error::system(format!(
                "cannot disconnect the container from network {}: there is no {} in it any more, which was its device (it goes with the container)",
                endpoint.name, endpoint.interface
            )));
        }
        bridge::remove(namespace.route(), &endpoint.interface).map_err(kernel)
    }

    /// Gives back all that a container had, which does not run any more.
    pub(crate) fn leave(&self, container: &str) {
        self.withdraw(container);
        self.forget_names(container);
        let gone: Vec<Endpoint> =
            self.state().values_mut().filter_map(|live| live.release(container)).collect();
        self.release_rates(&gone);
        let abandoned = lender::orphans(&self.index, Some(container));
        for cleared in
            abandoned.map_or_else(|error| vec![Err(error)], |pids| pids.into_iter().map(abandon).collect())
        {
            if let Err(error) = cleared {
                tracing::warn!(container, error = %error.chain(), "devices are left in a network that was lent");
            }
        }
        self.forget_conversations(&gone);
        self.names_changed(gone.into_iter().map(|endpoint| endpoint.network));
    }

    /// A container was found running that has these places.
    pub(crate) fn adopt(&self, container: &str, places: &Places) {
        {
            let mut state = self.state();
            for endpoint in &places.endpoints {
                match state.get_mut(&endpoint.network) {
                    Some(live) => live.adopt(container, endpoint.clone()),
                    None => {
                        tracing::warn!(container, network = endpoint.name, "is on a network that is no more");
                    }
                }
            }
        }
        self.adopt_ports(container, places);
        self.listen_to_firewalld();
    }
}

/// Whether containers get out by a network with one family.
fn leads_out_by(record: &Record, v6: bool) -> bool {
    record.leads_out() && record.pools.iter().any(|pool| pool.subnet.addr().is_ipv6() == v6)
}

/// Those of version 4, of version 6, of both or of neither.
fn of_families(addresses: &[IpAddr], wanted: [bool; 2]) -> Vec<IpAddr> {
    addresses.iter().copied().filter(|address| wanted[usize::from(address.is_ipv6())]).collect()
}

/// Takes the devices out of a network namespace that outlives the container it was made for, because the process `pid` of another is in it:
/// their addresses are others' to have. Not if it is the daemon's own.
pub(crate) fn abandon(pid: i32) -> Result<()> {
    let path = |pid: i32| PathBuf::from(format!("/proc/{pid}/ns/net"));
    let number = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    // A process that has ended has left its namespace, too.
    let Ok(own) = number(&path(pid)) else { return Ok(()) };
    if number(Path::new("/proc/self/ns/net")).is_ok_and(|host| host == own) {
        return Ok(());
    }
    bridge::clear(&namespace_of(pid)?).map_err(kernel)
}

/// Sees to it that the bridge is there, and lays the cable.
fn plumb(
    record: &Record,
    endpoint: &Endpoint,
    settings: &EndpointSettings,
    namespace: &Namespace,
    goes_out: [bool; 2],
) -> Result<()> {
    let host = route()?;
    let index = ensure(&host, record)?;
    let mut addresses = endpoint.addresses.clone();
    addresses.extend(endpoint::local(settings)?);
    let end = bridge::Endpoint {
        interface: endpoint.interface.clone(),
        port: endpoint.port.clone(),
        mac: endpoint.mac,
        addresses,
        gateways: of_families(&endpoint.gateways, goes_out),
        sysctls: endpoint::sysctls(settings)?,
        mtu: record.mtu(),
        isolated: !record.lets_speak(),
    };
    if let Some(kind) = record.further() {
        return further::connect(&host, index, kind, namespace, &end).map_err(kernel);
    }
    bridge::connect(&host, index, namespace, &end).map_err(kernel)?;
    // What the host sends from 127.0.0.1 to a published port of its own.
    allow_loopback(&record.device())
        .map_err(|e| Error::system(format!("cannot set up bridge {}", record.device())).with_source(e))
}

/// Makes a network's bridge, or completes it, or finds the device below its containers'; returns its number.
pub(super) fn ensure(host: &Socket, record: &Record) -> Result<u32> {
    if !record.is_bridge() {
        return further::ensure(host, &record.parent()?).map_err(kernel);
    }
    let with_prefix = |pool: &network::ipam::Pool| {
        let inhibited = record.has_no_v4_itself() && pool.subnet.addr().is_ipv4();
        pool.gateway
            .filter(|_| !inhibited)
            .map(|gateway| ipnet::IpNet::new_assert(gateway, pool.subnet.prefix_len()))
    };
    let mut addresses: Vec<ipnet::IpNet> = record.pools.iter().filter_map(with_prefix).collect();
    if addresses.iter().any(|net| net.addr().is_ipv6()) {
        // The kernel looks for a second for others that have the one it makes, and asks for no neighbour meanwhile.
        addresses.push(LINK_LOCAL);
    }
    let device = Bridge { name: record.device(), mac: local_mac(&record.id), mtu: record.mtu(), addresses };
    bridge::ensure(host, &device).map_err(kernel)
}

/// Removes a network's bridge, or the device that was made for it.
pub(super) fn remove(record: &Record) -> Result<()> {
    if !record.is_bridge() && !record.made {
        return Ok(());
    }
    bridge::remove(&route()?, &record.device()).map_err(kernel)
}

/// A conversation about the daemon's own network namespace.
pub(super) fn route() -> Result<Socket> {
    Socket::open(Family::Route).map_err(|e| Error::system("cannot open the route socket").with_source(e))
}

pub(super) fn kernel(error: bridge::Error) -> Error {
    Error::system(error.to_string()).with_source(error)
}

/// The namespace of a process.
pub(super) fn namespace_of(pid: i32) -> Result<Namespace> {
    let path = format!("/proc/{pid}/ns/net");
    let file = File::open(&path).map_err(|e| Error::io("open", Path::new(&path), e))?;
    Namespace::open(file.into()).map_err(|e| Error::io("join", Path::new(&path), e))
}
