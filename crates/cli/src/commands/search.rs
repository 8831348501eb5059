//! `search`.

use api::image::SearchResult;
use client::query::Query;
use client::{Method, Request};
use std::rc::Rc;

use crate::command::{Arity, Command, Example};
use crate::error::Result;
use crate::flags::{Group, Parsed, filter, int, switch};
use crate::format::{LIST_FORMAT, Listing};
use crate::session::Session;
use crate::template::{Record, Value};
use crate::units::ellipsis;

/// `search`.
pub const COMMAND: Command = Command {
    name: "search",
    usage: "[OPTIONS] TERM",
    about: "Search Docker Hub, or another registry, for images",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            filter("Only those that match (is-official=true, stars=10)"),
            LIST_FORMAT,
            int("limit", "Most results"),
            switch("no-trunc", "Do not cut anything short"),
        ],
    }],
    examples: &[
        Example { about: "Official images", line: "search --filter is-official=true nginx" },
        Example { about: "In a registry of your own", line: "search registry.example:5000/app" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(search(session, parsed)))
};

const TITLES: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

async fn search(session: &Session, parsed: &Parsed) -> Result<()> {
    let term = &parsed.args[0];
    let filters = parsed.filters();
    let limit = parsed.int("limit").map(|limit| limit.to_string());
    let mut query = Query::new().pair("term", term).maybe("limit", limit.as_deref());
    if !filters.is_empty() {
        query = query.pair("filters", &filters.to_json());
    }
    // Who asks the registry that the term begins with.
    let registry = term.split_once('/').map(|(first, _)| first).filter(|first| first.contains(['.', ':']));
    let auth = session.credentials(registry.unwrap_or_default());
    let request =
        Request::new(Method::GET, "/images/search").query(query).header("X-Registry-Auth", auth.header());
    let found: Vec<SearchResult> = session.client()?.decoded(&request).await?;
    let table = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";
    let format = parsed.text("format").unwrap_or_default();
    let listing = Listing { format, table, quiet: None, titles: TITLES };
    let full = parsed.on("no-trunc");
    session
        .out(listing.render(found.into_iter().map(|found| Rc::new(Row { found, full }) as Rc<dyn Record>))?)
}

struct Row {
    found: SearchResult,
    full: bool,
}

impl Record for Row {
    fn type_name(&self) -> &'static str {
        "*search.SearchContext"
    }

    fn fields(&self) -> &'static [&'static str] {
        &["Description", "IsAutomated", "IsOfficial", "Name", "StarCount"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        let ok = |yes: bool| if yes { "[OK]" } else { "" };
        let found = &self.found;
        Some(match name {
            "Name" => found.name.as_str().into(),
            "Description" => {
                let text = found.description.replace(['\n', '\r', '\t'], " ");
                if self.full { text.into() } else { ellipsis(&text, 45).into() }
            }
            "StarCount" => found.star_count.to_string().into(),
            "IsOfficial" => ok(found.is_official).into(),
            "IsAutomated" => ok(found.is_automated).into(),
            _ => return None,
        })
    }
}
