//! `network ls`.

use api::network::Network;
use client::query::Query;
use std::rc::Rc;

use crate::command::Command;
use crate::error::Result;
use crate::flags::{Group, Parsed, filter, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::short_id;

/// `ls`.
pub const COMMAND: Command = Command {
    name: "ls",
    aliases: &["list"],
    also: &["network ls", "network list"],
    usage: "[OPTIONS]",
    about: "List networks",
    flags: &[Group {
        title: "",
        flags: &[
            filter("Only those that match (driver=bridge, name=…)").short('f'),
            LIST_FORMAT,
            switch("no-trunc", "Do not cut anything short"),
            switch("quiet", "Only show ids").short('q'),
        ],
    }],
    ..Command::leaf(|session, parsed| Box::pin(list(session, parsed)))
};

const TITLES: &[(&str, &str)] = &[
    ("ID", "NETWORK ID"),
    ("Name", "NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("IPv4", "IPV4"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("CreatedAt", "CREATED AT"),
];

async fn list(session: &Session, parsed: &Parsed) -> Result<()> {
    let filters = parsed.filters();
    let query = Query::new().maybe("filters", (!filters.is_empty()).then(|| filters.to_json()).as_deref());
    let mut networks: Vec<Network> = session.client()?.get("/networks", query).await?;
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    let quiet = parsed.on("quiet");
    let format = match parsed.text("format") {
        Some(format) => format,
        None if quiet => "",
        None => session.config.text("networksFormat").unwrap_or_default(),
    };
    let table = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    let listing = Listing { format, table, quiet: quiet.then_some("{{.ID}}"), titles: TITLES };
    let full = parsed.on("no-trunc");
    let rows = networks.into_iter().map(|network| Rc::new(Row { network, full }) as Rc<dyn Record>);
    session.out(listing.render(rows)?)
}

struct Row {
    network: Network,
    full: bool,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*network.networkContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["CreatedAt", "Driver", "ID", "IPv4", "IPv6", "Internal", "Labels", "Name", "Scope"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let network = &self.network;
        let yes = |value: bool| Value::from(value.to_string());
        Some(match name {
            "ID" if self.full => network.id.as_str().into(),
            "ID" => short_id(&network.id).into(),
            "Name" => network.name.as_str().into(),
            "Driver" => network.driver.as_str().into(),
            "Scope" => network.scope.as_str().into(),
            "IPv4" => yes(network.enable_ipv4),
            "IPv6" => yes(network.enable_ipv6),
            "Internal" => yes(network.internal),
            "Labels" => {
                let pairs: Vec<_> =
                    network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                pairs.join(",").into()
            }
            "CreatedAt" => network.created.replace('T', " ").replace('Z', " +0000 UTC").into(),
            _ => return None,
        })
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Value> {
        match (name, args) {
            ("Label", [Value::Text(label)]) => Some(
                self.network.labels.get(&**label).map_or_else(|| "".into(), |value| value.as_str().into()),
            ),
            _ => None,
        }
    }
}
