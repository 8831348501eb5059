//! What secrets are encrypted with.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{Error, Result};

/// What the derived key is for.
const PURPOSE: &[u8] = b"corten secrets 1";
const KEY_BYTES: usize = 32;
/// What tells this machine from others.
const MACHINE: &str = "/etc/machine-id";

/// The key's place; it is made when the first secret is.
#[derive(Debug, Clone)]
pub struct Key {
    directory: PathBuf,
    machine: Vec<u8>,
}

impl Key {
    /// The key in a directory.
    pub fn at(directory: PathBuf) -> Self {
        // Where there is no name for the machine, the random key stands alone.
        Self { directory, machine: std::fs::read(MACHINE).unwrap_or_default() }
    }

    /// Encrypts what only the secret of that name may be.
    pub fn seal(&self, name: &str, data: &[u8]) -> Result<Vec<u8>> {
        let cipher = self.cipher(&self.made()?)?;
        let mut nonce = [0; NONCE_LEN];
        fill(&mut nonce)?;
        let mut content = data.to_vec();
        cipher
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut content)
            .map_err(|_| Error::system("a secret cannot be encrypted"))?;
        Ok([&nonce[..], &content].concat())
    }

    /// Decrypts it.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let foreign = || {
            Error::system(format!(
                "cannot read secret {name}: it was written with another key, or on another machine"
            ))
        };
        let path = self.directory.join("key");
        let key = read(&path)?
            .ok_or_else(|| Error::system(format!("the key of secrets is gone: {}", path.display())))?;
        let (nonce, content) = sealed.split_at_checked(NONCE_LEN).ok_or_else(foreign)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| foreign())?;
        let mut content = content.to_vec();
        let length = self
            .cipher(&key)?
            .open_in_place(nonce, Aad::from(name), &mut content)
            .map_err(|_| foreign())?
            .len();
        content.truncate(length);
        Ok(content)
    }

    fn cipher(&self, key: &[u8]) -> Result<LessSafeKey> {
        let unusable = |_| Error::system("the key of secrets cannot be used");
        let derived = Salt::new(HKDF_SHA256, &self.machine).extract(key);
        let derived = derived.expand(&[PURPOSE], &CHACHA20_POLY1305).map_err(unusable)?;
        Ok(LessSafeKey::new(UnboundKey::from(derived)))
    }

    /// The random key, made if there is none.
    fn made(&self) -> Result<Vec<u8>> {
        let path = self.directory.join("key");
        if let Some(key) = read(&path)? {
            return Ok(key);
        }
        let error = |e| Error::io("write", &path, e);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(error)?;
        let mut key = vec![0; KEY_BYTES];
        fill(&mut key)?;
        let new = self.directory.join(format!("key.{}", crate::names::new_id()?));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(error)?;
        file.write_all(&key).and_then(|()| file.sync_all()).map_err(error)?;
        // Somebody else may have made one at this moment: theirs counts.
        let linked = std::fs::hard_link(&new, &path);
        let _ = std::fs::remove_file(&new);
        match linked {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(error(e)),
            _ => File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(error)?,
        }
        read(&path)?.ok_or_else(|| Error::system("the key of secrets is gone again"))
    }
}

fn fill(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| Error::system("the system has no random numbers"))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    let mut bytes = Vec::new();
    file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path, e))?;
    if bytes.len() == KEY_BYTES {
        Ok(Some(bytes))
    } else {
        Err(Error::system(format!("{} is no key", path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_by_its_name_on_its_machine() {
        let dir = tempfile::tempdir().unwrap();
        let key = Key { directory: dir.path().join("k"), machine: b"here".to_vec() };
        let sealed = key.seal("a", b"text").unwrap();
        assert_eq!(key.open("a", &sealed).unwrap(), b"text");
        assert!(key.open("b", &sealed).is_err());
        let elsewhere = Key { machine: b"there".to_vec(), ..key.clone() };
        assert!(elsewhere.open("a", &sealed).unwrap_err().to_string().contains("another machine"));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert!(key.open("a", &changed).is_err() && key.open("a", b"short").is_err());
        assert_ne!(sealed, key.seal("a", b"text").unwrap());
    }
}
