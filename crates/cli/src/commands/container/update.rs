//! `update`.

use api::container::UpdateResponse;
use client::query::Query;

use super::path;
use crate::command::{Arity, Command, Completes, Example};
use crate::commands::each;
use crate::create::{UPDATE_FLAGS, changes};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;

/// `update`.
pub const COMMAND: Command = Command {
    name: "update",
    also: &["container update", "update"],
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Change limits, ports, rates, environment, mounts and the restart policy of containers",
    arity: Arity::AtLeast(1),
    flags: UPDATE_FLAGS,
    completes: Completes::Containers,
    examples: &[
        Example { about: "At most 512 MB from now on", line: "update -m 512m web" },
        Example {
            about: "Another port of the host, while it runs",
            line: "update --publish-add 8443:443 --publish-rm 8080:80 web",
        },
        Example {
            about: "Another level of its log, and a folder, when it starts next",
            line: "update --env-add LEVEL=debug --mount-add type=bind,src=/srv/www,dst=/www,ro web",
        },
        Example {
            about: "At most 10 megabits a second out of it",
            line: "update --network name=front,rate-out=10mbit web",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(update(session, parsed)))
};

async fn update(session: &Session, parsed: &Parsed) -> Result<()> {
    let given = UPDATE_FLAGS.iter().flat_map(|group| group.flags).any(|flag| parsed.given(flag.long));
    if !given {
        return Err(Error::say("you must provide one or more flags when using this command"));
    }
    let body = changes(parsed)?;
    let client = session.client()?;
    let (body, further) = (&body, body.corten.is_some());
    each(session, &parsed.args, |name| async move {
        let answer: UpdateResponse = client.exchange(&path(&name, "/update"), Query::new(), body).await?;
        for warning in &answer.warnings {
            session.note(warning);
        }
        // Docker's daemon takes no notice of fields that it does not know.
        if further && answer.corten.is_none() {
            return Err(Error::Message(format!(
                "{name}: this daemon is no Corten: it cannot change ports, networks, environment and mounts of a container"
            )));
        }
        Ok(Some(name))
    })
    .await
}
