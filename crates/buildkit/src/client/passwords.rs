//! Who the user is to registries, as `moby.filesync.v1.Auth` tells it. Tokens are fetched by who has the password: the engine.

use std::fmt;
use std::sync::Arc;

use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use tonic::{Request, Response, Status};

/// A name and its password. Without a name it is a token that stands for both.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password {
    /// The name.
    pub user: String,
    /// The password or token.
    pub secret: String,
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Who the user is to a registry, which is asked for by its host. It may ask a program that keeps passwords, and take its time.
pub type Passwords = Arc<dyn Fn(&str) -> Option<Password> + Send + Sync>;

/// The service.
pub(super) struct Giver(pub(super) Passwords);

#[tonic::async_trait]
impl Auth for Giver {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        let passwords = Arc::clone(&self.0);
        let found = tokio::task::spawn_blocking(move || passwords(&host)).await;
        let found = found.map_err(|e| Status::internal(e.to_string()))?.unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username: found.user, secret: found.secret }))
    }

    async fn fetch_token(
        &self,
        _request: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("this client fetches no tokens: ask it for credentials"))
    }

    async fn get_token_authority(
        &self,
        _request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("this client fetches no tokens: ask it for credentials"))
    }

    async fn verify_token_authority(
        &self,
        _request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("this client fetches no tokens: ask it for credentials"))
    }
}
