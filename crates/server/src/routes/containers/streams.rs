//! Containers' streams and logs.

use crate::call::Call;
use crate::failure::Failure;
use crate::reply::{Answer, Reply};
use crate::{attach, websocket};
use api::stream::{Stream, frame};
use bytes::Bytes;
use engine::containers::{AttachOptions, LogOptions};

pub(crate) async fn attach(call: Call, id: &str) -> Answer {
    let keys = attach::keys(call.query.get("detachKeys"))?;
    let options = AttachOptions {
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
        stdin: call.query.flag("stdin"),
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
    };
    let attachment = call.engine.containers().attach(id, options).await?;
    attach::hijack(call, attachment, options.stdin && options.stream, keys).await
}

pub(crate) async fn attach_websocket(call: Call, id: &str) -> Answer {
    let keys = attach::keys(call.query.get("detachKeys"))?;
    websocket::check(&call)?;
    // Before 1.42 all streams were attached, whatever was asked for.
    let wanted = |name: &str| call.version.before(42) || call.query.flag(name);
    let options = AttachOptions {
        logs: call.query.flag("logs"),
        stream: call.query.flag("stream"),
        stdin: wanted("stdin"),
        stdout: wanted("stdout"),
        stderr: wanted("stderr"),
    };
    let attachment = call.engine.containers().attach(id, options).await?;
    websocket::attach(call, attachment, options.stdin && options.stream, keys).await
}

pub(crate) async fn logs(call: Call, id: &str) -> Answer {
    let options = LogOptions {
        stdout: call.query.flag("stdout"),
        stderr: call.query.flag("stderr"),
        follow: call.query.flag("follow"),
        timestamps: call.query.flag("timestamps"),
        details: call.query.flag("details"),
        since: call.query.time("since")?.filter(|since| *since != 0),
        until: call.query.time("until")?.filter(|until| *until != 0),
        // What is not a number (`all`) means all.
        tail: call.query.get("tail").parse().ok(),
    };
    if !options.stdout && !options.stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let logs = call.engine.containers().logs(id, options).await?;
    let content_type = attach::content_type(&call, logs.tty);
    let shutdown = call.shutdown.clone();
    let lines = futures_util::stream::unfold(Some((logs, shutdown)), |state| async move {
        let (mut logs, shutdown) = state?;
        let next = tokio::select! {
            next = logs.next() => next?,
            () = shutdown.cancelled() => return None,
        };
        Some(match next {
            Ok(bytes) => (Ok(bytes), Some((logs, shutdown))),
            Err(error) => {
                // The status is sent already, so the reader is told in the stream.
                let text = format!("Error grabbing logs: {}\n", error.chain()).into_bytes();
                let mut told = Vec::new();
                if logs.tty {
                    told = text;
                } else {
                    frame(&mut told, Stream::Stderr, &text);
                }
                (Ok(Bytes::from(told)), None)
            }
        })
    });
    Reply::stream(content_type, lines)
}
