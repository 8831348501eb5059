//! What the daemon is told of registries: by dockerd's names, and where other engines' settings of them are.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::Error;

/// The keys in `daemon.json`.
pub(super) const KEYS: &[&str] = &[
    "insecure-registries",
    "registry-mirrors",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "proxies",
    "certs-dirs",
    "registries-conf",
    "signature-policy",
];
/// Layers that are downloaded and uploaded at a time: Docker's numbers.
const DOWNLOADS: usize = 3;
const UPLOADS: usize = 5;

/// The flags.
#[derive(Args, Debug, Default, Clone)]
pub struct RegistryFlags {
    /// Registry that may be spoken to without verified TLS; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]|CIDR")]
    pub insecure_registries: Vec<String>,
    /// Mirror of docker.io to try first; may be repeated
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub registry_mirrors: Vec<String>,
    /// Layers that one pull downloads at a time
    #[arg(long, value_name = "N")]
    pub max_concurrent_downloads: Option<usize>,
    /// Layers that one push uploads at a time
    #[arg(long, value_name = "N")]
    pub max_concurrent_uploads: Option<usize>,
    /// How often a registry is asked that does not answer well
    #[arg(long, value_name = "N")]
    pub max_download_attempts: Option<u32>,
    /// Proxy for registries by http, in place of the environment's
    #[arg(long, value_name = "URL")]
    pub http_proxy: Option<String>,
    /// Proxy for registries by https, in place of the environment's
    #[arg(long, value_name = "URL")]
    pub https_proxy: Option<String>,
    /// Hosts and networks that are asked without a proxy, separated by commas
    #[arg(long, value_name = "LIST")]
    pub no_proxy: Option<String>,
    /// Folder with <registry>/{hosts.toml,*.crt,*.cert,*.key}, in place of /etc/{corten,docker,containerd,containers}/certs.d; may be
    /// repeated
    #[arg(long = "certs-dir", value_name = "DIRECTORY")]
    pub certs_dirs: Vec<PathBuf>,
    /// Podman's settings of registries, in place of /etc/containers/registries.conf; may be repeated, `none` reads none
    #[arg(long = "registries-conf", value_name = "FILE")]
    pub registries_conf: Vec<PathBuf>,
    /// Policy (containers-policy.json(5)) that says whose signatures images must have to be pulled
    #[arg(long, value_name = "FILE")]
    pub signature_policy: Option<PathBuf>,
}

/// Their part of `daemon.json`.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct RegistryFile {
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    max_concurrent_downloads: Option<usize>,
    max_concurrent_uploads: Option<usize>,
    max_download_attempts: Option<u32>,
    proxies: Proxies,
    certs_dirs: Vec<PathBuf>,
    registries_conf: Vec<PathBuf>,
    signature_policy: Option<PathBuf>,
}

#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Proxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
}

/// What is said of registries, merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries {
    /// For the client of registries.
    pub options: registry::Options,
    /// Layers downloaded at a time.
    pub downloads: usize,
    /// Layers uploaded at a time.
    pub uploads: usize,
}

impl RegistryFlags {
    /// The file's key and the value of each option that was given.
    pub(super) fn given(&self) -> Vec<(&'static str, String)> {
        fn one<T: std::fmt::Debug>(value: Option<&T>) -> Option<String> {
            value.map(|value| format!("{value:?}"))
        }
        fn list<T: std::fmt::Debug>(values: &[T]) -> Option<String> {
            (!values.is_empty()).then(|| format!("{values:?}"))
        }
        let proxies = [&self.http_proxy, &self.https_proxy, &self.no_proxy];
        let proxies: Vec<&String> = proxies.into_iter().flatten().collect();
        let given = [
            ("insecure-registries", list(&self.insecure_registries)),
            ("registry-mirrors", list(&self.registry_mirrors)),
            ("max-concurrent-downloads", one(self.max_concurrent_downloads.as_ref())),
            ("max-concurrent-uploads", one(self.max_concurrent_uploads.as_ref())),
            ("max-download-attempts", one(self.max_download_attempts.as_ref())),
            ("proxies", list(&proxies)),
            ("certs-dirs", list(&self.certs_dirs)),
            ("registries-conf", list(&self.registries_conf)),
            ("signature-policy", one(self.signature_policy.as_ref())),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Takes each option from where it was given, and fills in the defaults.
pub(super) fn merge(flags: RegistryFlags, file: RegistryFile) -> Result<Registries, Error> {
    fn list<T>(flag: Vec<T>, file: Vec<T>) -> Vec<T> {
        if flag.is_empty() { file } else { flag }
    }
    fn positive<T: From<u8> + PartialEq>(number: T, what: &str) -> Result<T, Error> {
        if number == T::from(0) { Err(Error::Usage(format!("invalid {what}: 0"))) } else { Ok(number) }
    }
    let downloads = flags.max_concurrent_downloads.or(file.max_concurrent_downloads).unwrap_or(DOWNLOADS);
    let uploads = flags.max_concurrent_uploads.or(file.max_concurrent_uploads).unwrap_or(UPLOADS);
    let mut options = registry::Options::default();
    if let Some(attempts) = flags.max_download_attempts.or(file.max_download_attempts) {
        options.limits.tries_max = positive(attempts, "max download attempts")?;
    }
    options.insecure = list(flags.insecure_registries, file.insecure_registries);
    options.mirrors = list(flags.registry_mirrors, file.registry_mirrors);
    options.proxies = registry::client::Proxies {
        http: flags.http_proxy.or(file.proxies.http_proxy),
        https: flags.https_proxy.or(file.proxies.https_proxy),
        except: flags.no_proxy.or(file.proxies.no_proxy),
    };
    let folders = list(flags.certs_dirs, file.certs_dirs);
    if !folders.is_empty() {
        options.certificates = folders.into_iter().map(super::absolute).collect::<Result<_, _>>()?;
    }
    let files = list(flags.registries_conf, file.registries_conf);
    if !files.is_empty() {
        let named = files.into_iter().filter(|file| file.as_os_str() != "none");
        options.registries = named.map(super::absolute).collect::<Result<_, _>>()?;
    }
    if let Some(policy) = flags.signature_policy.or(file.signature_policy) {
        options.policy = Some(super::absolute(policy)?);
    }
    Ok(Registries {
        options,
        downloads: positive(downloads, "max concurrent downloads")?,
        uploads: positive(uploads, "max concurrent uploads")?,
    })
}

#[cfg(test)]
impl RegistryFlags {
    /// With every flag given.
    pub(super) fn of_everything() -> Self {
        Self {
            insecure_registries: vec!["a".into()],
            registry_mirrors: vec!["a".into()],
            max_concurrent_downloads: Some(1),
            max_concurrent_uploads: Some(1),
            max_download_attempts: Some(1),
            http_proxy: Some("a".into()),
            https_proxy: Some("a".into()),
            no_proxy: Some("a".into()),
            certs_dirs: vec!["/".into()],
            registries_conf: vec!["/".into()],
            signature_policy: Some("/".into()),
        }
    }
}
