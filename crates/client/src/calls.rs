//! The shapes that calls come in.

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::Streaming;
use crate::error::{Error, Result};
use crate::http::{Body, Client, Request};
use crate::query::Query;

/// An answer that is read whole is not longer than this: a list of 100,000 containers fits.
const ANSWER_BYTES_MAX: usize = 256 << 20;

impl Client {
    /// `GET`, decoded.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: Query) -> Result<T> {
        self.decoded(&Request::new(Method::GET, path).query(query)).await
    }

    /// `GET`, the JSON text as it came.
    pub async fn get_text(&self, path: &str, query: Query) -> Result<String> {
        let response = self.send(&Request::new(Method::GET, path).query(query)).await?;
        let bytes = self.finish(response, ANSWER_BYTES_MAX).await?;
        String::from_utf8(bytes.into()).map_err(|_| Error::Protocol("the daemon's answer is not text".into()))
    }

    /// `GET`, read as it comes.
    pub async fn stream(&self, path: &str, query: Query) -> Result<Streaming> {
        Ok(self.send(&Request::new(Method::GET, path).query(query)).await?.body)
    }

    /// `POST` without a body, the answer dropped.
    pub async fn post(&self, path: &str, query: Query) -> Result<()> {
        self.done(&Request::new(Method::POST, path).query(query)).await
    }

    /// `POST` of a JSON value, the answer dropped.
    pub async fn post_json<B: Serialize + ?Sized>(&self, path: &str, query: Query, body: &B) -> Result<()> {
        self.done(&Request::new(Method::POST, path).query(query).body(Body::json(body)?)).await
    }

    /// `POST` of a JSON value, the answer decoded.
    pub async fn exchange<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        path: &str,
        query: Query,
        body: &B,
    ) -> Result<T> {
        self.decoded(&Request::new(Method::POST, path).query(query).body(Body::json(body)?)).await
    }

    /// `DELETE`, the answer dropped.
    pub async fn delete(&self, path: &str, query: Query) -> Result<()> {
        self.done(&Request::new(Method::DELETE, path).query(query)).await
    }

    /// Any request, the answer decoded.
    pub async fn decoded<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let response = self.send(request).await?;
        let bytes = self.finish(response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&bytes)
            .map_err(|err| Error::Protocol(format!("the daemon's answer is not what it should be: {err}")))
    }

    /// Any request, the answer dropped.
    pub async fn done(&self, request: &Request) -> Result<()> {
        let response = self.send(request).await?;
        self.finish(response, ANSWER_BYTES_MAX).await.map(drop)
    }
}
