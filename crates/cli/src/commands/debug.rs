//! `debug`: a shell with tools next to a container that has none.
//!
//! Beside a container that runs another one is run from the image with the tools: among its processes, in its network, with
//! its user, its capabilities and its profiles, and so without any right that the container itself does not have. Its files are
//! seen through its first process. Of an image the files are mounted, read-only, beside the tools: these find what they need (shared
//! libraries, links) where they expect it.

use api::container::{CreateRequest, HostConfig, Inspect, Mount, Top};
use client::query::{Query, segment};

use super::container::{path, run};
use crate::command::{Arity, Command, Completes, Example};
use crate::create::{RUN_FLAGS, wanted};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, parse, text};
use crate::session::Session;
use crate::terminal;

/// The image with the tools: one file that needs no other.
const TOOLBOX: &str = "busybox";
/// Where an image's files are.
const FILES: &str = "/image";
/// Goes where the image's files are, and becomes a shell.
const IMAGE_SHELL: &str = "cd \"$ROOT\" && exec sh";
/// Says where the container's files are, and becomes a shell. It does not go there: that is outside of the shell's own root, where
/// nobody could say where they are.
const CONTAINER_SHELL: &str = "echo \"the files of $OF are in $ROOT\" >&2; exec sh";

/// `debug`.
pub const COMMAND: Command = Command {
    name: "debug",
    usage: "[OPTIONS] CONTAINER|IMAGE [COMMAND] [ARG...]",
    about: "Run a shell with tools next to a container or an image",
    arity: Arity::AtLeast(1),
    interspersed: false,
    flags: &[Group {
        title: "",
        flags: &[text("toolbox", "Image with the tools").value("image").default("\"busybox\"")],
    }],
    completes: Completes::Running,
    examples: &[
        Example {
            about: "Look around in a container without a shell; its files are in $ROOT",
            line: "debug web",
        },
        Example {
            about: "Other tools than busybox",
            line: "debug --toolbox nicolaka/netshoot web tcpdump -i eth0",
        },
        Example {
            about: "What is in an image; its files are in $ROOT",
            line: "debug gcr.io/distroless/static",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(debug(session, parsed)))
};

async fn debug(session: &Session, parsed: &Parsed) -> Result<()> {
    let [name, command @ ..] = parsed.args.as_slice() else {
        return Err(Error::say("a container or an image is required"));
    };
    let toolbox = parsed.text("toolbox").unwrap_or(TOOLBOX);
    let client = session.client()?;
    let shown = client.get::<Inspect>(&path(name, "/json"), Query::new()).await;
    let (flags, change) = match shown {
        Ok(shown) => beside(session, shown, toolbox, command).await?,
        // No container: an image, which is pulled if it is not there.
        Err(err) if err.is_not_found() => {
            pulled(session, name).await?;
            (of_image(toolbox, command), None)
        }
        Err(err) => return Err(err.into()),
    };
    let parsed = parse(&[RUN_FLAGS], false, &flags)?;
    let mut wanted = wanted(&parsed, &session.config).map_err(Error::at_start)?;
    match (change, &mut wanted.request.host_config) {
        (Some(change), _) => confine(&mut wanted.request, change),
        (None, Some(host)) => host.mounts.push(Mount {
            kind: "image".into(),
            source: name.clone(),
            target: FILES.to_owned(),
            read_only: true,
            ..Mount::default()
        }),
        (None, None) => {}
    }
    run::go(session, &parsed, wanted).await
}

/// An image that is mounted must be there before.
async fn pulled(session: &Session, image: &str) -> Result<()> {
    let client = session.client()?;
    let there = client.get_text(&format!("/images/{}/json", segment(image)), Query::new()).await;
    match there {
        Err(err) if err.is_not_found() => {
            let Some(reference) = super::image::pull::named(image)? else { return Err(err.into()) };
            let what = super::image::pull::Pull { platform: "", to: crate::progress::To::Stderr };
            super::image::pull::pull(session, &reference, what).await
        }
        Err(err) => Err(err.into()),
        Ok(_) => Ok(()),
    }
}

/// What every such command line begins with.
fn common() -> Vec<String> {
    let mut flags = vec!["--rm".to_owned(), "--interactive".to_owned()];
    if terminal::stdin_is_terminal() {
        flags.push("--tty".to_owned());
    }
    flags
}

/// The command line of a container next to one that runs, and that one.
async fn beside(
    session: &Session,
    shown: Inspect,
    toolbox: &str,
    command: &[String],
) -> Result<(Vec<String>, Option<Box<Inspect>>)> {
    let name = shown.name.trim_start_matches('/');
    if shown.state.pid == 0 {
        return Err(Error::Message(format!(
            "container {name} is not running: start it, or debug its image {}",
            shown.config.image
        )));
    }
    // As others number it in a namespace of its own; elsewhere nobody outside knows.
    let first = match shown.host_config.pid_mode.as_str() {
        "" => 1,
        "host" => shown.state.pid,
        other => {
            return Err(Error::Message(format!(
                "container {name} lives among the processes of another: debug that one ({other})"
            )));
        }
    };
    let mut flags = common();
    let id = &shown.id;
    flags.push(format!("--pid={}", if first == 1 { format!("container:{id}") } else { "host".to_owned() }));
    flags.push(format!("--network=container:{id}"));
    let ipc = shown.host_config.ipc_mode.as_str();
    if ipc == "shareable" || ipc.starts_with("container:") {
        flags.push(format!("--ipc=container:{id}"));
    }
    flags.push(format!("--user={}", user(session, &shown).await?));
    flags.push(format!("--env=ROOT=/proc/{first}/root"));
    flags.push(format!("--env=OF={name}"));
    flags.extend(tools(toolbox, command, CONTAINER_SHELL));
    Ok((flags, Some(Box::new(shown))))
}

/// Who the container's first process is, by number: names are the container's own.
async fn user(session: &Session, shown: &Inspect) -> Result<String> {
    let query = Query::new().maybe("ps_args", Some("-o pid,uid,gid"));
    let top: Top = session.client()?.get(&path(&shown.id, "/top"), query).await?;
    let pid = shown.state.pid.to_string();
    let numbers = top.processes.iter().find_map(|process| match process.as_slice() {
        [number, uid, gid] if number.trim() == pid => Some(format!("{}:{}", uid.trim(), gid.trim())),
        _ => None,
    });
    numbers.ok_or_else(|| {
        Error::Message(format!(
            "cannot find out who runs in container {}",
            shown.name.trim_start_matches('/')
        ))
    })
}

/// Gives the new container what the other one has, and nothing more.
fn confine(request: &mut CreateRequest, of: Box<Inspect>) {
    let Some(host) = &mut request.host_config else { return };
    let HostConfig {
        privileged,
        cap_add,
        cap_drop,
        security_opt,
        masked_paths,
        readonly_paths,
        userns_mode,
        group_add,
        ..
    } = of.host_config;
    (host.privileged, host.cap_add, host.cap_drop) = (privileged, cap_add, cap_drop);
    (host.security_opt, host.masked_paths, host.readonly_paths) =
        (security_opt, masked_paths, readonly_paths);
    host.userns_mode = userns_mode;
    // Names of groups are the container's own, too.
    host.group_add = group_add.into_iter().filter(|group| group.parse::<u32>().is_ok()).collect();
    host.resources.cgroup_parent = of.host_config.resources.cgroup_parent;
}

/// The command line of a container beside whose tools an image's files are.
fn of_image(toolbox: &str, command: &[String]) -> Vec<String> {
    let mut flags = common();
    flags.push("--user=0".to_owned());
    flags.push(format!("--env=ROOT={FILES}"));
    flags.extend(tools(toolbox, command, IMAGE_SHELL));
    flags
}

/// The image with the tools, and what is run of it.
fn tools(toolbox: &str, command: &[String], shell: &str) -> Vec<String> {
    let mut words = ["--no-healthcheck", "--entrypoint=", toolbox].map(str::to_owned).to_vec();
    match command {
        [] => words.extend(["sh", "-c", shell].map(str::to_owned)),
        given => words.extend(given.iter().cloned()),
    }
    words
}
