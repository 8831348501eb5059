//! Which route answers which path. Images' names contain slashes, so paths are matched by their segments.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::Answer;
use crate::routes::{
    absent, archives, build, buildkit, check, containers, copy, exec, images, networks, secrets, system,
    volumes,
};
use hyper::Method;

/// Answers a call.
pub(crate) async fn route(call: Call) -> Answer {
    let path = call.path.clone();
    let segments: Vec<&str> = path.strip_prefix('/').unwrap_or(&path).split('/').collect();
    let method = call.parts.method.clone();
    match segments[0] {
        "containers" => containers(call, &method, &segments[1..]).await,
        "exec" => exec(call, &method, &segments[1..]).await,
        "images" => images(call, &method, &segments[1..]).await,
        "volumes" => volumes(call, &method, &segments[1..]).await,
        "networks" => networks(call, &method, &segments[1..]).await,
        _ => system(call, &method, &segments).await,
    }
}

async fn system(call: Call, method: &Method, segments: &[&str]) -> Answer {
    match (method.as_str(), segments) {
        ("GET" | "HEAD", ["_ping"]) => system::ping(&call),
        ("GET", ["version"]) => system::version(call).await,
        ("GET", ["info"]) => system::info(call).await,
        ("GET", ["events"]) => system::events(call).await,
        ("POST", ["auth"]) => images::login(call).await,
        ("GET", ["system", "df"]) => system::disk_usage(call).await,
        ("GET", ["distribution", name @ .., "json"]) => images::distribution(call, &name.join("/")).await,
        ("POST", ["commit"]) => archives::commit(call).await,
        ("POST", ["build"]) => build::build(call).await,
        ("POST", ["build", "prune"]) => build::prune(call).await,
        ("GET", ["corten", "images", name @ .., "layers"]) => archives::layers(call, &name.join("/")).await,
        ("POST", ["corten", "images", name @ .., "squash"]) => archives::squash(call, &name.join("/")).await,
        ("POST", ["corten", "volumes", name, "clone"]) => volumes::clone(call, name).await,
        ("POST", ["corten", "volumes", name, "snapshot"]) => volumes::snapshot(call, name).await,
        ("POST", ["corten", "volumes", name, "rename"]) => volumes::rename(call, name).await,
        ("GET", ["corten", "volumes", name, "export"]) => volumes::export(call, name).await,
        ("POST", ["corten", "volumes", name, "import"]) => volumes::import(call, name).await,
        ("GET", ["corten", "secrets"]) => secrets::list(call).await,
        ("POST", ["corten", "secrets", "create"]) => secrets::create(call).await,
        ("GET", ["corten", "secrets", name]) => secrets::inspect(call, name).await,
        ("DELETE", ["corten", "secrets", name]) => secrets::remove(call, name).await,
        ("GET", ["corten", "ports"]) => networks::ports(call).await,
        ("POST", ["grpc"]) => buildkit::grpc(call).await,
        ("POST", ["session"]) => buildkit::session(call).await,
        ("POST", ["corten", "check"]) => check::check(call).await,
        (_, _) => absent::route(method, segments),
    }
}

async fn containers(call: Call, method: &Method, segments: &[&str]) -> Answer {
    if let [_, "checkpoints", ..] = segments {
        return Err(Failure::absent("checkpoints"));
    }
    let behind = match segments {
        _ if method == Method::DELETE => 0,
        [.., "attach", "ws"] => 2,
        _ => 1,
    };
    let name = name_of(segments, behind);
    match (method.as_str(), whole(&name, segments, behind).as_slice()) {
        ("GET", ["json"]) => containers::list(call).await,
        ("POST", ["create"]) => containers::create(call).await,
        ("POST", ["prune"]) => containers::prune(call).await,
        ("GET", [id, "json"]) => containers::inspect(call, id).await,
        ("GET", [id, "top"]) => containers::top(call, id).await,
        ("GET", [id, "logs"]) => containers::logs(call, id).await,
        ("POST", [id, "start"]) => containers::start(call, id).await,
        ("POST", [id, "stop"]) => containers::stop(call, id).await,
        ("POST", [id, "restart"]) => containers::restart(call, id).await,
        ("POST", [id, "kill"]) => containers::kill(call, id).await,
        ("POST", [id, "pause"]) => containers::pause(call, id).await,
        ("POST", [id, "unpause"]) => containers::unpause(call, id).await,
        ("POST", [id, "wait"]) => containers::wait(call, id).await,
        ("POST", [id, "resize"]) => containers::resize(call, id).await,
        ("POST", [id, "rename"]) => containers::rename(call, id).await,
        ("POST", [id, "update"]) => containers::update(call, id).await,
        ("POST", [id, "attach"]) => containers::attach(call, id).await,
        ("GET", [id, "attach", "ws"]) => containers::attach_websocket(call, id).await,
        ("POST", [id, "exec"]) => exec::create(call, id).await,
        ("DELETE", [id]) => containers::remove(call, id).await,
        ("HEAD", [id, "archive"]) => copy::stat(call, id).await,
        ("GET", [id, "archive"]) => copy::read(call, id).await,
        ("PUT", [id, "archive"]) => copy::write(call, id).await,
        ("GET", [id, "stats"]) => containers::stats(call, id).await,
        ("GET", [id, "changes"]) => archives::changes(call, id).await,
        ("GET", [id, "export"]) => archives::export(call, id).await,
        _ => Err(Failure::page_not_found()),
    }
}

/// What a path names in front of its last `behind` segments. No container has a name with slashes in it: it is not found, rather than
/// the path.
fn name_of(segments: &[&str], behind: usize) -> String {
    segments[..segments.len().saturating_sub(behind)].join("/")
}

/// The segments, with the name as one of them.
fn whole<'a>(name: &'a str, segments: &[&'a str], behind: usize) -> Vec<&'a str> {
    if segments.len() <= behind + 1 {
        return segments.to_vec();
    }
    std::iter::once(name).chain(segments[segments.len() - behind..].iter().copied()).collect()
}

async fn exec(call: Call, method: &Method, segments: &[&str]) -> Answer {
    match (method.as_str(), segments) {
        ("POST", [id, "start"]) => exec::start(call, id).await,
        ("POST", [id, "resize"]) => exec::resize(call, id).await,
        ("GET", [id, "json"]) => exec::inspect(call, id).await,
        _ => Err(Failure::page_not_found()),
    }
}

async fn images(call: Call, method: &Method, segments: &[&str]) -> Answer {
    match (method.as_str(), segments) {
        ("GET", ["json"]) => images::list(call).await,
        ("POST", ["create"]) => images::create(call).await,
        ("POST", ["prune"]) => images::prune(call).await,
        ("GET", ["search"]) => images::search(call).await,
        ("GET", ["get"]) => archives::save(call, None).await,
        ("GET", [name @ .., "get"]) => archives::save(call, Some(&name.join("/"))).await,
        ("POST", ["load"]) => archives::load(call).await,
        ("GET", [name @ .., "json"]) => images::inspect(call, &name.join("/")).await,
        ("GET", [name @ .., "history"]) => images::history(call, &name.join("/")).await,
        ("POST", [name @ .., "tag"]) => images::tag(call, &name.join("/")).await,
        ("POST", [name @ .., "push"]) => images::push(call, &name.join("/")).await,
        ("GET", [name @ .., "attestations"]) if call.version.from(55) => {
            images::attestations(call, &name.join("/")).await
        }
        ("DELETE", name) => images::remove(call, &name.join("/")).await,
        _ => Err(Failure::page_not_found()),
    }
}

async fn volumes(call: Call, method: &Method, segments: &[&str]) -> Answer {
    let name = name_of(segments, 0);
    match (method.as_str(), whole(&name, segments, 0).as_slice()) {
        ("GET", []) => volumes::list(call).await,
        ("POST", ["create"]) => volumes::create(call).await,
        ("POST", ["prune"]) => volumes::prune(call).await,
        ("GET", [name]) => volumes::inspect(call, name).await,
        ("DELETE", [name]) => volumes::remove(call, name).await,
        ("PUT", [_]) => Err(absent::not_a_manager()),
        _ => Err(Failure::page_not_found()),
    }
}

async fn networks(call: Call, method: &Method, segments: &[&str]) -> Answer {
    let behind = usize::from(method == Method::POST);
    let name = name_of(segments, behind);
    match (method.as_str(), whole(&name, segments, behind).as_slice()) {
        ("GET", []) => networks::list(call).await,
        ("POST", ["create"]) => networks::create(call).await,
        ("POST", ["prune"]) => networks::prune(call).await,
        ("GET", [id]) => networks::inspect(call, id).await,
        ("DELETE", [id]) => networks::remove(call, id).await,
        ("POST", [id, "connect"]) => networks::connect(call, id).await,
        ("POST", [id, "disconnect"]) => networks::disconnect(call, id).await,
        _ => Err(Failure::page_not_found()),
    }
}
