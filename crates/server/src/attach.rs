//! Attaching: what `attach` and `exec start` share.

use crate::call::Call;
use crate::failure::Failure;
use crate::relay::{self, Terms};
use crate::reply::Answer;
use api::{detach, stream};
use engine::containers::Attachment;
use hyper::header;

/// Reads the keys that detach; refuses those that cannot be typed.
pub(crate) fn keys(text: &str) -> Result<Vec<u8>, Failure> {
    Ok(detach::parse(text)?)
}

/// The content type of a stream: from version 1.42 on it tells whether there are frames.
pub(crate) fn content_type(call: &Call, tty: bool) -> &'static str {
    if !tty && call.version.from(42) { stream::MULTIPLEXED } else { stream::RAW }
}

/// Whether the client asks for the connection by HTTP's means.
pub(crate) fn wants_upgrade(call: &Call) -> bool {
    !call.header(header::UPGRADE.as_str()).is_empty()
}

/// Takes the connection over and relays.
pub(crate) async fn hijack(call: Call, attachment: Attachment, stdin: bool, keys: Vec<u8>) -> Answer {
    let tty = attachment.tty;
    let terms = Terms { stdin, detach_keys: tty.then_some(keys), shutdown: call.shutdown.clone() };
    let (upgrade, content_type) = (wants_upgrade(&call), content_type(&call, tty));
    let hijack = call.hijack.clone();
    drop(call);
    hijack.take(upgrade, content_type, move |client| Box::pin(relay::attach(client, attachment, terms))).await
}
