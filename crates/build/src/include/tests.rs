use super::*;
use crate::{Severity, parse_document};

fn files(list: &[(&str, &str)]) -> Files {
    list.iter().map(|(name, text)| ((*name).to_owned(), Ok((*text).to_owned()))).collect()
}

fn whole(text: &str, list: &[(&str, &str)]) -> Document {
    match assemble(&Document::new("Dockerfile", text), &files(list)) {
        Ok(Assembled::Whole(document)) => document,
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str, list: &[(&str, &str)]) -> String {
    match assemble(&Document::new("Dockerfile", text), &files(list)) {
        Err(told) => told,
        Ok(Assembled::Wants(wants)) => panic!("{wants:?}"),
        // What is wrong with the instruction itself is told with the rest.
        Ok(Assembled::Whole(document)) => {
            let parsed = parse_document(&document);
            let error = parsed.error().expect("it is refused");
            error.render(&document.source(), &document.name)
        }
    }
}

fn words(document: &Document) -> Vec<String> {
    let parsed = parse_document(document);
    assert_eq!(parsed.error(), None, "{document:?}");
    parsed.dockerfile.instructions.into_iter().map(|instruction| instruction.original).collect()
}

#[test]
fn instructions_stand_in_the_place() {
    let main = "# escape=\\\nARG A=1\nINCLUDE args.inc\nFROM busybox AS one\n  include /steps.inc\nRUN last\ninclude stages.inc";
    let steps = "\u{feff}# syntax=docker/dockerfile:1\r\nRUN a \\\r\n  b\r\nINCLUDE deep/more.inc\r\nRUN <<EOF\nINCLUDE not\nEOF";
    let list = [
        ("args.inc", "ARG B=2"),
        ("steps.inc", steps),
        ("deep/more.inc", "# only\nENV X=1\n\n"),
        ("stages.inc", "FROM one AS two\nINCLUDE args.inc\nCOPY --from=one a b\n"),
    ];
    let document = whole(main, &list);
    let expected = [
        "ARG A=1",
        "ARG B=2",
        "FROM busybox AS one",
        "RUN a   b",
        "ENV X=1",
        "RUN <<EOF",
        "RUN last",
        "FROM one AS two",
        "ARG B=2",
        "COPY --from=one a b",
    ];
    assert_eq!(words(&document), expected);
    assert!(document.text.contains("INCLUDE not\nEOF"), "texts of files are nobody's instructions");
    let names: Vec<&str> = document.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Dockerfile", "args.inc", "steps.inc", "deep/more.inc", "stages.inc"]);
    // One without any stays as it is.
    let plain = Document::new("Dockerfile", "FROM a\nRUN echo INCLUDE x\n");
    assert_eq!(assemble(&plain, &Files::new()), Ok(Assembled::Whole(plain.clone())));
}

#[test]
fn files_are_wanted_round_by_round() {
    let main =
        Document::new("Dockerfile", "INCLUDE a\nINCLUDE b/../b/./c\nINCLUDE [\"with space\"]\nINCLUDE a\n");
    let wants = |list: &[(&str, &str)]| match assemble(&main, &files(list)) {
        Ok(Assembled::Wants(wants)) => wants,
        other => panic!("{other:?}"),
    };
    assert_eq!(wants(&[]), ["a", "b/c", "with space"]);
    assert_eq!(wants(&[("a", "INCLUDE d\n"), ("b/c", ""), ("with space", "FROM x\n")]), ["d"]);
}

#[test]
fn what_is_wrong_is_told_of_its_own_file() {
    let list = [("sub/a.inc", "RUN a\nFRMO x\n")];
    let document = whole("FROM busybox\nINCLUDE sub/a.inc\nRUN b\nRNU c\n", &list);
    let parsed = parse_document(&document);
    let source = document.source();
    let told: Vec<String> =
        parsed.diagnostics.iter().map(|found| found.render(&source, &document.name)).collect();
    assert!(
        told[0].starts_with(
            "sub/a.inc:2:1: error: unknown instruction: FRMO (did you mean FROM?)\n 2 | FRMO x\n   | ^^^^\n"
        ),
        "{told:?}"
    );
    assert!(told[1].starts_with("Dockerfile:4:1: error: unknown instruction: RNU"), "{told:?}");
    assert!(told[1].contains(" 4 | RNU c\n"), "{told:?}");
    let line = parsed.diagnostics[0].line(&source);
    assert!(line.starts_with("dockerfile parse error on line 2 of sub/a.inc: unknown instruction"), "{line}");
    assert!(parsed.diagnostics[1].line(&source).starts_with("dockerfile parse error on line 4: "));
}

#[test]
fn no_instruction_goes_on_in_another_file() {
    let error = |inc: &str| refused("FROM busybox\nINCLUDE a\nRUN x\nEOF\n", &[("a", inc)]);
    assert!(
        error("RUN <<EOF\ncat\n").starts_with("a:1:1: error: unterminated heredoc"),
        "{}",
        error("RUN <<EOF\n")
    );
    let document = whole("FROM busybox\nINCLUDE a\nRUN x\n", &[("a", "ENV A=1 \\")]);
    assert_eq!(words(&document), ["FROM busybox", "ENV A=1 ", "RUN x"]);
    // A comment above it says nothing of what stands in it.
    let document = whole("# one is first\nINCLUDE a\n", &[("a", "FROM x AS one\n")]);
    assert!(parse_document(&document).dockerfile.instructions[0].comments.is_empty());
}

#[test]
fn directives_of_included_files() {
    let of = |inc: &str| {
        let document = whole("# escape=`\nFROM busybox\nINCLUDE a\n", &[("a", inc)]);
        let parsed = parse_document(&document);
        (parsed.error().map(|error| error.message.clone()), parsed.dockerfile.directives.escape)
    };
    assert_eq!(of("# escape=`\n# syntax=docker/dockerfile:1.4\nRUN a `\n b\n"), (None, '`'));
    assert_eq!(of("RUN dir c:\\\nRUN x\n"), (None, '`'), "the Dockerfile's own counts");
    for wrong in ["# escape=\\\nRUN x\n", "# syntax=other/one\nRUN x\n", "# check=skip=all\nRUN x\n"] {
        let (message, escape) = of(wrong);
        assert!(message.is_some_and(|message| message.contains("in an included file")), "{wrong}");
        assert_eq!(escape, '`');
    }
}

#[test]
fn circles_and_too_much_are_refused() {
    let told = refused("FROM x\nINCLUDE a\n", &[("a", "INCLUDE b\n"), ("b", "RUN y\nINCLUDE /a\n")]);
    let expected = "dockerfile parse error on line 2 of b: files include each other in a circle: a -> b -> a\n\
        b:2:9: error: files include each other in a circle: a -> b -> a\n 2 | INCLUDE /a\n   |         ^^";
    assert_eq!(told, expected);
    let main = "FROM x\nINCLUDE Dockerfile\n";
    let told = refused(main, &[("Dockerfile", main)]);
    assert!(told.contains("in a circle: Dockerfile -> Dockerfile\nDockerfile:2:9: "), "{told}");
    // One of the same name, elsewhere, is another.
    assert_eq!(words(&whole(main, &[("Dockerfile", "RUN x")])), ["FROM x", "RUN x"]);

    let deep: Vec<(String, String)> =
        (0..=DEPTH_MAX).map(|at| (format!("f{at}"), format!("INCLUDE f{}\n", at + 1))).collect();
    let deep: Vec<(&str, &str)> = deep.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let told = refused("FROM x\nINCLUDE f0\n", &deep);
    assert!(told.contains(&format!("included more than {DEPTH_MAX} deep\nf{}:1:9", DEPTH_MAX - 1)), "{told}");

    // Each doubles what is above it.
    let wide: Vec<(String, String)> =
        (0..12).map(|at| (format!("f{at}"), format!("INCLUDE f{0}\nINCLUDE f{0}\n", at + 1))).collect();
    let mut wide: Vec<(&str, &str)> =
        wide.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    wide.push(("f12", "RUN x\n"));
    let told = refused("FROM x\nINCLUDE f0\n", &wide);
    assert!(told.contains(&format!("includes files more than {COUNT_MAX} times")), "{told}");

    let big = format!("#{}\n", "x".repeat(60_000)).repeat(20);
    let told = refused(&format!("FROM x\n{}", "INCLUDE big\n".repeat(4)), &[("big", &big)]);
    assert!(
        told.contains("\nDockerfile:5:9: error: the Dockerfile and what it includes are longer than"),
        "{told}"
    );
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    for (line, why) in [
        ("INCLUDE", "Dockerfile:2:1: error: INCLUDE requires exactly one argument"),
        ("INCLUDE a b", "Dockerfile:2:1: error: INCLUDE requires exactly one argument"),
        ("INCLUDE $A/x", "Dockerfile:2:9: error: variable expansion is not supported for INCLUDE"),
        ("INCLUDE ../x", "Dockerfile:2:9: error: the path leaves the build context"),
        ("INCLUDE /a/../../x", "Dockerfile:2:9: error: the path leaves the build context"),
        ("INCLUDE [\"a/../..\"]", "Dockerfile:2:9: error: the path leaves the build context"),
        ("INCLUDE .", "Dockerfile:2:9: error: the path is that of a directory"),
        ("INCLUDE *.inc", "Dockerfile:2:9: error: INCLUDE takes one file, and no wildcards"),
        ("INCLUDE https://x/y", "Dockerfile:2:9: error: INCLUDE takes files of the build context"),
        ("INCLUDE <<EOF", "Dockerfile:2:9: error: INCLUDE cannot accept a heredoc"),
        ("INCLUDE --x=1 a", "error: unknown flag: --x"),
        ("ONBUILD INCLUDE a", "Dockerfile:2:9: error: INCLUDE isn't allowed as an ONBUILD trigger"),
    ] {
        let told = refused(&format!("FROM x\n{line}\n"), &[]);
        assert!(told.contains(why), "{line}: {told}");
    }
    let why = BTreeMap::from([("a".to_owned(), Err("\"a\": not found in the build context".to_owned()))]);
    let told = assemble(&Document::new("Dockerfile", "FROM x\nINCLUDE a\n"), &why).unwrap_err();
    assert!(told.starts_with("dockerfile parse error on line 2: failed to include \"a\": not found in the build context\nDockerfile:2:9: "), "{told}");
    // Where there is nothing to include.
    let error = crate::parse("FROM x\nINCLUDE a\n").error().cloned().unwrap();
    assert!(error.message.starts_with("INCLUDE isn't allowed here"), "{}", error.message);
}

proptest::proptest! {
    /// Whatever is included where: the same instructions come of it as of the files by themselves, and each place is in its file.
    #[test]
    fn the_same_as_one_text(pieces in proptest::collection::vec((0_usize..6, proptest::bool::ANY), 1..12), cut in 0_usize..4) {
        let lines = ["RUN a \\\n  b\n", "ENV X=\"1\"\n", "# words\n\n", "RUN <<EOF\nINCLUDE x\nEOF\n", "FROM two\n", "RUN wrong <<\n"];
        let mut main = String::from("FROM one\n");
        let mut flat = main.clone();
        let mut known = Files::new();
        for (at, (line, is_included)) in pieces.iter().enumerate() {
            flat.push_str(lines[*line]);
            if *is_included {
                let name = format!("f{at}");
                main.push_str(&format!("INCLUDE {name}\n"));
                let text = lines[*line];
                let text = if cut == 0 { text.trim_end_matches('\n') } else { text };
                known.insert(name, Ok(text.to_owned()));
            } else {
                main.push_str(lines[*line]);
            }
        }
        let Ok(Assembled::Whole(document)) = assemble(&Document::new("Dockerfile", main), &known) else {
            panic!("all is there");
        };
        let one = crate::parse(&flat);
        let several = parse_document(&document);
        let texts = |parsed: &crate::Parsed| -> Vec<String> {
            parsed.dockerfile.instructions.iter().map(|instruction| instruction.original.clone()).collect()
        };
        proptest::prop_assert_eq!(texts(&one), texts(&several));
        proptest::prop_assert_eq!(one.diagnostics.len(), several.diagnostics.len());
        let source = document.source();
        for instruction in &several.dockerfile.instructions {
            let place = source.place(instruction.span);
            let line = source.line(place.file, place.start.line).unwrap_or_default();
            let rest: String = line.chars().skip(place.start.column - 1).collect();
            proptest::prop_assert!(rest.starts_with(instruction.name.text.as_str()), "{} {:?}", line, place);
        }
    }
}

#[test]
fn checks_are_told_of_their_own_file() {
    let document = whole("FROM busybox\nINCLUDE a\n", &[("a", "\nMAINTAINER me\n")]);
    let answer =
        crate::call::Question::Lint.ask(&document, &crate::stages::Request::default(), None).unwrap();
    assert!(answer.text.contains("a:2:1: warning[MaintainerDeprecated]"), "{}", answer.text);
    let json: serde_json::Value = serde_json::from_str(&answer.json).unwrap();
    assert_eq!(json["warnings"][0]["location"]["sourceIndex"], 1);
    assert_eq!(json["sources"][1]["filename"], "a");
    assert_eq!(
        parse_document(&document).diagnostics.iter().filter(|one| one.severity == Severity::Error).count(),
        0
    );
}
