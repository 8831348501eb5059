//! A build by the classic API: the context is sent whole, and the stream says what was said.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use api::stream::Progress;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use client::query::Query;
use client::{Body, Method, Request, Upload};

use super::{Input, arguments, dockerfile_from_standard_input, failed, folder, labels, ulimits};
use crate::archive::STANDARD;
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::progress::{self, To};
use crate::session::Session;

/// What only BuildKit's API can say.
const ABSENT: [&str; 15] = [
    "allow",
    "annotation",
    "attest",
    "build-context",
    "cache-from",
    "cache-to",
    "metadata-file",
    "no-cache-filter",
    "output",
    "provenance",
    "push",
    "sbom",
    "secret",
    "ssh",
    "load",
];

/// Where the files are, and the path of the Dockerfile among them.
struct Context {
    files: Files,
    dockerfile: String,
}

enum Files {
    /// They are sent.
    Sent(Upload),
    /// The engine fetches them from an address.
    Fetched(String),
}

/// Builds, and gives the image's id.
pub(super) async fn build(session: &Session, parsed: &Parsed, input: Input) -> Result<Option<String>> {
    if let Some(flag) = ABSENT.iter().find(|flag| parsed.given(flag)) {
        return Err(Error::Message(format!(
            "--{flag} needs BuildKit's API, which is not used here: leave DOCKER_BUILDKIT=0 out"
        )));
    }
    let quiet = match parsed.text("progress").unwrap_or("auto") {
        "quiet" => true,
        "auto" | "plain" | "" => parsed.on("quiet"),
        other => {
            return Err(Error::Message(format!(
                "--progress={other} is not there for this build (auto, plain, quiet)"
            )));
        }
    };
    let context = context(input, parsed.text("file"))?;
    let query = query(parsed, &context.dockerfile, quiet)?;
    let request = Request::new(Method::POST, "/build").header("X-Registry-Config", credentials(session));
    let request = match context.files {
        Files::Sent(upload) => {
            request.query(query).header("Content-Type", "application/x-tar").body(Body::Archive(upload))
        }
        Files::Fetched(place) => request.query(query.pair("remote", &place)),
    };
    let response = session.client()?.send(&request).await?;
    let mut id = None;
    let mut aside = |aux: &serde_json::Value| {
        id = aux.get("ID").and_then(|id| id.as_str()).map(str::to_owned).or(id.take());
    };
    progress::show_all(response.body.json::<Progress>(), To::Stdout, &mut aside).await?;
    Ok(id)
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
    let ulimits: Vec<_> = ulimits(parsed)?
        .into_iter()
        .map(|(name, soft, hard)| serde_json::json!({"Name": name, "Soft": soft, "Hard": hard}))
        .collect();
    let number = |name: &str| parsed.int(name).map(|number| number.to_string());
    let size = |name: &str| parsed.bytes(name).map(|bytes| bytes.to_string());
    let mut query = Query::new()
        .pair("dockerfile", dockerfile)
        .pair("buildargs", &json(&arguments(parsed)))
        .pair("labels", &json(&labels(parsed)))
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

/// What is sent.
fn context(input: Input, file: Option<&str>) -> Result<Context> {
    let file = file.filter(|file| !file.is_empty());
    let wrong = failed("read", Path::new("standard input"));
    match input {
        Input::Directory(directory) => {
            let (dockerfile, outside) = dockerfile(&directory, file)?;
            let upload = folder::upload(&directory, &dockerfile, outside)?;
            Ok(Context { files: Files::Sent(upload), dockerfile })
        }
        Input::Dockerfile(text) => {
            let mut writer = storage::pack::Writer::new(Vec::new());
            let packed = writer.file("Dockerfile", 0o644, text.as_bytes()).and_then(|()| writer.finish());
            let upload = Upload::new(io::Cursor::new(packed.map_err(&wrong)?)).map_err(wrong)?;
            Ok(Context { files: Files::Sent(upload), dockerfile: "Dockerfile".to_owned() })
        }
        Input::Address(_) if file == Some(STANDARD) => Err(Error::say(
            "a Dockerfile from standard input for files at an address needs BuildKit's API: leave DOCKER_BUILDKIT=0 out",
        )),
        Input::Address(place) => {
            Ok(Context { files: Files::Fetched(place), dockerfile: file.unwrap_or_default().to_owned() })
        }
        Input::Archive(begun) => {
            let whole = io::Cursor::new(begun).chain(io::stdin());
            let upload = Upload::new(whole).map_err(wrong)?;
            Ok(Context { files: Files::Sent(upload), dockerfile: file.unwrap_or_default().to_owned() })
        }
    }
}

/// The path of the Dockerfile in the context, and its text where it is not in there.
fn dockerfile(directory: &Path, file: Option<&str>) -> Result<(String, Option<String>)> {
    let outside = || format!(".dockerfile.{}", std::process::id());
    let path = match file {
        None => return Ok(("Dockerfile".to_owned(), None)),
        Some(STANDARD) => {
            let text = dockerfile_from_standard_input(Vec::new())?;
            return Ok((outside(), Some(text)));
        }
        Some(file) => PathBuf::from(file),
    };
    let whole = fs::canonicalize(&path).map_err(|_| {
        Error::Message(format!("unable to prepare context: unable to evaluate symlinks in Dockerfile path: {}: no such file or directory", path.display()))
    })?;
    match whole.strip_prefix(directory) {
        Ok(inside) => Ok((inside.to_string_lossy().into_owned(), None)),
        Err(_) => {
            let bytes = fs::read(&whole).map_err(failed("read", &whole))?;
            let text = build::text::decode(&path.to_string_lossy(), bytes).map_err(Error::Message)?;
            Ok((outside(), Some(text)))
        }
    }
}
