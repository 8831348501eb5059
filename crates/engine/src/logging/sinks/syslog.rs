//! Syslog: RFC 3164, RFC 5424 and the form of the local socket, over UDP, TCP, TLS and unix sockets.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;
use rustls::ClientConfig;

use super::connection::Connection;
use super::{PATIENCE, Stopped, Who};
use crate::error::{Error, Result};
use crate::logging::address::Address;
use crate::logging::entry::Entry;
use crate::logging::options::truth;
use crate::logging::tls;

const PORT: u16 = 514;
const PORT_TLS: u16 = 6514;
/// Where the local daemon listens.
const LOCAL: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];
/// More than this no receiver takes in one datagram; the rest of the line is left out.
const DATAGRAM_BYTES_MAX: usize = 60_000;
/// The longest name in a header.
const NAME_BYTES_MAX: usize = 48;

const FACILITIES: [&str; 20] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// The forms of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Of the local socket: no host name.
    Unix,
    /// RFC 3164.
    Bsd,
    /// RFC 5424, with so many digits of the fraction of seconds.
    Modern(usize),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    address: Option<Address>,
    facility: u8,
    form: Form,
    tls: tls::Files,
}

impl Options {
    /// Reads the options.
    pub fn parse<'a>(get: &impl Fn(&str) -> &'a str) -> Result<Self> {
        let text = get("syslog-address");
        let port = if text.starts_with("tcp+tls") { PORT_TLS } else { PORT };
        let address = match text {
            "" => None,
            text => Some(Address::parse(
                "syslog-address",
                text,
                &["udp", "tcp", "tcp+tls", "unix", "unixgram"],
                port,
            )?),
        };
        let path = |key: &str| Some(get(key)).filter(|text| !text.is_empty()).map(Into::into);
        let tls = tls::Files {
            ca: path("syslog-tls-ca-cert"),
            cert: path("syslog-tls-cert"),
            key: path("syslog-tls-key"),
            skip_verify: truth(get("syslog-tls-skip-verify"))
                .unwrap_or(!get("syslog-tls-skip-verify").is_empty()),
        };
        if matches!(address, Some(Address::Tls(..))) && tls.cert.is_some() != tls.key.is_some() {
            let (given, missing) = if tls.cert.is_some() { ("cert", "key") } else { ("key", "cert") };
            return Err(Error::invalid(format!(
                "syslog-tls-{given} without syslog-tls-{missing}: give both, or neither"
            )));
        }
        Ok(Self {
            address,
            facility: facility(get("syslog-facility"))?,
            form: form(get("syslog-format"))?,
            tls,
        })
    }
}

impl Options {
    /// How to encrypt, where that is asked for; reads the files.
    pub fn tls(&self) -> Result<Option<Arc<ClientConfig>>> {
        match &self.address {
            Some(Address::Tls(..)) => tls::config(&self.tls).map(Some),
            _ => Ok(None),
        }
    }
}

fn facility(text: &str) -> Result<u8> {
    if text.is_empty() {
        // Docker's default is that of daemons.
        return Ok(3);
    }
    let number = |at: usize| u8::try_from(if at < 12 { at } else { at + 4 }).unwrap_or(0);
    if let Some(at) = FACILITIES.iter().position(|name| *name == text) {
        return Ok(number(at));
    }
    text.parse().ok().filter(|number| *number <= 23).ok_or_else(|| Error::invalid("invalid syslog facility"))
}

fn form(text: &str) -> Result<Form> {
    Ok(match text {
        "" => Form::Unix,
        "rfc3164" => Form::Bsd,
        "rfc5424" => Form::Modern(0),
        "rfc5424micro" => Form::Modern(6),
        _ => return Err(Error::invalid("Invalid syslog format")),
    })
}

/// A connection with a syslog daemon.
#[derive(Debug)]
pub struct Syslog {
    connection: Connection,
    options: Options,
    counted: bool,
}

impl Syslog {
    /// Connects; `tls` is what [`Options::tls`] gave.
    pub async fn open(options: Options, tls: Option<Arc<ClientConfig>>) -> io::Result<Self> {
        let connection = match &options.address {
            Some(address) => Connection::open(address, tls, PATIENCE).await?,
            None => local().await?,
        };
        // RFC 5425 wants every message's length before it.
        let counted = matches!((&options.address, options.form), (Some(Address::Tls(..)), Form::Modern(_)));
        Ok(Self { connection, options, counted })
    }

    /// Sends entries.
    pub async fn send(&mut self, who: &Who, entries: &[Entry]) -> std::result::Result<(), Stopped> {
        let datagrams = self.connection.is_datagrams();
        let messages: Vec<Vec<u8>> = entries
            .iter()
            .map(|entry| {
                let message = message(&self.options, who, entry);
                if datagrams {
                    return clipped(message);
                }
                // A line feed is the end of a message: one within would begin another.
                let mut message = message.replace('\n', " ");
                message.push('\n');
                if self.counted {
                    format!("{} {message}", message.len()).into_bytes()
                } else {
                    message.into_bytes()
                }
            })
            .collect();
        self.connection.send(&messages, PATIENCE).await
    }
}

fn clipped(message: String) -> Vec<u8> {
    let mut bytes = message.into_bytes();
    bytes.truncate(DATAGRAM_BYTES_MAX);
    bytes
}

async fn local() -> io::Result<Connection> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "unix syslog delivery error");
    for path in LOCAL.map(Path::new) {
        for address in [Address::Unixgram(path.into()), Address::Unix(path.into())] {
            match Connection::open(&address, None, PATIENCE).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// A name as a header can carry it: printable, without spaces.
fn name(text: &str) -> String {
    let name: String = text.chars().filter(char::is_ascii_graphic).take(NAME_BYTES_MAX).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

fn message(options: &Options, who: &Who, entry: &Entry) -> String {
    let priority = u32::from(options.facility) * 8 + u32::from(entry.severity());
    let (host, pid, text) = (name(&who.subject.hostname), std::process::id(), &entry.text);
    // A tag of Docker's may have slashes and blanks; its end is told by the bracket.
    let tag: String = who.tag.chars().filter(|c| !c.is_control()).collect();
    let stamp = || {
        let at = jiff::Timestamp::from_nanosecond(i128::from(entry.time_ns)).unwrap_or_default();
        at.to_zoned(TimeZone::system()).strftime("%b %e %H:%M:%S").to_string()
    };
    match options.form {
        Form::Unix => format!("<{priority}>{} {tag}[{pid}]: {text}", stamp()),
        Form::Bsd => format!("<{priority}>{} {host} {tag}[{pid}]: {text}", stamp()),
        Form::Modern(digits) => {
            let (stamp, tag) = (entry.rfc3339(digits), name(&who.tag));
            format!(
                "<{priority}>1 {stamp} {host} {tag} {pid} {} - {text}",
                tag.chars().take(32).collect::<String>()
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::entry::tests::entry;

    fn options(pairs: &[(&str, &str)]) -> Result<Options> {
        Options::parse(&|key: &str| pairs.iter().find(|(k, _)| *k == key).map_or("", |(_, value)| *value))
    }

    fn who() -> Who {
        let mut who = Who { tag: "web".into(), ..Who::default() };
        who.subject.hostname = "host".into();
        who
    }

    #[test]
    fn options_are_read() {
        let read = options(&[
            ("syslog-address", "udp://h"),
            ("syslog-facility", "local3"),
            ("syslog-format", "rfc5424"),
        ]);
        let read = read.unwrap();
        assert_eq!(
            (read.address, read.facility, read.form),
            (Some(Address::Udp("h".into(), 514)), 19, Form::Modern(0))
        );
        assert_eq!(options(&[("syslog-facility", "7")]).unwrap().facility, 7);
        assert_eq!(options(&[("syslog-facility", "cron")]).unwrap().facility, 9);
        assert!(
            options(&[("syslog-facility", "24")])
                .unwrap_err()
                .to_string()
                .contains("invalid syslog facility")
        );
        assert!(
            options(&[("syslog-format", "x")]).unwrap_err().to_string().contains("Invalid syslog format")
        );
        let tls = options(&[("syslog-address", "tcp+tls://h"), ("syslog-tls-ca-cert", "/not/there")]);
        assert!(tls.unwrap().tls().unwrap_err().to_string().contains("/not/there"));
        let unused = options(&[("syslog-address", "udp://h"), ("syslog-tls-ca-cert", "/not/there")]);
        assert!(unused.unwrap().tls().unwrap().is_none());
        for (given, missing) in [("cert", "key"), ("key", "cert")] {
            let given = format!("syslog-tls-{given}");
            let half = options(&[
                ("syslog-address", "tcp+tls://h"),
                ("syslog-tls-skip-verify", "true"),
                (&given, "/not/there"),
            ]);
            assert_eq!(
                half.unwrap_err().to_string(),
                format!("{given} without syslog-tls-{missing}: give both, or neither")
            );
        }
    }

    #[test]
    fn messages_have_their_form() {
        let pid = std::process::id();
        let of = |format| message(&options(&[("syslog-format", format)]).unwrap(), &who(), &entry("hello"));
        assert_eq!(of("rfc5424"), format!("<30>1 2026-01-02T03:04:05Z host web {pid} web - hello"));
        assert_eq!(
            of("rfc5424micro"),
            format!("<30>1 2026-01-02T03:04:05.123456Z host web {pid} web - hello")
        );
        assert!(of("rfc3164").ends_with(&format!(" host web[{pid}]: hello")));
        assert!(of("").starts_with("<30>Jan  ") && of("").ends_with(&format!(" web[{pid}]: hello")));
        let error = Entry { stderr: true, ..entry("x") };
        assert!(message(&options(&[]).unwrap(), &who(), &error).starts_with("<27>"));
    }
}
