//! The drivers' options, checked in Docker's words.

use api::container::LogConfig;

use super::sinks::Receiver;
use super::tag::Template;
use crate::containers::create::refuse::size;
use crate::error::{Error, Result};

/// Options that every driver takes besides its own.
const OF_ALL: &[&str] = &["mode", "max-buffer-size"];
/// Options of the file in which drivers that ship are kept for `logs`.
const OF_CACHE: &[&str] = &["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];
/// What every line may carry besides its text.
const ATTRIBUTES: &[&str] = &["labels", "labels-regex", "env", "env-regex"];
/// The largest buffer of a container that does not wait for its log: it is the supervisor's memory.
const BUFFER_BYTES_MAX: u64 = 256 << 20;

/// Where a container's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// Nowhere.
    None,
    /// Into a file of JSON lines.
    JsonFile,
    /// Into the same, with other bounds.
    Local,
    /// To the journal of systemd.
    Journald,
    /// To a syslog daemon.
    Syslog,
    /// To fluentd or Fluent Bit.
    Fluentd,
    /// To Graylog.
    Gelf,
}

impl Driver {
    /// All there are.
    pub const ALL: [Self; 7] =
        [Self::Fluentd, Self::Gelf, Self::Journald, Self::JsonFile, Self::Local, Self::None, Self::Syslog];

    /// Docker's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::Journald => "journald",
            Self::Syslog => "syslog",
            Self::Fluentd => "fluentd",
            Self::Gelf => "gelf",
        }
    }

    /// Reads a name; an empty one is json-file.
    pub fn parse(name: &str) -> Result<Self> {
        let name = if name.is_empty() { "json-file" } else { name };
        Self::ALL
            .into_iter()
            .find(|driver| driver.name() == name)
            .ok_or_else(|| Error::invalid(format!("logger: no log driver named '{name}' is registered")))
    }

    /// Whether the daemon ships what the supervisor writes.
    pub fn ships(self) -> bool {
        matches!(self, Self::Journald | Self::Syslog | Self::Fluentd | Self::Gelf)
    }

    /// Its own options.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::JsonFile => &["max-size", "max-file", "compress", "tag"],
            Self::Local => &["max-size", "max-file", "compress"],
            Self::Journald => &["tag"],
            Self::Syslog => &[
                "syslog-address",
                "syslog-facility",
                "syslog-tls-ca-cert",
                "syslog-tls-cert",
                "syslog-tls-key",
                "syslog-tls-skip-verify",
                "syslog-format",
                "tag",
            ],
            Self::Fluentd => &[
                "fluentd-address",
                "fluentd-async",
                "fluentd-async-connect",
                "fluentd-async-reconnect-interval",
                "fluentd-buffer-limit",
                "fluentd-max-retries",
                "fluentd-request-ack",
                "fluentd-retry-wait",
                "fluentd-sub-second-precision",
                "fluentd-read-timeout",
                "fluentd-write-timeout",
                "tag",
            ],
            Self::Gelf => &[
                "gelf-address",
                "gelf-compression-level",
                "gelf-compression-type",
                "gelf-tcp-max-reconnect",
                "gelf-tcp-reconnect-delay",
                "tag",
            ],
        }
    }

    fn knows(self, key: &str) -> bool {
        self.options().contains(&key)
            || (!matches!(self, Self::Local | Self::None) && ATTRIBUTES.contains(&key))
            || (self.ships() && OF_CACHE.contains(&key))
    }

    fn unknown(self, key: &str) -> Error {
        Error::invalid(match self {
            Self::Local => format!("unknown log opt '{key}' for log driver local"),
            _ => format!("unknown log opt '{key}' for {} log driver", self.name()),
        })
    }
}

/// Refuses what a container may not ask for. Reads the files that are named: blocks.
pub fn check(config: &LogConfig) -> Result<()> {
    let driver = Driver::parse(&config.driver)?;
    if driver == Driver::None {
        // As Docker's daemon: for nothing whatever is said is right. Its client refuses it.
        return Ok(());
    }
    let get = |key: &str| config.config.get(key).map(String::as_str);
    let non_blocking = match get("mode") {
        None | Some("" | "blocking") => false,
        Some("non-blocking") => true,
        Some(other) => return Err(Error::invalid(format!("logger: logging mode not supported: {other}"))),
    };
    if let Some(text) = get("max-buffer-size") {
        if !non_blocking {
            return Err(Error::invalid(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ));
        }
        let bytes = size_at_all(text)
            .map_err(|wrong| Error::invalid(format!("error parsing option max-buffer-size: {wrong}")))?;
        if bytes > BUFFER_BYTES_MAX {
            return Err(Error::invalid(format!(
                "max-buffer-size is too large: at most {BUFFER_BYTES_MAX} bytes"
            )));
        }
    }
    for (key, value) in &config.config {
        if OF_ALL.contains(&key.as_str()) {
            continue;
        }
        if !driver.knows(key) {
            return Err(driver.unknown(key));
        }
        value_of(driver, key, value)?;
    }
    if driver == Driver::Gelf && get("gelf-address").is_none_or(str::is_empty) {
        return Err(Error::invalid("gelf-address is a required parameter"));
    }
    check_compression(driver, get)?;
    // What cannot be read is told before anything runs.
    super::targets(driver, config)?.map_or(Ok(()), |target| Receiver::read(target).map(drop))
}

/// As [`check`], for what the daemon is told.
pub fn check_default(config: &LogConfig) -> Result<()> {
    check(config)
}

/// What a container asks for, with what the daemon was told where it says nothing.
pub fn over_defaults(mut asked: LogConfig, daemon: &LogConfig) -> LogConfig {
    let default = if daemon.driver.is_empty() { Driver::JsonFile.name() } else { &daemon.driver };
    if asked.driver.is_empty() {
        default.clone_into(&mut asked.driver);
    }
    if asked.driver == default {
        for (key, value) in &daemon.config {
            asked.config.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    asked
}

/// Whether `logs` may read what a driver ships: not where somebody said that nothing is to be kept for it.
pub fn cached(config: &LogConfig) -> bool {
    !config.config.get("cache-disabled").is_some_and(|text| yes(text))
}

/// As Go reads a truth.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn yes(text: &str) -> bool {
    truth(text) == Some(true)
}

/// The shortest and the longest time after which a connection with fluentd may be made anew, as Docker's.
const RECONNECT_NS: std::ops::RangeInclusive<i64> = 100_000_000..=10_000_000_000;

fn reconnect(key: &str, value: &str) -> Result<()> {
    match api::duration::parse(value) {
        _ if value.is_empty() => Ok(()),
        Ok(0) => Ok(()),
        Ok(ns) if RECONNECT_NS.contains(&ns) => Ok(()),
        Ok(_) => Err(Error::invalid(format!(
            "invalid value for {key}: value ({value:?}) must be between 100ms and 10s"
        ))),
        Err(error) => Err(Error::invalid(format!("invalid value for {key}: {error}"))),
    }
}

/// Refuses to compress where there is never an older file.
fn check_compression<'a>(driver: Driver, get: impl Fn(&str) -> Option<&'a str>) -> Result<()> {
    let [compress, files] =
        if driver.ships() { ["cache-compress", "cache-max-file"] } else { ["compress", "max-file"] };
    if !get(compress).is_some_and(yes) || get(files).is_none_or(|number| number.trim() != "1") {
        return Ok(());
    }
    Err(Error::invalid(match driver {
        Driver::JsonFile => "compress cannot be true when max-file is less than 2 or max-size is not set",
        _ => "compression cannot be enabled when max file count is 1",
    }))
}

/// Whether older files are compressed: as Docker's, those of `local` unless somebody says no.
pub fn compressed(config: &LogConfig) -> bool {
    let driver = Driver::parse(&config.driver).unwrap_or(Driver::None);
    let key = if driver.ships() { "cache-compress" } else { "compress" };
    config.config.get(key).map_or(driver == Driver::Local, |text| yes(text))
}

/// Whether a container may not start where its receiver is not there.
pub fn waits_for_receiver(config: &LogConfig) -> bool {
    let asked = ["fluentd-async", "fluentd-async-connect"].into_iter().find_map(|key| config.config.get(key));
    config.driver == Driver::Fluentd.name() && asked.is_some_and(|text| truth(text) == Some(false))
}

/// A size that bounds something: what elsewhere stands for no limit is none here, as for Docker.
fn size_at_all(text: &str) -> std::result::Result<u64, String> {
    size(text).filter(|_| !text.trim().starts_with('-')).ok_or_else(|| format!("invalid size: '{text}'"))
}

/// The size of a file. A log without a bound would fill the disk: nothing stands for that.
fn file_size(driver: Driver, key: &str, value: &str) -> Result<()> {
    let words = match (driver, size_at_all(value)) {
        (_, Ok(1..)) => return Ok(()),
        (Driver::JsonFile, Ok(0)) => format!("{key} must be a positive number"),
        (_, Ok(0)) => format!("invalid value for {key}: {value}: max size should be a positive number"),
        (Driver::JsonFile, Err(wrong)) => wrong,
        (_, Err(wrong)) => format!("invalid value for {key}: {value}: {wrong}"),
    };
    Err(Error::invalid(words))
}

fn value_of(driver: Driver, key: &str, value: &str) -> Result<()> {
    let good = match key {
        "max-size" | "cache-max-size" => return file_size(driver, key, value),
        "fluentd-buffer-limit" => size_at_all(value).is_ok(),
        "fluentd-async-reconnect-interval" => return reconnect(key, value),
        "max-file" | "cache-max-file" => match value.trim().parse::<i64>() {
            Ok(number) if number < 1 => return Err(Error::invalid("max-file cannot be less than 1")),
            Ok(number) => number <= 1000,
            Err(_) => false,
        },
        "compress"
        | "cache-compress"
        | "cache-disabled"
        | "fluentd-async"
        | "fluentd-async-connect"
        | "fluentd-sub-second-precision"
        | "fluentd-request-ack" => truth(value).is_some(),
        // As long as it is there, it is believed.
        "tag" => return Template::parse(value).map(drop),
        "labels-regex" | "env-regex" => return super::pattern::Pattern::parse(value).map(drop),
        "fluentd-max-retries" | "gelf-tcp-max-reconnect" => value.parse::<u32>().is_ok(),
        "gelf-tcp-reconnect-delay" => value.parse::<u32>().is_ok(),
        "fluentd-retry-wait" | "fluentd-read-timeout" | "fluentd-write-timeout" => {
            value.is_empty() || api::duration::parse(value).is_ok_and(|time| time >= 0)
        }
        "gelf-compression-type" => matches!(value, "gzip" | "zlib" | "none"),
        "gelf-compression-level" => value.parse::<i32>().is_ok_and(|level| (-1..=9).contains(&level)),
        _ => true,
    };
    if good {
        return Ok(());
    }
    Err(Error::invalid(match key {
        "gelf-compression-type" => {
            format!("unknown value {value:?} for log opt {key:?} for gelf log driver")
        }
        _ => format!("invalid value for log opt '{key}' of the {} log driver: {value}", driver.name()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(driver: &str, pairs: &[(&str, &str)]) -> LogConfig {
        LogConfig {
            driver: driver.to_owned(),
            config: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn what_is_wrong_is_refused_in_dockers_words() {
        let words =
            |driver: &str, pairs: &[(&str, &str)]| check(&config(driver, pairs)).unwrap_err().to_string();
        assert_eq!(words("awslogs", &[]), "logger: no log driver named 'awslogs' is registered");
        assert_eq!(words("json-file", &[("x", "y")]), "unknown log opt 'x' for json-file log driver");
        assert_eq!(
            words("syslog", &[("max-size", "1m")]),
            "unknown log opt 'max-size' for syslog log driver"
        );
        assert_eq!(words("local", &[("labels", "a")]), "unknown log opt 'labels' for log driver local");
        assert_eq!(words("gelf", &[]), "gelf-address is a required parameter");
        assert_eq!(words("json-file", &[("mode", "maybe")]), "logger: logging mode not supported: maybe");
        assert_eq!(
            words("json-file", &[("max-buffer-size", "1m")]),
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
        );
        assert_eq!(words("json-file", &[("max-file", "0")]), "max-file cannot be less than 1");
        assert_eq!(
            words("json-file", &[("compress", "true"), ("max-file", "1")]),
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        );
        assert_eq!(
            words("local", &[("compress", "true"), ("max-file", "1")]),
            "compression cannot be enabled when max file count is 1"
        );
        for limit in ["much", "-1"] {
            assert!(words("fluentd", &[("fluentd-buffer-limit", limit)]).contains("fluentd-buffer-limit"));
        }
        assert_eq!(
            words("fluentd", &[("fluentd-async-reconnect-interval", "1ms")]),
            "invalid value for fluentd-async-reconnect-interval: value (\"1ms\") must be between 100ms and 10s"
        );
        assert!(words("syslog", &[("syslog-facility", "nonsense")]).contains("invalid syslog facility"));
        assert!(words("gelf", &[("gelf-address", "nonsense")]).contains("gelf-address"));
    }

    #[test]
    fn no_file_and_no_buffer_is_without_a_bound() {
        let words =
            |driver: &str, pairs: &[(&str, &str)]| check(&config(driver, pairs)).unwrap_err().to_string();
        assert_eq!(words("json-file", &[("max-size", "0")]), "max-size must be a positive number");
        assert_eq!(words("json-file", &[("max-size", "0k")]), "max-size must be a positive number");
        for wrong in ["-1", " -1", "-5m", "", "much"] {
            let invalid = format!("invalid size: '{wrong}'");
            assert_eq!(words("json-file", &[("max-size", wrong)]), invalid);
            assert_eq!(
                words("local", &[("max-size", wrong)]),
                format!("invalid value for max-size: {wrong}: {invalid}")
            );
            assert_eq!(
                words("json-file", &[("mode", "non-blocking"), ("max-buffer-size", wrong)]),
                format!("error parsing option max-buffer-size: {invalid}")
            );
        }
        assert_eq!(
            words("local", &[("max-size", "0")]),
            "invalid value for max-size: 0: max size should be a positive number"
        );
        assert_eq!(
            words("syslog", &[("cache-max-size", "-1")]),
            "invalid value for cache-max-size: -1: invalid size: '-1'"
        );
    }

    #[test]
    fn what_is_right_is_taken() {
        for (driver, pairs) in [
            ("", &[][..]),
            ("none", &[]),
            ("none", &[("max-size", "-1"), ("x", "y"), ("mode", "maybe")]),
            ("local", &[("max-size", "1m"), ("compress", "false"), ("mode", "non-blocking")]),
            ("journald", &[("tag", "{{.Name}}"), ("labels-regex", "^com\\.")]),
            ("syslog", &[("syslog-address", "udp://127.0.0.1:514"), ("syslog-format", "rfc5424micro")]),
            ("fluentd", &[("fluentd-address", "unix:///run/f.sock"), ("fluentd-request-ack", "true")]),
            ("gelf", &[("gelf-address", "tcp://127.0.0.1:12201"), ("env", "a")]),
            ("json-file", &[("compress", "true"), ("max-size", "1m"), ("max-file", "3")]),
            ("fluentd", &[("fluentd-async", "false"), ("fluentd-buffer-limit", "8MB")]),
            ("fluentd", &[("fluentd-async", "true"), ("fluentd-async-reconnect-interval", "2s")]),
        ] {
            assert_eq!(check(&config(driver, pairs)).map_err(|e| e.to_string()), Ok(()), "{driver}");
        }
    }

    #[test]
    fn who_is_compressed_and_who_waits() {
        assert!(compressed(&config("local", &[])));
        assert!(!compressed(&config("local", &[("compress", "false")])));
        assert!(!compressed(&config("json-file", &[])));
        assert!(compressed(&config("json-file", &[("compress", "true")])));
        assert!(compressed(&config("syslog", &[("cache-compress", "true")])));
        assert!(!waits_for_receiver(&config("fluentd", &[])));
        assert!(waits_for_receiver(&config("fluentd", &[("fluentd-async", "false")])));
    }

    #[test]
    fn the_daemons_options_are_for_its_own_driver() {
        let daemon = config("json-file", &[("max-size", "1m"), ("max-file", "2")]);
        let merged = over_defaults(config("", &[("max-file", "3")]), &daemon);
        assert_eq!(merged, config("json-file", &[("max-file", "3"), ("max-size", "1m")]));
        assert_eq!(over_defaults(config("local", &[]), &daemon), config("local", &[]));
    }
}
