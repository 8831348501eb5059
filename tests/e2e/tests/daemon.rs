//! The daemon itself: its flags and file, its sockets, TLS, what it refuses, how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends, and says where")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use kit::{CLIS, Cmd, Host, binary, wait_for};

/// Certificates of a test's own: an authority, a server for 127.0.0.1, a client, and a client of another authority.
fn certificates(dir: &Path) {
    let openssl = |args: &[&str]| {
        Cmd::new("openssl").args(args).current_dir(dir).ok();
    };
    fs::write(
        dir.join("server.ext"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n",
    )
    .unwrap();
    fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n").unwrap();
    for authority in ["ca", "other-ca"] {
        let (key, cert) = (format!("{authority}-key.pem"), format!("{authority}.pem"));
        let subject = format!("/CN={authority}");
        openssl(&[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject, "-keyout",
            &key, "-out", &cert,
        ]);
    }
    for (name, authority, extensions) in [
        ("server", "ca", "server.ext"),
        ("client", "ca", "client.ext"),
        ("stranger", "other-ca", "client.ext"),
    ] {
        let (key, request, cert) =
            (format!("{name}-key.pem"), format!("{name}.csr"), format!("{name}-cert.pem"));
        let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}-key.pem"));
        let subject = format!("/CN={name}");
        openssl(&[
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject, "-keyout", &key, "-out", &request,
        ]);
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-out",
            &cert,
            "-extfile",
            extensions,
        ]);
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn flags_and_file_are_checked() {
    let host = Host::stopped(&[]);
    host.daemon(&["--no-such-flag"]).fails(125, "unknown flag: --no-such-flag");
    host.daemon(&["--experimental=true"]).fails(125, "--experimental is not supported yet");
    host.daemon(&["-H", "http://x"]).fails(1, "invalid bind address");
    host.daemon(&["-H", "tcp://0.0.0.0:0"]).fails(1, "--tlsverify");
    host.daemon(&["--group", "no-such-group"]).fails(1, "no-such-group");
    assert_eq!(host.daemon(&["--validate"]).ok(), "configuration OK");
    fs::write(host.root().join("daemon.json"), r#"{"nonsense": true}"#).unwrap();
    host.daemon(&[]).fails(1, "the following directives don't match any configuration option: nonsense");
    fs::write(host.root().join("daemon.json"), r#"{"data-root": "/x"}"#).unwrap();
    host.daemon(&[]).fails(1, "specified both as a flag and in the configuration file: data-root");
    fs::write(host.root().join("daemon.json"), r#"{"features": {"time-travel": true}}"#).unwrap();
    host.daemon(&[]).fails(125, "the feature \"time-travel\" is not supported");
    let features = r#"{"features": {"buildkit": true, "containerd-snapshotter": true, "cdi": true}}"#;
    fs::write(host.root().join("daemon.json"), features).unwrap();
    assert_eq!(host.daemon(&["--validate"]).ok(), "configuration OK");
    assert!(!host.socket().exists());
}

#[test]
fn a_second_daemon_on_the_same_root_is_refused() {
    let host = Host::new();
    let socket = format!("unix://{}", host.root().join("second.sock").display());
    let args = [
        "--data-root",
        &host.data_root().display().to_string(),
        "--exec-root",
        "/tmp/ct-second",
        "--host",
        &socket,
    ];
    Cmd::new(binary())
        .args(["daemon", "--bridge", "none"])
        .args(args)
        .limit(Duration::from_secs(20))
        .fails(1, "another");
    let _ = fs::remove_dir_all("/tmp/ct-second");
    assert_eq!(host.corten(["ps", "-q"]).ok(), "");
}

#[test]
fn containers_of_one_data_root_are_safe_from_a_daemon_of_another() {
    let mut host = Host::with_busybox();
    host.corten(["run", "-d", "--name", "kept", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let other = tempfile::tempdir().unwrap();
    let refused = |host: &Host, why: &str| {
        let below = |name: &str| other.path().join(name).display().to_string();
        let mut cmd = Cmd::new(binary()).args(["daemon", "--bridge", "none", "--data-root", &below("data")]);
        cmd = cmd.args(["--host", &format!("unix://{}", below("sock")), "--pidfile", &below("pid")]);
        cmd = cmd.args(["--exec-root", &host.exec_root().display().to_string()]);
        cmd.limit(Duration::from_secs(20)).fails(1, why);
    };
    refused(&host, "is in use by another daemon");
    host.kill_daemon();
    refused(&host, "use that data root, or another --exec-root");
    host.start_daemon();
    assert_eq!(host.corten(["inspect", "-f", "{{.State.Status}}", "kept"]).ok(), "running");
}

#[test]
fn a_data_root_that_cannot_be_written_is_refused() {
    let host = Host::stopped(&[]);
    let image = host.root().join("ro");
    fs::create_dir(&image).unwrap();
    let mount = Cmd::new("mount").args(["-t", "tmpfs", "-o", "ro", "none"]).args([&image]).run();
    if mount.code != 0 {
        return kit::skip("mount", "no mount(8)");
    }
    let result = std::panic::catch_unwind(|| {
        let output = Cmd::new(binary())
            .args(["daemon", "--bridge", "none", "--data-root"])
            .args([image.join("data")])
            .args(["--exec-root", &host.exec_root().display().to_string()])
            .args(["--host", &format!("unix://{}", host.socket().display())])
            .fails(1, "ead-only");
        assert_eq!(output.stderr.trim().lines().count(), 1, "{output}");
    });
    Cmd::new("umount").args([&image]).ok();
    result.unwrap();
}

#[test]
fn the_socket_is_for_its_group_alone() {
    let host = Host::with_flags(&["--group", "games"]);
    let metadata = fs::metadata(host.socket()).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    let groups = fs::read_to_string("/etc/group").unwrap();
    let games = groups.lines().find(|line| line.starts_with("games:")).unwrap();
    assert_eq!(metadata.gid().to_string(), games.split(':').nth(2).unwrap());
}

#[test]
fn it_ends_politely_and_leaves_containers() {
    let mut host = Host::with_busybox();
    let id = host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    host.stop_daemon();
    assert!(!host.socket().exists());
    assert_eq!(host.supervisors().len(), 1);
    host.start_daemon();
    assert_eq!(host.corten(["inspect", "-f", "{{.State.Running}}", &id]).ok(), "true");
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let mut host = Host::new();
    host.kill_daemon();
    assert!(host.socket().exists());
    host.start_daemon();
    assert_eq!(host.corten(["ps", "-q"]).ok(), "");
    let other = Host::stopped(&[]);
    let taken = format!("unix://{}", host.socket().display());
    Cmd::new(binary())
        .args(["daemon", "--bridge", "none", "--data-root"])
        .args([other.data_root()])
        .args(["--exec-root", &other.exec_root().display().to_string(), "--host", &taken])
        .fails(1, "another daemon answers there");
    assert_eq!(host.corten(["ps", "-q"]).ok(), "");
}

#[test]
fn mutual_tls() {
    let certs = tempfile::tempdir().unwrap();
    certificates(certs.path());
    let file = |name: &str| certs.path().join(name).display().to_string();
    let url = format!("tcp://127.0.0.1:{}", free_port());
    let socket = certs.path().join("api.sock");
    let unix = format!("unix://{}", socket.display());
    let host = {
        let flags = [
            "--host",
            &unix,
            "--host",
            &url,
            "--tlsverify",
            "--tlscacert",
            &file("ca.pem"),
            "--tlscert",
            &file("server-cert.pem"),
            "--tlskey",
            &file("server-key.pem"),
        ];
        let mut host = Host::stopped(&flags);
        host.set_socket(&socket);
        host.start_daemon();
        host
    };
    for cli in CLIS {
        let with = |name: &str| {
            let (cert, key) = (file(&format!("{name}-cert.pem")), file(&format!("{name}-key.pem")));
            let args = [
                "-H",
                &url,
                "--tlsverify",
                "--tlscacert",
                &file("ca.pem"),
                "--tlscert",
                &cert,
                "--tlskey",
                &key,
                "version",
                "-f",
                "{{.Server.Os}}",
            ];
            host.cli(cli, args).env_remove("DOCKER_HOST").run()
        };
        let output = with("client");
        assert_eq!(output.expect_code(0).text(), "linux");
        assert_ne!(with("stranger").code, 0);
        let plain = host.cli(cli, ["-H", &url, "version"]).env_remove("DOCKER_HOST").run();
        assert_ne!(plain.code, 0, "{plain}");
    }
}

#[test]
fn plain_tcp_on_loopback() {
    let certs = tempfile::tempdir().unwrap();
    let socket = certs.path().join("api.sock");
    let url = format!("tcp://127.0.0.1:{}", free_port());
    let mut host = Host::stopped(&["--host", &format!("unix://{}", socket.display()), "--host", &url]);
    host.set_socket(&socket);
    host.start_daemon();
    for cli in CLIS {
        assert_eq!(
            host.cli(cli, ["-H", &url, "version", "-f", "{{.Server.Os}}"]).env_remove("DOCKER_HOST").ok(),
            "linux"
        );
    }
}

#[test]
fn plain_tcp_for_everybody_has_to_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, port) = (dir.path().join("api.sock"), free_port());
    let (unix, tcp) = (format!("unix://{}", socket.display()), format!("tcp://0.0.0.0:{port}"));
    let mut host = Host::stopped(&["--host", &unix, "--host", &tcp, "--allow-unauthenticated-tcp"]);
    host.set_socket(&socket);
    host.start_daemon();
    let url = format!("tcp://127.0.0.1:{port}");
    let said = host.corten(["-H", &url, "version", "-f", "{{.Server.Os}}"]).env_remove("DOCKER_HOST").ok();
    assert_eq!(said, "linux");
}

#[test]
fn by_the_names_docker_and_dockerd() {
    let host = Host::new();
    let dir = tempfile::tempdir().unwrap();
    for name in ["docker", "dockerd"] {
        std::os::unix::fs::symlink(binary(), dir.path().join(name)).unwrap();
    }
    let mut cmd = Cmd::new(dir.path().join("docker"));
    for (name, value) in host.environment() {
        cmd = cmd.env(name, value);
    }
    assert_eq!(cmd.args(["ps", "-q"]).ok(), "");
    Cmd::new(dir.path().join("dockerd")).args(["--no-such-flag"]).fails(125, "unknown flag: --no-such-flag");
}

#[test]
fn nobody_else_may_look_into_its_folders() {
    let host = Host::with_busybox();
    let id = host.corten(["run", "-d", "--network", "none", "-v", "vol:/v", "busybox", "sleep", "1000"]).ok();
    let exec = host.exec_root();
    wait_for("the container's folder", || exec.join("c").join(&id).is_dir().then_some(()));
    // The test's own temporary directory is closed too: it is opened so that the engine's own modes are what counts.
    fs::set_permissions(host.root(), fs::Permissions::from_mode(0o755)).unwrap();
    for path in [
        host.data_root().join("meta.db"),
        host.data_root().join("volumes"),
        host.data_root().join("layers"),
        host.data_root().join("containers"),
        exec.join("c"),
        exec.join("c").join(&id).join("shim.sock"),
    ] {
        assert!(path.exists(), "{}", path.display());
        let path = path.display().to_string();
        let output = Cmd::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "ls", "-l", &path])
            .run();
        assert!(output.stderr.contains("Permission denied"), "{output}");
    }
    let socket = host.socket().display().to_string();
    let script = format!("import socket; socket.socket(socket.AF_UNIX).connect({socket:?})");
    let output = Cmd::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "python3", "-c", &script])
        .run();
    assert!(output.stderr.contains("Permission") || output.code != 0, "{output}");
}
