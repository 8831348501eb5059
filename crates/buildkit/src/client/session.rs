//! A session: a connection that we open, and on which we are the one who is called.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use bollard_buildkit_proto::moby::upload::v1::upload_server::UploadServer;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sys::fsx;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::service::Routes;

use super::agents::{self, Agents};
use super::directory::Directory;
use super::passwords::{self, Passwords};
use super::secrets::{self, Secrets};
use super::stores::{self, Keeper, Stores};
use super::takes::{self, Sink, Takers};
use super::uploads::{self, Uploads};
use super::{files, name};
use crate::caller::gone;
use crate::error::Result;
use crate::session::{handover, introduction};

/// How much may be on its way to us.
const WINDOW_BYTES: u32 = 1 << 20;

/// What a build may ask for.
pub struct Answers {
    /// Directories by their names: `context`, `dockerfile`, and what was given by name.
    pub directories: BTreeMap<String, Directory>,
    /// Secrets.
    pub secrets: Secrets,
    /// Agents for ssh keys.
    pub agents: Agents,
    /// Who the user is to registries.
    pub passwords: Passwords,
    /// Directories that blobs are in, and go to.
    pub stores: Stores,
    /// Archives that are built.
    pub uploads: Uploads,
    /// Where what is made goes.
    pub takers: Takers,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").field("directories", &self.directories).finish_non_exhaustive()
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    id: String,
    shared_key: String,
    answers: Answers,
    /// What is handed over to an engine on this machine: the header, and the directory, which is to be open when it is read.
    handed: Vec<(String, OwnedFd)>,
}

impl Session {
    /// One that answers so. `shared_key` sorts the directories that the engine keeps of this client from build to build.
    pub fn new(shared_key: &str, answers: Answers) -> Self {
        Self { id: name(), shared_key: shared_key.to_owned(), answers, handed: Vec::new() }
    }

    /// Offers directories on the disk to an engine on this machine, which need not be sent then. It takes them if it can.
    pub fn hand_over(&mut self) {
        for (name, directory) in &self.answers.directories {
            let Directory::Disk(path) = directory else { continue };
            // What cannot be opened is told when it is sent.
            let offered =
                fsx::open_dir(path).and_then(|opened| Ok((handover::header(name, &opened)?, opened)));
            if let Ok(offered) = offered {
                self.handed.push(offered);
            }
        }
    }

    /// What builds call it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is told when it is opened by `POST /session`.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let methods = [
            files::METHOD,
            secrets_method(),
            passwords_method(),
            takes::METHOD,
            uploads::METHOD,
            crate::agents::CHECK_METHOD,
            crate::agents::CARRY_METHOD,
        ];
        let methods = methods.into_iter().chain(stores::METHODS);
        let mut headers = vec![
            (introduction::ID, self.id.clone()),
            (introduction::NAME, "corten".to_owned()),
            (introduction::SHARED_KEY, self.shared_key.clone()),
        ];
        headers.extend(self.handed.iter().map(|(offer, _)| (handover::HEADER, offer.clone())));
        headers.extend(methods.map(|method| (introduction::METHOD, method.to_owned())));
        headers
    }

    /// Answers on a connection until the other side ends it.
    ///
    /// # Errors
    /// What comes is no HTTP/2, or the connection breaks.
    pub async fn serve<S>(self, stream: S) -> Result<()>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Answers { directories, secrets, agents, passwords, stores, uploads, takers } = self.answers;
        let routes = Routes::new(FileSyncServer::new(files::Giver::new(directories)))
            .add_service(SecretsServer::new(secrets::Giver(Arc::new(secrets))))
            .add_service(SshServer::new(agents::Giver(Arc::new(agents))))
            .add_service(AuthServer::new(passwords::Giver(passwords)))
            .add_service(UploadServer::new(uploads::Giver::new(uploads)))
            .add_service(Sink::new(takers))
            .add_service(Keeper::new(stores))
            .prepare();
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
            .await
            .map_err(gone)
    }
}

const fn secrets_method() -> &'static str {
    crate::sources::SECRET_METHOD
}

const fn passwords_method() -> &'static str {
    crate::sources::CREDENTIALS_METHOD
}
