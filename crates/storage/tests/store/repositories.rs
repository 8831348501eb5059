//! Repositories over the same blobs as images, and uploads that outlive the process.

use std::collections::BTreeMap;
use std::time::Duration;

use oci::Digest;
use storage::{CheckOptions, Content, Error, Expected, NewManifest, Pruning, Store};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const AT_ONCE: Pruning = Pruning { untagged: true, grace: Duration::ZERO };

fn digest(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

fn push(store: &Store, repository: &str, bytes: &[u8]) -> Digest {
    let mut upload = store.begin_upload(repository).expect("an upload");
    upload.write(bytes).expect("write");
    upload.commit(&digest(bytes)).expect("commit");
    digest(bytes)
}

fn manifest(text: &str, parts: &[(&Digest, u64, &str)]) -> NewManifest {
    let content = |(digest, size, media_type): &(&Digest, u64, &str)| Content {
        digest: (*digest).clone(),
        size: *size,
        media_type: (*media_type).to_owned(),
        required: true,
    };
    NewManifest {
        digest: digest(text.as_bytes()),
        media_type: MANIFEST.to_owned(),
        bytes: text.into(),
        contents: parts.iter().map(content).collect(),
        subject: None,
        artifact_type: String::new(),
        annotations: BTreeMap::new(),
    }
}

fn assert_whole(store: &Store) {
    let mut options = CheckOptions { quick: false, progress: &mut |_| true };
    let checked = store.check(&mut options).expect("a check");
    assert!(checked.is_clean(), "{:?}", checked.problems);
}

fn files(store: &Store, below: &str) -> usize {
    std::fs::read_dir(store.root().join(below)).expect("a folder").count()
}

#[test]
fn uploads_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut upload = store.begin_upload("a").unwrap();
    upload.write(b"01234").unwrap();
    let id = upload.id().to_owned();
    assert!(matches!(store.resume_upload("a", &id), Err(Error::InUse { .. })));
    assert!(store.resume_upload("b", &id).unwrap_err().is_not_found());
    drop(upload);
    assert_whole(&store);
    drop(store);
    // A file without a row, and a row without a file: what a process leaves that dies between the two.
    let lost = "f".repeat(32);
    std::fs::write(dir.path().join("content/uploads").join(&lost), "x").unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(files(&store, "content/uploads"), 1);
    assert_eq!(store.upload_size("a", &id).unwrap(), 5);
    let mut upload = store.resume_upload("a", &id).unwrap();
    upload.write(b"56789").unwrap();
    assert_eq!(upload.commit(&digest(b"0123456789")).unwrap(), 10);
    assert_eq!(files(&store, "content/uploads"), 0);
    let gone = store.begin_upload("a").unwrap().id().to_owned();
    std::fs::remove_file(dir.path().join("content/uploads").join(&gone)).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(store.upload_size("a", &gone).unwrap_err().is_not_found());
}

#[test]
fn uploads_expire_unless_somebody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let held = store.begin_upload("a").unwrap();
    drop(store.begin_upload("a").unwrap());
    assert_eq!(store.expire_uploads(Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(store.expire_uploads(Duration::ZERO).unwrap(), 1);
    drop(held);
    assert_eq!(store.expire_uploads(Duration::ZERO).unwrap(), 1);
}

#[test]
fn one_repository_does_not_take_all_uploads() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let begin = |repository: &str, bytes: &[u8]| {
        let mut upload = store.begin_upload(repository)?;
        upload.write(bytes)?;
        Ok::<_, Error>(upload.id().to_owned())
    };
    let of_one = storage::REPOSITORY_UPLOADS_MAX;
    let begun: Vec<String> = (0..of_one).map(|n| begin("a", &b"x"[..n % 2]).unwrap()).collect();
    let is_there = |id: &str| store.upload_size("a", id).is_ok();
    // Those that wait for their first byte make room, the oldest first; bytes that came stay.
    begin("a", b"x").unwrap();
    assert_eq!((is_there(&begun[0]), is_there(&begun[1]), is_there(&begun[2])), (false, true, true));
    for _ in 1..of_one / 2 {
        begin("a", b"x").unwrap();
    }
    assert_eq!(begun.iter().filter(|id| is_there(id)).count(), of_one / 2);
    assert!(matches!(begin("a", b"x"), Err(Error::Limit { limit, .. }) if limit == of_one as u64));
    begin("b", b"x").unwrap();
    assert_eq!(files(&store, "content/uploads"), of_one + 1);
}

#[test]
fn an_upload_that_is_written_to_makes_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let held: Vec<_> =
        (0..storage::REPOSITORY_UPLOADS_MAX).map(|_| store.begin_upload("a").unwrap()).collect();
    assert!(matches!(store.begin_upload("a"), Err(Error::Limit { .. })));
    drop(held);
    drop(store.begin_upload("a").unwrap());
}

#[test]
fn all_uploads_have_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut first = None;
    for n in 0..storage::UPLOADS_MAX {
        let upload = store.begin_upload(&format!("r{}", n % 32)).unwrap();
        first.get_or_insert_with(|| upload.id().to_owned());
    }
    drop(store.begin_upload("other").unwrap());
    assert_eq!(files(&store, "content/uploads"), storage::UPLOADS_MAX);
    assert!(store.upload_size("r0", &first.unwrap()).unwrap_err().is_not_found());
}

#[test]
fn a_blob_lives_as_long_as_anybody_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let blob = push(&store, "a", b"shared");
    push(&store, "b", b"shared");
    let lease = store.lease("an engine", Duration::from_secs(60)).unwrap();
    let expected = Expected { digest: blob.clone(), size: 6, media_type: LAYER.to_owned() };
    assert!(matches!(store.ingest(&lease, expected), Err(Error::Exists { .. })), "the engine finds it");
    let mine = |name: &str| store.transaction(|tx| tx.repository_blob(name, &blob)).unwrap();
    assert_eq!((mine("a"), mine("b"), mine("c")), (Some(6), Some(6), None));
    store.prune_repositories(AT_ONCE).unwrap();
    assert_eq!((mine("a"), mine("b")), (None, None));
    assert_whole(&store);
    store.gc().unwrap();
    assert!(store.blob_info(&blob).unwrap().is_some(), "the lease keeps it");
    drop(lease);
    store.gc().unwrap();
    assert!(store.blob_info(&blob).unwrap().is_none());
}

#[test]
fn manifests_keep_what_they_need() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let blob = push(&store, "a", b"layer");
    let one = manifest("{1}", &[(&blob, 5, LAYER)]);
    assert!(
        store.put_manifest("b", &one, Some("t")).unwrap_err().is_not_found(),
        "another repository has the blob"
    );
    let lie = manifest("{2}", &[(&blob, 6, LAYER)]);
    assert!(matches!(store.put_manifest("a", &lie, None), Err(Error::SizeMismatch { .. })));
    let mut wrong = one.clone();
    wrong.bytes = b"{3}".to_vec();
    assert!(matches!(store.put_manifest("a", &wrong, None), Err(Error::DigestMismatch { .. })));
    assert_eq!(files(&store, "content/new"), 0);
    store.put_manifest("a", &one, Some("t")).unwrap();
    // A manifest cannot be a layer of another.
    push(&store, "a", b"{1}");
    let mixed = manifest("{4}", &[(&one.digest, 3, LAYER)]);
    assert!(matches!(store.put_manifest("a", &mixed, None), Err(Error::TwoMeanings { .. })));
    store.prune_repositories(AT_ONCE).unwrap();
    store.gc().unwrap();
    assert_whole(&store);
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.transaction(|tx| tx.tagged("a", "t")).unwrap(), Some(one.digest.clone()));
    assert_eq!(store.read_blob(&blob, 10).unwrap(), b"layer");
    assert!(store.durable_transaction(|tx| tx.remove_tag("a", "t")).unwrap());
    let pruned = store.prune_repositories(AT_ONCE).unwrap();
    assert_eq!((pruned.manifests, pruned.blobs, pruned.repositories), (1, 1, 1));
    assert_eq!(store.gc().unwrap().blobs, 2);
    assert_whole(&store);
}

#[test]
fn pages_of_referrers_are_read_no_further_than_they_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let subject = digest(b"subject");
    let put = |n: u8, annotation: usize| {
        let mut about = manifest(&format!("{{{n}}}"), &[]);
        about.subject = Some(subject.clone());
        about.annotations.insert("note".to_owned(), "x".repeat(annotation));
        store.put_manifest("a", &about, None).unwrap();
    };
    (0..10).for_each(|n| put(n, 10_000));
    put(10, 1 << 20);
    let list =
        |count, bytes| store.transaction(|tx| tx.referrers("a", &subject, None, "", (count, bytes))).unwrap();
    let whole = list(100, 1 << 20);
    // One that says too much is listed, without what it says.
    let silent = whole.iter().filter(|about| about.annotations.is_empty()).count();
    assert_eq!((whole.len(), silent), (11, 1));
    assert!(whole.iter().all(|about| about.annotations.values().all(|text| text.len() == 10_000)));
    // The one that is too many is among them, and no more.
    assert_eq!(list(3, 1 << 20).len(), 4);
    assert!((3..=4).contains(&list(100, 25_000).len()));
    assert_eq!(list(100, 0).len(), 1);
    let loud = whole[0].manifest.digest.as_str();
    let rest = store.transaction(|tx| tx.referrers("a", &subject, None, loud, (100, 1 << 20))).unwrap();
    assert_eq!(rest, whole[1..]);
}
