//! What an engine knows of builds, asked for on a connection of its own.

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryRecord, BuildHistoryRequest, DiskUsageRequest, StatusRequest, StatusResponse,
    UpdateBuildHistoryRequest, UsageRecord,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::caller::Caller;
use crate::error::Result;
use crate::service::MESSAGE_BYTES_MAX;

/// Builds that are taken of an engine: as many as engines know.
const RECORDS_MAX: usize = 1000;

/// What an engine answers.
pub type Answer<T> = std::result::Result<T, Box<Status>>;

/// A connection to an engine that is asked.
#[derive(Debug)]
pub struct Engine {
    client: ControlClient<Caller>,
    connection: JoinHandle<std::result::Result<(), hyper::Error>>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Engine {
    /// Begins to speak on a connection.
    ///
    /// # Errors
    /// The connection is none that can be spoken on.
    pub async fn on<S>(stream: S) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (caller, connection) = Caller::on(stream).await?;
        let connection = tokio::spawn(connection);
        let client =
            ControlClient::with_origin(caller, Caller::origin()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Self { client, connection })
    }

    /// The builds that are known, the newest first.
    ///
    /// # Errors
    /// The engine has no history, or refuses the filters.
    pub async fn builds(&mut self, filter: Vec<String>) -> Answer<Vec<BuildHistoryRecord>> {
        let request = BuildHistoryRequest { early_exit: true, filter, ..BuildHistoryRequest::default() };
        let mut told = self.client.listen_build_history(request).await.map_err(Box::new)?.into_inner();
        let mut records = Vec::new();
        while records.len() < RECORDS_MAX
            && let Some(event) = told.message().await.map_err(Box::new)?
        {
            records.extend(event.record);
        }
        records.reverse();
        Ok(records)
    }

    /// What a build has told, and goes on to tell.
    ///
    /// # Errors
    /// The engine does not know it.
    pub async fn follow(&mut self, name: &str, told: mpsc::Sender<StatusResponse>) -> Answer<()> {
        let request = StatusRequest { r#ref: name.to_owned() };
        let mut answers = self.client.status(request).await.map_err(Box::new)?.into_inner();
        while let Some(message) = answers.message().await.map_err(Box::new)? {
            if told.send(message).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// What builds have left in the cache, and have not used for so many nanoseconds.
    ///
    /// # Errors
    /// The engine refuses the filters.
    pub async fn cached(&mut self, filter: Vec<String>, age_limit: i64) -> Answer<Vec<UsageRecord>> {
        let request = DiskUsageRequest { filter, age_limit };
        let told = self.client.disk_usage(request).await.map_err(Box::new)?;
        Ok(told.into_inner().record)
    }

    /// Makes the engine forget a build.
    ///
    /// # Errors
    /// It does not know it, or it goes on.
    pub async fn forget(&mut self, name: &str) -> Answer<()> {
        let request = UpdateBuildHistoryRequest {
            r#ref: name.to_owned(),
            delete: true,
            ..UpdateBuildHistoryRequest::default()
        };
        self.client.update_build_history(request).await.map(drop).map_err(Box::new)
    }
}
