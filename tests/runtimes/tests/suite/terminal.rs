//! `process.terminal`: given over a socket, or attended by the runtime.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use runtimes::{Bundle, Runtime, judge};
use serde_json::{Value, json};

/// A container on a terminal.
fn on_terminal(runtime: &Runtime, steps: Value) -> Bundle {
    let mut bundle = Bundle::new(runtime, steps);
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 101});
    bundle
}

/// Runs a command that sends a terminal to `--console-socket`; the controlling end.
fn receive(bundle: &Bundle, args: &[&str]) -> OwnedFd {
    let path = bundle.path().join("console");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let mut all = vec![args[0], "--console-socket", path.to_str().unwrap()];
    all.extend(&args[1..]);
    let mut running = bundle.spawn(bundle.command(&all));
    let stream = runtimes::accept(&listener, &mut running);
    let (mut buffer, mut descriptors) = ([0; 4096], Vec::new());
    sys::socket::recv_fds(&stream, &mut buffer, &mut descriptors).unwrap();
    assert_eq!(descriptors.len(), 1);
    running.wait().success();
    descriptors.swap_remove(0)
}

/// Reads lines until one is of JSON.
fn line(controller: &OwnedFd) -> Value {
    let mut file = File::from(controller.try_clone().unwrap());
    let mut text = String::new();
    let mut byte = [0];
    loop {
        file.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
        if byte[0] == b'\n' {
            // What was typed is echoed in front of it.
            let start = text.find(['[', '{']).unwrap_or_default();
            if let Ok(value) = serde_json::from_str(text[start..].trim()) {
                return value;
            }
            text.clear();
        }
    }
}

#[test]
fn it_comes_over_the_socket() {
    judge(|runtime| {
        let bundle = on_terminal(runtime, json!([["world"], ["stat", "/dev/console"], ["hold"]]));
        let controller = receive(&bundle, &["create", &bundle.id()]);
        bundle.start();
        let results = line(&controller);
        let (report, console) = (&results[0], &results[1]["ok"]);
        assert_eq!(report["tty"]["rows"], 33);
        assert_eq!(report["tty"]["columns"], 101);
        assert_eq!(report["tty"]["foreground"], 1);
        assert_eq!((&report["sid"], &report["pgid"]), (&json!(1), &json!(1)));
        for number in ["0", "1", "2"] {
            let link = report["fds"][number].as_str().unwrap();
            assert!(link.starts_with("/dev/pts/") || link == "/dev/console", "{link}");
        }
        assert_eq!((&console["kind"], &console["major"]), (&json!("c"), &json!(136)));
        assert_eq!(report["fds"].as_object().unwrap().len(), 3, "{}", report["fds"]);
        // What is typed becomes a signal, as the program controls the terminal.
        let _ = line(&controller);
        File::from(controller.try_clone().unwrap()).write_all(b"\x03").unwrap();
        assert_eq!(line(&controller), json!({"signal": 2}));
        sys::pty::set_size(&controller, 44, 55).unwrap();
        assert_eq!(line(&controller), json!({"signal": 28}));
    });
}

#[test]
fn it_belongs_to_the_user() {
    judge(|runtime| {
        let mut bundle = on_terminal(runtime, json!([["stat", "/dev/console"], ["open", "/dev/tty", "rw"]]));
        bundle.config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        let controller = receive(&bundle, &["create", &bundle.id()]);
        bundle.start();
        let results = line(&controller);
        assert_eq!(results[0]["ok"]["uid"], 1000);
        assert_eq!(results[1], json!({"ok": null}));
    });
}

#[test]
fn a_container_in_the_background_sends_it_too() {
    judge(|runtime| {
        let bundle = on_terminal(runtime, json!([["world"], ["hold"]]));
        let controller = receive(&bundle, &["run", "--detach", &bundle.id()]);
        assert_eq!(line(&controller)[0]["tty"]["rows"], 33);
    });
}

#[test]
fn further_processes_have_terminals_of_their_own() {
    judge(|runtime| {
        let bundle = Bundle::new(runtime, json!([["hold"]]));
        bundle.launch();
        let _ = bundle.holding();
        let steps = json!([["world"], ["hold"]]).to_string();
        let controller = receive(&bundle, &["exec", "--tty", "--detach", &bundle.id(), "/probe", &steps]);
        let report = &line(&controller)[0];
        assert_eq!(report["tty"]["foreground"], report["pid"]);
        assert_eq!(report["sid"], report["pid"]);
    });
}

#[test]
fn in_the_foreground_the_runtime_attends_it() {
    judge(|runtime| {
        let bundle = on_terminal(runtime, json!([["say", "ready"], ["stdin"], ["exit", 9]]));
        let id = bundle.id();
        let run = bundle.command(&["run", &id]);
        let words: Vec<String> = std::iter::once(run.get_program())
            .chain(run.get_args())
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // The terminal starts in whatever directory, and knows the bundle by its flag.
        let mut with_bundle = words.clone();
        let bundle_path = bundle.path().display().to_string();
        with_bundle.splice(words.len() - 1.., ["--bundle", bundle_path.as_str(), id.as_str()]);
        let mut terminal = kit::Terminal::spawn(with_bundle[0], &with_bundle[1..], &[]);
        // Before that it is the outer terminal that would get it.
        terminal.expect("ready");
        terminal.send("typed\n\x04");
        terminal.expect("\"ok\":\"typed\\n\"");
        assert_eq!(terminal.wait(), 9);
    });
}

#[test]
fn a_socket_and_a_terminal_belong_together() {
    judge(|runtime| {
        let bundle = on_terminal(runtime, json!([["hold"]]));
        assert_ne!(bundle.made("create", &[]).code, 0, "a terminal and no socket");
        assert_eq!(bundle.left(), Vec::<String>::new());
        let output = bundle.made("create", &["--console-socket", "/not/there"]);
        assert_ne!(output.code, 0, "a socket that is not there");
        assert_eq!(bundle.left(), Vec::<String>::new());
    });
}
