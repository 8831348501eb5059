//! `run`.

use api::container::WaitResponse;
use client::query::Query;
use client::{Client, Method, Request};

use super::{create, path};
use crate::command::{Arity, Command, Completes, Example};
use crate::create::{RUN_FLAGS, Wanted, wanted};
use crate::error::{CODE_REFUSED, Error, Result};
use crate::flags::Parsed;
use crate::session::Session;
use crate::stream::{Ended, Streams, converse};
use crate::{signals, terminal};

/// `run`.
pub const COMMAND: Command = Command {
    name: "run",
    also: &["container run", "run"],
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run a new container from an image",
    arity: Arity::AtLeast(1),
    interspersed: false,
    flags: RUN_FLAGS,
    completes: Completes::Images,
    examples: &[
        Example { about: "A shell in a Debian that leaves nothing behind", line: "run --rm -it debian bash" },
        Example {
            about: "A program in the background, with a folder of the host",
            line: "run -d --name job -v /data:/data:ro debian sleep 60",
        },
        Example {
            about: "At most 64 MB, half a processor, and no network",
            line: "run --rm -m 64m --cpus 0.5 --network none debian true",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(run(session, parsed)))
};

/// Refuses a terminal for the process where ours is none.
pub(crate) fn check_terminal(stdin: bool, tty: bool) -> Result<()> {
    if stdin && tty && !terminal::stdin_is_terminal() {
        return Err(Error::say("the input device is not a TTY"));
    }
    Ok(())
}

/// The keys that leave a container: of the flag, or of the configuration.
pub(crate) fn detach_keys(session: &Session, parsed: &Parsed) -> String {
    parsed.text("detach-keys").or_else(|| session.config.text("detachKeys")).unwrap_or_default().to_owned()
}

async fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    go(session, parsed, wanted(parsed, &session.config).map_err(Error::at_start)?).await
}

/// Makes the container that is wanted, and stays with it as the flags say.
pub(crate) async fn go(session: &Session, parsed: &Parsed, mut wanted: Wanted) -> Result<()> {
    let detach = parsed.on("detach");
    if detach {
        if parsed.given("attach") {
            let text = "conflicting options: cannot specify both --attach and --detach";
            return Err(Error::say(text));
        }
        let config = &mut wanted.request.config;
        (config.attach_stdin, config.attach_stdout, config.attach_stderr) = (false, false, false);
        config.stdin_once = false;
    } else {
        check_terminal(wanted.request.config.attach_stdin, wanted.request.config.tty)?;
    }
    // What the daemon would refuse at the attachment, when the container is made already.
    let keys = detach_keys(session, parsed);
    if !detach {
        api::detach::parse(&keys).map_err(|err| Error::at_start(Error::Message(err.to_string())))?;
    }
    let id = create::container(session, parsed, &mut wanted).await.map_err(Error::at_start)?;
    let client = session.client()?;
    let config = &wanted.request.config;
    let attach = config.attach_stdin || config.attach_stdout || config.attach_stderr;
    if detach || !attach {
        client.post(&path(&id, "/start"), Query::new()).await.map_err(|err| Error::at_start(err.into()))?;
        session.line(&id)?;
        if detach {
            return Ok(());
        }
    }
    let caught = (parsed.left_on("sig-proxy") && !detach).then(signals::catch);
    let foreground = Foreground {
        id: &id,
        streams: Streams {
            stdin: config.attach_stdin,
            output: config.attach_stdout || config.attach_stderr,
            tty: config.tty,
            detach_keys: keys.clone(),
        },
        attach: Query::new()
            .flag("stream", true)
            .flag("stdin", config.attach_stdin)
            .flag("stdout", config.attach_stdout)
            .flag("stderr", config.attach_stderr)
            .maybe("detachKeys", Some(&keys)),
        removed: parsed.on("rm"),
        start: attach,
    };
    foreground.go(client, caught).await
}

/// A container that the command stays with.
pub(crate) struct Foreground<'a> {
    pub(crate) id: &'a str,
    pub(crate) streams: Streams,
    pub(crate) attach: Query,
    /// Whether the container is removed when it ends.
    pub(crate) removed: bool,
    /// Whether it is still to be started.
    pub(crate) start: bool,
}

impl Foreground<'_> {
    /// Attaches, waits, starts, talks; ends with the program's exit code.
    pub(crate) async fn go(self, client: &Client, caught: Option<signals::Caught>) -> Result<()> {
        let refused = |err: client::Error| Error::at_start(err.into());
        let condition = if self.removed { "removed" } else { "next-exit" };
        let attach = Request::new(Method::POST, path(self.id, "/attach")).query(self.attach.clone());
        let wait = Request::new(Method::POST, path(self.id, "/wait"))
            .query(Query::new().pair("condition", condition));
        // Both must be in place before the program starts: nothing it prints and no way it ends may be missed.
        let (attached, waiting) =
            tokio::try_join!(client.hijack(&attach), client.send(&wait)).map_err(refused)?;
        let mut exit = waiting.body.json::<WaitResponse>();
        if self.start
            && let Err(err) = client.post(&path(self.id, "/start"), Query::new()).await
        {
            if self.removed {
                // Its removal is the engine's doing; the next command should find the name free.
                let _ = exit.next().await;
            }
            return Err(refused(err));
        }
        let resize = path(self.id, "/resize");
        let beside = async {
            let sizes = async {
                if self.streams.tty && terminal::stdout_is_terminal() {
                    signals::follow_size(|height, width| resized(client, &resize, height, width)).await;
                }
                std::future::pending::<()>().await;
            };
            let forward = async {
                match caught {
                    Some(caught) => caught.forward(client, self.id).await,
                    None => std::future::pending().await,
                }
            };
            tokio::join!(sizes, forward);
        };
        let main = async {
            if converse(attached.stream, &self.streams).await? == Ended::Detached {
                return Ok(());
            }
            status(exit.next().await)
        };
        tokio::select! {
            ended = main => ended,
            () = beside => Ok(()),
        }
    }
}

/// Tells the daemon the terminal's size; whether it took it.
pub(crate) async fn resized(client: &Client, path: &str, height: u16, width: u16) -> bool {
    let query = Query::new().pair("h", &height.to_string()).pair("w", &width.to_string());
    client.post(path, query).await.is_ok()
}

/// The exit code that the answer to `wait` is.
pub(crate) fn status(answer: client::Result<Option<WaitResponse>>) -> Result<()> {
    match answer {
        Ok(Some(WaitResponse { error: Some(error), .. })) if !error.message.is_empty() => {
            Err(Error::Start { message: error.message, code: CODE_REFUSED })
        }
        Ok(Some(WaitResponse { status_code: 0, .. })) => Ok(()),
        // A code beyond a byte is cut as the kernel cuts it.
        Ok(Some(WaitResponse { status_code, .. })) => Err(Error::Exit((status_code & 0xff) as u8)),
        Ok(None) => Err(Error::Start {
            message: "error waiting for container: unexpected EOF".into(),
            code: CODE_REFUSED,
        }),
        Err(err) => {
            Err(Error::Start { message: format!("error waiting for container: {err}"), code: CODE_REFUSED })
        }
    }
}
