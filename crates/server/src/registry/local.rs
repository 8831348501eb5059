//! The administrator's side: what `corten registry ls`, `rm` and `gc` ask. Of the registry that serves the data root, by its
//! socket; where none does, of one that is made for the moment, over the same protocol.

use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{ACCEPT, HOST, LINK};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Error, serve};

/// The largest answer: a page of the longest names.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Room between the two ends of a connection within this process.
const PIPE_BYTES: usize = 64 * 1024;

/// A registry, as its administrator reaches it.
pub struct Local {
    sender: SendRequest<Empty<Bytes>>,
}

/// What it answered.
pub struct Answer {
    /// The headers.
    pub headers: HeaderMap,
    /// The document; null where there is none.
    pub document: Value,
}

impl Local {
    /// Reaches the registry of a data root.
    pub async fn connect(data_root: &Path) -> Result<Self, Error> {
        if let Ok(stream) = tokio::net::UnixStream::connect(data_root.join(serve::SOCKET)).await {
            return Self::over(stream).await;
        }
        if !data_root.join("meta.db").exists() {
            return Err(Error::Nothing(data_root.to_owned()));
        }
        let registry = super::open(data_root, &super::Features::default()).await?;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(serve::converse(far, registry, serve::Client::local(), serve::Ends::never()));
        Self::over(near).await
    }

    async fn over<T: AsyncRead + AsyncWrite + Send + Unpin + 'static>(stream: T) -> Result<Self, Error> {
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Error::Talk)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Asks, and reads the answer; a refusal is an error in the registry's words.
    pub async fn ask(&mut self, method: Method, path: &str) -> Result<Answer, Error> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "local")
            .header(ACCEPT, "*/*")
            .body(Empty::new())
            .map_err(|_| Error::Usage(format!("invalid name: {path}")))?;
        self.sender.ready().await.map_err(Error::Talk)?;
        let response = self.sender.send_request(request).await.map_err(Error::Talk)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let bytes = body.map_err(|error| Error::Refused(error.to_string()))?.to_bytes();
        let document: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if !parts.status.is_success() {
            return Err(Error::Refused(words(&document, parts.status)));
        }
        Ok(Answer { headers: parts.headers, document })
    }

    /// All pages of a list.
    pub async fn list(&mut self, path: &str, key: &str) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = Vec::new();
        let mut next = Some(path.to_owned());
        while let Some(path) = next {
            let answer = self.ask(Method::GET, &path).await?;
            let page = answer.document[key].as_array().cloned().unwrap_or_default();
            names.extend(page.iter().filter_map(|name| name.as_str().map(str::to_owned)));
            let link = answer.headers.get(LINK).and_then(|link| link.to_str().ok());
            next = link.and_then(|link| Some(link.strip_prefix('<')?.split_once('>')?.0.to_owned()));
        }
        Ok(names)
    }
}

fn words(document: &Value, status: StatusCode) -> String {
    let error = &document["errors"][0];
    match error["message"].as_str() {
        Some(message) => match error["detail"].as_object().and_then(|detail| detail.values().next()) {
            Some(Value::String(about)) => format!("{message}: {about}"),
            _ => message.to_owned(),
        },
        None => status.to_string(),
    }
}
