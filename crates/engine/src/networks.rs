//! Networks: `none` and `host`, which every engine has.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Filters;
use api::network::{EndpointResource, Inspect, Ipam, Network};

use crate::containers::index::Index;
use crate::{Error, Result};

/// The names there are, and with each the letter its id is made of: fixed, so that it is the same after every start.
const ALL: [(&str, &str); 2] = [("none", "0"), ("host", "f")];
/// The filters that are understood.
const FILTERS: &[&str] = &["driver", "id", "label", "name", "scope", "type", "dangling"];

/// The networks.
#[derive(Debug)]
pub struct Networks {
    index: Arc<Index>,
}

/// The id of a network, by its name.
pub(crate) fn id_of(name: &str) -> Option<String> {
    ALL.iter().find(|(known, _)| *known == name).map(|(known, letter)| id(known, letter))
}

/// The name's bytes in hexadecimal, filled up to 64 digits.
fn id(name: &str, letter: &str) -> String {
    let name = hex::encode(name);
    format!("{name}{}", letter.repeat(64 - name.len()))
}

fn network(name: &str, id: String) -> Network {
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

impl Networks {
    pub(crate) fn new(index: Arc<Index>) -> Self {
        Self { index }
    }

    /// Lists them.
    pub async fn list(&self, filters: &Filters) -> Result<Vec<Network>> {
        filters.validate(FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let among = |key: &str, test: &dyn Fn(&str) -> bool| {
            filters.get(key).next().is_none() || filters.get(key).any(test)
        };
        let dangling = filters.flag("dangling").map_err(|e| Error::invalid(e.to_string()))?;
        Ok(ALL
            .iter()
            .map(|(name, letter)| network(name, id(name, letter)))
            .filter(|n| {
                among("name", &|v| n.name.contains(v))
                    && among("id", &|v| n.id.starts_with(v))
                    && among("driver", &|v| n.driver == v)
                    && among("scope", &|v| n.scope == v)
                    && among("type", &|v| v == "builtin")
                    && filters.get("label").next().is_none()
                    && dangling != Some(true)
            })
            .collect())
    }

    /// All about one, by name or id.
    pub async fn inspect(&self, name: &str) -> Result<Inspect> {
        let found = ALL
            .iter()
            .map(|(known, letter)| (*known, id(known, letter)))
            .find(|(known, id)| *known == name || (name.len() >= 2 && id.starts_with(name)));
        let Some((known, id)) = found else {
            return Err(Error::not_found(format!("network {name} not found")));
        };
        let containers: BTreeMap<String, EndpointResource> = self
            .index
            .all()
            .iter()
            .map(|handle| handle.record())
            .filter(|record| record.host.network_mode == known && record.life.pid().is_some())
            .map(|record| {
                let resource = EndpointResource { name: record.name.clone(), ..EndpointResource::default() };
                (record.id.clone(), resource)
            })
            .collect();
        Ok(Inspect { containers, network: network(known, id) })
    }
}
