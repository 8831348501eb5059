//! A password file as `htpasswd -B` writes it: `name:$2y$…`, one user a line.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, TryAcquireError};

use super::Error;

/// Ten thousand users fit; more belong into a token server.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The length of a bcrypt hash in its usual spelling.
const HASH_LENGTH: usize = 60;
/// Passwords that are checked at a time: each takes a processor for a while, which is what bcrypt is for.
const CHECKS_MAX: usize = 2;
/// Requests that may be about passwords to be checked at a time. With the costliest hashes that are in use the last of them
/// waits for ten seconds; who comes after it is told to come again.
const WAITING_MAX: usize = 64;
/// Bcrypt takes no more of a password than this: what follows would not count.
const PASSWORD_BYTES_MAX: usize = 72;
/// Right passwords that are remembered, as hashes: clients show theirs with every request.
const REMEMBERED_MAX: usize = 1024;

/// The users of a password file. It is read again when it changes.
pub struct Htpasswd {
    path: PathBuf,
    loaded: Mutex<Loaded>,
    checks: Semaphore,
    waiting: Semaphore,
}

/// So many passwords wait to be checked that one more would wait too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

struct Loaded {
    state: State,
    users: HashMap<String, String>,
    right: HashSet<[u8; 32]>,
}

/// By which a change of a file is seen.
type State = (u64, i64, i64, u64);

impl Htpasswd {
    /// Reads the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let state = state(path).map_err(read)?;
        let users = load(path)?;
        let loaded = Mutex::new(Loaded { state, users, right: HashSet::new() });
        let (checks, waiting) = (Semaphore::new(CHECKS_MAX), Semaphore::new(WAITING_MAX));
        Ok(Self { path: path.to_owned(), loaded, checks, waiting })
    }

    /// Whether the password is the user's. [`Busy`] where too many others are asking.
    pub async fn verify(&self, name: &str, password: &str) -> Result<bool, Busy> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Ok(false);
        }
        let (known, hash) = {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            self.reload(&mut loaded);
            let known = loaded.users.get(name).cloned();
            // Who is not in the file is told so no sooner than who is.
            let other = || loaded.users.values().next().cloned();
            (known.is_some(), known.or_else(other))
        };
        let Some(hash) = hash else { return Ok(false) };
        let key = remembered(name, password, &hash);
        let is_remembered =
            || known && self.loaded.lock().unwrap_or_else(PoisonError::into_inner).right.contains(&key);
        if is_remembered() {
            return Ok(true);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_: TryAcquireError| Busy)?;
        let Ok(_check) = self.checks.acquire().await else { return Ok(false) };
        // Clients send several requests at once; one check is enough for all.
        if is_remembered() {
            return Ok(true);
        }
        let password = password.to_owned();
        let right =
            tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        if !known || !right.unwrap_or(false) {
            return Ok(false);
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.right.len() >= REMEMBERED_MAX {
            loaded.right.clear();
        }
        loaded.right.insert(key);
        Ok(true)
    }

    fn reload(&self, loaded: &mut Loaded) {
        let now = state(&self.path).unwrap_or_default();
        if now == loaded.state {
            return;
        }
        loaded.state = now;
        match load(&self.path) {
            Ok(users) => (loaded.users, loaded.right) = (users, HashSet::new()),
            Err(error) => {
                tracing::warn!(error = crate::error::chain(&error), "the users stay as they were");
            }
        }
    }
}

fn remembered(name: &str, password: &str, hash: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [name, hash, password] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn state(path: &Path) -> std::io::Result<State> {
    let data = fs::metadata(path)?;
    Ok((data.ino(), data.mtime(), data.mtime_nsec(), data.len()))
}

fn load(path: &Path) -> Result<HashMap<String, String>, Error> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|(line, reason)| Error::Line { path: path.to_owned(), line, reason })
}

/// Reads the lines of a password file: names and their hashes, or the first line that is wrong and why.
pub fn parse(text: &str) -> Result<HashMap<String, String>, (usize, &'static str)> {
    let mut users = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |reason| (at + 1, reason);
        let (name, hash) = line.split_once(':').ok_or_else(|| wrong("no colon"))?;
        if name.is_empty() {
            return Err(wrong("no name"));
        }
        let known = ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix));
        if !known || hash.len() != HASH_LENGTH || !hash.is_ascii() {
            return Err(wrong("the password is not hashed by bcrypt: use htpasswd -B"));
        }
        users.insert(name.to_owned(), hash.to_owned());
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn users_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
        fs::write(&path, format!("# staff\nada:{}\n\nbob:{}\n", hash("one"), hash("two"))).unwrap();
        let users = Htpasswd::open(&path).unwrap();
        let verify = async |name: &str, password: &str| users.verify(name, password).await.unwrap();
        assert!(verify("ada", "one").await && verify("ada", "one").await);
        assert!(verify("bob", "two").await);
        assert!(!verify("ada", "two").await && !verify("eve", "one").await);
        fs::write(&path, format!("ada:{}\n", hash("three"))).unwrap();
        assert!(!verify("ada", "one").await && verify("ada", "three").await);
        assert!(!verify("bob", "two").await);
    }

    #[tokio::test]
    async fn passwords_that_bcrypt_would_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        let long = "x".repeat(PASSWORD_BYTES_MAX);
        fs::write(&path, format!("ada:{}\n", bcrypt::hash(&long, 4).unwrap())).unwrap();
        let users = Htpasswd::open(&path).unwrap();
        assert!(!users.verify("ada", &format!("{long}y")).await.unwrap());
        assert!(users.verify("ada", &long).await.unwrap());
    }

    #[tokio::test]
    async fn the_queue_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, format!("ada:{}\n", bcrypt::hash("one", 4).unwrap())).unwrap();
        let users = Htpasswd::open(&path).unwrap();
        assert!(users.verify("ada", "one").await.unwrap());
        let tries = (0..WAITING_MAX + 5).map(|_| users.verify("ada", "wrong"));
        let outcomes = futures_util::future::join_all(tries).await;
        let busy = outcomes.iter().filter(|outcome| **outcome == Err(Busy)).count();
        // A place that has become free meanwhile is somebody's.
        assert!((1..=5).contains(&busy), "{busy}");
        // Others are gone by now; and who is known has not to wait at all.
        assert_eq!(users.verify("ada", "wrong").await, Ok(false));
        let _all = users.waiting.try_acquire_many(u32::try_from(WAITING_MAX).unwrap()).unwrap();
        assert_eq!(
            (users.verify("ada", "wrong").await, users.verify("ada", "one").await),
            (Err(Busy), Ok(true))
        );
    }

    #[test]
    fn lines_that_are_wrong() {
        assert_eq!(parse("ada").unwrap_err(), (1, "no colon"));
        assert_eq!(parse("\n:x").unwrap_err(), (2, "no name"));
        assert_eq!(parse("ada:plain").unwrap_err().0, 1);
        assert!(parse("ada:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=").is_err());
    }
}
