use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A query for `name`, with what stands in `extended` beside it: the longest datagram, the version, the flags.
pub(crate) fn query(name: &str, kind: u16, extended: Option<(u16, u8, u8)>) -> Vec<u8> {
    let mut message = vec![0xAB, 0xCD, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(extended.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    if let Some((size, version, flags)) = extended {
        message.extend_from_slice(&[0, 0, 41]);
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0, version, flags, 0, 0, 0]);
    }
    message
}

fn text_of(message: &[u8]) -> Option<String> {
    Query::read(message).unwrap().text(&mut [0; TEXT_MAX]).map(str::to_owned)
}

/// The addresses that an answer has, as an asker reads them.
pub(crate) fn addresses(answer: &[u8]) -> Vec<IpAddr> {
    let records = Reply(answer).records().unwrap().map(Option::unwrap);
    let content = |record: Record| {
        let data = &answer[record.data..record.data + record.length];
        match record.kind {
            kind::A => Some(<[u8; 4]>::try_from(data).unwrap().into()),
            kind::AAAA => Some(<[u8; 16]>::try_from(data).unwrap().into()),
            _ => None,
        }
    };
    records.filter_map(content).collect()
}

#[test]
fn names_are_read_without_their_case() {
    assert_eq!(text_of(&query("WEB.Front", kind::A, None)).as_deref(), Some("web.front"));
    assert_eq!(text_of(&query("", kind::A, None)).as_deref(), Some(""));
    let label = "x".repeat(63);
    let longest = [&*label, &label, &label, &label[..61]].join(".");
    assert_eq!(longest.len(), TEXT_MAX);
    assert_eq!(text_of(&query(&longest, kind::A, None)), Some(longest.clone()));
    assert_eq!(
        Query::read(&query(&format!("{longest}x"), kind::A, None)).err(),
        Some(Unfit::Told(Code::Format))
    );
    assert!(is_name(&longest) && !is_name(&format!("{longest}x")) && !is_name("a..b") && !is_name(""));
    // A dot within a label is not one between two.
    let mut dotted = query("webxfront", kind::A, None);
    dotted[HEADER + 4] = b'.';
    assert_eq!(text_of(&dotted), None);
}

#[test]
fn what_is_no_query_is_told_so_or_nothing() {
    let good = query("web", kind::A, Some((1232, 0, 0x80)));
    let extended = Query::read(&good).unwrap().extended.unwrap();
    assert_eq!(extended, Extended { size: 1232, version: 0, signatures: true, options: false });
    let with = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        Query::read(&message).err()
    };
    assert_eq!(with(2, 0x81), Some(Unfit::Silent));
    assert_eq!(with(2, 0x29), Some(Unfit::Told(Code::NotDone)));
    assert_eq!(with(5, 0), Some(Unfit::Told(Code::Format)));
    assert_eq!(with(5, 2), Some(Unfit::Told(Code::Format)));
    assert_eq!(with(7, 1), Some(Unfit::Told(Code::Format)));
    assert_eq!(with(11, 2), Some(Unfit::Told(Code::Format)), "two records are announced, and there is one");
    assert_eq!(with(HEADER, 0xC0), Some(Unfit::Told(Code::Format)), "a question's name has no pointers");
    assert_eq!(with(HEADER, 64), Some(Unfit::Told(Code::Format)));
    assert_eq!(Query::read(&good[..HEADER - 1]).err(), Some(Unfit::Silent));
    for length in HEADER..good.len() {
        assert_eq!(Query::read(&good[..length]).err(), Some(Unfit::Told(Code::Format)), "{length}");
    }
    let mut twice = good.clone();
    twice[11] = 2;
    twice.extend_from_slice(&good[good.len() - OPT_LENGTH..]);
    assert_eq!(Query::read(&twice).err(), Some(Unfit::Told(Code::Format)));
}

#[test]
fn lifetimes_are_the_shortest_of_all_records() {
    let asked = query("x", kind::A, None);
    let question = Query::read(&asked).unwrap().question().to_vec();
    let lifetime = |code: u8, counts: [u8; 2], records: &[(u16, u32, &[u8])]| {
        let mut reply = asked.clone();
        (reply[2], reply[3], reply[7], reply[9]) = (0x81, 0x80 | code, counts[0], counts[1]);
        for (kind, ttl, data) in records {
            reply.extend_from_slice(&TO_QUESTION);
            reply.extend_from_slice(&[kind.to_be_bytes(), CLASS_IN.to_be_bytes()].concat());
            reply.extend_from_slice(&ttl.to_be_bytes());
            reply.extend_from_slice(&(data.len() as u16).to_be_bytes());
            reply.extend_from_slice(data);
        }
        Reply::read(&reply, [0xAB, 0xCD], &question).unwrap().lifetime()
    };
    let address = [10, 0, 0, 1];
    let start = [&[0, 0][..], &[0; 16], &60_u32.to_be_bytes()].concat();
    assert_eq!(lifetime(0, [2, 0], &[(kind::A, 300, &address), (kind::A, 20, &address)]), Some(20));
    assert_eq!(lifetime(0, [1, 0], &[(kind::A, 0, &address)]), None);
    assert_eq!(lifetime(0, [1, 0], &[]), None, "a record that is not there");
    assert_eq!(lifetime(3, [0, 1], &[(kind::SOA, 900, &start)]), Some(60));
    assert_eq!(lifetime(3, [0, 1], &[(kind::SOA, 30, &start)]), Some(30));
    assert_eq!(lifetime(0, [0, 1], &[(kind::SOA, 900, &start)]), Some(60));
    assert_eq!(lifetime(3, [0, 1], &[(kind::SOA, 900, &start[1..])]), None, "a start of a zone that is none");
    assert_eq!(lifetime(3, [0, 0], &[]), None);
    assert_eq!(lifetime(2, [1, 0], &[(kind::A, 300, &address)]), None);
    assert_eq!(lifetime(0, [1, 0], &[(kind::TSIG, 300, &address)]), None);
}

#[test]
fn an_answer_is_one_to_what_was_asked() {
    let asked = query("web", kind::A, None);
    let question = Query::read(&asked).unwrap().question();
    let mut reply = asked.clone();
    reply[2] |= 0x80;
    let id = [0xAB, 0xCD];
    assert!(Reply::read(&reply, id, question).is_some());
    assert!(Reply::read(&reply, [0xAB, 0xCE], question).is_none());
    assert!(Reply::read(&asked, id, question).is_none());
    let other = query("wab", kind::A, None);
    assert!(Reply::read(&reply, id, Query::read(&other).unwrap().question()).is_none());
    reply[HEADER + 1] = b'W';
    assert!(Reply::read(&reply, id, question).is_some());
    reply.truncate(HEADER);
    assert!(Reply::read(&reply, id, question).is_none());
    // A server that understood nothing repeats nothing; but that there is no such name it cannot say so.
    (reply[5], reply[3]) = (0, 1);
    assert!(Reply::read(&reply, id, question).is_some_and(|reply| !reply.is_final()));
    reply[3] = 3;
    assert!(Reply::read(&reply, id, question).is_none());
}

fn reversed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits: Vec<String> =
                v6.octets().iter().rev().map(|byte| format!("{:x}.{:x}", byte & 15, byte >> 4)).collect();
            format!("{}.ip6.arpa", digits.join("."))
        }
    }
}

#[test]
fn names_of_addresses_that_are_none() {
    for text in [
        "1.2.3.in-addr.arpa",
        "1.2.3.4.5.in-addr.arpa",
        "256.2.3.4.in-addr.arpa",
        "01.2.3.4.in-addr.arpa",
        "+1.2.3.4.in-addr.arpa",
        ".2.3.4.in-addr.arpa",
        "in-addr.arpa",
        "1.2.3.4",
        "1.ip6.arpa",
    ] {
        assert_eq!(reverse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn names_of_addresses_lead_back(v4: u32, v6: u128) {
        for address in [IpAddr::from(Ipv4Addr::from(v4)), Ipv6Addr::from(v6).into()] {
            prop_assert_eq!(reverse(&reversed(address)), Some(address));
        }
    }

    #[test]
    fn bytes_are_read_or_not(message in vec(any::<u8>(), 0..600)) {
        if let Ok(query) = Query::read(&message) {
            let _ = query.text(&mut [0; TEXT_MAX]);
        }
    }

    #[test]
    fn damaged_messages_are_read_or_not(
        labels in vec("[a-z]{1,63}", 0..5),
        damage in vec((0_usize..400, any::<u8>()), 0..8),
        cut in 0_usize..400,
    ) {
        let mut message = query(&labels.join("."), kind::A, Some((512, 0, 0)));
        let asked = message.clone();
        message.extend_from_slice(&[0xC0, 12, 0, 6, 0, 1, 0, 0, 0, 9, 0, 4, 0, 0, 0, 1]);
        (message[2], message[9]) = (0x81, 1);
        let length = message.len();
        for (at, byte) in damage {
            message[at % length] = byte;
        }
        message.truncate(cut.max(HEADER));
        if let (Ok(query), Some(id)) = (Query::read(&asked), message.first_chunk().copied())
            && let Some(reply) = Reply::read(&message, id, query.question())
        {
            let _ = reply.lifetime();
            let mut out = Vec::new();
            shorten(&message, &query, &mut out);
            age(&mut message, 5);
        }
        let _ = Query::read(&message);
    }

    #[test]
    fn answers_keep_within_their_bounds(
        labels in vec("[a-z]{1,60}", 1..5),
        addresses_of in vec(any::<u128>(), 0..300),
        size: u16,
        extended: bool,
    ) {
        let asked = query(&labels.join("."), kind::AAAA, extended.then_some((size, 0, 0)));
        let query = Query::read(&asked).unwrap();
        let limit = query.datagram_max();
        let mut out = Vec::new();
        let mut answer = Answer::new(&query, Code::Fine, limit, &mut out);
        let all = addresses_of.iter().all(|address| answer.address(Ipv6Addr::from(*address).into(), 600));
        answer.end();
        prop_assert!(out.len() <= limit);
        let reply = Reply::read(&out, [0xAB, 0xCD], query.question()).unwrap();
        prop_assert_eq!(reply.is_cut(), !all);
        let read = addresses(&out);
        let least = if all { addresses_of.len() } else { 4 };
        prop_assert!(read.len() >= least);
        prop_assert!(read.iter().zip(&addresses_of).all(|(read, meant)| *read == Ipv6Addr::from(*meant)));
    }
}
