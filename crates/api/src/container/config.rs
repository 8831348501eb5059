//! What runs in a container: the part of its configuration that an image can give.

use std::collections::BTreeMap;

/// An empty JSON object, the value in Go's sets (`ExposedPorts`, `Volumes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Unit {}

record! {
    /// The portable part of a container's configuration.
    pub struct Config {
        /// The host name inside; empty for the first twelve digits of the id.
        pub hostname: String,
        /// The NIS domain name inside.
        pub domainname: String,
        /// `user[:group]`, by name or number.
        pub user: String,
        /// Whether `start -a` attaches standard input.
        pub attach_stdin: bool,
        /// Whether `start -a` attaches standard output.
        pub attach_stdout: bool,
        /// Whether `start -a` attaches standard error.
        pub attach_stderr: bool,
        /// `port/protocol` the program listens on.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub exposed_ports: BTreeMap<String, Unit>,
        /// Whether the program gets a terminal.
        pub tty: bool,
        /// Whether standard input stays open.
        pub open_stdin: bool,
        /// Whether standard input closes with the first client that leaves.
        pub stdin_once: bool,
        /// `NAME=value`; a lone `NAME` removes the image's.
        pub env: Vec<String>,
    }
    apart {
        /// The arguments; `null` takes the image's.
        #[serde(deserialize_with = "crate::null::words")]
        pub cmd: Option<Vec<String>>,
    }
    then {
        /// How the container's health is found out; `null` takes the image's.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub healthcheck: Option<HealthConfig>,
        /// Windows only.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub args_escaped: bool,
        /// The image as it was named.
        pub image: String,
        /// Paths that hold anonymous volumes.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub volumes: BTreeMap<String, Unit>,
        /// The working directory; empty takes the image's.
        pub working_dir: String,
    }
    apart {
        /// The program before the arguments; `null` takes the image's, an empty list means none.
        #[serde(deserialize_with = "crate::null::words")]
        pub entrypoint: Option<Vec<String>>,
    }
    then {
        /// Whether the container has loopback only.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub network_disabled: bool,
        /// The hardware address, of API versions before 1.44.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub mac_address: String,
        /// Dockerfile steps of images built on this one.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub on_build: Vec<String>,
        /// The labels.
        pub labels: BTreeMap<String, String>,
        /// The signal that asks the program to end, by name or number; empty for SIGTERM.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub stop_signal: String,
        /// Seconds to wait before killing; 10 where absent.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub stop_timeout: Option<i64>,
        /// The shell of the shell form of `CMD` and `HEALTHCHECK`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub shell: Vec<String>,
    }

    /// How a container's health is found out. Times are in nanoseconds; 0 takes the image's.
    pub struct HealthConfig {
        /// `[]` takes the image's, `["NONE"]` turns it off, else `["CMD", …]` or `["CMD-SHELL", line]`.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub test: Vec<String>,
        /// Between two probes.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub interval: i64,
        /// How long a probe may take.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub timeout: i64,
        /// How long failures at the start do not count.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub start_period: i64,
        /// Between two probes while starting.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub start_interval: i64,
        /// Failures in a row that make the container unhealthy.
        #[serde(skip_serializing_if = "crate::null::is_default")]
        pub retries: i64,
    }
}
