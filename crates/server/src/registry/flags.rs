//! What a registry can be told, on the command line and in the daemon's configuration file: by the same names.

use std::path::PathBuf;

use serde::Deserialize;

/// What a registry is like, wherever it runs.
#[derive(clap::Args, Deserialize, Debug, Default, Clone, PartialEq, Eq)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Features {
    /// Serve TLS with this certificate chain
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let in only clients whose certificate is signed by this authority
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Let in the users of this file (htpasswd -B)
    #[arg(long, value_name = "FILE", conflicts_with = "token_realm")]
    pub htpasswd: Option<PathBuf>,
    /// Let in bearers of tokens that are had here
    #[arg(long, value_name = "URL", requires = "token_key")]
    pub token_realm: Option<String>,
    /// The service that tokens have to be for
    #[arg(long, value_name = "NAME", requires = "token_realm")]
    pub token_service: Option<String>,
    /// Who has to have issued tokens
    #[arg(long, value_name = "NAME", requires = "token_realm")]
    pub token_issuer: Option<String>,
    /// Public keys or certificates that tokens are signed by (PEM; RS256, ES256)
    #[arg(long, value_name = "FILE", requires = "token_realm")]
    pub token_key: Option<PathBuf>,
    /// Let everybody pull, where pushing needs a password or a token
    #[arg(long)]
    pub anonymous_pull: bool,
    /// Refuse everything that changes something
    #[arg(long)]
    pub read_only: bool,
    /// Refuse deletion by clients
    #[arg(long)]
    pub no_delete: bool,
    /// Delete manifests that no tag leads to, a day after they came
    #[arg(long)]
    pub delete_untagged: bool,
    /// Be a cache of the registry at this URL
    #[arg(long, value_name = "URL")]
    pub proxy: Option<String>,
    /// File with name:password for the registry that this one is a cache of
    #[arg(long, value_name = "FILE", requires = "proxy")]
    pub proxy_credentials: Option<PathBuf>,
}

impl Features {
    /// Whether everybody who reaches the registry may write to it.
    pub fn is_open(&self) -> bool {
        let asks = self.htpasswd.is_some() || self.token_realm.is_some() || self.tls_client_ca.is_some();
        !asks && !self.read_only && self.proxy.is_none()
    }
}

/// A registry in the daemon, as its configuration file has it.
#[derive(Deserialize, Debug, Default, Clone, PartialEq, Eq)]
#[serde(try_from = "serde_json::Map<String, serde_json::Value>")]
pub struct InDaemon {
    /// Where it listens.
    pub addr: String,
    /// What it is like.
    pub features: Features,
}

impl InDaemon {
    /// One that everybody may use who reaches it.
    pub fn at(addr: String) -> Self {
        Self { addr, features: Features::default() }
    }
}

/// By hand, for the address stands among the features: serde's own flattening would pass over what it does not know.
impl TryFrom<serde_json::Map<String, serde_json::Value>> for InDaemon {
    type Error = String;

    fn try_from(mut map: serde_json::Map<String, serde_json::Value>) -> Result<Self, String> {
        let addr = match map.remove("addr") {
            None => String::new(),
            Some(serde_json::Value::String(addr)) => addr,
            Some(_) => return Err("registry: addr should be a text".to_owned()),
        };
        let features = serde_json::from_value(serde_json::Value::Object(map));
        Ok(Self { addr, features: features.map_err(|error| format!("registry: {error}"))? })
    }
}
