//! `push`.

use api::stream::Progress;
use client::query::{Query, segment};
use client::{Method, Request};
use oci::{Platform, Reference};
use serde::Deserialize;

use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch, text};
use crate::progress::{self, To};
use crate::session::Session;

/// `push`.
pub const COMMAND: Command = Command {
    name: "push",
    also: &["image push", "push"],
    usage: "[OPTIONS] NAME[:TAG]",
    about: "Upload an image to a registry",
    arity: Arity::Exactly(1),
    completes: Completes::Images,
    flags: &[Group {
        title: "",
        flags: &[
            switch("all-tags", "Push all tags of an image to the repository").short('a'),
            text("compression", "Compress the layers otherwise: gzip[:LEVEL] or zstd[:LEVEL]"),
            switch("disable-content-trust", "").hidden(),
            text("platform", "Push one platform of a multi-platform image (os[/arch[/variant]])"),
            switch("quiet", "Do not show the progress").short('q'),
        ],
    }],
    examples: &[
        Example {
            about: "To a registry of your own, by the name it has here",
            line: "push registry.example:5000/team/app:1.2",
        },
        Example {
            about: "With layers that unpack faster",
            line: "push --compression zstd registry.example:5000/team/app:1.2",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(run(session, parsed)))
};

/// What a daemon tells besides progress.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Aside {
    manifest_pushed_instead_of_index: bool,
    original_index: Content,
    selected_manifest: Content,
    content_missing: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Content {
    digest: String,
}

async fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    let reference = Reference::parse_named(&parsed.args[0]).map_err(|err| Error::Message(err.to_string()))?;
    let (all, quiet) = (parsed.on("all-tags"), parsed.on("quiet"));
    if all && !reference.is_name_only() {
        return Err(Error::say("tag can't be used with --all-tags/-a"));
    }
    let reference = match all || !reference.is_name_only() {
        true => reference,
        false => {
            let reference = reference.or_latest();
            if !quiet {
                session.line(&format!("Using default tag: {}", reference.tag().unwrap_or_default()))?;
            }
            reference
        }
    };
    if reference.digest().is_some() {
        return Err(Error::say("cannot push a digest reference"));
    }
    let platform = platform(session, parsed)?;
    let query = Query::new()
        .maybe("tag", reference.tag())
        .maybe("platform", Some(platform.as_str()))
        .maybe("compression", parsed.text("compression"));
    let auth = session.credentials(reference.domain());
    let path = format!("/images/{}/push", segment(&reference.familiar_name()));
    let request = Request::new(Method::POST, &path).query(query).header("X-Registry-Auth", auth.header());
    let response = session.client()?.send(&request).await?;
    let to = if quiet { To::Nothing } else { To::Stdout };
    let mut asides = Vec::new();
    let mut aside = |aux: &serde_json::Value| asides.extend(Aside::deserialize(aux).ok());
    let shown = progress::show_all(response.body.json::<Progress>(), to, &mut aside).await;
    asides.iter().filter_map(note).for_each(|text| session.note(&text));
    shown?;
    if quiet { session.line(&reference.to_string()) } else { Ok(()) }
}

/// `--platform` as the API wants it, in JSON.
fn platform(session: &Session, parsed: &Parsed) -> Result<String> {
    let Some(text) = parsed.text("platform").filter(|text| !text.is_empty()) else {
        return Ok(String::new());
    };
    let platform = Platform::parse(text).map_err(|err| Error::Message(format!("invalid platform: {err}")))?;
    session.note(&info(
        "Using --platform pushes only the specified platform manifest of a multi-platform image index.\n\
         Other components, like attestations, will not be included.\n\
         To push the complete multi-platform image, remove the --platform flag.\n",
    ));
    Ok(serde_json::to_string(&platform).unwrap_or_default())
}

/// A remark beside a command's output.
fn info(text: &str) -> String {
    format!("\n Info -> {}", text.replace('\n', "\n         "))
}

/// What a user should know of what was pushed.
fn note(aside: &Aside) -> Option<String> {
    if aside.manifest_pushed_instead_of_index {
        return Some(info(&format!(
            "Not all multiplatform-content is present and only the available single-platform image was pushed\n\
             {} -> {}",
            aside.original_index.digest, aside.selected_manifest.digest
        )));
    }
    aside.content_missing.then(|| {
        info(
            "You're trying to push a manifest list/index which\n\
             references multiple platform specific manifests, but not all of them are available locally\n\
             or available to the remote repository.\n\n\
             Make sure you have all the referenced content and try again.\n\n\
             You can also push only a single platform specific manifest directly by specifying the platform you want \
             to push with the --platform flag.",
        )
    })
}
