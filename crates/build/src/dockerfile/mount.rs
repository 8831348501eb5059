//! `--mount` and `--device` of `RUN`.

use crate::lower::absolute;
use crate::suggest;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory of the context, a stage, or an image.
    Bind,
    /// A directory that is kept between builds.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret, as a file or a variable.
    Secret,
    /// The socket of an agent.
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// Each has one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// A mount, with the values of its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: Kind,
    /// `from`: a stage, an image, or a context; empty for the build's own context.
    pub from: String,
    /// `source`.
    pub source: String,
    /// `target`.
    pub target: String,
    /// Whether nothing can be written.
    pub read_only: bool,
    /// `size` of memory, in bytes; 0 is no limit.
    pub size: i64,
    /// `id` of a cache, a secret or an agent.
    pub id: String,
    /// `sharing` of a cache.
    pub sharing: Option<Sharing>,
    /// Whether the step fails without it.
    pub required: bool,
    /// `env`: the variable that holds the secret; empty if it is to be called as the secret is.
    pub env: Option<String>,
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
}

const KINDS: [(&str, Kind); 5] = [
    ("bind", Kind::Bind),
    ("cache", Kind::Cache),
    ("tmpfs", Kind::Tmpfs),
    ("secret", Kind::Secret),
    ("ssh", Kind::Ssh),
];
const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

impl Mount {
    /// Whether something can be mounted there: anywhere but in the place of all files.
    ///
    /// # Errors
    /// It is the root.
    pub fn check_target(&self, target: &str) -> Result<(), String> {
        let clean = absolute("/", target);
        if clean == "/" { Err(format!("invalid mount target {clean:?}")) } else { Ok(()) }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// The mount of an option's value.
pub fn parse(text: &str) -> Result<Mount, String> {
    let mut mount = Mount {
        kind: Kind::Bind,
        from: String::new(),
        source: String::new(),
        target: String::new(),
        read_only: false,
        size: 0,
        id: String::new(),
        sharing: None,
        required: false,
        env: None,
        mode: None,
        uid: None,
        gid: None,
    };
    // Unless something is said of it, the kind decides.
    let mut read_only = None;
    for field in fields(text).map_err(|reason| format!("failed to parse csv mounts: {reason}"))? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        match (key.as_str(), value) {
            ("readonly" | "ro", value) => {
                read_only = Some(value.map_or(Ok(true), |value| boolean(&key, value))?);
            }
            ("readwrite" | "rw", value) => {
                read_only = Some(!value.map_or(Ok(true), |value| boolean(&key, value))?);
            }
            ("required", _) if !matches!(mount.kind, Kind::Secret | Kind::Ssh) => {
                return Err(unexpected(&key, mount.kind));
            }
            ("required", value) => mount.required = value.map_or(Ok(true), |value| boolean(&key, value))?,
            ("env", None) if mount.kind == Kind::Secret => mount.env = Some(String::new()),
            (_, None) => return Err(format!("invalid field '{field}' must be a key=value pair")),
            (_, Some(value)) => set(&mut mount, &key, value, &field)?,
        }
    }
    finish(&mut mount, read_only)?;
    Ok(mount)
}

/// Where a mount's files come from, also where other fields have variables still.
pub fn from(text: &str) -> Option<String> {
    let fields = fields(text).ok()?;
    let found = fields.iter().rev().filter_map(|field| field.split_once('='));
    found.into_iter().find(|(key, _)| key.eq_ignore_ascii_case("from")).map(|(_, value)| value.to_owned())
}

fn set(mount: &mut Mount, key: &str, value: &str, field: &str) -> Result<(), String> {
    match key {
        "type" => mount.kind = one_of(&KINDS, value, "mount type")?,
        "from" => value.clone_into(&mut mount.from),
        "source" | "src" => value.clone_into(&mut mount.source),
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "size" if mount.kind != Kind::Tmpfs => return Err(unexpected(key, mount.kind)),
        "size" => mount.size = bytes(value).ok_or_else(|| format!("invalid value for {key}: {value}"))?,
        "id" => value.clone_into(&mut mount.id),
        "sharing" => mount.sharing = Some(one_of(&SHARINGS, value, "sharing value")?),
        "mode" => mount.mode = Some(number(key, value, 8)?),
        "uid" => mount.uid = Some(number(key, value, 10)?),
        "gid" => mount.gid = Some(number(key, value, 10)?),
        "env" if mount.kind != Kind::Secret => return Err(unexpected(key, mount.kind)),
        "env" => mount.env = Some(value.to_owned()),
        _ => {
            let hint = suggest::hint(suggest::nearest(key, KEYS, true));
            return Err(format!("unexpected key '{key}' in '{field}'{hint}"));
        }
    }
    Ok(())
}

fn finish(mount: &mut Mount, read_only: Option<bool>) -> Result<(), String> {
    let kind = mount.kind;
    if matches!(kind, Kind::Bind | Kind::Tmpfs) {
        for (name, given) in [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)] {
            if given.is_some() {
                return Err(format!("{name} not allowed for {:?} type mounts", kind.name()));
            }
        }
    }
    mount.read_only = read_only.unwrap_or(!matches!(kind, Kind::Cache | Kind::Tmpfs));
    if kind == Kind::Secret {
        let message = if !mount.from.is_empty() {
            "secret mount should not have a from"
        } else if mount.sharing.is_some() {
            "secret mount should not define sharing"
        } else if mount.source.is_empty() && mount.target.is_empty() && mount.id.is_empty() {
            "invalid secret mount. one of source, target required"
        } else if !mount.source.is_empty() && !mount.id.is_empty() {
            "both source and id can't be set"
        } else {
            return Ok(());
        };
        return Err(message.to_owned());
    }
    if mount.sharing.is_some() && kind != Kind::Cache {
        return Err(format!("invalid cache sharing set for {} mount", kind.name()));
    }
    Ok(())
}

fn unexpected(key: &str, kind: Kind) -> String {
    format!("unexpected key '{key}' for mount type '{}'", kind.name())
}

fn one_of<T: Copy>(known: &[(&'static str, T)], value: &str, what: &str) -> Result<T, String> {
    let lower = value.to_ascii_lowercase();
    known.iter().find(|(name, _)| *name == lower).map(|(_, found)| *found).ok_or_else(|| {
        let hint = suggest::hint(suggest::nearest(value, known.iter().map(|(name, _)| *name), true));
        format!("unsupported {what} {value:?}{hint}")
    })
}

/// The words that Go takes for a truth.
pub(crate) fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, String> {
    truth(value).ok_or_else(|| format!("invalid value for {key}: {value}"))
}

fn number(key: &str, value: &str, base: u32) -> Result<u32, String> {
    // Without the sign that Rust would take.
    let digits = value.chars().all(|letter| letter.is_digit(base));
    let number = if digits { u32::from_str_radix(value, base).ok() } else { None };
    number.ok_or_else(|| format!("invalid value {value} for {key}"))
}

/// `64m`, `1.5 GiB`: powers of 1024.
fn bytes(text: &str) -> Option<i64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    (bytes < i64::MAX as f64).then_some(bytes as i64)
}

/// A device that a step is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Its full name, or its class.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// The device of an option's value: `vendor.com/class=name[,required]`.
pub fn device(text: &str) -> Result<Device, String> {
    let mut device = Device::default();
    for field in fields(text).map_err(|reason| format!("failed to parse csv devices: {reason}"))? {
        let (key, value) = field.split_once('=').unwrap_or((&field, ""));
        match key.to_ascii_lowercase().as_str() {
            "required" if field.contains('=') => device.required = boolean("required", value)?,
            "required" => device.required = true,
            "name" => value.clone_into(&mut device.name),
            _ if device.name.is_empty() => device.name = field,
            other => return Err(format!("unexpected key '{other}' in '{field}'")),
        }
    }
    if device.name.is_empty() {
        return Err("device name is required".to_owned());
    }
    Ok(device)
}

/// Values between commas, one line of CSV; one that begins with a quote ends with one.
fn fields(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut letters = text.chars().peekable();
    loop {
        let mut field = String::new();
        if letters.peek() == Some(&'"') {
            letters.next();
            loop {
                match letters.next() {
                    Some('"') if letters.peek() == Some(&'"') => field.extend(letters.next()),
                    Some('"') => break,
                    Some(letter) => field.push(letter),
                    None => return Err("extraneous or missing \" in quoted-field".to_owned()),
                }
            }
            if !matches!(letters.peek(), None | Some(',')) {
                return Err("extraneous or missing \" in quoted-field".to_owned());
            }
        } else {
            while let Some(letter) = letters.next_if(|letter| *letter != ',') {
                if letter == '"' {
                    return Err("bare \" in non-quoted-field".to_owned());
                }
                field.push(letter);
            }
        }
        fields.push(field);
        if letters.next().is_none() {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let mount = parse("type=cache,target=/var/cache,sharing=locked,id=a,uid=1,gid=2,mode=0700").unwrap();
        assert_eq!(
            (mount.kind, mount.sharing, mount.mode),
            (Kind::Cache, Some(Sharing::Locked), Some(0o700))
        );
        assert!(!mount.read_only);
        assert!(parse("target=/x").unwrap().read_only);
        assert!(!parse("target=/x,rw").unwrap().read_only);
        assert!(parse("target=/x,rw=false").unwrap().read_only);
        assert_eq!(parse("type=tmpfs,target=/x,size=1.5g").unwrap().size, 3 << 29);
        assert_eq!(parse("type=secret,id=a,env=TOKEN").unwrap().env.as_deref(), Some("TOKEN"));
        assert!(parse("type=ssh,required").unwrap().required);
        assert_eq!(parse("\"target=/a,b\",source=c").unwrap().target, "/a,b");
    }

    #[test]
    fn mistakes_are_told_in_known_words() {
        let table = [
            ("type=bnd", "unsupported mount type \"bnd\" (did you mean bind?)"),
            ("type=cache,sharing=lock", "unsupported sharing value \"lock\" (did you mean locked?)"),
            ("targt=/x", "unexpected key 'targt' in 'targt=/x' (did you mean target?)"),
            ("target", "invalid field 'target' must be a key=value pair"),
            ("required", "unexpected key 'required' for mount type 'bind'"),
            ("size=1m", "unexpected key 'size' for mount type 'bind'"),
            ("type=tmpfs,size=much", "invalid value for size: much"),
            ("ro=maybe", "invalid value for ro: maybe"),
            ("type=cache,mode=9", "invalid value 9 for mode"),
            ("type=cache,uid=-1", "invalid value -1 for uid"),
            ("mode=0700", "mode not allowed for \"bind\" type mounts"),
            ("type=secret", "invalid secret mount. one of source, target required"),
            ("type=secret,id=a,source=b", "both source and id can't be set"),
            ("type=secret,id=a,from=b", "secret mount should not have a from"),
            ("type=ssh,sharing=locked", "invalid cache sharing set for ssh mount"),
            ("\"a", "failed to parse csv mounts: extraneous or missing \" in quoted-field"),
            ("", "failed to parse csv mounts: EOF"),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn devices_are_read() {
        let all = Device { name: "vendor.com/class=all".into(), required: true };
        assert_eq!(device("vendor.com/class=all,required"), Ok(all.clone()));
        assert_eq!(device("name=vendor.com/class=all,required=true"), Ok(all));
        assert!(device("required").is_err());
    }
}
