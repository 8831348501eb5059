//! One place to ask: a registry or a mirror of it, over one scheme.

use url::Url;

/// One place to ask: a registry or a mirror of it, over one scheme.
#[derive(Clone)]
pub(crate) struct Endpoint {
    /// The HTTP client with this registry's certificates.
    pub(crate) http: reqwest::Client,
    /// `scheme://host[:port]/`, for mirrors perhaps with a path.
    pub(crate) base: Url,
    /// Whether it is a mirror: asked without the user's credentials.
    pub(crate) mirror: bool,
    /// The limits of the client it belongs to.
    pub(crate) limits: super::options::Limits,
}

impl Endpoint {
    /// `<base>v2/<path>`; the path may end in a query.
    pub(crate) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let path = format!("{}v2/{path}", url.path());
        url.set_path(&path);
        url.set_query(query);
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
