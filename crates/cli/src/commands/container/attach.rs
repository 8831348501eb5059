//! `attach`.

use api::container::{Inspect, WaitResponse};
use client::query::Query;
use client::{Method, Request};

use super::path;
use super::run::{check_terminal, detach_keys, resized, status};
use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, switch, text};
use crate::session::Session;
use crate::stream::{Ended, Streams, converse};
use crate::{signals, terminal};

/// `attach`.
pub const COMMAND: Command = Command {
    name: "attach",
    also: &["container attach", "attach"],
    usage: "[OPTIONS] CONTAINER",
    about: "Attach stdin, stdout and stderr to a running container",
    arity: Arity::Exactly(1),
    flags: &[Group {
        title: "",
        flags: &[
            text("detach-keys", "Keys that leave the container running").default("\"ctrl-p,ctrl-q\""),
            switch("no-stdin", "Do not attach stdin"),
            switch("sig-proxy", "Hand signals on to the process").default("true"),
        ],
    }],
    completes: Completes::Running,
    ..Command::leaf(|session, parsed| Box::pin(attach(session, parsed)))
};

/// What Docker says, and fails with, when the keys are typed in `attach` and `exec`; in `run` it says nothing.
pub(crate) const DETACHED: &str = "read escape sequence";

async fn attach(session: &Session, parsed: &Parsed) -> Result<()> {
    let client = session.client()?;
    let name = &parsed.args[0];
    let container: Inspect = client.get(&path(name, "/json"), Query::new()).await?;
    if !container.state.running {
        return Err(Error::say("You cannot attach to a stopped container, start it first"));
    }
    if container.state.paused {
        return Err(Error::say("You cannot attach to a paused container, unpause it first"));
    }
    if container.state.restarting {
        return Err(Error::say("You cannot attach to a restarting container, wait until it is running"));
    }
    let stdin = !parsed.on("no-stdin") && container.config.open_stdin;
    let tty = container.config.tty;
    check_terminal(stdin, tty)?;
    let keys = detach_keys(session, parsed);
    let query = Query::new()
        .flag("stream", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stderr", true)
        .maybe("detachKeys", Some(&keys));
    let caught = (parsed.left_on("sig-proxy") && !tty).then(signals::catch);
    let wait = Request::new(Method::POST, path(&container.id, "/wait"));
    let attach = Request::new(Method::POST, path(&container.id, "/attach")).query(query);
    let (attached, waiting) = tokio::try_join!(client.hijack(&attach), client.send(&wait))?;
    let mut exit = waiting.body.json::<WaitResponse>();
    let resize = path(&container.id, "/resize");
    let streams = Streams { stdin, output: true, tty, detach_keys: keys };
    let beside = async {
        let sizes = async {
            if tty && terminal::stdout_is_terminal() {
                nudge(client, &resize).await;
                signals::follow_size(|height, width| resized(client, &resize, height, width)).await;
            }
            std::future::pending::<()>().await;
        };
        let forward = async {
            match caught {
                Some(caught) => caught.forward(client, &container.id).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(sizes, forward);
    };
    let main = async {
        match converse(attached.stream, &streams).await? {
            Ended::Detached => Err(Error::say(DETACHED)),
            Ended::Output => status(exit.next().await),
        }
    };
    let ended = tokio::select! {
        ended = main => ended,
        () = beside => Ok(()),
    };
    ended.map_err(|err| match err {
        Error::Start { message, .. } => Error::Message(message),
        other => other,
    })
}

/// A size that differs by one makes the program draw its screen again when the right one follows.
async fn nudge(client: &client::Client, resize: &str) {
    if let Some((height, width)) = terminal::size() {
        resized(client, resize, height.saturating_add(1), width.saturating_add(1)).await;
    }
}
