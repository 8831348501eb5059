use serde_json::Value;

use super::*;

const TEXT: &str = "# VERSION is which one\nARG VERSION=1\n# base has the tools\nFROM busybox AS base\nARG TOOLS\n\
    FROM alpine:$VERSION AS unused\nFROM base\nMAINTAINER somebody\nRUN --mount=type=secret,id=token,required cat /run/secrets/token\n";

fn ask(question: Question, text: &str) -> (Answer, Value) {
    let document = Document::new("Dockerfile", text);
    let answer = question.ask(&document, &stages::Request::default(), None).unwrap();
    let json = serde_json::from_str(&answer.json).unwrap();
    (answer, json)
}

#[test]
fn lint_names_rules_and_places() {
    let (answer, json) = ask(Question::Lint, TEXT);
    assert!(!answer.is_fine);
    assert!(
        answer.text.starts_with(
            "Check complete, 1 warning has been found!\n\nWARNING: MaintainerDeprecated - https://"
        ),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("Dockerfile:8:1: warning[MaintainerDeprecated]"), "{}", answer.text);
    assert_eq!(json["warnings"][0]["ruleName"], "MaintainerDeprecated");
    assert_eq!(json["warnings"][0]["location"]["ranges"][0]["start"]["line"], 8);
    assert_eq!(json["sources"][0]["filename"], "Dockerfile");
    let (answer, _) = ask(Question::Lint, "FROM scratch\nCOPY a /\n");
    assert!(answer.is_fine && answer.text == "Check complete, no warnings found.\n");
    let (answer, json) = ask(Question::Lint, "FROM scratch\nCPY a /\n");
    assert!(!answer.is_fine && answer.text.contains("did you mean COPY?"), "{}", answer.text);
    assert!(json["buildError"]["message"].as_str().unwrap().contains("line 2"), "{json}");
}

#[test]
fn targets_are_listed() {
    let (answer, json) = ask(Question::Targets, TEXT);
    assert_eq!(answer.text, "TARGET      DESCRIPTION\nbase        has the tools\nunused\n(default)\n");
    assert_eq!(json["targets"][2]["base"], "base");
    assert_eq!(json["targets"][2]["default"], true);
    assert_eq!(json["targets"][1]["base"], "alpine:1");
}

#[test]
fn an_outline_is_of_what_the_target_needs() {
    let (answer, json) = ask(Question::Outline, TEXT);
    assert_eq!(
        answer.text,
        "BUILD ARG   VALUE   DESCRIPTION\nVERSION     1       is which one\nTOOLS\n\nSECRET   REQUIRED\ntoken    true\n"
    );
    assert_eq!(json["secrets"][0]["name"], "token");
    let document = Document::new("f", "FRM x\n");
    let error = Question::Outline.ask(&document, &stages::Request::default(), None).unwrap_err();
    assert!(error.contains("f:1:1: error"), "{error}");
}

#[test]
fn questions_have_names() {
    for question in Question::ALL {
        assert_eq!(Question::named(question.name()), Some(question));
    }
    assert_eq!(Question::named("frontend.other"), None);
}
