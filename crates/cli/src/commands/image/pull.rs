//! `pull`.

use api::stream::Progress;
use client::query::Query;
use client::{Method, Request};
use oci::{AnyReference, Reference};

use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch, text};
use crate::progress::{self, To};
use crate::session::Session;

/// `pull`.
pub const COMMAND: Command = Command {
    name: "pull",
    also: &["image pull", "pull"],
    usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Download an image from a registry",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("all-tags", "Download all tags of the repository").short('a'),
            switch("disable-content-trust", "").hidden(),
            text("platform", "Platform of the image (os[/arch[/variant]])"),
            switch("quiet", "Do not show the progress").short('q'),
        ],
    }],
    examples: &[Example {
        about: "From a registry of your own",
        line: "pull registry.example:5000/team/app:1.2",
    }],
    ..Command::leaf(|session, parsed| Box::pin(run(session, parsed)))
};

/// How an image is pulled.
#[derive(Debug, Clone, Copy)]
pub struct Pull<'a> {
    /// `--platform`, or nothing.
    pub platform: &'a str,
    /// Where progress goes.
    pub to: To,
}

/// The reference that a word is; none when it is an id, which no registry knows.
pub fn named(image: &str) -> Result<Option<Reference>> {
    match AnyReference::parse(image) {
        Ok(AnyReference::Named(reference)) => Ok(Some(reference.or_latest())),
        Ok(_) => Ok(None),
        Err(err) => Err(Error::Message(err.to_string())),
    }
}

async fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    let reference = Reference::parse_named(&parsed.args[0]).map_err(|err| Error::Message(err.to_string()))?;
    let all = parsed.on("all-tags");
    if all && !reference.is_name_only() {
        return Err(Error::say("tag can't be used with --all-tags/-a"));
    }
    let quiet = parsed.on("quiet");
    let reference = if all || !reference.is_name_only() {
        reference
    } else {
        if !quiet {
            session.line("Using default tag: latest")?;
        }
        reference.or_latest()
    };
    let platform = parsed.text("platform").map(str::to_owned);
    let platform = platform.or_else(|| std::env::var("DOCKER_DEFAULT_PLATFORM").ok()).unwrap_or_default();
    let to = if quiet { To::Nothing } else { To::Stdout };
    pull(session, &reference, Pull { platform: &platform, to }).await?;
    session.line(&full(&reference))
}

/// The reference with nothing left out.
fn full(reference: &Reference) -> String {
    let mut text = reference.repository();
    if let Some(tag) = reference.tag() {
        text = format!("{text}:{tag}");
    }
    if let Some(digest) = reference.digest() {
        text = format!("{text}@{}", digest.as_str());
    }
    text
}

/// Pulls an image, showing progress.
pub async fn pull(session: &Session, reference: &Reference, how: Pull<'_>) -> Result<()> {
    let client = session.client()?;
    let tag = match reference.digest() {
        Some(digest) => Some(digest.as_str()),
        None => reference.tag(),
    };
    let query = Query::new()
        .pair("fromImage", &reference.familiar_name())
        .maybe("tag", tag)
        .maybe("platform", Some(how.platform));
    let auth = session.credentials(reference.domain());
    let request =
        Request::new(Method::POST, "/images/create").query(query).header("X-Registry-Auth", auth.header());
    let response = client.send(&request).await?;
    progress::show(response.body.json::<Progress>(), how.to).await
}
