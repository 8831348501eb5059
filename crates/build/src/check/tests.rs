use proptest::prelude::*;

use super::*;
use crate::parse;
use crate::stages::resolve;
use crate::text::Source;

fn report(text: &str, ignore: Option<&str>) -> Report {
    let parsed = parse(text);
    let request = Request {
        target_platform: Platform::new("linux", "amd64", None),
        build_platform: Platform::new("linux", "amd64", None),
        ..Request::default()
    };
    let (stages, _) = resolve(&parsed.dockerfile, &request);
    let ignore = ignore.map(|text| Ignore::parse(text).expect("good patterns"));
    let image = |name: &str| (name == "rich").then(|| Environment::from_entries(["PATH=/bin", "RICH=1"]));
    let input = Input {
        file: &parsed.dockerfile,
        stages: &stages,
        request: &request,
        ignore: ignore.as_ref(),
        image: &image,
    };
    let options = Options::of(&parsed.dockerfile, &request.arguments).expect("good options");
    check(&input, &options)
}

/// Rule, marked text and message of each warning.
fn warnings(text: &str) -> Vec<(&'static str, &str, String)> {
    let all = report(text, None).warnings.into_iter();
    all.map(|warning| (warning.rule.expect("a rule"), warning.span.of(text), warning.message)).collect()
}

#[test]
fn each_rule_finds_what_it_is_for() {
    let table: &[(&str, &str, &str, &str)] = &[
        ("FROM a AS Base", "StageNameCasing", "Base", "Stage name 'Base' should be lowercase"),
        ("FROM a as b", "FromAsCasing", "as", "'as' and 'FROM' keywords' casing do not match"),
        ("from a AS b", "FromAsCasing", "AS", "'AS' and 'from' keywords' casing do not match"),
        ("FROM a\nRUN a \\\n\n  b", "NoEmptyContinuation", "", "Empty continuation line"),
        (
            "FROM a\nrun b\nRUN c",
            "ConsistentInstructionCasing",
            "run",
            "Command 'run' should match the case of the command majority (uppercase)",
        ),
        (
            "from a\nRun b\nrun c",
            "ConsistentInstructionCasing",
            "Run",
            "Command 'Run' should match the case of the command majority (lowercase)",
        ),
        (
            "FROM a AS b\nFROM c AS b",
            "DuplicateStageName",
            "b",
            "Duplicate stage name \"b\", stage names should be unique",
        ),
        (
            "FROM a AS scratch",
            "ReservedStageName",
            "scratch",
            "Stage name should not use the same name as reserved stage \"scratch\"",
        ),
        (
            "FROM a\nCMD x y",
            "JSONArgsRecommended",
            "CMD",
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        ),
        (
            "FROM a\nMAINTAINER x",
            "MaintainerDeprecated",
            "MAINTAINER",
            "Maintainer instruction is deprecated in favor of using label",
        ),
        (
            "ARG version=1\nFROM a:1$versio",
            "UndefinedArgInFrom",
            "a:1$versio",
            "FROM argument 'versio' is not declared (did you mean version?)",
        ),
        ("FROM a\nCOPY $foo .", "UndefinedVar", "$foo", "Usage of undefined variable '$foo'"),
        (
            "FROM a\nARG version\nLABEL x=$versin",
            "UndefinedVar",
            "$versin",
            "Usage of undefined variable '$versin'",
        ),
        (
            "FROM a\nENV version=1\nLABEL x=$versin",
            "UndefinedVar",
            "$versin",
            "Usage of undefined variable '$versin' (did you mean $version?)",
        ),
        (
            "FROM a\nCMD [\"a\"]\nCMD [\"b\"]",
            "MultipleInstructionsDisallowed",
            "CMD",
            "Multiple CMD instructions should not be used in the same stage because only the last one will be used",
        ),
        (
            "FROM a\nWORKDIR x\nWORKDIR y",
            "WorkdirRelativePath",
            "x",
            "Relative workdir \"x\" can have unexpected results if the base image changes",
        ),
        (
            "FROM a\nENV a b c",
            "LegacyKeyValueFormat",
            "a b c",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        ),
        (
            "FROM --platform=$TARGETPLATFORM a",
            "RedundantTargetPlatform",
            "$TARGETPLATFORM",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        ),
        (
            "FROM a\nARG db_PASSWORD",
            "SecretsUsedInArgOrEnv",
            "db_PASSWORD",
            "Do not use ARG or ENV instructions for sensitive data (ARG \"db_PASSWORD\")",
        ),
        (
            "FROM a\nENV TOKEN=x",
            "SecretsUsedInArgOrEnv",
            "TOKEN",
            "Do not use ARG or ENV instructions for sensitive data (ENV \"TOKEN\")",
        ),
        (
            "ARG tag\nFROM a:${tag}",
            "InvalidDefaultArgInFrom",
            "a:${tag}",
            "Default value for ARG a:${tag} results in empty or invalid base image name",
        ),
        (
            "FROM --platform=linux/amd64 a",
            "FromPlatformFlagConstDisallowed",
            "linux/amd64",
            "FROM --platform flag should not use constant value \"linux/amd64\"",
        ),
        (
            "FROM a\nEXPOSE 80/TcP",
            "ExposeProtoCasing",
            "80/TcP",
            "Defined protocol '80/TcP' in EXPOSE instruction should be lowercase",
        ),
        (
            "FROM a\nEXPOSE 127.0.0.1:80:80",
            "ExposeInvalidFormat",
            "127.0.0.1:80:80",
            "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
        ),
        (
            "# check=experimental=all\n# some comment\nFROM a AS b",
            "InvalidDefinitionDescription",
            "FROM",
            "Comment for FROM should follow the format: `# b <description>`",
        ),
        (
            "# check=experimental=InvalidDefinitionDescription\nFROM a\n# c d\nARG a=1 b=2",
            "InvalidDefinitionDescription",
            "ARG",
            "Comment for ARG should follow the format: `# <arg_key> <description>`",
        ),
    ];
    for (text, rule, marked, message) in table {
        assert_eq!(warnings(text), [(*rule, *marked, (*message).to_owned())], "{text}");
    }
}

#[test]
fn what_is_right_is_not_told() {
    for text in [
        "FROM a AS base",
        "from a as b\nrun c",
        "FROM a\nCMD [\"x\"]\nENTRYPOINT []",
        "FROM a\nSHELL [\"bash\", \"-c\"]\nCMD x",
        "FROM a AS b\nSHELL [\"bash\", \"-c\"]\nFROM b\nCMD x",
        "ARG tag=1\nFROM a:${tag}",
        "ARG tag\nFROM a:${tag:-1}",
        "FROM a\nARG x\nLABEL a=$x",
        "FROM a\nARG x=1 y=$x",
        "FROM a\nENV PATH=$PATH:/x",
        "FROM rich\nLABEL a=$RICH",
        "FROM a\nRUN echo $none",
        "FROM a AS b\nWORKDIR /x\nFROM b\nWORKDIR y",
        "FROM --platform=$BUILDPLATFORM a",
        "FROM --platform=linux/amd64 a AS build-amd64",
        "FROM a\nARG PUBLIC_KEY KEY_FILE monkey keys",
        "FROM a\nEXPOSE 80/tcp 8000-8010",
        "FROM a\nCMD [\"a\"]\nFROM b\nCMD [\"a\"]",
        "# some comment\nFROM a AS b",
        "# check=experimental=all\n# b is a stage\nFROM a AS b\n# no comment\n\nARG x",
        "FROM a\nENV x=1\nENV y=$x z=${none:+1}",
    ] {
        let found: Vec<_> =
            warnings(text).into_iter().filter(|(_, marked, _)| *marked != "${none:+1}").collect();
        assert_eq!(found, [], "{text}");
    }
}

#[test]
fn hidden_files_are_told() {
    let text = "# check=experimental=CopyIgnoredFile\nFROM a\nCOPY ./tmp/x keep /d/\nADD /a.log https://x.example/a.log /d/\nCOPY . /d\nCOPY --from=b tmp /d";
    let messages: Vec<String> =
        report(text, Some("tmp\n*.log")).warnings.into_iter().map(|warning| warning.message).collect();
    assert_eq!(
        messages,
        [
            "Attempting to Copy file \"./tmp/x\" that is excluded by .dockerignore",
            "Attempting to Add file \"/a.log\" that is excluded by .dockerignore",
        ]
    );
    assert_eq!(report(text, Some("tmp\n!tmp/x")).warnings, []);
    assert_eq!(report("FROM a\nCOPY tmp /d", Some("tmp")).warnings, []);
}

#[test]
fn checks_are_chosen() {
    let found = |head: &str| report(&format!("{head}\nFROM a AS Base\nCMD x"), None);
    let names =
        |head: &str| found(head).warnings.iter().filter_map(|warning| warning.rule).collect::<Vec<_>>();
    assert_eq!(names(""), ["StageNameCasing", "JSONArgsRecommended"]);
    assert_eq!(names("# check=skip=JSONArgsRecommended , X"), ["StageNameCasing"]);
    assert_eq!(names("# check=skip=all;error=true"), [""; 0]);
    assert_eq!(
        found("# check=error=true").failure.as_deref(),
        Some("lint violation found for rules: JSONArgsRecommended, StageNameCasing")
    );
    assert_eq!(found("# check=error=true;skip=all").failure, None);
    for (text, expected) in [
        ("skip", "invalid check option \"skip\""),
        ("what=x", "invalid check option \"what\""),
        ("error=maybe", "failed to parse check option \"error=maybe\""),
    ] {
        assert_eq!(Options::parse(text), Err(expected.to_owned()));
    }
}

#[test]
fn rules_are_listed_once() {
    let mut names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), RULES.len());
    let url = |name: &str| Rule::named(name).map(Rule::url).unwrap_or_default();
    assert!(url("JSONArgsRecommended").ends_with("/json-args-recommended/"));
    assert!(url("FromPlatformFlagConstDisallowed").ends_with("/from-platform-flag-const-disallowed/"));
    assert!(url("SecretsUsedInArgOrEnv").ends_with("/secrets-used-in-arg-or-env/"));
}

proptest! {
    #[test]
    fn no_text_panics(parts in prop::collection::vec(prop::sample::select(vec![
        "FROM a", "FROM $x AS b", "FROM b", "ARG x=1", "ENV a=$b", "COPY --from=b $c /d", "EXPOSE 1:2/TCP :", "WORKDIR $a", "CMD x",
        "# c", "", "RUN --mount=from=b x \\", "ENTRYPOINT y", "SHELL [\"a\"]", "HEALTHCHECK CMD x", "LABEL a b", "é", "FROM --platform=$y é",
    ]), 0..20)) {
        let text = format!("# check=experimental=all\n{}", parts.join("\n"));
        let source = Source::new(&text);
        for warning in report(&text, Some("d\n*")).warnings {
            prop_assert!(warning.span.start <= warning.span.end && warning.span.end <= text.len());
            prop_assert!(warning.render(&source, "Dockerfile").contains('^'));
        }
    }
}
