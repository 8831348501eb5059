//! What a container was made with, written so that the same one can be made again: as a command line, a Compose project, a
//! unit for Podman's Quadlet, or a pod for Kubernetes.
//!
//! ```text
//! inspect of container and image ──> Recipe (what is not the image's own) ──> flags of `run` ──> a command line, a unit
//!                                          └──────────────────────────────> a Compose project, a pod
//! ```

mod compose;
mod flags;
mod kube;
mod quadlet;
mod run;
mod yaml;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use api::container::{Config, HealthConfig, HostConfig, Inspect};
use api::image::Config as ImageConfig;
use api::network::EndpointSettings;

use crate::error::{Error, Result};

/// The forms.
pub const FORMS: [&str; 4] = ["run", "compose", "quadlet", "kube"];

/// The check of `--as`.
pub fn check(text: &str) -> std::result::Result<(), String> {
    if FORMS.contains(&text) { Ok(()) } else { Err(format!("must be one of {}", FORMS.join(", "))) }
}

/// What a container was made with, without what its image says already.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// Its image, as it was named.
    pub image: String,
    /// The program before the arguments, where it is not the image's.
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, where they are not the image's.
    pub command: Vec<String>,
    /// What runs in it; of lists what is its own.
    pub config: Config,
    /// How it stands on its host.
    pub host: HostConfig,
    /// Its networks, the first one first.
    pub networks: Vec<(String, EndpointSettings)>,
    /// How its health is found out, whether the image says it or not.
    pub health: Option<HealthConfig>,
}

impl Recipe {
    /// Reads what the daemon shows of a container, and of its image if that is there still.
    pub fn of(shown: Inspect, image: Option<ImageConfig>) -> Self {
        let short = shown.id.get(..12).unwrap_or_default().to_owned();
        let (mut config, host) = (shown.config, shown.host_config);
        let has_image = image.is_some();
        let image = image.unwrap_or_default();
        config.env.retain(|entry| !image.env.contains(entry));
        config.labels.retain(|key, value| image.labels.get(key) != Some(value));
        config.volumes.retain(|path, _| !image.volumes.contains_key(path));
        config.exposed_ports.retain(|port, _| {
            !image.exposed_ports.contains_key(port) && !host.port_bindings.contains_key(port)
        });
        for (own, of_image) in [
            (&mut config.user, &image.user),
            (&mut config.working_dir, &image.working_dir),
            (&mut config.stop_signal, &image.stop_signal),
        ] {
            if own == of_image {
                own.clear();
            }
        }
        let health = config.healthcheck.clone();
        if config.healthcheck == image.healthcheck {
            config.healthcheck = None;
        }
        if config.hostname == short || host.network_mode == "host" || host.uts_mode == "host" {
            config.hostname.clear();
        }
        let words = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let same_entrypoint = has_image && words(&config.entrypoint) == image.entrypoint;
        let entrypoint = (!same_entrypoint && (has_image || config.entrypoint.is_some()))
            .then(|| words(&config.entrypoint));
        let same_command = same_entrypoint && words(&config.cmd) == image.cmd;
        let command = if same_command { Vec::new() } else { words(&config.cmd) };
        let networks = networks(&host, shown.network_settings.networks, &short);
        Self {
            name: shown.name.trim_start_matches('/').to_owned(),
            image: config.image.clone(),
            entrypoint,
            command,
            config,
            host,
            networks,
            health,
        }
    }

    /// In a form.
    pub fn written(&self, form: &str) -> Result<String> {
        match form {
            "run" => Ok(run::write(self)),
            "compose" => compose::write(self),
            "quadlet" => quadlet::write(self),
            "kube" => kube::write(self),
            other => Err(Error::Message(format!("unknown form: {other}"))),
        }
    }

    /// Refuses the first that is given of what a form has no word for.
    fn refuse<'a>(&self, form: &str, all: impl IntoIterator<Item = (bool, &'a str)>) -> Result<()> {
        match all.into_iter().find(|(given, _)| *given) {
            None => Ok(()),
            Some((_, what)) => Err(Error::Message(format!("{}: {form} has no word for {what}", self.name))),
        }
    }

    /// Whether the engine itself asks for its health, which no other has.
    fn is_asked_for_health(&self) -> bool {
        let test = self.config.healthcheck.as_ref().and_then(|health| health.test.first());
        test.is_some_and(|word| word == "HTTP" || word == "TCP")
    }

    /// The program that is not the image's, and its arguments: one word at most stands before the image.
    fn program(&self) -> (Option<String>, Vec<String>) {
        match &self.entrypoint {
            None => (None, self.command.clone()),
            Some(words) => {
                let first = words.first().cloned().unwrap_or_default();
                let rest = words.iter().skip(1).chain(&self.command).cloned().collect();
                (Some(first), rest)
            }
        }
    }
}

/// Networks with what was asked for of each, and not what came of it.
fn networks(
    host: &HostConfig,
    shown: BTreeMap<String, EndpointSettings>,
    short: &str,
) -> Vec<(String, EndpointSettings)> {
    let asked = |mut settings: EndpointSettings| {
        if !is_asked(&settings, host) {
            settings.mac_address.clear();
        }
        settings.aliases.retain(|alias| alias != short);
        EndpointSettings {
            ipam_config: settings.ipam_config.filter(|config| *config != Default::default()),
            links: settings.links,
            aliases: settings.aliases,
            mac_address: settings.mac_address,
            driver_opts: settings.driver_opts,
            gw_priority: settings.gw_priority,
            ..EndpointSettings::default()
        }
    };
    let mode = host.network_mode.as_str();
    let mut all: Vec<_> = shown.into_iter().map(|(name, settings)| (name, asked(settings))).collect();
    all.sort_by_key(|(name, _)| name != mode);
    if all.is_empty() || mode.starts_with("container:") {
        all = vec![(mode.to_owned(), EndpointSettings::default())];
    }
    all
}

/// Whether a hardware address was asked for. What is not connected shows what was asked for alone; what is shows the address
/// that it has, which follows from its IPv4 address or its endpoint's id where nobody chose it.
fn is_asked(settings: &EndpointSettings, host: &HostConfig) -> bool {
    let mac = &settings.mac_address;
    if mac.is_empty() || settings.endpoint_id.is_empty() {
        return !mac.is_empty();
    }
    // Another daemon may have drawn it by lot: it is of the local kind then, and nothing tells it from a chosen one.
    let is_local = u8::from_str_radix(mac.get(..2).unwrap_or_default(), 16).is_ok_and(|byte| byte & 2 != 0);
    if host.runtime == "runc" && is_local {
        return false;
    }
    let digits = |at: usize| u8::from_str_radix(settings.endpoint_id.get(at..at + 2).unwrap_or_default(), 16);
    let [a, b, c, d] = match settings.ip_address.parse::<Ipv4Addr>() {
        Ok(address) => address.octets(),
        Err(_) => [0, 2, 4, 6].map(|at| digits(at).unwrap_or_default()),
    };
    *mac != format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// A time as flags and files have it.
fn duration(nanoseconds: i64) -> String {
    match nanoseconds {
        n if n % 1_000_000_000 == 0 => format!("{}s", n / 1_000_000_000),
        n if n % 1_000_000 == 0 => format!("{}ms", n / 1_000_000),
        n => format!("{n}ns"),
    }
}

/// A word that a shell reads as it is.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
