//! Answers.

use crate::failure::Failure;
use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer, or why there is none.
pub(crate) type Answer = Result<Response<Body>, Failure>;

/// Makes answers.
pub(crate) struct Reply;

impl Reply {
    /// A value as a line of JSON.
    pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
        let mut line = serde_json::to_vec(value).unwrap_or_else(|error| {
            // Our own types have no keys that are not strings, the only thing that cannot be written.
            tracing::error!(%error, "cannot write JSON");
            b"null".to_vec()
        });
        line.push(b'\n');
        line
    }

    /// A value, with status 200.
    pub(crate) fn json<T: Serialize>(value: &T) -> Answer {
        Self::json_with(StatusCode::OK, value)
    }

    /// A value.
    pub(crate) fn json_with<T: Serialize>(status: StatusCode, value: &T) -> Answer {
        let mut response = Self::of_type("application/json", Self::encode(value).into());
        *response.status_mut() = status;
        Ok(response)
    }

    /// Nothing, with status 200.
    pub(crate) fn ok() -> Answer {
        Ok(Response::new(Body::empty()))
    }

    /// Nothing, with status 204.
    pub(crate) fn no_content() -> Answer {
        Self::status(StatusCode::NO_CONTENT)
    }

    /// Nothing.
    pub(crate) fn status(status: StatusCode) -> Answer {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        Ok(response)
    }

    /// A body of a content type.
    pub(crate) fn of_type(content_type: &'static str, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// A body that comes bit by bit; its headers are sent at once.
    pub(crate) fn stream<S>(content_type: &'static str, stream: S) -> Answer
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
    {
        Ok(Self::of_type(content_type, Body::from_stream(stream)))
    }

    /// Adds the headers by which a client learns what it speaks with.
    pub(crate) fn introduce(response: &mut Response<Body>) {
        let headers = response.headers_mut();
        let mut put = |name: &'static str, value: &str| {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.insert(name, value);
            }
        };
        put(api::system::ping::API_VERSION, &api::version::MAX.to_string());
        put(api::system::ping::EXPERIMENTAL, "false");
        put(api::system::ping::OS_TYPE, "linux");
        put("Server", concat!("Corten/", env!("CARGO_PKG_VERSION"), " (linux)"));
    }
}
