use super::*;
use crate::launch::{Launch, Log, Oom, Overlay, Rootfs, Upper};
use proptest::prelude::*;

fn launch() -> Launch {
    Launch {
        id: "c0ffee".into(),
        dir: "/run/corten/c/c0ffee".into(),
        rootfs: Rootfs::Overlay(Overlay {
            lower: vec!["/l/2".into(), "/l/1".into()],
            upper: Some(Upper { dir: "/s/u".into(), work: "/s/w".into() }),
            options: vec!["index=off".into()],
        }),
        log: Some(Log {
            path: "/log".into(),
            max_size: 1 << 20,
            max_files: 5,
            attrs: b"{}".to_vec(),
            buffer: 0,
            compress: true,
        }),
        tty: true,
        open_stdin: true,
        stdin_once: false,
        size: Some(Size { rows: 24, columns: 80 }),
        start_now: true,
        oom: Oom::V2("/sys/fs/cgroup/x".into()),
        binds: vec![3, 9],
        attach: vec![Streams::ALL],
    }
}

fn messages() -> Vec<Message> {
    let exit = Exit { code: 137, signal: 9, oom: true, finished_ns: -5 };
    vec![
        Message::Launch(Box::new(launch())),
        Message::Launch(Box::default()),
        Message::Start,
        Message::Signal { target: Target::Exec("e1".into()), signal: 15 },
        Message::Resize { target: Target::Init, size: Size { rows: 1, columns: 2 } },
        Message::ExecCreate(ExecSpec {
            id: "e1".into(),
            tty: true,
            stdin: false,
            size: None,
            process: b"{}".to_vec(),
        }),
        Message::ExecStart("e1".into()),
        Message::ExecRemove("e1".into()),
        Message::StatusRequest,
        Message::Attach { target: Target::Init, streams: Streams::OUTPUT },
        Message::Ok,
        Message::Failed(Failure {
            stage: Stage::Exec,
            errno: 2,
            code: 127,
            text: "exec: no such file".into(),
        }),
        Message::Ready { pid: 7 },
        Message::Started { pid: 8 },
        Message::Status(Box::new(Status {
            id: "c".into(),
            state: State::Running,
            pid: 9,
            started_ns: 1,
            oom: false,
            log_lost: 3,
            execs: vec![ExecStatus { id: "e".into(), state: State::Stopped, pid: 4, exit: Some(exit) }],
        })),
        Message::Exited(exit),
        Message::ExecExited { id: "e1".into(), exit },
        Message::Oom,
    ]
}

fn encoded(id: u32, message: Message) -> Vec<u8> {
    let mut out = Vec::new();
    Frame { id, message }.encode(&mut out).expect("encode");
    out
}

#[test]
fn every_message_survives_the_wire() {
    for (id, message) in (0..).zip(messages()) {
        let bytes = encoded(id, message.clone());
        assert_eq!(Frame::length(&bytes), Ok(Some(bytes.len())));
        assert_eq!(Frame::decode(&bytes), Ok(Frame { id, message }));
        for cut in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}

/// Frames of each released version, recorded so that a later build is tested against them.
#[test]
fn recorded_frames_of_version_1() {
    let recorded = include_str!("../../fixtures/frames-v1.txt");
    let mut lines = recorded.lines();
    for (id, message) in (0..).zip(messages()) {
        let line = lines.next().expect("a recorded frame for every message");
        assert_eq!(hex(&encoded(id, message.clone())), line, "{message:?}");
    }
    assert_eq!(lines.next(), None);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn probes_of_version_2() {
    let exit = Exit { code: 3, ..Exit::default() };
    for message in [
        Message::Probe { id: "health".into(), limit: 4096, process: b"{}".to_vec() },
        Message::Probed { exit, output: b"sick\n".to_vec(), cut: true },
    ] {
        let (frame, mut bytes) = (Frame { id: 8, message }, Vec::new());
        frame.encode(&mut bytes).expect("encode");
        assert_eq!(Frame::decode(&bytes).expect("decode"), frame);
        assert!((0..bytes.len()).all(|end| Frame::decode(&bytes[..end]).is_err()));
    }
}

#[test]
fn hellos() {
    assert_eq!(&Hello::new(Kind::Attach).encode(), b"CRTN\x02\x00\x01\x00");
    // A shim of the first version is still understood.
    assert_eq!(Hello::decode(*b"CRTN\x01\0\0\0"), Ok(Hello { version: 1, kind: Kind::Control }));
    for kind in [Kind::Control, Kind::Attach] {
        assert_eq!(Hello::decode(Hello::new(kind).encode()), Ok(Hello::new(kind)));
    }
    assert_eq!(Hello::decode(*b"CRTM\x01\0\0\0"), Err(Malformed::Magic));
    assert_eq!(Hello::decode(*b"CRTN\0\0\0\0"), Err(Malformed::Version(0)));
    assert_eq!(Hello::decode(*b"CRTN\x01\0\x05\0"), Err(Malformed::Unknown(5)));
}

#[test]
fn impossible_lengths_are_refused_at_once() {
    assert_eq!(Frame::length(&[4, 0, 0, 0]), Err(Malformed::Length(4)));
    assert_eq!(Frame::length(&[1, 0, 16, 0]), Err(Malformed::Length(0x10_0001)));
    assert_eq!(Frame::length(&[9, 0, 0]), Ok(None));
    let process = vec![0; MAX_FRAME];
    let spec = ExecSpec { id: "e".into(), tty: false, stdin: false, size: None, process };
    let mut out = vec![1];
    let frame = Frame { id: 1, message: Message::ExecCreate(spec) };
    assert!(matches!(frame.encode(&mut out), Err(Malformed::Length(_))));
    assert_eq!(out, [1]);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_mean_what_they_encode_to(tag in 0_u8..110, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = u32::try_from(body.len() + 5).expect("small").to_le_bytes().to_vec();
        bytes.extend([1, 0, 0, 0, tag]);
        bytes.extend(&body);
        if let Ok(frame) = Frame::decode(&bytes) {
            let mut again = Vec::new();
            frame.encode(&mut again).expect("encode");
            prop_assert_eq!(again, bytes);
        }
    }
}
