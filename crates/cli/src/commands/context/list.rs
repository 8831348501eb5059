//! `context ls`.

use client::context::DEFAULT;
use std::rc::Rc;

use super::{current, default_address, overridden};
use crate::command::Command;
use crate::error::Result;
use crate::flags::{Group, Parsed, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};

/// `ls`.
pub const COMMAND: Command = Command {
    name: "ls",
    aliases: &["list"],
    also: &["context ls", "context list"],
    usage: "[OPTIONS]",
    about: "List contexts",
    flags: &[Group { title: "", flags: &[LIST_FORMAT, switch("quiet", "Only show names").short('q')] }],
    ..Command::leaf(|session, parsed| Box::pin(list(session, parsed)))
};

const TITLES: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("DockerEndpoint", "DOCKER ENDPOINT"),
    ("Error", "ERROR"),
];

struct Row {
    name: String,
    description: String,
    endpoint: String,
    error: String,
    current: bool,
    table: bool,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*formatter.clientContextContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["Current", "Description", "DockerEndpoint", "Error", "Name"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "Name" if self.table && self.current => format!("{} *", self.name).into(),
            "Name" => self.name.as_str().into(),
            "Current" => self.current.into(),
            "Description" => self.description.as_str().into(),
            "DockerEndpoint" => self.endpoint.as_str().into(),
            "Error" => self.error.as_str().into(),
            _ => return None,
        })
    }
}

async fn list(session: &Session, parsed: &Parsed) -> Result<()> {
    let now = current(session)?;
    let format = parsed.text("format").unwrap_or_default();
    let table = format.is_empty() || format.starts_with("table");
    let mut rows = vec![Row {
        name: DEFAULT.into(),
        description: "Current DOCKER_HOST based configuration".into(),
        endpoint: default_address(session),
        error: String::new(),
        current: now == DEFAULT,
        table,
    }];
    for meta in session.store.list()? {
        rows.push(Row {
            description: meta.description().to_owned(),
            endpoint: meta.docker().map(|docker| docker.host).unwrap_or_default(),
            error: String::new(),
            current: now == meta.name,
            name: meta.name,
            table,
        });
    }
    if !rows.iter().any(|row| row.current) {
        let error = format!("context {now:?}: context not found");
        rows.push(Row {
            name: now,
            description: String::new(),
            endpoint: String::new(),
            error,
            current: true,
            table,
        });
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let listing = Listing {
        format,
        table: "{{.Name}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
        quiet: parsed.on("quiet").then_some("{{.Name}}"),
        titles: TITLES,
    };
    let rows = rows.into_iter().map(|row| {
        let row = Row { table: row.table && !parsed.on("quiet"), ..row };
        Rc::new(row) as Rc<dyn Record>
    });
    session.out(listing.render(rows)?)?;
    if let Some(name) = overridden() {
        session.note(&format!(
            "Warning: {name} environment variable overrides the active context. To use a context, either set the \
             global --context flag, or unset {name} environment variable."
        ));
    }
    Ok(())
}
