//! Volumes.

use std::collections::BTreeMap;

record! {
    /// A volume.
    pub struct Volume {
        /// RFC 3339.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub created_at: String,
        /// The driver.
        pub driver: String,
        /// The labels.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub labels: BTreeMap<String, String>,
        /// On the host.
        pub mountpoint: String,
        /// The name.
        pub name: String,
        /// The driver's options.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub options: BTreeMap<String, String>,
        /// `local` or `global`.
        pub scope: String,
        /// What the driver tells.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub status: BTreeMap<String, serde_json::Value>,
        /// Where it was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub usage_data: Option<UsageData>,
    }

    /// How a volume is used.
    pub struct UsageData {
        /// Containers; −1 where not counted.
        pub ref_count: i64,
        /// Bytes; −1 where not counted.
        pub size: i64,
    }

    /// The body of `POST /volumes/create`.
    pub struct CreateRequest {
        /// Of cluster volumes.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub cluster_volume_spec: Option<serde_json::Value>,
        /// The driver; empty for `local`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub driver: String,
        /// The driver's options.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub driver_opts: BTreeMap<String, String>,
        /// The labels.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub labels: BTreeMap<String, String>,
        /// The name; empty for a random one.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
    }

    /// The answer to `GET /volumes`.
    pub struct List {
        /// The volumes.
        pub volumes: Vec<Volume>,
        /// What the client should tell its user.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub warnings: Vec<String>,
    }

    /// The answer to `POST /volumes/prune`.
    pub struct PruneReport {
        /// The names.
        pub volumes_deleted: Vec<String>,
        /// Bytes.
        pub space_reclaimed: u64,
    }
}
