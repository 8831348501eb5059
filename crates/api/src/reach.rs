//! Who can reach what is published: this engine's own, below `/corten`.

record! {
    /// A published port: an element of the answer to `GET /corten/ports`.
    pub struct ReachedPort {
        /// The container's id.
        #[serde(rename = "ContainerID")]
        pub container_id: String,
        /// The container's name.
        pub container: String,
        /// The network that it is reached by.
        pub network: String,
        /// `tcp`, `udp` or `sctp`.
        pub protocol: String,
        /// The host's address; an unspecified one is all of its family.
        #[serde(rename = "HostIP")]
        pub host_ip: String,
        /// The host's port.
        pub host_port: u16,
        /// The container's port.
        pub container_port: u16,
        /// Who can reach it.
        pub reach: Reach,
    }

    /// Who can reach a port.
    pub struct Reach {
        /// `host` (this host alone), `subnets` (the machines of these and this host), `anyone`, `nobody` (the host does not have the
        /// address), `blocked` (a chain of somebody else's drops it: this host alone).
        pub kind: String,
        /// The subnets.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub subnets: Vec<String>,
        /// The chain of somebody else's that drops it; where the kind is not `blocked` it decides by what is not known here. Of a port that
        /// is served by a process of the host's (`netd`) it is the host's own rules for what comes in.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub chain: String,
        /// The commands that have the chain let it through.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub commands: Vec<String>,
    }
}
