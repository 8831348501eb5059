//! `network create`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::network::{ConfigReference, CreateRequest, CreateResponse, Ipam, IpamConfig};
use client::query::Query;

use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, label, list, pairs, switch, text};
use crate::session::Session;

/// `create`.
pub const COMMAND: Command = Command {
    name: "create",
    usage: "[OPTIONS] NETWORK",
    about: "Create a network",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("attachable", "Let containers join by hand what is a swarm's"),
            pairs("aux-address", "Addresses of the subnet that somebody else has (name=address)"),
            text("config-from", "The network whose configuration is taken"),
            switch("config-only", "Make a configuration alone"),
            text("driver", "Driver to manage the network").short('d').default("\"bridge\""),
            list("gateway", "The bridge's own address in a subnet"),
            switch("ingress", "Make a swarm's ingress network"),
            switch("internal", "Let nothing in or out"),
            list("ip-range", "Give out addresses of this part of a subnet alone"),
            text("ipam-driver", "Who gives out addresses").default("\"default\""),
            pairs("ipam-opt", "Options of who gives out addresses"),
            switch("ipv4", "Give out IPv4 addresses").default("true"),
            switch("ipv6", "Give out IPv6 addresses"),
            list("label", "Set a label").check(label),
            pairs("opt", "Option of the driver").short('o'),
            text("scope", "How far the network reaches"),
            list("subnet", "A subnet in CIDR form: one of each family"),
        ],
    }],
    examples: &[
        Example { about: "A network with names and addresses of its own", line: "network create web" },
        Example {
            about: "IPv4 and IPv6, and a subnet of one's choice",
            line: "network create --ipv6 --subnet 10.9.0.0/24 web",
        },
        Example { about: "A network that nothing leaves", line: "network create --internal database" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(create(session, parsed)))
};

async fn create(session: &Session, parsed: &Parsed) -> Result<()> {
    let map = |flag: &str| -> BTreeMap<String, String> {
        let pairs = parsed.list(flag).map(|text| text.split_once('=').unwrap_or((text, "")));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let request = CreateRequest {
        name: parsed.args.first().cloned().unwrap_or_default(),
        driver: parsed.text("driver").unwrap_or("bridge").to_owned(),
        scope: parsed.or_empty("scope"),
        enable_ipv4: given(parsed, "ipv4"),
        enable_ipv6: given(parsed, "ipv6"),
        ipam: Some(Ipam {
            driver: parsed.text("ipam-driver").unwrap_or("default").to_owned(),
            options: map("ipam-opt"),
            config: subnets(parsed)?,
        }),
        internal: parsed.on("internal"),
        attachable: parsed.on("attachable"),
        ingress: parsed.on("ingress"),
        config_only: parsed.on("config-only"),
        config_from: parsed.text("config-from").map(|name| ConfigReference { network: name.to_owned() }),
        options: map("opt"),
        labels: map("label"),
    };
    let created: CreateResponse =
        session.client()?.exchange("/networks/create", Query::new(), &request).await?;
    if !created.warning.is_empty() {
        session.note(&created.warning);
    }
    session.line(&created.id)
}

/// What was said of a switch whose default the daemon knows.
fn given(parsed: &Parsed, flag: &str) -> Option<bool> {
    parsed.given(flag).then(|| parsed.on(flag))
}

/// Puts ranges, gateways and addresses to the subnets they are in.
fn subnets(parsed: &Parsed) -> Result<Vec<IpamConfig>> {
    let mut configs: Vec<IpamConfig> = parsed
        .list("subnet")
        .map(|subnet| IpamConfig { subnet: subnet.to_owned(), ..IpamConfig::default() })
        .collect();
    for (flag, what) in [("ip-range", "range"), ("gateway", "gateway"), ("aux-address", "aux-address")] {
        for text in parsed.list(flag) {
            let (name, address) =
                text.split_once('=').filter(|_| flag == "aux-address").unwrap_or(("", text));
            let inside = address.split('/').next().unwrap_or_default();
            let found = configs.iter_mut().find(|config| contains(&config.subnet, inside));
            let config =
                found.ok_or_else(|| Error::Message(format!("no matching subnet for {what} {address}")))?;
            match flag {
                "ip-range" => address.clone_into(&mut config.ip_range),
                "gateway" => address.clone_into(&mut config.gateway),
                _ => drop(config.auxiliary_addresses.insert(name.to_owned(), address.to_owned())),
            }
        }
    }
    Ok(configs)
}

/// Whether a subnet has an address; what is neither is the daemon's to refuse.
fn contains(subnet: &str, address: &str) -> bool {
    let Some((base, prefix)) = subnet.split_once('/') else { return false };
    let (Ok(base), Ok(address), Ok(prefix)) =
        (base.parse::<IpAddr>(), address.parse(), prefix.parse::<u32>())
    else {
        return false;
    };
    match (base, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnets_of(args: &[&str]) -> std::result::Result<Vec<IpamConfig>, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let parsed = crate::flags::parse(&[COMMAND.flags], true, &args).map_err(|error| error.to_string())?;
        subnets(&parsed).map_err(|error| error.to_string())
    }

    #[test]
    fn what_belongs_to_a_subnet_is_put_to_it() {
        let all = subnets_of(&[
            "--subnet=10.9.0.0/16",
            "--subnet=fd00::/64",
            "--gateway=fd00::9",
            "--gateway=10.9.0.1",
            "--ip-range=10.9.4.0/24",
            "--aux-address=router=10.9.0.7",
            "web",
        ]);
        let all = all.unwrap();
        assert_eq!((all[0].gateway.as_str(), all[0].ip_range.as_str()), ("10.9.0.1", "10.9.4.0/24"));
        assert_eq!(all[0].auxiliary_addresses["router"], "10.9.0.7");
        assert_eq!(all[1].gateway, "fd00::9");
        assert!(subnets_of(&["--gateway=10.9.0.1", "web"]).unwrap_err().contains("no matching subnet"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("10.0.0.0/33x", "10.0.0.1"));
    }
}
