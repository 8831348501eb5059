//! The local driver's options: `type`, `device` and `o`, as `mount` has them. What they say is mounted on the volume's directory
//! when a container that uses the volume starts, and taken away when no container uses it any more.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sys::mount::{self, Change};

use super::open_root;
use crate::error::{Error, Result};

/// The options there are.
const KNOWN: &[&str] = &["type", "o", "device", SIZE];

/// How much the volume's directory may occupy.
pub(super) const SIZE: &str = "size";

/// Flags of `o`, and the mount's attributes that they set.
const ATTRIBUTES: &[(&str, u64)] = &[
    ("ro", mount::RDONLY),
    ("nosuid", mount::NOSUID),
    ("nodev", mount::NODEV),
    ("noexec", mount::NOEXEC),
    ("noatime", mount::NOATIME),
    ("nodiratime", mount::NODIRATIME),
];

/// Flags of `o` that say what is so anyway.
const DEFAULTS: &[&str] = &["", "rw", "suid", "dev", "exec", "async", "relatime", "defaults"];

/// Refuses what the driver does not know or cannot do, by name.
pub fn check(options: &BTreeMap<String, String>) -> Result<()> {
    for (key, value) in options {
        if !KNOWN.contains(&key.as_str()) {
            return Err(Error::invalid(format!("invalid option: \"{key}\"")));
        }
        if value.contains('\0') {
            return Err(Error::invalid(format!("invalid value of option \"{key}\": it contains a NUL byte")));
        }
    }
    for (one, other) in [("type", "device"), ("device", "type"), ("o", "type")] {
        if options.contains_key(one) && !options.contains_key(other) {
            return Err(Error::invalid(format!("missing required option: \"{other}\"")));
        }
    }
    size(options)?;
    let Some(parsed) = Parsed::of(options) else { return Ok(()) };
    if options.contains_key(SIZE) {
        return Err(Error::invalid(
            "option \"size\" limits the volume's own directory, and there is a device",
        ));
    }
    if parsed.bind && !parsed.device.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid option \"device\": {:?} is not an absolute path",
            parsed.device
        )));
    }
    if matches!(parsed.kind, "nfs" | "nfs4" | "cifs" | "smb3") {
        let address = parsed.values.iter().find(|(key, _)| *key == "addr").and_then(|(_, value)| *value);
        // Names are not looked up here: the daemon links no resolver of the system.
        if address.is_none_or(|address| address.parse::<IpAddr>().is_err()) {
            return Err(Error::invalid(format!(
                "{} needs \"addr=\" with an IP address in option \"o\"",
                parsed.kind
            )));
        }
    }
    Ok(())
}

/// Bytes that the volume may occupy, if it may not be as many as there is room for.
pub fn size(options: &BTreeMap<String, String>) -> Result<Option<u64>> {
    let Some(text) = options.get(SIZE) else { return Ok(None) };
    let bytes = crate::containers::create::refuse::size(text).filter(|bytes| *bytes > 0);
    bytes.map(Some).ok_or_else(|| Error::invalid(format!("invalid size: '{text}'")))
}

/// Whether they say of something that it is to be mounted.
pub fn mounts(options: &BTreeMap<String, String>) -> bool {
    options.keys().any(|key| key != SIZE)
}

struct Parsed<'a> {
    kind: &'a str,
    device: &'a str,
    bind: bool,
    recursive: bool,
    attributes: u64,
    values: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Parsed<'a> {
    fn of(options: &'a BTreeMap<String, String>) -> Option<Self> {
        let get = |key: &str| options.get(key).map_or("", String::as_str);
        if !mounts(options) {
            return None;
        }
        let mut parsed = Self {
            kind: get("type"),
            device: get("device"),
            bind: get("type") == "bind",
            recursive: false,
            attributes: 0,
            values: Vec::new(),
        };
        for option in get("o").split(',').map(str::trim) {
            let attribute = ATTRIBUTES.iter().find(|(name, _)| *name == option);
            match option {
                "bind" => parsed.bind = true,
                "rbind" => (parsed.bind, parsed.recursive) = (true, true),
                _ if DEFAULTS.contains(&option) => {}
                _ if attribute.is_some() => parsed.attributes |= attribute.map_or(0, |(_, bit)| *bit),
                _ => parsed.values.push(match option.split_once('=') {
                    Some((key, value)) => (key, Some(value)),
                    None => (option, None),
                }),
            }
        }
        Some(parsed)
    }

    fn open(&self) -> io::Result<OwnedFd> {
        if self.bind {
            let source = mount::clone_path(self.device, self.recursive)?;
            if self.attributes != 0 {
                let change = Change { set: self.attributes, ..Change::default() };
                mount::change(&source, self.recursive, change)?;
            }
            return Ok(source);
        }
        mount::filesystem(self.kind, Some(self.device), &self.values, self.attributes)
    }
}

/// Mounts what the options say on `data`, unless that was done before.
pub fn mount(data: &Path, options: &BTreeMap<String, String>) -> Result<()> {
    let Some(parsed) = Parsed::of(options) else { return Ok(()) };
    if is_mounted(data)? {
        return Ok(());
    }
    let error = |e: io::Error| {
        let options = options.get("o").map_or("", String::as_str);
        let words = e.to_string();
        let words = words.split(" (os error").next().unwrap_or_default().to_lowercase();
        Error::system(format!(
            "error while mounting volume '{}': failed to mount local volume: mount {}:{}, data: {options}: {words}",
            data.display(),
            parsed.device,
            data.display(),
        ))
    };
    let source = parsed.open().map_err(error)?;
    mount::attach(source, open_root(data)?).map_err(error)
}

/// Takes away what is mounted on `data`, if anything is.
pub fn unmount(data: &Path) -> Result<()> {
    while is_mounted(data)? {
        mount::detach(data).map_err(|e| Error::io("unmount", data, e))?;
    }
    Ok(())
}

/// Whether anything is mounted on `data`.
pub fn is_mounted(data: &Path) -> Result<bool> {
    let table = Path::new("/proc/self/mountinfo");
    let content = std::fs::read(table).map_err(|e| Error::io("read", table, e))?;
    let wanted = escaped(data.as_os_str().as_bytes());
    Ok(content
        .split(|byte| *byte == b'\n')
        .any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(&wanted)))
}

/// As the kernel writes paths into its tables.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            other => escaped.push(*other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let words = |pairs: &[(&str, &str)]| check(&options(pairs)).map_err(|e| e.to_string());
        assert_eq!(words(&[]), Ok(()));
        assert_eq!(words(&[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=10m,uid=1000")]), Ok(()));
        assert_eq!(words(&[("type", "none"), ("device", "/srv"), ("o", "bind")]), Ok(()));
        assert_eq!(words(&[("type", "nfs"), ("device", ":/x"), ("o", "addr=10.0.0.1,rw")]), Ok(()));
        for (pairs, part) in [
            (&[("colour", "red")][..], "invalid option: \"colour\""),
            (&[("size", "ten")], "invalid size: 'ten'"),
            (&[("type", "none"), ("device", "/srv"), ("size", "1m")], "there is a device"),
            (&[("type", "tmpfs")], "missing required option: \"device\""),
            (&[("device", "tmpfs")], "missing required option: \"type\""),
            (&[("type", "none"), ("device", "srv"), ("o", "bind")], "not an absolute path"),
            (&[("type", "nfs"), ("device", ":/x"), ("o", "addr=server")], "IP address"),
        ] {
            let text = words(pairs).expect_err("refused");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn paths_are_written_as_in_the_mount_table() {
        assert_eq!(escaped(b"/a b\\c"), b"/a\\040b\\134c");
    }
}
