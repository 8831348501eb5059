//! What a daemon and netd say to each other: frames of a length and a JSON value, bounded. Descriptors travel beside the frame that they
//! belong to.

use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::dns::{Container, Name, Network};
use crate::relay::Port;

/// The version of the protocol that this build speaks.
pub const VERSION: u32 = 2;
/// The longest frame: a network with some ten thousand names.
pub const FRAME_MAX: usize = 4 << 20;
/// How many bytes the length of a frame has.
pub const LENGTH: usize = 4;
/// How many descriptors wait for their frame at most: those of one, and of the next that has begun to come.
pub const DESCRIPTORS_MAX: usize = 2 * PORTS_AT_ONCE;
/// How many ports one frame tells of at most: each has a descriptor, and the kernel passes on no more than 253 at once.
pub const PORTS_AT_ONCE: usize = 128;
/// How many ports are held and served at most: each has a descriptor, and all of them go into one frame.
pub const PORTS_MAX: usize = 1 << 14;
/// How many containers one host has at most, and networks.
pub const CONTAINERS_MAX: usize = 1 << 14;
/// How many networks have names at most.
pub const NETWORKS_MAX: usize = 1 << 12;
/// How many subnets are refused at most: two of each network.
const SUBNETS_MAX: usize = 2 * NETWORKS_MAX;
/// How many networks one container is in at most.
const NETWORKS_EACH: usize = 256;
/// How many servers are asked for a container at most: each costs time when none answers.
const UPSTREAMS_MAX: usize = 16;
/// How many names a table has at most.
const NAMES_MAX: usize = 1 << 16;
/// How long an id or a name may be.
const TEXT_MAX: usize = 1024;

/// What a daemon asks for. Everything but the first may be said again at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// The first on every connection.
    Hello {
        /// What the daemon speaks.
        version: u32,
    },
    /// Serve a container, or from now on in another way.
    Serve {
        /// How.
        container: Container,
        /// Whether its two sockets come with it: that for datagrams, and that for streams. Without them those of before stay.
        sockets: bool,
    },
    /// Forget a container by itself when a process has ended, whose pidfd comes with it: it need not be told then.
    Until {
        /// The container.
        id: String,
    },
    /// Hold these published ports of a container, and serve those that lead somewhere.
    Ports {
        /// The container.
        id: String,
        /// Which, with a socket for each.
        ports: Vec<Port>,
        /// Whether it has no others, and any process that it had ended with is another run's.
        anew: bool,
    },
    /// Serve these ports of a container, whose sockets are there, in this way from now on.
    ChangePorts {
        /// The container.
        id: String,
        /// How.
        ports: Vec<Port>,
    },
    /// Close these ports of a container.
    ClosePorts {
        /// The container.
        id: String,
        /// Which.
        ports: Vec<Port>,
    },
    /// Serve no ports to clients in these subnets or beyond these devices, and to all others: those of networks that are internal.
    Refuse {
        /// The subnets.
        subnets: Vec<IpNet>,
        /// The devices, by name.
        #[serde(default)]
        devices: Vec<String>,
        /// The subnets of all networks: nobody speaks to a container as another.
        #[serde(default)]
        own: Vec<IpNet>,
    },
    /// Serve a container no longer, and close its ports.
    Forget {
        /// Which.
        id: String,
    },
    /// A network has these names, and no others.
    Names(Network),
    /// A network is no more.
    ForgetNetwork {
        /// Which.
        id: String,
    },
    /// Say what is served.
    List,
    /// End.
    Stop,
}

impl Request {
    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Serve { sockets: true, .. } => 2,
            Self::Ports { ports, .. } => ports.len(),
            Self::Until { .. } => 1,
            _ => 0,
        }
    }

    /// Whether all of it is within bounds; else what is not.
    pub fn check(&self) -> Result<(), &'static str> {
        let texts = |names: &[Name]| names.iter().all(|name| name.name.len() <= TEXT_MAX);
        let (id, ok) = match self {
            Self::Serve { container, .. } => {
                let within = container.networks.len() <= NETWORKS_EACH
                    && container.networks.iter().all(|id| id.len() <= TEXT_MAX)
                    && container.upstreams.len() <= UPSTREAMS_MAX
                    && container.own.len() <= NAMES_MAX
                    && texts(&container.own);
                (&container.id, within)
            }
            Self::Names(network) => {
                let within = network.names.len() <= NAMES_MAX
                    && network.domain.len() <= TEXT_MAX
                    && texts(&network.names);
                (&network.id, within)
            }
            Self::Ports { id, ports, .. }
            | Self::ChangePorts { id, ports }
            | Self::ClosePorts { id, ports } => {
                (id, ports.len() <= PORTS_AT_ONCE && ports.iter().all(Port::is_possible))
            }
            Self::Until { id } | Self::Forget { id } | Self::ForgetNetwork { id } => (id, true),
            Self::Refuse { subnets, devices, own }
                if subnets.len().max(devices.len()).max(own.len()) > SUBNETS_MAX =>
            {
                return Err("more than is understood");
            }
            Self::Hello { .. } | Self::Refuse { .. } | Self::List | Self::Stop => return Ok(()),
        };
        match (id.is_empty() || id.len() > TEXT_MAX, ok) {
            (true, _) => Err("an id that can be none"),
            (false, false) => Err("more than is understood"),
            (false, true) => Ok(()),
        }
    }
}

/// What netd answers: one for each request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To a hello.
    Hello {
        /// What netd speaks.
        version: u32,
    },
    /// Another daemon is connected.
    Busy,
    /// It is done.
    Done,
    /// It is not.
    Refused {
        /// Why.
        why: String,
    },
    /// To a list.
    Serving(Serving),
}

/// What netd has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serving {
    /// The containers that are served, in order.
    pub containers: Vec<Served>,
    /// The ids of the networks that have names, in order.
    pub networks: Vec<String>,
    /// The containers that have ports here, in order.
    pub ports: Vec<Relayed>,
}

/// A container's ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// Its id.
    pub id: String,
    /// The ports.
    pub ports: Vec<Port>,
}

/// A container that is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Served {
    /// Its id.
    pub id: String,
    /// The port in it at which datagrams arrive.
    pub datagrams: u16,
    /// The port in it at which streams arrive.
    pub streams: u16,
}

/// Why bytes could not be understood, or a message could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`FRAME_MAX`].
    #[error("a message of {0} bytes is too long")]
    Length(usize),
    /// Not a value of the type that was expected.
    #[error("a message is not understood")]
    Value(#[source] serde_json::Error),
}

/// The frame of a message.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, Malformed> {
    let mut frame = vec![0; LENGTH];
    serde_json::to_writer(&mut frame, message).map_err(Malformed::Value)?;
    let length = frame.len() - LENGTH;
    let prefix =
        u32::try_from(length).ok().filter(|_| length <= FRAME_MAX).ok_or(Malformed::Length(length))?;
    frame[..LENGTH].copy_from_slice(&prefix.to_le_bytes());
    Ok(frame)
}

/// How long the frame is that `bytes` begin with, with its length; `None` if that is not there yet.
pub fn frame_length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(prefix) = bytes.first_chunk() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > FRAME_MAX { Err(Malformed::Length(length)) } else { Ok(Some(LENGTH + length)) }
}

/// Takes the first frame out of `bytes` and reads it; `None` if it is not there yet.
pub fn take<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> Result<Option<T>, Malformed> {
    let Some(length) = frame_length(bytes)?.filter(|length| bytes.len() >= *length) else { return Ok(None) };
    let message = serde_json::from_slice(&bytes[LENGTH..length]).map_err(Malformed::Value);
    bytes.drain(..length);
    if bytes.is_empty() {
        // The next may be a small one, and be the last for a long time.
        *bytes = Vec::new();
    }
    message.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_one_after_the_other() {
        let requests = [Request::List, Request::Forget { id: "a".into() }, Request::Stop];
        let mut bytes = Vec::new();
        let mut taken = Vec::new();
        for byte in requests.iter().flat_map(|request| encode(request).unwrap()) {
            bytes.push(byte);
            taken.extend(take::<Request>(&mut bytes).unwrap());
        }
        assert_eq!(taken, requests);
        assert!(bytes.is_empty());
    }

    #[test]
    fn what_is_too_long_is_not_waited_for() {
        let mut bytes = (FRAME_MAX as u32 + 1).to_le_bytes().to_vec();
        assert!(matches!(take::<Request>(&mut bytes), Err(Malformed::Length(_))));
        let network = Network { id: "a".repeat(FRAME_MAX), domain: String::new(), names: Vec::new() };
        assert!(matches!(encode(&Request::Names(network)), Err(Malformed::Length(_))));
    }

    #[test]
    fn what_is_not_understood_is_one_message() {
        let mut bytes = encode(&"else").unwrap();
        bytes.extend(encode(&Request::List).unwrap());
        assert!(matches!(take::<Request>(&mut bytes), Err(Malformed::Value(_))));
        assert_eq!(take::<Request>(&mut bytes).unwrap(), Some(Request::List));
        let id = String::new();
        assert!(Request::Forget { id }.check().is_err());
        let network = Network {
            id: "n".into(),
            domain: String::new(),
            names: vec![Name { name: "x".repeat(TEXT_MAX + 1), addresses: Vec::new() }],
        };
        assert!(Request::Names(network).check().is_err());
    }
}
