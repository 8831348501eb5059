//! Networks as the API shows them.

use std::collections::BTreeMap;

use api::Filters;
use api::network::{EndpointResource, Inspect, Ipam, Network, Status};

use super::live::Live;
use super::{Networks, PLAIN, id, not_found, on_plain};
use crate::error::{Error, Result};

/// The filters that are understood.
const FILTERS: &[&str] = &["driver", "id", "label", "name", "scope", "type", "dangling"];

fn plain(name: &str, id: String) -> Network {
    Network {
        name: name.to_owned(),
        id,
        created: api::timestamp::ZERO.to_owned(),
        scope: "local".to_owned(),
        driver: if name == "none" { "null" } else { name }.to_owned(),
        enable_ipv4: true,
        ipam: Ipam { driver: "default".to_owned(), ..Ipam::default() },
        ..Network::default()
    }
}

/// Whether labels are those that `label` and `label!` ask for.
pub(super) fn labels_match(filters: &Filters, labels: &BTreeMap<String, String>) -> bool {
    let has = |wanted: &str| match wanted.split_once('=') {
        None => labels.contains_key(wanted),
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
    };
    filters.matches_pairs("label", labels) && !filters.get("label!").any(has)
}

pub(super) fn list(networks: &Networks, filters: &Filters) -> Result<Vec<Network>> {
    filters.validate(FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
    let among = |key: &str, test: &dyn Fn(&str) -> bool| {
        filters.get(key).next().is_none() || filters.get(key).any(test)
    };
    if let Some(kind) = filters.get("type").find(|kind| !matches!(*kind, "builtin" | "custom")) {
        return Err(Error::invalid(format!("invalid filter 'type={kind}'")));
    }
    let dangling = filters.flag("dangling").map_err(|e| Error::invalid(e.to_string()))?;
    let used: Vec<String> = networks
        .index
        .all()
        .iter()
        .flat_map(|handle| handle.record().attachments.iter().map(|a| a.network.clone()).collect::<Vec<_>>())
        .collect();
    let builtin = PLAIN.iter().map(|(name, letter)| (plain(name, id(name, letter)), true));
    let own: Vec<(Network, bool)> = {
        let state = networks.state();
        state.values().map(|live| (live.record.shown(), live.record.is_default())).collect()
    };
    let all = own.into_iter().chain(builtin);
    Ok(all
        .filter(|(n, builtin)| {
            let kind = if *builtin { "builtin" } else { "custom" };
            among("name", &|v| n.name.contains(v))
                && among("id", &|v| n.id.starts_with(v))
                && among("driver", &|v| n.driver == v)
                && among("scope", &|v| n.scope == v)
                && among("type", &|v| v == kind)
                && labels_match(filters, &n.labels)
                && dangling.is_none_or(|dangling| dangling == (!*builtin && !used.contains(&n.id)))
        })
        .map(|(network, _)| network)
        .collect())
}

pub(super) fn inspect(networks: &Networks, name: &str) -> Result<Inspect> {
    if let Ok(record) = networks.find(name) {
        let state = networks.state();
        let live = state.get(&record.id).ok_or_else(|| not_found(name))?;
        let status = Some(live.status()).filter(|_| !record.config_only);
        return Ok(Inspect { containers: containers(networks, live), network: record.shown(), status });
    }
    let known = PLAIN
        .iter()
        .map(|(known, letter)| (*known, id(known, letter)))
        .find(|(known, id)| *known == name || (name.len() >= super::ID_PREFIX_MIN && id.starts_with(name)));
    let (known, id) = known.ok_or_else(|| not_found(name))?;
    let containers = on_plain(&networks.index, known).into_iter().map(|handle| {
        let resource = EndpointResource { name: handle.record().name.clone(), ..EndpointResource::default() };
        (handle.id.clone(), resource)
    });
    Ok(Inspect {
        containers: containers.collect(),
        network: plain(known, id),
        status: Some(Status::default()),
    })
}

fn containers(networks: &Networks, live: &Live) -> BTreeMap<String, EndpointResource> {
    let text = |net: Option<ipnet::IpNet>| net.map(|net| net.to_string()).unwrap_or_default();
    let shown = live.endpoints.iter().map(|(container, endpoint)| {
        let name = networks.index.find(container).map(|handle| handle.record().name.clone());
        let resource = EndpointResource {
            name: name.unwrap_or_default(),
            endpoint_id: endpoint.id.clone(),
            mac_address: endpoint.mac_text(),
            ipv4_address: text(endpoint.address(false)),
            ipv6_address: text(endpoint.address(true)),
        };
        (container.clone(), resource)
    });
    shown.collect()
}
