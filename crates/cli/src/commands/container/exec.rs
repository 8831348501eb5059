//! `exec`.

use api::exec::{CreateRequest, CreateResponse, Inspect, StartRequest};
use client::query::{Query, segment};
use client::{Body, Client, Method, Request};

use super::path;
use super::run::{check_terminal, detach_keys, resized};
use crate::command::{Arity, Command, Completes, Example};
use crate::create::env_file_list;
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, list, switch, text};
use crate::session::Session;
use crate::stream::{Ended, Streams, converse};
use crate::{signals, terminal};

/// `exec`.
pub const COMMAND: Command = Command {
    name: "exec",
    also: &["container exec", "exec"],
    usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Execute a command in a running container",
    arity: Arity::AtLeast(2),
    interspersed: false,
    flags: &[Group {
        title: "",
        flags: &[
            switch("detach", "Run the command in the background").short('d'),
            text("detach-keys", "Keys that leave the command running").default("\"ctrl-p,ctrl-q\""),
            list("env", "Set an environment variable").short('e'),
            list("env-file", "Read environment variables from a file"),
            switch("interactive", "Keep stdin open").short('i'),
            switch("privileged", "Give the command extended privileges"),
            switch("tty", "Allocate a terminal").short('t'),
            text("user", "User and group, by name or number (user[:group])").short('u'),
            text("workdir", "Working directory inside the container").short('w'),
        ],
    }],
    completes: Completes::Running,
    examples: &[
        Example { about: "A shell beside the running program", line: "exec -it web sh" },
        Example { about: "One command, as another user", line: "exec -u nobody -w /tmp web ls -la" },
    ],
    ..Command::leaf(|session, parsed| Box::pin(exec(session, parsed)))
};

async fn exec(session: &Session, parsed: &Parsed) -> Result<()> {
    let (tty, detach) = (parsed.on("tty"), parsed.on("detach"));
    let stdin = parsed.on("interactive") && !detach;
    if !detach {
        check_terminal(stdin, tty)?;
    }
    let client = session.client()?;
    let console_size =
        tty.then(terminal::size).flatten().map(|(height, width)| [height.into(), width.into()]);
    let keys = detach_keys(session, parsed);
    let request = CreateRequest {
        user: parsed.or_empty("user"),
        privileged: parsed.on("privileged"),
        tty,
        console_size,
        attach_stdin: stdin,
        attach_stdout: !detach,
        attach_stderr: !detach,
        detach_keys: keys.clone(),
        env: env_file_list(parsed)?,
        working_dir: parsed.or_empty("workdir"),
        cmd: Some(parsed.args[1..].to_vec()),
    };
    let created: CreateResponse =
        client.exchange(&path(&parsed.args[0], "/exec"), Query::new(), &request).await?;
    if created.id.is_empty() {
        return Err(Error::say("exec ID empty"));
    }
    let start = StartRequest { detach, tty, console_size };
    let resource = format!("/exec/{}", segment(&created.id));
    if detach {
        return Ok(client.post_json(&format!("{resource}/start"), Query::new(), &start).await?);
    }
    let streams = Streams { stdin, output: true, tty, detach_keys: keys };
    talk(client, &resource, &start, &streams).await
}

async fn talk(client: &Client, resource: &str, start: &StartRequest, streams: &Streams) -> Result<()> {
    let request = Request::new(Method::POST, format!("{resource}/start")).body(Body::json(start)?);
    let attached = client.hijack(&request).await?;
    let resize = format!("{resource}/resize");
    let sizes = async {
        if streams.tty && terminal::stdout_is_terminal() {
            signals::follow_size(|height, width| resized(client, &resize, height, width)).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = converse(attached.stream, streams) => ended?,
        () = sizes => Ended::Detached,
    };
    if ended == Ended::Detached {
        return Err(Error::say(super::attach::DETACHED));
    }
    let result: Inspect = client.get(&format!("{resource}/json"), Query::new()).await?;
    match result.exit_code {
        Some(0) | None => Ok(()),
        // A code beyond a byte is cut as the kernel cuts it.
        Some(code) => Err(Error::Exit((code & 0xff) as u8)),
    }
}
