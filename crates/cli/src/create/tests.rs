//! Whole command lines and the requests they make.

use super::*;
use crate::flags::parse;
use serde_json::{Value, json};
use std::path::Path;

fn request(args: &[&str]) -> std::result::Result<Value, String> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let parsed = parse(&[RUN_FLAGS], false, &args).map_err(|err| err.to_string())?;
    let wanted = wanted(&parsed, &ConfigFile::empty(Path::new("/"))).map_err(|err| err.to_string())?;
    Ok(serde_json::to_value(&wanted.request).unwrap())
}

#[test]
fn the_command_line_becomes_a_request() {
    let made = request(&[
        "-it",
        "--rm",
        "-m",
        "64m",
        "--cpus=1.5",
        "-e",
        "A=1",
        "-l",
        "x",
        "-v",
        "/a:/b:ro",
        "-v",
        "/anon",
        "--tmpfs",
        "/t:size=1m",
        "--entrypoint",
        "",
        "--init=false",
        "-p",
        "80",
        "img",
        "sh",
        "-c",
        "exit 3",
    ])
    .unwrap();
    assert_eq!(made["Cmd"], json!(["sh", "-c", "exit 3"]));
    assert_eq!(made["Entrypoint"], json!([""]));
    assert_eq!(made["StdinOnce"], true);
    assert_eq!(made["Env"], json!(["A=1"]));
    assert_eq!(made["Labels"], json!({"x": ""}));
    assert_eq!(made["Volumes"], json!({"/anon": {}}));
    let host = &made["HostConfig"];
    assert_eq!(host["Memory"], 64 << 20);
    assert_eq!(host["NanoCpus"], 1_500_000_000);
    assert_eq!(host["Binds"], json!(["/a:/b:ro"]));
    assert_eq!(host["Tmpfs"], json!({"/t": "size=1m"}));
    assert_eq!(host["Init"], false);
    assert_eq!(host["AutoRemove"], true);
    assert_eq!(host["PortBindings"], json!({"80/tcp": [{"HostIp": "", "HostPort": ""}]}));
    assert_eq!(host["NetworkMode"], "default");
}

#[test]
fn what_is_not_asked_for_is_not_sent() {
    let made = request(&["img"]).unwrap();
    assert_eq!(made["Cmd"], Value::Null);
    assert_eq!(made["Entrypoint"], Value::Null);
    assert!(made["HostConfig"].get("Init").is_none());
    assert!(made.get("Healthcheck").is_none());
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (args, want) in [
        (
            &["--rm", "--restart=always", "i"][..],
            "conflicting options: cannot specify both --restart and --rm",
        ),
        (
            &["--restart=on-failure:x", "i"],
            "invalid restart policy format: maximum retry count must be an integer",
        ),
        (&["--no-healthcheck", "--health-cmd=x", "i"], "--no-healthcheck conflicts with --health-* options"),
        (&["--pid=foo", "i"], "--pid: invalid PID mode"),
        (&["--uts=foo", "i"], "--uts: invalid UTS mode"),
        (&["--memory-swappiness=101", "i"], "invalid value: 101. Valid memory swappiness range is 0-100"),
        (&["--security-opt=foo", "i"], "Invalid --security-opt: \"foo\""),
        (&["--network=a", "--network=a", "i"], "network \"a\" is specified multiple times"),
        (&["-v", "", "i"], "invalid empty volume spec"),
        (
            &["-a", "x", "i"],
            "invalid argument \"x\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR",
        ),
        (&["--log-driver=none", "--log-opt=a=b", "i"], "invalid logging opts for driver none"),
    ] {
        assert_eq!(request(args).unwrap_err(), want);
    }
}

#[test]
fn health_and_paths() {
    let made = request(&["--no-healthcheck", "--security-opt=systempaths=unconfined", "i"]).unwrap();
    assert_eq!(made["Healthcheck"], json!({"Test": ["NONE"]}));
    assert_eq!(made["HostConfig"]["MaskedPaths"], json!([]));
    let made = request(&["--health-cmd=true", "--health-interval=1m30s", "i"]).unwrap();
    assert_eq!(made["Healthcheck"], json!({"Test": ["CMD-SHELL", "true"], "Interval": 90_000_000_000i64}));
}
