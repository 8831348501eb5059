//! The journal of systemd, by its native protocol: fields of a name and a value, one datagram an entry.

use std::io;
use std::path::Path;

use tokio::net::UnixDatagram;

use super::connection::within;
use super::{PATIENCE, Stopped, Who};
use crate::logging::entry::Entry;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// What a value may hold in an entry that is to fit a datagram; the text itself has at most a sixth of it.
const VALUE_BYTES_MAX: usize = 16 << 10;
/// What the attributes may hold together.
const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;

/// A way to the journal.
#[derive(Debug)]
pub struct Journald {
    socket: UnixDatagram,
    ordinal: u64,
}

impl Journald {
    /// Connects.
    pub async fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Self { socket, ordinal: 0 })
    }

    /// Sends entries.
    pub async fn send(&mut self, who: &Who, entries: &[Entry]) -> Result<(), Stopped> {
        for (taken, entry) in entries.iter().enumerate() {
            self.ordinal += 1;
            let datagram = datagram(who, entry, self.ordinal);
            within(PATIENCE, self.socket.send(&datagram)).await.map_err(Stopped::after(taken))?;
        }
        Ok(())
    }
}

/// One entry.
pub fn datagram(who: &Who, entry: &Entry, ordinal: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.text.len() + 512);
    let subject = &who.subject;
    let short: String = subject.id.chars().take(12).collect();
    field(&mut out, "MESSAGE", &entry.text);
    field(&mut out, "PRIORITY", &entry.severity().to_string());
    field(&mut out, "SYSLOG_IDENTIFIER", &who.tag);
    field(&mut out, "SYSLOG_TIMESTAMP", &entry.rfc3339(9));
    field(&mut out, "CONTAINER_ID", &short);
    field(&mut out, "CONTAINER_ID_FULL", &subject.id);
    field(&mut out, "CONTAINER_NAME", &subject.name);
    field(&mut out, "CONTAINER_TAG", &who.tag);
    field(&mut out, "IMAGE_NAME", &subject.image_name);
    field(&mut out, "CONTAINER_LOG_ORDINAL", &ordinal.to_string());
    if entry.partial {
        field(&mut out, "CONTAINER_PARTIAL_MESSAGE", "true");
    }
    let mut left = ATTRIBUTES_BYTES_MAX;
    for (key, value) in &who.attributes {
        let Some(rest) = left.checked_sub(value.len().min(VALUE_BYTES_MAX) + key.len()) else { break };
        left = rest;
        if let Some(name) = name(key) {
            field(&mut out, &name, value);
        }
    }
    out
}

/// A value with a line feed is told by its length, any other by its line.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value.as_bytes()[..value.len().min(VALUE_BYTES_MAX * 4)];
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A name as the journal takes it: capitals, digits and underscores, and none of those that it trusts.
fn name(key: &str) -> Option<String> {
    let name: String = key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .skip_while(|c| *c == '_' || c.is_ascii_digit())
        .take(64)
        .collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::entry::tests::entry;

    #[test]
    fn fields_are_lines_or_have_a_length() {
        let mut who = Who { tag: "web".into(), ..Who::default() };
        who.subject.id = "ab".repeat(32);
        who.attributes.insert("com.example-x".into(), "a\nb".into());
        who.attributes.insert("_1".into(), "nobody".into());
        let text = String::from_utf8(datagram(&who, &entry("hello"), 7)).unwrap();
        assert!(text.starts_with("MESSAGE=hello\nPRIORITY=6\nSYSLOG_IDENTIFIER=web\n"), "{text}");
        assert!(
            text.contains("\nCONTAINER_ID=abababababab\n") && text.contains("\nCONTAINER_LOG_ORDINAL=7\n")
        );
        assert!(text.contains("\nCOM_EXAMPLE_X\n\u{3}\0\0\0\0\0\0\0a\nb\n"), "{text}");
        assert!(!text.contains("nobody"));
    }
}
