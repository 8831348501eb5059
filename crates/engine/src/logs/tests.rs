use super::*;
use futures_util::StreamExt as _;
use shim::log::{Log, Source};
use std::path::Path;

fn writer(dir: &Path, max_size: u64, max_files: u32) -> Log {
    let path = dir.join("json.log").to_str().expect("utf8").to_owned();
    Log::open(&shim::launch::Log { path, max_size, max_files, ..shim::launch::Log::default() }).expect("open")
}

async fn read(dir: &Path, query: Query) -> String {
    let (_sender, ended) = watch::channel(true);
    let pieces: Vec<_> = stream(dir.join("json.log"), query, ended).collect().await;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.expect("piece")).collect();
    String::from_utf8(bytes).expect("utf8")
}

fn plain() -> Query {
    Query { framed: false, ..Query::default() }
}

fn lines(log: &mut Log, range: std::ops::Range<u32>) {
    for number in range {
        log.write(Source::Stdout, format!("line {number}\n").as_bytes(), i64::from(number) * 1_000_000_000);
    }
}

fn expected(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

#[tokio::test]
async fn selections_over_rotated_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    assert_eq!(read(dir.path(), plain()).await, "");
    let mut log = writer(dir.path(), 10_000, 100);
    lines(&mut log, 0..1000);
    assert!(dir.path().join("json.log.3").exists());
    assert_eq!(read(dir.path(), plain()).await, expected(0..1000));
    for tail in [0, 1, 5, 500, 999, 1000, 2000] {
        let text = read(dir.path(), Query { tail: Some(tail), ..plain() }).await;
        let tail = u32::try_from(tail).expect("small");
        assert_eq!(text, expected(1000_u32.saturating_sub(tail)..1000), "tail {tail}");
    }
    let at = |seconds: i64| Some(seconds * 1_000_000_000);
    let text = read(dir.path(), Query { since: at(990), ..plain() }).await;
    assert_eq!(text, expected(990..1000));
    let text = read(dir.path(), Query { until: at(9), ..plain() }).await;
    assert_eq!(text, expected(0..10));
    let text = read(dir.path(), Query { since: at(10), until: at(11), timestamps: true, ..plain() }).await;
    assert_eq!(text, "1970-01-01T00:00:10.000000000Z line 10\n1970-01-01T00:00:11.000000000Z line 11\n");
    assert_eq!(read(dir.path(), Query { stdout: false, ..plain() }).await, "");
}

#[tokio::test]
async fn following_across_rotation_until_the_end() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("json.log");
    let mut log = writer(dir.path(), 20_000, 1000);
    lines(&mut log, 0..10);
    let (sender, ended) = watch::channel(false);
    let query = Query { follow: true, tail: Some(2), ..plain() };
    let mut stream = Box::pin(stream(path, query, ended));
    // With its first piece the follower's place is fixed.
    assert_eq!(stream.next().await.expect("piece").expect("read"), expected(8..10).as_bytes());
    let follower = tokio::spawn(async move {
        let pieces: Vec<_> = stream.collect().await;
        pieces.into_iter().flat_map(|piece| piece.expect("piece")).collect::<Vec<u8>>()
    });
    let writing = tokio::task::spawn_blocking(move || lines(&mut log, 10..20_000));
    writing.await.expect("writer");
    sender.send(true).expect("send");
    let text = String::from_utf8(follower.await.expect("follower")).expect("utf8");
    assert!(text == expected(10..20_000), "{} bytes", text.len());
}

#[tokio::test]
async fn following_wakes_for_a_new_line_and_for_the_end() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = writer(dir.path(), 0, 1);
    let (sender, ended) = watch::channel(false);
    let query = Query { follow: true, ..plain() };
    let mut stream = std::pin::pin!(stream(dir.path().join("json.log"), query, ended));
    for number in 0..5 {
        lines(&mut log, number..number + 1);
        let piece = stream.next().await.expect("piece").expect("read");
        assert_eq!(piece, expected(number..number + 1).as_bytes());
    }
    log.write(Source::Stdout, b"unfinished", 0);
    log.finish(Source::Stdout, 0);
    sender.send(true).expect("send");
    assert_eq!(stream.next().await.expect("piece").expect("read"), b"unfinished"[..]);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn following_ends_at_its_time() {
    let dir = tempfile::tempdir().expect("tempdir");
    let _log = writer(dir.path(), 0, 1);
    let (_sender, ended) = watch::channel(false);
    let until = Some(sys::timer::realtime_ns() + 20_000_000);
    let mut stream =
        std::pin::pin!(stream(dir.path().join("json.log"), Query { follow: true, until, ..plain() }, ended));
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn torn_and_foreign_lines_hurt_nobody() {
    let dir = tempfile::tempdir().expect("tempdir");
    let line = |text: &str| {
        format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}}\n")
    };
    let long = "x".repeat(3 << 20);
    let text = format!("{}{{\"log\":\"to\n{}{long}\n{}{{\"log\":\"half", line("a"), line("b"), line("c"));
    std::fs::write(dir.path().join("json.log"), text).expect("write");
    assert_eq!(read(dir.path(), plain()).await, "a\nb\nc\n");
    assert_eq!(read(dir.path(), Query { tail: Some(1), ..plain() }).await, "c\n");
}

/// What this thread has used of a processor, in seconds: unlike the clock, it leaves out what else the machine does.
fn own_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    text.split(' ').next().expect("first").parse::<f64>().expect("number") / 1e9
}

#[test]
fn speed_of_reading() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = writer(dir.path(), 0, 1);
    let block = "a line of sixty-four bytes, which is what programs tend to write\n".repeat(1000);
    let mut payload = 0;
    while payload < 50_000_000 {
        log.write(Source::Stdout, block.as_bytes(), 1);
        payload += block.len();
    }
    let (begin, before) = (std::time::Instant::now(), own_time());
    let mut reader = Reader::open(dir.path().join("json.log"), Query::default()).expect("open");
    let mut total = 0;
    let mut out = Vec::new();
    loop {
        out.clear();
        let step = reader.fill(&mut out).expect("fill");
        total += out.len();
        if step == Step::CaughtUp {
            break;
        }
    }
    let (seconds, used) = (begin.elapsed().as_secs_f64(), own_time() - before);
    println!(
        "read back 50 MB: {:.0} MB/s by the clock, {:.0} MB/s by the thread's own time",
        50.0 / seconds,
        50.0 / used
    );
    assert_eq!(total, payload + payload / 65 * 8);
}
