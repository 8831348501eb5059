use super::*;
use proptest::prelude::*;
use std::fs;

fn log_in(dir: &std::path::Path, max_size: u64, max_files: u32) -> Log {
    let path = dir.join("json.log").to_str().expect("utf8").to_owned();
    Log::open(&launch::Log { path, max_size, max_files, ..launch::Log::default() }).expect("open")
}

fn content(dir: &std::path::Path) -> String {
    fs::read_to_string(dir.join("json.log")).expect("read")
}

#[test]
fn lines_streams_and_times() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = log_in(dir.path(), 0, 1);
    log.write(Source::Stdout, b"one\ntw", 1_000_000_000);
    log.write(Source::Stderr, b"err<\n", 2_500_000_000);
    log.write(Source::Stdout, b"o\nlast", 3_000_000_001);
    log.finish(Source::Stdout, 4_000_000_000);
    log.finish(Source::Stderr, 4_000_000_000);
    assert_eq!(
        content(dir.path()),
        concat!(
            "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01Z\"}\n",
            "{\"log\":\"err\\u003c\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:02.5Z\"}\n",
            "{\"log\":\"two\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:03.000000001Z\"}\n",
            "{\"log\":\"last\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:04Z\"}\n",
        )
    );
}

#[test]
fn attributes_come_before_the_time() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("json.log").to_str().expect("utf8").to_owned();
    let attrs = b"{\"tag\":\"x\"}".to_vec();
    let mut log =
        Log::open(&launch::Log { path, max_size: 0, max_files: 1, attrs, ..launch::Log::default() })
            .expect("open");
    log.write(Source::Stdout, b"a\n", 0);
    assert_eq!(
        content(dir.path()),
        "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"x\"},\"time\":\"1970-01-01T00:00:00Z\"}\n"
    );
}

#[test]
fn long_lines_are_cut_at_sixteen_kibibytes_between_characters() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = log_in(dir.path(), 0, 1);
    let mut bytes = vec![b'x'; MAX_ENTRY];
    bytes.push(b'\n');
    log.write(Source::Stdout, &bytes, 0);
    let mut text = "x".repeat(MAX_ENTRY - 1);
    text.push_str("日\n");
    log.write(Source::Stdout, &text.as_bytes()[..100], 0);
    log.write(Source::Stdout, &text.as_bytes()[100..], 0);
    let lengths: Vec<usize> = content(dir.path())
        .lines()
        .map(|l| l.strip_prefix("{\"log\":\"").expect("prefix").find('"').expect("end"))
        .collect();
    // The last is the character of three bytes and an escaped line feed.
    assert_eq!(lengths, [MAX_ENTRY, 2, MAX_ENTRY - 1, 5]);
    assert!(content(dir.path()).contains("日\\n"));
}

#[test]
fn rotation_keeps_every_line_whole_and_in_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = log_in(dir.path(), 1000, 3);
    for number in 0..35 {
        log.write(Source::Stdout, format!("line {number}\n").as_bytes(), 0);
    }
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .expect("list")
        .map(|e| e.expect("entry").file_name().into_string().expect("utf8"))
        .collect();
    names.sort();
    assert_eq!(names, ["json.log", "json.log.1", "json.log.2"]);
    let mut all = String::new();
    for name in names.iter().rev() {
        let text = fs::read_to_string(dir.path().join(name)).expect("read");
        assert!(text.ends_with("}\n") && text.len() < 1100);
        all.push_str(&text);
    }
    let numbers: Vec<u32> = all
        .lines()
        .map(|l| l["{\"log\":\"line ".len()..].split('\\').next().expect("one").parse().expect("number"))
        .collect();
    assert_eq!(*numbers.last().expect("last"), 34);
    assert!(numbers.len() > 20 && numbers.windows(2).all(|w| w[0] + 1 == w[1]));
}

#[test]
fn a_torn_line_of_a_dead_writer_is_ended() {
    let dir = tempfile::tempdir().expect("tempdir");
    fs::write(dir.path().join("json.log"), "{\"log\":\"to").expect("write");
    let mut log = log_in(dir.path(), 0, 1);
    log.write(Source::Stdout, b"a\n", 0);
    assert_eq!(content(dir.path()).lines().count(), 2);
}

#[test]
fn a_full_disk_loses_entries_and_says_so() {
    let path = "/dev/full".to_owned();
    let mut log =
        Log::open(&launch::Log { path, max_size: 0, max_files: 1, ..launch::Log::default() }).expect("open");
    log.write(Source::Stdout, b"a\n", 0);
    assert!(log.lost() > 0);
}

proptest! {
    #[test]
    fn cutting_input_anywhere_gives_the_same_lines(
        bytes in proptest::collection::vec(prop_oneof![4 => Just(b'\n'), 30 => any::<u8>()], 0..2000),
        cuts in proptest::collection::vec(0_usize..2000, 0..6),
    ) {
        let whole = tempfile::tempdir().expect("tempdir");
        let mut log = log_in(whole.path(), 0, 1);
        log.write(Source::Stdout, &bytes, 0);
        log.finish(Source::Stdout, 0);
        let parts = tempfile::tempdir().expect("tempdir");
        let mut log = log_in(parts.path(), 0, 1);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            log.write(Source::Stdout, &bytes[pair[0]..pair[1]], 0);
        }
        log.finish(Source::Stdout, 0);
        prop_assert_eq!(content(whole.path()), content(parts.path()));
    }
}
