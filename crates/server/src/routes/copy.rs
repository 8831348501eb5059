//! Files in and out of containers: `/containers/{id}/archive`.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use crate::routes::archives::{Sender, TAR, archive};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::containers::{ExtractOptions, Stat};
use hyper::Response;
use hyper::header::HeaderValue;

/// Where it is told what is at the path.
const STAT: &str = "X-Docker-Container-Path-Stat";

/// The path that is asked for.
fn path(call: &Call) -> Result<String, Failure> {
    let path = call.query.get("path");
    if path.is_empty() {
        return Err(Failure::invalid("bad parameter: path cannot be empty"));
    }
    if path.contains('\0') {
        return Err(Failure::invalid("bad parameter: path contains a NUL byte"));
    }
    Ok(path.to_owned())
}

fn tell<T>(response: &mut Response<T>, stat: &Stat) {
    let json = serde_json::json!({
        "name": stat.name,
        "size": stat.size,
        "mode": stat.mode,
        "mtime": api::timestamp::format(stat.modified),
        "linkTarget": stat.link_target,
    });
    if let Ok(value) = HeaderValue::try_from(STANDARD.encode(json.to_string())) {
        response.headers_mut().insert(STAT, value);
    }
}

pub(crate) async fn stat(call: Call, id: &str) -> Answer {
    let stat = call.engine.containers().stat_path(id, &path(&call)?).await?;
    let mut response = Reply::ok()?;
    tell(&mut response, &stat);
    Ok(response)
}

pub(crate) async fn read(call: Call, id: &str) -> Answer {
    let (stat, flow) = call.engine.containers().archive(id, &path(&call)?).await?;
    let mut response = archive(TAR, flow)?;
    tell(&mut response, &stat);
    Ok(response)
}

pub(crate) async fn write(call: Call, id: &str) -> Answer {
    let options = ExtractOptions {
        path: match path(&call) {
            Ok(path) => path,
            Err(failure) => {
                Sender::refuse(&call.tasks, call.body).await;
                return Err(failure);
            }
        },
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        container_user: call.query.flag("copyUIDGID"),
    };
    let (sender, inlet) = Sender::new(&call.tasks, call.body);
    let extracted = call.engine.containers().extract(id, options, inlet).await;
    sender.done().await;
    extracted?;
    Reply::ok()
}
