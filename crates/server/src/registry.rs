//! `corten registry`: a registry of one's own, by itself or in the daemon.
//!
//! What it answers is the `registry` crate's; here are its listeners, its settings and its command line.

mod command;
mod flags;
mod local;
mod patience;
mod serve;

use std::io;
use std::path::{Path, PathBuf};

use registry::Credentials;
use registry::server::access::htpasswd::Htpasswd;
use registry::server::access::token::Tokens;
use registry::server::{Access, Options, Upstream, UpstreamOptions, access};

pub use command::main;
pub use flags::{Features, InDaemon};
pub use serve::Listening;

/// A file of credentials is one line.
const CREDENTIALS_BYTES_MAX: u64 = 64 * 1024;
/// What tokens have to be for, and by, where nothing is said.
const TOKEN_NAME: &str = "corten";

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It was told something that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The socket could not be made.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The certificates are not usable.
    #[error("cannot set up TLS")]
    Tls(#[source] crate::tls::Error),
    /// Nobody could be let in.
    #[error("cannot set up access")]
    Access(#[source] access::Error),
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The store or the other registry.
    #[error("cannot open the registry")]
    Registry(#[source] registry::Error),
    /// There is no registry in the data root.
    #[error("there is no registry in {}", .0.display())]
    Nothing(PathBuf),
    /// The registry does not answer.
    #[error("cannot talk to the registry")]
    Talk(#[source] hyper::Error),
    /// The registry said no.
    #[error("{0}")]
    Refused(String),
    /// Something of this process.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Opens a registry over the data root's own store.
async fn open(data_root: &Path, features: &Features) -> Result<registry::Server, Error> {
    let parts = parts(features)?;
    let root = data_root.to_owned();
    let opened = tokio::task::spawn_blocking(move || registry::Server::open_store(&root)).await;
    let store = opened.map_err(|_| Error::Usage("the store was not opened".to_owned()))?;
    Ok(parts.over(store.map_err(Error::Registry)?))
}

/// What a registry consists of besides its store.
pub struct Parts {
    access: Access,
    upstream: Option<Upstream>,
    options: Options,
}

impl Parts {
    /// The registry.
    pub fn over(self, store: registry::server::Store) -> registry::Server {
        registry::Server::new(store, self.access, self.upstream, self.options)
    }
}

/// Reads what the features name.
pub fn parts(features: &Features) -> Result<Parts, Error> {
    let usage = |words: &str| Err(Error::Usage(words.to_owned()));
    let access = match (&features.htpasswd, &features.token_realm) {
        (None, None) => Access::Open,
        (Some(_), Some(_)) => return usage("htpasswd and tokens exclude each other"),
        (Some(path), None) => Access::Htpasswd(Htpasswd::open(path).map_err(Error::Access)?),
        (None, Some(realm)) => {
            let Some(keys) = &features.token_key else { return usage("token-realm needs token-key") };
            let service = features.token_service.as_deref().unwrap_or(TOKEN_NAME);
            let issuer = features.token_issuer.as_deref().unwrap_or(TOKEN_NAME);
            if realm.contains(['"', '\\']) || service.contains(['"', '\\']) {
                return usage("token-realm and token-service must have no quotes");
            }
            Access::Token(Tokens::open(realm, service, issuer, keys).map_err(Error::Access)?)
        }
    };
    if features.anonymous_pull && matches!(access, Access::Open) {
        return usage(
            "anonymous-pull needs htpasswd or token-realm: without them everybody may do everything",
        );
    }
    let upstream = match &features.proxy {
        None if features.proxy_credentials.is_some() => return usage("proxy-credentials needs proxy"),
        None => None,
        Some(_) if features.read_only => {
            return usage("a cache cannot be read-only: it stores what it fetches");
        }
        Some(url) => {
            let credentials = features.proxy_credentials.as_deref().map(credentials).transpose()?;
            let options = UpstreamOptions { url: url.clone(), credentials: credentials.unwrap_or_default() };
            Some(Upstream::new(options).map_err(Error::Registry)?)
        }
    };
    let options = Options {
        read_only: features.read_only,
        delete: !features.no_delete,
        delete_untagged: features.delete_untagged,
        anonymous_pull: features.anonymous_pull,
        ..Options::default()
    };
    Ok(Parts { access, upstream, options })
}

/// Reads `name:password` from a file.
fn credentials(path: &Path) -> Result<Credentials, Error> {
    use std::io::Read as _;
    let mut text = String::new();
    let read =
        std::fs::File::open(path).and_then(|file| file.take(CREDENTIALS_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    match text.trim_end_matches(['\r', '\n']).split_once(':') {
        Some((username, password)) if !username.is_empty() => {
            Ok(Credentials::Basic { username: username.to_owned(), password: password.to_owned() })
        }
        _ => Err(Error::Usage(format!("{} should hold one line, name:password", path.display()))),
    }
}
