use super::super::Name;
use super::super::message::tests::{addresses, query};
use super::*;

fn named(name: &str, addresses: &[&str]) -> Name {
    Name { name: name.into(), addresses: addresses.iter().map(|text| text.parse().unwrap()).collect() }
}

fn networks() -> [Network; 3] {
    let network = |id: &str, domain: &str, names| Network { id: id.into(), domain: domain.into(), names };
    [
        network(
            "n1",
            "front",
            vec![
                named("web", &["10.1.0.2", "fd01::2"]),
                named("shared", &["10.1.0.3"]),
                named("db.example", &["10.1.0.4"]),
            ],
        ),
        network("n2", "back", vec![named("shared", &["10.2.0.3", "fd02::3"]), named("only6", &["fd02::6"])]),
        network("n3", "secret", vec![named("hidden", &["10.3.0.2"])]),
    ]
}

fn container(outside: bool) -> Container {
    Container {
        id: "c".into(),
        networks: vec!["n1".into(), "n2".into(), "unknown".into()],
        own: vec![named("link", &["10.9.0.1"])],
        outside,
        upstreams: vec!["127.0.0.1:53".parse().unwrap()],
    }
}

/// What one is told of `name`: the code and the addresses. `None` where others are asked.
fn told(outside: bool, name: &str, kind: u16) -> Option<(u8, Vec<String>)> {
    let out = answer_alone(&container(outside), &networks(), &query(name, kind, None))?;
    Some((out[3] & 15, addresses(&out).iter().map(ToString::to_string).collect()))
}

fn fine(addresses: &[&str]) -> Option<(u8, Vec<String>)> {
    Some((0, addresses.iter().map(|text| (*text).to_owned()).collect()))
}

#[test]
fn names_of_ones_own_networks_and_no_others() {
    assert_eq!(told(true, "web", kind::A), fine(&["10.1.0.2"]));
    assert_eq!(told(true, "WEB.front", kind::AAAA), fine(&["fd01::2"]));
    assert_eq!(told(true, "link", kind::A), fine(&["10.9.0.1"]));
    assert_eq!(told(true, "db.example", kind::A), fine(&["10.1.0.4"]));
    assert_eq!(told(true, "db.example.front", kind::A), fine(&["10.1.0.4"]));
    for name in ["hidden", "hidden.secret", "web.back", "xfront", "web.", ".front", "front", "example.com"] {
        // The dot at the end is not in the message.
        let known = name == "web.";
        assert_eq!(told(true, name, kind::A).is_some(), known, "{name}");
    }
}

#[test]
fn the_first_network_that_has_an_address_of_the_family_answers() {
    assert_eq!(told(true, "shared", kind::A), fine(&["10.1.0.3"]));
    assert_eq!(told(true, "shared", kind::AAAA), fine(&["fd02::3"]));
    assert_eq!(told(true, "shared.back", kind::A), fine(&["10.2.0.3"]));
}

#[test]
fn nobody_is_asked_about_a_name_of_ours() {
    assert_eq!(told(true, "only6", kind::A), fine(&[]));
    for other in [15, 16, 33, 64, 65] {
        assert_eq!(told(true, "web", other), fine(&[]));
    }
    let (code, mut all) = told(true, "web", kind::ANY).unwrap();
    all.sort_unstable();
    assert_eq!((code, all), (0, vec!["10.1.0.2".to_owned(), "fd01::2".to_owned()]));
}

#[test]
fn who_may_not_ask_outside_is_told_what_is_known() {
    assert_eq!(told(false, "web", kind::A), fine(&["10.1.0.2"]));
    assert_eq!(told(false, "nobody", kind::A), Some((Code::NoName as u8, vec![])));
    assert_eq!(told(false, "4.3.2.1.in-addr.arpa", kind::PTR), Some((Code::NoName as u8, vec![])));
    assert_eq!(told(false, "example.com", kind::A), Some((Code::Failure as u8, vec![])));
    assert_eq!(told(false, "hidden.secret", kind::A), Some((Code::Failure as u8, vec![])));
    let lonely = Container { upstreams: vec![], ..container(true) };
    let out = answer_alone(&lonely, &networks(), &query("example.com", kind::A, None)).unwrap();
    assert_eq!(out[3] & 15, Code::Failure as u8);
}

#[test]
fn addresses_have_the_name_that_came_first() {
    let told = |name: &str| answer_alone(&container(true), &networks(), &query(name, kind::PTR, None));
    let out = told("2.0.1.10.in-addr.arpa").unwrap();
    assert!(out.ends_with(b"\x03web\x05front\0"));
    assert!(told("2.0.3.10.in-addr.arpa").is_none());
    let nibbles = |head: &str| format!("{head}{}1.0.d.f.ip6.arpa", "0.".repeat(27));
    assert!(told(&nibbles("2.")).unwrap().ends_with(b"\x03web\x05front\0"));
    assert!(told(&nibbles("9.")).is_none());
}

#[test]
fn several_addresses_come_in_every_order() {
    let all: Vec<String> = (1..=4).map(|n| format!("10.1.0.{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let network = Network { id: "n1".into(), domain: String::new(), names: vec![named("many", &all)] };
    let mut first = std::collections::HashSet::new();
    // Each of the four is missing with a chance of 0.75 ^ 200.
    for _ in 0..200 {
        let networks = std::slice::from_ref(&network);
        let mut told =
            addresses(&answer_alone(&container(true), networks, &query("many", kind::A, None)).unwrap());
        first.insert(told[0]);
        told.sort_unstable();
        assert!(told.iter().map(ToString::to_string).eq(all.iter().copied()));
    }
    assert_eq!(first.len(), 4);
}

#[test]
fn the_extended_protocol_is_spoken() {
    let told =
        |extended| answer_alone(&container(true), &networks(), &query("web", kind::A, extended)).unwrap();
    assert_eq!(told(None)[11], 0);
    let out = told(Some((1232, 0, 0x80)));
    assert_eq!(out[11], 1);
    assert!(out.ends_with(&[0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0]));
    let out = told(Some((1232, 1, 0)));
    assert!(addresses(&out).is_empty() && out.ends_with(&[0, 0, 41, 0x10, 0, 1, 0, 0, 0, 0, 0]));
}

#[test]
fn what_is_not_done_is_said() {
    let told = |message: &[u8]| answer_alone(&container(true), &networks(), message).map(|out| out[3] & 15);
    let mut chaos = query("web", 16, None);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(told(&chaos), Some(Code::NotDone as u8));
    assert_eq!(told(&query("web", kind::AXFR, None)), Some(Code::Refused as u8));
    assert_eq!(told(&query("web", kind::A, None)[..15]), Some(Code::Format as u8));
    assert_eq!(told(b"short"), None);
}

#[test]
fn a_container_has_its_share_whatever_others_do() {
    let shared = Shared::default();
    let count = || Rc::new(Cell::new(0));
    let greedy: Vec<_> = std::iter::repeat_with(count).take(64).collect();
    let mut held: Vec<_> =
        greedy.iter().flat_map(|own| std::iter::from_fn(|| shared.admit(own)).collect::<Vec<_>>()).collect();
    assert!(held.len() < 2048 && greedy[0].get() == 128 && greedy[63].get() == 4, "{}", held.len());
    let modest = count();
    assert!(shared.admit(&modest).is_some());
    held.truncate(100);
    let own: Vec<_> = std::iter::from_fn(|| shared.admit(&modest)).collect();
    assert_eq!(own.len(), 128);
}

#[test]
fn what_came_from_outside_fits_who_asks() {
    let asked = query("Example.COM", kind::A, None);
    let read = Query::read(&asked).unwrap();
    let mut kept = query("example.com", kind::A, None);
    kept[2] |= 0x84;
    let short = kept.len();
    fit(&read, 512, &mut kept);
    assert_eq!(kept[HEADER..short], asked[HEADER..]);
    kept.resize(600, 0);
    fit(&read, 512, &mut kept);
    assert_eq!((kept.len(), kept[2] & 0x86), (short, 0x86));
}
