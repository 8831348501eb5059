//! Images.

mod credentials;
mod push;

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use crate::versions::{self, Resource};
use api::stream::Progress;
use bytes::Bytes;
pub(crate) use credentials::several as credentials_of;
use engine::images::{
    AttestationOptions, ListOptions, PullOptions, Pulling, parse_platform, parse_reference,
};
use hyper::StatusCode;
pub(crate) use push::{distribution, push};
use std::sync::Arc;

/// What `auth` clients send it in.
const AUTH_HEADER: &str = "x-registry-auth";

pub(crate) async fn list(call: Call) -> Answer {
    let mut filters = call.query.filters()?;
    let identity = call.query.flag("identity") && call.version.from(54);
    if call.version.before(41)
        && let Some(reference) = call.query.text("filter")
    {
        filters.add("reference", reference);
    }
    let options = ListOptions {
        filters,
        shared_size: call.query.flag("shared-size"),
        manifests: call.query.flag("manifests") && call.version.from(47),
        identity,
    };
    if identity && !options.manifests {
        return Err(Failure::invalid("identity requires manifests=1"));
    }
    let images = call.engine.images().list(options).await?;
    versions::json_list(call.version, Resource::ImageSummary, &images)
}

/// A platform, which newer clients pass as JSON.
pub(super) fn parse_platform_json(text: &str) -> Result<oci::Platform, Failure> {
    let name = platform_name(text)?;
    oci::Platform::parse(&name).map_err(|error| Failure::invalid(error.to_string()))
}

/// The platform of an image with several.
fn platform(call: &Call, since: u16) -> Result<String, Failure> {
    match call.query.text("platform").filter(|_| call.version.from(since)) {
        Some(text) => platform_name(text),
        None => Ok(String::new()),
    }
}

/// `os/architecture[/variant]` of a platform as JSON.
fn platform_name(text: &str) -> Result<String, Failure> {
    let platform: api::image::Platform = serde_json::from_str(text)
        .map_err(|error| Failure::invalid(format!("failed to parse platform: invalid JSON: {error}")))?;
    if platform.os.is_empty() || platform.architecture.is_empty() {
        return Err(Failure::invalid("both OS and Architecture must be provided"));
    }
    let mut name = format!("{}/{}", platform.os, platform.architecture);
    if !platform.variant.is_empty() {
        name = format!("{name}/{}", platform.variant);
    }
    Ok(name)
}

pub(crate) async fn inspect(call: Call, name: &str) -> Answer {
    let platform = platform(&call, 49)?;
    let manifests = call.query.flag("manifests") && call.version.from(48);
    if manifests && !platform.is_empty() {
        return Err(Failure::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let image = call.engine.images().inspect(name, &platform, manifests).await?;
    versions::json(call.version, Resource::ImageInspect, &image)
}

pub(crate) async fn history(call: Call, name: &str) -> Answer {
    let platform = platform(&call, 48)?;
    Reply::json(&call.engine.images().history(name, &platform).await?)
}

pub(crate) async fn tag(call: Call, name: &str) -> Answer {
    let (repository, tag) = (call.query.get("repo").to_owned(), call.query.get("tag").to_owned());
    let (engine, name) = (Arc::clone(&call.engine), name.to_owned());
    call.keep(async move { engine.images().tag(&name, &repository, &tag).await }).await?;
    Reply::status(StatusCode::CREATED)
}

pub(crate) async fn remove(call: Call, name: &str) -> Answer {
    if name.trim().is_empty() {
        return Err(Failure::invalid("image name cannot be blank"));
    }
    let force = call.query.flag("force");
    let (engine, name) = (Arc::clone(&call.engine), name.to_owned());
    let platforms = call.query.all("platforms").filter(|_| call.version.from(50));
    let platforms = platforms
        .map(|text| Ok(parse_platform(&platform_name(text)?)?))
        .collect::<Result<Option<Vec<_>>, Failure>>()?
        .unwrap_or_default();
    if platforms.is_empty() {
        return Reply::json(&call.keep(async move { engine.images().remove(&name, force).await }).await?);
    }
    let removed = async move { engine.images().remove_platforms(&name, platforms, force).await };
    Reply::json(&call.keep(removed).await?)
}

pub(crate) async fn attestations(call: Call, name: &str) -> Answer {
    let platforms: Vec<&str> = call.query.all("platform").collect();
    if platforms.len() > 1 {
        return Err(Failure::invalid("only one platform can be given"));
    }
    let platform = platforms.first().map(|text| platform_name(text)).transpose()?;
    let options = AttestationOptions {
        platform: parse_platform(platform.as_deref().unwrap_or_default())?,
        types: call.query.all("type").map(str::to_owned).collect(),
        statements: call.query.flag("statement"),
    };
    Reply::json(&call.engine.images().attestations(name, options).await?)
}

pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.query.filters()?;
    let engine = Arc::clone(&call.engine);
    Reply::json(&call.keep(async move { engine.images().prune(filters).await }).await?)
}

/// Shows credentials to a registry.
pub(crate) async fn login(mut call: Call) -> Answer {
    let auth: api::system::AuthConfig = call.json_required().await?;
    let server = auth.server_address.clone();
    let credentials = credentials::of(auth).map_err(Failure::invalid)?;
    Reply::json(&call.engine.images().login(&server, &credentials).await?)
}

/// Looks for images in a registry.
pub(crate) async fn search(call: Call) -> Answer {
    let limit = match call.query.get("limit") {
        "" => None,
        text => Some(
            text.parse().map_err(|_| Failure::invalid(format!("invalid limit {text:?}: not a number")))?,
        ),
    };
    let filters = call.query.filters()?;
    let credentials = credentials::read(call.header(AUTH_HEADER))?;
    let term = call.query.get("term").to_owned();
    Reply::json(&call.engine.images().search(&term, limit, &filters, &credentials).await?)
}

/// Pulls. A client that goes away ends it.
pub(crate) async fn create(call: Call) -> Answer {
    let Some(from) = call.query.text("fromImage") else {
        if call.query.text("fromSrc").is_some() {
            return super::archives::import(call).await;
        }
        return Err(Failure::invalid("neither fromImage nor fromSrc says what to make the image of"));
    };
    let options = PullOptions {
        reference: parse_reference(from, call.query.get("tag"))?,
        platform: parse_platform(call.query.get("platform"))?,
        credentials: credentials::read(call.header(AUTH_HEADER))?,
    };
    let pulling = call.engine.images().pull(options);
    told(call, pulling).await
}

/// Tells what a pull or a push tells, as long as the client listens.
async fn told(call: Call, mut pulling: Pulling) -> Answer {
    // What fails before anything was told is told by the status.
    let first = match pulling.next().await {
        None => return Reply::ok(),
        Some(first) => first?,
    };
    let shutdown = call.shutdown.clone();
    let state = State { pulling, first: Some(first), shutdown, ended: false };
    Reply::stream(
        "application/json",
        futures_util::stream::unfold(state, |mut state| async move {
            let line = state.next().await?;
            Some((Ok(Bytes::from(Reply::encode(&line))), state))
        }),
    )
}

/// A pull or a push that is being told of.
struct State {
    pulling: Pulling,
    first: Option<Progress>,
    shutdown: tokio_util::sync::CancellationToken,
    ended: bool,
}

impl State {
    /// The next line; the last one where it is an error.
    async fn next(&mut self) -> Option<Progress> {
        if self.ended {
            return None;
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let next = tokio::select! {
            next = self.pulling.next() => next?,
            () = self.shutdown.cancelled() => {
                self.ended = true;
                return Some(Progress::failure("the daemon is ending"));
            }
        };
        Some(next.unwrap_or_else(|error| {
            self.ended = true;
            Progress::failure(error.chain())
        }))
    }
}
