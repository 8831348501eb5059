//! What comes a second time, and what was mended meanwhile.

use std::fs;
use std::time::Duration;

use storage::{CheckOptions, Progress, Store};

#[test]
fn a_blob_that_is_on_the_disk_is_left_there() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let digest = store.put_blob(&lease, "", b"content").unwrap();
    store.flush().unwrap();
    let path = dir.path().join("content/blobs/sha256").join(digest.hex());
    let before = fs::metadata(&path).unwrap().ino();
    store.put_blob(&lease, "", b"content").unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
    assert_eq!(fs::read_dir(dir.path().join("content/new")).unwrap().count(), 0);
    // One that is damaged in its length is replaced.
    fs::write(&path, "con").unwrap();
    store.put_blob(&lease, "", b"content").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"content");
}

#[test]
fn what_has_been_mended_since_it_was_read_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let lease = store.lease("test", Duration::from_secs(60)).unwrap();
    let digests =
        [&b"content one"[..], b"content two"].map(|bytes| store.put_blob(&lease, "", bytes).unwrap());
    let paths = digests.each_ref().map(|digest| dir.path().join("content/blobs/sha256").join(digest.hex()));
    let whole = paths.each_ref().map(|path| fs::read(path).unwrap());
    paths.iter().for_each(|path| fs::write(path, "content ???").unwrap());
    // Both have been found damaged but for the last, which is read from where it was: mend the one that was read first.
    let mut read = 0;
    let mut first = None;
    let mut progress = |_: Progress| {
        read += 1;
        // Blobs are read in the order of their digests.
        let lower = usize::from(digests[1].as_str() < digests[0].as_str());
        if read == 2 {
            fs::write(&paths[lower], &whole[lower]).unwrap();
            first = Some(lower);
        }
        true
    };
    let (found, left) = store.repair(&mut CheckOptions { quick: false, progress: &mut progress }).unwrap();
    assert_eq!((found.problems.len(), left.problems.len()), (2, 0));
    let mended = first.unwrap();
    assert!(store.blob_info(&digests[mended]).unwrap().is_some());
    assert!(store.blob_info(&digests[1 - mended]).unwrap().is_none());
}
