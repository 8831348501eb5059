//! `commit`.

use client::query::Query;
use client::{Body, Method, Request};
use serde::Deserialize;

use crate::command::{Arity, Command, Completes, Example};
use crate::error::Result;
use crate::flags::{Group, Parsed, list, switch, text};
use crate::session::Session;

/// `commit`.
pub const COMMAND: Command = Command {
    name: "commit",
    also: &["container commit", "commit"],
    usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    about: "Create a new image from a container's changes",
    arity: Arity::Between(1, 2),
    completes: Completes::Containers,
    flags: &[Group {
        title: "",
        flags: &[
            text("author", "Author, as in \"Ann <ann@example.org>\"").short('a'),
            list("change", "Apply a Dockerfile instruction to the created image").short('c'),
            text("message", "Commit message").short('m'),
            switch("pause", "Pause the container during commit").short('p').default("true"),
        ],
    }],
    examples: &[Example {
        about: "With another program to start",
        line: "commit -m tried --change 'CMD=x' web team/web:tried",
    }],
    ..Command::leaf(|session, parsed| Box::pin(commit(session, parsed)))
};

#[derive(Deserialize)]
struct Made {
    #[serde(rename = "Id")]
    id: String,
}

async fn commit(session: &Session, parsed: &Parsed) -> Result<()> {
    let (repository, tag) = match parsed.args.get(1) {
        Some(name) => super::super::image::parts(name)?,
        None => (String::new(), String::new()),
    };
    let mut query = Query::new()
        .pair("container", &parsed.args[0])
        .maybe("repo", Some(repository.as_str()))
        .maybe("tag", Some(tag.as_str()))
        .maybe("comment", parsed.text("message"))
        .maybe("author", parsed.text("author"));
    for change in parsed.list("change") {
        query = query.pair("changes", change);
    }
    // Docker's own way to say no.
    if !parsed.left_on("pause") {
        query = query.pair("pause", "0");
    }
    let request =
        Request::new(Method::POST, "/commit").query(query).body(Body::json(&serde_json::Value::Null)?);
    let made: Made = session.client()?.decoded(&request).await?;
    session.line(&made.id)
}
