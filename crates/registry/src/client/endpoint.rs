//! One place to ask: a registry or a mirror of it, over one scheme.

use reqwest::header::HeaderMap;
use url::Url;

use super::hosts::Capabilities;

/// One place to ask: a registry or a mirror of it, over one scheme.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// The HTTP client with this registry's certificates.
    pub(crate) http: reqwest::Client,
    /// `scheme://host[:port]/`, for mirrors perhaps with a path.
    pub(crate) base: Url,
    /// Whether `v2/` is not to be added to it.
    pub(crate) whole_path: bool,
    /// The host under which the scheme that worked is remembered, where it was not said.
    pub(crate) known_as: Option<String>,
    /// The repository's path there.
    pub(crate) repository: String,
    /// The registry that is meant, for mirrors of several.
    pub(crate) namespace: Option<String>,
    /// Whether it is a mirror: asked without the user's credentials.
    pub(crate) mirror: bool,
    /// What it may be asked for.
    pub(crate) capabilities: Capabilities,
    /// Said in every request.
    pub(crate) headers: HeaderMap,
    /// The limits of the client it belongs to.
    pub(crate) limits: super::options::Limits,
}

impl Endpoint {
    /// The API's root.
    pub(crate) fn root(&self) -> Url {
        let mut url = self.base.clone();
        if !self.whole_path && !url.path().ends_with("/v2/") {
            let path = format!("{}v2/", url.path());
            url.set_path(&path);
        }
        url
    }

    /// What is below the repository; the path may end in a query.
    pub(crate) fn url(&self, below: &str) -> Url {
        let mut url = self.root();
        let (below, query) = below.split_once('?').map_or((below, None), |(path, query)| (path, Some(query)));
        let path = format!("{}{}/{below}", url.path(), self.repository);
        url.set_path(&path);
        url.set_query(query);
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    /// The host as in its URL.
    pub(crate) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Whether it is spoken to without TLS.
    pub(crate) fn is_plain(&self) -> bool {
        self.base.scheme() == "http"
    }
}
