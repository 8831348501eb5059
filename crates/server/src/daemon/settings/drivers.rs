//! What the daemon is told of drivers: how containers log where they do not say it, and where plugins are found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::container::LogConfig;
use clap::Args;
use engine::volumes::PluginPlaces;
use serde::Deserialize;

use super::Error;

/// The keys in `daemon.json`.
pub(super) const KEYS: &[&str] = &["log-driver", "log-opts", "plugin-socket-dirs", "plugin-spec-dirs"];

/// The flags.
#[derive(Args, Debug, Default, Clone)]
pub struct DriverFlags {
    /// Logging driver of containers that name none (default json-file)
    #[arg(long, value_name = "NAME")]
    pub log_driver: Option<String>,
    /// Option of that driver; may be repeated
    #[arg(long = "log-opt", value_name = "KEY=VALUE")]
    pub log_opts: Vec<String>,
    /// Look here for the sockets of volume drivers (default /run/docker/plugins); may be repeated
    #[arg(long = "plugin-socket-dir", value_name = "DIRECTORY")]
    pub plugin_socket_dirs: Vec<PathBuf>,
    /// Look here for files that say where volume drivers are (default /etc/docker/plugins and /usr/lib/docker/plugins); may be
    /// repeated
    #[arg(long = "plugin-spec-dir", value_name = "DIRECTORY")]
    pub plugin_spec_dirs: Vec<PathBuf>,
}

/// `daemon.json`.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct DriverFile {
    pub(super) log_driver: Option<String>,
    pub(super) log_opts: BTreeMap<String, String>,
    pub(super) plugin_socket_dirs: Vec<PathBuf>,
    pub(super) plugin_spec_dirs: Vec<PathBuf>,
}

impl DriverFlags {
    /// The file's key and the value of each option that was given.
    pub(super) fn given(&self) -> Vec<(&'static str, Option<String>)> {
        fn list<T: std::fmt::Debug>(values: &[T]) -> Option<String> {
            (!values.is_empty()).then(|| format!("{values:?}"))
        }
        vec![
            ("log-driver", self.log_driver.clone()),
            ("log-opts", list(&self.log_opts)),
            ("plugin-socket-dirs", list(&self.plugin_socket_dirs)),
            ("plugin-spec-dirs", list(&self.plugin_spec_dirs)),
        ]
    }
}

/// How containers log, and where plugins are.
pub(super) fn merge(flags: DriverFlags, file: DriverFile) -> Result<(LogConfig, PluginPlaces), Error> {
    let mut config = file.log_opts;
    for option in flags.log_opts {
        let Some((key, value)) = option.split_once('=') else {
            return Err(Error::Usage(format!(
                "invalid argument \"{option}\" for \"--log-opt\": it is no KEY=VALUE"
            )));
        };
        config.insert(key.to_owned(), value.to_owned());
    }
    let driver = flags.log_driver.or(file.log_driver).unwrap_or_default();
    let log = LogConfig { driver, config };
    engine::logging::check_default(&log)
        .map_err(|error| Error::Usage(format!("failed to set log opts: {error}")))?;
    let mut places = PluginPlaces::default();
    for (given, place) in [
        ([flags.plugin_socket_dirs, file.plugin_socket_dirs].concat(), &mut places.sockets),
        ([flags.plugin_spec_dirs, file.plugin_spec_dirs].concat(), &mut places.specs),
    ] {
        if !given.is_empty() {
            *place = given;
        }
    }
    Ok((log, places))
}
