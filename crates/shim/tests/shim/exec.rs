//! Execs.

use std::io::Write;

use shim::wire::{Failure, Message, Size, Stage, State, Streams, Target};

use crate::host::{Host, REAL, able, all, half_close, split};

#[test]
fn execs_have_streams_and_exit_codes_of_their_own() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |_| {});
    for (number, code) in [(1, 0), (2, 7), (3, 255)] {
        let id = format!("exec{number}");
        let script = format!("cat; echo {id} >&2; exit {code}");
        host.control.create_exec(&id, &["/bin/sh", "-c", &script], |spec| spec.stdin = true);
        let mut client = host.attach(Target::Exec(id.clone()), Streams::ALL);
        // Input that comes before the start waits for it.
        client.write_all(b"early\n").expect("write");
        let answer = host.control.ask(Message::ExecStart(id.clone()));
        assert!(matches!(answer, Message::Started { .. }), "{answer:?}");
        half_close(&client);
        let (out, err) = split(&all(&mut client));
        assert_eq!((out, err), (b"early\n".to_vec(), format!("{id}\n").into_bytes()));
        assert_eq!(host.control.exec_exit(&id).code, code);
    }
    let status = host.connect().status();
    let codes: Vec<_> = status.execs.iter().map(|e| (e.state, e.exit.expect("exit").code)).collect();
    assert_eq!(codes, [(State::Stopped, 0), (State::Stopped, 7), (State::Stopped, 255)]);
    assert_eq!(host.control.ask(Message::ExecRemove("exec1".into())), Message::Ok);
    assert_eq!(host.control.status().execs.len(), 2);
    assert!(!host.log().contains("early"));
}

#[test]
fn an_exec_with_a_terminal() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |_| {});
    host.control.create_exec("t", &["/bin/sh", "-c", "stty size; exit 4"], |spec| {
        spec.tty = true;
        spec.size = Some(Size { rows: 12, columns: 34 });
    });
    let mut client = host.attach(Target::Exec("t".into()), Streams::ALL);
    let answer = host.control.ask(Message::ExecStart("t".into()));
    assert!(matches!(answer, Message::Started { .. }), "{answer:?}");
    assert_eq!(all(&mut client), b"12 34\r\n");
    assert_eq!(host.control.exec_exit("t").code, 4);
}

#[test]
fn an_exec_that_leaves_a_child_behind_ends_all_the_same() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |_| {});
    host.control.create_exec("bg", &["/bin/sh", "-c", "sleep 60 & echo $!"], |_| {});
    let mut client = host.attach(Target::Exec("bg".into()), Streams::OUTPUT);
    host.control.ask(Message::ExecStart("bg".into()));
    let (out, _) = split(&all(&mut client));
    assert_eq!(host.control.exec_exit("bg").code, 0);
    // In a real container the number is its own, and its end ends the process.
    if REAL.is_some() {
        return;
    }
    let pid: i32 = String::from_utf8(out).expect("utf8").trim().parse().expect("pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
}

#[test]
fn execs_that_fail() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |_| {});
    host.control.create_exec("n", &["/no/such"], |_| {});
    let answer = host.control.ask(Message::ExecStart("n".into()));
    assert!(matches!(answer, Message::Failed(Failure { stage: Stage::Exec, code: 127, .. })), "{answer:?}");
    if REAL.is_none() {
        host.control.create_exec("c", &["crash"], |_| {});
        let answer = host.control.ask(Message::ExecStart("c".into()));
        assert!(
            matches!(answer, Message::Failed(Failure { stage: Stage::Create, code: 126, .. })),
            "{answer:?}"
        );
        let answer = host.control.ask(Message::ExecStart("c".into()));
        assert!(matches!(answer, Message::Failed(Failure { stage: Stage::NotFound, .. })), "{answer:?}");
    }
    let (_, answer) = host.try_attach(Target::Exec("nobody".into()), Streams::ALL);
    assert!(matches!(answer, Message::Failed(Failure { stage: Stage::NotFound, .. })), "{answer:?}");
    assert_eq!(host.control.status().state, State::Running);
}

#[test]
fn many_execs_at_once_and_the_containers_end_ends_them() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |_| {});
    for number in 0..50 {
        let id = format!("e{number}");
        host.control.create_exec(&id, &["sleep", "100"], |_| {});
        let answer = host.control.ask(Message::ExecStart(id));
        assert!(matches!(answer, Message::Started { .. }), "{answer:?}");
    }
    assert_eq!(host.control.ask(Message::Signal { target: Target::Init, signal: 9 }), Message::Ok);
    for number in 0..50 {
        assert_eq!(host.control.exec_exit(&format!("e{number}")).code, 137);
    }
    assert_eq!(host.exit().code, 137);
    host.gone();
}
