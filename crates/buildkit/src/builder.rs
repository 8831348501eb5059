//! What is behind the API: who builds.

use std::net::IpAddr;

use build::Span;
use build::progress::Teller;
use build::request::{Outcome, Request, SharedSources, Task};
use oci::Platform;

/// Why there is no image; one line for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The line.
    pub message: String,
    /// The instruction of the Dockerfile that it is about, where the line does not show it itself.
    pub place: Option<Span>,
}

/// What clients are told of who builds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worker {
    /// The engine's id.
    pub id: String,
    /// What the host is called.
    pub hostname: String,
    /// What can be built for, the host's own first.
    pub platforms: Vec<Platform>,
    /// What `host-gateway` means in `--add-host`, if it is known.
    pub host_gateway: Option<IpAddr>,
}

/// Who builds. A future that is dropped ends its build.
pub trait Builder: Send + Sync + 'static {
    /// Builds an image, puts it into the store and names it as the request says.
    fn build(
        &self,
        request: Request,
        sources: SharedSources,
        teller: Teller,
    ) -> Task<'_, Result<Outcome, Failure>>;

    /// Who builds.
    fn worker(&self) -> Task<'_, Result<Worker, Failure>>;
}
