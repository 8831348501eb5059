use proptest::prelude::*;

use super::*;
use crate::parse;

fn request() -> Request {
    Request {
        target_platform: Platform::new("linux", "arm64", Some("v8")),
        build_platform: Platform::new("linux", "amd64", None),
        ..Request::default()
    }
}

fn stages(text: &str, request: &Request) -> (Stages, Vec<String>) {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    let (stages, diagnostics) = resolve(&parsed.dockerfile, request);
    (stages, diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect())
}

fn good(text: &str, request: &Request) -> Stages {
    let (stages, messages) = stages(text, request);
    assert_eq!(messages, [""; 0], "{text}");
    stages
}

const TEXT: &str = "ARG version=3\nFROM alpine:$version AS Base\nFROM base AS one\nRUN x\nFROM scratch AS two\n\
    COPY --from=One /a /b\nFROM debian AS unused\nFROM base\nCOPY --from=2 /c /d\nRUN --mount=from=two,target=/x y\n";

#[test]
fn needs_are_found() {
    let stages = good(TEXT, &request());
    assert_eq!(stages.list[0].base, Origin::Image("alpine:3".into()));
    assert_eq!(stages.list[1].base, Origin::Stage(0));
    assert_eq!(stages.list[2].base, Origin::Scratch);
    assert_eq!(
        stages.list[4].needs.iter().map(|need| &need.origin).collect::<Vec<_>>(),
        [&Origin::Stage(2); 2]
    );
    assert_eq!(stages.target, Some(4));
    assert_eq!(stages.order, [0, 1, 2, 4]);
    let target = |name: &str| good(TEXT, &Request { target: Some(name.into()), ..request() }).order;
    assert_eq!(target("ONE"), [0, 1]);
    assert_eq!(target("3"), [3]);
}

#[test]
fn what_is_missing_is_named() {
    let table = [
        ("FROM a AS one\nFROM b\nCOPY --from=5 x y", None, "invalid stage index 5"),
        ("FROM a AS one\nFROM b\nCOPY --from=-1 x y", None, "invalid stage index -1"),
        ("FROM a AS build", Some("biuld"), "target stage \"biuld\" could not be found (did you mean build?)"),
        (
            "FROM a AS one\nCOPY --from=two x y\nFROM b AS two\nCOPY --from=one x y",
            None,
            "circular dependency detected on stage: one",
        ),
        ("FROM a AS one\nCOPY --from=one x y", None, "circular dependency detected on stage: one"),
        ("ARG base\nFROM $base", None, "base name ($base) should not be blank"),
        ("ARG base=a\nFROM $bas", None, "base name ($bas) should not be blank (did you mean base?)"),
        (
            "FROM --platform=$TARGETPLATFROM a",
            None,
            "empty platform value from expression $TARGETPLATFROM (did you mean TARGETPLATFORM?)",
        ),
        ("FROM ${x:?no} AS a", None, "failed to process arguments for base name ${x:?no}: x: no"),
    ];
    for (text, target, expected) in table {
        let request = Request { target: target.map(str::to_owned), ..request() };
        assert_eq!(stages(text, &request).1, [expected], "{text}");
    }
    let (_, messages) = stages("FROM myImage:1.01", &request());
    assert!(messages[0].starts_with("failed to parse stage name \"myImage:1.01\": "), "{messages:?}");
    let parsed = parse("FROM myImage:1.01");
    let expected = resolve(&parsed.dockerfile, &request()).1[0].expected.clone();
    assert!(expected.is_some_and(|expected| expected.starts_with("myimage:1.01")));
    // Nobody needs it.
    good("FROM BAD AS a\nFROM b", &request());
    let meant = good("FROM a AS build\nFROM b\nCOPY --from=buidl x y", &request());
    assert_eq!(meant.meant("buidl").as_deref(), Some("build"));
}

#[test]
fn contexts_come_first() {
    let request = Request {
        contexts: ["alpine:latest".to_owned(), "dep".to_owned(), "one".to_owned()].into(),
        ..request()
    };
    let stages = good(
        "FROM alpine AS x\nFROM b AS one\nRUN y\nFROM x\nCOPY --from=dep a b\nCOPY --from=one a b",
        &request,
    );
    assert_eq!(stages.list[0].base, Origin::Context("alpine".into()));
    assert_eq!(stages.list[1].base, Origin::Context("one".into()));
    assert!(stages.list[1].instructions.is_empty());
    assert_eq!(stages.list[2].needs[0].origin, Origin::Context("dep".into()));
    assert_eq!(stages.list[2].needs[1].origin, Origin::Stage(1));
}

fn scope(text: &str, request: &Request) -> Scope {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, []);
    let (stages, _) = resolve(&parsed.dockerfile, request);
    let mut scope = Scope::of_image(Environment::from_entries(["PATH=/bin"]));
    for at in &stages.order {
        for instruction in &parsed.dockerfile.instructions[stages.list[*at].instructions.clone()] {
            scope.step(&instruction.command, '\\', &stages.globals, request).expect("good words");
        }
    }
    scope
}

#[test]
fn variables_are_known_where_they_are_declared() {
    let text = "ARG v=1 w=$v.2\nFROM a\nARG v\nARG x=$v y=\"$x $w\" none\nENV PATH=$PATH:/x v=new e=$v\nARG TARGETARCH TARGETPLATFORM";
    let scope = scope(text, &request());
    let table = [
        ("v", Some("new")),
        ("w", None),
        ("x", Some("1")),
        ("y", Some("1 ")),
        ("none", None),
        ("PATH", Some("/bin:/x")),
        ("e", Some("1")),
        ("TARGETARCH", Some("arm64")),
        ("BUILDARCH", None),
    ];
    for (name, expected) in table {
        assert_eq!(scope.visible.get(name), expected, "{name}");
    }
    assert!(scope.declared.contains("none"));
    assert_eq!(scope.environment.iter().collect::<Vec<_>>(), [("PATH", "/bin:/x"), ("v", "new"), ("e", "1")]);
    assert_eq!(scope.arguments.get("v"), Some("1"));
}

#[test]
fn arguments_of_a_build_are_first() {
    let request = Request {
        arguments: Environment::from_entries(["v=9", "TARGETOS=plan9", "http_proxy=p", "stray=1"]),
        ..request()
    };
    let text = "ARG v=1\nFROM a:$v\nARG v=2\nARG TARGETOS";
    assert_eq!(scope(text, &request).visible.get("v"), Some("9"));
    assert_eq!(scope(text, &request).visible.get("TARGETOS"), Some("plan9"));
    let parsed = parse(text);
    let (stages, _) = resolve(&parsed.dockerfile, &request);
    assert_eq!(stages.list[0].base, Origin::Image("a:9".into()));
    assert_eq!(stages.unconsumed(&parsed.dockerfile, &request.arguments), ["stray"]);
}

#[test]
fn variables_do_not_multiply() {
    let mut text = format!("FROM a\nENV a0={}\n", "x".repeat(60_000));
    for number in 1..20 {
        text.push_str(&format!("ENV a{number}={}\n", "$a0".repeat(16)));
    }
    let parsed = parse(&text);
    let (stages, _) = resolve(&parsed.dockerfile, &request());
    let mut scope = Scope::default();
    let steps = parsed.dockerfile.instructions[1..].iter();
    let failed =
        steps.filter(|step| scope.step(&step.command, '\\', &stages.globals, &request()).is_err()).count();
    assert!(failed > 10 && scope.visible.bytes() <= scope::VARIABLES_BYTES_MAX);
    let text = format!("FROM a\nENV a={}\nLABEL{}", "x".repeat(60_000), " b=$a".repeat(1000));
    let parsed = parse(&text);
    let mut scope = Scope::default();
    let mut step = |at: usize| {
        scope.step(&parsed.dockerfile.instructions[at].command, '\\', &stages.globals, &request())
    };
    assert!(step(1).is_ok());
    assert!(step(2).expect_err("too long").to_string().contains("longer than"));
}

#[test]
fn long_chains_need_no_stack() {
    let mut text = String::from("FROM a AS s0\n");
    for number in 1..5000 {
        text.push_str(&format!("FROM s{} AS s{number}\n", number - 1));
    }
    assert_eq!(good(&text, &request()).order.len(), 5000);
    // Nor much time, where each names a stage that nearly is there.
    let text: String =
        (0..3000).map(|number| format!("FROM a AS s{number}x\nCOPY --from=s{number}y a b\n")).collect();
    let started = std::time::Instant::now();
    assert_eq!(good(&text, &request()).order, [2999]);
    assert!(started.elapsed().as_secs() < 30);
}

proptest! {
    #[test]
    fn orders_are_sound(froms in prop::collection::vec((0usize..6, prop::collection::vec(0usize..6, 0..3)), 1..6)) {
        let mut text = String::new();
        for (number, (base, copies)) in froms.iter().enumerate() {
            text.push_str(&format!("FROM s{base} AS s{number}\n"));
            copies.iter().for_each(|from| text.push_str(&format!("COPY --from=s{from} a b\n")));
        }
        let parsed = parse(&text);
        let (stages, diagnostics) = resolve(&parsed.dockerfile, &request());
        let circular = diagnostics.iter().any(|diagnostic| diagnostic.message.starts_with("circular"));
        for (place, at) in stages.order.iter().enumerate() {
            let stage = &stages.list[*at];
            for origin in stage.needs.iter().map(|need| &need.origin).chain([&stage.base]) {
                if let Origin::Stage(needed) = origin {
                    prop_assert!(circular || stages.order[..place].contains(needed), "{}", text);
                }
            }
        }
        prop_assert_eq!(stages.order.last().copied(), stages.target);
    }
}
