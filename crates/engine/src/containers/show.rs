//! A record as the API shows it.

use std::collections::BTreeMap;

use api::container::{
    HealthSummary, Inspect, MountPoint, NetworkSettings, RootFsStorage, SnapshotStorage, State, Storage,
    Summary, SummaryHostConfig, SummaryNetworkSettings,
};
use api::duration;
use api::image::{Descriptor, Platform};
use api::network::EndpointSettings;
use api::timestamp;
use jiff::Timestamp;

use crate::containers::record::{MountKind, Paths, Record};
use crate::containers::state::{Life, Phase};
use crate::health::{Health, Status};
use crate::networks::Endpoint;

/// The snapshotter's name, as clients know it from containerd.
pub const SNAPSHOTTER: &str = "overlayfs";

/// When something was, in nanoseconds since 1970; 0 where it never was.
pub fn nanoseconds(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX))
}

/// How it is doing.
pub fn state(life: &Life) -> State {
    let paused = matches!(life.phase, Phase::Paused { .. });
    let restarting = life.phase == Phase::Restarting;
    State {
        status: life.status().to_owned(),
        running: life.pid().is_some() || restarting,
        paused,
        restarting,
        oom_killed: life.oom_killed,
        dead: life.phase == Phase::Dead,
        pid: i64::from(life.pid().unwrap_or(0)),
        exit_code: i64::from(life.exit_code),
        error: life.error.clone(),
        started_at: timestamp::format(nanoseconds(life.started_at)),
        finished_at: timestamp::format(nanoseconds(life.finished_at)),
        health: None,
    }
}

/// The word that `filter=health` knows a container's health by.
pub fn health_word(record: &Record) -> &'static str {
    record.health.as_ref().map_or("none", |health| health.status.word())
}

/// The health in lists: what does not run has none.
fn health(record: &Record) -> HealthSummary {
    match record.health.as_ref().filter(|_| record.life.pid().is_some()) {
        Some(health) => health.summary(),
        None => HealthSummary { status: "none".to_owned(), failing_streak: 0 },
    }
}

/// The status with the health of what runs: `Up 3 minutes (healthy)`.
fn status_of(record: &Record, now: Timestamp) -> String {
    let status = status(&record.life, now);
    match record.health.as_ref().map(|health| health.status) {
        Some(health) if matches!(record.life.phase, Phase::Running { .. }) => {
            let about = if health == Status::Starting { "health: " } else { "" };
            format!("{status} ({about}{})", health.word())
        }
        _ => status,
    }
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`.
pub fn status(life: &Life, now: Timestamp) -> String {
    let since = |at: Option<Timestamp>| duration::human(at.map_or(0, |at| now.duration_since(at).as_secs()));
    match life.phase {
        Phase::Running { .. } => format!("Up {}", since(life.started_at)),
        Phase::Paused { .. } => format!("Up {} (Paused)", since(life.started_at)),
        Phase::Restarting => format!("Restarting ({}) {} ago", life.exit_code, since(life.finished_at)),
        Phase::Removing => "Removal In Progress".to_owned(),
        Phase::Dead => "Dead".to_owned(),
        Phase::Created | Phase::Launching if life.started_at.is_none() => "Created".to_owned(),
        Phase::Created | Phase::Launching | Phase::Exited => match life.finished_at {
            Some(_) => format!("Exited ({}) {} ago", life.exit_code, since(life.finished_at)),
            None => String::new(),
        },
    }
}

/// What is mounted, without what `--tmpfs` asked for: Docker shows that in the host configuration alone.
pub fn mounts(record: &Record) -> Vec<MountPoint> {
    record
        .mounts
        .iter()
        .filter(|mount| {
            !(matches!(mount.kind, MountKind::Tmpfs { .. })
                && record.host.tmpfs.keys().any(|t| t.trim_end_matches('/') == mount.point.destination))
        })
        .map(|mount| mount.point.clone())
        .collect()
}

fn networks(record: &Record) -> BTreeMap<String, EndpointSettings> {
    if let Some(network_id) = crate::networks::plain_id(&record.host.network_mode) {
        let endpoint = EndpointSettings { network_id, ..EndpointSettings::default() };
        return BTreeMap::from([(record.host.network_mode.clone(), endpoint)]);
    }
    let shown = record.attachments.iter().map(|attachment| {
        let mut settings = attachment.settings.clone();
        settings.network_id.clone_from(&attachment.network);
        if attachment.name != crate::networks::BRIDGE {
            settings.dns_names = dns_names(record, &settings.aliases);
        }
        if let Some(endpoint) = record.places.endpoints.iter().find(|e| e.network == attachment.network) {
            fill(&mut settings, endpoint);
        }
        (attachment.name.clone(), settings)
    });
    shown.collect()
}

/// All names that lead to it, each once.
fn dns_names(record: &Record, aliases: &[String]) -> Vec<String> {
    let all = std::iter::once(record.name.as_str())
        .chain(aliases.iter().map(String::as_str))
        .chain([record.short_id(), record.hostname()]);
    let mut names: Vec<String> = Vec::new();
    for name in all {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// What it has beside what was asked for.
fn fill(settings: &mut EndpointSettings, endpoint: &Endpoint) {
    let address = |v6| endpoint.address(v6).map(|net| net.addr().to_string()).unwrap_or_default();
    let prefix = |v6| endpoint.address(v6).map_or(0, |net| i64::from(net.prefix_len()));
    let gateway = |v6| endpoint.gateway(v6).map(|ip| ip.to_string()).unwrap_or_default();
    settings.endpoint_id.clone_from(&endpoint.id);
    settings.mac_address = endpoint.mac_text();
    settings.ip_address = address(false);
    settings.ip_prefix_len = prefix(false);
    settings.gateway = gateway(false);
    settings.global_ipv6_address = address(true);
    settings.global_ipv6_prefix_len = prefix(true);
    settings.ipv6_gateway = gateway(true);
}

fn descriptor(record: &Record) -> Descriptor {
    let mut parts = record.image.platform.splitn(3, '/');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let platform = Platform { os: part(), architecture: part(), variant: part(), ..Platform::default() };
    Descriptor {
        media_type: record.image.manifest_type.clone(),
        digest: record.image.manifest.clone(),
        size: i64::try_from(record.image.manifest_size).unwrap_or(i64::MAX),
        platform: Some(platform),
        ..Descriptor::default()
    }
}

/// Bytes written, and bytes of all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sizes {
    /// In the writable layer.
    pub rw: i64,
    /// With the image.
    pub root_fs: i64,
}

/// The command as Docker's lists show it: arguments with spaces are quoted, what is in them is not looked at.
fn command(args: &[String]) -> String {
    let quoted = |(at, arg): (usize, &String)| {
        if at > 0 && arg.contains(' ') { format!("'{arg}'") } else { arg.clone() }
    };
    args.iter().enumerate().map(quoted).collect::<Vec<_>>().join(" ")
}

/// One line of a list.
pub fn summary(record: &Record, now: Timestamp, sizes: Option<Sizes>) -> Summary {
    Summary {
        id: record.id.clone(),
        names: vec![format!("/{}", record.name)],
        image: record.image.name.clone(),
        image_id: record.image.id.clone(),
        image_manifest_descriptor: Some(descriptor(record)),
        command: command(&record.args),
        created: record.created.as_second(),
        ports: crate::networks::ports::summary(&record.config, &record.places.published),
        size_rw: sizes.map(|s| s.rw),
        size_root_fs: sizes.map(|s| s.root_fs),
        labels: record.config.labels.clone(),
        state: record.life.status().to_owned(),
        status: status_of(record, now),
        host_config: SummaryHostConfig {
            network_mode: record.host.network_mode.clone(),
            annotations: record.host.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings { networks: networks(record) },
        mounts: mounts(record),
        health: Some(health(record)),
    }
}

/// Where its files about names are, if they are another's.
pub fn names_of(shown: &mut Inspect, paths: &Paths) {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    shown.resolv_conf_path = text(paths.resolv_conf());
    shown.hostname_path = text(paths.hostname());
    shown.hosts_path = text(paths.hosts());
}

/// All about one.
pub fn inspect(record: &Record, paths: &Paths, exec_ids: Vec<String>, sizes: Option<Sizes>) -> Inspect {
    let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let running = record.life.pid();
    let no_log = record.host.log_config.driver == "none";
    Inspect {
        id: record.id.clone(),
        created: timestamp::format(nanoseconds(Some(record.created))),
        path: record.args.first().cloned().unwrap_or_default(),
        args: record.args.iter().skip(1).cloned().collect(),
        state: State { health: record.health.as_ref().map(Health::shown), ..state(&record.life) },
        image: record.image.id.clone(),
        resolv_conf_path: text(paths.resolv_conf()),
        hostname_path: text(paths.hostname()),
        hosts_path: text(paths.hosts()),
        log_path: if no_log { String::new() } else { text(paths.log()) },
        name: format!("/{}", record.name),
        restart_count: i64::from(record.life.restart_count),
        driver: SNAPSHOTTER.to_owned(),
        platform: "linux".to_owned(),
        image_manifest_descriptor: Some(descriptor(record)),
        exec_ids,
        host_config: crate::plan::security::shown(&record.host),
        storage: Some(Storage {
            root_fs: Some(RootFsStorage { snapshot: Some(SnapshotStorage { name: SNAPSHOTTER.to_owned() }) }),
        }),
        size_rw: sizes.map(|s| s.rw),
        size_root_fs: sizes.map(|s| s.root_fs),
        mounts: mounts(record),
        config: record.config.clone(),
        network_settings: NetworkSettings {
            // A container has one as long as it runs.
            sandbox_id: running.map(|_| record.id.clone()).unwrap_or_default(),
            sandbox_key: running.map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
            ports: if running.is_some() {
                crate::networks::ports::map(&record.config, &record.places.published)
            } else {
                BTreeMap::new()
            },
            networks: networks(record),
        },
        process_label: record.labels.process.clone(),
        mount_label: record.labels.mount.clone(),
        ..Inspect::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::tests::record;

    #[test]
    fn the_status_reads_as_dockers() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let begun: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut life = Life::default();
        assert_eq!(status(&life, now), "Created");
        life.started_at = Some(begun);
        life.phase = Phase::Running { pid: 7 };
        assert_eq!(status(&life, now), "Up About an hour");
        life.phase = Phase::Paused { pid: 7 };
        assert_eq!(status(&life, now), "Up About an hour (Paused)");
        life.phase = Phase::Exited;
        life.exit_code = 3;
        life.finished_at = Some(now);
        assert_eq!(status(&life, now), "Exited (3) Less than a second ago");
        life.phase = Phase::Restarting;
        assert_eq!(status(&life, now), "Restarting (3) Less than a second ago");
        assert!(state(&life).running && state(&life).restarting);
    }

    #[test]
    fn a_container_that_was_never_started_has_go_zero_times() {
        let record = record();
        let paths = Paths { state: "/s".into(), run: "/r".into() };
        let shown = inspect(&record, &paths, Vec::new(), None);
        assert_eq!(shown.state.status, "created");
        assert_eq!(shown.state.started_at, timestamp::ZERO);
        assert_eq!((shown.name.as_str(), shown.path.as_str()), ("/web", "sleep"));
        assert_eq!(shown.network_settings.networks.len(), 1);
        assert_eq!(summary(&record, Timestamp::now(), None).command, "sleep 1");
    }
}
