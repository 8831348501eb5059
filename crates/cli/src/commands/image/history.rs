//! `history`.

use api::image::History;
use client::query::{Query, segment};
use std::rc::Rc;

use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch, text};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::{ago, ellipsis, now, rfc3339, short_id, size_with};

/// `history`.
pub const COMMAND: Command = Command {
    name: "history",
    also: &["image history", "history"],
    usage: "[OPTIONS] IMAGE",
    about: "Show the history of an image",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            LIST_FORMAT,
            switch("human", "Sizes and ages as people read them").short('H').default("true"),
            switch("no-trunc", "Do not cut anything short"),
            text("platform", "Platform of the image (os[/arch[/variant]])"),
            switch("quiet", "Only show ids").short('q'),
        ],
    }],
    completes: Completes::Images,
    ..Command::leaf(|session, parsed| Box::pin(history(session, parsed)))
};

const TITLES: &[(&str, &str)] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

async fn history(session: &Session, parsed: &Parsed) -> Result<()> {
    let platform = match parsed.text("platform") {
        None => None,
        Some(text) => {
            let platform = oci::Platform::parse(text).map_err(|err| Error::Message(err.to_string()))?;
            Some(serde_json::to_string(&platform).map_err(|err| Error::Message(err.to_string()))?)
        }
    };
    let path = format!("/images/{}/history", segment(&parsed.args[0]));
    let query = Query::new().maybe("platform", platform.as_deref());
    let steps: Vec<History> = session.client()?.get(&path, query).await?;
    let human = parsed.left_on("human");
    let table = if human {
        "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    } else {
        "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    };
    let format = parsed.text("format").unwrap_or_default();
    let quiet = parsed.on("quiet").then_some("{{.ID}}");
    let listing = Listing { format, table, quiet, titles: TITLES };
    let full = parsed.on("no-trunc");
    let now = now();
    let rows = steps.into_iter().map(|step| Rc::new(Row { step, human, full, now }) as Rc<dyn Record>);
    session.out(listing.render(rows)?)
}

struct Row {
    step: History,
    human: bool,
    full: bool,
    now: i64,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*image.historyContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let step = &self.step;
        // Before 1970 nothing was built: such a time means that nobody knows.
        let known = step.created > 0;
        Some(match name {
            "ID" if self.full => step.id.as_str().into(),
            "ID" => short_id(&step.id).into(),
            "CreatedAt" if !known => "".into(),
            "CreatedAt" => rfc3339(step.created).into(),
            "CreatedSince" if !self.human => rfc3339(step.created).into(),
            "CreatedSince" if !known => "N/A".into(),
            "CreatedSince" => ago(step.created, self.now).into(),
            "CreatedBy" => {
                let text = step.created_by.replace('\t', " ");
                if self.full { text.into() } else { ellipsis(&text, 45).into() }
            }
            "Size" if self.human => size_with(step.size, 3).into(),
            "Size" => step.size.to_string().into(),
            "Comment" => step.comment.as_str().into(),
            _ => return None,
        })
    }
}
