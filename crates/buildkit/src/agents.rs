//! The client's agents for ssh keys: `moby.sshforward.v1.SSH`, which is called once for each connection of a step's programs.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::error::{Error, Result};
use crate::session::Session;
use crate::sources::in_time;

pub(crate) const CHECK_METHOD: &str = "/moby.sshforward.v1.SSH/CheckAgent";
/// What carries a connection.
pub(crate) const CARRY_METHOD: &str = "/moby.sshforward.v1.SSH/ForwardAgent";
/// The agent that is meant where no other is named.
pub(crate) const DEFAULT: &str = "default";
/// What says which agent is meant.
pub(crate) const ID_KEY: &str = "buildkit.ssh.id";
/// Bytes that are carried at once: messages of agents are a few kilobytes.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;

/// Whether the client has an agent of this name.
pub(crate) async fn is_there(session: &Session, id: &str) -> Result<bool> {
    if !session.answers(CHECK_METHOD) {
        return Ok(false);
    }
    let (caller, origin) = session.caller();
    let mut client = SshClient::with_origin(caller, origin);
    let request = CheckAgentRequest { id: id.to_owned() };
    // It says no by an error, whose code depends on the client.
    Ok(in_time(&format!("the ssh agent {id}"), client.check_agent(request)).await?.is_ok())
}

/// Carries a connection to the client's agent, until one of them ends it.
pub(crate) async fn carry(session: &Session, id: &str, connection: OwnedFd) -> Result<()> {
    let what = || format!("the ssh agent {id}");
    let broken = |error| Error::io("use a connection of", &what())(error);
    let connection = StdStream::from(connection);
    connection.set_nonblocking(true).map_err(broken)?;
    let (from, mut to) = UnixStream::from_std(connection).map_err(broken)?.into_split();
    let messages = stream::unfold((from, vec![0; CHUNK_BYTES]), |(mut from, mut buffer)| async move {
        let length = from.read(&mut buffer).await.ok().filter(|length| *length > 0)?;
        let data = buffer.get(..length)?.to_vec();
        Some((BytesMessage { data }, (from, buffer)))
    });
    let mut request = Request::new(messages);
    let name = MetadataValue::try_from(id)
        .map_err(|_| Error::Invalid(format!("the ssh agent {id:?} has a name that cannot be asked for")))?;
    request.metadata_mut().insert(ID_KEY, name);
    let (caller, origin) = session.caller();
    let mut client = SshClient::with_origin(caller, origin);
    let refused = |status| Error::Client { what: what(), status: Box::new(status) };
    let talk = async {
        let mut answers = client.forward_agent(request).await.map_err(refused)?.into_inner();
        while let Some(answer) = answers.message().await.map_err(refused)? {
            if to.write_all(&answer.data).await.is_err() {
                // The program has gone.
                return Ok(());
            }
        }
        // It may have gone as well.
        let _ = to.shutdown().await;
        Ok(())
    };
    tokio::select! {
        talked = talk => talked,
        () = session.closed() => Err(Error::Gone("the client's session has ended".to_owned())),
    }
}
