//! Credentials, encrypted: a file that is of no use on another machine, nor without the key beside it.
//!
//! ```text
//! ~/.local/share/corten/credentials/
//!   of-…/    the same, for each DOCKER_CONFIG that is not ~/.docker: jobs that have one of their own see nobody else's
//!   lock     held while the file is changed
//!   key      32 random bytes, for this user alone
//!   vault    the format's name, a nonce, and JSON under ChaCha20-Poly1305 (RFC 8439)
//! ```
//! The key that encrypts is derived (HKDF, RFC 5869) from the random one and `/etc/machine-id`: who gets the home directory
//! from a backup, or a configuration from a repository of dot files, has nothing. Programs of the same user on the same
//! machine are not kept out: they could ask the helper as well.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::target::environment;

/// The beginning of the file, which says how to read the rest.
const FORMAT: &[u8] = b"corten credentials 1\n";
const KEY_BYTES: usize = 32;
/// More than this is no list of passwords.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// What tells this machine from others.
const MACHINE: &str = "/etc/machine-id";

/// A name and what proves it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The name; `<token>` where the secret is a token.
    pub username: String,
    /// The password or token.
    pub secret: String,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Credentials by registry.
pub type Secrets = BTreeMap<String, Secret>;

/// A user's encrypted credentials.
#[derive(Debug, Clone)]
pub struct Vault {
    folder: PathBuf,
    machine: Vec<u8>,
}

impl Vault {
    /// The user's own, or that of the `DOCKER_CONFIG` there is: `$XDG_DATA_HOME/corten/credentials`, else below `~/.local/share`.
    pub fn of_user() -> Result<Self> {
        let path = |name| environment(name).map(PathBuf::from);
        let data = path("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let home = path("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let data = data.unwrap_or_else(|| home.join(".local/share"));
        let mut folder = data.join("corten/credentials");
        if let Some(own) = path("DOCKER_CONFIG").and_then(|own| named(&own, &home)) {
            folder.push(own);
        }
        // Where there is no name for the machine, the random key stands alone.
        let machine = std::fs::read(MACHINE).unwrap_or_default();
        Ok(Self { folder, machine })
    }

    /// All there is.
    pub fn all(&self) -> Result<Secrets> {
        let path = self.folder.join("vault");
        let Some(sealed) = read(&path)? else { return Ok(Secrets::new()) };
        let key = read(&self.folder.join("key"))?;
        let key =
            key.ok_or_else(|| malformed(&path, "the key beside it is gone: log in again after removing it"))?;
        self.open(&path, &key, &sealed)
    }

    /// What is kept for a registry.
    pub fn get(&self, server: &str) -> Result<Option<Secret>> {
        Ok(self.all()?.remove(server))
    }

    /// Keeps something.
    pub fn put(&self, server: &str, secret: &Secret) -> Result<()> {
        self.change(|secrets| {
            secrets.insert(server.to_owned(), secret.clone());
        })
    }

    /// Forgets what is kept for a registry; whether there was something.
    pub fn remove(&self, server: &str) -> Result<bool> {
        if !self.all()?.contains_key(server) {
            return Ok(false);
        }
        self.change(|secrets| {
            secrets.remove(server);
        })?;
        Ok(true)
    }

    fn change(&self, change: impl FnOnce(&mut Secrets)) -> Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(file_error("creating", &self.folder))?;
        let lock = self.folder.join("lock");
        let held = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock)
            .map_err(file_error("opening", &lock))?;
        held.lock().map_err(file_error("locking", &lock))?;
        let key_path = self.folder.join("key");
        let key = match read(&key_path)? {
            Some(key) => key,
            None => {
                let mut key = vec![0; KEY_BYTES];
                fill(&mut key)?;
                write(&key_path, &key)?;
                key
            }
        };
        let path = self.folder.join("vault");
        let mut secrets = match read(&path)? {
            Some(sealed) => self.open(&path, &key, &sealed)?,
            None => Secrets::new(),
        };
        change(&mut secrets);
        write(&path, &self.seal(&key, &secrets)?)
    }

    fn open(&self, path: &Path, key: &[u8], sealed: &[u8]) -> Result<Secrets> {
        let rest = sealed.strip_prefix(FORMAT).ok_or_else(|| malformed(path, "its format is not known"))?;
        let foreign = || malformed(path, "it was written with another key, or on another machine");
        let (nonce, content) = rest.split_at_checked(NONCE_LEN).ok_or_else(foreign)?;
        let mut content = content.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| foreign())?;
        let text = self
            .cipher(key)
            .and_then(|cipher| {
                cipher.open_in_place(nonce, Aad::from(FORMAT), &mut content).ok().map(|text| &*text)
            })
            .ok_or_else(foreign)?;
        serde_json::from_slice(text).map_err(|err| malformed(path, &err.to_string()))
    }

    fn seal(&self, key: &[u8], secrets: &Secrets) -> Result<Vec<u8>> {
        let impossible = || Error::Credentials("credentials cannot be encrypted".to_owned());
        let mut nonce = [0; NONCE_LEN];
        fill(&mut nonce)?;
        let mut content = serde_json::to_vec(secrets).map_err(|err| Error::Credentials(err.to_string()))?;
        let cipher = self.cipher(key).ok_or_else(impossible)?;
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(FORMAT), &mut content)
            .map_err(|_| impossible())?;
        Ok([FORMAT, &nonce, &content].concat())
    }

    fn cipher(&self, key: &[u8]) -> Option<LessSafeKey> {
        let derived = Salt::new(HKDF_SHA256, &self.machine).extract(key);
        let derived = derived.expand(&[FORMAT], &CHACHA20_POLY1305).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }
}

/// What the credentials of a configuration are called; nothing for the usual one.
fn named(config: &Path, home: &Path) -> Option<String> {
    let whole = |path: &Path| {
        path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
    };
    let config = whole(config);
    if config == whole(&home.join(".docker")) {
        return None;
    }
    let hash = digest(&SHA256, config.as_os_str().as_bytes());
    let letters: String = hash.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("of-{letters}"))
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| Error::Credentials("the system has no random numbers".to_owned()))
}

fn malformed(path: &Path, detail: &str) -> Error {
    Error::Malformed { path: path.to_owned(), detail: detail.to_owned() }
}

fn file_error(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { verb, path, source }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(err) => return Err(file_error("opening", path)(err)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(file_error("reading", path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(malformed(path, "it is too large"));
    }
    Ok(Some(bytes))
}

/// A new file, then a rename: no reader sees a half. Whoever writes has the lock.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    let mut file = file.map_err(file_error("creating", &temporary))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(file_error("writing", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(folder: &Path, machine: &[u8]) -> Vault {
        Vault { folder: folder.join("v"), machine: machine.to_vec() }
    }

    fn secret(text: &str) -> Secret {
        Secret { username: "ann".into(), secret: text.into() }
    }

    #[test]
    fn what_is_kept_is_found_and_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let here = vault(folder.path(), b"machine");
        assert_eq!(here.get("r.example").unwrap(), None);
        assert!(!here.remove("r.example").unwrap());
        here.put("r.example", &secret("s3cret")).unwrap();
        here.put("other.example", &secret("other")).unwrap();
        assert_eq!(here.get("r.example").unwrap(), Some(secret("s3cret")));
        let sealed = std::fs::read(folder.path().join("v/vault")).unwrap();
        for text in ["s3cret", "ann", "r.example"] {
            assert!(!sealed.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
        assert!(here.remove("r.example").unwrap());
        assert_eq!(here.all().unwrap().len(), 1);
        // On another machine it is nothing.
        let error = vault(folder.path(), b"elsewhere").all().unwrap_err().to_string();
        assert!(error.contains("another machine"), "{error}");
        // Nor where a bit of it was changed.
        let mut changed = std::fs::read(folder.path().join("v/vault")).unwrap();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(folder.path().join("v/vault"), &changed).unwrap();
        assert!(here.all().is_err());
        for damaged in [&b""[..], b"corten credentials 1\n", b"corten credentials 2\nxxxxxxxxxxxxxxxxxx"] {
            std::fs::write(folder.path().join("v/vault"), damaged).unwrap();
            assert!(here.all().is_err());
        }
    }

    #[test]
    fn each_configuration_has_its_own() {
        let home = Path::new("/home/ann");
        assert_eq!(named(Path::new("/home/ann/.docker"), home), None);
        assert_eq!(named(Path::new("/home/ann/.docker/"), home), None);
        let (one, other) =
            (named(Path::new("/job/1"), home).unwrap(), named(Path::new("/job/2"), home).unwrap());
        assert!(one != other && one.starts_with("of-") && one.len() == 35, "{one} {other}");
    }

    #[test]
    fn many_may_change_it_at_once() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let here = vault(folder.path(), b"machine");
                scope.spawn(move || here.put(&format!("r{number}.example"), &secret("x")).unwrap());
            }
        });
        assert_eq!(vault(folder.path(), b"machine").all().unwrap().len(), 8);
        use std::os::unix::fs::PermissionsExt as _;
        for file in ["key", "vault", "lock"] {
            let mode = std::fs::metadata(folder.path().join("v").join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }
}
