//! A container's life after its creation: start, stop, restart, kill, pause, wait, exec, logs, top, rename, rm, prune.

use kit::{CLIS, Cli, Host, wait_for};
use rustix::process::Signal;

/// Starts a container in the background and gives its id.
fn start(host: &Host, cli: Cli, flags: &[&str], script: &str) -> String {
    let mut args = vec!["run", "-d", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    host.cli(cli, args).ok()
}

fn state(host: &Host, cli: Cli, id: &str, format: &str) -> String {
    host.cli(cli, ["inspect", "-f", format, id]).ok()
}

#[test]
fn create_start_stop_restart_remove() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id =
            host.cli(cli, ["create", "--network", "none", "--name", "one", "busybox", "sleep", "1000"]).ok();
        assert_eq!(id.len(), 64);
        assert_eq!(state(&host, cli, "one", "{{.State.Status}} {{.Name}}"), "created /one");
        assert_eq!(host.cli(cli, ["start", "one"]).ok(), "one");
        assert_eq!(host.cli(cli, ["start", "one"]).ok(), "one");
        let pid = state(&host, cli, "one", "{{.State.Pid}}");
        assert!(std::path::Path::new("/proc").join(&pid).exists());
        host.cli(cli, ["rm", "one"]).fails(1, "container is running");
        assert_eq!(host.cli(cli, ["restart", "-t", "0", "one"]).ok(), "one");
        assert_ne!(state(&host, cli, "one", "{{.State.Pid}}"), pid);
        assert_eq!(host.cli(cli, ["stop", "-t", "0", "one"]).ok(), "one");
        assert_eq!(
            state(&host, cli, "one", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}"),
            "exited 137 0"
        );
        assert_eq!(host.cli(cli, ["stop", "one"]).ok(), "one");
        assert_eq!(host.cli(cli, ["rm", &id[..12]]).ok(), &id[..12]);
        host.cli(cli, ["inspect", "one"]).fails(1, "one");
        host.cli(cli, ["start", "one"]).fails(1, "No such container: one");
        host.cli(cli, ["stop", "one"]).fails(1, "No such container: one");
    }
}

#[test]
fn who_is_killed_has_ended_when_that_is_told() {
    let host = Host::with_busybox();
    for cli in CLIS {
        for _ in 0..5 {
            start(&host, cli, &["--name", "killed"], "sleep 1000");
            host.cli(cli, ["kill", "killed"]).ok();
            assert_eq!(state(&host, cli, "killed", "{{.State.Running}} {{.State.ExitCode}}"), "false 137");
            host.cli(cli, ["start", "killed"]).ok();
            assert_eq!(state(&host, cli, "killed", "{{.State.Running}}"), "true");
            host.cli(cli, ["kill", "-s", "KILL", "killed"]).ok();
            host.cli(cli, ["rm", "killed"]).ok();
        }
    }
}

#[test]
fn the_world_that_programs_expect() {
    let host = Host::with_busybox();
    for cli in CLIS {
        // A container is known by this file, and no signal is ignored that its own programs do not ignore.
        let script = "stat -c '%s %a' /.dockerenv; grep SigIgn /proc/self/status | tr -d '\\t'; sleep 1000";
        start(&host, cli, &["--name", "world"], script);
        let said = wait_for("its words", || {
            let said = host.cli(cli, ["logs", "world"]).ok();
            said.contains("SigIgn").then_some(said)
        });
        assert_eq!(said, "0 755\nSigIgn:0000000000000000");
        assert_eq!(host.cli(cli, ["diff", "world"]).ok(), "");
        // What is run in it is not to change it.
        let gone = host.cli(cli, ["exec", "-w", "/made/by/exec", "world", "pwd"]).run();
        assert_eq!(gone.code, 126, "{gone}");
        assert!(
            format!("{gone}").contains("cannot chdir to cwd /made/by/exec: no such file or directory"),
            "{gone}"
        );
        assert_eq!(host.cli(cli, ["diff", "world"]).ok(), "");
        // A root that its first process has gone to is not the container's.
        host.cli(cli, ["rm", "-f", "world"]).ok();
        let flags = ["--name", "world", "-v", "/:/elsewhere", "--cap-add", "SYS_CHROOT"];
        start(&host, cli, &flags, "echo inside > /here; exec chroot /elsewhere /bin/sh -c 'sleep 1000'");
        wait_for("its file", || (host.cli(cli, ["cp", "world:/here", "-"]).run().code == 0).then_some(()));
        let elsewhere =
            format!("/proc/{}/root/etc/debian_version", state(&host, cli, "world", "{{.State.Pid}}"));
        wait_for("it to be elsewhere", || std::path::Path::new(&elsewhere).exists().then_some(()));
        host.cli(cli, ["cp", "world:/etc/debian_version", "-"]).fails(1, "Could not find the file");
        host.cli(cli, ["rm", "-f", "world"]).ok();
        // Nothing but procfs is where the kernel is told and tells.
        for fake in [["-v", "/tmp:/proc"], ["--tmpfs", "/proc"], ["-v", "fake:/proc/../proc"]] {
            let run = ["run", "--rm", "--network", "none"].iter().chain(&fake).chain(&["busybox", "true"]);
            let refused = host.cli(cli, run).run();
            assert!(refused.code != 0 && refused.stderr.contains("not of type proc"), "{refused}");
        }
        let cpus = host.cli(cli, ["run", "--rm", "--cpuset-cpus", "4000", "busybox", "true"]).run();
        assert!(
            cpus.stderr.contains("Requested CPUs are not available - requested 4000, available: 0"),
            "{cpus}"
        );
    }
}

#[test]
fn names() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id = host.cli(cli, ["create", "--network", "none", "--name", "taken", "busybox"]).ok();
        let output = host.cli(cli, ["create", "--network", "none", "--name", "taken", "busybox"]).run();
        assert!(
            output.stderr.contains(&format!(
                "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or rename) \
                 that container to be able to reuse that name."
            )),
            "{output}"
        );
        let bad = host.cli(cli, ["create", "--name", "b@d", "busybox"]).run();
        assert!(bad.stderr.contains("Invalid container name (b@d)"), "{bad}");
        assert_eq!(host.cli(cli, ["rename", "taken", "renamed"]).ok(), "");
        assert_eq!(state(&host, cli, "renamed", "{{.Name}}"), "/renamed");
        assert_eq!(host.cli(cli, ["rm", "renamed"]).ok(), "renamed");
        let other = host.cli(cli, ["create", "--network", "none", "busybox"]).ok();
        assert!(state(&host, cli, &other, "{{.Name}}").contains('_'));
        assert_eq!(host.cli(cli, ["rm", &other]).ok(), other);
    }
}

#[test]
fn signals_and_their_exit_codes() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id = start(
            &host,
            cli,
            &[],
            "trap 'exit 5' TERM; trap 'exit 6' HUP; echo ready; while true; do sleep 0.05; done",
        );
        wait_for("the trap", || host.cli(cli, ["logs", &id]).ok().contains("ready").then_some(()));
        assert_eq!(host.cli(cli, ["stop", &id]).ok(), id);
        assert_eq!(state(&host, cli, &id, "{{.State.ExitCode}}"), "5");
        assert_eq!(host.cli(cli, ["start", &id]).ok(), id);
        wait_for("the trap", || {
            (host.cli(cli, ["logs", &id]).ok().matches("ready").count() == 2).then_some(())
        });
        assert_eq!(host.cli(cli, ["kill", "-s", "HUP", &id]).ok(), id);
        assert_eq!(host.cli(cli, ["wait", &id]).ok(), "6");
        host.cli(cli, ["kill", &id]).fails(1, "is not running");
        assert_eq!(host.cli(cli, ["rm", &id]).ok(), id);
    }
}

#[test]
fn pause_and_unpause() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id = start(&host, cli, &[], "while true; do date +%s%N; sleep 0.01; done");
        assert_eq!(host.cli(cli, ["pause", &id]).ok(), id);
        assert_eq!(
            state(&host, cli, &id, "{{.State.Status}} {{.State.Paused}} {{.State.Running}}"),
            "paused true true"
        );
        host.cli(cli, ["exec", &id, "true"]).fails(1, "is paused");
        let before = host.cli(cli, ["logs", &id]).ok();
        assert_eq!(host.cli(cli, ["logs", &id]).ok(), before);
        assert_eq!(host.cli(cli, ["unpause", &id]).ok(), id);
        wait_for("more output", || (host.cli(cli, ["logs", &id]).ok() != before).then_some(()));
        assert_eq!(host.cli(cli, ["pause", &id]).ok(), id);
        assert_eq!(host.cli(cli, ["rm", "-f", &id]).ok(), id);
    }
}

#[test]
fn exec() {
    let host = Host::with_busybox();
    // What the engine may do itself, which not every machine allows in full.
    let own = std::fs::read_to_string("/proc/self/status").expect("status");
    let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("CapBnd").to_owned();
    for cli in CLIS {
        let id = start(&host, cli, &["-e", "FROM=container", "-w", "/tmp"], "sleep 1000");
        let sh = |flags: &[&str], script: &str| {
            let mut args = vec!["exec"];
            args.extend(flags);
            args.extend([id.as_str(), "sh", "-c", script]);
            host.cli(cli, args).run()
        };
        assert_eq!(sh(&[], "echo $FROM; pwd; echo err >&2").text(), "container\n/tmp");
        assert_eq!(
            sh(&["-e", "A=1", "-w", "/etc", "-u", "1000"], "echo $A; pwd; id -u").text(),
            "1\n/etc\n1000"
        );
        sh(&[], "exit 9").expect_code(9);
        let output = host.cli(cli, ["exec", "-i", &id, "cat"]).stdin("through").run();
        assert_eq!(output.expect_code(0).stdout, "through");
        let missing = host.cli(cli, ["exec", &id, "no-such-program"]).run();
        assert!(
            missing.stdout.clone().contains("executable file not found")
                || missing.stderr.contains("executable file not found"),
            "{missing}"
        );
        missing.expect_code(127);
        assert_eq!(host.cli(cli, ["exec", "-d", &id, "touch", "/tmp/detached"]).ok(), "");
        wait_for("the file", || (sh(&[], "test -e /tmp/detached").code == 0).then_some(()));
        assert_eq!(sh(&[], "grep ^CapEff /proc/self/status | cut -f2").text(), "00000000a80425fb");
        assert_eq!(
            sh(&["--privileged"], "grep ^CapEff /proc/self/status | cut -f2").expect_code(0).text(),
            own
        );
        assert_eq!(host.cli(cli, ["rm", "-f", &id]).ok(), id);
        host.cli(cli, ["exec", &id, "true"]).fails(1, "No such container");
    }
}

#[test]
fn logs() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id = start(&host, cli, &[], "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf torn");
        assert_eq!(host.cli(cli, ["wait", &id]).ok(), "0");
        let output = host.cli(cli, ["logs", &id]).run();
        assert_eq!(output.stdout, "out 1\nout 2\nout 3\ntorn");
        assert_eq!(output.stderr, "err 1\nerr 2\nerr 3\n");
        let tail = host.cli(cli, ["logs", "--tail", "2", &id]).run();
        assert_eq!(tail.stdout.lines().count() + tail.stderr.lines().count(), 2, "{tail}");
        let stamped = host.cli(cli, ["logs", "-t", "--tail", "1", &id]).run();
        let (time, _) = stamped.stdout.split_once(' ').unwrap_or_default();
        assert!(time.ends_with('Z') && time.len() >= 20, "{stamped}");
        assert_eq!(host.cli(cli, ["logs", "--since", "2100-01-01T00:00:00Z", &id]).ok(), "");
        assert_eq!(host.cli(cli, ["rm", &id]).ok(), id);

        let id = start(&host, cli, &[], "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done");
        assert_eq!(host.cli(cli, ["logs", "-f", &id]).ok(), "line 1\nline 2\nline 3\nline 4\nline 5");
        assert_eq!(host.cli(cli, ["rm", "-f", &id]).ok(), id);
    }
}

#[test]
fn a_log_without_options_is_kept_within_bounds() {
    let host = Host::with_busybox();
    // Every line becomes about three times as long: more than the five files of 20 MiB hold.
    let script = "yes 'a line as long as log lines are' | head -n 1000000";
    let id = start(&host, Cli::Corten, &[], script);
    assert_eq!(host.corten(["wait", &id]).ok(), "0");
    let path = host.corten(["inspect", "-f", "{{.LogPath}}", &id]).ok();
    let folder = std::path::Path::new(&path).parent().expect("a folder");
    let mut sizes: Vec<u64> = std::fs::read_dir(folder)
        .expect("the folder of the log")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes.len(), 5, "{sizes:?}");
    // A file is full with the entry that fills it.
    assert!(sizes.iter().skip(1).all(|size| (20 << 20..21 << 20).contains(size)), "{sizes:?}");
    let last = host.corten(["logs", "--tail", "1", &id]).ok();
    assert_eq!(last, "a line as long as log lines are");
}

#[test]
fn a_supervisor_that_waits_costs_less_than_promised() {
    let host = Host::with_busybox();
    // With one alone nothing would be shared.
    for _ in 0..2 {
        host.corten(["run", "-d", "--network", "none", "busybox", "sleep", "1000"]).ok();
    }
    let [pid, other] = host.supervisors()[..] else { panic!("two supervisors") };
    let rollup = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps");
    let kilobytes = |pid: u32, keys: &[&str]| -> u64 {
        let text = rollup(pid);
        let lines = text.lines().filter(|line| keys.iter().any(|key| line.starts_with(key)));
        lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    };
    // A second after the last work it gives back what work needs.
    wait_for("the supervisors to rest", || {
        [pid, other].iter().all(|pid| kilobytes(*pid, &["Rss:"]) <= 1000).then_some(())
    });
    assert!(kilobytes(pid, &["Private_Clean:", "Private_Dirty:"]) <= 500, "{}", rollup(pid));
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    assert!(status.contains("Threads:\t1\n") && status.starts_with("Name:\tcorten-shim\n"), "{status}");
}

#[test]
fn attach_and_signal_proxy() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id = start(&host, cli, &["-i"], "read line; echo got $line; exit 4");
        let output = host.cli(cli, ["attach", &id]).stdin("hello\n").run();
        assert_eq!(output.stdout, "got hello\n", "{output}");
        output.expect_code(4);
        assert_eq!(host.cli(cli, ["rm", &id]).ok(), id);

        let script = "trap 'echo caught; exit 7' INT; echo ready; while true; do sleep 0.05; done";
        let args = ["run", "--name", "proxied", "--network", "none", "busybox", "sh", "-c", script];
        let running = host.cli(cli, args).spawn();
        wait_for("the trap", || {
            host.corten(["logs", "proxied"]).run().stdout.contains("ready").then_some(())
        });
        running.signal(Signal::INT);
        let output = running.wait();
        assert_eq!(output.expect_code(7).stdout, "ready\ncaught\n");
        assert_eq!(host.cli(cli, ["rm", "proxied"]).ok(), "proxied");
    }
}

#[test]
fn restart_policies() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let id = start(&host, cli, &["--restart", "on-failure:2"], "exit 3");
        wait_for("the last restart", || {
            (state(&host, cli, &id, "{{.RestartCount}} {{.State.Status}}") == "2 exited").then_some(())
        });
        assert_eq!(state(&host, cli, &id, "{{.State.ExitCode}}"), "3");
        assert_eq!(host.cli(cli, ["rm", &id]).ok(), id);
        let id = start(&host, cli, &["--restart", "always"], "sleep 0.05");
        wait_for("some restarts", || {
            state(&host, cli, &id, "{{.RestartCount}}").parse::<u32>().is_ok_and(|n| n >= 2).then_some(())
        });
        assert_eq!(host.cli(cli, ["stop", "-t", "0", &id]).ok(), id);
        let count = state(&host, cli, &id, "{{.RestartCount}} {{.State.Status}}");
        assert!(count.ends_with("exited"), "{count}");
        assert_eq!(host.cli(cli, ["rm", &id]).ok(), id);
    }
}

#[test]
fn ps_top_and_prune() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let running = start(&host, cli, &["--name", "running", "-l", "tier=web"], "sleep 1000");
        let ended = start(&host, cli, &["--name", "ended"], "exit 1");
        assert_eq!(host.cli(cli, ["wait", "ended"]).ok(), "1");
        assert_eq!(host.cli(cli, ["ps", "-q"]).ok(), &running[..12]);
        assert_eq!(host.cli(cli, ["ps", "-aq", "--no-trunc"]).ok(), format!("{ended}\n{running}"));
        assert_eq!(
            host.cli(cli, ["ps", "-a", "--filter", "status=exited", "--format", "{{.Names}}"]).ok(),
            "ended"
        );
        assert_eq!(
            host.cli(cli, ["ps", "--filter", "label=tier=web", "--format", "{{.Names}} {{.Labels}}"]).ok(),
            "running tier=web"
        );
        let table = host.cli(cli, ["ps"]).ok();
        assert!(table.starts_with("CONTAINER ID   IMAGE     COMMAND"), "{table}");
        let top = host.cli(cli, ["top", "running"]).ok();
        assert!(top.starts_with("UID") && top.contains("sleep 1000"), "{top}");
        let pruned = host.cli(cli, ["container", "prune", "-f"]).ok();
        assert!(pruned.contains(&ended) && !pruned.contains(&running), "{pruned}");
        assert_eq!(host.cli(cli, ["rm", "-f", "running"]).ok(), "running");
    }
}

#[test]
fn several_clients_attach_and_lose_nothing() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let script = "read go; i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
        let id = start(&host, cli, &["-i"], script);
        let watchers: Vec<_> = (0..3).map(|_| host.cli(cli, ["attach", "--no-stdin", &id]).spawn()).collect();
        // All three are attached once the supervisor holds their connections; the engine's own list of events says so.
        wait_for("three attachments", || {
            let seen = host
                .corten([
                    "events",
                    "--since",
                    "0",
                    "--until",
                    "1s",
                    "--filter",
                    &format!("container={id}"),
                    "--filter",
                    "event=attach",
                    "--format",
                    "{{.Action}}",
                ])
                .run();
            (seen.stdout.lines().count() >= 3).then_some(())
        });
        let output = host.cli(cli, ["attach", &id]).stdin("go\n").run();
        let expected: String = (0..20000).map(|n| format!("line {n}\n")).collect();
        assert!(
            output.stdout == expected,
            "the first attached lost something: {} bytes",
            output.stdout.len()
        );
        for watcher in watchers {
            let output = watcher.wait();
            assert!(output.stdout == expected, "a watcher lost something: {} bytes", output.stdout.len());
        }
        assert_eq!(host.cli(cli, ["rm", &id]).ok(), id);
    }
}
