//! What a client is told when a call fails.

use crate::reply::Reply;
use axum::body::Body;
use engine::Kind;
use hyper::{Response, StatusCode, header};

/// A status and one line of text.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The status.
    pub status: StatusCode,
    /// The line.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request is wrong.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Nothing answers to that path.
    pub(crate) fn page_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// The engine does not have it.
    pub(crate) fn absent(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not implemented by this engine yet"))
    }

    /// The answer.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        if self.status != StatusCode::NOT_MODIFIED {
            let message = api::error::Message { message: self.message.clone() };
            *response.body_mut() = Reply::encode(&message).into();
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        }
        response
    }
}

/// The one table from the engine's errors to statuses.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::InvalidParameter => StatusCode::BAD_REQUEST,
        Kind::NotModified => StatusCode::NOT_MODIFIED,
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::Unauthorized => StatusCode::UNAUTHORIZED,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Kind::Cancelled | Kind::System => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self::new(status(error.kind()), error.chain())
    }
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Self {
        Self::invalid(error.to_string())
    }
}
