//! Refusals, in the distribution specification's form: `{"errors": [{"code", "message", "detail"}]}`.

use hyper::header::{HeaderMap, HeaderValue, IntoHeaderName};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::body::{self, Body};

/// Why a request is not answered as the client hoped.
#[derive(Debug)]
pub struct Refusal(Box<Parts>);

#[derive(Debug)]
struct Parts {
    status: StatusCode,
    code: &'static str,
    message: String,
    detail: Value,
    headers: HeaderMap,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let (message, detail, headers) = (message.into(), Value::Null, HeaderMap::new());
        Self(Box::new(Parts { status, code, message, detail, headers }))
    }

    /// 400.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404 of a path that leads nowhere.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is nothing at this path")
    }

    /// 405.
    pub(super) fn unsupported(message: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    /// 404 of a repository.
    pub(super) fn name_unknown(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry")
            .about(json!({ "name": name }))
    }

    /// 404 of a blob.
    pub(super) fn blob_unknown(digest: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown to registry")
            .about(json!({ "digest": digest }))
    }

    /// 404 of a manifest.
    pub(super) fn manifest_unknown(reference: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown")
            .about(json!({ "reference": reference }))
    }

    /// 404 of an upload.
    pub(super) fn upload_unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
    }

    /// 400 of a digest.
    pub(super) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::bad("DIGEST_INVALID", message)
    }

    pub(super) fn about(mut self, detail: Value) -> Self {
        self.0.detail = detail;
        self
    }

    pub(super) fn with(mut self, name: impl IntoHeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.insert(name, value);
        }
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    pub(super) fn response(self) -> Response<Body> {
        let Parts { status, code, message, detail, headers } = *self.0;
        let mut error = json!({ "code": code, "message": message });
        if !detail.is_null() {
            error["detail"] = detail;
        }
        let mut response = body::json(status, json!({ "errors": [error] }).to_string().into_bytes());
        response.headers_mut().extend(headers);
        response
    }
}

impl From<storage::Error> for Refusal {
    /// What the client cannot help: its own mistakes are told apart before.
    fn from(error: storage::Error) -> Self {
        match &error {
            storage::Error::NoSpace { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", "the registry's disk is full")
            }
            storage::Error::Limit { what, limit } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOOMANYREQUESTS",
                format!("{what} exceeds the limit of {limit}"),
            ),
            storage::Error::InUse { .. } | storage::Error::Busy { .. } => Self::new(
                StatusCode::CONFLICT,
                "BLOB_UPLOAD_INVALID",
                "another request writes to this upload",
            ),
            _ => {
                tracing::error!(error = crate::error::chain(&error), "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", "the registry's store failed")
            }
        }
    }
}
