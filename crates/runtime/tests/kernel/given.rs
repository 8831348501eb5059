//! Files that a caller names, and what is asked of the command line alone.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::bundle::{Bundle, possible, program, text};

/// What the command says, which must not wait for anybody.
fn at_once(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("{command:?} waits");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn refusal(command: Command) -> String {
    let output = at_once(command);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.lines().count() == 1, "{error}");
    error
}

fn fifo(path: &Path) {
    let directory = sys::fsx::open_dir(path.parent().unwrap()).unwrap();
    let mode = sys::fsx::Mode::from_raw_mode(0o600);
    sys::fsx::mknod_at(directory, path.file_name().unwrap(), sys::fsx::FileType::Fifo, mode, 0).unwrap();
}

/// The command with this on its standard input.
fn told(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let id = bundle.id();
    let pipe = bundle.path().join("fifo");
    fifo(&pipe);
    for path in [pipe.to_str().unwrap(), "/dev/zero", "/tmp"] {
        for args in [["exec", "--process", path, &id], ["update", "--resources", path, &id]] {
            let error = refusal(bundle.command(&args));
            assert!(error.contains(&format!("{path} is not a regular file")), "{error}");
        }
    }
    let output = at_once(bundle.command(&["--log", pipe.to_str().unwrap(), "state", "nobody"]));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("does not exist") && error.contains("cannot write"), "{error}");
    let odd = tempfile::tempdir().unwrap();
    fifo(&odd.path().join("config.json"));
    let error = refusal(bundle.command(&["create", "--bundle", odd.path().to_str().unwrap(), "odd"]));
    assert!(error.contains("config.json is not a regular file"), "{error}");
}

#[test]
fn a_process_and_limits_can_come_from_standard_input() {
    if !possible() {
        return;
    }
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.start();
    let id = bundle.id();
    let process = json!({"args": ["echo", "from a pipe"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]});
    assert_eq!(text(&told(bundle.command(&["exec", "-p", "-", &id]), &process.to_string())), "from a pipe\n");
    text(&told(bundle.command(&["update", "-r", "-", &id]), r#"{"pids": {"limit": 77}, "unknown": []}"#));
    for (wrong, name) in [("[]", "the document"), ("7", "the document"), (r#"{"memory": [1]}"#, "memory")] {
        let output = told(bundle.command(&["update", "-r", "-", &id]), wrong);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.contains(&format!("{name} is not an object")), "{error}");
    }
    let long = " ".repeat((1 << 20) + 1);
    let file = bundle.path().join("long");
    fs::write(&file, long).unwrap();
    let error = refusal(bundle.command(&["update", "-r", file.to_str().unwrap(), &id]));
    assert!(error.contains("is larger than 1048576 bytes"), "{error}");
}

#[test]
fn help_is_given_for_a_command() {
    let runtime = |args: &[&str]| Command::new(program()).args(args).output().unwrap();
    let help = text(&runtime(&["help", "exec"]));
    assert!(help.starts_with("Usage: corten runtime exec"), "{help}");
    assert_eq!(help, text(&runtime(&["exec", "--help"])));
    assert!(text(&runtime(&["help"])).starts_with("Usage: corten runtime [OPTIONS] COMMAND"));
    let output = runtime(&["help", "nonsense"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown command \"nonsense\""));
}
