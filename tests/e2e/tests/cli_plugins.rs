//! Docker's CLI plugins under our command line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends, and says where")]

use std::os::unix::fs::PermissionsExt;

use kit::Host;

const PLUGIN: &str = r#"#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then
    echo '{"SchemaVersion":"0.1.0","Vendor":"us","Version":"v9","ShortDescription":"says what it got"}'
    exit 0
fi
echo "args: $*"
echo "host: $DOCKER_HOST"
"$DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND" ps -q
read line && echo "stdin: $line"
exit 6
"#;

fn install(host: &Host, name: &str, text: &str) {
    let folder = host.root().join("config/cli-plugins");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_plugin_gets_our_place() {
    let host = Host::new();
    install(&host, "docker-tell", PLUGIN);
    let output = host.corten(["--debug", "tell", "--flag", "a b"]).stdin(*b"hello\n").run();
    output.expect_code(6);
    let want =
        format!("args: --debug tell --flag a b\nhost: unix://{}\nstdin: hello\n", host.socket().display());
    assert_eq!(output.stdout, want, "{output}");
    let info = host.corten(["info"]).run();
    assert!(info.stdout.contains("tell: says what it got (us)\n    Version:  v9\n"), "{info}");
    let words = host.corten(["__complete", "te"]).ok();
    assert_eq!(words, "tell\tsays what it got");
}

#[test]
fn a_plugin_cannot_replace_a_command_and_must_describe_itself() {
    let host = Host::new();
    install(&host, "docker-ps", "#!/bin/sh\necho evil\n");
    install(&host, "docker-mute", "#!/bin/sh\nexit 0\n");
    assert_eq!(host.corten(["ps", "-q"]).ok(), "");
    host.corten(["mute"]).fails(1, "failed to fetch metadata");
    host.corten(["../../bin/true"]).fails(1, "unknown command: corten ../../bin/true");
}

#[test]
fn a_shell_completes_words() {
    let host = Host::with_busybox();
    host.corten(["create", "--name", "web", "--network", "none", "busybox"]).ok();
    let complete = |words: &[&str]| {
        let mut all = vec!["__complete"];
        all.extend(words);
        let text = host.corten(all).ok();
        text.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["ru"]), ["run"]);
    assert_eq!(complete(&["container", "l"]), ["logs", "ls"]);
    assert_eq!(complete(&["run", "--pull", ""]), ["always", "missing", "never"]);
    assert_eq!(complete(&["run", "--plat"]), ["--platform"]);
    assert_eq!(complete(&["-H", "x", "ps", "--form"]), ["--format"]);
    assert_eq!(complete(&["start", "w"]), ["web"]);
    assert_eq!(complete(&["stop", "w"]), [""; 0]);
    assert_eq!(complete(&["run", "busy"]), ["busybox:latest"]);
    // The scripts are read by the shells themselves.
    for shell in ["bash", "zsh", "fish"] {
        let script = host.corten(["completion", shell]).ok();
        if kit::Cmd::new("sh").args(["-c", &format!("command -v {shell}")]).run().code == 0 {
            assert_eq!(kit::Cmd::new(shell).args(["-n"]).stdin(script.into_bytes()).run().code, 0, "{shell}");
        }
    }
}
