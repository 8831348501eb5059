//! The table of packet filters: that it is what the guide says, and that packets go where they may and nowhere else.

#![expect(clippy::unwrap_used, reason = "a test says by its panic what it could not do")]

mod listing;
mod reach;
mod respect;
mod watch;
mod world;

use network::firewall::{HostPort, Port, Protocol};

/// `host` (an address and a port) leads to `container`; `count` ports do.
fn port(protocol: Protocol, host: &str, container: &str, count: u16) -> Port {
    let [host, container] = [host, container].map(|text| text.parse::<std::net::SocketAddr>().unwrap());
    Port {
        protocol,
        host: Some(HostPort { address: host.ip(), first: host.port() }),
        container: container.ip(),
        first: container.port(),
        count,
    }
}

/// The same by TCP, one.
fn tcp(host: &str, container: &str) -> Port {
    port(Protocol::Tcp, host, container, 1)
}
