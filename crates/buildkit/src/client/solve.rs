//! A build that is asked for and followed.

use std::collections::HashMap;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveRequest, StatusRequest, StatusResponse};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::caller::Caller;
use crate::error::Result;
use crate::service::MESSAGE_BYTES_MAX;

/// How long what a build has told may come after its end.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);
/// Letters of a name, and what they are: as BuildKit's clients have them.
const NAME_LETTERS: usize = 25;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What has come of a build: what its outputs tell, or why there are none.
pub type Ended = std::result::Result<HashMap<String, String>, Box<Status>>;

/// A name that nobody else has, for a session or a build.
pub fn name() -> String {
    let mut bytes = [0; NAME_LETTERS];
    // Without randomness at hand the kernel waits for it; there is no other reason not to have it.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect()
}

/// Builds over a connection, and hands on what the build tells.
///
/// # Errors
/// The connection is none that can be spoken on. That the build fails is told in [`Ended`].
pub async fn solve<S>(stream: S, request: SolveRequest, told: mpsc::Sender<StatusResponse>) -> Result<Ended>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (caller, connection) = Caller::on(stream).await?;
    // Who gives the build up gives both up with it: the engine ends it when nobody calls any more.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let client = ControlClient::with_origin(caller, Caller::origin())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let follow = StatusRequest { r#ref: request.r#ref.clone() };
    let mut follower = client.clone();
    let following = AbortOnDropHandle::new(tokio::spawn(async move {
        // Who builds tells why it cannot be followed when it answers.
        let Ok(answer) = follower.status(follow).await else { return };
        let mut stream = answer.into_inner();
        while let Ok(Some(message)) = stream.message().await {
            if told.send(message).await.is_err() {
                return;
            }
        }
    }));
    let mut client = client;
    let ended = client.solve(request).await;
    let _ = tokio::time::timeout(LAST_WORDS_MAX, following).await;
    Ok(ended.map(|answer| answer.into_inner().exporter_response).map_err(Box::new))
}
