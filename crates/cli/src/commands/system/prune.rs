//! `system prune`.

use crate::command::Command;
use crate::commands::{container, image, volume};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, switch};
use crate::session::Session;
use crate::units::size;

/// `prune`.
pub const COMMAND: Command = Command {
    name: "prune",
    usage: "[OPTIONS]",
    about: "Remove unused data",
    flags: &[Group {
        title: "",
        flags: &[
            switch("all", "Remove all images that no container uses, not only those without a name").short('a'),
            filter("Only what matches (label=key=value, until=24h)"),
            switch("force", "Do not ask").short('f'),
            switch("volumes", "Remove anonymous volumes too"),
        ],
    }],
    ..Command::leaf(|session, parsed| Box::pin(prune(session, parsed)))
};

async fn prune(session: &Session, parsed: &Parsed) -> Result<()> {
    let (all, volumes) = (parsed.on("all"), parsed.on("volumes"));
    let filters = parsed.filters();
    if volumes && filters.contains("until") {
        return Err(Error::say("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut what = vec!["  - all stopped containers"];
    if volumes {
        what.push("  - all anonymous volumes not used by at least one container");
    }
    what.push(if all { "  - all images without at least one container associated to them" } else { "  - all dangling images" });
    let question = format!("WARNING! This will remove:\n{}\n\nAre you sure you want to continue?", what.join("\n"));
    if !parsed.on("force") && !session.confirm(&question)? {
        return Ok(());
    }
    let mut reclaimed = 0i64;
    let (text, bytes) = container::prune::report(session, &filters).await?;
    session.out(&text)?;
    reclaimed = reclaimed.saturating_add(bytes);
    if volumes {
        let (text, bytes) = volume::prune::report(session, &filters).await?;
        session.out(&text)?;
        reclaimed = reclaimed.saturating_add(bytes);
    }
    let (text, bytes) = image::prune::report(session, filters, all).await?;
    session.out(&text)?;
    reclaimed = reclaimed.saturating_add(bytes);
    session.line(&format!("Total reclaimed space: {}", size(reclaimed)))
}
