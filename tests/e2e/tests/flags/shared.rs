//! Namespaces and volumes of other containers.

use kit::{CLIS, Host};

use super::{remove, sh, start, words};

#[test]
fn processes_of_another_container() {
    let host = Host::with_busybox();
    for cli in CLIS {
        start(&host, cli, "owner", &[], "echo alive > /marker; exec sleep 1000");
        let seen = sh(
            &host,
            cli,
            &["--pid", "container:owner"],
            "cat /proc/1/cmdline | tr '\\0' ' '; echo; echo $$",
        );
        let (first, own) = seen.split_once('\n').unwrap_or_else(|| panic!("{seen}"));
        assert_eq!(first, "sleep 1000 ");
        assert_ne!(own, "1");
        // The namespace is the very same, and what is behind it can be reached by whoever may.
        let namespace = host.cli(cli, ["exec", "owner", "readlink", "/proc/self/ns/pid"]).ok();
        assert_eq!(sh(&host, cli, &["--pid", "container:owner"], "readlink /proc/self/ns/pid"), namespace);
        let ptrace = ["--pid", "container:owner", "--cap-add", "SYS_PTRACE"];
        assert_eq!(sh(&host, cli, &ptrace, "cat /proc/1/root/marker"), "alive");
        // The name may go to another: what is remembered is the id.
        let id = host.cli(cli, ["inspect", "-f", "{{.Id}}", "owner"]).ok();
        start(&host, cli, "guest", &["--pid", "container:owner"], "exec sleep 2000");
        let mode = host.cli(cli, ["inspect", "-f", "{{.HostConfig.PidMode}}", "guest"]).ok();
        assert_eq!(mode, format!("container:{id}"));
        assert!(host.cli(cli, ["exec", "owner", "ps"]).ok().contains("sleep 2000"));
        // With its owner the namespace ends, and everything in it.
        host.cli(cli, ["kill", "owner"]).ok();
        assert_eq!(host.cli(cli, ["wait", "guest"]).ok(), "137");
        host.cli(cli, ["start", "guest"]).fails(1, &format!("container {id} is not running"));
        host.cli(cli, words(&["--pid", "container:nobody"], "true")).fails(125, "No such container: nobody");
        host.cli(cli, words(&["--pid", "elsewhere"], "true")).fails(125, "invalid PID mode");
        remove(&host, cli, &["owner", "guest"]);
    }
}

#[test]
fn memory_of_another_container() {
    let host = Host::with_busybox();
    for cli in CLIS {
        start(
            &host,
            cli,
            "owner",
            &["--ipc", "shareable", "--shm-size", "3m"],
            "echo shared > /dev/shm/word; exec sleep 1000",
        );
        kit::wait_for("the word", || {
            (host.cli(cli, ["exec", "owner", "cat", "/dev/shm/word"]).run().stdout == "shared\n")
                .then_some(())
        });
        let flags = ["--ipc", "container:owner"];
        assert_eq!(
            sh(
                &host,
                cli,
                &flags,
                "cat /dev/shm/word; echo back > /dev/shm/answer; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"
            ),
            "shared\n3072"
        );
        assert_eq!(host.cli(cli, ["exec", "owner", "cat", "/dev/shm/answer"]).ok(), "back");
        let namespace = host.cli(cli, ["exec", "owner", "readlink", "/proc/self/ns/ipc"]).ok();
        assert_eq!(sh(&host, cli, &flags, "readlink /proc/self/ns/ipc"), namespace);
        // Whoever shares it can be shared with in turn.
        start(&host, cli, "second", &flags, "exec sleep 1000");
        assert_eq!(sh(&host, cli, &["--ipc", "container:second"], "cat /dev/shm/answer"), "back");
        start(&host, cli, "closed", &[], "exec sleep 1000");
        host.cli(cli, words(&["--ipc", "container:closed"], "true"))
            .fails(125, "non-shareable IPC (hint: use IpcMode:shareable for the donor container)");
        remove(&host, cli, &["second", "owner", "closed"]);
    }
    assert_eq!(host.mounts(), Vec::<String>::new());
}

#[test]
fn a_container_cannot_make_its_shared_memory_something_else() {
    let host = Host::with_busybox();
    let inside = "umount /dev/shm && rmdir /dev/shm && ln -s /proc /dev/shm && echo ready && exec sleep 1000";
    start(
        &host,
        kit::Cli::Corten,
        "owner",
        &["--ipc", "shareable", "--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined"],
        inside,
    );
    kit::wait_for("the link", || host.corten(["logs", "owner"]).run().stdout.contains("ready").then_some(()));
    host.corten(words(&["--ipc", "container:owner"], "ls /dev/shm"))
        .fails(125, "failed to join IPC namespace: cannot open /dev/shm");
    remove(&host, kit::Cli::Corten, &["owner"]);
}

#[test]
fn names_users_and_cgroups_of_the_host() {
    let host = Host::with_busybox();
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for cli in CLIS {
        assert_eq!(sh(&host, cli, &["--uts", "host"], "readlink /proc/self/ns/uts"), own("uts"));
        assert_ne!(sh(&host, cli, &[], "readlink /proc/self/ns/uts"), own("uts"));
        assert_eq!(sh(&host, cli, &["--userns", "host"], "readlink /proc/self/ns/user"), own("user"));
        assert_eq!(sh(&host, cli, &["--cgroupns", "host"], "readlink /proc/self/ns/cgroup"), own("cgroup"));
        assert_ne!(
            sh(&host, cli, &["--cgroupns", "private"], "readlink /proc/self/ns/cgroup"),
            own("cgroup")
        );
        host.cli(cli, words(&["--uts", "host", "--hostname", "a"], "true"))
            .fails(125, "conflicting options: hostname and the UTS mode");
        host.cli(cli, words(&["--userns", "keep-id"], "true")).fails(125, "invalid USER mode");
    }
}

#[test]
fn volumes_of_another_container() {
    let host = Host::with_busybox();
    let folder = host.root().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "of the host").unwrap();
    let bind = format!("{}:/bound", folder.display());
    for cli in CLIS {
        let flags = ["-v", "named:/named", "-v", "/anonymous", "-v", &bind, "--tmpfs", "/scratch"];
        start(&host, cli, "owner", &flags, "echo one > /named/a; echo two > /anonymous/b; exec sleep 1000");
        host.cli(cli, ["stop", "-t", "0", "owner"]).ok();
        let from = ["--volumes-from", "owner"];
        assert_eq!(
            sh(
                &host,
                cli,
                &from,
                "cat /named/a /anonymous/b /bound/file; ls -d /scratch 2>/dev/null; echo new > /named/c"
            ),
            "one\ntwo\nof the host"
        );
        assert_eq!(
            sh(
                &host,
                cli,
                &["--volumes-from", "owner:ro"],
                "cat /named/c; touch /named/x /bound/x 2>&1 | grep -c Read-only"
            ),
            "new\n2"
        );
        // What is asked for counts more, the first containers less than the last ones.
        assert_eq!(
            sh(&host, cli, &["--volumes-from", "owner", "-v", "other:/named"], "ls /named; cat /anonymous/b"),
            "two"
        );
        start(&host, cli, "later", &["-v", "later:/named"], "echo later > /named/a");
        host.cli(cli, ["wait", "later"]).ok();
        assert_eq!(
            sh(&host, cli, &["--volumes-from", "owner", "--volumes-from", "later:z"], "cat /named/a"),
            "later"
        );
        // A volume without a name lasts as long as the last one who has it.
        host.cli(
            cli,
            ["create", "--name", "heir", "--volumes-from", "owner", "busybox", "cat", "/anonymous/b"],
        )
        .ok();
        host.cli(cli, ["rm", "-v", "owner"]).ok();
        assert_eq!(host.cli(cli, ["start", "-a", "heir"]).ok(), "two");
        for (spec, text) in [
            ("nobody", "No such container: nobody"),
            ("heir:rx", "invalid mode: rx"),
            ("heir:rshared", "invalid mode: rshared"),
            ("", "volumes-from specification cannot be an empty string"),
        ] {
            host.cli(cli, words(&["--volumes-from", spec], "true")).fails(125, text);
        }
        remove(&host, cli, &["heir", "later"]);
        host.cli(cli, ["volume", "rm", "named", "other", "later"]).ok();
        assert_eq!(host.cli(cli, ["volume", "ls", "-q"]).ok(), "");
    }
}

/// The daemon's socket inside, and what the user has for registries.
#[test]
fn the_socket_of_the_api() {
    let host = Host::with_busybox();
    let cli = kit::Cli::Corten;
    let socket = "stat -c %F /var/run/docker.sock";
    assert_eq!(sh(&host, cli, &["--use-api-socket"], &format!("{socket}; echo $DOCKER_CONFIG")), "socket");
    let config = r#"{"auths": {"registry.example.org": {"auth": "dXNlcjpzZWNyZXQ="}}}"#;
    std::fs::write(host.root().join("config/config.json"), config).unwrap();
    let script = "stat -c %a $DOCKER_CONFIG/config.json; cat $DOCKER_CONFIG/config.json";
    assert_eq!(
        sh(&host, cli, &["--use-api-socket"], script),
        format!("600\n{}", r#"{"auths":{"registry.example.org":{"auth":"dXNlcjpzZWNyZXQ="}}}"#)
    );
}
