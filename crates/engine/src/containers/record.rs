//! What is remembered of a container: its desired state as it was asked for, made whole, and its life.

use std::path::PathBuf;

use api::container::{Config, HostConfig, MountPoint};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::containers::next::Next;
use crate::containers::state::{Life, Rules};
use crate::health::Health;
use crate::networks::{Attachment, Places};
use crate::restart::Policy;
use crate::selinux::Labels;

/// A container's record. It is written whole: a few kilobytes, in one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// What it was made from.
    pub image: ImageRef,
    /// What runs in it: the request over the image's configuration, merged.
    pub config: Config,
    /// How it stands on its host, defaults filled in.
    pub host: HostConfig,
    /// Whether somebody has said how much memory and swap it may have together: else that goes with the limit of memory.
    #[serde(default)]
    pub swap_given: bool,
    /// The program and its arguments (entrypoint and command).
    pub args: Vec<String>,
    /// What SELinux calls its processes and files.
    #[serde(default)]
    pub labels: Labels,
    /// What is mounted beside the root filesystem and the engine's own files.
    pub mounts: Vec<MountRecord>,
    /// What of this is otherwise from its next start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// The networks it is to be connected with.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// What it has on its networks while it runs: known by the runtime directory, and not written here.
    #[serde(skip)]
    pub places: Places,
    /// How it is doing.
    pub life: Life,
    /// What its probes say, or said while it ran.
    #[serde(default)]
    pub health: Option<Health>,
}

/// The image a container was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// As it was named in the request.
    pub name: String,
    /// The image's id: the digest of the index or manifest it was pulled as.
    pub id: String,
    /// The digest of the manifest of the platform that runs.
    pub manifest: String,
    /// Its size in bytes, and its media type.
    pub manifest_size: u64,
    /// The manifest's media type.
    pub manifest_type: String,
    /// `linux/amd64`, …
    pub platform: String,
}

/// A mount as it is remembered: what the API shows, and what the plan needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MountRecord {
    /// As the API shows it. `source` is the path on the host (a volume's `_data`), `destination` the path inside.
    pub point: MountPoint,
    /// What of it concerns the plan.
    pub kind: MountKind,
}

/// What a mount is, for the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// Whether mounts below the source come along.
        recursive: bool,
        /// Whether a missing source is made (as a directory), as `-v` does.
        create: bool,
        /// Whether read-only covers the mounts below, where that can be had.
        read_only_recursive: bool,
        /// Whether it is an error when mounts below cannot be made read-only.
        read_only_force: bool,
        /// Whose files are seen as whose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owners: Option<Owners>,
    },
    /// A volume of the engine; `point.name` is its name.
    Volume {
        /// Whether the engine made it for this container alone.
        anonymous: bool,
        /// Whether the image's files at the destination are not copied into the empty volume.
        no_copy: bool,
        /// A path inside the volume; empty for all of it.
        subpath: String,
    },
    /// The files of an image; read-only, but in steps of builds.
    Image {
        /// What the container keeps of the image, in the store.
        snapshot: String,
        /// A path inside the image; empty for all of it.
        subpath: String,
    },
    /// A filesystem in memory, with its options for `mount(2)` as a comma-separated list.
    Tmpfs {
        /// The options.
        options: String,
    },
}

/// The owner of a bind's source is seen as a user of the container, and the other way round.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owners {
    /// The container's user as it was named; empty for who runs in it.
    pub user: String,
    /// User and group as they are on the disk, and as they are seen: known at the start alone.
    #[serde(skip)]
    pub seen: Option<[(u32, u32); 2]>,
}

impl Record {
    /// The rules its life follows.
    pub fn rules(&self) -> Rules {
        let policy = &self.host.restart_policy;
        Rules {
            policy: Policy::parse(&policy.name, policy.maximum_retry_count).unwrap_or_default(),
            auto_remove: self.host.auto_remove,
        }
    }

    /// The first twelve digits of the id, as people are shown it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// The host name inside.
    pub fn hostname(&self) -> &str {
        if self.config.hostname.is_empty() { self.short_id() } else { &self.config.hostname }
    }
}

/// Where a container's files are on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `<data-root>/containers/<id>`: logs, and the files below.
    pub state: PathBuf,
    /// `<exec-root>/c/<id>`: `config.json`, the supervisor's socket, `init`, `exit`; there while it runs.
    pub run: PathBuf,
}

impl Paths {
    /// What the container has on its networks, while it runs.
    pub fn places(&self) -> PathBuf {
        self.run.join("places.json")
    }

    /// `/etc/hostname` inside.
    pub fn hostname(&self) -> PathBuf {
        self.state.join("hostname")
    }

    /// `/etc/hosts` inside.
    pub fn hosts(&self) -> PathBuf {
        self.state.join("hosts")
    }

    /// `/etc/resolv.conf` inside.
    pub fn resolv_conf(&self) -> PathBuf {
        self.state.join("resolv.conf")
    }

    /// The directory of the log file.
    pub fn log_dir(&self) -> PathBuf {
        self.state.join("log")
    }

    /// The newest log file, in Docker's json-file format.
    pub fn log(&self) -> PathBuf {
        self.log_dir().join("json.log")
    }
}

/// Who runs in a container: the numbers of its user and groups, found in its own files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// The home directory, for `HOME`.
    pub home: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record for tests.
    pub(crate) fn record() -> Record {
        Record {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            created: Timestamp::UNIX_EPOCH,
            image: ImageRef {
                name: "busybox".into(),
                id: format!("sha256:{}", "1".repeat(64)),
                manifest: format!("sha256:{}", "2".repeat(64)),
                manifest_size: 500,
                manifest_type: "application/vnd.oci.image.manifest.v1+json".into(),
                platform: "linux/amd64".into(),
            },
            config: Config { cmd: Some(vec!["sleep".into(), "1".into()]), ..Config::default() },
            host: HostConfig { network_mode: "none".into(), ..HostConfig::default() },
            swap_given: false,
            args: vec!["sleep".into(), "1".into()],
            labels: Labels::default(),
            mounts: Vec::new(),
            next: None,
            attachments: Vec::new(),
            places: Places::default(),
            life: Life::default(),
            health: None,
        }
    }

    #[test]
    fn a_record_survives_being_written() {
        let mut record = record();
        record.config.entrypoint = Some(Vec::new());
        record.host.masked_paths = Some(Vec::new());
        record.host.resources.memory = 1 << 30;
        record.host.resources.pids_limit = Some(0);
        let bytes = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&bytes).unwrap(), record);
    }
}
