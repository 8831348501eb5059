use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;

fn stat(path: &str, mode: u32, size: i64, mod_time: i64) -> Packet {
    let stat = Stat { path: path.to_owned(), mode, size, mod_time, ..Stat::default() };
    Packet { stat: Some(stat), ..Packet::default() }
}

fn link(path: &str, mode: u32, target: &str) -> Packet {
    let mut packet = stat(path, mode, 0, 0);
    packet.stat.as_mut().unwrap().linkname = target.to_owned();
    packet
}

fn end() -> Packet {
    Packet::default()
}

fn data(id: u32, data: &[u8]) -> Packet {
    Packet { r#type: PacketType::PacketData.into(), id, data: data.to_vec(), ..Packet::default() }
}

fn fin() -> Packet {
    Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() }
}

fn tree(path: &Path) -> Tree {
    Tree::new(fsx::open_dir(path).unwrap()).unwrap()
}

/// Sends packets, and gives all answers.
fn send(path: &Path, packets: Vec<Packet>) -> Result<Vec<Answer>> {
    let mut tree = tree(path);
    let mut answers = Vec::new();
    for packet in packets {
        answers.extend(tree.take(packet)?);
    }
    Ok(answers)
}

#[test]
fn a_directory_comes_over_and_the_second_time_only_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let first = vec![
        stat("a", 0o600, 5, 1_500_000_000),
        stat("d", DIRECTORY | 0o755, 0, 3_000_000_000),
        stat("d/empty", 0o644, 0, 7),
        stat("d/x", 0o755, 2, 9),
        data(0, b"hel"),
        data(0, b"lo"),
        data(0, b""),
        link("l", SYMLINK | 0o777, "/etc/passwd"),
        end(),
        data(3, b"xx"),
        data(3, b""),
        fin(),
    ];
    let answers = send(dir.path(), first).unwrap();
    assert_eq!(answers, [Answer::Want(0), Answer::Want(3), Answer::Finish]);
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"hello");
    let a = fs::metadata(dir.path().join("a")).unwrap();
    assert_eq!((a.permissions().mode() & 0o7777, a.mtime(), a.mtime_nsec()), (0o600, 1, 500_000_000));
    assert_eq!(fs::metadata(dir.path().join("d")).unwrap().mtime(), 3);
    assert_eq!(fs::read_link(dir.path().join("l")).unwrap(), Path::new("/etc/passwd"));

    // What was not told of again goes; a file becomes a directory; what is the same is not asked for.
    let second = vec![
        stat("a", 0o600, 5, 1_500_000_000),
        stat("d", DIRECTORY | 0o700, 0, 4_000_000_000),
        stat("d/x", DIRECTORY | 0o755, 0, 9),
        stat("d/x/y", 0o644, 1, 1),
        end(),
        data(3, b"y"),
        data(3, b""),
        fin(),
    ];
    let answers = send(dir.path(), second).unwrap();
    assert_eq!(answers, [Answer::Want(3), Answer::Finish]);
    assert_eq!(fs::read(dir.path().join("d/x/y")).unwrap(), b"y");
    assert!(!dir.path().join("l").exists() && !dir.path().join("d/empty").exists());
    assert_eq!(fs::metadata(dir.path().join("d")).unwrap().mtime(), 4);
}

#[test]
fn a_file_that_did_not_come_whole_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let head = || vec![stat("a", 0o644, 4, 5), end()];
    let broken: Vec<_> = head().into_iter().chain([data(0, b"ab")]).collect();
    send(dir.path(), broken).unwrap();
    assert_eq!(send(dir.path(), head()).unwrap(), [Answer::Want(0)]);
    // Also one that has its length, but not yet its time.
    let broken: Vec<_> = head().into_iter().chain([data(0, b"abcd")]).collect();
    send(dir.path(), broken).unwrap();
    assert_eq!(send(dir.path(), head()).unwrap(), [Answer::Want(0)]);
}

#[test]
fn further_names_lead_to_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let packets =
        || vec![stat("a", 0o644, 1, 5), link("b", 0o644, "a"), end(), data(0, b"x"), data(0, b""), fin()];
    send(dir.path(), packets()).unwrap();
    let number = |name: &str| fs::metadata(dir.path().join(name)).unwrap().ino();
    assert_eq!(number("a"), number("b"));
    // The second time nothing comes, and nothing is made anew.
    let before = number("b");
    assert_eq!(send(dir.path(), packets()[..3].to_vec()).unwrap(), [Answer::Finish]);
    assert_eq!(number("b"), before);
    // The names part again: the one that changed does not change the other.
    let parted =
        vec![stat("a", 0o644, 1, 5), stat("b", 0o644, 1, 6), end(), data(1, b"y"), data(1, b""), fin()];
    send(dir.path(), parted).unwrap();
    assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"x");
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"y");
    // A name of what is no file is none.
    for target in ["d", "s", "nothing"] {
        let wrong = vec![
            stat("d", DIRECTORY | 0o755, 0, 0),
            link("s", SYMLINK | 0o777, "/etc/passwd"),
            link("z", 0o644, target),
            end(),
        ];
        assert!(send(dir.path(), wrong).is_err(), "{target}");
    }
}

#[test]
fn links_of_the_client_are_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "canary").unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    // A link cannot be a directory of what follows, neither one that just came nor one that was there.
    let through = vec![link("l", SYMLINK | 0o777, &target), stat("l/victim", 0o644, 1, 1)];
    assert!(send(dir.path(), through).is_err());
    std::os::unix::fs::symlink(&target, dir.path().join("k")).unwrap();
    let over = vec![
        stat("k", DIRECTORY | 0o755, 0, 1),
        stat("k/victim", 0o644, 1, 1),
        end(),
        data(1, b"x"),
        data(1, b""),
        fin(),
    ];
    send(dir.path(), over).unwrap();
    assert!(fs::symlink_metadata(dir.path().join("k")).unwrap().is_dir());
    // A file is made anew where a link was.
    std::os::unix::fs::symlink(outside.path().join("victim"), dir.path().join("f")).unwrap();
    send(dir.path(), vec![stat("f", 0o644, 1, 1), end(), data(0, b"x"), data(0, b""), fin()]).unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "canary");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn what_the_protocol_does_not_allow_is_refused() {
    let refused = |packets: Vec<Packet>| {
        let dir = tempfile::tempdir().unwrap();
        send(dir.path(), packets).unwrap_err().to_string()
    };
    let twice = vec![stat("a", 0o644, 0, 0), stat("a", 0o644, 0, 0)];
    assert!(refused(twice).contains("twice"));
    assert!(refused(vec![stat("d/a", 0o644, 0, 0)]).contains("without its directory"));
    let back = vec![stat("d", DIRECTORY | 0o755, 0, 0), stat("e", 0o644, 0, 0), stat("d/a", 0o644, 0, 0)];
    assert!(refused(back).contains("without its directory"));
    assert!(refused(vec![data(0, b"x")]).contains("not asked for"));
    assert!(refused(vec![fin()]).contains("before all was sent"));
    assert!(refused(vec![end(), end()]).contains("twice"));
    assert!(refused(vec![end(), stat("a", 0o644, 0, 0)]).contains("behind the last"));
    let error =
        Packet { r#type: PacketType::PacketErr.into(), data: b"no such dir".to_vec(), ..Packet::default() };
    assert!(refused(vec![error]).contains("no such dir"));
    assert!(refused(vec![Packet { r#type: 9, ..Packet::default() }]).contains("only we"));
    let unreadable = vec![stat("secret", 0o600, 7, 1), data(0, b"")];
    assert!(refused(unreadable).contains("cannot read it"));
}

#[test]
fn what_is_told_of_files_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(dir.path());
    let mut path = String::new();
    for _ in 0..15 {
        path.push_str(&"d".repeat(250));
        tree.take(stat(&path, DIRECTORY | 0o755, 0, 0)).unwrap();
        path.push('/');
    }
    // Sockets are counted, and not made.
    let socket = |number| stat(&format!("{path}{number}"), 1 << 24, 0, 0);
    let error = (0..ENTRIES_MAX).find_map(|number| tree.take(socket(number)).err()).unwrap();
    assert!(error.to_string().contains(".dockerignore"), "{error}");
    assert!(tree.next < 40_000, "{} entries were taken", tree.next);
}

#[test]
fn attributes_do_not_wait_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(dir.path());
    for number in 0..200 {
        let mut packet = stat(&format!("f{number:04}"), 0o644, 1, 1);
        packet.stat.as_mut().unwrap().xattrs.insert("user.note".to_owned(), vec![b'n'; 2000]);
        tree.take(packet).unwrap();
    }
    let waiting = tree.awaited.iter().map(|one| &one.entry);
    let held = waiting.chain(tree.coming.values().map(|one| &one.entry)).map(|entry| entry.attributes.len());
    assert_eq!(held.sum::<usize>(), 0);
    let file =
        fsx::open_regular_at(fsx::open_dir(dir.path()).unwrap(), std::ffi::OsStr::new("f0199")).unwrap();
    let value = sys::xattr::get(file, "user.note");
    assert_eq!(value.unwrap().map(|value| value.len()), Some(2000));
}

#[test]
fn only_so_many_files_are_asked_for_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut tree = tree(dir.path());
    let many = u32::try_from(REQUESTS_MAX).unwrap() + 10;
    let mut wanted = Vec::new();
    for number in 0..many {
        wanted.extend(tree.take(stat(&format!("f{number:04}"), 0o644, 1, 1)).unwrap());
    }
    assert_eq!(wanted.len(), REQUESTS_MAX);
    wanted.extend(tree.take(end()).unwrap());
    let mut at = 0;
    while let Some(answer) = wanted.get(at).copied() {
        at += 1;
        let Answer::Want(id) = answer else { break };
        wanted.extend(tree.take(data(id, b"x")).unwrap());
        wanted.extend(tree.take(data(id, b"")).unwrap());
    }
    assert_eq!(wanted.last(), Some(&Answer::Finish));
    tree.take(fin()).unwrap();
    assert!(tree.is_done() && tree.bytes() == u64::from(many));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), many as usize);
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let path = prop::sample::select(vec!["a", "b", "a/b", "a/b/c", "../x", "l", "l/x", "/x", "b/c"]);
    let mode = prop::sample::select(vec![0o644, DIRECTORY | 0o755, SYMLINK | 0o777, 1 << 25 | 0o600]);
    let target = prop::sample::select(vec!["", "a", "../x", "/tmp", "b"]);
    prop_oneof![
        6 => (path, mode, target, 0..3i64).prop_map(|(path, mode, target, size)| {
            let mut packet = stat(path, mode, size, 1);
            packet.stat.as_mut().unwrap().linkname = target.to_owned();
            packet
        }),
        3 => (0..4u32, 0..3usize).prop_map(|(id, length)| data(id, &vec![b'x'; length])),
        1 => Just(end()),
        1 => Just(fin()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_is_made_outside(packets in prop::collection::vec(any_packet(), 0..24)) {
        let world = tempfile::tempdir().unwrap();
        fs::write(world.path().join("x"), "canary").unwrap();
        let inside = world.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let _ = send(&inside, packets);
        prop_assert_eq!(fs::read_to_string(world.path().join("x")).unwrap(), "canary");
        prop_assert_eq!(fs::read_dir(world.path()).unwrap().count(), 2);
    }
}
