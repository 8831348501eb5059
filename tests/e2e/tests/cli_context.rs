//! Contexts: Docker's own store, read and written by both command lines alike.

use kit::{CLIS, Cli, Host};

#[test]
fn what_one_writes_the_other_reads() {
    let host = Host::new();
    let socket = format!("host=unix://{}", host.socket().display());
    for (writer, reader) in [(Cli::Corten, Cli::Docker), (Cli::Docker, Cli::Corten)] {
        let write = |args: &[&str]| host.cli(writer, args).env_remove("DOCKER_HOST").ok();
        let read = |args: &[&str]| host.cli(reader, args).env_remove("DOCKER_HOST").ok();
        assert_eq!(
            write(&["context", "create", "far", "--docker", &socket, "--description", "over there"]),
            "far"
        );
        let format = "{{.Name}} {{.Description}} {{.DockerEndpoint}} {{.Current}}";
        let listed = read(&["context", "ls", "--format", format]);
        assert!(listed.contains(&format!("far over there {} false", &socket[5..])), "{listed}");
        assert_eq!(read(&["-c", "far", "version", "--format", "{{.Client.Context}}"]), "far");
        write(&["context", "use", "far"]);
        assert_eq!(read(&["context", "show"]), "far");
        read(&["ps"]);
        let file = host.root().join(format!("{writer:?}.tar")).display().to_string();
        write(&["context", "export", "far", &file]);
        assert_eq!(read(&["context", "import", "copy", &file]), "copy");
        assert_eq!(
            write(&["context", "inspect", "copy", "--format", "{{.Endpoints.docker.Host}}"]),
            socket[5..].to_owned()
        );
        read(&["context", "update", "copy", "--description", "changed"]);
        let changed = write(&["context", "ls", "--format", "{{.Name}}={{.Description}}"]);
        assert!(changed.contains("copy=changed"), "{changed}");
        host.cli(reader, ["context", "rm", "far"])
            .env_remove("DOCKER_HOST")
            .fails(1, "is in use, set -f flag");
        write(&["context", "use", "default"]);
        assert_eq!(read(&["context", "show"]), "default");
        write(&["context", "rm", "far", "copy"]);
        assert_eq!(read(&["context", "ls", "-q"]), "default");
    }
}

#[test]
fn flags_and_variables_go_before_the_current_context() {
    let host = Host::new();
    let good = format!("unix://{}", host.socket().display());
    host.corten(["context", "create", "bad", "--docker", "host=unix:///nowhere"]).ok();
    for cli in CLIS {
        host.cli(cli, ["context", "use", "bad"]).run().expect_code(0);
        let bare = |args: &[&str]| host.cli(cli, args).env_remove("DOCKER_HOST");
        bare(&["ps"]).fails(1, "Cannot connect to the Docker daemon at unix:///nowhere");
        bare(&["-H", &good, "ps"]).ok();
        host.cli(cli, ["ps"]).ok();
        host.cli(cli, ["-c", "bad", "ps"]).fails(1, "Cannot connect to the Docker daemon at unix:///nowhere");
        bare(&["ps"]).env("DOCKER_CONTEXT", "default").env("DOCKER_HOST", &good).ok();
        host.cli(cli, ["context", "use", "default"]).run().expect_code(0);
    }
}

#[test]
fn a_damaged_archive_leaves_nothing() {
    let host = Host::new();
    for (name, content) in [("empty", &b""[..]), ("noise", b"not a tar at all"), ("zip", b"PK\x03\x04")] {
        let file = host.root().join(name);
        std::fs::write(&file, content).unwrap();
        let output = host.corten(["context", "import", name, &file.display().to_string()]).run();
        output.expect_code(1);
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
    }
    assert_eq!(host.corten(["context", "ls", "-q"]).ok(), "default");
}
