//! Archives and what is made of containers: long streams in both directions. A client that goes away ends them.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use api::stream::Progress;
use bytes::Bytes;
use engine::containers::CommitOptions;
use engine::images::{Compression, Format, ImportOptions, LoadOptions, SaveOptions, SquashOptions};
use engine::pipe::{self, Flow, Inlet};
use engine::progress::Telling;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// What an archive is sent as.
pub(super) const TAR: &str = "application/x-tar";

/// An archive as it is written. One that fails in the middle is cut off, which is all that can be told then.
pub(super) fn archive(content_type: &'static str, flow: Flow) -> Answer {
    let bytes = flow.map(|piece| {
        piece.map_err(|error| {
            tracing::warn!(error = error.chain(), "an archive is cut off");
            io::Error::other(error.chain())
        })
    });
    Reply::stream(content_type, bytes)
}

/// The header that says that what Docker's API does not have was done: a client of another daemon can tell.
const DONE: &str = "corten-archive";

/// The platforms that newer clients pass, each as JSON; several from 1.52 on.
fn platforms(call: &Call) -> Result<Vec<oci::Platform>, Failure> {
    let given: Vec<&str> = call.query.all("platform").filter(|text| !text.is_empty()).collect();
    if call.version.before(48) {
        return Ok(Vec::new());
    }
    if given.len() > 1 && call.version.before(52) {
        return Err(Failure::invalid("multiple platforms are supported from API version 1.52 on"));
    }
    given.into_iter().map(super::images::parse_platform_json).collect()
}

pub(crate) async fn save(call: Call, name: Option<&str>) -> Answer {
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => call.query.all("names").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    };
    let format = match call.query.get("corten-format") {
        "" => Format::Both,
        "docker" => Format::Docker,
        "oci" => Format::Oci,
        other => {
            return Err(Failure::invalid(format!("unknown format of an archive: {other:?} (docker, oci)")));
        }
    };
    let compression = match call.query.get("corten-compress") {
        "" => Compression::None,
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        other => return Err(Failure::invalid(format!("unknown compression: {other:?} (gzip, zstd)"))),
    };
    let options = SaveOptions { names, platforms: platforms(&call)?, format, compression };
    let flow = call.engine.images().save(options).await?;
    let mut answer = archive(TAR, flow)?;
    answer.headers_mut().insert(DONE, hyper::header::HeaderValue::from_static("1"));
    Ok(answer)
}

/// How long what a client still sends is thrown away before it is told of a failure: one that is cut off in the middle of sending tells of
/// that instead.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A client that sends.
pub(super) struct Sender {
    sent: JoinHandle<()>,
}

impl Sender {
    /// Hands the body on to whoever reads it in a thread; what nobody reads any more is thrown away. Where the client goes, the reader hears
    /// of it.
    pub(super) fn new(tasks: &TaskTracker, mut body: Incoming) -> (Self, Inlet) {
        let (feeder, inlet) = pipe::inlet();
        let sent = tasks.spawn(async move {
            let mut wanted = true;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return };
                if let Ok(data) = frame.into_data()
                    && wanted
                {
                    wanted = feeder.send(data).await;
                }
            }
            feeder.end().await;
        });
        (Self { sent }, inlet)
    }

    /// The client has sent everything, or has had the time to.
    pub(super) async fn done(mut self) {
        if tokio::time::timeout(DRAIN_TIME, &mut self.sent).await.is_err() {
            self.sent.abort();
        }
    }

    /// Throws away what the client sends.
    pub(super) async fn refuse(tasks: &TaskTracker, body: Incoming) {
        let (sender, inlet) = Self::new(tasks, body);
        drop(inlet);
        sender.done().await;
    }
}

/// Lines as they come. What fails before anything was told is told by the status.
async fn lines(mut telling: Telling, sender: Option<Sender>) -> Answer {
    let first = match telling.next().await {
        None => return Reply::ok(),
        Some(Ok(first)) => first,
        Some(Err(error)) => {
            if let Some(sender) = sender {
                sender.done().await;
            }
            return Err(error.into());
        }
    };
    let rest = futures_util::stream::unfold(Some((telling, sender)), |state| async move {
        let (mut telling, sender) = state?;
        match telling.next().await? {
            Ok(line) => Some((line, Some((telling, sender)))),
            Err(error) => {
                if let Some(sender) = sender {
                    sender.done().await;
                }
                Some((Progress::failure(error.chain()), None))
            }
        }
    });
    let all = futures_util::stream::once(async move { first }).chain(rest);
    Reply::stream("application/json", all.map(|line| Ok(Bytes::from(Reply::encode(&line)))))
}

pub(crate) async fn load(call: Call) -> Answer {
    let platforms = match platforms(&call) {
        Ok(platforms) => platforms,
        Err(failure) => {
            Sender::refuse(&call.tasks, call.body).await;
            return Err(failure);
        }
    };
    let options = LoadOptions { quiet: call.query.flag("quiet"), platforms };
    let (sender, inlet) = Sender::new(&call.tasks, call.body);
    lines(call.engine.images().load(options, inlet), Some(sender)).await
}

/// An image of an archive that is sent, or fetched.
pub(crate) async fn import(call: Call) -> Answer {
    let query = &call.query;
    let text = |name: &str| query.get(name).to_owned();
    let (mut repo, mut tag) = (text("repo"), text("tag"));
    // A repository may come with its tag.
    if let Ok(reference) = oci::Reference::parse_named(&repo)
        && let (Some(own), true) = (reference.tag(), tag.is_empty())
    {
        (tag, repo) = (own.to_owned(), reference.familiar_name());
    }
    let options = ImportOptions {
        source: text("fromSrc"),
        repo,
        tag,
        message: text("message"),
        changes: query.all("changes").filter(|change| !change.is_empty()).map(str::to_owned).collect(),
        platform: engine::images::parse_platform(query.get("platform"))?,
    };
    let images = call.engine.images();
    if options.source != "-" {
        return lines(images.import_from(options).await?, None).await;
    }
    let (sender, inlet) = Sender::new(&call.tasks, call.body);
    match images.import(options, inlet) {
        Ok(telling) => lines(telling, Some(sender)).await,
        Err(error) => {
            sender.done().await;
            Err(error.into())
        }
    }
}

pub(crate) async fn layers(call: Call, name: &str) -> Answer {
    Reply::json(&call.engine.images().layers(name, call.query.get("platform")).await?)
}

pub(crate) async fn squash(call: Call, name: &str) -> Answer {
    let text = |what: &str| call.query.get(what).to_owned();
    let options = SquashOptions {
        name: name.to_owned(),
        from: text("from"),
        platform: text("platform"),
        repo: text("repo"),
        tag: text("tag"),
    };
    let engine = Arc::clone(&call.engine);
    let id = call.keep(async move { engine.images().squash(options).await }).await?;
    Reply::json_with(StatusCode::CREATED, &api::image::Squashed { id: id.to_string() })
}

pub(crate) async fn export(call: Call, id: &str) -> Answer {
    let mut flow = call.engine.containers().export(id).await?;
    // What fails before the first bytes is told by the status.
    let first = match flow.next().await {
        None => Bytes::new(),
        Some(first) => first?,
    };
    let rest = flow.map(|piece| piece.map_err(|error| io::Error::other(error.chain())));
    let first = futures_util::stream::once(async move { Ok(first) });
    Reply::stream("application/octet-stream", first.chain(rest))
}

pub(crate) async fn changes(call: Call, id: &str) -> Answer {
    let changes = call.engine.containers().changes(id).await?;
    if changes.is_empty() {
        return Reply::json(&serde_json::Value::Null);
    }
    Reply::json(&changes)
}

pub(crate) async fn commit(mut call: Call) -> Answer {
    let config: Option<api::container::Config> = call.json().await?;
    let query = &call.query;
    let text = |name: &str| query.get(name).to_owned();
    let options = CommitOptions {
        container: text("container"),
        repo: text("repo"),
        tag: text("tag"),
        comment: text("comment"),
        author: text("author"),
        // Where nothing is said it stands still.
        pause: query.optional("pause").is_none() || query.flag("pause"),
        changes: query.all("changes").filter(|change| !change.is_empty()).map(str::to_owned).collect(),
        config,
    };
    if options.container.is_empty() {
        return Err(Failure::invalid("no container was named"));
    }
    let engine = Arc::clone(&call.engine);
    let id = call.keep(async move { engine.containers().commit(options).await }).await?;
    Reply::json_with(StatusCode::CREATED, &serde_json::json!({"Id": id.to_string()}))
}
