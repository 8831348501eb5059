//! Files that a URL leads to, which no registry has: what is imported.

use reqwest::Response;
use reqwest::header::LOCATION;
use url::Url;

use super::hosts::Place;
use super::{Client, authority};
use crate::error::{Error, Result, chain};

/// How often a server may send us on: as often as Go's client lets it.
const REDIRECTS_MAX: usize = 10;

/// A file that is coming in.
#[derive(Debug)]
pub struct Fetch {
    response: Response,
    url: Url,
}

impl Client {
    /// Asks for the file that a URL leads to. Certificates and proxies are those of registries; credentials are none.
    pub async fn fetch(&self, text: &str) -> Result<Fetch> {
        let wrong = |why: String| Error::Option { option: format!("URL {text}"), why };
        let mut url = Url::parse(text).map_err(|error| wrong(error.to_string()))?;
        for _ in 0..=REDIRECTS_MAX {
            if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
                return Err(wrong("neither http:// nor https://".to_owned()));
            }
            let host = authority(&url);
            let http = self.http(&host, &Place::origin(&host, ""))?;
            let asked = http.get(url.clone()).send().await;
            let response = asked.map_err(|error| Error::Unreachable {
                method: "Get",
                url: url.to_string(),
                detail: chain(&error),
            })?;
            let status = response.status();
            if status.is_success() {
                return Ok(Fetch { response, url });
            }
            let next = response.headers().get(LOCATION).and_then(|next| next.to_str().ok());
            match next.filter(|_| status.is_redirection()).and_then(|next| url.join(next).ok()) {
                Some(next) => url = next,
                None => {
                    return Err(Error::Status {
                        method: "Get",
                        url: url.to_string(),
                        status: status.as_u16(),
                        detail: status.canonical_reason().unwrap_or_default().to_owned(),
                    });
                }
            }
        }
        Err(wrong(format!("stopped after {REDIRECTS_MAX} redirects")))
    }
}

impl Fetch {
    /// How long it is, if the server says so.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The next bytes; none at the end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>> {
        self.response.chunk().await.map_err(|error| Error::Broken {
            method: "Get",
            url: self.url.to_string(),
            tries: 1,
            detail: chain(&error),
        })
    }
}
