//! What Go's own engine printed for the same templates.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn value() -> Value {
    Value::from_json(
        "",
        &json!({
            "Name": "web", "Id": "0123456789ab", "Pid": 42, "Ratio": 0.5, "Up": true, "Nothing": null,
            "Labels": {"b": "2", "a.b": "1"},
            "State": {"Status": "running", "ExitCode": 0},
            "Args": ["x", "y z", "<"],
            "Empty": [],
            "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}],
        }),
    )
}

fn render(text: &str) -> String {
    match Template::parse("", text).and_then(|template| template.render(&value(), Mode::default())) {
        Ok(text) => text,
        Err(err) => format!("! {err}"),
    }
}

#[test]
fn values_print_as_in_go() {
    for (template, want) in [
        ("{{.Name}}", "web"),
        ("{{.Pid}} {{.Ratio}} {{.Up}} {{.Nothing}}", "42 0.5 true <nil>"),
        ("{{.Args}}", "[x y z <]"),
        ("{{.Labels}}", "map[a.b:1 b:2]"),
        ("{{.State}}", "{running 0}"),
        ("{{.Mounts}}", "[{/a true} {/b false}]"),
        ("{{json .Args}}", r#"["x","y z","<"]"#),
        ("{{json .State}}", r#"{"Status":"running","ExitCode":0}"#),
        ("{{index .Labels \"a.b\"}}", "1"),
        ("{{index .Labels \"none\"}}|", "|"),
        ("{{index .Args 1}}", "y z"),
        ("{{.Labels.b}}", "2"),
        ("{{.Labels.none}}", "<no value>"),
    ] {
        assert_eq!(render(template), want, "{template}");
    }
}

#[test]
fn control_and_variables() {
    for (template, want) in [
        ("{{if .Up}}a{{else}}b{{end}}", "a"),
        ("{{if .Empty}}a{{else if .Name}}b{{else}}c{{end}}", "b"),
        ("{{range .Args}}[{{.}}]{{end}}", "[x][y z][<]"),
        ("{{range $i, $a := .Args}}{{$i}}={{$a}},{{end}}", "0=x,1=y z,2=<,"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a.b=1 b=2 "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Args}}{{if eq . \"y z\"}}{{break}}{{end}}{{.}}{{end}}", "x"),
        ("{{range .Args}}{{if eq . \"x\"}}{{continue}}{{end}}{{.}}{{end}}", "y z<"),
        ("{{with .State}}{{.Status}}{{end}}", "running"),
        ("{{with .Empty}}a{{else}}{{.Name}}{{end}}", "web"),
        ("{{range .Mounts}}{{.Source}} {{$.Name}};{{end}}", "/a web;/b web;"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("a {{- .Name -}} b", "awebb"),
        ("a {{/* no */}} b{{- /* no */ -}} c", "a  bc"),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ("{{.Name | upper | printf \"%s-%s\" \"x\"}}", "x-WEB"),
    ] {
        assert_eq!(render(template), want, "{template}");
    }
}

#[test]
fn functions() {
    for (template, want) in [
        ("{{and true .Name}} {{or .Empty 3}} {{not .Up}}", "web 3 false"),
        (
            "{{eq .Pid 42}} {{eq .Name \"a\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{ge \"b\" \"a\"}}",
            "true true true true true",
        ),
        ("{{len .Name}} {{len .Args}} {{len .Labels}}", "3 3 2"),
        ("{{join .Args \",\"}} {{split \"a,b\" \",\"}}", "x,y z,< [a b]"),
        ("{{title \"ab cd_e\"}} {{lower \"AB\"}} {{upper \"ab\"}}", "Ab Cd_e ab AB"),
        ("[{{pad .Name 1 2}}] {{truncate .Name 2}} [{{pad \"\" 1 1}}]", "[ web  ] we []"),
        ("{{println .Name 1}}", "web 1\n"),
        ("{{print 1 2 \"a\" 3}}", "1 2a3"),
        (
            "{{printf \"%-5s|%5d|%05d|%.2f|%q|%v|%x\" .Name .Pid .Pid .Ratio .Name .Args 255}}",
            "web  |   42|00042|0.50|\"web\"|[x y z <]|ff",
        ),
        ("{{printf \"%d %s\" .Name}}", "%!d(string=web) %!s(MISSING)"),
        ("{{printf \"%s\" .Name 3}}", "web%!(EXTRA int=3)"),
        ("{{slice .Id 0 4}} {{html \"<a>\"}} {{urlquery \"a b\"}}", "0123 &lt;a&gt; a+b"),
        ("{{1.5}} {{0x10}} {{'a'}} {{1e21}} {{`raw\\n`}} {{\"a\\tb\"}}", "1.5 16 97 1e+21 raw\\n a\tb"),
    ] {
        assert_eq!(render(template), want, "{template}");
    }
}

#[test]
fn faults_are_told_in_gos_words() {
    for (template, want) in [
        ("{{.ID", "template: :1: unclosed action"),
        ("{{foo .ID}}", "template: :1: function \"foo\" not defined"),
        ("{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""),
        (
            "{{.State.Foo}}",
            "template: :1:8: executing \"\" at <.State.Foo>: map has no entry for key \"Foo\"",
        ),
        (
            "{{.Name.Foo}}",
            "template: :1:7: executing \"\" at <.Name.Foo>: can't evaluate field Foo in type string",
        ),
        (
            "{{.Nothing.Foo}}",
            "template: :1:10: executing \"\" at <.Nothing.Foo>: nil pointer evaluating interface {}.Foo",
        ),
        ("{{if .Up}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{else}}", "template: :1: unexpected {{else}}"),
        ("{{}}", "template: :1: missing value for command"),
        ("{{$x}}", "template: :1: undefined variable \"$x\""),
        ("{{\"a}}", "template: :1: unterminated quoted string"),
        (
            "{{index .Args 9}}",
            "template: :1:2: executing \"\" at <index>: error calling index: index out of range: 9",
        ),
        ("a\n{{.Foo}}", "template: :2:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\""),
    ] {
        assert_eq!(render(template), format!("! {want}"), "{template}");
    }
}

#[test]
fn what_would_never_end_is_refused() {
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(500), ")".repeat(500));
    assert!(render(&deep).contains("nested too deeply"));
    assert!(render("{{printf \"%999999999d\" 1}}").starts_with('!'));
    assert!(render("{{pad .Name 99999999 0}}").starts_with('!'));
}

proptest! {
    /// No text makes the engine panic.
    #[test]
    fn any_text_is_parsed_or_refused(text in "[{}.$a-zA-Z0-9 \"'`|()\\-:=,/*\n\\\\%é]{0,60}") {
        let _ = render(&text);
        let _ = render(&format!("{{{{{text}}}}}"));
    }

    /// Text without braces goes through as it is.
    #[test]
    fn plain_text_is_itself(text in "[^{]{0,40}") {
        prop_assert_eq!(render(&text), text);
    }

    /// What is quoted comes out again.
    #[test]
    fn quoted_text_is_itself(text in "\\PC{0,20}") {
        prop_assert_eq!(render(&format!("{{{{{}}}}}", quoted(&text))), text);
    }
}
