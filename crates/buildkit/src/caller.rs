//! What sends calls on a connection that both sides have agreed to speak HTTP/2 on.

use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::http::Uri;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::error::{Error, Result};

/// How much of one answer may be on its way: what crosses a fast network in a round trip. HTTP's own 64 KiB make the files of a
/// context wait for each other.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for all answers of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of an answer's headers: why a build fails stands there, with the Dockerfile. As much as BuildKit's own clients take.
const HEADERS_BYTES_MAX: u32 = 16 << 20;
/// What calls are made to, where HTTP wants a name. The connection alone decides who answers.
const ORIGIN: &str = "http://session";

/// Sends requests on a connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    send: http2::SendRequest<tonic::body::Body>,
}

/// The connection itself, which goes on as long as this is waited for.
pub(crate) type Connection<S> = http2::Connection<TokioIo<S>, tonic::body::Body, TokioExecutor>;

impl Caller {
    /// Begins to speak HTTP/2.
    pub(crate) async fn on<S>(stream: S) -> Result<(Self, Connection<S>)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (send, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEADERS_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(gone)?;
        Ok((Self { send }, connection))
    }

    /// What calls are made to.
    pub(crate) fn origin() -> Uri {
        Uri::from_static(ORIGIN)
    }
}

/// The connection is no more.
pub(crate) fn gone(error: hyper::Error) -> Error {
    Error::Gone(format!("the connection has ended: {error}"))
}

impl Service<hyper::Request<tonic::body::Body>> for Caller {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = futures_util::future::BoxFuture<'static, std::result::Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        self.send.poll_ready(cx)
    }

    fn call(&mut self, request: hyper::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.send.send_request(request))
    }
}
