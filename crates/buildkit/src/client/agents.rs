//! Agents for ssh keys, as `moby.sshforward.v1.SSH` gives them: each call is a connection to one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::{Request, Response, Status, Streaming};

use crate::agents::{CHUNK_BYTES, DEFAULT, ID_KEY};

/// The sockets of agents, by their names.
pub type Agents = BTreeMap<String, PathBuf>;

/// The service.
#[derive(Debug)]
pub(super) struct Giver(pub(super) Arc<Agents>);

impl Giver {
    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("unset ssh forward key {id}")))
    }
}

#[tonic::async_trait]
impl Ssh for Giver {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    type ForwardAgentStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get(ID_KEY).and_then(|id| id.to_str().ok()).unwrap_or_default();
        let socket = self.socket(id)?;
        let connection = UnixStream::connect(socket).await;
        let connection = connection
            .map_err(|e| Status::unavailable(format!("cannot reach the agent {}: {e}", socket.display())))?;
        let (from, mut to) = connection.into_split();
        let mut asked = request.into_inner();
        // It ends with the call, or when the agent has enough.
        tokio::spawn(async move {
            while let Ok(Some(message)) = asked.message().await {
                if to.write_all(&message.data).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        let answers = stream::unfold((from, vec![0; CHUNK_BYTES]), |(mut from, mut buffer)| async move {
            let length = from.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
            let data = buffer.get(..length)?.to_vec();
            Some((Ok(BytesMessage { data }), (from, buffer)))
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
