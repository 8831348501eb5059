//! The receivers, each in its own protocol.

mod connection;
mod fluentd;
mod gelf;
mod journald;
mod syslog;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::container::LogConfig;
use rustls::ClientConfig;

use super::entry::Entry;
use super::options::Driver;
use super::tag::Subject;
use crate::containers::create::refuse::size;
use crate::error::Result;

pub use fluentd::Fluentd;
pub use gelf::Gelf;
pub use journald::Journald;
pub use syslog::Syslog;

/// How long a receiver may take to take what is sent, or to answer, where nothing else is said.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Who says it.
#[derive(Debug, Clone, Default)]
pub struct Who {
    /// The container.
    pub subject: Subject,
    /// What it is called.
    pub tag: String,
    /// What every line carries.
    pub attributes: BTreeMap<String, String>,
    /// When the container was made, as RFC 3339.
    pub created: String,
}

/// A receiver and how it is to be spoken to.
#[derive(Debug, Clone)]
pub enum Target {
    /// A syslog daemon.
    Syslog(syslog::Options),
    /// Graylog.
    Gelf(gelf::Options),
    /// fluentd or Fluent Bit.
    Fluentd(fluentd::Options),
    /// The journal.
    Journald,
}

/// A receiver with what its files say: read once, however often it is connected with.
#[derive(Debug, Clone)]
pub struct Receiver {
    target: Target,
    tls: Option<Arc<ClientConfig>>,
}

impl Receiver {
    /// Reads the files that are named. Blocks.
    pub fn read(target: Target) -> Result<Self> {
        let tls = match &target {
            Target::Syslog(options) => options.tls()?,
            Target::Gelf(_) | Target::Fluentd(_) | Target::Journald => None,
        };
        Ok(Self { target, tls })
    }
}

/// Reads where a driver ships to; `None` for one that ships nowhere.
pub fn targets(driver: Driver, config: &LogConfig) -> Result<Option<Target>> {
    let get = |key: &str| config.config.get(key).map_or("", String::as_str);
    Ok(match driver {
        Driver::None | Driver::JsonFile | Driver::Local => None,
        Driver::Journald => Some(Target::Journald),
        Driver::Syslog => Some(Target::Syslog(syslog::Options::parse(&get)?)),
        Driver::Gelf => Some(Target::Gelf(gelf::Options::parse(&get)?)),
        Driver::Fluentd => Some(Target::Fluentd(fluentd::Options::parse(&get)?)),
    })
}

/// How a receiver is tried that does not take what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// The first pause; later ones grow, unless it was asked for.
    pub pause: Duration,
    /// The longest.
    pub pause_max: Duration,
    /// After so many failures in a row what was to be sent is given up; `None` for never.
    pub most: Option<u32>,
    /// After this time a connection is made anew; `None` for as long as it lasts.
    pub renew: Option<Duration>,
    /// So many entries may wait; of more the oldest are given up. `None` for as many as their files hold.
    pub waiting: Option<u64>,
}

/// What fluentd's own client takes for a limit of nothing.
const BUFFER_LIMIT: u64 = 8 * 1024;

/// How a driver's receiver is tried.
pub fn retries(config: &LogConfig) -> Retries {
    let get = |key: &str| config.config.get(key).map_or("", String::as_str);
    let wait = api::duration::parse(get("fluentd-retry-wait")).ok().and_then(|ns| u64::try_from(ns).ok());
    let wait = wait.filter(|ns| *ns > 0).map(Duration::from_nanos);
    let delay =
        get("gelf-tcp-reconnect-delay").parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let most = get("fluentd-max-retries").parse().or_else(|_| get("gelf-tcp-max-reconnect").parse()).ok();
    let renew = api::duration::parse(get("fluentd-async-reconnect-interval")).ok();
    let renew = renew.and_then(|ns| u64::try_from(ns).ok()).filter(|ns| *ns > 0).map(Duration::from_nanos);
    let waiting =
        size(get("fluentd-buffer-limit")).map(|limit| if limit == 0 { BUFFER_LIMIT } else { limit });
    let (pause, pause_max) = match wait.or(delay) {
        Some(pause) => (pause, pause),
        None => (Duration::from_millis(100), Duration::from_secs(5)),
    };
    Retries { pause, pause_max, most, renew, waiting }
}

/// An open way to a receiver.
#[derive(Debug)]
pub enum Sink {
    /// To a syslog daemon.
    Syslog(Syslog),
    /// To Graylog.
    Gelf(Gelf),
    /// To fluentd.
    Fluentd(Fluentd),
    /// To the journal.
    Journald(Journald),
}

/// Sending that came to an end before all was sent.
#[derive(Debug)]
pub struct Stopped {
    /// So many, from the first on, the receiver has, as far as its protocol tells.
    pub taken: usize,
    /// Why no more.
    pub source: io::Error,
}

impl Stopped {
    /// What came of the one after so many.
    pub fn after(taken: usize) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { taken, source }
    }
}

impl Sink {
    /// Connects.
    pub async fn open(receiver: &Receiver) -> io::Result<Self> {
        Ok(match &receiver.target {
            Target::Syslog(options) => {
                Self::Syslog(Syslog::open(options.clone(), receiver.tls.clone()).await?)
            }
            Target::Gelf(options) => Self::Gelf(Gelf::open(options.clone()).await?),
            Target::Fluentd(options) => Self::Fluentd(Fluentd::open(options.clone()).await?),
            Target::Journald => Self::Journald(Journald::open(std::path::Path::new(journald::SOCKET)).await?),
        })
    }

    /// Sends entries; when this returns, the receiver has them as far as its protocol tells. Where it stops there is no way to
    /// the receiver any more.
    pub async fn send(&mut self, who: &Who, entries: &[Entry]) -> std::result::Result<(), Stopped> {
        match self {
            Self::Syslog(sink) => sink.send(who, entries).await,
            Self::Gelf(sink) => sink.send(who, entries).await,
            Self::Fluentd(sink) => sink.send(who, entries).await,
            Self::Journald(sink) => sink.send(who, entries).await,
        }
    }
}
