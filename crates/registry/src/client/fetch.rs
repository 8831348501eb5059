//! Files that a URL leads to, which no registry has: what is imported.

use reqwest::Response;
use reqwest::header::{LAST_MODIFIED, LOCATION};
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
        let wrong = |why: String| Error::Option { option: format!("URL {}", shown_url(text)), why };
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
                url: shown(&url),
                detail: chain(&error.without_url()),
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
                        url: shown(&url),
                        status: status.as_u16(),
                        detail: status.canonical_reason().unwrap_or_default().to_owned(),
                    });
                }
            }
        }
        Err(wrong(format!("stopped after {REDIRECTS_MAX} redirects")))
    }
}

/// A URL as it may be told and kept: without the user's name and password, and without the query, which may hold a key.
pub fn shown_url(text: &str) -> String {
    if let Ok(url) = Url::parse(text) {
        return shown(&url);
    }
    // It cannot be said which part of it is what: where somebody may be named, nothing is told.
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let (scheme, rest) = text[..end].split_once("://").unwrap_or(("", &text[..end]));
    let rest = if text.contains('@') { "…" } else { rest };
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Refused where a URL can have none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    // Of another form it may hold anything: `http` has none.
    if url.cannot_be_a_base() { format!("{}:…", url.scheme()) } else { url.to_string() }
}

impl Fetch {
    /// How long it is, if the server says so.
    pub fn length(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// When it was changed last, in seconds since 1970, if the server says so (RFC 9110, section 8.8.2).
    pub fn modified(&self) -> Option<i64> {
        let text = self.response.headers().get(LAST_MODIFIED)?.to_str().ok()?;
        Some(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_second())
    }

    /// The next bytes; none at the end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>> {
        self.response.chunk().await.map_err(|error| Error::Broken {
            method: "Get",
            url: shown(&self.url),
            tries: 1,
            detail: chain(&error.without_url()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_in_a_url_is_not_shown() {
        for (text, told) in [
            ("http://host/x.tar", "http://host/x.tar"),
            ("http://ann:secret@host:5000/x.tar?token=secret#secret", "http://host:5000/x.tar"),
            ("https://secret@host/a@b", "https://host/a@b"),
            ("http:///ann:secret@host/x", "http://host/x"),
            ("http:ann:secret@host/x", "http://host/x"),
            ("http://a:se?cret@host/x", "http://…"),
            ("ftp://ann:secret@host/x", "ftp://host/x"),
            ("data:secret", "data:…"),
            ("http://ann:secret@host:port/x?secret", "http://…"),
            ("http://host:port/x?secret", "http://host:port/x"),
            ("http://ann:sec/ret@ho st/x", "http://…"),
            ("ann secret@host", "…"),
        ] {
            let shown = shown_url(text);
            assert!(!shown.contains("secret"), "{text}: {shown}");
            assert_eq!(shown, told, "{text}");
        }
    }
}
