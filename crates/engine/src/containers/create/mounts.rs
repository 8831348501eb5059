//! What is mounted in a container: `-v`, `--mount`, `--tmpfs` and the image's volumes, as one list without doubles.

use std::path::{Component, Path};

use api::container::{BindOptions, Config, HostConfig, Mount, MountPoint, VolumeOptions};

use crate::containers::record::{MountKind, MountRecord, Owners};
use crate::error::{Error, Result};
use crate::volumes::New;

/// How a bind spreads where nothing is said.
const PRIVATE: &str = "rprivate";
const PROPAGATIONS: &[&str] = &["private", "rprivate", "shared", "rshared", "slave", "rslave"];
/// More mounts than any real container has; each costs the kernel and the shim a descriptor.
const MOUNTS_MAX: usize = 512;

/// A mount that is to be made, before volumes have names and paths.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// What will be remembered; a volume's `source` is still empty, an anonymous one's name too.
    pub record: MountRecord,
    /// Labels, driver options of a volume that has to be made.
    pub volume: Option<New>,
    /// Whether the source of a bind has to exist.
    pub must_exist: bool,
}

/// All mounts of a request, those from the image's `VOLUME`s last.
pub fn all(config: &Config, host: &HostConfig) -> Result<Vec<Wanted>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut add = |new: Wanted| {
        let target = &new.record.point.destination;
        if wanted.iter().any(|known| known.record.point.destination == *target) {
            return Err(Error::invalid(format!("Duplicate mount point: {target}")));
        }
        if wanted.len() == MOUNTS_MAX {
            return Err(Error::invalid(format!("too many mounts: at most {MOUNTS_MAX}")));
        }
        wanted.push(new);
        Ok(())
    };
    for spec in &host.binds {
        add(short(spec)?)?;
    }
    for mount in &host.mounts {
        add(long(mount)?)?;
    }
    for (target, options) in &host.tmpfs {
        add(Wanted {
            record: MountRecord {
                point: point("tmpfs", "", &destination(target)?, "", true),
                kind: MountKind::Tmpfs { options: tmpfs_options(options)? },
            },
            volume: None,
            must_exist: false,
        })?;
    }
    if wanted.len() + config.volumes.len() > MOUNTS_MAX {
        return Err(Error::invalid(format!("invalid configuration: more than {MOUNTS_MAX} mounts")));
    }
    // Of those that say nothing of a driver themselves.
    for wanted in wanted.iter_mut().filter_map(|wanted| wanted.volume.as_mut()) {
        if wanted.driver.is_empty() {
            wanted.driver.clone_from(&host.volume_driver);
        }
    }
    for path in config.volumes.keys() {
        let target = destination(path)?;
        if wanted.iter().all(|known| known.record.point.destination != target) {
            wanted.push(volume("", &target, "", true, false));
        }
    }
    ordered(wanted)
}

/// Refuses more mounts than any real container has.
pub(crate) fn few(count: usize) -> Result<()> {
    if count > MOUNTS_MAX {
        return Err(Error::invalid(format!("invalid configuration: more than {MOUNTS_MAX} mounts")));
    }
    Ok(())
}

/// One mount in the long form.
pub(crate) fn one(mount: &Mount) -> Result<Wanted> {
    long(mount)
}

/// Parents before what lies in them; not too many.
pub(super) fn ordered(mut wanted: Vec<Wanted>) -> Result<Vec<Wanted>> {
    few(wanted.len())?;
    wanted.sort_by_key(|w| depth(&w.record.point.destination));
    Ok(wanted)
}

fn depth(path: &str) -> usize {
    Path::new(path).components().count()
}

/// A path inside the container: absolute, without `.` and `..`, and not the root.
pub(crate) fn destination(path: &str) -> Result<String> {
    if path.contains('\0') {
        return Err(Error::invalid("invalid mount path: it contains a NUL byte"));
    }
    if !path.starts_with('/') {
        return Err(Error::invalid(format!("invalid mount path: '{path}' mount path must be absolute")));
    }
    let mut clean = String::new();
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str().unwrap_or_default()),
            Component::ParentDir => {
                parts.pop();
            }
            _ => {}
        }
    }
    for part in parts {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() {
        return Err(Error::invalid("invalid specification: destination can't be '/'"));
    }
    Ok(clean)
}

fn point(kind: &str, source: &str, destination: &str, mode: &str, rw: bool) -> MountPoint {
    MountPoint {
        kind: kind.to_owned(),
        source: source.to_owned(),
        destination: destination.to_owned(),
        mode: mode.to_owned(),
        rw,
        ..MountPoint::default()
    }
}

fn volume(name: &str, target: &str, mode: &str, rw: bool, no_copy: bool) -> Wanted {
    let mut point = point("volume", "", target, mode, rw);
    point.name = name.to_owned();
    point.driver = "local".to_owned();
    Wanted {
        record: MountRecord {
            point,
            kind: MountKind::Volume { anonymous: name.is_empty(), no_copy, subpath: String::new() },
        },
        volume: Some(New::default()),
        must_exist: false,
    }
}

/// `[source:]target[:options]`.
fn short(spec: &str) -> Result<Wanted> {
    let wrong = || Error::invalid(format!("invalid volume specification: '{spec}'"));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(wrong()),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty()) {
        return Err(wrong());
    }
    let target = destination(target)?;
    let mode_of = Mode::parse(mode)?;
    if source.starts_with('/') {
        if mode_of.no_copy {
            return Err(Error::invalid(format!("invalid mode: {mode}")));
        }
        let mut point = point("bind", &clean_source(source)?, &target, mode, mode_of.rw);
        point.propagation = mode_of.propagation.unwrap_or(PRIVATE).to_owned();
        let kind = MountKind::Bind {
            recursive: true,
            create: true,
            read_only_recursive: !mode_of.rw,
            read_only_force: false,
            owners: None,
        };
        return Ok(Wanted { record: MountRecord { point, kind }, volume: None, must_exist: false });
    }
    if mode_of.propagation.is_some() {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    volume_name(source)?;
    // The short form without options is shown as `z`, as Docker does.
    Ok(volume(source, &target, if mode.is_empty() { "z" } else { mode }, mode_of.rw, mode_of.no_copy))
}

/// The path of a bind's source on the host, which the caller gave: made tidy, not looked at.
fn clean_source(source: &str) -> Result<String> {
    if source.contains('\0') {
        return Err(Error::invalid("invalid mount source: it contains a NUL byte"));
    }
    let tidy: std::path::PathBuf = Path::new(source).components().collect();
    Ok(tidy.to_string_lossy().into_owned())
}

/// Checks a volume's name; an empty one is anonymous.
fn volume_name(name: &str) -> Result<()> {
    let mut chars = name.bytes();
    let good = name.is_empty()
        || (name.len() >= 2
            && name.len() <= 255
            && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
            && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-')));
    if good {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

struct Mode {
    rw: bool,
    no_copy: bool,
    propagation: Option<&'static str>,
}

impl Mode {
    fn parse(text: &str) -> Result<Self> {
        let wrong = || Error::invalid(format!("invalid mode: {text}"));
        let mut mode = Self { rw: true, no_copy: false, propagation: None };
        let (mut access, mut label) = (0, 0);
        for word in text.split(',').filter(|_| !text.is_empty()) {
            match word {
                "rw" => access += 1,
                "ro" => {
                    access += 1;
                    mode.rw = false;
                }
                // Labels of SELinux, which is not on: without effect, as in Docker.
                "z" | "Z" => label += 1,
                "nocopy" => mode.no_copy = true,
                other => {
                    let known = PROPAGATIONS.iter().find(|p| **p == other).ok_or_else(wrong)?;
                    if mode.propagation.replace(known).is_some() {
                        return Err(wrong());
                    }
                }
            }
        }
        if access > 1 || label > 1 { Err(wrong()) } else { Ok(mode) }
    }
}

fn long(mount: &Mount) -> Result<Wanted> {
    let kind = mount.kind.as_str();
    let wrong = |text: String| Error::invalid(format!("invalid mount config for type \"{kind}\": {text}"));
    if !matches!(kind, "bind" | "volume" | "tmpfs" | "image") {
        return match kind {
            "cluster" => Err(Error::not_implemented("mounts of type cluster are not available yet")),
            _ => Err(wrong("mount type unknown".to_owned())),
        };
    }
    if mount.target.is_empty() {
        return Err(wrong("field Target must not be empty".into()));
    }
    let target = destination(&mount.target).map_err(|e| wrong(e.to_string()))?;
    for (set, field, of) in [
        (mount.bind_options.is_some(), "BindOptions", "bind"),
        (mount.volume_options.is_some(), "VolumeOptions", "volume"),
        (mount.tmpfs_options.is_some(), "TmpfsOptions", "tmpfs"),
        (mount.image_options.is_some(), "ImageOptions", "image"),
    ] {
        if set && kind != of {
            return Err(wrong(format!("field {field} must not be specified")));
        }
    }
    match kind {
        "bind" => long_bind(mount, &target).map_err(|e| wrong(e.to_string())),
        "volume" => long_volume(mount, &target),
        "image" => long_image(mount, &target).map_err(|e| wrong(e.to_string())),
        _ => {
            if !mount.source.is_empty() {
                return Err(wrong("field Source must not be specified".into()));
            }
            let options = mount.tmpfs_options.clone().unwrap_or_default();
            let mut words = Vec::new();
            if mount.read_only {
                words.push("ro".to_owned());
            }
            if options.size_bytes < 0 {
                return Err(wrong("tmpfs size must not be negative".into()));
            }
            if options.size_bytes > 0 {
                words.push(format!("size={}", options.size_bytes));
            }
            if options.mode > 0o7777 {
                return Err(wrong(format!("invalid tmpfs mode {:o}", options.mode)));
            }
            if options.mode > 0 {
                words.push(format!("mode={:o}", options.mode));
            }
            words.extend(options.options.iter().map(|pair| pair.join("=")));
            Ok(Wanted {
                record: MountRecord {
                    point: point("tmpfs", "", &target, "", !mount.read_only),
                    kind: MountKind::Tmpfs {
                        options: tmpfs_options(&words.join(",")).map_err(|e| wrong(e.to_string()))?,
                    },
                },
                volume: None,
                must_exist: false,
            })
        }
    }
}

fn long_bind(mount: &Mount, target: &str) -> Result<Wanted> {
    if mount.source.is_empty() {
        return Err(Error::invalid("field Source must not be empty"));
    }
    if !mount.source.starts_with('/') {
        return Err(Error::invalid(format!(
            "invalid mount path: '{}' mount path must be absolute",
            mount.source
        )));
    }
    let options: BindOptions = mount.bind_options.clone().unwrap_or_default();
    let propagation = match options.propagation.as_str() {
        "" => PRIVATE,
        given => PROPAGATIONS
            .iter()
            .find(|p| **p == given)
            .ok_or_else(|| Error::invalid(format!("invalid propagation mode: {given}")))?,
    };
    let mut point = point("bind", &clean_source(&mount.source)?, target, "", !mount.read_only);
    point.propagation = propagation.to_owned();
    let kind = MountKind::Bind {
        recursive: !options.non_recursive,
        create: options.create_mountpoint,
        read_only_recursive: mount.read_only && !options.read_only_non_recursive,
        read_only_force: options.read_only_force_recursive,
        owners: match options.id_mapping {
            None => None,
            Some(mapping) => match mapping.source.as_str() {
                "match-user" => Some(Owners { user: mapping.user, seen: None }),
                "userns" => {
                    return Err(Error::invalid(
                        "IDMapping \"userns\" needs a container with a user namespace of its own",
                    ));
                }
                other => return Err(Error::invalid(format!("invalid IDMapping source: \"{other}\""))),
            },
        },
    };
    Ok(Wanted { record: MountRecord { point, kind }, volume: None, must_exist: !options.create_mountpoint })
}

fn long_volume(mount: &Mount, target: &str) -> Result<Wanted> {
    let options: VolumeOptions = mount.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    volume_name(&mount.source)?;
    if leads_out(&options.subpath) {
        return Err(Error::invalid(
            "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
        ));
    }
    let mut wanted = volume(
        &mount.source,
        target,
        if mount.source.is_empty() { "" } else { "z" },
        !mount.read_only,
        options.no_copy,
    );
    if let MountKind::Volume { subpath, .. } = &mut wanted.record.kind {
        *subpath = options.subpath;
    }
    wanted.volume = Some(New { driver: driver.name, labels: options.labels, options: driver.options });
    Ok(wanted)
}

fn long_image(mount: &Mount, target: &str) -> Result<Wanted> {
    if mount.source.is_empty() {
        return Err(Error::invalid("field Source must not be empty"));
    }
    let subpath = mount.image_options.clone().unwrap_or_default().subpath;
    if leads_out(&subpath) {
        return Err(Error::invalid("subpath must be a relative path within the image"));
    }
    // Read-only, whatever is asked for, as in Docker.
    let mut point = point("image", "", target, "", false);
    point.name.clone_from(&mount.source);
    let kind = MountKind::Image { snapshot: String::new(), subpath };
    Ok(Wanted { record: MountRecord { point, kind }, volume: None, must_exist: false })
}

fn leads_out(subpath: &str) -> bool {
    let path = Path::new(subpath);
    path.is_absolute() || subpath.contains('\0') || path.components().any(|c| c == Component::ParentDir)
}

/// The options of a temporary filesystem that may be asked for: none that reaches outside it.
fn tmpfs_options(text: &str) -> Result<String> {
    const WORDS: &[&str] = &[
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "sync",
        "async",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "unbindable",
        "runbindable",
        "defaults",
    ];
    const KEYS: &[&str] = &["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
    for word in text.split(',').filter(|_| !text.is_empty()) {
        let known = match word.split_once('=') {
            Some((key, value)) => KEYS.contains(&key) && !value.is_empty(),
            None => WORDS.contains(&word),
        };
        if !known {
            return Err(Error::invalid(format!("Invalid tmpfs option \"{word}\"")));
        }
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::container::{TmpfsOptions, Unit};

    fn binds(specs: &[&str]) -> Result<Vec<Wanted>> {
        let host =
            HostConfig { binds: specs.iter().map(|s| (*s).to_owned()).collect(), ..Default::default() };
        all(&Config::default(), &host)
    }

    #[test]
    fn the_short_form_is_read() {
        let list = binds(&["/a:/b:ro,rslave", "data:/c", "/anon"]).unwrap();
        let show: Vec<_> = list
            .iter()
            .map(|w| {
                let p = &w.record.point;
                format!("{} {}{} {} {} {}", p.kind, p.source, p.name, p.destination, p.rw, p.propagation)
            })
            .collect();
        assert_eq!(show, ["bind /a /b false rslave", "volume data /c true ", "volume  /anon true "]);
        assert!(!list[0].must_exist);
    }

    #[test]
    fn wrong_specifications_are_refused_in_dockers_words() {
        let text = |spec: &str| binds(&[spec]).unwrap_err().to_string();
        assert_eq!(text("a:/b:c:d"), "invalid volume specification: 'a:/b:c:d'");
        assert_eq!(text("/a:/"), "invalid specification: destination can't be '/'");
        assert_eq!(text("/a:b"), "invalid mount path: 'b' mount path must be absolute");
        assert_eq!(text("/a:/b:foo"), "invalid mode: foo");
        assert_eq!(text("/a:/b:ro,rw"), "invalid mode: ro,rw");
        assert!(text("a/b:/c").contains("includes invalid characters for a local volume name"));
        assert!(text(":/c").starts_with("invalid volume specification"));
        assert_eq!(binds(&["/a:/b", "/c:/b/"]).unwrap_err().to_string(), "Duplicate mount point: /b");
    }

    #[test]
    fn a_volume_of_the_image_cannot_leave_the_container_and_gives_way() {
        let mut config = Config::default();
        config.volumes.insert("/../../etc".into(), Unit {});
        config.volumes.insert("/data".into(), Unit {});
        let host = HostConfig { binds: vec!["/x:/data".into()], ..Default::default() };
        let list = all(&config, &host).unwrap();
        let targets: Vec<_> = list.iter().map(|w| w.record.point.destination.as_str()).collect();
        assert_eq!(targets, ["/data", "/etc"]);
        assert!(matches!(list[1].record.kind, MountKind::Volume { anonymous: true, .. }));
    }

    #[test]
    fn the_long_form_is_read_and_its_mistakes_named() {
        let one =
            |mount: Mount| all(&Config::default(), &HostConfig { mounts: vec![mount], ..Default::default() });
        let bind =
            Mount { kind: "bind".into(), source: "/x".into(), target: "/y".into(), ..Default::default() };
        assert!(one(bind.clone()).unwrap()[0].must_exist);
        let text = |mount: Mount| one(mount).unwrap_err().to_string();
        assert_eq!(
            text(Mount { source: "x".into(), ..bind.clone() }),
            "invalid mount config for type \"bind\": invalid mount path: 'x' mount path must be absolute"
        );
        assert_eq!(
            text(Mount { target: String::new(), ..bind.clone() }),
            "invalid mount config for type \"bind\": field Target must not be empty"
        );
        let image = Mount { kind: "image".into(), ..bind.clone() };
        assert_eq!(one(image.clone()).unwrap()[0].record.point.name, "/x");
        let options = Some(api::container::ImageOptions { subpath: "../etc".into() });
        assert!(text(Mount { image_options: options, ..image }).contains("relative path within the image"));
        let tmpfs = Mount {
            kind: "tmpfs".into(),
            target: "/t".into(),
            tmpfs_options: Some(TmpfsOptions { size_bytes: 4096, mode: 0o700, ..Default::default() }),
            ..Default::default()
        };
        let made = one(tmpfs.clone()).unwrap();
        assert_eq!(made[0].record.kind, MountKind::Tmpfs { options: "size=4096,mode=700".into() });
        assert!(text(Mount { source: "/x".into(), ..tmpfs }).contains("Source must not be specified"));
    }

    #[test]
    fn parents_come_before_what_lies_in_them() {
        let list = binds(&["/a:/x/y/z", "/b:/x", "/c:/x/y"]).unwrap();
        let targets: Vec<_> = list.iter().map(|w| w.record.point.destination.as_str()).collect();
        assert_eq!(targets, ["/x", "/x/y", "/x/y/z"]);
    }
}
