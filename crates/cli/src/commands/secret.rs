//! `secret`: secrets of this engine, without a swarm.

use api::secret::Secret;
use client::query::{Query, segment};
use client::{Body, Method, Request};
use jiff::Timestamp;
use std::rc::Rc;

use crate::archive;
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, label, list, switch};
use crate::format::{FORMAT, LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::terminal;
use crate::units::{ago, size};

/// The group.
pub static GROUP: Command = Command::group(
    "secret",
    "Manage secrets that containers are given as files in memory",
    &[&CREATE, &INSPECT, &LIST, &REMOVE],
);

/// `create`.
pub const CREATE: Command = Command {
    name: "create",
    usage: "[OPTIONS] SECRET [file|-]",
    about: "Create a secret from a file or STDIN as content",
    arity: Arity::Between(1, 2),
    flags: &[Group { title: "", flags: &[list("label", "Secret labels").short('l').check(label)] }],
    examples: &[
        Example {
            about: "From standard input, so that no shell remembers it",
            line: "secret create db-password -",
        },
        Example {
            about: "For a container, as /run/secrets/db-password",
            line: "run --secret db-password postgres",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(create(session, parsed)))
};

/// `inspect`.
pub const INSPECT: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] SECRET [SECRET...]",
    about: "Display detailed information on one or more secrets, never what they are",
    arity: Arity::AtLeast(1),
    flags: &[Group { title: "", flags: &[FORMAT] }],
    examples: &[Example { about: "Its labels", line: "secret inspect -f '{{.Labels}}' db-password" }],
    ..Command::leaf(|session, parsed| Box::pin(super::inspect::secrets(session, parsed)))
};

/// `ls`.
pub const LIST: Command = Command {
    name: "ls",
    aliases: &["list"],
    also: &["secret ls", "secret list"],
    usage: "[OPTIONS]",
    about: "List secrets",
    flags: &[Group {
        title: "",
        flags: &[
            filter("Only those that match (name=…, id=…, label=…)").short('f'),
            LIST_FORMAT,
            switch("quiet", "Only display IDs").short('q'),
        ],
    }],
    examples: &[Example { about: "All of them", line: "secret ls" }],
    ..Command::leaf(|session, parsed| Box::pin(ls(session, parsed)))
};

/// `rm`.
pub const REMOVE: Command = Command {
    name: "rm",
    aliases: &["remove"],
    also: &["secret rm", "secret remove"],
    usage: "SECRET [SECRET...]",
    about: "Remove one or more secrets that no container uses",
    arity: Arity::AtLeast(1),
    examples: &[Example { about: "One", line: "secret rm db-password" }],
    ..Command::leaf(|session, parsed| Box::pin(remove(session, parsed)))
};

async fn create(session: &Session, parsed: &Parsed) -> Result<()> {
    let input = parsed.args.get(1).map(String::as_str);
    if input.is_none_or(|input| input == archive::STANDARD) && terminal::stdin_is_terminal() {
        return Err(Error::say(
            "the secret is read from stdin, and stdin is a terminal: name a file, or use a pipe",
        ));
    }
    let upload = archive::input(input)?;
    let client = session.client()?;
    // It cannot be sent twice, so the version is settled first.
    client.version().await?;
    let mut query = Query::new().pair("name", &parsed.args[0]);
    for label in parsed.list("label") {
        query = query.pair("label", label);
    }
    let request =
        Request::new(Method::POST, "/corten/secrets/create").query(query).body(Body::Archive(upload));
    let secret: Secret = client.decoded(&request).await?;
    session.line(&secret.id)
}

async fn ls(session: &Session, parsed: &Parsed) -> Result<()> {
    let filters = parsed.filters();
    let query = Query::new().maybe("filters", (!filters.is_empty()).then(|| filters.to_json()).as_deref());
    let secrets: Vec<Secret> = session.client()?.get("/corten/secrets", query).await?;
    let listing = Listing {
        format: parsed.text("format").unwrap_or_default(),
        table: "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.Size}}",
        quiet: parsed.on("quiet").then_some("{{.ID}}"),
        titles: &[
            ("ID", "ID"),
            ("Name", "NAME"),
            ("CreatedAt", "CREATED"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
        ],
    };
    let rows = secrets.into_iter().map(|secret| Rc::new(Row(secret)) as Rc<dyn Record>);
    session.out(listing.render(rows)?)
}

async fn remove(session: &Session, parsed: &Parsed) -> Result<()> {
    let client = session.client()?;
    crate::commands::each(session, &parsed.args, |name| async move {
        client.delete(&format!("/corten/secrets/{}", segment(&name)), Query::new()).await?;
        Ok(Some(name))
    })
    .await
}

struct Row(Secret);

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*formatter.secretContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["CreatedAt", "ID", "Labels", "Name", "Size"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let secret = &self.0;
        Some(match name {
            "ID" => secret.id.as_str().into(),
            "Name" => secret.name.as_str().into(),
            "CreatedAt" => match secret.created_at.parse::<Timestamp>() {
                Ok(at) => ago(at.as_second(), Timestamp::now().as_second()).into(),
                Err(_) => secret.created_at.as_str().into(),
            },
            "Size" => size(i64::try_from(secret.size).unwrap_or(i64::MAX)).into(),
            "Labels" => {
                let pairs: Vec<_> =
                    secret.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                pairs.join(",").into()
            }
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
