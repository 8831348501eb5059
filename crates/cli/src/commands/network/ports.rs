//! `network ports`.

use std::rc::Rc;

use api::reach::ReachedPort;
use client::query::Query;

use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};

/// `ports`.
pub const COMMAND: Command = Command {
    name: "ports",
    usage: "[OPTIONS]",
    about: "List all published ports, and who can reach them",
    flags: &[Group {
        title: "",
        flags: &[
            filter("Only those that match (container=…, network=…, protocol=…, publish=8080/tcp, reach=host|subnets|anyone|nobody|blocked)")
                .short('f'),
            LIST_FORMAT,
            switch("json", "Print as JSON, a line for each: the same as --format json"),
        ],
    }],
    examples: &[Example {
        about: "What the whole world can reach",
        line: "network ports --filter reach=anyone",
    }],
    ..Command::leaf(|session, parsed| Box::pin(ports(session, parsed)))
};

const TITLES: &[(&str, &str)] = &[
    ("Container", "CONTAINER"),
    ("ContainerID", "CONTAINER ID"),
    ("Network", "NETWORK"),
    ("Protocol", "PROTOCOL"),
    ("Host", "HOST"),
    ("HostIP", "HOST IP"),
    ("HostPort", "HOST PORT"),
    ("ContainerPort", "CONTAINER PORT"),
    ("Port", "CONTAINER PORT"),
    ("ReachedBy", "REACHED BY"),
    ("Kind", "KIND"),
    ("Subnets", "SUBNETS"),
    ("Chain", "CHAIN"),
    ("Commands", "COMMANDS"),
];

async fn ports(session: &Session, parsed: &Parsed) -> Result<()> {
    let filters = parsed.filters();
    let query = Query::new().maybe("filters", (!filters.is_empty()).then(|| filters.to_json()).as_deref());
    let ports: Vec<ReachedPort> =
        session.client()?.get("/corten/ports", query).await.map_err(|err| match err.status() {
            Some(404) => {
                Error::say("this daemon is no Corten: it does not tell who can reach published ports")
            }
            _ => err.into(),
        })?;
    let format = if parsed.on("json") { "json" } else { parsed.text("format").unwrap_or_default() };
    let table = "{{.Container}}\t{{.Host}}\t{{.Port}}\t{{.ReachedBy}}";
    let listing = Listing { format, table, quiet: None, titles: TITLES };
    session.out(listing.render(ports.into_iter().map(|port| Rc::new(Row(port)) as Rc<dyn Record>))?)
}

struct Row(ReachedPort);

impl Row {
    /// An address and a port as they are typed.
    fn host(&self) -> String {
        let (ip, port) = (&self.0.host_ip, self.0.host_port);
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    }

    /// In words.
    fn reached_by(&self) -> String {
        let reach = &self.0.reach;
        let who = match reach.kind.as_str() {
            "host" => "this host only".to_owned(),
            "subnets" => format!("the machines of {}", reach.subnets.join(", ")),
            "anyone" => "anyone".to_owned(),
            "nobody" => return "nobody: this host does not have the address".to_owned(),
            "blocked" => return format!("this host only: blocked by {}", reach.chain),
            other => other.to_owned(),
        };
        match reach.chain.as_str() {
            "" => who,
            rules if rules.ends_with("rules") => format!("{who}, as {rules} allow"),
            chain => format!("{who}, as {chain} allows"),
        }
    }
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*network.portContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "Chain",
            "Commands",
            "Container",
            "ContainerID",
            "ContainerPort",
            "Host",
            "HostIP",
            "HostPort",
            "Kind",
            "Network",
            "Port",
            "Protocol",
            "ReachedBy",
            "Subnets",
        ]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let port = &self.0;
        Some(match name {
            "Container" => port.container.as_str().into(),
            "ContainerID" => port.container_id.as_str().into(),
            "Network" => port.network.as_str().into(),
            "Protocol" => port.protocol.as_str().into(),
            "Host" => self.host().into(),
            "HostIP" => port.host_ip.as_str().into(),
            "HostPort" => port.host_port.to_string().into(),
            "ContainerPort" => port.container_port.to_string().into(),
            "Port" => format!("{}/{}", port.container_port, port.protocol).into(),
            "ReachedBy" => self.reached_by().into(),
            "Kind" => port.reach.kind.as_str().into(),
            "Subnets" => port.reach.subnets.join(",").into(),
            "Chain" => port.reach.chain.as_str().into(),
            "Commands" => port.reach.commands.join("; ").into(),
            _ => return None,
        })
    }
}
