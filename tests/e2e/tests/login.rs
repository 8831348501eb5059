//! Who a user is to a registry: shown, kept where no text editor shows it, found by every tool, and forgotten.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use kit::faulty::{Fault, Faulty};
use kit::fixtures::{self, Image, Layout};
use kit::http::Answer;
use kit::registry::{Access, Registry, Setup};
use kit::tokens::REFRESH_TOKEN;
use kit::{CLIS, Cli, Cmd, Host, binary};

fn protected() -> Registry {
    Registry::with(Setup {
        access: Access::Basic { username: "ann".into(), password: "s3cret".into() },
        tls: false,
    })
}

fn small() -> Layout {
    Layout::new(&[Image::new(vec![fixtures::noise_layer(1000, 3)], serde_json::json!({"Cmd": ["true"]}))])
}

/// A folder of PATH in which our helper is.
fn helper(host: &Host) -> String {
    let folder = host.root().join("bin");
    if !folder.exists() {
        fs::create_dir(&folder).expect("make a folder");
        symlink(binary(), folder.join("docker-credential-corten")).expect("link the helper");
    }
    format!("{}:{}", folder.display(), std::env::var("PATH").expect("PATH"))
}

fn with_helper(host: &Host, cli: Cli, args: &[&str]) -> Cmd {
    host.cli(cli, args).env("PATH", helper(host))
}

fn config_path(host: &Host) -> PathBuf {
    host.root().join("config/config.json")
}

fn config(host: &Host) -> serde_json::Value {
    let text = fs::read(config_path(host)).expect("read config.json");
    serde_json::from_slice(&text).expect("config.json is JSON")
}

/// Everything below a host's home that is not the engine's.
fn kept(host: &Host) -> String {
    let mut text = fs::read_to_string(config_path(host)).unwrap_or_default();
    let mut folders = vec![host.root().join(".local/share/corten/credentials")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match fs::read(entry.path()) {
                Ok(bytes) => text += &String::from_utf8_lossy(&bytes),
                Err(_) => folders.push(entry.path()),
            }
        }
    }
    text
}

#[test]
fn a_password_is_kept_encrypted_and_found_by_all_tools() {
    let registry = protected();
    let name = registry.push(&small(), "a/b:1");
    let server = registry.host();
    for (logs_in, other) in [(Cli::Corten, Cli::Docker), (Cli::Docker, Cli::Corten)] {
        let host = Host::new();
        // Where tools look that do not know DOCKER_CONFIG.
        symlink(host.root().join("config"), host.root().join(".docker")).expect("a link");
        if logs_in == Cli::Docker {
            // As whoever has logged in by us once has it.
            fs::create_dir_all(host.root().join("config")).unwrap();
            fs::write(config_path(&host), "{\"credsStore\":\"corten\"}").unwrap();
        }
        let login = ["login", "-u", "ann", "--password-stdin", &server];
        let output = with_helper(&host, logs_in, &login).stdin("s3cret\n").run();
        output.expect_code(0);
        assert_eq!(output.stdout.trim(), "Login Succeeded");
        assert_eq!(config(&host)["credsStore"], "corten");
        assert_eq!(config(&host)["auths"], serde_json::json!({&server: {}}));
        let text = kept(&host);
        assert!(!text.contains("s3cret") && !text.contains("YW5uOnMzY3JldA"), "{text}");

        for cli in [logs_in, other] {
            with_helper(&host, cli, &["pull", "-q", &name]).ok();
            host.cli(cli, ["rmi", &name]).ok();
        }
        // By the registry's own entry, which is where it looks.
        if logs_in == Cli::Corten {
            let skopeo = ["inspect", "--tls-verify=false", &format!("docker://{name}")].map(str::to_owned);
            host.program("skopeo", skopeo).env("PATH", helper(&host)).env("HOME", host.root()).ok();
        }
        // Once more without asking.
        let again = with_helper(&host, Cli::Corten, &["login", &server]).run();
        again.expect_code(0);
        assert!(
            again.stderr.contains("Authenticating with existing credentials... [Username: ann]"),
            "{}",
            again.stderr
        );

        let said = with_helper(&host, other, &["logout", &server]).ok();
        assert_eq!(said, format!("Removing login credentials for {server}"));
        with_helper(&host, logs_in, &["pull", &name]).fails(1, "no basic auth credentials");
        assert!(
            config(&host).get("auths").is_none_or(|auths| auths.get(&server).is_none()),
            "{}",
            kept(&host)
        );
    }
}

#[test]
fn without_the_helper_it_is_encrypted_all_the_same() {
    let registry = protected();
    let name = registry.push(&small(), "a/b:1");
    let host = Host::new();
    let output =
        host.corten(["login", "-u", "ann", "--password-stdin", &registry.host()]).stdin("s3cret").run();
    output.expect_code(0);
    assert!(output.stderr.contains("link docker-credential-corten to this program"), "{}", output.stderr);
    assert!(!kept(&host).contains("s3cret"));
    assert!(config(&host).get("credsStore").is_none());
    host.corten(["pull", "-q", &name]).ok();
    // docker has not what it cannot find, and says no more than that.
    host.docker(["pull", &name]).fails(1, "no basic auth credentials");
    host.corten(["logout", &registry.host()]).ok();
    host.corten(["rmi", &name]).ok();
    host.corten(["pull", &name]).fails(1, "no basic auth credentials");
}

#[test]
fn jobs_with_a_configuration_of_their_own_see_nobody_elses_passwords() {
    let registry = protected();
    let name = registry.push(&small(), "a/b:1");
    let host = Host::new();
    let job = |number: u32, args: &[&str]| {
        let config = host.root().join(format!("job{number}"));
        fs::create_dir_all(&config).expect("a folder");
        with_helper(&host, Cli::Corten, args).env("DOCKER_CONFIG", config)
    };
    job(1, &["login", "-u", "ann", "--password-stdin", &registry.host()]).stdin("s3cret").ok();
    job(1, &["pull", "-q", &name]).ok();
    host.corten(["rmi", &name]).ok();
    job(2, &["pull", &name]).fails(1, "no basic auth credentials");
    // The other's end is no end of ours.
    job(2, &["logout", &registry.host()]).ok();
    job(1, &["pull", "-q", &name]).ok();
}

#[test]
fn as_plain_text_where_that_is_asked_for_and_beside_it() {
    let (registry, other) = (protected(), protected());
    let name = registry.push(&small(), "a/b:1");
    let host = Host::new();
    let args = ["login", "--plaintext", "-u", "ann", "--password-stdin", &registry.host()];
    let output = with_helper(&host, Cli::Corten, &args).stdin("s3cret").run();
    output.expect_code(0);
    assert!(
        output.stderr.contains("WARNING! Your credentials are stored unencrypted in"),
        "{}",
        output.stderr
    );
    assert_eq!(config(&host)["auths"][registry.host()]["auth"], "YW5uOnMzY3JldA==");
    host.docker(["pull", "-q", &name]).ok();
    // What stands there as text stays in use; the next is encrypted by itself.
    let args = ["login", "-u", "ann", "--password-stdin", &other.host()];
    with_helper(&host, Cli::Corten, &args).stdin("s3cret").ok();
    assert_eq!(config(&host)["credHelpers"], serde_json::json!({other.host(): "corten"}));
    assert!(config(&host).get("credsStore").is_none());
    host.docker(["rmi", &name]).ok();
    with_helper(&host, Cli::Docker, &["pull", "-q", &name]).ok();
    let second = other.push(&small(), "a/b:2");
    with_helper(&host, Cli::Docker, &["pull", "-q", &second]).ok();
}

#[test]
fn as_plain_text_though_a_helper_is_named() {
    let registry = protected();
    let name = registry.push(&small(), "a/b:1");
    let host = Host::new();
    fs::write(config_path(&host), "{\"credsStore\":\"corten\"}").unwrap();
    let args = ["login", "--plaintext", "-u", "ann", "--password-stdin", &registry.host()];
    with_helper(&host, Cli::Corten, &args).stdin("s3cret").ok();
    assert_eq!(config(&host)["auths"][registry.host()]["auth"], "YW5uOnMzY3JldA==");
    for cli in CLIS {
        with_helper(&host, cli, &["pull", "-q", &name]).ok();
        host.cli(cli, ["rmi", &name]).ok();
    }
    fs::write(config_path(&host), "{\"credsStore\":\"gone\"}").unwrap();
    host.corten(args).stdin("s3cret").fails(1, "config.json has docker-credential-gone keep passwords");
    // A helper that is not there keeps nobody from what is public.
    let open = Registry::start();
    let public = open.push(&small(), "a/b:1");
    let output = host.corten(["pull", "-q", &public]).run();
    output.expect_code(0);
    assert!(output.stderr.contains("WARNING: going on without credentials: "), "{}", output.stderr);
    host.corten(["logout", &registry.host()]).ok();
}

#[test]
fn a_wrong_password_is_told_where_nobody_asks_for_one() {
    let asked = Faulty::alone();
    let refusal =
        Answer::new(401, "application/json", r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong"}]}"#);
    asked.fault("/v2/", Fault::Instead(Answer::new(200, "application/json", "{}")), 1);
    asked.fault("/v2/", Fault::Instead(refusal), 1);
    let host = Host::new();
    let login = ["login", "-u", "ann", "--password-stdin", &asked.host()];
    host.corten(login).stdin("wrong").fails(1, "unauthorized: wrong");
    asked.fault("/v2/", Fault::Instead(Answer::new(200, "application/json", "{}")), 2);
    host.corten(login).stdin("right").ok();
}

#[test]
fn a_token_is_kept_in_place_of_a_password() {
    let registry = Registry::with(Setup {
        access: Access::Token { username: "ann".into(), password: "s3cret".into() },
        tls: false,
    });
    let name = registry.push(&small(), "private/b:1");
    for cli in CLIS {
        let host = Host::new();
        fs::create_dir_all(host.root().join("config")).unwrap();
        fs::write(config_path(&host), "{\"credsStore\":\"corten\"}").unwrap();
        let login = ["login", "-u", "ann", "--password-stdin", &registry.host()];
        with_helper(&host, cli, &login).stdin("s3cret").ok();
        let get = host.program(host.root().join("bin/docker-credential-corten").to_str().unwrap(), ["get"]);
        let get = get.env("HOME", host.root()).env("DOCKER_CONFIG", host.root().join("config"));
        let said = get.stdin(registry.host()).ok();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            said,
            serde_json::json!({"ServerURL": registry.host(), "Username": "<token>", "Secret": REFRESH_TOKEN})
        );
        with_helper(&host, cli, &["pull", "-q", &name]).ok();
    }
}

#[test]
fn what_is_refused() {
    let registry = protected();
    let server = registry.host();
    let host = Host::new();
    for cli in CLIS {
        let login = ["login", "-u", "ann", "--password-stdin", &server];
        host.cli(cli, login)
            .stdin("wrong")
            .fails(1, &format!("Error response from daemon: Get \"http://{server}/v2/\": "));
        assert!(!config_path(&host).exists());
        host.cli(cli, ["login", "--password-stdin", &server])
            .stdin("x")
            .fails(1, "the --password-stdin option requires --username to be set");
        host.cli(cli, ["login", "-u", "a", "-p", "b", "--password-stdin", &server])
            .stdin("x")
            .fails(1, "conflicting options: cannot specify both --password and --password-stdin");
        host.cli(cli, ["login", &server])
            .stdin("")
            .fails(1, "Cannot perform an interactive login from a non TTY device");
        host.cli(cli, ["login", "-u", "a", "-p", "b", "127.0.0.1:1"]).fails(1, "connection refused");
        host.cli(cli, ["logout", &server]).ok();
    }
    // The helper's words are what its protocol says.
    helper(&host);
    let program = host.root().join("bin/docker-credential-corten");
    let ask = |args: &[&str], told: &str| {
        host.program(program.to_str().unwrap(), args.iter().copied())
            .env("HOME", host.root())
            .stdin(told)
            .run()
    };
    let output = ask(&["get"], "nowhere.example\n");
    output.expect_code(1);
    assert_eq!(output.stdout.trim(), "credentials not found in native keychain");
    ask(&["store"], r#"{"ServerURL":"x.example","Username":"u","Secret":"p"}"#).expect_code(0);
    assert_eq!(ask(&["list"], "").stdout.trim(), r#"{"x.example":"u"}"#);
    ask(&["erase"], "x.example").expect_code(0);
    assert_eq!(ask(&["list"], "").stdout.trim(), "{}");
    for (args, told) in
        [(&["store"][..], "{"), (&["store"], "{}"), (&["get"], ""), (&["fly"], "x"), (&[], "")]
    {
        ask(args, told).expect_code(1);
    }
}

#[test]
fn asked_on_a_terminal() {
    let registry = protected();
    let server = registry.host();
    let host = Host::new();
    let mut terminal = host.terminal(Cli::Corten, &["login", &server]);
    terminal.expect("Username: ");
    terminal.send("ann\r");
    terminal.expect("Password: ");
    terminal.send("s3cret\r");
    terminal.expect("Login Succeeded");
    let screen = terminal.screen();
    assert!(!screen.contains("s3cret"), "{screen}");
    assert_eq!(terminal.wait(), 0);
}

#[test]
fn repositories_are_looked_for() {
    let hub = Faulty::alone();
    let found = r#"{"results":[
        {"name":"busybox","description":"a box\nof tools","star_count":40,"is_official":true,"is_automated":false},
        {"name":"team/busy","description":"","star_count":3,"is_official":false,"is_automated":false}]}"#;
    hub.fault("/v1/search", Fault::Instead(Answer::new(200, "application/json", found)), 99);
    let registry = Registry::start();
    for name in ["team/app:1", "team/tool:1", "other:1"] {
        registry.push(&small(), name);
    }
    let host = Host::new();
    for cli in CLIS {
        let term = format!("{}/busybox", hub.host());
        let said = host.cli(cli, ["search", &term]).ok();
        let lines: Vec<Vec<&str>> = said
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], "{said}");
        assert_eq!(lines[1], [&format!("{}/busybox", hub.host()), "a box of tools", "40", "[OK]"], "{said}");
        let said = host
            .cli(cli, ["search", "--filter", "stars=10", "--format", "{{.Name}} {{.StarCount}}", &term])
            .ok();
        assert_eq!(said, format!("{}/busybox 40", hub.host()));
        assert!(
            host.cli(cli, ["search", "--filter", "is-official=false", "--format", "{{.Name}}", &term])
                .ok()
                .ends_with("/team/busy")
        );
        host.cli(cli, ["search", "--limit", "101", &term])
            .fails(1, "limit 101 is outside the range of [1, 100]");
        host.cli(cli, ["search", "--filter", "stars=x", &term]).fails(1, "invalid filter 'stars=[x]'");
        // A registry without a search of its own has a catalogue.
        let said =
            host.cli(cli, ["search", "--format", "{{.Name}}", &format!("{}/team", registry.host())]).ok();
        let mut names: Vec<&str> = said.lines().collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [format!("{}/team/app", registry.host()), format!("{}/team/tool", registry.host())]
        );
    }
    assert!(hub.asked().iter().any(|asked| asked.path == "/v1/search?q=busybox&n=25"), "{:?}", hub.asked());
}
