use super::*;
use shim::launch::Log;
use std::fs;

/// The small executable, where a build has left one.
fn supervisor() -> Option<Vec<u8>> {
    let tests = std::env::current_exe().expect("own path");
    let profile = tests.ancestors().nth(2).expect("target directory");
    let found = fs::read(profile.join("examples/standin")).ok();
    if found.is_none() || sys::process::effective_user() != 0 {
        println!("skipped: needs root and the shim's stand-in (cargo build -p shim --example standin)");
        return None;
    }
    found
}

fn launch(dir: &Path, argv: &[&str]) -> Launch {
    fs::write(dir.join("config.json"), argv.join("\n")).expect("config");
    let text = |path: PathBuf| path.to_str().expect("utf8").to_owned();
    Launch {
        id: "t".into(),
        dir: text(dir.to_owned()),
        log: Some(Log {
            path: text(dir.join("json.log")),
            max_size: 0,
            max_files: 1,
            attrs: Vec::new(),
            buffer: 0,
            compress: false,
        }),
        start_now: true,
        ..Launch::default()
    }
}

#[tokio::test]
async fn a_container_from_start_to_end() {
    let Some(bytes) = supervisor() else { return };
    let dir = tempfile::tempdir().expect("tempdir");
    let sealed = Sealed::new(&bytes, dir.path()).expect("seal");
    let mut launch = launch(dir.path(), &["/bin/sh", "-c", "read x; echo $x; exit 6"]);
    launch.open_stdin = true;
    launch.attach = vec![Streams::ALL];
    let (mut ours, theirs) = UnixStream::pair().expect("pair");
    let theirs = OwnedFd::from(theirs.into_std().expect("std"));
    let begin = std::time::Instant::now();
    let mut launched = sealed.spawn(launch, Vec::new(), vec![theirs]).await.expect("spawn");
    println!("launched in {:?}", begin.elapsed());
    assert!(launched.pid > 0);
    ours.write_all(b"word\n").await.expect("input");
    let mut output = Vec::new();
    ours.read_to_end(&mut output).await.expect("output");
    assert_eq!(output, b"\x01\0\0\0\0\0\0\x05word\n");
    let Some(Event::Exited(exit)) = launched.events.next().await else { panic!("no exit") };
    assert_eq!(exit.code, 6);
    assert_eq!(launched.events.next().await, Some(Event::Gone));
    assert_eq!(launched.events.next().await, None);
    assert!(matches!(launched.shim.status().await, Err(Error::Gone)));
    assert_eq!(read_exit(dir.path()).expect("read"), Some(exit));
    assert!(matches!(connect(dir.path()).await, Err(Error::Connect { .. })));
}

#[tokio::test]
async fn the_next_daemon_finds_the_container_and_its_execs() {
    let Some(bytes) = supervisor() else { return };
    let dir = tempfile::tempdir().expect("tempdir");
    let sealed = Sealed::new(&bytes, dir.path()).expect("seal");
    let launched =
        sealed.spawn(launch(dir.path(), &["sleep", "100"]), Vec::new(), Vec::new()).await.expect("spawn");
    let pid = launched.pid;
    drop(launched);
    let (shim, mut events, status) = connect(dir.path()).await.expect("connect");
    assert_eq!((status.state, status.pid), (State::Running, pid));
    let process = b"/bin/sh\n-c\necho hi; exit 3".to_vec();
    shim.exec_create(ExecSpec { id: "e".into(), tty: false, stdin: false, size: None, process })
        .await
        .expect("create");
    let mut stream = shim.attach(Target::Exec("e".into()), Streams::OUTPUT).await.expect("attach");
    assert!(shim.exec_start("e").await.expect("start") > 0);
    let mut output = Vec::new();
    stream.read_to_end(&mut output).await.expect("output");
    assert_eq!(output, b"\x01\0\0\0\0\0\0\x03hi\n");
    let Some(Event::ExecExited { id, exit }) = events.next().await else { panic!("no exit") };
    assert_eq!((id.as_str(), exit.code), ("e", 3));
    shim.signal(Target::Init, 9).await.expect("signal");
    let Some(Event::Exited(exit)) = events.next().await else { panic!("no exit") };
    assert_eq!(exit.code, 137);
}

#[tokio::test]
async fn many_descriptors_arrive() {
    let Some(bytes) = supervisor() else { return };
    let dir = tempfile::tempdir().expect("tempdir");
    let sealed = Sealed::new(&bytes, dir.path()).expect("seal");
    let mut launch = launch(dir.path(), &["true"]);
    launch.binds = (0..600).collect();
    let fds = (0..600).map(|_| File::open("/dev/null").expect("open").into()).collect();
    let mut launched = sealed.spawn(launch, fds, Vec::new()).await.expect("spawn");
    assert!(matches!(launched.events.next().await, Some(Event::Exited(Exit { code: 0, .. }))));
}

#[tokio::test]
async fn what_fails_is_said() {
    let Some(bytes) = supervisor() else { return };
    let dir = tempfile::tempdir().expect("tempdir");
    let sealed = Sealed::new(&bytes, dir.path()).expect("seal");
    let failed = sealed.spawn(launch(dir.path(), &["/no/such"]), Vec::new(), Vec::new()).await;
    let Err(Error::Failed(failure)) = failed else { panic!("{failed:?}") };
    assert_eq!((failure.stage, failure.code), (Stage::Exec, 127));
    let garbage = Sealed::new(b"not a program", dir.path()).expect("seal");
    let failed = garbage.spawn(launch(dir.path(), &["true"]), Vec::new(), Vec::new()).await;
    assert!(matches!(failed, Err(Error::Spawn(_))), "{failed:?}");
}
