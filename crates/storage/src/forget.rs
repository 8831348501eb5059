//! Giving up downloads that were to be gone on with.

use oci::Digest;

use crate::error::Result;
use crate::store::Store;

impl Store {
    /// Throws away what is there of an unfinished download, unless somebody is writing it: on a full disk it would be in the way
    /// of everything else.
    pub fn forget_ingest(&self, digest: &Digest) -> Result<()> {
        let Some(_claim) = self.claim(digest.as_str()) else { return Ok(()) };
        self.discard(&self.path("content/ingest").join(format!("{}-{}", digest.algorithm(), digest.hex())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::content::Expected;

    #[test]
    fn what_is_forgotten_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let lease = store.lease("test", Duration::from_secs(60)).unwrap();
        let digest = Digest::from_sha256([1; 32]);
        let expected = Expected { digest: digest.clone(), size: 10, media_type: String::new() };
        let mut ingest = store.ingest(&lease, expected.clone()).unwrap();
        ingest.write(b"half").unwrap();
        // Not while somebody writes it.
        store.forget_ingest(&digest).unwrap();
        drop(ingest);
        let ingest = store.ingest(&lease, expected.clone()).unwrap();
        assert_eq!(ingest.offset(), 4);
        drop(ingest);
        store.forget_ingest(&digest).unwrap();
        assert_eq!(store.ingest(&lease, expected).unwrap().offset(), 0);
        store.forget_ingest(&Digest::from_sha256([2; 32])).unwrap();
    }
}
