//! The forward protocol of fluentd and Fluent Bit: a message of MessagePack for each entry, acknowledged where that is asked for.

use std::io;
use std::time::Duration;

use super::connection::Connection;
use super::{PATIENCE, Stopped, Who};
use crate::error::Result;
use crate::logging::address::Address;
use crate::logging::entry::Entry;
use crate::logging::options::truth;

const PORT: u16 = 24224;
/// An acknowledgement is a map of one word and an id.
const ACK_BYTES_MAX: usize = 256;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    address: Address,
    sub_second: bool,
    ack: bool,
    write: Duration,
    read: Duration,
}

impl Options {
    /// Reads the options.
    pub fn parse<'a>(get: &impl Fn(&str) -> &'a str) -> Result<Self> {
        let text = get("fluentd-address");
        let whole = match text {
            "" => format!("tcp://127.0.0.1:{PORT}"),
            // Docker takes an address without a scheme.
            text if !text.contains("://") => format!("tcp://{text}"),
            text => text.to_owned(),
        };
        let time = |key: &str| {
            let ns = api::duration::parse(get(key))
                .ok()
                .and_then(|ns| u64::try_from(ns).ok())
                .filter(|ns| *ns > 0);
            ns.map_or(PATIENCE, Duration::from_nanos)
        };
        let yes = |key: &str| truth(get(key)) == Some(true);
        Ok(Self {
            address: Address::parse("fluentd-address", &whole, &["tcp", "unix"], PORT)?,
            sub_second: yes("fluentd-sub-second-precision"),
            ack: yes("fluentd-request-ack"),
            write: time("fluentd-write-timeout"),
            read: time("fluentd-read-timeout"),
        })
    }
}

impl Options {
    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// A connection with fluentd.
#[derive(Debug)]
pub struct Fluentd {
    connection: Connection,
    options: Options,
    sent: u64,
}

impl Fluentd {
    /// Connects.
    pub async fn open(options: Options) -> io::Result<Self> {
        Ok(Self { connection: Connection::open(&options.address, None, PATIENCE).await?, options, sent: 0 })
    }

    /// Sends entries; where that is asked for, each is waited for.
    pub async fn send(&mut self, who: &Who, entries: &[Entry]) -> std::result::Result<(), Stopped> {
        if !self.options.ack {
            let messages: Vec<_> =
                entries.iter().map(|entry| message(&self.options, who, entry, None)).collect();
            return self.connection.send(&messages, self.options.write).await;
        }
        for (taken, entry) in entries.iter().enumerate() {
            self.sent += 1;
            let chunk = format!("{:08x}{:016x}", std::process::id(), self.sent);
            let message = message(&self.options, who, entry, Some(&chunk));
            let sent = self.connection.send(&[message], self.options.write).await;
            sent.map_err(|stopped| Stopped { taken, ..stopped })?;
            self.wait_for(&chunk).await.map_err(Stopped::after(taken))?;
        }
        Ok(())
    }

    async fn wait_for(&mut self, chunk: &str) -> io::Result<()> {
        let wanted = acknowledgement(chunk);
        let mut got = Vec::new();
        let mut buffer = [0; ACK_BYTES_MAX];
        while got.len() < wanted.len() {
            let left = wanted.len() - got.len();
            let read =
                self.connection.read(&mut buffer[..left.min(ACK_BYTES_MAX)], self.options.read).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            got.extend_from_slice(&buffer[..read]);
        }
        // What is equal but written longer is not what a receiver says that we know.
        if got == wanted { Ok(()) } else { Err(io::Error::other("the receiver acknowledges something else")) }
    }
}

fn acknowledgement(chunk: &str) -> Vec<u8> {
    let mut out = vec![0x81];
    text(&mut out, "ack");
    text(&mut out, chunk);
    out
}

/// `[tag, time, record, option]`.
fn message(options: &Options, who: &Who, entry: &Entry, chunk: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.text.len() + 256);
    out.push(if chunk.is_some() { 0x94 } else { 0x93 });
    text(&mut out, &who.tag);
    let (seconds, fraction) =
        (entry.time_ns.div_euclid(1_000_000_000), entry.time_ns.rem_euclid(1_000_000_000));
    let seconds = u32::try_from(seconds).unwrap_or(0);
    if options.sub_second {
        // An extension of eight bytes, of type 0.
        out.extend_from_slice(&[0xd7, 0x00]);
        out.extend_from_slice(&seconds.to_be_bytes());
        out.extend_from_slice(&u32::try_from(fraction).unwrap_or(0).to_be_bytes());
    } else {
        out.push(0xce);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    let own = ["container_id", "container_name", "source", "log", "partial_message"];
    let mut fields: Vec<(&str, &str)> = who
        .attributes
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .filter(|(k, _)| !own.contains(k))
        .collect();
    let name = format!("/{}", who.subject.name);
    fields.extend([
        ("container_id", who.subject.id.as_str()),
        ("container_name", &name),
        ("source", if entry.stderr { "stderr" } else { "stdout" }),
        ("log", &entry.text),
    ]);
    if entry.partial {
        fields.push(("partial_message", "true"));
    }
    map(&mut out, fields.len());
    for (key, value) in fields {
        text(&mut out, key);
        text(&mut out, value);
    }
    if let Some(chunk) = chunk {
        out.push(0x81);
        text(&mut out, "chunk");
        text(&mut out, chunk);
    }
    out
}

fn map(out: &mut Vec<u8>, length: usize) {
    match u16::try_from(length) {
        Ok(short @ 0..16) => out.push(0x80 | short as u8),
        Ok(middle) => {
            out.push(0xde);
            out.extend_from_slice(&middle.to_be_bytes());
        }
        Err(_) => {
            out.push(0xdf);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ 0..32 => out.push(0xa0 | length as u8),
        length @ 32..256 => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 256..65536 => {
            out.push(0xda);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0xdb);
            out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::entry::tests::entry;

    fn options(pairs: &[(&str, &str)]) -> Result<Options> {
        Options::parse(&|key: &str| pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, value)| *value))
    }

    #[test]
    fn options_are_read() {
        assert_eq!(options(&[]).unwrap().address, Address::Tcp("127.0.0.1".into(), 24224));
        assert_eq!(options(&[("fluentd-address", "h:1")]).unwrap().address, Address::Tcp("h".into(), 1));
        assert!(
            options(&[("fluentd-address", "tls://h:1")])
                .unwrap_err()
                .to_string()
                .contains("unsupported scheme: 'tls'")
        );
    }

    #[test]
    fn messages_are_message_pack() {
        let who = Who { tag: "t".into(), ..Who::default() };
        let plain = message(&options(&[]).unwrap(), &who, &entry("hi"), None);
        assert_eq!(&plain[..8], &[0x93, 0xa1, b't', 0xce, 0x69, 0x57, 0x35, 0xa5]);
        assert_eq!(plain[8], 0x84);
        assert!(plain.ends_with(b"\xa3log\xa2hi"));
        let precise = options(&[("fluentd-sub-second-precision", "true")]).unwrap();
        let precise = message(&precise, &who, &entry("hi"), Some("c"));
        assert_eq!((precise[0], &precise[3..5]), (0x94, &[0xd7, 0x00][..]));
        assert!(precise.ends_with(b"\x81\xa5chunk\xa1c"));
        assert_eq!(acknowledgement("c"), b"\x81\xa3ack\xa1c");
        let mut out = Vec::new();
        text(&mut out, &"x".repeat(300));
        assert_eq!(&out[..3], &[0xda, 0x01, 0x2c]);
    }
}
