//! GELF 1.1, for Graylog: JSON, in chunks and compressed over UDP, ended by a zero byte over TCP.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Map, Value, json};

use super::connection::Connection;
use super::{PATIENCE, Stopped, Who};
use crate::error::{Error, Result};
use crate::logging::address::Address;
use crate::logging::entry::Entry;

const PORT: u16 = 12201;
/// Bytes of a chunk's content, so that a chunk with its head fits a packet of the Internet.
const CHUNK_BYTES: usize = 1408;
/// Chunks that a message may have, by the protocol.
const CHUNKS_MAX: usize = 128;
/// What a chunk begins with.
const MAGIC: [u8; 2] = [0x1e, 0x0f];

/// How a message is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Gzip(u32),
    Zlib(u32),
    Plain,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    address: Address,
    form: Form,
}

impl Options {
    /// Reads the options.
    pub fn parse<'a>(get: &impl Fn(&str) -> &'a str) -> Result<Self> {
        let text = get("gelf-address");
        if text.is_empty() {
            return Err(Error::invalid("gelf-address is a required parameter"));
        }
        let address = Address::parse("gelf-address", text, &["udp", "tcp"], PORT)?;
        let udp = matches!(address, Address::Udp(..));
        for (key, of_udp) in [
            ("gelf-compression-type", true),
            ("gelf-compression-level", true),
            ("gelf-tcp-max-reconnect", false),
            ("gelf-tcp-reconnect-delay", false),
        ] {
            if !get(key).is_empty() && of_udp != udp {
                let wanted = if of_udp { "UDP" } else { "TCP" };
                return Err(Error::invalid(format!("{key} is only supported with {wanted}")));
            }
        }
        // -1 is the library's own default.
        let level =
            get("gelf-compression-level").parse::<i32>().ok().and_then(|level| u32::try_from(level).ok());
        let form = match get("gelf-compression-type") {
            _ if !udp => Form::Plain,
            "none" => Form::Plain,
            "zlib" => Form::Zlib(level.unwrap_or(1)),
            _ => Form::Gzip(level.unwrap_or(1)),
        };
        Ok(Self { address, form })
    }
}

/// A way to Graylog.
#[derive(Debug)]
pub struct Gelf {
    connection: Connection,
    form: Form,
}

impl Gelf {
    /// Connects.
    pub async fn open(options: Options) -> io::Result<Self> {
        let connection = Connection::open(&options.address, None, PATIENCE).await?;
        Ok(Self { connection, form: options.form })
    }

    /// Sends entries.
    pub async fn send(&mut self, who: &Who, entries: &[Entry]) -> std::result::Result<(), Stopped> {
        if !self.connection.is_datagrams() {
            let messages: Vec<_> =
                entries.iter().map(|entry| [&message(who, entry)[..], b"\0"].concat()).collect();
            return self.connection.send(&messages, PATIENCE).await;
        }
        for (taken, entry) in entries.iter().enumerate() {
            let packed = compressed(self.form, &message(who, entry));
            let chunks = packed.and_then(|packed| chunks(&packed)).map_err(Stopped::after(taken))?;
            let sent = self.connection.send(&chunks, PATIENCE).await;
            sent.map_err(|stopped| Stopped { taken, ..stopped })?;
        }
        Ok(())
    }
}

fn message(who: &Who, entry: &Entry) -> Vec<u8> {
    let subject = &who.subject;
    let mut map = Map::new();
    // What is chosen by the user comes first: it cannot replace what follows.
    for (key, value) in &who.attributes {
        let name: String = key
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' })
            .collect();
        // By the specification there is no `_id`.
        if name != "id" {
            map.insert(format!("_{name}"), Value::String(value.clone()));
        }
    }
    let fields = [
        ("version", json!("1.1")),
        ("host", json!(subject.hostname)),
        ("short_message", json!(entry.text)),
        // Milliseconds, as numbers of JSON keep them.
        ("timestamp", json!((entry.time_ns / 1_000_000) as f64 / 1000.0)),
        ("level", json!(entry.severity())),
        ("_command", json!(subject.command)),
        ("_container_id", json!(subject.id)),
        ("_container_name", json!(subject.name)),
        ("_created", json!(who.created)),
        ("_image_id", json!(subject.image_id)),
        ("_image_name", json!(subject.image_name)),
        ("_tag", json!(who.tag)),
    ];
    map.extend(fields.map(|(key, value)| (key.to_owned(), value)));
    Value::Object(map).to_string().into_bytes()
}

fn compressed(form: Form, message: &[u8]) -> io::Result<Vec<u8>> {
    match form {
        Form::Plain => Ok(message.to_vec()),
        Form::Gzip(level) => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(message)?;
            encoder.finish()
        }
        Form::Zlib(level) => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(message)?;
            encoder.finish()
        }
    }
}

fn chunks(message: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    if message.len() <= CHUNK_BYTES {
        return Ok(vec![message.to_vec()]);
    }
    // An entry is at most 16 KiB of text; with what the user adds to it, it may be too much.
    let message = &message[..message.len().min(CHUNK_BYTES * CHUNKS_MAX)];
    let mut id = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut id)
        .map_err(|_| io::Error::other("the system has no random numbers"))?;
    let pieces = message.chunks(CHUNK_BYTES);
    let count = u8::try_from(pieces.len()).unwrap_or(u8::MAX);
    let numbered = pieces.zip(0_u8..);
    Ok(numbered.map(|(piece, number)| [&MAGIC[..], &id, &[number, count], piece].concat()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::entry::tests::entry;
    use std::io::Read as _;

    fn options(pairs: &[(&str, &str)]) -> Result<Options> {
        Options::parse(&|key: &str| pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, value)| *value))
    }

    #[test]
    fn options_are_read() {
        assert_eq!(options(&[("gelf-address", "udp://h")]).unwrap().form, Form::Gzip(1));
        let zlib =
            [("gelf-address", "udp://h"), ("gelf-compression-type", "zlib"), ("gelf-compression-level", "9")];
        assert_eq!(options(&zlib).unwrap().form, Form::Zlib(9));
        assert_eq!(options(&[("gelf-address", "tcp://h")]).unwrap().form, Form::Plain);
        let wrong = options(&[("gelf-address", "tcp://h"), ("gelf-compression-type", "gzip")]);
        assert!(wrong.unwrap_err().to_string().contains("only supported with UDP"));
    }

    #[test]
    fn a_message_has_its_fields_and_the_user_replaces_none() {
        let mut who = Who { tag: "t".into(), ..Who::default() };
        who.attributes.insert("tag".into(), "false".into());
        who.attributes.insert("id".into(), "x".into());
        who.attributes.insert("a b".into(), "c".into());
        let value: Value = serde_json::from_slice(&message(&who, &entry("hello"))).unwrap();
        assert_eq!((value["version"].as_str(), value["_tag"].as_str()), (Some("1.1"), Some("t")));
        assert_eq!(value["timestamp"].as_f64(), Some(1_767_323_045.123));
        assert_eq!((value["_a_b"].as_str(), value.get("_id")), (Some("c"), None));
    }

    #[test]
    fn long_messages_go_in_chunks() {
        let bytes: Vec<u8> = (0..5000_u32).map(|n| (n * 7) as u8).collect();
        let parts = chunks(&bytes).unwrap();
        assert_eq!(parts.len(), 4);
        assert!(
            parts.iter().all(|part| part[..2] == MAGIC && part[2..10] == parts[0][2..10] && part[11] == 4)
        );
        let whole: Vec<u8> = parts.iter().flat_map(|part| part[12..].to_vec()).collect();
        assert_eq!(whole, bytes);
        assert_eq!(chunks(&vec![0; 1 << 20]).unwrap().len(), CHUNKS_MAX);
        let mut text = String::new();
        let packed = compressed(Form::Gzip(1), b"hello").unwrap();
        flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}
