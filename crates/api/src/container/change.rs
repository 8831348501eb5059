//! What this engine changes of a container beyond Docker's API.

use std::collections::BTreeMap;

use super::PortMap;
use super::mount::Mount;

record! {
    /// The field `Corten` of an update: what Docker can only have by making the container anew.
    pub struct Changes {
        /// Ports to publish, in the form of `HostConfig.PortBindings`.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub publish_add: PortMap,
        /// Published ports to take back.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub publish_remove: Vec<PortChoice>,
        /// Options of its endpoints, by the networks' names; an empty value takes an option back.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub networks: BTreeMap<String, BTreeMap<String, String>>,
        /// Variables from the next start on.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub env_add: Vec<String>,
        /// Names of variables that are gone from the next start on.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub env_remove: Vec<String>,
        /// Mounts from the next start on.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mount_add: Vec<Mount>,
        /// Places inside at which nothing is mounted from the next start on.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub mount_remove: Vec<String>,
    }

    /// Published ports of a container: those at one of its ports, or of these those at an address or a port of the host.
    pub struct PortChoice {
        /// The container's, as in `80/tcp`.
        pub port: String,
        /// The host's address; all if empty.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub host_ip: String,
        /// The host's port; all if empty.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub host_port: String,
    }

    /// One file of `GET /containers/{id}/changes`.
    pub struct FileChange {
        /// Its path inside the container.
        pub path: String,
        /// 0: changed, 1: made, 2: removed.
        pub kind: u8,
    }

    /// The field `Corten` of the answer: it tells a client that the daemon knows the field of the request.
    pub struct Changed {
        /// Where the container's ports are published now.
        pub ports: PortMap,
    }
}
