//! `--volume`, `--mount`, `--tmpfs`.

use api::container::{
    BindOptions, Driver, IdMapping, ImageOptions, Mount, TmpfsOptions, Unit, VolumeOptions,
};
use api::secret::SecretMount;
use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::flags::{Parsed, boolean, ram_bytes};

/// What `--volume` comes to.
pub(super) struct Volumes {
    pub(super) binds: Vec<String>,
    pub(super) anonymous: BTreeMap<String, Unit>,
}

/// Reads `--volume`: a path alone is an anonymous volume.
pub(super) fn volumes(parsed: &Parsed) -> Result<Volumes> {
    let mut all = Volumes { binds: Vec::new(), anonymous: BTreeMap::new() };
    for text in parsed.list("volume") {
        let invalid = |why: &str| Error::Message(format!("invalid spec: {text}: {why}"));
        if text.is_empty() {
            return Err(Error::say("invalid empty volume spec"));
        }
        match text.split_once(':') {
            None => {
                all.anonymous.insert(text.to_owned(), Unit {});
            }
            Some(("", _)) | Some((_, "")) => return Err(invalid("empty section between colons")),
            Some((source, rest)) if source.starts_with('.') => {
                all.binds.push(format!("{}:{rest}", absolute(source)?));
            }
            Some(_) => all.binds.push(text.to_owned()),
        }
    }
    Ok(all)
}

fn absolute(path: &str) -> Result<String> {
    let whole = std::env::current_dir()
        .map_err(|source| Error::File { verb: "finding", path: "the working directory".into(), source })?
        .join(path);
    Ok(cleaned(&whole))
}

/// A path without `.` and `..`, by its text alone: as Docker does, whatever is a link.
fn cleaned(path: &Path) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let text = path.to_string_lossy();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Reads `--tmpfs`.
pub(super) fn tmpfs(parsed: &Parsed) -> BTreeMap<String, String> {
    parsed
        .list("tmpfs")
        .map(|text| {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            (path.to_owned(), options.to_owned())
        })
        .collect()
}

/// The check of `--mount`.
pub(super) fn check(text: &str) -> std::result::Result<(), String> {
    parse(text).map(drop)
}

/// Reads `--mount`.
pub(super) fn mounts(parsed: &Parsed) -> Result<Vec<Mount>> {
    of(parsed, "mount")
}

/// Reads a flag of the same form.
pub(super) fn of(parsed: &Parsed, flag: &str) -> Result<Vec<Mount>> {
    parsed.list(flag).map(|text| parse(text).map_err(Error::Message)).collect()
}

/// The check of `--secret`.
pub(super) fn check_secret(text: &str) -> std::result::Result<(), String> {
    secret(text).map(drop)
}

/// Reads `--secret`.
pub(super) fn secrets(parsed: &Parsed) -> Result<Vec<SecretMount>> {
    parsed.list("secret").map(|text| secret(text).map_err(Error::Message)).collect()
}

/// `NAME` or `source=NAME`, and how the file is to be.
fn secret(text: &str) -> std::result::Result<SecretMount, String> {
    let mut wanted = SecretMount::default();
    for (at, field) in fields(text)?.into_iter().enumerate() {
        let Some((key, value)) = field.split_once('=') else {
            if at > 0 {
                return Err(format!("invalid field '{field}' must be a key=value pair"));
            }
            wanted.source = field;
            continue;
        };
        let number = || value.parse().map_err(|_| format!("invalid value for {key}: {value}"));
        match key.to_lowercase().as_str() {
            "source" | "src" => value.clone_into(&mut wanted.source),
            "target" => value.clone_into(&mut wanted.target),
            "uid" => wanted.uid = number()?,
            "gid" => wanted.gid = number()?,
            "mode" => {
                let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
                wanted.mode = Some(mode.ok_or_else(|| format!("invalid mode specified: {value}"))?);
            }
            _ => return Err(format!("invalid field in secret request: {key}")),
        }
    }
    if wanted.source.is_empty() { Err("source is required".into()) } else { Ok(wanted) }
}

/// The fields of a line of comma-separated values, where quotes keep commas.
pub(super) fn fields(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        let mut field = String::new();
        if chars.peek() == Some(&'"') {
            chars.next();
            loop {
                match chars.next() {
                    None => return Err("parse error: extraneous or missing \" in quoted-field".into()),
                    Some('"') if chars.peek() == Some(&'"') => {
                        chars.next();
                        field.push('"');
                    }
                    Some('"') => break,
                    Some(c) => field.push(c),
                }
            }
            if !matches!(chars.peek(), None | Some(',')) {
                return Err("parse error: extraneous or missing \" in quoted-field".into());
            }
        }
        while let Some(c) = chars.next_if(|c| *c != ',') {
            if c == '"' {
                return Err("parse error: bare \" in non-quoted-field".into());
            }
            field.push(c);
        }
        all.push(field);
        if chars.next().is_none() {
            return Ok(all);
        }
    }
}

fn parse(text: &str) -> std::result::Result<Mount, String> {
    let mut mount = Mount { kind: "volume".into(), ..Mount::default() };
    for field in fields(text)? {
        let (key, value) =
            field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        let key = key.to_lowercase();
        set(&mut mount, &key, value, &field)?;
    }
    let mixed = |wanted: &str, name: &str, options: bool| {
        if options && mount.kind != wanted {
            return Err(format!("cannot mix '{name}-*' options with mount type '{}'", mount.kind));
        }
        Ok(())
    };
    mixed("volume", "volume", mount.volume_options.is_some())?;
    mixed("image", "image", mount.image_options.is_some())?;
    mixed("bind", "bind", mount.bind_options.is_some())?;
    mixed("tmpfs", "tmpfs", mount.tmpfs_options.is_some())?;
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    if let Some(bind) = &mount.bind_options {
        let needs = bind.read_only_non_recursive || bind.read_only_force_recursive;
        if needs && !mount.read_only {
            let word = if bind.read_only_force_recursive { "readonly" } else { "writable" };
            return Err(format!(
                "option 'bind-recursive={word}' requires 'readonly' to be specified in conjunction"
            ));
        }
        if bind.read_only_force_recursive && bind.propagation != "rprivate" {
            return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".into());
        }
    }
    Ok(mount)
}

fn set(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> std::result::Result<(), String> {
    // A word alone says yes, for the keys that are switches.
    let yes = |value: Option<&str>| match value {
        None => Ok(true),
        Some(text) => boolean(text).ok_or_else(|| format!("invalid value for {key}: {text}")),
    };
    match key {
        "readonly" | "ro" => {
            mount.read_only = yes(value)?;
            return Ok(());
        }
        "volume-nocopy" => {
            volume(mount).no_copy = yes(value)
                .map_err(|_| format!("invalid value for volume-nocopy: {}", value.unwrap_or_default()))?;
            return Ok(());
        }
        "bind-nonrecursive" => {
            bind(mount).non_recursive = yes(value)?;
            return Ok(());
        }
        "bind-idmap" => {
            bind(mount).id_mapping = Some(id_mapping(value)?);
            return Ok(());
        }
        "bind-create-src" => {
            bind(mount).create_mountpoint = yes(value)?;
            return Ok(());
        }
        _ => {}
    }
    let Some(value) = value else { return Err(format!("invalid field '{field}' must be a key=value pair")) };
    match key {
        // Whether there is such a type is the daemon's to say.
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => {
            mount.source = if value == "." || value.starts_with("./") || value.starts_with("../") {
                absolute(value).map_err(|err| err.to_string())?
            } else {
                value.to_owned()
            };
        }
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => bind(mount).propagation = value.to_lowercase(),
        "bind-recursive" => match value {
            "enabled" => {}
            "disabled" => bind(mount).non_recursive = true,
            "writable" => bind(mount).read_only_non_recursive = true,
            "readonly" => bind(mount).read_only_force_recursive = true,
            other => {
                return Err(format!(
                    "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        },
        "volume-subpath" => value.clone_into(&mut volume(mount).subpath),
        "volume-label" => {
            let (name, text) = value.split_once('=').unwrap_or((value, ""));
            volume(mount).labels.insert(name.to_owned(), text.to_owned());
        }
        "volume-driver" => value.clone_into(&mut driver(mount).name),
        "volume-opt" => {
            let (name, text) = value.split_once('=').unwrap_or((value, ""));
            driver(mount).options.insert(name.to_owned(), text.to_owned());
        }
        "image-subpath" => {
            mount.image_options.get_or_insert_with(ImageOptions::default).subpath = value.to_owned();
        }
        "tmpfs-size" => {
            let size = ram_bytes(value).ok_or_else(|| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).size_bytes = size;
        }
        "tmpfs-mode" => {
            let mode =
                u32::from_str_radix(value, 8).map_err(|_| format!("invalid value for {key}: {value}"))?;
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).mode = mode;
        }
        "tmpfs-options" => {
            let options = value.split(',').filter(|option| !option.is_empty());
            let options = options.map(|option| option.splitn(2, '=').map(str::to_owned).collect());
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).options.extend(options);
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// `bind-idmap`: whose files are seen as whose.
fn id_mapping(value: Option<&str>) -> std::result::Result<IdMapping, String> {
    let (source, user) = match value.unwrap_or("match-user") {
        text @ ("match-user" | "userns") => (text, ""),
        text => match text.split_once(':') {
            Some((source @ "match-user", user)) if !user.is_empty() => (source, user),
            _ => {
                return Err(format!(
                    "invalid value for bind-idmap: {text} (must be \"match-user\", \"match-user:USER\", or \"userns\")"
                ));
            }
        },
    };
    Ok(IdMapping { source: source.to_owned(), user: user.to_owned() })
}

fn bind(mount: &mut Mount) -> &mut BindOptions {
    mount.bind_options.get_or_insert_with(BindOptions::default)
}

fn volume(mount: &mut Mount) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut Mount) -> &mut Driver {
    volume(mount).driver_config.get_or_insert_with(Driver::default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read() {
        let mount = parse("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap();
        assert_eq!((mount.kind.as_str(), mount.source.as_str(), mount.target.as_str()), ("bind", "/a", "/b"));
        assert!(mount.read_only && mount.bind_options.unwrap().propagation == "rslave");
        let mount = parse("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(
            mount.tmpfs_options.unwrap(),
            TmpfsOptions { size_bytes: 1 << 20, mode: 0o1770, options: Vec::new() }
        );
        let mount = parse("source=v,target=/t,\"volume-opt=o=a,b\",volume-nocopy").unwrap();
        let options = mount.volume_options.unwrap();
        assert_eq!(options.driver_config.unwrap().options["o"], "a,b");
        assert!(options.no_copy);
    }

    #[test]
    fn secrets_and_owners_are_read() {
        let one = secret("db,target=x,uid=5,mode=0400").unwrap();
        assert_eq!(
            (one.source.as_str(), one.target.as_str(), one.uid, one.mode),
            ("db", "x", 5, Some(0o400))
        );
        assert_eq!(secret("source=db").unwrap().source, "db");
        assert_eq!(secret("target=x").unwrap_err(), "source is required");
        assert_eq!(secret("db,mode=9").unwrap_err(), "invalid mode specified: 9");
        assert_eq!(secret("db,color=red").unwrap_err(), "invalid field in secret request: color");
        let mapping = |text: &str| parse(text).unwrap().bind_options.unwrap().id_mapping.unwrap();
        assert_eq!(mapping("type=bind,src=/a,dst=/b,bind-idmap").source, "match-user");
        assert_eq!(mapping("type=bind,src=/a,dst=/b,bind-idmap=match-user:www").user, "www");
        assert!(parse("type=bind,src=/a,dst=/b,bind-idmap=x").unwrap_err().contains("bind-idmap"));
        let mount = parse("type=tmpfs,dst=/t,\"tmpfs-options=noexec,uid=5\"").unwrap();
        assert_eq!(
            mount.tmpfs_options.unwrap().options,
            [vec!["noexec".to_owned()], vec!["uid".into(), "5".into()]]
        );
    }

    #[test]
    fn bad_mounts_are_refused_in_dockers_words() {
        for (text, want) in [
            ("type=foo", "target is required"),
            ("type=bind,foo=x,target=/a", "unexpected key 'foo' in 'foo=x'"),
            ("foo", "invalid field 'foo' must be a key=value pair"),
            (
                "type=volume,target=/a,bind-propagation=rslave",
                "cannot mix 'bind-*' options with mount type 'volume'",
            ),
            ("target=/a,ro=x", "invalid value for ro: x"),
            ("type=tmpfs,target=/a,tmpfs-mode=9", "invalid value for tmpfs-mode: 9"),
        ] {
            assert_eq!(parse(text).unwrap_err(), want);
        }
        assert!(fields("\"a").is_err());
    }

    #[test]
    fn a_relative_source_is_made_whole() {
        assert_eq!(cleaned(Path::new("/a/./b/../../c")), "/c");
        assert_eq!(cleaned(Path::new("/../..")), "/");
    }
}
