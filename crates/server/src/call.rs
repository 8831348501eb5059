//! One call of the API: what a route is given.

use crate::connection::hijack::Hijack;
use crate::failure::Failure;
use crate::query::Query;
use api::ApiVersion;
use bytes::Bytes;
use engine::Engine;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use hyper::{StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::future::Future;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A body of JSON is read whole. The largest that clients send hold some hundred kilobytes of labels and environment.
const JSON_LENGTH_MAX: usize = 4 << 20;
/// What JSON's bodies must be declared as.
const JSON: &str = "application/json";

/// One call.
pub(crate) struct Call {
    /// The engine.
    pub engine: Arc<Engine>,
    /// BuildKit's API over it.
    pub buildkit: Arc<buildkit::Service>,
    /// The API version it is made in.
    pub version: ApiVersion,
    /// The path after the version, decoded.
    pub path: String,
    /// The query.
    pub query: Query,
    /// Method, headers and what hyper attached.
    pub parts: Parts,
    /// The body, until it is read.
    pub body: Incoming,
    /// Takes the connection over.
    pub hijack: Hijack,
    /// Tells that the daemon ends.
    pub shutdown: CancellationToken,
    /// Work that goes on when the client has gone.
    pub tasks: TaskTracker,
}

impl Call {
    /// A header's text; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// Whether there is certainly no body.
    fn is_empty(&self) -> bool {
        self.body.size_hint().exact() == Some(0)
    }

    /// Reads a body of JSON; where there is none, the default.
    pub(crate) async fn json<T: DeserializeOwned + Serialize + Default>(&mut self) -> Result<T, Failure> {
        let body = self.json_bytes().await?;
        if body.is_empty() { Ok(T::default()) } else { decode(&body) }
    }

    /// Reads a body of JSON that has to be there.
    pub(crate) async fn json_required<T: DeserializeOwned + Serialize>(&mut self) -> Result<T, Failure> {
        let body = self.json_bytes().await?;
        if body.is_empty() {
            return Err(Failure::invalid("invalid JSON: got EOF while reading request body"));
        }
        decode(&body)
    }

    /// Reads the body after a look at its content type.
    async fn json_bytes(&mut self) -> Result<Bytes, Failure> {
        let content_type = self.header(header::CONTENT_TYPE.as_str());
        if content_type.is_empty() && self.is_empty() {
            return Ok(Bytes::new());
        }
        check_content_type(content_type)?;
        match Limited::new(&mut self.body, JSON_LENGTH_MAX).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(Failure::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("request body is larger than {JSON_LENGTH_MAX} bytes"),
            )),
            Err(error) => Err(Failure::invalid(format!("cannot read the request body: {error}"))),
        }
    }

    /// Does work to its end, whether the client waits for it or not.
    pub(crate) async fn keep<T, F>(&self, work: F) -> Result<T, Failure>
    where
        F: Future<Output = engine::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        match self.tasks.spawn(work).await {
            Ok(result) => Ok(result?),
            Err(_) => {
                Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the operation ended unexpectedly"))
            }
        }
    }
}

/// Refuses what is not declared as JSON, in Docker's words.
fn check_content_type(content_type: &str) -> Result<(), Failure> {
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if media_type.is_empty() {
        return Err(Failure::invalid(format!(
            "malformed Content-Type header ({content_type}): mime: no media type"
        )));
    }
    if !media_type.eq_ignore_ascii_case(JSON) {
        return Err(Failure::invalid(format!(
            "unsupported Content-Type header ({content_type}): must be '{JSON}'"
        )));
    }
    Ok(())
}

/// Reads one JSON value with nothing after it. All bodies are objects; a list would be taken for one field by field.
fn decode<T: DeserializeOwned + Serialize>(body: &[u8]) -> Result<T, Failure> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(Failure::invalid("invalid JSON: cannot take a list for an object"));
    }
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<T>();
    let value = match values.next() {
        None => return Err(Failure::invalid("invalid JSON: got EOF while reading request body")),
        Some(Err(error)) => return Err(Failure::invalid(format!("invalid JSON: {error}"))),
        Some(Ok(value)) => value,
    };
    if !body[values.byte_offset()..].iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::invalid("unexpected content after JSON"));
    }
    match lists_for_objects(body, &value) {
        None => Ok(value),
        Some(place) => {
            Err(Failure::invalid(format!("invalid JSON: cannot take a list for an object: {place}")))
        }
    }
}

/// The first place where a list was given and an object was made of it, which serde does field by field: an empty list
/// would be everything's default. What was taken is written again and compared.
fn lists_for_objects<T: Serialize>(body: &[u8], taken: &T) -> Option<String> {
    let given: Value = serde_json::from_slice(body).ok()?;
    let mut place = find_list_for_object(&given, &serde_json::to_value(taken).ok()?)?;
    place.reverse();
    Some(place.join("."))
}

/// The path to such a place, its last name first.
fn find_list_for_object(given: &Value, taken: &Value) -> Option<Vec<String>> {
    let within = |name: String, given: &Value, taken: &Value| {
        let mut place = find_list_for_object(given, taken)?;
        place.push(name);
        Some(place)
    };
    match (given, taken) {
        (Value::Array(_), Value::Object(_)) => Some(Vec::new()),
        (Value::Array(given), Value::Array(taken)) => given
            .iter()
            .zip(taken)
            .enumerate()
            .find_map(|(at, (given, taken))| within(at.to_string(), given, taken)),
        (Value::Object(given), Value::Object(taken)) => {
            given.iter().find_map(|(name, given)| within(name.clone(), given, taken.get(name)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_value() {
        type Map = std::collections::BTreeMap<String, u8>;
        assert_eq!(decode::<Map>(b" {\"a\": 1} \n").unwrap().len(), 1);
        let message = |body: &[u8]| decode::<Map>(body).unwrap_err().message;
        assert_eq!(message(b""), "invalid JSON: got EOF while reading request body");
        assert_eq!(message(b"  "), "invalid JSON: got EOF while reading request body");
        assert_eq!(message(b"{} x"), "unexpected content after JSON");
        for wrong in [&b"{"[..], b"[]", b" [1]", b"7", b"{\"a\": \"b\"}"] {
            assert!(message(wrong).starts_with("invalid JSON: "));
        }
    }

    #[test]
    fn lists_are_no_objects_anywhere() {
        let place = |body: &str| {
            let taken: Option<api::container::CreateRequest> =
                decode(body.as_bytes()).map_err(|failure| failure.message)?;
            Ok::<_, String>(taken.map(|_| ()))
        };
        assert_eq!(
            place(r#"{"Cmd": ["a"], "HostConfig": {"Mounts": [{"Type": "bind"}], "Binds": []}}"#),
            Ok(Some(()))
        );
        for (body, wrong) in [
            (r#"{"Healthcheck": []}"#, "Healthcheck"),
            (r#"{"HostConfig": {"Mounts": [{}, ["bind"]]}}"#, "HostConfig.Mounts.1"),
            (r#"{"HostConfig": {"PortBindings": {"80/tcp": [[]]}}}"#, "HostConfig.PortBindings.80/tcp.0"),
        ] {
            let message = format!("invalid JSON: cannot take a list for an object: {wrong}");
            assert_eq!(place(body), Err(message));
        }
    }

    #[test]
    fn json_must_be_declared() {
        assert!(check_content_type("application/json").is_ok());
        assert!(check_content_type("Application/JSON; charset=utf-8").is_ok());
        assert_eq!(
            check_content_type("text/plain").unwrap_err().message,
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert_eq!(
            check_content_type("").unwrap_err().message,
            "malformed Content-Type header (): mime: no media type"
        );
    }
}
