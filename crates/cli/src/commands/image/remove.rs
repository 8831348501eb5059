//! `rmi`.

use api::image::DeleteItem;
use client::query::{Query, segment};
use client::{Method, Request};

use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result, told};
use crate::flags::{Group, Parsed, list, switch};
use crate::session::Session;

/// `image rm`.
pub const COMMAND: Command = Command {
    name: "rm",
    aliases: &["remove"],
    also: &["image rm", "image remove", "rmi"],
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Remove one or more images",
    arity: Arity::AtLeast(1),
    flags: &[Group {
        title: "",
        flags: &[
            switch("force", "Remove it in spite of other tags and stopped containers").short('f'),
            switch("no-prune", "Keep untagged parents"),
            list("platform", "Remove only this platform (os[/arch[/variant]])"),
        ],
    }],
    completes: Completes::Images,
    examples: &[Example { about: "One of its names; the image goes with the last", line: "rmi debian:12" }],
    ..Command::leaf(|session, parsed| Box::pin(remove(session, parsed)))
};

/// One line for each name and layer that went.
pub(crate) fn lines(items: &[DeleteItem]) -> String {
    let mut text = String::new();
    for item in items {
        if item.deleted.is_empty() {
            text.push_str(&format!("Untagged: {}\n", item.untagged));
        } else {
            text.push_str(&format!("Deleted: {}\n", item.deleted));
        }
    }
    text
}

/// The images to remove. `images -q` gives an image once for each of its names: an id that comes again means nothing more.
fn names(args: &[String]) -> Vec<&String> {
    let is_id = |text: &str| {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        matches!(digits.len(), 12 | 64) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut names: Vec<&String> = Vec::with_capacity(args.len());
    for name in args {
        if !(is_id(name) && names.contains(&name)) {
            names.push(name);
        }
    }
    names
}

async fn remove(session: &Session, parsed: &Parsed) -> Result<()> {
    let client = session.client()?;
    let force = parsed.on("force");
    let mut query = Query::new().flag("force", force).flag("noprune", parsed.on("no-prune"));
    for text in parsed.list("platform").flat_map(|text| text.split(',')) {
        let platform = oci::Platform::parse(text).map_err(|err| Error::Message(err.to_string()))?;
        let json = serde_json::to_string(&platform).map_err(|err| Error::Message(err.to_string()))?;
        query = query.pair("platforms", &json);
    }
    let mut failed = false;
    for name in names(&parsed.args) {
        let request = Request::new(Method::DELETE, format!("/images/{}", segment(name))).query(query.clone());
        match client.decoded::<Vec<DeleteItem>>(&request).await {
            Ok(items) => session.out(lines(&items))?,
            Err(err) if err.is_unreachable() => return Err(err.into()),
            Err(err) => {
                session.note(&told(&err));
                failed |= !(force && err.is_not_found());
            }
        }
    }
    if failed { Err(Error::Exit(1)) } else { Ok(()) }
}
