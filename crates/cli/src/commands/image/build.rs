//! `build`.

mod folder;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use api::stream::Progress;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use client::query::Query;
use client::{Body, Method, Request, Upload};

use crate::archive::STANDARD;
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Flag, Group, Parsed, bytes, int, list, pairs, switch, text};
use crate::progress::{self, To};
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

/// Flags of Docker's that are not here yet.
const ABSENT: [&str; 21] = [
    "allow",
    "annotation",
    "attest",
    "build-context",
    "builder",
    "cache-from",
    "cache-to",
    "call",
    "check",
    "debug",
    "metadata-file",
    "no-cache-filter",
    "output",
    "policy",
    "provenance",
    "push",
    "sbom",
    "secret",
    "security-opt",
    "ssh",
    "isolation",
];

const fn absent(long: &'static str) -> Flag {
    list(long, "Not available yet").hidden()
}

/// `build`.
pub const COMMAND: Command = Command {
    name: "build",
    also: &["image build", "build", "builder build"],
    usage: "[OPTIONS] PATH | -",
    about: "Build an image from a Dockerfile",
    arity: Arity::Exactly(1),
    flags: &[
        Group {
            title: "",
            flags: &[
                list("add-host", "Add a host-to-address mapping for the steps (name:address)"),
                pairs_or_names("build-arg", "Set a variable of the build"),
                text("cgroup-parent", "The control group above those of the steps"),
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
                text("platform", "What the image is for (os/architecture[/variant])"),
                text("progress", "How progress is shown (auto, plain, quiet)").default("auto"),
                switch("pull", "Look for newer images to build on"),
                switch("quiet", "Print the image's id alone").short('q'),
                bytes("shm-size", "Size of /dev/shm of the steps"),
                switch("squash", "Make one layer of what the Dockerfile adds"),
                list("tag", "Name of the image (name[:tag])").short('t'),
                text("target", "The stage to build"),
                list("ulimit", "Limits of the steps' processes (name=soft[:hard])").value("ulimit"),
                // There is nothing that would have to be kept or removed, and images are always loaded.
                switch("rm", "Accepted for scripts: no containers of steps stay").hidden(),
                switch("force-rm", "Accepted for scripts: no containers of steps stay").hidden(),
                switch("load", "Accepted for scripts: the image is always in the engine").hidden(),
            ],
        },
        Group {
            title: "",
            flags: &[
                absent("allow"),
                absent("annotation"),
                absent("attest"),
                absent("build-context"),
                absent("builder"),
                absent("cache-from"),
                absent("cache-to"),
                absent("call"),
                absent("check"),
                absent("debug"),
                absent("metadata-file"),
                absent("no-cache-filter"),
                absent("output").short('o'),
                absent("policy"),
                absent("provenance"),
                absent("push"),
                absent("sbom"),
                absent("secret"),
                absent("security-opt"),
                absent("ssh"),
                absent("isolation"),
            ],
        },
    ],
    examples: &[
        Example { about: "The Dockerfile of this directory", line: "build -t team/web:1 ." },
        Example {
            about: "One of its stages, with a variable",
            line: "build --target tests --build-arg VERSION=2 .",
        },
    ],
    ..Command::leaf(|session, parsed| Box::pin(build(session, parsed)))
};

const fn pairs_or_names(long: &'static str, help: &'static str) -> Flag {
    list(long, help).value("NAME[=value]")
}

/// What is sent, and the path of the Dockerfile in it.
struct Context {
    upload: Upload,
    dockerfile: String,
}

async fn build(session: &Session, parsed: &Parsed) -> Result<()> {
    if let Some(flag) = ABSENT.iter().find(|flag| parsed.given(flag)) {
        return Err(Error::Message(format!("--{flag} is not available yet: leave it out")));
    }
    let quiet = match parsed.text("progress").unwrap_or("auto") {
        "quiet" => true,
        "auto" | "plain" | "" => parsed.on("quiet"),
        other => {
            return Err(Error::Message(format!(
                "--progress={other} is not available yet (auto, plain, quiet)"
            )));
        }
    };
    let client = session.client()?;
    client.version().await?;
    let context = context(&parsed.args[0], parsed.text("file"))?;
    let request = Request::new(Method::POST, "/build")
        .query(query(parsed, &context.dockerfile, quiet)?)
        .header("Content-Type", "application/x-tar")
        .header("X-Registry-Config", credentials(session))
        .body(Body::Archive(context.upload));
    let response = client.send(&request).await?;
    let mut id = None;
    let mut aside = |aux: &serde_json::Value| {
        id = aux.get("ID").and_then(|id| id.as_str()).map(str::to_owned).or(id.take());
    };
    progress::show_all(response.body.json::<Progress>(), To::Stdout, &mut aside).await?;
    if let (Some(path), Some(id)) = (parsed.text("iidfile"), id) {
        fs::write(path, id).map_err(|source| Error::File { verb: "write", path: path.to_owned(), source })?;
    }
    Ok(())
}

/// Who the user is to the registries that are known.
fn credentials(session: &Session) -> String {
    let known = session.config.object("auths").into_iter().flat_map(|auths| auths.keys());
    let all: BTreeMap<String, _> = known.map(|host| (host.clone(), session.credentials(host))).collect();
    URL_SAFE.encode(serde_json::to_vec(&all).unwrap_or_default())
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // Strings and numbers can always be written.
    serde_json::to_string(value).unwrap_or_default()
}

fn query(parsed: &Parsed, dockerfile: &str, quiet: bool) -> Result<Query> {
    let arguments: BTreeMap<String, String> = parsed
        .list("build-arg")
        .filter_map(|text| match text.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            // Without a value it is the environment's, if it has one.
            None => std::env::var(text).ok().map(|value| (text.to_owned(), value)),
        })
        .collect();
    let labels: BTreeMap<&str, &str> =
        parsed.list("label").map(|text| text.split_once('=').unwrap_or((text, ""))).collect();
    let ulimits = parsed.list("ulimit").map(ulimit).collect::<Result<Vec<_>>>()?;
    let number = |name: &str| parsed.int(name).map(|number| number.to_string());
    let size = |name: &str| parsed.bytes(name).map(|bytes| bytes.to_string());
    let mut query = Query::new()
        .pair("dockerfile", dockerfile)
        .pair("buildargs", &json(&arguments))
        .pair("labels", &json(&labels))
        .pair("ulimits", &json(&ulimits))
        .flag("q", quiet)
        .flag("nocache", parsed.on("no-cache"))
        .flag("pull", parsed.on("pull"))
        .flag("squash", parsed.on("squash"))
        .flag("rm", true)
        .maybe("target", parsed.text("target"))
        .maybe("platform", parsed.text("platform"))
        .maybe("networkmode", parsed.text("network"))
        .maybe("cgroupparent", parsed.text("cgroup-parent"))
        .maybe("cpusetcpus", parsed.text("cpuset-cpus"))
        .maybe("cpusetmems", parsed.text("cpuset-mems"))
        .maybe("cpuperiod", number("cpu-period").as_deref())
        .maybe("cpuquota", number("cpu-quota").as_deref())
        .maybe("cpushares", number("cpu-shares").as_deref())
        .maybe("memory", size("memory").as_deref())
        .maybe("memswap", size("memory-swap").as_deref())
        .maybe("shmsize", size("shm-size").as_deref());
    for tag in parsed.list("tag") {
        query = query.pair("t", tag);
    }
    for host in parsed.list("add-host") {
        query = query.pair("extrahosts", host);
    }
    Ok(query)
}

fn ulimit(text: &str) -> Result<serde_json::Value> {
    let wrong = || Error::Message(format!("invalid ulimit argument: {text}"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    Ok(serde_json::json!({"Name": name, "Soft": number(soft)?, "Hard": number(hard)?}))
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::File { verb, path: path.clone(), source }
}

/// The context: a directory, or what comes from standard input.
fn context(place: &str, file: Option<&str>) -> Result<Context> {
    let file = file.filter(|file| !file.is_empty());
    if place == STANDARD {
        if file == Some(STANDARD) {
            return Err(Error::say(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return standard(file.unwrap_or_default());
    }
    if place.contains("://") || place.starts_with("git@") || place.starts_with("github.com/") {
        return Err(Error::Message(format!(
            "building from a URL is not available yet: fetch {place}, and build its directory"
        )));
    }
    let path = Path::new(place);
    let directory = fs::canonicalize(path)
        .map_err(|_| Error::Message(format!("unable to prepare context: path {place:?} not found")))?;
    if !directory.is_dir() {
        return Err(Error::Message(format!(
            "unable to prepare context: context must be a directory: {place}"
        )));
    }
    let (dockerfile, outside) = dockerfile(&directory, file)?;
    let upload = folder::upload(&directory, &dockerfile, outside)?;
    Ok(Context { upload, dockerfile })
}

/// The path of the Dockerfile in the context, and its text where it is not in there.
fn dockerfile(directory: &Path, file: Option<&str>) -> Result<(String, Option<String>)> {
    let outside = || format!(".dockerfile.{}", std::process::id());
    let path = match file {
        None => return Ok(("Dockerfile".to_owned(), None)),
        Some(STANDARD) => {
            let mut text = String::new();
            let read = io::stdin().take(TEXT_BYTES_MAX).read_to_string(&mut text);
            read.map_err(failed("read", Path::new("standard input")))?;
            return Ok((outside(), Some(text)));
        }
        Some(file) => PathBuf::from(file),
    };
    let whole = fs::canonicalize(&path).map_err(|_| {
        Error::Message(format!("unable to prepare context: unable to evaluate symlinks in Dockerfile path: {}: no such file or directory", path.display()))
    })?;
    match whole.strip_prefix(directory) {
        Ok(inside) => Ok((inside.to_string_lossy().into_owned(), None)),
        Err(_) => Ok((outside(), Some(fs::read_to_string(&whole).map_err(failed("read", &whole))?))),
    }
}

/// An archive from standard input, or a Dockerfile that needs no files.
fn standard(file: &str) -> Result<Context> {
    let wrong = failed("read", Path::new("standard input"));
    let mut begun = Vec::new();
    io::stdin().take(PEEKED_BYTES).read_to_end(&mut begun).map_err(&wrong)?;
    if ARCHIVES.iter().any(|(at, magic)| begun.get(*at..).is_some_and(|rest| rest.starts_with(magic))) {
        let whole = io::Cursor::new(begun).chain(io::stdin());
        return Ok(Context { upload: Upload::new(whole).map_err(wrong)?, dockerfile: file.to_owned() });
    }
    io::stdin().take(TEXT_BYTES_MAX).read_to_end(&mut begun).map_err(&wrong)?;
    let mut writer = storage::pack::Writer::new(Vec::new());
    let packed = writer.file("Dockerfile", 0o644, &begun).and_then(|()| writer.finish());
    let upload = Upload::new(io::Cursor::new(packed.map_err(&wrong)?)).map_err(wrong)?;
    Ok(Context { upload, dockerfile: "Dockerfile".to_owned() })
}
