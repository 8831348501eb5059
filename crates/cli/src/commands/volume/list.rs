//! `volume ls`.

use api::volume::{List, Volume};
use client::query::Query;
use std::rc::Rc;

use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::size;

/// `ls`.
pub const COMMAND: Command = Command {
    name: "ls",
    aliases: &["list"],
    also: &["volume ls", "volume list"],
    usage: "[OPTIONS]",
    about: "List volumes",
    flags: &[Group {
        title: "",
        flags: &[
            switch("cluster", "").hidden(),
            filter("Only those that match (dangling=true, name=…, label=…)").short('f'),
            LIST_FORMAT,
            switch("quiet", "Only show names").short('q'),
        ],
    }],
    examples: &[Example { about: "Those that no container uses", line: "volume ls -f dangling=true" }],
    ..Command::leaf(|session, parsed| Box::pin(list(session, parsed)))
};

/// The titles of the fields.
pub(crate) const TITLES: &[(&str, &str)] = &[
    ("Name", "VOLUME NAME"),
    ("Driver", "DRIVER"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

async fn list(session: &Session, parsed: &Parsed) -> Result<()> {
    if parsed.on("cluster") {
        return Err(Error::say("--cluster is not supported yet by this version of corten"));
    }
    let filters = parsed.filters();
    let query = Query::new().maybe("filters", (!filters.is_empty()).then(|| filters.to_json()).as_deref());
    let mut list: List = session.client()?.get("/volumes", query).await?;
    list.volumes.sort_by(|a, b| a.name.cmp(&b.name));
    let quiet = parsed.on("quiet");
    let format = match parsed.text("format") {
        Some(format) => format,
        None if quiet => "",
        None => session.config.text("volumesFormat").unwrap_or_default(),
    };
    let listing = Listing {
        format,
        table: "{{.Driver}}\t{{.Name}}",
        quiet: quiet.then_some("{{.Name}}"),
        titles: TITLES,
    };
    let rows = list.volumes.into_iter().map(|volume| Rc::new(Row(volume)) as Rc<dyn Record>);
    session.out(listing.render(rows)?)
}

/// A volume in a list.
pub(crate) struct Row(pub(crate) Volume);

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*formatter.volumeContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "Availability",
            "Driver",
            "Group",
            "Labels",
            "Links",
            "Mountpoint",
            "Name",
            "Scope",
            "Size",
            "Status",
        ]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let volume = &self.0;
        Some(match name {
            "Name" => volume.name.as_str().into(),
            "Driver" => volume.driver.as_str().into(),
            "Scope" => volume.scope.as_str().into(),
            "Mountpoint" => volume.mountpoint.as_str().into(),
            "Labels" => {
                let pairs: Vec<_> =
                    volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                pairs.join(",").into()
            }
            "Links" => {
                volume.usage_data.as_ref().map_or("N/A".into(), |usage| usage.ref_count.to_string().into())
            }
            "Size" => volume.usage_data.as_ref().map_or("N/A".into(), |usage| size(usage.size).into()),
            // Of volumes of a cluster.
            "Availability" | "Group" | "Status" => "N/A".into(),
            _ => return None,
        })
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Value> {
        match (name, args) {
            ("Label", [Value::Text(label)]) => {
                Some(self.0.labels.get(&**label).map_or_else(|| "".into(), |value| value.as_str().into()))
            }
            _ => None,
        }
    }
}
