//! `--volumes-from`: what is mounted in other containers, under what is asked for and over the image's volumes.

use api::container::{Config, HostConfig};

use super::mounts::{self, Wanted};
use crate::containers::index::Index;
use crate::containers::record::{MountKind, MountRecord, Record};
use crate::error::{Error, Result};

/// The mounts of a request with those of the containers that it names.
pub(super) fn all(config: &Config, host: &HostConfig, index: &Index) -> Result<Vec<Wanted>> {
    let inherited = inherit(&host.volumes_from, index)?;
    if inherited.is_empty() {
        return mounts::all(config, host);
    }
    let taken = |path: &str| {
        let target = mounts::destination(path);
        target.is_ok_and(|target| inherited.iter().any(|mount| mount.point.destination == target))
    };
    let mut config = config.clone();
    config.volumes.retain(|path, _| !taken(path));
    let mut wanted = mounts::all(&config, host)?;
    let free: Vec<Wanted> = inherited
        .into_iter()
        .filter(|mount| !wanted.iter().any(|w| w.record.point.destination == mount.point.destination))
        .map(|record| Wanted { record, volume: None, must_exist: false })
        .collect();
    wanted.extend(free);
    mounts::ordered(wanted)
}

/// What these containers have mounted; of two at one place the later one counts.
fn inherit(specs: &[String], index: &Index) -> Result<Vec<MountRecord>> {
    let mut inherited: Vec<MountRecord> = Vec::new();
    for spec in specs {
        let (name, mode) = parse(spec)?;
        // Not a 404: a client would take that for a missing image, and pull it.
        let found = index.find(name).map_err(|error| Error::invalid(error.to_string()))?;
        for mount in of(&found.record(), &mode) {
            inherited.retain(|known| known.point.destination != mount.point.destination);
            inherited.push(mount);
        }
    }
    Ok(inherited)
}

/// How the mounts of another container are taken over.
#[derive(Debug, PartialEq, Eq)]
struct Mode<'a> {
    read_only: bool,
    /// `z` or `Z`: relabelled for SELinux.
    label: &'a str,
}

/// `container[:ro|rw|z|Z[,…]]`.
fn parse(spec: &str) -> Result<(&str, Mode<'_>)> {
    if spec.is_empty() {
        return Err(Error::invalid("volumes-from specification cannot be an empty string"));
    }
    let (name, text) = spec.split_once(':').unwrap_or((spec, ""));
    let mut mode = Mode { read_only: false, label: "" };
    if !spec.contains(':') {
        return Ok((name, mode));
    }
    let wrong = || Error::invalid(format!("invalid mode: {text}"));
    let mut accesses = 0;
    for word in text.split(',') {
        match word {
            "ro" | "rw" => {
                accesses += 1;
                mode.read_only = word == "ro";
            }
            "z" | "Z" if mode.label.is_empty() => mode.label = word,
            _ => return Err(wrong()),
        }
    }
    if accesses > 1 { Err(wrong()) } else { Ok((name, mode)) }
}

/// A container's mounts but for those of `--tmpfs` and for images, which it keeps for itself, as another one has them: they are filled
/// already.
fn of(record: &Record, mode: &Mode<'_>) -> Vec<MountRecord> {
    let of_flag = |mount: &MountRecord| {
        let at = &mount.point.destination;
        matches!(mount.kind, MountKind::Tmpfs { .. })
            && record.host.tmpfs.keys().any(|path| mounts::destination(path).is_ok_and(|path| path == *at))
    };
    let take = |mount: &MountRecord| {
        let mut mount = mount.clone();
        mount.point.rw = mount.point.rw && !mode.read_only;
        mode.label.clone_into(&mut mount.point.mode);
        match &mut mount.kind {
            MountKind::Volume { no_copy, .. } => *no_copy = true,
            MountKind::Bind { read_only_recursive, .. } => *read_only_recursive |= mode.read_only,
            MountKind::Tmpfs { options } if mode.read_only => options.push_str(",ro"),
            _ => {}
        }
        mount
    };
    let is_image = |mount: &&MountRecord| matches!(mount.kind, MountKind::Image { .. });
    record.mounts.iter().filter(|mount| !of_flag(mount) && !is_image(mount)).map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read() {
        let mode = |read_only, label| Mode { read_only, label };
        assert_eq!(parse("a").unwrap(), ("a", mode(false, "")));
        assert_eq!(parse("a:ro").unwrap(), ("a", mode(true, "")));
        assert_eq!(parse("a:rw,z").unwrap(), ("a", mode(false, "z")));
        for (spec, text) in [
            ("", "volumes-from specification cannot be an empty string"),
            ("a:", "invalid mode: "),
            ("a:ro,rw", "invalid mode: ro,rw"),
            ("a:nocopy", "invalid mode: nocopy"),
            ("a:rshared", "invalid mode: rshared"),
        ] {
            assert_eq!(parse(spec).unwrap_err().to_string(), text);
        }
    }
}
