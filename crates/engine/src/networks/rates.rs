//! How much a container is sent on a network, and how much it sends: options of its endpoints, after tc's units.

use std::collections::BTreeMap;

use network::traffic::{self, Rate, Rates};

use super::live::Endpoint;
use super::{Attachment, Networks, join};
use crate::error::{Error, Result};

/// What it is sent.
const RATE_IN: &str = "corten.rate-in";
/// What it sends.
const RATE_OUT: &str = "corten.rate-out";

/// Whether an option of an endpoint is one of these.
pub(crate) fn is_rate(option: &str) -> bool {
    matches!(option, RATE_IN | RATE_OUT)
}

/// The rates that an endpoint's options ask for. An empty one is none.
pub(crate) fn of(options: &BTreeMap<String, String>) -> Result<Rates> {
    let rate = |name: &str| {
        let text = options.get(name).map(String::as_str).filter(|text| !text.is_empty());
        text.map(|text| text.parse::<Rate>().map_err(|e| Error::invalid(format!("{name}: {e}")))).transpose()
    };
    Ok(Rates { inward: rate(RATE_IN)?, outward: rate(RATE_OUT)? })
}

/// A container's networks after a change of their endpoints' options, by the networks' ids.
pub(crate) fn changed(
    container: &str,
    attachments: &[Attachment],
    changes: &BTreeMap<String, BTreeMap<String, String>>,
) -> Result<Vec<Attachment>> {
    let mut all = attachments.to_vec();
    for (network, options) in changes {
        let Some(attachment) = all.iter_mut().find(|attachment| attachment.network == *network) else {
            return Err(Error::forbidden(format!(
                "container {container} is not connected to the network {network}"
            )));
        };
        let own = &mut attachment.settings.driver_opts;
        for (option, value) in options {
            if !is_rate(option) {
                return Err(Error::invalid(format!(
                    "the option {option} of an endpoint cannot be changed by update"
                )));
            }
            match value.as_str() {
                "" => drop(own.remove(option)),
                value => drop(own.insert(option.clone(), value.to_owned())),
            }
        }
        of(own)?;
    }
    Ok(all)
}

impl Networks {
    /// Holds back what goes over a container's cables as its attachments ask for; blocks.
    pub(crate) fn limit(&self, attachments: &[Attachment], endpoints: &[Endpoint]) -> Result<()> {
        let host = join::route()?;
        for attachment in attachments {
            let Some(endpoint) = endpoints.iter().find(|e| e.network == attachment.network) else { continue };
            let rates = of(&attachment.settings.driver_opts)?;
            if endpoint.port.is_empty() {
                continue;
            }
            traffic::limit(&host, &endpoint.port, rates).map_err(join::kernel)?;
        }
        Ok(())
    }

    /// Removes what does not go with the cables of these.
    pub(crate) fn release_rates(&self, gone: &[Endpoint]) {
        let released = join::route().and_then(|host| {
            gone.iter().try_for_each(|endpoint| traffic::release(&host, &endpoint.port).map_err(join::kernel))
        });
        if let Err(error) = released {
            tracing::warn!(error = %error.chain(), "devices of rates are left until the daemon starts again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn options_are_changed_and_taken_back() {
        let attachment = Attachment {
            network: "n1".into(),
            name: "web".into(),
            settings: api::network::EndpointSettings {
                driver_opts: options(&[(RATE_IN, "1mbit"), (RATE_OUT, "2mbit")]),
                ..Default::default()
            },
        };
        let change = |network: &str, pairs: &[(&str, &str)]| {
            let changes = BTreeMap::from([(network.to_owned(), options(pairs))]);
            changed("c", std::slice::from_ref(&attachment), &changes)
                .map(|all| all[0].settings.driver_opts.clone())
        };
        let after = change("n1", &[(RATE_IN, ""), (RATE_OUT, "3mbit")]).unwrap();
        assert_eq!(after, options(&[(RATE_OUT, "3mbit")]));
        for (network, pairs, why) in [
            ("n2", (RATE_IN, "1mbit"), "container c is not connected to the network n2"),
            ("n1", (RATE_IN, "1"), "corten.rate-in: invalid rate \"1\""),
            ("n1", ("x", "1"), "the option x of an endpoint cannot be changed by update"),
        ] {
            let error = change(network, &[pairs]).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
    }
}
