//! What the daemon can be told: dockerd's flags and `daemon.json`, merged into [`Settings`].
//!
//! Names are dockerd's. What this engine does not have is refused by its name, on the command line and in the file
//! alike; an option given in both places is refused too, as dockerd does, because either choice would surprise.

mod builder;
mod containers;
mod drivers;
mod features;
mod network;
mod registries;
mod texts;
mod tls;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::check::StoreCheck;
use super::rootless;
use crate::registry::InDaemon;
use builder::BuilderFile;
use containers::{ContainerFile, ContainerFlags, Containers};
use drivers::{DriverFile, DriverFlags};
use features::Features;
use network::{NetworkFile, NetworkFlags};
use registries::{Registries, RegistryFile, RegistryFlags};
use texts::{parse_bytes, parse_level};

/// A configuration file is read whole; nobody writes one this large by hand.
const CONFIG_FILE_BYTES_MAX: u64 = 1 << 20;

/// dockerd's options that this engine does not have yet, as flags and (where they differ) as keys of `daemon.json`.
const NOT_YET: &[&str] = &[
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "authorization-plugin",
    "authorization-plugins",
    "bridge-accept-fwmark",
    "containerd",
    "containerd-namespace",
    "containerd-plugins-namespace",
    "default-cgroupns-mode",
    "default-ipc-mode",
    "default-ulimit",
    "default-ulimits",
    "exec-opt",
    "exec-opts",
    "experimental",
    "firewall-backend",
    "host-gateway-ip",
    "init",
    "init-path",
    "ip-forward-no-drop",
    "label",
    "labels",
    "metrics-addr",
    "network-control-plane-mtu",
    "no-new-privileges",
    "node-generic-resource",
    "node-generic-resources",
    "oom-score-adjust",
    "raw-logs",
    "seccomp-profile",
    "storage-driver",
    "storage-opt",
    "storage-opts",
    "swarm-default-advertise-addr",
    "userland-proxy-path",
    "userns-remap",
];

/// The daemon's flags, by dockerd's names.
#[derive(Parser, Debug, Default, Clone)]
#[command(
    name = "corten daemon",
    bin_name = "corten daemon",
    about = "Run the engine in the foreground",
    disable_version_flag = true,
    after_help = "Examples:\n  corten daemon\n  corten daemon -H unix:///tmp/corten.sock --data-root /srv/corten\n  corten daemon -H tcp://0.0.0.0:2376 --tlsverify --tlscacert ca.pem --tlscert cert.pem --tlskey key.pem"
)]
pub struct Flags {
    /// Listen here: unix://PATH, tcp://ADDRESS:PORT or fd:// (socket activation); may be repeated
    #[arg(short = 'H', long = "host", value_name = "URL")]
    pub hosts: Vec<String>,
    /// Group that may use the unix sockets
    #[arg(short = 'G', long, value_name = "NAME")]
    pub group: Option<String>,
    /// Where images, containers and volumes are kept
    #[arg(long, value_name = "DIRECTORY")]
    pub data_root: Option<PathBuf>,
    /// Where the state of what runs is kept
    #[arg(long, value_name = "DIRECTORY")]
    pub exec_root: Option<PathBuf>,
    /// File to write the process id to
    #[arg(short, long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config_file: Option<PathBuf>,
    /// Least severe messages to log: trace, debug, info, warn, error or fatal
    #[arg(short, long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How messages look: text or json
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Log debugging messages
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub debug: Option<bool>,
    /// Use TLS on tcp listeners
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tls: Option<bool>,
    /// Use TLS and require a certificate of every client
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tlsverify: Option<bool>,
    /// Trust clients' certificates signed by this authority
    #[arg(long, value_name = "FILE")]
    pub tlscacert: Option<PathBuf>,
    /// The daemon's certificate
    #[arg(long, value_name = "FILE")]
    pub tlscert: Option<PathBuf>,
    /// The daemon's private key
    #[arg(long, value_name = "FILE")]
    pub tlskey: Option<PathBuf>,
    /// Accept tcp connections from other machines without TLS: whoever reaches the port is root here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub allow_unauthenticated_tcp: Option<bool>,
    /// What concerns registries
    #[command(flatten)]
    pub registries: RegistryFlags,
    /// Parent cgroup of all containers
    #[arg(long, value_name = "PATH")]
    pub cgroup_parent: Option<String>,
    /// What concerns drivers
    #[command(flatten)]
    pub drivers: DriverFlags,
    /// What concerns networks
    #[command(flatten)]
    pub network: NetworkFlags,
    /// What concerns all containers
    #[command(flatten)]
    pub containers: ContainerFlags,
    /// Size of /dev/shm where a container names none
    #[arg(long, value_name = "BYTES")]
    pub default_shm_size: Option<String>,
    /// Give containers labels of SELinux, where the host has it on
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub selinux_enabled: Option<bool>,
    /// Keep containers running while the daemon is not; always so, `false` is refused
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub live_restore: Option<bool>,
    /// Serve a registry over the daemon's own store here, to everybody who reaches it; see "registry" in the file for more
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub registry: Option<String>,
    /// Seconds to wait for requests under way at shutdown
    #[arg(long, value_name = "SECONDS")]
    pub shutdown_timeout: Option<u64>,
    /// Check the configuration and exit
    #[arg(long)]
    pub validate: bool,
    /// Check the store in the data root, tell what is wrong with it, and exit: all of it, or `quick`, with its contents taken on trust
    #[arg(long, value_enum, value_name = "full|quick", num_args = 0..=1, require_equals = true, default_missing_value = "full")]
    pub check_store: Option<StoreCheck>,
}

/// `daemon.json`, by dockerd's keys.
#[derive(Deserialize, Debug, Default, Clone)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    hosts: Vec<String>,
    group: Option<String>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    log_level: Option<String>,
    log_format: Option<String>,
    debug: Option<bool>,
    tls: Option<bool>,
    tlsverify: Option<bool>,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    allow_unauthenticated_tcp: Option<bool>,
    #[serde(flatten)]
    registries: RegistryFile,
    cgroup_parent: Option<String>,
    #[serde(flatten)]
    drivers: DriverFile,
    #[serde(flatten)]
    network: NetworkFile,
    #[serde(flatten)]
    containers: ContainerFile,
    default_shm_size: Option<String>,
    builder: BuilderFile,
    features: BTreeMap<String, bool>,
    selinux_enabled: Option<bool>,
    live_restore: Option<bool>,
    registry: Option<InDaemon>,
    shutdown_timeout: Option<u64>,
}

/// All keys of [`File`]: what is neither here nor in [`NOT_YET`] is no option at all.
const FILE_KEYS: &[&str] = &[
    "hosts",
    "group",
    "data-root",
    "exec-root",
    "pidfile",
    "log-level",
    "log-format",
    "debug",
    "tls",
    "tlsverify",
    "tlscacert",
    "tlscert",
    "tlskey",
    "allow-unauthenticated-tcp",
    "cgroup-parent",
    "default-shm-size",
    "builder",
    "features",
    "selinux-enabled",
    "live-restore",
    "registry",
    "shutdown-timeout",
];

/// TLS on tcp listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the daemon's certificate chain.
    pub certificate: PathBuf,
    /// PEM file with its private key.
    pub key: PathBuf,
    /// PEM file with the authorities that sign clients' certificates; absent: clients are not asked for one.
    pub client_authority: Option<PathBuf>,
}

/// What the daemon is to do, after flags and file are merged and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What is said of dockerd's features.
    pub features: Features,
    /// Where to listen; empty means the default sockets.
    pub hosts: Vec<String>,
    /// Group that owns the unix sockets, if one was named.
    pub group: Option<String>,
    /// Durable state.
    pub data_root: PathBuf,
    /// State of what runs.
    pub exec_root: PathBuf,
    /// Where to write the process id.
    pub pidfile: PathBuf,
    /// Filter for the log.
    pub log_level: tracing::level_filters::LevelFilter,
    /// Log lines as JSON.
    pub log_json: bool,
    /// TLS for tcp listeners.
    pub tls: Option<Tls>,
    /// Unauthenticated tcp beyond loopback was asked for.
    pub allow_unauthenticated_tcp: bool,
    /// What is said of registries.
    pub registries: Registries,
    /// Parent cgroup of all containers.
    pub cgroup_parent: Option<String>,
    /// Whether there is no default bridge network.
    pub no_bridge: bool,
    /// Whether published ports are left to the host's own rules.
    pub respect_firewall: bool,
    /// What is said of networks.
    pub networks: engine::networks::Settings,
    /// What is said of all containers.
    pub containers: Containers,
    /// How containers log that do not say it themselves.
    pub log: api::container::LogConfig,
    /// Where plugins are found.
    pub plugins: engine::volumes::PluginPlaces,
    /// Size of /dev/shm in bytes.
    pub default_shm_size_bytes: Option<i64>,
    /// What builds may be allowed.
    pub entitlements: engine::Entitlements,
    /// What builds keep for those that come.
    pub build_cache: engine::BuildCache,
    /// Whether containers get labels of SELinux.
    pub selinux: bool,
    /// A registry beside the API.
    pub registry: Option<InDaemon>,
    /// Seconds to wait for requests under way at shutdown.
    pub shutdown_timeout_s: u64,
    /// Only check, do not run.
    pub validate: bool,
    /// Only check the store, do not run.
    pub check_store: Option<StoreCheck>,
}

/// Why the daemon cannot be configured so; the text is what is printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Help was asked for: print and exit 0.
    #[error("{0}")]
    Help(String),
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// `daemon.json` is wrong.
    #[error("unable to configure the daemon with file {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl Settings {
    /// Parses `args` (with the program's name first), reads the configuration file and merges both.
    ///
    /// # Errors
    /// [`Error::Help`] for `--help`, else what is wrong with the command line or the file.
    pub fn load(args: &[OsString], default_file: &Path) -> Result<Self, Error> {
        if matches!(args.get(1).and_then(|word| word.to_str()), Some("--version" | "-v")) {
            return Err(Error::Help(format!("Corten version {}\n", env!("CARGO_PKG_VERSION"))));
        }
        let flags = Flags::try_parse_from(args).map_err(usage)?;
        let path = flags.config_file.clone().unwrap_or_else(|| default_file.to_path_buf());
        let file = match read_file(&path)? {
            Some(text) => parse_file(&path, &text, &flags)?,
            None if flags.config_file.is_some() => {
                return Err(file_error(&path, "no such file".to_owned()));
            }
            None => File::default(),
        };
        merge(flags, file)
    }
}

/// Words clap's complaint as dockerd's flag parser does.
fn usage(error: clap::Error) -> Error {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    match error.kind() {
        ErrorKind::DisplayHelp => Error::Help(error.to_string()),
        ErrorKind::UnknownArgument => {
            let flag = word(ContextKind::InvalidArg);
            let name = flag.trim_start_matches('-').split('=').next().unwrap_or_default();
            if NOT_YET.contains(&name) {
                return Error::Usage(format!("--{name} is not supported yet"));
            }
            match flag.strip_prefix('-') {
                Some(short) if !short.starts_with('-') => {
                    Error::Usage(format!("unknown shorthand flag: {flag}"))
                }
                Some(_) => Error::Usage(format!("unknown flag: {flag}")),
                None => Error::Usage(format!("\"corten daemon\" accepts no arguments, got {flag:?}")),
            }
        }
        _ => Error::Usage(first_line(&error.to_string())),
    }
}

/// The first line of clap's message, without its `error: `.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn file_error(path: &Path, reason: String) -> Error {
    Error::File { path: path.to_path_buf(), reason }
}

/// Reads the file if it is there.
fn read_file(path: &Path) -> Result<Option<String>, Error> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path, error.to_string())),
    };
    if !metadata.is_file() || metadata.len() > CONFIG_FILE_BYTES_MAX {
        return Err(file_error(path, "not a regular file of at most 1 MiB".to_owned()));
    }
    std::fs::read_to_string(path).map(Some).map_err(|error| file_error(path, error.to_string()))
}

/// Parses the file's text and refuses unknown keys, and keys that `flags` set too.
fn parse_file(path: &Path, text: &str, flags: &Flags) -> Result<File, Error> {
    let fail = |reason| Err(file_error(path, reason));
    let map: Map<String, Value> = if text.trim().is_empty() {
        Map::new()
    } else {
        serde_json::from_str(text).map_err(|error| file_error(path, error.to_string()))?
    };
    if let Some(key) = map.keys().find(|key| NOT_YET.contains(&key.as_str())) {
        return fail(format!("\"{key}\" is not supported yet"));
    }
    let unknown: Vec<&str> = map
        .keys()
        .map(String::as_str)
        .filter(|key| {
            ![FILE_KEYS, drivers::KEYS, network::KEYS, registries::KEYS, containers::KEYS]
                .iter()
                .any(|known| known.contains(key))
        })
        .collect();
    if !unknown.is_empty() {
        return fail(format!(
            "the following directives don't match any configuration option: {}",
            unknown.join(", ")
        ));
    }
    let mut both = String::new();
    for (key, from_flag) in flags_given(flags) {
        if let Some(from_file) = map.get(key) {
            let _ = write!(both, " {key}: (from flag: {from_flag}, from file: {from_file})");
        }
    }
    if !both.is_empty() {
        return fail(format!(
            "the following directives are specified both as a flag and in the configuration file:{both}"
        ));
    }
    serde_json::from_value(Value::Object(map)).map_err(|error| file_error(path, error.to_string()))
}

/// The file's key and the value of each option that was given as a flag.
fn flags_given(flags: &Flags) -> Vec<(&'static str, String)> {
    fn one<T: std::fmt::Debug>(value: Option<&T>) -> Option<String> {
        value.map(|value| format!("{value:?}"))
    }
    fn list(values: &[String]) -> Option<String> {
        (!values.is_empty()).then(|| format!("{values:?}"))
    }
    let given = [
        ("hosts", list(&flags.hosts)),
        ("group", one(flags.group.as_ref())),
        ("data-root", one(flags.data_root.as_ref())),
        ("exec-root", one(flags.exec_root.as_ref())),
        ("pidfile", one(flags.pidfile.as_ref())),
        ("log-level", one(flags.log_level.as_ref())),
        ("log-format", one(flags.log_format.as_ref())),
        ("debug", one(flags.debug.as_ref())),
        ("tls", one(flags.tls.as_ref())),
        ("tlsverify", one(flags.tlsverify.as_ref())),
        ("tlscacert", one(flags.tlscacert.as_ref())),
        ("tlscert", one(flags.tlscert.as_ref())),
        ("tlskey", one(flags.tlskey.as_ref())),
        ("allow-unauthenticated-tcp", one(flags.allow_unauthenticated_tcp.as_ref())),
        ("cgroup-parent", one(flags.cgroup_parent.as_ref())),
        ("default-shm-size", one(flags.default_shm_size.as_ref())),
        ("selinux-enabled", one(flags.selinux_enabled.as_ref())),
        ("live-restore", one(flags.live_restore.as_ref())),
        ("registry", one(flags.registry.as_ref())),
        ("shutdown-timeout", one(flags.shutdown_timeout.as_ref())),
    ];
    let given = given.into_iter().chain(flags.drivers.given());
    let given = given.filter_map(|(key, value)| Some((key, value?)));
    given
        .chain(flags.network.given())
        .chain(flags.registries.given())
        .chain(flags.containers.given())
        .collect()
}

/// Takes each option from where it was given, fills in the defaults, and checks what can be checked here.
fn merge(flags: Flags, file: File) -> Result<Settings, Error> {
    let lists = |flag: Vec<String>, file: Vec<String>| if flag.is_empty() { file } else { flag };
    if flags.live_restore.or(file.live_restore) == Some(false) {
        return Err(Error::Usage(
            "--live-restore=false is not supported: containers never depend on the daemon".to_owned(),
        ));
    }
    let debug = flags.debug.or(file.debug).unwrap_or(false);
    let level = flags.log_level.clone().or(file.log_level.clone());
    let log_level = if debug { Some("debug".to_owned()) } else { level };
    let log_format = flags.log_format.clone().or(file.log_format.clone());
    let shm = flags.default_shm_size.clone().or(file.default_shm_size.clone());
    let exec_root =
        flags.exec_root.clone().or(file.exec_root.clone()).unwrap_or_else(|| {
            if rootless::is_wanted() { rootless::exec_root() } else { "/run/corten".into() }
        });
    let exec_root = absolute(exec_root)?;
    let pidfile = absolute(
        flags.pidfile.clone().or(file.pidfile.clone()).unwrap_or_else(|| exec_root.join("corten.pid")),
    )?;
    let (networks, no_bridge, respect_firewall) =
        network::merge(flags.network.clone(), file.network.clone())?;
    let features = Features::of(&file.features)?;
    let (log, plugins) = drivers::merge(flags.drivers.clone(), file.drivers.clone())?;
    Ok(Settings {
        log,
        plugins,
        tls: tls::of(&flags, &file)?,
        log_level: parse_level(log_level.as_deref().unwrap_or("info"))?,
        log_json: match log_format.as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => return Err(Error::Usage(format!("invalid log format: {other}"))),
        },
        entitlements: file.builder.entitlements(),
        build_cache: file.builder.cache()?,
        default_shm_size_bytes: shm.map(|text| parse_bytes(&text)).transpose()?,
        hosts: lists(flags.hosts, file.hosts),
        group: flags.group.or(file.group),
        data_root: absolute(flags.data_root.or(file.data_root).unwrap_or_else(|| {
            if rootless::is_wanted() { rootless::data_root() } else { "/var/lib/corten".into() }
        }))?,
        exec_root,
        pidfile,
        allow_unauthenticated_tcp: flags
            .allow_unauthenticated_tcp
            .or(file.allow_unauthenticated_tcp)
            .unwrap_or(false),
        registries: registries::merge(flags.registries, file.registries)?,
        containers: features.shape(containers::merge(flags.containers, file.containers)?),
        features,
        cgroup_parent: flags.cgroup_parent.or(file.cgroup_parent),
        respect_firewall,
        no_bridge,
        networks,
        registry: match flags.registry.map(InDaemon::at).or(file.registry) {
            Some(registry) if registry.addr.is_empty() => {
                return Err(Error::Usage("registry: addr is missing: say ADDRESS:PORT".to_owned()));
            }
            registry => registry,
        },
        selinux: flags.selinux_enabled.or(file.selinux_enabled).unwrap_or(false),
        shutdown_timeout_s: flags.shutdown_timeout.or(file.shutdown_timeout).unwrap_or(15),
        validate: flags.validate,
        check_store: flags.check_store,
    })
}

/// A relative path means the directory the daemon was started in, which it leaves.
fn absolute(path: PathBuf) -> Result<PathBuf, Error> {
    std::path::absolute(&path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(args: &[&str], file: Option<&str>) -> Result<Settings, Error> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("daemon.json");
        if let Some(text) = file {
            std::fs::write(&path, text).unwrap();
        }
        let args: Vec<OsString> = std::iter::once(&"corten daemon").chain(args).map(OsString::from).collect();
        Settings::load(&args, &path)
    }

    fn message(result: Result<Settings, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_cortens() {
        let settings = load(&[], None).unwrap();
        assert_eq!(settings.data_root, Path::new("/var/lib/corten"));
        assert_eq!(settings.exec_root, Path::new("/run/corten"));
        assert!(settings.hosts.is_empty());
    }

    #[test]
    fn flags_and_file_are_merged() {
        let settings =
            load(&["--data-root", "/d"], Some(r#"{"exec-root":"/e","hosts":["unix:///s"],"debug":true}"#))
                .unwrap();
        assert_eq!(settings.data_root, Path::new("/d"));
        assert_eq!(settings.exec_root, Path::new("/e"));
        assert_eq!(settings.hosts, ["unix:///s"]);
        assert_eq!(settings.log_level, tracing::level_filters::LevelFilter::DEBUG);
    }

    #[test]
    fn what_is_unknown_or_not_there_is_refused_by_name() {
        assert_eq!(message(load(&["--nonsense"], None)), "unknown flag: --nonsense");
        assert_eq!(message(load(&["--experimental=true"], None)), "--experimental is not supported yet");
        assert!(message(load(&["extra"], None)).contains("accepts no arguments"));
        let text = message(load(&[], Some(r#"{"nonsense":1,"more":2}"#)));
        assert!(
            text.ends_with("the following directives don't match any configuration option: nonsense, more"),
            "{text}"
        );
        assert!(
            message(load(&[], Some(r#"{"raw-logs":true}"#))).ends_with("\"raw-logs\" is not supported yet")
        );
        assert!(message(load(&[], Some("{"))).contains("EOF"));
        assert!(message(load(&["--live-restore=false"], None)).contains("not supported"));
    }

    #[test]
    fn an_option_in_both_places_is_refused() {
        let text = message(load(&["--data-root", "/d"], Some(r#"{"data-root":"/e"}"#)));
        assert!(
            text.contains("both as a flag and in the configuration file: data-root: (from flag:"),
            "{text}"
        );
    }

    #[test]
    fn every_file_key_is_a_flag_and_every_flag_conflicts_with_its_key() {
        let flags = Flags {
            hosts: vec!["a".into()],
            group: Some("g".into()),
            data_root: Some("/".into()),
            exec_root: Some("/".into()),
            pidfile: Some("/".into()),
            config_file: None,
            log_level: Some("info".into()),
            log_format: Some("text".into()),
            debug: Some(true),
            tls: Some(true),
            tlsverify: Some(true),
            tlscacert: Some("/".into()),
            tlscert: Some("/".into()),
            tlskey: Some("/".into()),
            allow_unauthenticated_tcp: Some(true),
            registries: RegistryFlags::of_everything(),
            cgroup_parent: Some("/".into()),
            drivers: DriverFlags {
                log_driver: Some("local".into()),
                log_opts: vec!["a=b".into()],
                plugin_socket_dirs: vec!["/".into()],
                plugin_spec_dirs: vec!["/".into()],
            },
            network: NetworkFlags::of_everything(),
            containers: ContainerFlags::of_everything(),
            default_shm_size: Some("1m".into()),
            selinux_enabled: Some(true),
            live_restore: Some(true),
            registry: Some("a".into()),
            shutdown_timeout: Some(1),
            validate: false,
            check_store: None,
        };
        let mut given: Vec<&str> = flags_given(&flags).into_iter().map(|(key, _)| key).collect();
        let mut keys = [FILE_KEYS, drivers::KEYS, network::KEYS, registries::KEYS, containers::KEYS].concat();
        // What no flag says.
        keys.retain(|key| !matches!(*key, "builder" | "features"));
        given.sort_unstable();
        keys.sort_unstable();
        assert_eq!(given, keys);
    }

    #[test]
    fn tls_needs_its_files() {
        assert!(message(load(&["--tlsverify"], None)).contains("--tlscert"));
        assert!(
            message(load(&["--tlsverify", "--tlscert", "c", "--tlskey", "k"], None)).contains("--tlscacert")
        );
        assert!(message(load(&["--tlscert", "c"], None)).contains("--tls"));
        let settings = load(&["--tls", "--tlscert", "c", "--tlskey", "k"], None).unwrap();
        assert_eq!(settings.tls.unwrap().client_authority, None);
    }

    #[test]
    fn a_registry_in_the_daemon() {
        let settings = load(&["--registry", "127.0.0.1:5000"], None).unwrap();
        assert_eq!(settings.registry.unwrap().addr, "127.0.0.1:5000");
        let file = r#"{"registry":{"addr":"[::1]:5000","read-only":true,"htpasswd":"/users"}}"#;
        let registry = load(&[], Some(file)).unwrap().registry.unwrap();
        assert!(registry.features.read_only && registry.addr == "[::1]:5000");
        assert!(message(load(&[], Some(r#"{"registry":{}}"#))).contains("addr is missing"));
        assert!(message(load(&[], Some(r#"{"registry":{"addr":"a","nonsense":1}}"#))).contains("nonsense"));
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_bytes("64m").unwrap(), 64 << 20);
        assert_eq!(parse_bytes("1GiB").unwrap(), 1 << 30);
        assert!(
            parse_bytes("").is_err() && parse_bytes("12x").is_err() && parse_bytes("9999999999999g").is_err()
        );
    }
}
