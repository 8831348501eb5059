//! The flags that stand before the command.

use std::path::PathBuf;

use client::Settings;
use client::config::{ConfigFile, default_folder};

use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, list, switch, text};
use crate::session::Session;

/// The default local daemon's socket.
pub const SOCKET: &str = "unix:///run/corten/corten.sock";

/// The socket of an ordinary user's own daemon, if there is one.
fn own_socket() -> Option<String> {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return None;
    }
    let directory = std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(|| PathBuf::from(format!("/run/user/{}", user.as_raw())), PathBuf::from);
    let socket = directory.join("corten/corten.sock");
    socket.exists().then(|| format!("unix://{}", socket.display()))
}

/// The global flags.
pub const FLAGS: &[Group] = &[Group {
    title: "Global Options",
    flags: &[
        text("config", "Folder of the client's configuration").default("~/.docker"),
        text("context", "Context that names the daemon (goes before DOCKER_HOST and \"context use\")")
            .short('c'),
        switch("debug", "Enable debug mode").short('D'),
        list("host", "Address of the daemon: unix://, tcp:// or ssh://").short('H'),
        text("log-level", "Logging level: debug, info, warn, error, fatal").short('l').default("\"info\""),
        switch("tls", "Use TLS; implied by --tlsverify"),
        text("tlscacert", "Trust only certificates signed by this authority").default("~/.docker/ca.pem"),
        text("tlscert", "The client's TLS certificate").default("~/.docker/cert.pem"),
        text("tlskey", "The client's TLS key").default("~/.docker/key.pem"),
        switch("tlsverify", "Use TLS and verify the daemon"),
        switch("version", "Print the version and quit").short('v'),
    ],
}];

/// What the global flags come to.
pub fn session(program: &str, parsed: &Parsed) -> Result<Session> {
    if let Some(level) = parsed.text("log-level")
        && !matches!(level, "trace" | "debug" | "info" | "warn" | "warning" | "error" | "fatal" | "panic")
    {
        return Err(Error::Message(format!("Unable to parse logging level: {level}")));
    }
    let folder = parsed.text("config").map_or_else(default_folder, PathBuf::from);
    let config = match ConfigFile::load(&folder) {
        Ok(config) => config,
        Err(err) => {
            // Docker warns and goes on without: a damaged file must not lock the user out.
            eprintln!("WARNING: Error {}", crate::error::told(&err));
            ConfigFile::empty(&folder)
        }
    };
    let path = |name: &str| parsed.text(name).map(PathBuf::from);
    let settings = Settings {
        hosts: parsed.owned("host"),
        context: parsed.text("context").map(str::to_owned),
        tls: parsed.on("tls"),
        tls_verify: parsed.given("tlsverify").then(|| parsed.on("tlsverify")),
        ca: path("tlscacert"),
        cert: path("tlscert"),
        key: path("tlskey"),
        default_host: own_socket().unwrap_or_else(|| SOCKET.to_owned()),
    };
    if settings.hosts.len() < 2 {
        client::context_name(&settings, &config)?;
    }
    Ok(Session::new(program, settings, parsed.on("debug"), config))
}
