//! What a path asks for. Names of repositories have slashes, so paths are read from their end.

use hyper::Method;

use super::refusal::Refusal;

/// The longest name of a repository, as everywhere.
const NAME_MAX: usize = 255;

/// What is asked for. Names are well formed; digests and references are as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// Prunes now; for the administrator of this machine alone.
    Prune,
    /// `/v2/<name>/tags/list`
    Tags(String),
    /// `/v2/<name>/manifests/<reference>`
    Manifest(String, String),
    /// `/v2/<name>/blobs/<digest>`
    Blob(String, String),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(String),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(String, String),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(String, String),
}

impl Route {
    pub(super) fn methods(&self) -> &'static [Method] {
        const READ: &[Method] = &[Method::GET, Method::HEAD];
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => READ,
            Self::Prune | Self::Uploads(_) => &[Method::POST],
            Self::Manifest(..) => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Self::Blob(..) => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Upload(..) => &[Method::GET, Method::HEAD, Method::PATCH, Method::PUT, Method::DELETE],
        }
    }
}

/// Makes a route of a repository's name and what stands last.
type Made = fn(String, String) -> Route;

/// Reads a path.
pub fn parse(path: &str) -> Result<Route, Refusal> {
    let path = decode(path).ok_or_else(Refusal::not_found)?;
    if path == "/v2" || path == "/v2/" {
        return Ok(Route::Base);
    }
    let rest = path.strip_prefix("/v2/").ok_or_else(Refusal::not_found)?;
    match rest {
        "_catalog" => return Ok(Route::Catalog),
        "_corten/prune" => return Ok(Route::Prune),
        _ => {}
    }
    let segments: Vec<&str> = rest.split('/').collect();
    let (name, route): (&[&str], Made) = match segments.as_slice() {
        [name @ .., "tags", "list"] => (name, |name, _| Route::Tags(name)),
        [name @ .., "blobs", "uploads", ""] | [name @ .., "blobs", "uploads"] => {
            (name, |name, _| Route::Uploads(name))
        }
        [name @ .., "blobs", "uploads", _] => (name, Route::Upload),
        [name @ .., "blobs", _] => (name, Route::Blob),
        [name @ .., "manifests", _] => (name, Route::Manifest),
        [name @ .., "referrers", _] => (name, Route::Referrers),
        _ => return Err(Refusal::not_found()),
    };
    let name = name.join("/");
    if !is_name(&name) {
        return Err(Refusal::bad("NAME_INVALID", "invalid repository name"));
    }
    Ok(route(name, (*segments.last().unwrap_or(&"")).to_owned()))
}

/// Whether a text may name a repository.
pub fn is_name(name: &str) -> bool {
    name.len() <= NAME_MAX && oci::reference::is_path(name)
}

/// Undoes `%3A` and the like; `None` where that gives no text.
fn decode(path: &str) -> Option<String> {
    if !path.contains('%') {
        return Some(path.to_owned());
    }
    let mut bytes = path.bytes();
    let mut decoded = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        decoded.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        let name = "a/manifests/b".to_owned();
        assert_eq!(parse("/v2/").unwrap(), Route::Base);
        assert_eq!(parse("/v2/_catalog").unwrap(), Route::Catalog);
        assert_eq!(
            parse("/v2/a/manifests/b/manifests/c").unwrap(),
            Route::Manifest(name.clone(), "c".into())
        );
        assert_eq!(parse("/v2/a/manifests/b/tags/list").unwrap(), Route::Tags(name.clone()));
        assert_eq!(parse("/v2/a/blobs/uploads/").unwrap(), Route::Uploads("a".into()));
        assert_eq!(parse("/v2/a/blobs/uploads/0").unwrap(), Route::Upload("a".into(), "0".into()));
        assert_eq!(parse("/v2/a/blobs/sha256%3A00").unwrap(), Route::Blob("a".into(), "sha256:00".into()));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let status = |path: &str| parse(path).unwrap_err().status().as_u16();
        for path in
            ["/", "/v1/", "/v2/a", "/v2/a/b/c", "/v2/%zz/manifests/a", "/v2/%ff/manifests/a", "/v3/_catalog"]
        {
            assert_eq!(status(path), 404, "{path}");
        }
        let long = format!("/v2/{}/manifests/a", "a".repeat(256));
        for path in
            ["/v2/A/manifests/a", "/v2//manifests/a", "/v2/../manifests/a", "/v2/a//b/tags/list", &long]
        {
            assert_eq!(status(path), 400, "{path}");
        }
    }
}
