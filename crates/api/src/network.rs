//! Networks.

use std::collections::BTreeMap;

record! {
    /// A container's place on a network.
    pub struct EndpointSettings {
        /// Addresses asked for.
        #[serde(rename = "IPAMConfig")]
        pub ipam_config: Option<EndpointIpamConfig>,
        /// `container:alias`.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub links: Vec<String>,
        /// Further names.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub aliases: Vec<String>,
        /// The hardware address.
        pub mac_address: String,
        /// The driver's options.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub driver_opts: BTreeMap<String, String>,
        /// Which endpoint gives the default route: the highest.
        pub gw_priority: i64,
        /// The network's id.
        #[serde(rename = "NetworkID")]
        pub network_id: String,
        /// The endpoint's id.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// The gateway.
        pub gateway: String,
        /// The address.
        #[serde(rename = "IPAddress")]
        pub ip_address: String,
        /// The address's prefix.
        #[serde(rename = "IPPrefixLen")]
        pub ip_prefix_len: i64,
        /// The gateway.
        #[serde(rename = "IPv6Gateway")]
        pub ipv6_gateway: String,
        /// The address.
        #[serde(rename = "GlobalIPv6Address")]
        pub global_ipv6_address: String,
        /// The address's prefix.
        #[serde(rename = "GlobalIPv6PrefixLen")]
        pub global_ipv6_prefix_len: i64,
        /// All names that lead to it.
        #[serde(rename = "DNSNames", serialize_with = "crate::null::if_empty")]
        pub dns_names: Vec<String>,
    }

    /// Addresses asked for.
    pub struct EndpointIpamConfig {
        /// An address.
        #[serde(rename = "IPv4Address", skip_serializing_if = "String::is_empty")]
        pub ipv4_address: String,
        /// An address.
        #[serde(rename = "IPv6Address", skip_serializing_if = "String::is_empty")]
        pub ipv6_address: String,
        /// Addresses.
        #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
        pub link_local_ips: Vec<String>,
    }

    /// A network in lists.
    pub struct Network {
        /// The name.
        pub name: String,
        /// The id.
        pub id: String,
        /// RFC 3339.
        pub created: String,
        /// `local`, `global` or `swarm`.
        pub scope: String,
        /// The driver.
        pub driver: String,
        /// Whether it has IPv4.
        #[serde(rename = "EnableIPv4")]
        pub enable_ipv4: bool,
        /// Whether it has IPv6.
        #[serde(rename = "EnableIPv6")]
        pub enable_ipv6: bool,
        /// Its addresses.
        #[serde(rename = "IPAM")]
        pub ipam: Ipam,
        /// Whether it has no way out.
        pub internal: bool,
        /// Whether containers may join a swarm's network.
        pub attachable: bool,
        /// Whether it is a swarm's ingress.
        pub ingress: bool,
        /// The network whose configuration it has.
        pub config_from: ConfigReference,
        /// Whether it is a configuration alone.
        pub config_only: bool,
        /// The driver's options.
        pub options: BTreeMap<String, String>,
        /// The labels.
        pub labels: BTreeMap<String, String>,
    }

    /// The answer to `GET /networks/{id}`.
    pub struct Inspect {}
    apart {
        /// What is listed too.
        #[serde(flatten)]
        pub network: Network,
    }
    then {
        /// Containers on it, by id.
        pub containers: BTreeMap<String, EndpointResource>,
        /// How much of it is in use.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub status: Option<Status>,
    }

    /// How much of a network is in use.
    pub struct Status {
        /// Of its addresses.
        #[serde(rename = "IPAM")]
        pub ipam: IpamStatus,
    }

    /// How many of a network's addresses are in use.
    pub struct IpamStatus {
        /// By the subnet in CIDR form.
        pub subnets: BTreeMap<String, SubnetStatus>,
    }

    /// How many of a subnet's addresses are in use.
    pub struct SubnetStatus {
        /// Those that somebody has, or that nobody can have.
        #[serde(rename = "IPsInUse")]
        pub ips_in_use: u64,
        /// Those that are left to be given out.
        #[serde(rename = "DynamicIPsAvailable")]
        pub dynamic_ips_available: u64,
    }

    /// A network's addresses.
    pub struct Ipam {
        /// The driver.
        pub driver: String,
        /// The driver's options.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub options: BTreeMap<String, String>,
        /// The pools.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub config: Vec<IpamConfig>,
    }

    /// A pool of addresses.
    pub struct IpamConfig {
        /// In CIDR form.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subnet: String,
        /// In CIDR form.
        #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
        pub ip_range: String,
        /// An address.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub gateway: String,
        /// Names to addresses that are not given out.
        #[serde(rename = "AuxiliaryAddresses", skip_serializing_if = "BTreeMap::is_empty")]
        pub auxiliary_addresses: BTreeMap<String, String>,
    }

    /// The network whose configuration another has.
    pub struct ConfigReference {
        /// Its name.
        pub network: String,
    }

    /// A container on a network.
    pub struct EndpointResource {
        /// The container's name.
        pub name: String,
        /// The endpoint's id.
        #[serde(rename = "EndpointID")]
        pub endpoint_id: String,
        /// The hardware address.
        pub mac_address: String,
        /// In CIDR form.
        #[serde(rename = "IPv4Address")]
        pub ipv4_address: String,
        /// In CIDR form.
        #[serde(rename = "IPv6Address")]
        pub ipv6_address: String,
    }

    /// The body of `POST /networks/create`.
    pub struct CreateRequest {
        /// The name.
        pub name: String,
        /// The driver; empty for `bridge`.
        pub driver: String,
        /// `local` or `swarm`.
        pub scope: String,
        /// Whether it has IPv4.
        #[serde(rename = "EnableIPv4", skip_serializing_if = "Option::is_none")]
        pub enable_ipv4: Option<bool>,
        /// Whether it has IPv6.
        #[serde(rename = "EnableIPv6", skip_serializing_if = "Option::is_none")]
        pub enable_ipv6: Option<bool>,
        /// Its addresses.
        #[serde(rename = "IPAM")]
        pub ipam: Option<Ipam>,
        /// Whether it has no way out.
        pub internal: bool,
        /// Whether containers may join a swarm's network.
        pub attachable: bool,
        /// Whether it is a swarm's ingress.
        pub ingress: bool,
        /// Whether it is a configuration alone.
        pub config_only: bool,
        /// The network whose configuration it has.
        pub config_from: Option<ConfigReference>,
        /// The driver's options.
        pub options: BTreeMap<String, String>,
        /// The labels.
        pub labels: BTreeMap<String, String>,
    }

    /// The body of `POST /networks/{id}/connect`.
    pub struct ConnectRequest {
        /// The container's name or id.
        pub container: String,
        /// What is asked of the network.
        pub endpoint_config: Option<EndpointSettings>,
    }

    /// The body of `POST /networks/{id}/disconnect`.
    pub struct DisconnectRequest {
        /// The container's name or id.
        pub container: String,
        /// Whether it is to be cut off in any case.
        pub force: bool,
    }

    /// The answer to `POST /networks/create`.
    pub struct CreateResponse {
        /// The id.
        pub id: String,
        /// What the client should tell its user.
        pub warning: String,
    }

    /// The answer to `POST /networks/prune`.
    pub struct PruneReport {
        /// The names.
        #[serde(serialize_with = "crate::null::if_empty")]
        pub networks_deleted: Vec<String>,
    }
}
