//! Starting, ending, signals, terminals.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use shim::launch::{Overlay, Rootfs};
use shim::wire::{Failure, Message, Size, Stage, State, Streams, Target};

use crate::host::{Host, REAL, able, all};

#[test]
fn the_exit_code_arrives_and_stays_as_a_file() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["/bin/sh", "-c", "echo out; echo err >&2; exit 42"], |_| {});
    let exit = host.exit();
    assert_eq!((exit.code, exit.signal, exit.oom), (42, 0, false));
    assert_eq!(shim::exit::read_exit(host.path()).expect("read"), Some(exit));
    assert!(!host.path().join(shim::SOCKET).exists());
    let log = host.log();
    assert!(log.contains("{\"log\":\"out\\n\",\"stream\":\"stdout\",\"time\":\""), "{log}");
    assert!(log.contains("{\"log\":\"err\\n\",\"stream\":\"stderr\",\"time\":\""), "{log}");
    host.gone();
}

#[test]
fn a_start_in_two_steps() {
    if !able() {
        return;
    }
    let (mut host, answer) = Host::launch(&["/bin/sh", "-c", "exit 3"], |launch| launch.start_now = false);
    let Message::Ready { pid } = answer else { panic!("{answer:?}") };
    let status = host.control.status();
    assert_eq!((status.state, status.pid), (State::Created, pid));
    let init = shim::exit::read_init(host.path()).expect("read").expect("init");
    assert_eq!(init.pid, pid);
    assert!(shim::exit::is_alive(init));
    assert_eq!(host.control.ask(Message::Start), Message::Started { pid });
    assert_eq!(host.exit().code, 3);
    host.gone();
}

#[test]
fn a_program_that_is_not_there() {
    if !able() {
        return;
    }
    let (mut host, answer) = Host::launch(&["/no/such/program"], |_| {});
    let Message::Failed(failure) = answer else { panic!("{answer:?}") };
    assert_eq!((failure.stage, failure.code), (Stage::Exec, 127));
    assert_eq!(host.exit().code, 127);
    host.gone();
}

#[test]
fn a_creator_that_dies_is_noticed() {
    // The real one does not die on demand.
    if !able() || REAL.is_some() {
        return;
    }
    let (mut host, answer) = Host::launch(&["crash"], |_| {});
    let Message::Failed(Failure { stage, text, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((stage, text.as_str()), (Stage::Create, "the creator ended with code 3"));
    assert_eq!(host.exit().code, 125);
    let dir = host.gone();
    assert!(shim::exit::read_exit(dir.path()).expect("read").is_some());
}

#[test]
fn what_cannot_be_prepared_is_said_by_name() {
    if !able() {
        return;
    }
    let (host, answer) = Host::launch(&["true"], |launch| {
        let lower = vec!["/nonexistent/a".to_owned(), "/nonexistent/b".to_owned()];
        launch.rootfs = Rootfs::Overlay(Overlay { lower, ..Overlay::default() });
    });
    let Message::Failed(failure) = answer else { panic!("{answer:?}") };
    assert_eq!((failure.stage, failure.errno), (Stage::Rootfs, 2), "{failure:?}");
    host.gone();
    let (host, answer) = Host::launch(&["true"], |launch| {
        launch.log.as_mut().expect("log").path = "/nonexistent/log".to_owned();
    });
    assert!(matches!(answer, Message::Failed(Failure { stage: Stage::Log, errno: 2, .. })), "{answer:?}");
    host.gone();
}

#[test]
fn signals_reach_the_program() {
    if !able() {
        return;
    }
    let mut host = Host::running(
        &["/bin/sh", "-c", "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"],
        |_| {},
    );
    let mut client = host.attach(Target::Init, Streams::OUTPUT);
    // Either it was said before, and is in the log, or it comes now; both ways the trap is set after it.
    let mut seen = [0; 1];
    if !host.log().contains("ready") {
        client.read_exact(&mut seen).expect("output");
    }
    assert_eq!(host.control.ask(Message::Signal { target: Target::Init, signal: 15 }), Message::Ok);
    assert_eq!(host.exit().code, 9);
    host.gone();
    let mut host = Host::running(&["sleep", "100"], |_| {});
    assert_eq!(host.control.ask(Message::Signal { target: Target::Init, signal: 9 }), Message::Ok);
    let exit = host.exit();
    assert_eq!((exit.code, exit.signal), (137, 9));
    host.gone();
}

#[test]
fn a_terminal_has_a_size_from_the_start_and_can_be_resized() {
    if !able() {
        return;
    }
    let script = "stty size; trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.01; done";
    let (mut host, answer) = Host::launch(&["/bin/sh", "-c", script], |launch| {
        launch.tty = true;
        launch.start_now = false;
        launch.size = Some(Size { rows: 33, columns: 44 });
    });
    assert!(matches!(answer, Message::Ready { .. }), "{answer:?}");
    let mut client = host.attach(Target::Init, Streams::ALL);
    assert!(matches!(host.control.ask(Message::Start), Message::Started { .. }));
    let mut text = String::new();
    let mut byte = [0];
    while !text.contains("ready") {
        client.read_exact(&mut byte).expect("output");
        text.push(char::from(byte[0]));
    }
    assert!(text.starts_with("33 44\r\n"), "{text:?}");
    let size = Size { rows: 50, columns: 60 };
    assert_eq!(host.control.ask(Message::Resize { target: Target::Init, size }), Message::Ok);
    let rest = String::from_utf8(all(&mut client)).expect("utf8");
    assert!(rest.contains("50 60\r\n"), "{rest:?}");
    assert_eq!(host.exit().code, 5);
    host.gone();
}

#[test]
fn a_terminal_takes_input_and_is_logged_as_standard_output() {
    if !able() {
        return;
    }
    let (mut host, _) = Host::launch(&["/bin/sh", "-c", "read x; echo got $x"], |launch| {
        launch.tty = true;
        launch.open_stdin = true;
    });
    let mut client = host.attach(Target::Init, Streams::ALL);
    client.write_all(b"hello\n").expect("input");
    assert_eq!(host.exit().code, 0);
    let text = String::from_utf8(all(&mut client)).expect("utf8");
    assert!(text.ends_with("got hello\r\n"), "{text:?}");
    assert!(host.log().contains("{\"log\":\"got hello\\r\\n\",\"stream\":\"stdout\""));
    host.gone();
}

#[test]
fn the_next_daemon_takes_over() {
    if !able() {
        return;
    }
    let host = Host::running(&["/bin/sh", "-c", "sleep 100; exit 1"], |_| {});
    let mode = std::fs::metadata(host.path().join(shim::SOCKET)).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut second = host.connect();
    let status = second.status();
    assert_eq!((&status.id, status.state), (&host.id, State::Running));
    assert!(status.started_ns > 0);
    assert_eq!(second.ask(Message::Signal { target: Target::Init, signal: 9 }), Message::Ok);
    let exit = second.event(|m| if let Message::Exited(exit) = m { Some(*exit) } else { None });
    assert_eq!(exit.code, 137);
}

#[test]
fn nonsense_is_refused_and_the_shim_lives() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |_| {});
    for bytes in [
        &b"GET / HTTP/1.0\r\n\r\n"[..],
        b"CRTN\x01\0\0\0\xff\xff\xff\xff",
        b"CRTN\x01\0\0\0\x05\0\0\0\x01\0\0\0\xee",
    ] {
        let mut stream = std::os::unix::net::UnixStream::from(
            sys::socket::connect(host.path(), shim::SOCKET).expect("connect"),
        );
        stream.write_all(bytes).expect("send");
        let mut rest = Vec::new();
        // The end may come as a broken connection, as not everything that was sent is read.
        let _ = stream.read_to_end(&mut rest);
    }
    assert!(matches!(host.control.ask(Message::Ok), Message::Failed(Failure { stage: Stage::Request, .. })));
    let resize = Message::Resize { target: Target::Init, size: Size { rows: 1, columns: 1 } };
    assert!(matches!(host.control.ask(resize), Message::Failed(Failure { stage: Stage::State, .. })));
    let stranger = Message::Signal { target: Target::Exec("x".into()), signal: 1 };
    assert!(matches!(host.control.ask(stranger), Message::Failed(Failure { stage: Stage::NotFound, .. })));
    assert_eq!(host.control.status().state, State::Running);
}

#[test]
fn descriptors_of_bind_sources_reach_the_creator_alone() {
    if !able() {
        return;
    }
    // The real creator wants mounts, not files; that it gets them is tested with the runtime.
    if REAL.is_some() {
        return;
    }
    let fds: Vec<_> = (0..3).map(|_| tempfile::tempfile().expect("file").into()).collect();
    let (mut host, answer) =
        Host::launch_with(&["/bin/ls", "/proc/self/fd"], &fds, |l| l.binds = vec![1, 5, 7]);
    assert!(matches!(answer, Message::Started { .. }), "{answer:?}");
    assert_eq!(host.exit().code, 0);
    let (host, answer) = Host::launch_with(&["true"], &fds, |launch| launch.binds = vec![1]);
    assert!(matches!(answer, Message::Failed(Failure { stage: Stage::Request, .. })), "{answer:?}");
    host.gone();
}
