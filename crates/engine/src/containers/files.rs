//! The files that the engine makes for a container: `/etc/hostname`, `/etc/hosts`, `/etc/resolv.conf`.

use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use storage::Mounts;
use sys::fsx::OFlags;
use sys::path::{Mode, Root};

use crate::containers::record::{Paths, Record};
use crate::error::{Error, Result};
use crate::networks::{Endpoint, own_hosts};

/// By which programs know that they are in a container, and what may be done with it in Docker's.
const MARK: &str = ".dockerenv";
const MARK_MODE: u32 = 0o755;
/// Everybody in the container reads them.
const READABLE: u32 = 0o644;
/// The host's `resolv.conf` is a few lines; one that is longer is no `resolv.conf`.
const RESOLV_CONF_MAX_BYTES: u64 = 64 * 1024;
/// The name servers behind systemd's stub.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// Where the host has no name server that a container could reach, as with Docker.
const PUBLIC_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
/// What a person may have made of a container's file.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// What a container without a network has to say about names.
const LOCAL_HOSTS: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::\tip6-localnet\n\
    ff00::\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// Makes the container's directory on the data root, nobody else's to look at.
pub fn make_state_dir(paths: &Paths) -> Result<()> {
    for dir in [&paths.state, &paths.log_dir()] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| Error::io("create", dir, e))?;
    }
    Ok(())
}

/// Writes the files, unless they are there: what a person wrote into them inside the container stays.
/// `named`: names are looked up by netd.
pub fn write(record: &Record, paths: &Paths, endpoints: &[Endpoint], named: bool) -> Result<()> {
    let host = record.host.network_mode == "host";
    once(&paths.hostname(), || Ok(format!("{}\n", record.hostname())))?;
    let text = || {
        let base = if host { read_host("/etc/hosts") } else { LOCAL_HOSTS.to_owned() };
        let own = own_hosts(endpoints, record.hostname(), &record.config.domainname);
        hosts(&base, &record.host.extra_hosts, &own)
    };
    if endpoints.is_empty() {
        once(&paths.hosts(), || Ok(text()))?;
    } else {
        // Its addresses may be others than at the last start.
        replace(&paths.hosts(), &text())?;
    }
    let file = paths.resolv_conf();
    // What was written at an earlier start is written again, where nobody has changed it since: its networks may be others.
    if is_ours(&file, &made(&file)) {
        let text = name_service(record, named);
        replace(&file, &text)?;
        replace(&made(&file), &text)?;
    }
    Ok(())
}

/// Brings the files of a container that runs to what it is connected with now. They are mounted inside, so that they are changed where they
/// are; what a person wrote into them stays.
pub fn update(
    record: &Record,
    paths: &Paths,
    before: &[Endpoint],
    after: &[Endpoint],
    named: bool,
) -> Result<()> {
    let own = |endpoints| -> Vec<String> {
        let own = own_hosts(endpoints, record.hostname(), &record.config.domainname);
        own.into_iter().map(|(address, names)| format!("{address}\t{names}")).collect()
    };
    let (old, new) = (own(before), own(after));
    let text = content(&paths.hosts())?;
    let kept = text.lines().filter(|line| !old.iter().any(|gone| gone == line));
    let lines: Vec<&str> = kept.chain(new.iter().map(String::as_str)).collect();
    change(&paths.hosts(), &(lines.join("\n") + "\n"))?;
    let file = paths.resolv_conf();
    if is_ours(&file, &made(&file)) {
        let text = name_service(record, named);
        change(&file, &text)?;
        replace(&made(&file), &text)?;
    }
    Ok(())
}

/// The text of `/etc/resolv.conf`.
fn name_service(record: &Record, named: bool) -> String {
    let own = &record.host;
    let base = read_host("/etc/resolv.conf");
    let base = match own.network_mode.as_str() {
        "host" => base,
        _ => reachable(base, || read_host(RESOLVED)),
    };
    let embedded = [network::dns::ADDRESS.to_string()];
    let servers = if named { &embedded[..] } else { &own.dns };
    resolv_conf(&base, servers, &own.dns_search, &own.dns_options)
}

/// Where a copy of a file is kept as it was made, to tell whether it was changed since.
fn made(path: &Path) -> PathBuf {
    path.with_added_extension("made")
}

/// Whether a file is not there, or as it was made.
fn is_ours(path: &Path, made: &Path) -> bool {
    path.symlink_metadata().is_err()
        || content(path).ok().is_some_and(|text| content(made).ok() == Some(text))
}

/// A file that is mounted in a container, whose processes may have made of it what they like; a longer one than a person writes is left alone.
pub(crate) fn content(path: &Path) -> Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let read = open(path, false).and_then(|file| file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| Error::io("read", path, e))?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        let error = io::Error::from(io::ErrorKind::FileTooLarge);
        return Err(Error::io("read", path, error));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Opens a file that is mounted in a container at once or not at all: one that a process inside has a lease on (fcntl(2)) would be waited for.
fn open(path: &Path, write: bool) -> io::Result<std::fs::File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    std::fs::OpenOptions::new().read(!write).write(write).custom_flags(flags).open(path)
}

/// Writes over a file that is mounted in a container.
pub(crate) fn change(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = open(path, true)?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    };
    write().map_err(|e| Error::io("write", path, e))
}

/// Who is asked for names that are not a container's: those of the request, or the host's. The host's own loopback is within reach there.
pub fn name_servers(record: &Record) -> Vec<IpAddr> {
    let own: Vec<IpAddr> = record.host.dns.iter().filter_map(|text| text.trim().parse().ok()).collect();
    if !own.is_empty() {
        return own;
    }
    let text = read_host("/etc/resolv.conf");
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|rest| rest.trim().parse().ok()).collect()
}

/// A file of the host that is copied into containers; one that is not there or is odd counts as empty.
fn read_host(path: &str) -> String {
    use std::io::Read;
    let mut text = String::new();
    match std::fs::File::open(path).and_then(|f| f.take(RESOLV_CONF_MAX_BYTES).read_to_string(&mut text)) {
        Ok(_) => text,
        Err(_) => String::new(),
    }
}

/// Whole or not at all: a file that a full disk or a kill left empty would count as the container's own for ever.
fn once(path: &Path, text: impl FnOnce() -> Result<String>) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    replace(path, &text()?)
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_added_extension("new");
    let written = put(&new, text).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.map_err(|e| Error::io("write", path, e))
}

/// Writes a file, over what was left of an earlier try.
fn put(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(READABLE).open(path)?;
    file.write_all(text.as_bytes())?;
    // The mode again, without the daemon's umask.
    file.set_permissions(std::fs::Permissions::from_mode(READABLE))
}

/// The host's configuration without name servers on its loopback, which a container cannot reach. Where systemd's stub is the only one
/// those behind it are taken (`resolved`), and where there is nobody, Docker's choice.
fn reachable(base: String, resolved: impl FnOnce() -> String) -> String {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next().unwrap_or_default().to_owned())
    };
    let is_local = |line: &str| {
        server(line).is_some_and(|address| address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
    };
    if !base.lines().any(is_local) {
        return base;
    }
    let keep = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !is_local(line)).map(str::to_owned).collect()
    };
    let mut lines = keep(&base);
    if !lines.iter().any(|line| server(line).is_some()) {
        let others = keep(&resolved()).into_iter().filter(|line| server(line).is_some());
        lines.extend(others);
    }
    if !lines.iter().any(|line| server(line).is_some()) {
        lines.extend(PUBLIC_SERVERS.map(|address| format!("nameserver {address}")));
    }
    lines.join("\n") + "\n"
}

fn hosts(base: &str, extra: &[String], own: &[(String, String)]) -> String {
    let mut text = base.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for entry in extra {
        if let Some((name, address)) = entry.split_once([':', '=']) {
            let address = address.trim_start_matches('[').trim_end_matches(']');
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    for (address, names) in own {
        text.push_str(&format!("{address}\t{names}\n"));
    }
    text
}

/// The host's configuration with what the request replaces in it.
fn resolv_conf(base: &str, servers: &[String], search: &[String], options: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in base.lines() {
        let word = line.split_whitespace().next().unwrap_or_default();
        let replaced = match word {
            "nameserver" => !servers.is_empty(),
            "search" | "domain" => !search.is_empty(),
            "options" => !options.is_empty(),
            _ => false,
        };
        if !replaced {
            lines.push(line.to_owned());
        }
    }
    // A lone dot means no search domain at all.
    if !search.is_empty() && search != ["."] {
        lines.push(format!("search {}", search.join(" ")));
    }
    lines.extend(servers.iter().map(|server| format!("nameserver {server}")));
    if !options.is_empty() {
        lines.push(format!("options {}", options.join(" ")));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// Makes `/.dockerenv`, by which programs know that they are in a container, as Docker does.
pub(crate) fn mark(mounts: &Mounts) -> io::Result<()> {
    let Some(upper) = &mounts.upper else { return Ok(()) };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    match Root::open(upper)?.open_at(MARK, flags, Mode::from_raw_mode(MARK_MODE)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::record::tests::record;

    #[test]
    fn the_request_replaces_what_the_host_says() {
        let base = "# made by hand\nnameserver 10.0.0.1\nsearch corp.example\noptions ndots:2\n";
        assert_eq!(resolv_conf(base, &[], &[], &[]), base);
        assert_eq!(
            resolv_conf(base, &["1.1.1.1".into()], &["a.b".into()], &[]),
            "# made by hand\noptions ndots:2\nsearch a.b\nnameserver 1.1.1.1\n"
        );
        assert!(!resolv_conf(base, &[], &[".".into()], &[]).contains("search"));
    }

    #[test]
    fn name_servers_that_a_container_cannot_reach_are_left_out() {
        let none = || unreachable!("there are others");
        let text = "nameserver 10.0.0.1\nsearch a\n".to_owned();
        assert_eq!(reachable(text.clone(), none), text);
        assert_eq!(
            reachable("nameserver 127.0.0.53\nnameserver 10.0.0.1\n".into(), none),
            "nameserver 10.0.0.1\n"
        );
        let behind = || "# made by systemd\nnameserver 10.0.0.7\nsearch b\n".to_owned();
        assert_eq!(reachable("search a\nnameserver ::1\n".into(), behind), "search a\nnameserver 10.0.0.7\n");
        assert_eq!(
            reachable("nameserver 127.0.0.1\n".into(), String::new),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
        );
    }

    #[test]
    fn extra_hosts_are_added_with_either_separator() {
        let text = hosts("127.0.0.1\tlocalhost", &["db:10.0.0.2".into(), "six=[::2]".into()], &[]);
        assert_eq!(text, "127.0.0.1\tlocalhost\n10.0.0.2\tdb\n::2\tsix\n");
    }

    #[test]
    fn files_are_written_once() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { state: dir.path().join("c"), run: dir.path().join("r") };
        make_state_dir(&paths).unwrap();
        write(&record(), &paths, &[], false).unwrap();
        std::fs::write(paths.hosts(), "mine").unwrap();
        write(&record(), &paths, &[], false).unwrap();
        assert_eq!(std::fs::read_to_string(paths.hosts()).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(paths.hostname()).unwrap(), "0123456789ab\n");
    }

    #[test]
    fn what_changes_while_it_runs_is_changed_where_it_is() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths { state: dir.path().join("c"), run: dir.path().join("r") };
        make_state_dir(&paths).unwrap();
        let endpoint = |address: &str| {
            Endpoint {
            addresses: vec![address.parse().unwrap()],
            ..serde_json::from_str(
                r#"{"id":"","network":"","name":"","interface":"eth0","port":"","mac":[2,0,0,0,0,1],"addresses":[],"gateways":[]}"#,
            )
            .unwrap()
        }
        };
        let (one, two) = (endpoint("10.9.0.2/24"), endpoint("10.8.0.2/24"));
        write(&record(), &paths, std::slice::from_ref(&one), false).unwrap();
        let inode = |path: &Path| path.metadata().unwrap().ino();
        let before = (inode(&paths.hosts()), inode(&paths.resolv_conf()));
        let mut own = std::fs::OpenOptions::new().append(true).open(paths.hosts()).unwrap();
        own.write_all(b"192.0.2.1\tmine\n").unwrap();
        update(&record(), &paths, std::slice::from_ref(&one), &[one.clone(), two.clone()], true).unwrap();
        let hosts = std::fs::read_to_string(paths.hosts()).unwrap();
        assert!(hosts.contains("192.0.2.1\tmine\n") && hosts.contains("10.9.0.2\t"), "{hosts}");
        assert!(hosts.ends_with("10.8.0.2\t0123456789ab\n"), "{hosts}");
        let names = || std::fs::read_to_string(paths.resolv_conf()).unwrap();
        assert!(names().contains("nameserver 127.0.0.11\n"), "{}", names());
        update(&record(), &paths, &[one, two.clone()], std::slice::from_ref(&two), false).unwrap();
        let hosts = std::fs::read_to_string(paths.hosts()).unwrap();
        assert!(hosts.contains("mine") && !hosts.contains("10.9.0.2"), "{hosts}");
        assert!(!names().contains("127.0.0.11"), "{}", names());
        assert_eq!((inode(&paths.hosts()), inode(&paths.resolv_conf())), before);
        // What a person has written stays, also at the next start.
        std::fs::write(paths.resolv_conf(), "nameserver 192.0.2.53\n").unwrap();
        update(&record(), &paths, &[], &[two], true).unwrap();
        write(&record(), &paths, &[], true).unwrap();
        assert_eq!(names(), "nameserver 192.0.2.53\n");
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        once(&path, || Err(Error::system("no"))).unwrap_err();
        std::fs::create_dir(path.with_added_extension("new")).unwrap();
        once(&path, || Ok("text".into())).unwrap_err();
        assert!(!path.exists());
        std::fs::remove_dir(path.with_added_extension("new")).unwrap();
        // A daemon that was killed left half of a longer one.
        std::fs::write(path.with_added_extension("new"), "something else").unwrap();
        once(&path, || Ok("text".into())).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, READABLE);
    }
}
