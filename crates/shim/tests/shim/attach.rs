//! Clients: many, slow, dead.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use shim::wire::{Message, Streams, Target};

use crate::host::{Host, able, all, half_close, split};

/// Reads what an attached client gets, and returns the length and a checksum of standard output.
fn digest(stream: &mut UnixStream, pause: bool) -> (u64, u64) {
    let (mut length, mut sum) = (0_u64, 0_u64);
    let mut header = [0; 8];
    let mut payload = vec![0; 1 << 17];
    let mut frames = 0_u32;
    while stream.read_exact(&mut header).is_ok() {
        let size = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        stream.read_exact(&mut payload[..size]).expect("payload");
        for byte in &payload[..size] {
            sum = sum.wrapping_mul(31).wrapping_add(u64::from(*byte));
        }
        length += size as u64;
        frames += 1;
        if pause && frames.is_multiple_of(100) {
            // A slow reader is what is tested here: it must hold up the program, and lose nothing.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    (length, sum)
}

#[test]
fn several_clients_get_every_byte_of_a_flood() {
    if !able() {
        return;
    }
    let (mut host, answer) = Host::launch(&["/bin/sh", "-c", "seq 1 4000000 | head -c 25000000"], |launch| {
        launch.start_now = false;
        launch.log = None;
    });
    assert!(matches!(answer, Message::Ready { .. }), "{answer:?}");
    let clients: Vec<UnixStream> = (0..8).map(|_| host.attach(Target::Init, Streams::OUTPUT)).collect();
    let mut dying = host.attach(Target::Init, Streams::OUTPUT);
    let readers: Vec<_> = (0..)
        .zip(clients)
        .map(|(number, mut client)| std::thread::spawn(move || digest(&mut client, number == 0)))
        .collect();
    assert!(matches!(host.control.ask(Message::Start), Message::Started { .. }));
    // One client goes away in the middle, without a word.
    let mut some = vec![0; 100_000];
    dying.read_exact(&mut some).expect("some");
    drop(dying);
    let results: Vec<(u64, u64)> = readers.into_iter().map(|r| r.join().expect("reader")).collect();
    assert_eq!(results[0].0, 25_000_000);
    assert!(results.iter().all(|result| *result == results[0]));
    assert_eq!(host.exit().code, 0);
    host.gone();
}

#[test]
fn a_client_that_comes_with_the_launch_misses_nothing() {
    if !able() {
        return;
    }
    let (ours, theirs): (OwnedFd, OwnedFd) = sys::socket::stream_pair().expect("pair");
    let (mut host, answer) =
        Host::launch_with(&["/bin/sh", "-c", "echo first; cat; echo e >&2"], &[theirs], |launch| {
            launch.attach = vec![Streams::ALL];
            launch.open_stdin = true;
            launch.stdin_once = true;
        });
    assert!(matches!(answer, Message::Started { .. }), "{answer:?}");
    let mut client = UnixStream::from(ours);
    client.write_all(b"through\n").expect("input");
    half_close(&client);
    let (out, err) = split(&all(&mut client));
    assert_eq!((out.as_slice(), err.as_slice()), (&b"first\nthrough\n"[..], &b"e\n"[..]));
    assert_eq!(host.exit().code, 0);
    host.gone();
}

#[test]
fn a_client_that_reads_only_after_the_end_gets_the_last_words() {
    if !able() {
        return;
    }
    let (mut host, _) =
        Host::launch(&["/bin/sh", "-c", "head -c 60000 /dev/zero; echo end"], |l| l.start_now = false);
    let mut client = host.attach(Target::Init, Streams::OUTPUT);
    host.control.ask(Message::Start);
    assert_eq!(host.exit().code, 0);
    let (out, _) = split(&all(&mut client));
    assert_eq!(out.len(), 60_004);
    assert!(out.ends_with(b"end\n"));
    host.gone();
}

#[test]
fn the_end_is_told_though_a_client_sleeps() {
    if !able() {
        return;
    }
    // More than the socket's buffer takes, less than the pipe holds in addition.
    let script = "head -c 260000 /dev/zero; echo end";
    let (mut host, _) = Host::launch(&["/bin/sh", "-c", script], |launch| launch.start_now = false);
    let mut client = host.attach(Target::Init, Streams::OUTPUT);
    host.control.ask(Message::Start);
    assert_eq!(host.exit().code, 0);
    let (out, _) = split(&all(&mut client));
    assert_eq!(out.len(), 260_004);
    host.gone();
}

#[test]
fn input_of_any_size_goes_through_and_a_half_close_ends_it() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["cat"], |launch| {
        launch.open_stdin = true;
        launch.stdin_once = true;
        launch.log = None;
    });
    let mut client = host.attach(Target::Init, Streams::ALL);
    let mut writer = client.try_clone().expect("clone");
    let sent: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let feeding = std::thread::spawn(move || {
        writer.write_all(&sent).expect("write");
        half_close(&writer);
    });
    let (out, _) = split(&all(&mut client));
    feeding.join().expect("feeder");
    assert!(out == expected);
    assert_eq!(host.exit().code, 0);
    host.gone();
}

#[test]
fn input_outlives_a_client_unless_it_was_to_end_with_the_first() {
    if !able() {
        return;
    }
    let mut host =
        Host::running(&["/bin/sh", "-c", "read a; read b; echo $a $b"], |launch| launch.open_stdin = true);
    let mut first = host.attach(Target::Init, Streams::ALL);
    first.write_all(b"one\n").expect("write");
    // Gone at once and altogether: what it sent still counts.
    drop(first);
    let mut second = host.attach(Target::Init, Streams::ALL);
    // In order with the first client's bytes: those are read when its end has been seen, before or after this line; the
    // shell reads lines, so both orders give two words.
    second.write_all(b"two\n").expect("write");
    let (out, _) = split(&all(&mut second));
    let text = String::from_utf8(out).expect("utf8");
    assert!(text == "one two\n" || text == "two one\n", "{text:?}");
    assert_eq!(host.exit().code, 0);
    host.gone();
}

#[test]
fn many_attachments_leave_nothing_behind() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["sleep", "100"], |launch| launch.open_stdin = true);
    for _ in 0..200 {
        drop(host.attach(Target::Init, Streams::ALL));
    }
    // An answer means that the loop has been round since; the last hang-ups come with the next rounds at the latest.
    let mut rounds = 0;
    let before = loop {
        host.control.status();
        let now = host.descriptors();
        rounds += 1;
        if now < 15 || rounds > 1000 {
            break now;
        }
    };
    let memory = host.memory("Private_Dirty");
    for _ in 0..2000 {
        drop(host.attach(Target::Init, Streams::ALL));
    }
    for _ in 0..1000 {
        host.control.status();
        if host.descriptors() <= before {
            break;
        }
    }
    // The first count may have seen a hang-up that was still to come.
    assert!(host.descriptors() <= before);
    assert!(host.memory("Private_Dirty") <= memory + 64);
}
