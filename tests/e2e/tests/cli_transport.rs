//! Ways to a daemon: ssh, TCP, TLS, and names for what is wrong with them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kit::{CLIS, Cli, Cmd, Host};

/// An `ssh` that is on the same machine: it notes its arguments and runs the remote command here.
const SSH: &str = r#"#!/bin/sh
echo "$*" >> "$SSH_LOG"
while [ "$1" != "--" ]; do shift; done
shift 2
exec sh -c "$*"
"#;

#[test]
fn through_ssh() {
    let host = Host::with_busybox();
    let bin = host.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let ssh = bin.join("ssh");
    std::fs::write(&ssh, SSH).unwrap();
    std::fs::set_permissions(&ssh, std::fs::Permissions::from_mode(0o755)).unwrap();
    // On the other side `docker` may be ours as well as the real one: by its whole path, for the name is taken.
    for remote in CLIS {
        let program =
            Cmd::new("sh").args(["-c", &format!("command -v {}", remote.program().display())]).run();
        if program.code != 0 {
            kit::skip("docker", "the real docker command is not there");
            continue;
        }
        let _ = std::fs::remove_file(bin.join("docker"));
        let script = format!(
            "#!/bin/sh\nexec env DOCKER_HOST=unix://{} {} \"$@\"\n",
            host.socket().display(),
            program.stdout.trim()
        );
        std::fs::write(bin.join("docker"), script).unwrap();
        std::fs::set_permissions(bin.join("docker"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let log = host.root().join("ssh.log");
        let run = |args: &[&str]| {
            host.corten(args)
                .env("DOCKER_HOST", "ssh://me@far:2222")
                .env("SSH_LOG", &log)
                .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
        };
        assert_eq!(run(&["ps", "-q"]).ok(), "");
        let text =
            run(&["run", "--rm", "-i", "--network", "none", "busybox", "cat"]).stdin(*b"over\nthere\n").ok();
        assert_eq!(text, "over\nthere");
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.starts_with("-o ConnectTimeout=30 -T -l me -p 2222 -- far "), "{said}");
    }
}

/// Makes an authority, and a certificate signed by it, with the `openssl` program.
fn certificates(folder: &Path) -> bool {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=authority &&
        for name in server client; do
            openssl req -newkey rsa:2048 -nodes -keyout $name-key.pem -out $name.csr -subj /CN=$name &&
            printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\\nextendedKeyUsage=serverAuth,clientAuth\\n' > ext &&
            openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile ext -out $name.pem
        done && cp client.pem cert.pem && cp client-key.pem key.pem";
    Cmd::new("sh").args(["-ec", script]).current_dir(folder).run().code == 0
}

#[test]
fn through_tls_with_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    if !certificates(folder.path()) {
        kit::skip("openssl", "certificates cannot be made");
        return;
    }
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let address = format!("tcp://127.0.0.1:{port}");
    let (ca, cert, key) = (file("ca.pem"), file("server.pem"), file("server-key.pem"));
    let socket = folder.path().join("d.sock");
    let unix = format!("unix://{}", socket.display());
    let mut host = Host::stopped(&[
        "--host",
        &unix,
        "--host",
        &address,
        "--tlsverify",
        "--tlscacert",
        &ca,
        "--tlscert",
        &cert,
        "--tlskey",
        &key,
    ]);
    host.set_socket(&socket);
    host.start_daemon();
    for cli in CLIS {
        let run = |args: &[&str]| host.cli(cli, args).env_remove("DOCKER_HOST");
        // By variables, by flags, by a context.
        run(&["ps", "-q"])
            .env("DOCKER_HOST", &address)
            .env("DOCKER_TLS_VERIFY", "1")
            .env("DOCKER_CERT_PATH", folder.path())
            .ok();
        let flags = [
            "--tlsverify",
            "--tlscacert",
            &ca,
            "--tlscert",
            &file("cert.pem"),
            "--tlskey",
            &file("key.pem"),
            "-H",
        ];
        let mut all = flags.to_vec();
        all.extend([address.as_str(), "ps", "-q"]);
        run(&all).ok();
        let name = format!("tls-{cli:?}").to_lowercase();
        let docker = format!("host={address},ca={ca},cert={},key={}", file("cert.pem"), file("key.pem"));
        run(&["context", "create", &name, "--docker", &docker]).ok();
        run(&["-c", &name, "version", "--format", "{{.Server.Version}}"]).ok();
        // Without a certificate of one's own, and with an authority that did not sign the daemon's.
        let output = run(&["--tlsverify", "--tlscacert", &ca, "-H", &address, "ps"]).run();
        output.expect_code(1);
        let output = run(&["--tlsverify", "--tlscacert", &file("client.pem"), "-H", &address, "ps"]).run();
        output.expect_code(1);
        if cli == Cli::Corten {
            assert_eq!(output.stderr.lines().count(), 1, "{output}");
            assert!(output.stderr.contains("tls"), "{output}");
        }
    }
}
