//! The ports of `EXPOSE`.

use super::Error;
use crate::error::Result;

/// `80`, `80/udp`, `8000-8010/tcp`; what stands before a colon is the host's, and means nothing here.
pub fn parse(text: &str) -> Result<Vec<String>> {
    let invalid = || Error::invalid(format!("invalid containerPort: {text}"));
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    if ports.is_empty() {
        return Err(Error::invalid(format!("no port specified: {text}<empty>")));
    }
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(ports)?, number(ports)?),
    };
    if last < first {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}
