//! `build`.

mod call;
mod classic;
mod folder;
mod include;
mod layout;
mod output;
mod request;
mod secret;
mod solve;
mod ssh;
mod watch;

pub(in crate::commands) use solve::open;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::archive::STANDARD;
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Flag, Group, Parsed, bytes, int, list, pairs, switch, text};
use crate::session::Session;

/// A Dockerfile that comes from standard input: more is an archive, which is told by its first bytes.
const TEXT_BYTES_MAX: u64 = build::dockerfile::TEXT_BYTES_MAX as u64;
/// How an archive is told from a text: where its first bytes are, and what they are.
const ARCHIVES: [(usize, &[u8]); 5] = [
    (257, b"ustar"),
    (0, &[0x1f, 0x8b]),
    (0, b"BZh"),
    (0, &[0xfd, b'7', b'z']),
    (0, &[0x28, 0xb5, 0x2f, 0xfd]),
];
/// Enough to tell.
const PEEKED_BYTES: u64 = 512;
/// The daemon's header that says which builder is to be used, and what it says for BuildKit's.
const BUILDER: (&str, &str) = ("builder-version", "2");
/// Docker's way to ask for the classic builder.
const CLASSIC: &str = "DOCKER_BUILDKIT";
/// The variable that says when the result was made: the environment's counts where none is given, as for all that build reproducibly.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// `build`.
pub const COMMAND: Command = Command {
    name: "build",
    also: &["image build", "build", "builder build"],
    usage: "[OPTIONS] PATH | URL | -",
    about: "Build an image from a Dockerfile",
    arity: Arity::Exactly(1),
    flags: &[
        Group {
            title: "",
            flags: &[
                list(
                    "allow",
                    "Allow steps what they may not do by themselves (network.host, security.insecure)",
                ),
                list("ssh", "Agent or keys that RUN --mount=type=ssh uses")
                    .value("default|ID[=SOCKET|KEY[,KEY]]"),
                list("add-host", "Add a host-to-address mapping for the steps (name:address)"),
                list(
                    "build-context",
                    "Another directory or image to copy from (name=path, name=docker-image://image)",
                )
                .value("name=value"),
                pairs_or_names("build-arg", "Set a variable of the build"),
                text(
                    "call",
                    "What is asked: build, check, outline, targets (with ,format=json for programs)",
                )
                .value("question")
                .default("build"),
                text("cgroup-parent", "The control group above those of the steps"),
                switch("check", "Tell what is wrong with the Dockerfile, and build nothing"),
                int("cpu-period", "Limit the CPU CFS (Completely Fair Scheduler) period of the steps"),
                int("cpu-quota", "Limit the CPU CFS (Completely Fair Scheduler) quota of the steps"),
                int("cpu-shares", "CPU shares of the steps (relative weight)").short('c'),
                text("cpuset-cpus", "CPUs that the steps may use (0-3, 0,1)"),
                text("cpuset-mems", "Memory nodes that the steps may use (0-3, 0,1)"),
                text("file", "Path of the Dockerfile, - for standard input (default: PATH/Dockerfile)")
                    .short('f'),
                text("iidfile", "Write the image's id to a file").value("file"),
                pairs("label", "Set a label of the image"),
                bytes("memory", "Limit the memory of the steps").short('m'),
                bytes(
                    "memory-swap",
                    "Limit memory and swap of the steps together, -1 for as much as there is",
                ),
                text("network", "The network of the steps (default, none, host, or one of the engine's)"),
                switch("no-cache", "Make every step again"),
                list("no-cache-filter", "Make the steps of these stages again").value("stage"),
                text("platform", "What the image is for (os/architecture[/variant])"),
                text("progress", "How progress is shown (auto, tty, plain, rawjson, quiet)").default("auto"),
                switch("pull", "Look for newer images to build on"),
                switch("quiet", "Print the image's id alone").short('q'),
                list("secret", "A secret for the steps that ask for it (id=NAME[,src=FILE|,env=VARIABLE])"),
                bytes("shm-size", "Size of /dev/shm of the steps"),
                switch("squash", "Make one layer of what the Dockerfile adds"),
                list("annotation", "Add a remark to the image's documents ([manifest|index…:]KEY=VALUE)"),
                list("attest", "State something of the image (type=sbom|provenance[,KEY=VALUE])"),
                list(
                    "cache-from",
                    "Where steps may have been made already (NAME, or type=registry,ref=NAME)",
                ),
                list(
                    "cache-to",
                    "Where others find what was made (type=inline, or type=registry,ref=NAME[,mode=max])",
                ),
                text("metadata-file", "Write what came of the build to a file, as JSON"),
                list(
                    "output",
                    "Where the result goes (type=local|tar|oci|docker|image|registry[,dest=PATH])",
                )
                .short('o'),
                text("provenance", "State how the image came to be (true, false, mode=min|max)"),
                switch("push", "Push the image to the registries of its names"),
                text("sbom", "State what packages are in the image (true, false)"),
                list("tag", "Name of the image (name[:tag])").short('t'),
                text("target", "The stage to build"),
                list("ulimit", "Limits of the steps' processes (name=soft[:hard])").value("ulimit"),
                switch("watch", "Build again whenever a file changes that the build may read, until Ctrl-C"),
            ],
        },
        Group {
            title: "",
            flags: &[
                // Docker's that have nothing to do here, or next to nothing: `accepted` says of each which of its values are taken.
                switch("rm", "Remove containers of steps: none stay").hidden(),
                switch("force-rm", "Remove containers of steps: none stay").hidden(),
                switch("load", "The image is in the engine, also if it goes elsewhere").hidden(),
                switch("compress", "Compress what is sent: see --output for what is made").hidden(),
                text("builder", "Who builds: there is `default` alone").hidden(),
                text("isolation", "There is `default` alone").hidden(),
                switch("disable-content-trust", "There is nothing that would have to be left out").hidden(),
                list("security-opt", "Refused: steps are confined as containers are").hidden(),
                list("policy", "Refused: not available yet").hidden(),
                switch("debug", "Refused: this client has no log of its own").short('D').hidden(),
            ],
        },
    ],
    examples: &[
        Example { about: "The Dockerfile of this directory", line: "build -t team/web:1 ." },
        Example { about: "What is wrong with it, without building", line: "build --check ." },
        Example {
            about: "One of its stages, with a variable",
            line: "build --target tests --build-arg VERSION=2 .",
        },
        Example {
            about: "With a secret that RUN --mount=type=secret,id=token reads, and that is in no layer",
            line: "build --secret id=token,src=token.txt .",
        },
        Example {
            about: "Again whenever something changes that .dockerignore does not hide",
            line: "build --watch -t team/web:dev .",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(build(session, parsed)))
};

const fn pairs_or_names(long: &'static str, help: &'static str) -> Flag {
    list(long, help).value("NAME[=value]")
}

/// What is built.
enum Input {
    /// What the engine fetches.
    Address(String),
    /// A directory.
    Directory(PathBuf),
    /// A Dockerfile that needs no files.
    Dockerfile(String),
    /// An archive on standard input, of which this was read.
    Archive(Vec<u8>),
}

async fn build(session: &Session, parsed: &Parsed) -> Result<()> {
    accepted(session, parsed)?;
    if let Some(call) = call::Call::of(parsed)? {
        if parsed.on("watch") {
            return Err(Error::say("--watch builds: leave it out to ask --check or --call"));
        }
        return call.answer(session, parsed, input(&parsed.args[0], parsed.text("file"))?).await;
    }
    if parsed.on("watch") {
        let directory = watch::directory(parsed)?;
        let builder = Builder::of(session).await?;
        return watch::run(session, parsed, builder, directory).await;
    }
    let builder = Builder::of(session).await?;
    builder.build(session, parsed, input(&parsed.args[0], parsed.text("file"))?).await.map(drop)
}

/// Which of the engine's builders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Builder {
    BuildKit,
    Classic,
}

impl Builder {
    /// The one that the engine has and the user wants.
    async fn of(session: &Session) -> Result<Self> {
        let headers = session.client()?.ping().await?;
        let has_buildkit = headers.get(BUILDER.0).is_some_and(|version| version == BUILDER.1);
        let is_classic = !has_buildkit || std::env::var(CLASSIC).is_ok_and(|value| is_off(&value));
        Ok(if is_classic { Self::Classic } else { Self::BuildKit })
    }

    /// Builds once; the image's id, if there is one.
    async fn build(self, session: &Session, parsed: &Parsed, input: Input) -> Result<Option<String>> {
        let id = match self {
            Self::BuildKit => solve::build(session, parsed, input).await?,
            Self::Classic => classic::build(session, parsed, input).await?,
        };
        if let (Some(path), Some(id)) = (parsed.text("iidfile"), &id) {
            fs::write(path, id).map_err(|source| Error::File {
                verb: "write",
                path: path.to_owned(),
                source,
            })?;
        }
        Ok(id)
    }
}

/// Refuses what flags of Docker's ask for that is not here.
fn accepted(session: &Session, parsed: &Parsed) -> Result<()> {
    let refuse = |why: &str| Err(Error::Message(why.to_owned()));
    if parsed.given("rm") && !parsed.on("rm") {
        return refuse("--rm=false is not available: steps have no containers that could stay; leave it out");
    }
    if parsed.given("disable-content-trust") && !parsed.on("disable-content-trust") {
        return refuse(
            "--disable-content-trust=false is not available: there is no Notary; set signature-policy in daemon.json",
        );
    }
    if parsed.list("security-opt").next().is_some() {
        return refuse(
            "The daemon on this platform does not support setting security options on build: leave --security-opt out",
        );
    }
    if parsed.given("policy") {
        return refuse("--policy is not available yet: set signature-policy in daemon.json");
    }
    if parsed.on("debug") {
        return refuse(
            "--debug is not available: this client has no log; --progress rawjson shows all that is told",
        );
    }
    match parsed.text("isolation").unwrap_or_default() {
        "" | "default" => {}
        other => return Err(Error::Message(format!("Unsupported isolation: {other:?}"))),
    }
    match parsed.text("builder").unwrap_or_default() {
        "" | "default" => {}
        other => {
            return Err(Error::Message(format!(
                "no builder {other:?} found: the engine builds itself; leave --builder out, or choose an engine with --context"
            )));
        }
    }
    if parsed.on("compress") {
        session.note("WARNING: --compress changes nothing: files are sent one by one, and only those that have changed");
    }
    Ok(())
}

/// As Go reads what is not true.
fn is_off(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

/// What is to be built, by its place and the flag for the Dockerfile.
fn input(place: &str, file: Option<&str>) -> Result<Input> {
    if place == STANDARD {
        if file == Some(STANDARD) {
            return Err(Error::say(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        let input = standard()?;
        if matches!(input, Input::Dockerfile(_)) && file.is_some_and(|file| !file.is_empty()) {
            return Err(Error::say(
                "ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles",
            ));
        }
        return Ok(input);
    }
    if place.contains("://") || place.starts_with("git@") || place.starts_with("github.com/") {
        return Ok(Input::Address(place.to_owned()));
    }
    let directory = fs::canonicalize(place)
        .map_err(|_| Error::Message(format!("unable to prepare context: path {place:?} not found")))?;
    if !directory.is_dir() {
        return Err(Error::Message(format!(
            "unable to prepare context: context must be a directory: {place}"
        )));
    }
    Ok(Input::Directory(directory))
}

/// An archive from standard input, or a Dockerfile that needs no files.
fn standard() -> Result<Input> {
    let mut begun = Vec::new();
    let read = io::stdin().take(PEEKED_BYTES).read_to_end(&mut begun);
    read.map_err(failed("read", Path::new("standard input")))?;
    if ARCHIVES.iter().any(|(at, magic)| begun.get(*at..).is_some_and(|rest| rest.starts_with(magic))) {
        return Ok(Input::Archive(begun));
    }
    Ok(Input::Dockerfile(dockerfile_from_standard_input(begun)?))
}

/// The text of a Dockerfile from standard input, of which this was read.
fn dockerfile_from_standard_input(mut begun: Vec<u8>) -> Result<String> {
    let failed = failed("read", Path::new("standard input"));
    io::stdin().take(TEXT_BYTES_MAX).read_to_end(&mut begun).map_err(&failed)?;
    build::text::decode("Dockerfile", begun).map_err(|why| {
        Error::Message(format!("standard input is neither an archive nor a Dockerfile: {why}"))
    })
}

/// Variables of the build. One without a value is the environment's, if it has it; the time of the result always may be.
fn arguments(parsed: &Parsed) -> BTreeMap<String, String> {
    let pair = |text: &str| match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
    };
    let mut arguments: BTreeMap<String, String> = parsed.list("build-arg").filter_map(pair).collect();
    if let Some(epoch) = std::env::var(EPOCH).ok().filter(|epoch| !epoch.is_empty()) {
        arguments.entry(EPOCH.to_owned()).or_insert(epoch);
    }
    arguments
}

fn labels(parsed: &Parsed) -> BTreeMap<&str, &str> {
    parsed.list("label").map(|text| text.split_once('=').unwrap_or((text, ""))).collect()
}

/// Limits of processes: name, what they get, and what they may raise it to.
fn ulimits(parsed: &Parsed) -> Result<Vec<(&str, i64, i64)>> {
    let read = |text| -> Result<(&str, i64, i64)> {
        let wrong = || Error::Message(format!("invalid ulimit argument: {text}"));
        let (name, values): (&str, &str) = str::split_once(text, '=').ok_or_else(wrong)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
        Ok((name, number(soft)?, number(hard)?))
    };
    parsed.list("ulimit").map(read).collect()
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::File { verb, path: path.clone(), source }
}
