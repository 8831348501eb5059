use proptest::prelude::*;

use super::instruction::{CommandLine, Healthcheck};
use super::*;
use crate::text::Source;

fn good(text: &str) -> Vec<Command> {
    let parsed = parse(text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.dockerfile.instructions.into_iter().map(|instruction| instruction.command).collect()
}

fn last(line: &str) -> Command {
    good(&format!("FROM a\n{line}")).pop().expect("an instruction")
}

/// The first error as an API tells it.
fn error(text: &str) -> String {
    let parsed = parse(text);
    let source = Source::new(text);
    parsed.error().map(|error| error.line(&source)).unwrap_or_default()
}

fn texts(words: &[Word]) -> Vec<&str> {
    words.iter().map(|word| word.text.as_str()).collect()
}

#[test]
fn stages_begin() {
    let Command::From(from) = &good("FROM --platform=$BUILDPLATFORM golang:1.22 AS Build-1\n")[0] else {
        panic!("not FROM")
    };
    assert_eq!(from.image.text, "golang:1.22");
    assert_eq!(from.platform.as_ref().map(|word| word.text.as_str()), Some("$BUILDPLATFORM"));
    assert_eq!(from.name.as_ref().map(|word| word.text.as_str()), Some("Build-1"));
    assert_eq!(from.keyword.as_ref().map(|word| word.text.as_str()), Some("AS"));
}

#[test]
fn lines_go_on() {
    let table = [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a \\  \n# comment\n   # another\n  b", "a   b"),
        ("RUN a \\\n\n\nb", "a b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN a \\", "a"),
        ("  RUN \\\na", "a"),
        ("RUN a # no comment", "a # no comment"),
    ];
    for (text, expected) in table {
        let Command::Run(run) = last(text) else { panic!("not RUN") };
        let CommandLine::Shell(word) = run.line else { panic!("not a line") };
        assert_eq!(word.text, expected, "{text:?}");
    }
    let Command::Run(run) = &good("# escape=`\nFROM a\nRUN a `\n b\\")[1] else { panic!("not RUN") };
    assert_eq!(run.line, CommandLine::Shell(Word { text: "a  b\\".into(), span: Span::new(22, 29) }));
    assert!(parse("FROM a\nRUN a \\\n\n b").dockerfile.instructions[1].empty_continuation.is_some());
}

#[test]
fn forms_are_told_apart() {
    let Command::Cmd(CommandLine::Exec(words)) = last("CMD [\"a\", \"b c\", \"\\u0041\"]") else {
        panic!("not a list")
    };
    assert_eq!(texts(&words), ["a", "b c", "A"]);
    assert!(matches!(last("CMD ['a']"), Command::Cmd(CommandLine::Shell(_))));
    assert!(matches!(last("CMD [ -f x ] && y"), Command::Cmd(CommandLine::Shell(_))));
    assert!(matches!(last("ENTRYPOINT []"), Command::Entrypoint(CommandLine::Exec(_))));
    assert!(matches!(last("entrypoint"), Command::Entrypoint(CommandLine::Shell(_))));
    assert_eq!(
        error("FROM a\nCMD [\"a\", 1]"),
        "dockerfile parse error on line 2: when using JSON array syntax, arrays must be comprised of strings only"
    );
}

#[test]
fn heredocs_are_read() {
    let Command::Run(run) = last("RUN <<EOF\necho a\n\n# no comment\nEOF\n") else { panic!("not RUN") };
    assert_eq!(run.heredocs[0].content, "echo a\n\n# no comment\n");
    assert_eq!(run.heredocs[0].text(), run.heredocs[0].content);
    let Command::Copy(copy) = last("COPY <<-'A' <<B x /d/\n\t\ta $x\n\tA\nb\nB\n") else {
        panic!("not COPY")
    };
    let files: Vec<_> =
        copy.files.inline.iter().map(|file| (file.name.as_str(), file.text(), file.expands)).collect();
    assert_eq!(files, [("A", "a $x\n".to_owned(), false), ("B", "b\n".to_owned(), true)]);
    assert_eq!(texts(&copy.files.sources), ["x"]);
    let Command::OnBuild(trigger) = last("ONBUILD RUN <<E\nx\nE") else { panic!("not ONBUILD") };
    assert_eq!(trigger.expression, "RUN <<E\nx\nE");
    assert_eq!(error("FROM a\nRUN <<EOF\nx\n"), "dockerfile parse error on line 2: unterminated heredoc");
    assert_eq!(
        error("FROM a\nCOPY x <<E\nE\n"),
        "dockerfile parse error on line 2: COPY cannot accept a heredoc as a destination"
    );
    assert_eq!(good("FROM a\nRUN [\"<<E\"]\nCMD x").len(), 3);
    assert_eq!(good("FROM a\nCMD <<E\nRUN y").len(), 3);
}

#[test]
fn options_are_read() {
    let line = "RUN --mount=type=cache,target=/c --mount=type=secret,id=s --network=none --security=insecure \
                --device=vendor.com/c=d,required -- --x";
    let Command::Run(run) = last(line) else { panic!("not RUN") };
    assert_eq!((run.mounts.len(), run.devices.len()), (2, 1));
    assert_eq!(run.network, Some(instruction::Network::None));
    assert_eq!(run.security, Some(instruction::Security::Insecure));
    assert_eq!(
        run.line,
        CommandLine::Shell(Word { text: "--x".into(), span: Span::new(7 + line.len() - 3, 7 + line.len()) })
    );
    let Command::Copy(copy) = last(
        "COPY --from=b --chown=1:2 --chmod=u+x --link --parents=false --exclude=*.a --exclude=\"b c\" [\"a b\", \"/x/\"]",
    ) else {
        panic!("not COPY")
    };
    assert!(copy.files.link && !copy.parents);
    assert_eq!(texts(&copy.files.exclude), ["*.a", "b c"]);
    assert_eq!(texts(&copy.files.sources), ["a b"]);
    let Command::Add(add) = last("ADD --checksum=sha256:1 --keep-git-dir --unpack=false a b") else {
        panic!("not ADD")
    };
    assert_eq!((add.keep_git_dir, add.unpack), (Some(true), Some(false)));
}

#[test]
fn pairs_are_read() {
    let Command::Env(pairs) = last(r#"ENV a=b c="d e" f=g\ h i='j "k' l="#) else { panic!("not ENV") };
    let pairs: Vec<_> =
        pairs.iter().map(|pair| (pair.name.text.as_str(), pair.value.text.as_str())).collect();
    assert_eq!(pairs, [("a", "b"), ("c", "\"d e\""), ("f", "g\\ h"), ("i", "'j \"k'"), ("l", "")]);
    let Command::Label(pairs) = last("LABEL a  b c=d") else { panic!("not LABEL") };
    assert_eq!(
        (pairs[0].name.text.as_str(), pairs[0].value.text.as_str(), pairs[0].legacy),
        ("a", "b c=d", true)
    );
    let Command::Arg(arguments) = last("ARG a b=c d=") else { panic!("not ARG") };
    let defaults: Vec<_> =
        arguments.iter().map(|one| one.default.as_ref().map(|word| word.text.as_str())).collect();
    assert_eq!(defaults, [None, Some("c"), Some("")]);
}

#[test]
fn health_checks_are_read() {
    let Command::Healthcheck(Healthcheck::Command(check)) = last(
        "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=0s --start-interval=1s --retries=3 CMD x",
    ) else {
        panic!("not HEALTHCHECK")
    };
    assert_eq!((check.interval, check.timeout, check.retries), (90_000_000_000, 500_000_000, 3));
    assert!(matches!(last("HEALTHCHECK none"), Command::Healthcheck(Healthcheck::None)));
}

#[test]
fn errors_are_in_known_words() {
    let table = [
        ("FROM a\n\nFRMO b", "3: unknown instruction: FRMO (did you mean FROM?)"),
        ("FROM a\nrunn b", "2: unknown instruction: runn (did you mean run?)"),
        ("FROM a\nINSTALL b", "2: unknown instruction: INSTALL"),
        ("FROM", "1: FROM requires either one or three arguments"),
        ("FROM a b", "1: FROM requires either one or three arguments"),
        ("FROM a AS", "1: FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            "1: invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM --platfrm=x a", "1: unknown flag: --platfrm (did you mean platform?)"),
        ("FROM --platform a", "1: missing a value on flag: --platform"),
        ("FROM --platform=a --platform=b a", "1: duplicate flag specified: --platform"),
        ("RUN x", "1: no build stage in current context"),
        (
            "FROM a\nCOPY",
            "2: COPY requires at least two arguments, but only one was provided. Destination could not be determined.",
        ),
        ("FROM a\nCOPY --link=maybe a b", "2: expecting boolean value for flag link, not: maybe"),
        ("FROM a\nCOPY --link= a b", "2: missing a value on flag: --link"),
        ("FROM a\nCOPY --checksum=x a b", "2: unknown flag: --checksum"),
        (
            "FROM a\nCOPY --from=$x a b",
            "2: variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a \
             workaround",
        ),
        ("FROM a\nRUN --mount=target=/ x", "2: invalid mount target \"/\""),
        ("FROM a\nRUN --mount=type=cache,target=/a/.. x", "2: invalid mount target \"/\""),
        ("FROM a\nRUN --mount=type=ssh,target=// x", "2: invalid mount target \"/\""),
        (
            "FROM a\nADD --checksum=md5:d41d8cd98f00b204e9800998ecf8427e https://e.com/f /f",
            "2: invalid checksum \"md5:d41d8cd98f00b204e9800998ecf8427e\": unsupported digest algorithm",
        ),
        (
            "FROM a\nADD --checksum=sha256:ab https://e.com/f /f",
            "2: invalid checksum \"sha256:ab\": invalid checksum digest length",
        ),
        (
            "FROM a\nADD --checksum=x https://e.com/f /f",
            "2: invalid checksum \"x\": invalid checksum digest format",
        ),
        (
            "FROM a\nADD --checksum=main https://e.com/f.git /f",
            "2: invalid checksum \"main\": a commit is expected, or its first 7 letters or more",
        ),
        ("FROM a\nRUN --network=bridge x", "2: invalid network mode \"bridge\""),
        ("FROM a\nRUN --security=none x", "2: security \"none\" is not valid"),
        ("FROM a\nRUN --mount=type=bnd x", "2: unsupported mount type \"bnd\" (did you mean bind?)"),
        (
            "FROM a\nRUN --mount=from=$x x",
            "2: 'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("FROM a\nENV", "2: ENV requires at least one argument"),
        ("FROM a\nENV a", "2: ENV must have two arguments"),
        ("FROM a\nENV a=b c", "2: Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("FROM a\nENV =b", "2: ENV names can not be blank"),
        ("FROM a\nARG =b", "2: ARG names can not be blank"),
        ("FROM a\nARG", "2: ARG requires at least one argument"),
        ("FROM a\nEXPOSE", "2: EXPOSE requires at least one argument"),
        ("FROM a\nVOLUME", "2: VOLUME requires at least one argument"),
        ("FROM a\nVOLUME [\"\"]", "2: VOLUME specified can not be an empty string"),
        ("FROM a\nUSER", "2: USER requires exactly one argument"),
        ("FROM a\nWORKDIR", "2: WORKDIR requires exactly one argument"),
        ("FROM a\nWORKDIR --x y", "2: unknown flag: --x"),
        ("FROM a\nSTOPSIGNAL", "2: STOPSIGNAL requires exactly one argument"),
        ("FROM a\nMAINTAINER", "2: MAINTAINER requires exactly one argument"),
        ("FROM a\nSHELL", "2: SHELL requires at least one argument"),
        ("FROM a\nSHELL bash", "2: SHELL requires the arguments to be in JSON form"),
        ("FROM a\nHEALTHCHECK", "2: HEALTHCHECK requires at least one argument"),
        ("FROM a\nHEALTHCHECK NONE x", "2: HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CMD", "2: Missing command after HEALTHCHECK CMD"),
        ("FROM a\nHEALTHCHECK TRY x", "2: Unknown type \"TRY\" in HEALTHCHECK (try CMD)"),
        ("FROM a\nHEALTHCHECK --interval=1us CMD x", "2: Interval \"interval\" cannot be less than 1ms"),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", "2: --retries cannot be negative (-1)"),
        ("FROM a\nONBUILD", "2: ONBUILD requires at least one argument"),
        ("FROM a\nONBUILD ONBUILD RUN x", "2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("FROM a\nONBUILD from x", "2: FROM isn't allowed as an ONBUILD trigger"),
        ("# escape=x\nFROM a", "1: invalid escape token 'x' does not match ` or \\"),
        ("# syntax=a\n# syntax=b\nFROM a", "2: only one syntax parser directive can be used"),
        ("", "1: file with no instructions"),
        ("# a\n\n", "3: file with no instructions"),
        ("ARG a", "1: dockerfile contains no stages to build"),
    ];
    for (text, expected) in table {
        assert_eq!(error(text), format!("dockerfile parse error on line {expected}"), "{text:?}");
    }
}

#[test]
fn the_offending_text_is_marked() {
    let table = [
        ("FROM a\nCOPY --lnk a b", "--lnk"),
        ("FROM a\nENV a=b \\\n  wrong \\\n c=d", "wrong"),
        ("FROM a AS\\\n 1x", "1x"),
        ("FROM a\nRUN --network=x y", "x"),
        ("FROM a\n  frmo b", "frmo"),
    ];
    for (text, expected) in table {
        let parsed = parse(text);
        assert_eq!(parsed.error().map(|error| error.span.of(text)), Some(expected), "{text:?}");
    }
    let text = "FROM a\nENV a=b \\\n  wrong";
    let shown =
        parse(text).error().map(|error| error.render(&Source::new(text), "Dockerfile")).unwrap_or_default();
    assert!(shown.starts_with("Dockerfile:3:3: error: Syntax error"), "{shown}");
    assert!(shown.contains(" 3 |   wrong\n   |   ^^^^^\n"), "{shown}");
}

#[test]
fn directives_are_read() {
    let head = |text: &str| parse(text).dockerfile.directives;
    let directives = head("# syntax = docker/dockerfile:1\n#Escape=`\n# check=skip=all;error=true\nFROM a");
    assert_eq!(directives.escape, '`');
    assert_eq!(directives.check.as_ref().map(|word| word.text.as_str()), Some("skip=all;error=true"));
    assert!(directives.is_known_syntax());
    assert!(!head("# syntax=other/frontend\nFROM a").is_known_syntax());
    assert!(head("# syntax=docker.io/docker/dockerfile-upstream:master@sha256:0\nFROM a").is_known_syntax());
    assert_eq!(head("# comment\n# escape=`\nFROM a").escape, '\\');
    assert_eq!(head("\n# escape=`\nFROM a").escape, '\\');
    assert_eq!(head("# unknown=x\n# escape=`\nFROM a").escape, '\\');
    assert_eq!(head("\u{feff}# escape=`\nFROM a").escape, '`');
}

#[test]
fn comments_belong_to_what_follows() {
    let parsed = parse("# one\n\n# two\n# three\nFROM a\n# four\n#\nRUN x");
    assert_eq!(parsed.dockerfile.instructions[0].comments, ["two", "three"]);
    assert_eq!(parsed.dockerfile.instructions[1].comments, [""; 0]);
}

#[test]
fn everything_is_bounded() {
    assert!(error(&"x".repeat(TEXT_BYTES_MAX + 1)).contains("longer than"));
    assert!(
        error(&format!("FROM a\nRUN {}", "x".repeat(LINE_BYTES_MAX)))
            .contains("greater than max allowed size")
    );
    let many = format!("FROM a\n{}", "RUN x\n".repeat(INSTRUCTIONS_MAX));
    assert!(error(&many).contains("more than"));
    assert!(error(&format!("FROM a\nRUN {}", "<<A ".repeat(HEREDOCS_MAX + 1))).contains("heredocs"));
    assert!(error(&format!("FROM a\nRUN {}", "[".repeat(10_000))).is_empty());
    assert_eq!(parse(&"X\n".repeat(1000)).diagnostics.len(), DIAGNOSTICS_MAX);
}

fn check_spans(text: &str) {
    let parsed = parse(text);
    let source = Source::new(text);
    let inside = |span: Span| span.start <= span.end && span.end <= text.len();
    for instruction in &parsed.dockerfile.instructions {
        assert!(inside(instruction.span) && inside(instruction.name.span));
        assert!(
            text.is_char_boundary(instruction.name.span.start)
                && text.is_char_boundary(instruction.name.span.end)
        );
        for file in instruction.command.heredocs() {
            assert!(inside(file.span));
        }
    }
    for diagnostic in &parsed.diagnostics {
        assert!(inside(diagnostic.span), "{diagnostic:?}");
        assert!(diagnostic.render(&source, "Dockerfile").lines().count() >= 3);
        assert!(diagnostic.line(&source).starts_with("dockerfile parse error on line "));
    }
    assert!(!parsed.diagnostics.is_empty() || !parsed.dockerfile.instructions.is_empty());
}

proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,200}") {
        check_spans(&text);
    }

    #[test]
    fn no_likely_text_panics(parts in prop::collection::vec(prop::sample::select(vec![
        "FROM ", "RUN ", "COPY ", "ENV ", "ARG ", "ONBUILD ", "HEALTHCHECK ", "LABEL ", "a", "=", "\\", "`", "\n", " ", "\t", "\"",
        "'", "<<E", "<<-E", "E", "[", "]", ",", "--", "--mount=", "--from=", "# ", "escape=", "é", "\u{1f600}", "$", "{", "}", "\r\n",
    ]), 0..40)) {
        check_spans(&parts.concat());
        check_spans(&format!("FROM a\n{}", parts.concat()));
    }
}
