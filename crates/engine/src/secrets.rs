//! Secrets without a swarm: encrypted on the disk, in memory in the containers that were given them, and nowhere else.
//!
//! ```text
//! <data-root>/secrets/key    32 random bytes, for root alone
//! records of the store       name, labels, and the secret under ChaCha20-Poly1305 (RFC 8439)
//! ```
//! The key that encrypts is derived (HKDF, RFC 5869) from the random one and `/etc/machine-id`: who gets a copy of the
//! metadata, or of the whole data root on another machine, has nothing.

mod sealed;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use api::Filters;
use api::secret::{Secret, SecretMount};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use storage::{NewRecord, Store, Tx};
use sys::path::Root;
use sys::{fsx, mount};

use crate::blocking;
use crate::containers::record::{MountRecord, Record as Container};
use crate::context::CONTAINER;
use crate::error::{Error, Result};
use crate::names;
use sealed::Key;

/// The kind of a secret's record in the store.
const SECRET: &str = "secret";
/// Docker's limit of a swarm's.
pub const BYTES_MAX: usize = 500 << 10;
/// Secrets that one container is given: what they hold stays in memory.
const MOUNTS_MAX: usize = 64;
/// Where containers find them.
pub const INSIDE: &str = "/run/secrets";
/// What lists can be filtered by.
const FILTERS: &[&str] = &["id", "label", "name"];
/// Who may read a file where nothing is said: everybody in the container, as in Docker.
const MODE: u32 = 0o444;

/// The secrets.
#[derive(Debug)]
pub struct Secrets {
    store: Store,
    key: Key,
}

/// What is remembered. `sealed` is in hexadecimal digits.
#[derive(Serialize, Deserialize)]
struct Record {
    created: Timestamp,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    size: u64,
    sealed: String,
}

/// What of a container's record concerns secrets.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Uses {
    name: String,
    host: UsesOfHost,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct UsesOfHost {
    secrets: Vec<SecretMount>,
}

impl Secrets {
    /// Those of a store.
    pub fn new(store: Store) -> Self {
        let key = Key::at(store.root().join("secrets"));
        Self { store, key }
    }

    /// Makes one. What it is comes in `data`.
    pub async fn create(
        self: &Arc<Self>,
        name: &str,
        labels: BTreeMap<String, String>,
        data: Vec<u8>,
    ) -> Result<Secret> {
        check_name(name)?;
        if data.is_empty() || data.len() > BYTES_MAX {
            return Err(Error::invalid(format!(
                "secret data must be larger than 0 and at most {BYTES_MAX} bytes"
            )));
        }
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("create a secret", move || {
            let id = names::new_id()?;
            // Bound to its name: what is kept of one cannot be put in the place of another.
            let sealed = this.key.seal(&name, &data)?;
            let record = Record {
                created: Timestamp::now(),
                labels,
                size: data.len() as u64,
                sealed: hex::encode(sealed),
            };
            let json = serde_json::to_vec(&record)
                .map_err(|e| Error::system(format!("cannot write secret {name}")).with_source(e))?;
            let made = this.store.durable_transaction(|tx| {
                if tx.record_by_name(SECRET, &name)?.is_some() {
                    return Ok(false);
                }
                tx.insert_record(&NewRecord { kind: SECRET, id: &id, name: Some(&name), json: &json })?;
                Ok(true)
            })?;
            if made {
                return Ok(show(id, name, record));
            }
            Err(Error::conflict(format!("secret {name} already exists")))
        })
        .await
    }

    /// All that the filters let through, by their names.
    pub async fn list(self: &Arc<Self>, filters: Filters) -> Result<Vec<Secret>> {
        filters.validate(FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let this = Arc::clone(self);
        blocking::run("list secrets", move || {
            let mut secrets = Vec::new();
            for row in this.store.transaction(|tx| tx.records(SECRET))? {
                let secret = told(row)?;
                let begins = |key: &str, text: &str| {
                    !filters.contains(key) || filters.get(key).any(|part| text.starts_with(part))
                };
                if begins("name", &secret.name)
                    && begins("id", &secret.id)
                    && filters.matches_pairs("label", &secret.labels)
                {
                    secrets.push(secret);
                }
            }
            secrets.sort_by(|one, other| one.name.cmp(&other.name));
            Ok(secrets)
        })
        .await
    }

    /// One, by name or identifier.
    pub async fn inspect(self: &Arc<Self>, name: &str) -> Result<Secret> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("inspect a secret", move || this.find(&name).and_then(told)).await
    }

    /// Removes one that no container was given.
    pub async fn remove(self: &Arc<Self>, name: &str) -> Result<()> {
        let (this, name) = (Arc::clone(self), name.to_owned());
        blocking::run("remove a secret", move || {
            let found = this.find(&name)?;
            let known = found.name.clone().unwrap_or_default();
            let users = this.store.durable_transaction(|tx| {
                let users = users(tx, &known)?;
                if users.is_empty() {
                    tx.delete_record(SECRET, &found.id)?;
                }
                Ok(users)
            })?;
            match users.join(", ") {
                users if users.is_empty() => Ok(()),
                users => Err(Error::conflict(format!(
                    "secret '{known}' is in use by the following containers: {users}"
                ))),
            }
        })
        .await
    }

    /// Fails where one of these is not there.
    pub fn exist(&self, wanted: &[SecretMount]) -> Result<()> {
        for secret in wanted {
            if self.store.transaction(|tx| tx.record_by_name(SECRET, &secret.source))?.is_none() {
                // Not "not found": a client would pull the image, and try again.
                return Err(Error::invalid(format!("secret {} not found", secret.source)));
            }
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<storage::Record> {
        self.store.transaction(|tx| tx.find_record(SECRET, name)).map_err(|error| match error {
            storage::Error::NotFound { .. } => Error::not_found(format!("secret {name} not found")),
            other => other.into(),
        })
    }

    fn open(&self, name: &str) -> Result<Vec<u8>> {
        let row = self.store.transaction(|tx| tx.record_by_name(SECRET, name))?;
        let row = row.ok_or_else(|| Error::not_found(format!("secret {name} not found")))?;
        let sealed = decode(name, &row.json)?.sealed;
        let sealed = hex::decode(sealed).map_err(|_| Error::system(format!("cannot read secret {name}")))?;
        self.key.open(name, &sealed)
    }

    /// What a container sees below [`INSIDE`]: a filesystem in memory, mounted nowhere yet, that nobody can write to. `None` for a
    /// container that was given none.
    pub fn filesystem(&self, container: &Container) -> Result<Option<OwnedFd>> {
        let wanted = &container.host.secrets;
        if wanted.is_empty() {
            return Ok(None);
        }
        let failed = |e: io::Error| Error::system("cannot make a filesystem of secrets").with_source(e);
        let tmpfs = in_memory().map_err(failed)?;
        for secret in wanted {
            let data = self.open(&secret.source)?;
            let name = target(secret);
            put(&tmpfs, name, secret, &data).map_err(failed)?;
        }
        let change = mount::Change { set: mount::RDONLY, ..mount::Change::default() };
        mount::change(&tmpfs, false, change).map_err(failed)?;
        Ok(Some(tmpfs))
    }
}

/// A filesystem in memory for what must reach no disk, mounted nowhere yet.
pub(crate) fn in_memory() -> io::Result<OwnedFd> {
    let attributes = mount::NOSUID | mount::NODEV | mount::NOEXEC;
    let make = |more: &[(&str, Option<&str>)]| {
        let options = [&[("mode", Some("0755")), ("size", Some("64m"))], more].concat();
        mount::filesystem("tmpfs", Some("secrets"), &options, attributes)
    };
    // Kernels before 6.4 cannot keep it out of the swap.
    make(&[("noswap", None)]).or_else(|_| make(&[]))
}

/// A file in such a filesystem, as a mount of its own that is nowhere yet. `scratch` is a directory where it is shown for a moment, in
/// a mount namespace that nobody else sees.
pub(crate) fn file_in_memory(
    scratch: &Path,
    data: &[u8],
    owner: (u32, u32),
    mode: u32,
) -> io::Result<OwnedFd> {
    const NAME: &str = "secret";
    let secret = SecretMount { uid: owner.0, gid: owner.1, mode: Some(mode), ..SecretMount::default() };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("secret".into()).spawn_scoped(scope, || {
            shim::rootfs::enter()?;
            let tmpfs = in_memory()?;
            put(&tmpfs, NAME, &secret, data)?;
            // Kernels before 6.15 copy no mount that is nowhere.
            mount::attach(&tmpfs, fsx::open_dir(scratch)?)?;
            mount::clone_fd(Root::open(scratch)?.open_path(NAME)?, false)
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug: the thread panicked")))
    })
}

fn put(tmpfs: &OwnedFd, name: &str, secret: &SecretMount, data: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = fsx::open_at(tmpfs, name, flags, Mode::from_raw_mode(0o600))?;
    let file = std::fs::File::from(file);
    io::Write::write_all(&mut &file, data)?;
    fsx::chown(&file, secret.uid, secret.gid)?;
    fsx::chmod(&file, Mode::from_raw_mode(secret.mode.unwrap_or(MODE)))
}

/// The name of a secret's file.
fn target(secret: &SecretMount) -> &str {
    let target = if secret.target.is_empty() { &secret.source } else { &secret.target };
    target.strip_prefix(INSIDE).map_or(target, |rest| rest.trim_start_matches('/'))
}

/// Refuses what a container may not ask for.
pub fn check(secrets: &[SecretMount]) -> Result<()> {
    if secrets.len() > MOUNTS_MAX {
        return Err(Error::invalid(format!("too many secrets: at most {MOUNTS_MAX}")));
    }
    let mut names = std::collections::BTreeSet::new();
    for secret in secrets {
        check_name(&secret.source)?;
        let name = target(secret);
        if name.is_empty() || name.len() > 255 || matches!(name, "." | "..") || name.contains(['/', '\0']) {
            let wrong = &secret.target;
            return Err(Error::invalid(format!(
                "invalid target of a secret: {wrong}: it is a name of a file in {INSIDE}"
            )));
        }
        if !names.insert(name) {
            return Err(Error::invalid(format!("Duplicate secret target: {name}")));
        }
        if secret.mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Error::invalid(format!("invalid mode of secret {}", secret.source)));
        }
    }
    Ok(())
}

/// Refuses mounts at the place of the secrets: they would be hidden, and nobody would be told.
pub(crate) fn check_place(secrets: &[SecretMount], mounts: &[MountRecord]) -> Result<()> {
    if secrets.is_empty() || mounts.iter().all(|mount| mount.point.destination != INSIDE) {
        return Ok(());
    }
    Err(Error::invalid(format!("secrets need {INSIDE}, and a mount is to be there (of the image, maybe)")))
}

/// Fails where a secret is not there: for the transaction that records a container.
pub(crate) fn check_uses(tx: &Tx<'_>, secrets: &[SecretMount]) -> storage::Result<()> {
    for secret in secrets {
        if tx.record_by_name(SECRET, &secret.source)?.is_none() {
            return Err(storage::Error::NotFound { what: SECRET, id: secret.source.clone() });
        }
    }
    Ok(())
}

fn users(tx: &Tx<'_>, secret: &str) -> storage::Result<Vec<String>> {
    let records = tx.records(CONTAINER)?;
    let using = records.iter().filter_map(|record| match serde_json::from_slice::<Uses>(&record.json) {
        Ok(uses) => uses.host.secrets.iter().any(|used| used.source == secret).then_some(uses.name),
        // Of one that cannot be read every secret that is named anywhere in it is kept: what is removed does not come back.
        Err(_) => String::from_utf8_lossy(&record.json).contains(secret).then(|| record.id.clone()),
    });
    Ok(using.collect())
}

fn check_name(name: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && !name.starts_with(['-', '.', '_']);
    // In the words of a swarm.
    let text = "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]";
    if good { Ok(()) } else { Err(Error::invalid(text)) }
}

fn decode(name: &str, json: &[u8]) -> Result<Record> {
    serde_json::from_slice(json)
        .map_err(|e| Error::system(format!("cannot read secret {name}")).with_source(e))
}

fn told(row: storage::Record) -> Result<Secret> {
    let name = row.name.unwrap_or_default();
    let record = decode(&name, &row.json)?;
    Ok(show(row.id, name, record))
}

fn show(id: String, name: String, record: Record) -> Secret {
    Secret { id, name, created_at: record.created.to_string(), labels: record.labels, size: record.size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, target: &str) -> SecretMount {
        SecretMount { source: source.into(), target: target.into(), ..SecretMount::default() }
    }

    #[test]
    fn targets_stay_where_secrets_are() {
        check(&[mount("a", ""), mount("a", "b"), mount("a", "/run/secrets/c")]).unwrap();
        for (source, wrong) in
            [("a", "/etc/x"), ("a", "../x"), ("a", "x/y"), ("a", ".."), ("-a", ""), ("", "x")]
        {
            assert!(check(&[mount(source, wrong)]).is_err(), "{source} {wrong}");
        }
        assert!(check(&[mount("a", ""), mount("b", "a")]).unwrap_err().to_string().contains("Duplicate"));
    }

    #[tokio::test]
    async fn what_is_kept_is_found_and_cannot_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("data")).unwrap();
        let secrets = Arc::new(Secrets::new(store.clone()));
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let made = secrets.create("db", labels, b"s3cret-password".to_vec()).await.unwrap();
        assert_eq!((made.name.as_str(), made.size), ("db", 15));
        assert_eq!(secrets.open("db").unwrap(), b"s3cret-password");
        assert_eq!(secrets.inspect(&made.id).await.unwrap(), made);
        let error = secrets.create("db", BTreeMap::new(), b"x".to_vec()).await.unwrap_err();
        assert_eq!(error.to_string(), "secret db already exists");
        assert!(secrets.create("big", BTreeMap::new(), vec![0; BYTES_MAX + 1]).await.is_err());
        store.flush().unwrap();
        for entry in std::fs::read_dir(store.root()).unwrap() {
            let path = entry.unwrap().path();
            let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { continue };
            assert!(!bytes.windows(15).any(|window| window == b"s3cret-password"), "{}", path.display());
        }
        secrets.remove("db").await.unwrap();
        assert_eq!(secrets.inspect("db").await.unwrap_err().to_string(), "secret db not found");
    }
}
