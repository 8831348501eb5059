//! Secrets, as `moby.buildkit.secrets.v1.Secrets` gives them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets as Service;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

/// Bytes of a secret, as BuildKit has it.
const SECRET_BYTES_MAX: usize = 500 << 10;

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In a file, which is read when it is asked for.
    File(PathBuf),
    /// Here.
    Value(Vec<u8>),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value(…)"),
        }
    }
}

/// Secrets by their names.
pub type Secrets = BTreeMap<String, Secret>;

/// The service.
#[derive(Debug)]
pub(super) struct Giver(pub(super) Arc<Secrets>);

#[tonic::async_trait]
impl Service for Giver {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let secret =
            self.0.get(&id).ok_or_else(|| Status::not_found(format!("secret {id} was not given")))?;
        let data = match secret {
            Secret::Value(value) => value.clone(),
            Secret::File(path) => tokio::fs::read(path)
                .await
                .map_err(|e| Status::internal(format!("cannot read {}: {e}", path.display())))?,
        };
        if data.len() > SECRET_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "secret {id} is too big: {} bytes, {SECRET_BYTES_MAX} at most",
                data.len()
            )));
        }
        Ok(Response::new(GetSecretResponse { data }))
    }
}
