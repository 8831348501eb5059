//! `ps`.

use api::container::{PortSummary, Summary};
use client::query::Query;
use std::rc::Rc;

use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, int, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::{ago, ellipsis, go_time, now, short_id, size_with};

/// `container ls`.
pub const COMMAND: Command = Command {
    name: "ls",
    aliases: &["list", "ps"],
    also: &["container ls", "container list", "container ps", "ps"],
    usage: "[OPTIONS]",
    about: "List containers",
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Show those that do not run too").short('a'),
            filter("Only those that match (status=exited, name=web, label=key=value, …)").short('f'),
            LIST_FORMAT,
            int("last", "Show the last n created, running or not").short('n').default("-1"),
            switch("latest", "Show the last created, running or not").short('l'),
            switch("no-trunc", "Do not cut anything short"),
            switch("quiet", "Only show ids").short('q'),
            switch("size", "Show sizes").short('s'),
        ],
    }],
    examples: &[
        Example { about: "All that have ended with an error", line: "ps -a --filter exited=1" },
        Example { about: "Names and states", line: "ps --format '{{.Names}}\\t{{.State}}'" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(list(session, parsed)))
};

const TABLE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";

/// The titles of the fields.
pub(crate) const TITLES: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

async fn list(session: &Session, parsed: &Parsed) -> Result<()> {
    let quiet = parsed.on("quiet");
    let format = match parsed.text("format") {
        Some(format) => format,
        None if quiet => "",
        None => session.config.text("psFormat").unwrap_or_default(),
    };
    let latest = if parsed.on("latest") { 1 } else { parsed.int("last").unwrap_or(-1) };
    if quiet && parsed.given("format") {
        session.note("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    // A size costs the daemon a walk: it is asked for only where it is shown.
    let size = parsed.on("size") || format.contains(".Size") || format.contains("json .}");
    let filters = parsed.filters();
    let query = Query::new()
        .flag("all", parsed.on("all") || latest > 0)
        .maybe("limit", (latest > 0).then(|| latest.to_string()).as_deref())
        .flag("size", size)
        .maybe("filters", (!filters.is_empty()).then(|| filters.to_json()).as_deref());
    let table = if parsed.on("size") { format!("{TABLE}\t{{{{.Size}}}}") } else { TABLE.to_owned() };
    let listing = Listing { format, table: &table, quiet: quiet.then_some("{{.ID}}"), titles: TITLES };
    // A field that does not exist is wrong also where there is nothing to list.
    let sample: Rc<dyn Record> = Rc::new(Row { summary: Summary::default(), full: false, now: 0 });
    match listing.render([sample]) {
        Err(Error::Message(text))
            if text.contains("can't evaluate field") || text.contains("failed to parse") =>
        {
            return Err(Error::Message(text));
        }
        _ => {}
    }
    let containers: Vec<Summary> = session.client()?.get("/containers/json", query).await?;
    let full = parsed.on("no-trunc");
    let now = now();
    let rows = containers.into_iter().map(|summary| Rc::new(Row { summary, full, now }) as Rc<dyn Record>);
    session.out(listing.render(rows)?)
}

/// A container in a list.
pub struct Row {
    /// What the daemon says of it.
    pub summary: Summary,
    /// Whether nothing is cut short.
    pub full: bool,
    /// The time that ages are counted from.
    pub now: i64,
}

impl Row {
    fn cut(&self, text: &str, width: usize) -> String {
        if self.full { text.to_owned() } else { ellipsis(text, width) }
    }

    fn image(&self) -> String {
        let image = self.summary.image.as_str();
        if image.is_empty() {
            return "<no image>".into();
        }
        if self.full {
            return image.to_owned();
        }
        // An image without a name is shown by the beginning of its id.
        if short_id(image) == short_id(&self.summary.image_id) {
            return short_id(&self.summary.image_id).to_owned();
        }
        match image.split_once('@') {
            Some((name, _)) => name.to_owned(),
            None => image.to_owned(),
        }
    }

    fn names(&self) -> String {
        let names = self.summary.names.iter().map(|name| name.trim_start_matches('/'));
        // Names with a slash are links.
        let all: Vec<_> = names.filter(|name| self.full || !name.contains('/')).collect();
        all.join(",")
    }

    fn mounts(&self) -> String {
        let all: Vec<_> = self
            .summary
            .mounts
            .iter()
            .map(|mount| if mount.name.is_empty() { &mount.source } else { &mount.name })
            .map(|name| self.cut(name, 15))
            .collect();
        all.join(",")
    }

    fn size(&self) -> String {
        let written = size_with(self.summary.size_rw.unwrap_or(0), 3);
        match self.summary.size_root_fs {
            Some(all) if all > 0 => format!("{written} (virtual {})", size_with(all, 3)),
            _ => written,
        }
    }
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*formatter.ContainerContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &[
            "Command",
            "CreatedAt",
            "ID",
            "Image",
            "Labels",
            "LocalVolumes",
            "Mounts",
            "Names",
            "Networks",
            "Platform",
            "Ports",
            "RunningFor",
            "Size",
            "State",
            "Status",
        ]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let summary = &self.summary;
        Some(match name {
            "ID" if self.full => summary.id.as_str().into(),
            "ID" => short_id(&summary.id).into(),
            "Names" => self.names().into(),
            "Image" => self.image().into(),
            "Command" => crate::template::quoted(&self.cut(&summary.command, 20)).into(),
            "CreatedAt" => go_time(summary.created).into(),
            "RunningFor" => ago(summary.created, self.now).into(),
            "Ports" => ports(&summary.ports).into(),
            "State" => summary.state.as_str().into(),
            "Status" => summary.status.as_str().into(),
            "Size" => self.size().into(),
            "Labels" => {
                let pairs: Vec<_> =
                    summary.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                pairs.join(",").into()
            }
            "Mounts" => self.mounts().into(),
            "LocalVolumes" => {
                summary.mounts.iter().filter(|mount| mount.driver == "local").count().to_string().into()
            }
            "Networks" => {
                let names: Vec<_> = summary.network_settings.networks.keys().map(String::as_str).collect();
                names.join(",").into()
            }
            "Platform" => {
                match summary.image_manifest_descriptor.as_ref().and_then(|image| image.platform.as_ref()) {
                    Some(platform) => Value::Record(Rc::new(Platform(platform.clone()))),
                    None => Value::Nil,
                }
            }
            _ => return None,
        })
    }

    fn method(&self, name: &str, args: &[Value]) -> Option<Value> {
        match (name, args) {
            ("Label", [Value::Text(label)]) => Some(
                self.summary.labels.get(&**label).map_or_else(|| "".into(), |value| value.as_str().into()),
            ),
            _ => None,
        }
    }
}

/// A platform: `linux/arm64/v8` as text, an object as JSON.
struct Platform(api::image::Platform);

impl Record for Platform {
    fn type_name(&self) -> &'static str {
        "*formatter.Platform"
    }

    fn fields(&self) -> &'static [&'static str] {
        if self.0.variant.is_empty() { &["architecture", "os"] } else { &["architecture", "os", "variant"] }
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name.to_ascii_lowercase().as_str() {
            "architecture" => Some(self.0.architecture.as_str().into()),
            "os" => Some(self.0.os.as_str().into()),
            "variant" => Some(self.0.variant.as_str().into()),
            _ => None,
        }
    }

    fn text(&self) -> Option<String> {
        let parts = [&self.0.os, &self.0.architecture, &self.0.variant];
        Some(
            parts
                .into_iter()
                .filter(|part| !part.is_empty())
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("/"),
        )
    }
}

/// Ports as `ps` shows them, neighbours joined: `0.0.0.0:8080-8081->80-81/tcp, 443/tcp`.
pub fn ports(all: &[PortSummary]) -> String {
    let mut sorted: Vec<_> = all.iter().collect();
    sorted.sort_by(|a, b| {
        let key = |p: &PortSummary| (p.private_port, p.ip.clone(), p.public_port, p.protocol.clone());
        key(a).cmp(&key(b))
    });
    let mut ranges: Vec<(&PortSummary, u16)> = Vec::new();
    let mut plain: Vec<(&PortSummary, u16)> = Vec::new();
    for port in sorted {
        let target = if port.public_port == 0 { &mut plain } else { &mut ranges };
        let joined = target.iter_mut().find(|(first, last)| {
            let step = last - first.private_port;
            first.protocol == port.protocol
                && first.ip == port.ip
                && last.checked_add(1) == Some(port.private_port)
                && (port.public_port == 0
                    || u32::from(first.public_port) + u32::from(step) + 1 == u32::from(port.public_port))
                && (port.public_port == 0
                    || (first.public_port == first.private_port) == (port.public_port == port.private_port))
        });
        match joined {
            Some((_, last)) => *last = port.private_port,
            None => target.push((port, port.private_port)),
        }
    }
    let range = |from: u16, to: u16| if from == to { from.to_string() } else { format!("{from}-{to}") };
    let published = ranges.iter().map(|(first, last)| {
        let public = range(first.public_port, first.public_port + (last - first.private_port));
        let host = if first.ip.contains(':') { format!("[{}]", first.ip) } else { first.ip.clone() };
        let host = if host.is_empty() { public } else { format!("{host}:{public}") };
        format!("{host}->{}/{}", range(first.private_port, *last), first.protocol)
    });
    let exposed =
        plain.iter().map(|(first, last)| format!("{}/{}", range(first.private_port, *last), first.protocol));
    published.chain(exposed).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public: u16, private: u16) -> PortSummary {
        PortSummary { ip: ip.into(), public_port: public, private_port: private, protocol: "tcp".into() }
    }

    #[test]
    fn neighbouring_ports_are_joined() {
        assert_eq!(
            ports(&[port("", 0, 443), port("0.0.0.0", 8081, 81), port("0.0.0.0", 8080, 80)]),
            "0.0.0.0:8080-8081->80-81/tcp, 443/tcp"
        );
        assert_eq!(ports(&[port("::", 80, 80)]), "[::]:80->80/tcp");
        assert_eq!(ports(&[]), "");
        assert_eq!(ports(&[port("", 0, 65535), port("", 0, 65534)]), "65534-65535/tcp");
    }

    #[test]
    fn a_row() {
        let summary = Summary {
            id: "0123456789abcdef".into(),
            names: vec!["/web".into(), "/other/web".into()],
            image: "debian".into(),
            command: "sleep 1000000000000000000".into(),
            created: 1,
            labels: [("a.b".to_owned(), "c".to_owned())].into(),
            ..Summary::default()
        };
        let row = Row { summary, full: false, now: 100 };
        let shown = |name: &str| row.field(name).unwrap().printed();
        assert_eq!(shown("ID"), "0123456789ab");
        assert_eq!(shown("Names"), "web");
        assert_eq!(shown("Command"), "\"sleep 1000000000000…\"");
        assert_eq!(shown("RunningFor"), "About a minute ago");
        assert_eq!(row.method("Label", &["a.b".into()]).unwrap().printed(), "c");
        assert!(row.field("Nope").is_none());
    }
}
