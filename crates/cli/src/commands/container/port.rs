//! `port`.

use std::cmp::Ordering;

use api::container::{Inspect, PortBinding};
use client::query::Query;

use super::path;
use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result};
use crate::flags::Parsed;
use crate::session::Session;

/// `port`.
pub const COMMAND: Command = Command {
    name: "port",
    also: &["container port", "port"],
    usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
    about: "List the published ports of a container, or where one of them is",
    arity: Arity::Between(1, 2),
    completes: Completes::Running,
    examples: &[Example { about: "Where port 53/udp of a container is reached", line: "port dns 53/udp" }],
    ..Command::leaf(|session, parsed| Box::pin(port(session, parsed)))
};

async fn port(session: &Session, parsed: &Parsed) -> Result<()> {
    let name = &parsed.args[0];
    let inspect: Inspect = session.client()?.get(&path(name, "/json"), Query::new()).await?;
    let ports = &inspect.network_settings.ports;
    let mut lines: Vec<String> = match parsed.args.get(1).filter(|port| !port.is_empty()) {
        Some(wanted) => {
            let bindings = ports.get(&key(wanted)?).and_then(Option::as_deref).unwrap_or_default();
            if bindings.is_empty() {
                let text = format!("Error: No public port '{wanted}' published for {name}");
                return Err(Error::Message(text));
            }
            bindings.iter().map(place).collect()
        }
        None => {
            let all = ports.iter().flat_map(|(port, bindings)| {
                bindings.iter().flatten().map(move |binding| format!("{port} -> {}", place(binding)))
            });
            all.collect()
        }
    };
    lines.sort_by(|one, other| natural(one, other));
    lines.iter().try_for_each(|line| session.line(line))
}

/// The port as the daemon's answer has it: with its protocol.
fn key(wanted: &str) -> Result<String> {
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, ""));
    let why = match number.parse::<u16>() {
        Ok(_) if !number.starts_with('+') => None,
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => Some("value out of range"),
        _ => Some("invalid syntax"),
    };
    if let Some(why) = why {
        let text = format!("Error: invalid port ({number}): strconv.ParseUint: parsing {number:?}: {why}");
        return Err(Error::Message(text));
    }
    Ok(format!("{number}/{}", if protocol.is_empty() { "tcp" } else { protocol }))
}

/// An address of the host and a port, as they are typed.
fn place(binding: &PortBinding) -> String {
    let (address, port) = (&binding.host_ip, &binding.host_port);
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Numbers within texts are compared as numbers.
fn natural(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    while let (Some(a), Some(b)) = (one.chars().next(), other.chars().next()) {
        let lengths = (digits(one), digits(other));
        let (first, second) = match lengths {
            (0, _) | (_, 0) => (a.len_utf8(), b.len_utf8()),
            lengths => lengths,
        };
        let (left, right) = (&one[..first], &other[..second]);
        let ordered = match lengths {
            (0, _) | (_, 0) => left.cmp(right),
            _ => {
                let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            }
        };
        if ordered != Ordering::Equal {
            return ordered;
        }
        (one, other) = (&one[first..], &other[second..]);
    }
    one.len().cmp(&other.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let mut lines =
            ["90/tcp -> [::]:1", "9/udp -> x", "90/tcp -> 0.0.0.0:10", "90/tcp -> 0.0.0.0:9", "9"];
        lines.sort_by(|one, other| natural(one, other));
        let sorted = ["9", "9/udp -> x", "90/tcp -> 0.0.0.0:9", "90/tcp -> 0.0.0.0:10", "90/tcp -> [::]:1"];
        assert_eq!(lines, sorted);
    }

    #[test]
    fn ports_are_named_by_number_and_protocol() {
        assert_eq!(key("80").unwrap(), "80/tcp");
        assert_eq!(key("53/udp").unwrap(), "53/udp");
        for wrong in ["http", "70000", "+80", "-1", ""] {
            assert!(key(wrong).unwrap_err().to_string().starts_with("Error: invalid port ("), "{wrong}");
        }
    }
}
