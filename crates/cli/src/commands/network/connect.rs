//! `network connect` and `network disconnect`.

use api::network::{ConnectRequest, DisconnectRequest, EndpointIpamConfig, EndpointSettings};
use client::query::{Query, segment};

use crate::command::{Arity, Command, Completes, Example};
use crate::error::Result;
use crate::flags::{Group, Parsed, int, list, pairs, switch, text};
use crate::session::Session;

/// `connect`.
pub const CONNECT: Command = Command {
    name: "connect",
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    arity: Arity::Exactly(2),
    flags: &[Group {
        title: "",
        flags: &[
            list("alias", "A further name of the container on the network"),
            pairs("driver-opt", "Option of the driver"),
            int("gw-priority", "The network with the highest number gives the way out"),
            text("ip", "IPv4 address"),
            text("ip6", "IPv6 address"),
            list("link", "Another name of a container on the network"),
            list("link-local-ip", "A link-local address"),
        ],
    }],
    completes: Completes::Networks,
    examples: &[Example {
        about: "A container that runs gets one more network",
        line: "network connect --alias db back postgres",
    }],
    ..Command::leaf(|session, parsed| Box::pin(connect(session, parsed)))
};

/// `disconnect`.
pub const DISCONNECT: Command = Command {
    name: "disconnect",
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    arity: Arity::Exactly(2),
    flags: &[Group { title: "", flags: &[switch("force", "Also if there is no such container").short('f')] }],
    completes: Completes::Networks,
    ..Command::leaf(|session, parsed| Box::pin(disconnect(session, parsed)))
};

fn operands(parsed: &Parsed) -> (String, String) {
    let at = |number: usize| parsed.args.get(number).cloned().unwrap_or_default();
    (at(0), at(1))
}

async fn connect(session: &Session, parsed: &Parsed) -> Result<()> {
    let (network, container) = operands(parsed);
    let ipam = EndpointIpamConfig {
        ipv4_address: parsed.or_empty("ip"),
        ipv6_address: parsed.or_empty("ip6"),
        link_local_ips: parsed.owned("link-local-ip"),
    };
    let options = parsed.list("driver-opt").map(|text| text.split_once('=').unwrap_or((text, "")));
    let settings = EndpointSettings {
        ipam_config: Some(ipam),
        aliases: parsed.owned("alias"),
        links: parsed.owned("link"),
        driver_opts: options.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        gw_priority: parsed.int("gw-priority").unwrap_or(0),
        ..EndpointSettings::default()
    };
    let request = ConnectRequest { container, endpoint_config: Some(settings) };
    let path = format!("/networks/{}/connect", segment(&network));
    session.client()?.post_json(&path, Query::new(), &request).await?;
    Ok(())
}

async fn disconnect(session: &Session, parsed: &Parsed) -> Result<()> {
    let (network, container) = operands(parsed);
    let request = DisconnectRequest { container, force: parsed.on("force") };
    let path = format!("/networks/{}/disconnect", segment(&network));
    session.client()?.post_json(&path, Query::new(), &request).await?;
    Ok(())
}
