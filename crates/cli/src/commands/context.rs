//! `context`.

pub mod create;
pub mod export;
pub mod import;
pub mod inspect;
pub mod list;
pub mod remove;
pub mod show;
pub mod update;
pub mod using;

use client::context::{DockerEndpoint, Material, Store};
use client::{Settings, context_name};

use crate::command::Command;
use crate::error::{Error, Result};
use crate::session::Session;

/// The group.
pub static GROUP: Command = Command::group(
    "context",
    "Manage contexts: the daemons you talk to",
    &[
        &create::COMMAND,
        &export::COMMAND,
        &import::COMMAND,
        &inspect::COMMAND,
        &list::COMMAND,
        &remove::COMMAND,
        &show::COMMAND,
        &update::COMMAND,
        &using::COMMAND,
    ],
);

/// The name of the context in force.
pub(crate) fn current(session: &Session) -> Result<String> {
    Ok(context_name(&session.settings, &session.config)?)
}

/// The variable that overrides the current context, when it is set.
pub(crate) fn overridden() -> Option<&'static str> {
    ["DOCKER_HOST", "DOCKER_CONTEXT"]
        .into_iter()
        .find(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
}

/// The address that holds without a context.
pub(crate) fn default_address(session: &Session) -> String {
    let settings = Settings {
        context: Some(client::context::DEFAULT.into()),
        hosts: Vec::new(),
        ..session.settings.clone()
    };
    let hosts = session.settings.hosts.clone();
    let settings = if hosts.is_empty() { settings } else { Settings { hosts, context: None, ..settings } };
    client::Target::resolve(&settings, &session.config, &session.store)
        .map_or_else(|_| session.settings.default_host.clone(), |target| target.address)
}

/// `--docker` is a list of pairs.
pub(crate) fn check_fields(text: &str) -> std::result::Result<(), String> {
    match text.split(',').find(|field| !field.contains('=')) {
        Some(field) => Err(format!("{field} must be formatted as key=value")),
        None => Ok(()),
    }
}

/// What `--docker key=value,…` says.
pub(crate) fn endpoint(store: &Store, text: &str) -> Result<(DockerEndpoint, Material)> {
    let mut endpoint = DockerEndpoint { host: String::new(), skip_tls_verify: false };
    let mut material = Material::new();
    let mut from = None;
    for field in text.split(',') {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| Error::Message(format!("{field} must be formatted as key=value")))?;
        let read = |path: &str| {
            std::fs::read(path).map_err(|source| Error::File { verb: "open", path: path.to_owned(), source })
        };
        match key {
            "host" => {
                client::parse_address(value, false).map_err(|err| {
                    Error::Message(format!("unable to create docker endpoint config: {err}"))
                })?;
                value.clone_into(&mut endpoint.host);
            }
            "ca" => material.push(("ca.pem", read(value)?)),
            "cert" => material.push(("cert.pem", read(value)?)),
            "key" => material.push(("key.pem", read(value)?)),
            "skip-tls-verify" => {
                endpoint.skip_tls_verify = crate::flags::boolean(value)
                    .ok_or_else(|| Error::Message(format!("skip-tls-verify: {value:?} is not a boolean")))?;
            }
            "from" => from = Some(value.to_owned()),
            other => {
                return Err(Error::Message(format!(
                    "unable to create docker endpoint config: unrecognized config key: {other}"
                )));
            }
        }
    }
    if let Some(from) = from {
        let meta = store.load(&from)?;
        let known = meta
            .docker()
            .ok_or_else(|| Error::Message(format!("cannot find docker endpoint in context {from:?}")))?;
        return Ok((known, store.material(&from)?));
    }
    Ok((endpoint, material))
}
