//! What is mounted in a container: as asked for, and as it is.

use std::collections::BTreeMap;

record! {
    /// A mount as it is asked for.
    pub struct Mount {
        /// `bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`.
        #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        /// A path of the host, or a volume's or an image's name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        /// The path in the container.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub target: String,
        /// Whether it cannot be written.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub read_only: bool,
        /// Of macOS; without effect.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub consistency: String,
        /// Of `bind`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        /// Of `volume`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        /// Of `image`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_options: Option<ImageOptions>,
        /// Of `tmpfs`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
        /// Of `cluster`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cluster_options: Option<super::config::Unit>,
    }

    /// Options of a bind mount.
    pub struct BindOptions {
        /// `[r]private`, `[r]shared`, `[r]slave` or empty for `rprivate`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub propagation: String,
        /// Whether mounts below the source stay away.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub non_recursive: bool,
        /// Whether a missing source is made.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub create_mountpoint: bool,
        /// Whether read-only stops at mounts below.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub read_only_non_recursive: bool,
        /// Whether it is an error when mounts below cannot be made read-only.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub read_only_force_recursive: bool,
        /// Whose files are seen as whose.
        #[serde(rename = "IDMapping", skip_serializing_if = "Option::is_none")]
        pub id_mapping: Option<IdMapping>,
    }

    /// Whose files are seen as whose, where owners are mapped.
    pub struct IdMapping {
        /// `match-user` or `userns`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        /// The container's user that the source's owner is seen as; empty for who runs in it.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub user: String,
    }

    /// Options of a volume.
    pub struct VolumeOptions {
        /// Whether the image's files are not copied into an empty volume.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub no_copy: bool,
        /// Labels of a volume that is made.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<String, String>,
        /// A path inside the volume.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
        /// The driver of a volume that is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<Driver>,
    }

    /// Options of an image mount.
    pub struct ImageOptions {
        /// A path inside the image.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
    }

    /// Options of a temporary filesystem.
    pub struct TmpfsOptions {
        /// 0 for no limit.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub size_bytes: i64,
        /// The permission bits; 0 for 01777.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub mode: u32,
        /// Options of mount(8), as `[name]` or `[name, value]`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub options: Vec<Vec<String>>,
    }

    /// A driver and its options.
    pub struct Driver {
        /// Its name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// Its options.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub options: BTreeMap<String, String>,
    }

    /// A mount as it is.
    pub struct MountPoint {
        /// `bind`, `volume`, `tmpfs`, `image`.
        #[serde(rename = "Type", skip_serializing_if = "String::is_empty")]
        pub kind: String,
        /// A volume's name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// The path on the host.
        pub source: String,
        /// The path in the container.
        pub destination: String,
        /// A volume's driver.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub driver: String,
        /// The options as given (`ro`, `z`).
        pub mode: String,
        /// Whether it can be written.
        #[serde(rename = "RW")]
        pub rw: bool,
        /// How later mounts spread.
        pub propagation: String,
    }
}
