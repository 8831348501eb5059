//! What can go wrong under a container that runs: its memory, a signal, its disk, a volume's device, its image, the daemon.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kit::disk::SmallDisk;
use kit::{CLIS, Cli, Host, skip, wait_for};

fn inspect(host: &Host, cli: Cli, name: &str, format: &str) -> String {
    host.cli(cli, ["inspect", "--format", format, name]).ok()
}

/// What happened to containers of this name, oldest first, with the attribute `key`.
fn events(host: &Host, cli: Cli, name: &str, key: &str) -> Vec<String> {
    let container = format!("container={name}");
    let format = format!("{{{{.Action}}}} {{{{index .Actor.Attributes \"{key}\"}}}}");
    // Command lines send whole seconds: the one that has begun counts as well.
    let args = ["events", "--since", "1h", "--until=-1s", "--filter", &container, "--format", &format];
    let told = host.cli(cli, args).ok();
    told.lines().map(|line| line.replace("<no value>", "").trim().to_owned()).collect()
}

#[test]
fn who_takes_too_much_memory_is_killed_and_everybody_is_told() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let script = "[ -e /grown ] && exit 4; touch /grown; x=x; while :; do x=$x$x; done";
        let args = ["run", "--network", "none", "--name", "eater", "--memory", "16m", "--memory-swap", "16m"];
        host.cli(cli, args).args(["busybox", "sh", "-c", script]).run().expect_code(137);
        let state = "{{.State.Status}} {{.State.OOMKilled}} {{.State.ExitCode}}";
        assert_eq!(inspect(&host, cli, "eater", state), "exited true 137");
        let told = events(&host, cli, "eater", "exitCode");
        let last = told.iter().rposition(|action| action == "create").expect("it was created");
        assert_eq!(told[last..], ["create", "attach", "start", "oom", "die 137"]);
        assert!(host.cli(cli, ["ps", "-a"]).ok().contains("Exited (137)"));
        // The next run has an end of its own.
        host.cli(cli, ["start", "eater"]).ok();
        assert_eq!(host.cli(cli, ["wait", "eater"]).ok(), "4");
        assert_eq!(inspect(&host, cli, "eater", state), "exited false 4");
        host.cli(cli, ["rm", "eater"]).ok();
    }
}

#[test]
fn an_end_by_a_signal_is_128_and_its_number() {
    let host = Host::with_busybox();
    let mut codes = Vec::new();
    for cli in CLIS {
        for (signal, code) in [("HUP", 129), ("ABRT", 134), ("KILL", 137), ("SEGV", 139), ("TERM", 143)] {
            // The first process of a namespace is spared by the kernel: once it is not that, once its parent is ours.
            for flags in [&["--pid", "host"][..], &["--init"]] {
                let args = [&["run", "--network", "none", "--name", "ends"], flags].concat();
                let kill = format!("kill -{signal} $$");
                host.cli(cli, args).args(["busybox", "sh", "-c", &kill]).run().expect_code(code);
                let state = "{{.State.Status}} {{.State.OOMKilled}} {{.State.ExitCode}}";
                assert_eq!(inspect(&host, cli, "ends", state), format!("exited false {code}"));
                host.cli(cli, ["rm", "ends"]).ok();
                codes.push(format!("die {code}"));
            }
        }
        let told = events(&host, cli, "ends", "exitCode");
        let ends: Vec<String> = told.into_iter().filter(|action| action.starts_with("die")).collect();
        assert_eq!(ends, codes);
    }
}

#[test]
fn who_fills_the_disk_goes_on_and_can_be_looked_at_and_removed() {
    let Some(disk) = SmallDisk::mount("96M") else {
        skip("loop devices", "cannot mount a small file system");
        return;
    };
    let root = disk.path().join("data").display().to_string();
    let host = Host::with_flags(&["--data-root", &root]);
    host.pull_busybox();
    for cli in CLIS {
        let script = "dd if=/dev/zero of=/big bs=64k 2>/dev/null; touch /tmp/full; \
            while [ ! -e /tmp/go ]; do echo in vain; sleep 0.05; done; rm /big; echo again; \
            while [ ! -e /tmp/end ]; do sleep 0.05; done; echo last; exit 6";
        let args =
            ["run", "-d", "--network", "none", "--tmpfs", "/tmp", "--name", "full", "busybox", "sh", "-c"];
        host.cli(cli, args).args([script]).ok();
        // Logs take what is left, and then lose lines rather than stop anybody.
        wait_for("the disk to be full", || {
            (host.cli(cli, ["exec", "full", "test", "-e", "/tmp/full"]).run().code == 0).then_some(())
        });
        assert_eq!(inspect(&host, cli, "full", "{{.State.Status}}"), "running");
        assert!(host.cli(cli, ["ps"]).ok().contains("full"));
        host.cli(cli, ["logs", "full"]).ok();
        host.cli(cli, ["exec", "full", "touch", "/tmp/go"]).ok();
        wait_for("room to be made, and the log to go on", || {
            host.cli(cli, ["logs", "full"]).ok().contains("again").then_some(())
        });
        host.cli(cli, ["exec", "full", "touch", "/tmp/end"]).ok();
        assert_eq!(host.cli(cli, ["wait", "full"]).ok(), "6");
        assert!(host.cli(cli, ["logs", "full"]).ok().ends_with("again\nlast"));
        host.cli(cli, ["rm", "full"]).ok();
    }
    drop(host);
    drop(disk);
}

#[test]
fn a_volume_whose_device_has_gone_is_told_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount("16M") else {
        skip("loop devices", "cannot mount a small file system");
        return;
    };
    let host = Host::with_busybox();
    for cli in CLIS {
        let below = disk.path().join("below");
        fs::create_dir_all(&below).expect("mkdir");
        let device = format!("device={}", below.display());
        let args = ["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, "on-disk"];
        host.cli(cli, args).ok();
        let script = "trap 'exit 0' TERM; while :; do date > /v/now; sync; sleep 0.05; done";
        let args = ["run", "-d", "--network", "none", "--name", "there", "-v", "on-disk:/v"];
        host.cli(cli, args).args(["busybox", "sh", "-c", script]).ok();
        wait_for("it to write", || below.join("now").exists().then_some(()));
        // Unmounted under it: who has it goes on, who comes is told.
        assert!(Command::new("umount").arg("-l").arg(disk.path()).status().expect("umount").success());
        assert_eq!(host.cli(cli, ["exec", "there", "ls", "/v"]).ok(), "now");
        let args = ["run", "--rm", "--network", "none", "-v", "on-disk:/v", "busybox", "ls", "/v"];
        assert_eq!(host.cli(cli, args).ok(), "now", "the volume is mounted once for all");
        host.cli(cli, ["stop", "there"]).ok();
        let words = format!("failed to mount local volume: mount {}:", below.display());
        let output = host.cli(cli, ["start", "there"]).fails(1, &words);
        assert!(output.stderr.contains("no such file or directory"), "{output}");
        assert_eq!(inspect(&host, cli, "there", "{{.State.Status}}"), "exited");
        host.cli(cli, ["rm", "-f", "there"]).ok();
        host.cli(cli, ["volume", "rm", "on-disk"]).ok();
        let file = disk.path().with_file_name("disk");
        let again = Command::new("mount").args(["-o", "loop"]).args([&file, &disk.path()]).status();
        assert!(again.expect("mount").success());
    }
    drop(host);
    drop(disk);
}

#[test]
fn an_image_that_is_removed_under_a_container() {
    let host = Host::with_busybox();
    for cli in CLIS {
        host.cli(cli, ["tag", "busybox", "used:1"]).ok();
        host.cli(cli, ["tag", "busybox", "other:1"]).ok();
        let id = host.cli(cli, ["image", "inspect", "-f", "{{.Id}}", "used:1"]).ok();
        let short = &id.trim_start_matches("sha256:")[..12];
        let container = host
            .cli(cli, ["run", "-d", "--network", "none", "--name", "user", "used:1", "sleep", "1000"])
            .ok();
        for force in [&["rmi"][..], &["rmi", "-f"]] {
            let words = format!(
                "conflict: unable to delete {short} (cannot be forced) - image is being used by running container {}",
                &container[..12]
            );
            host.cli(cli, force.iter().copied().chain([short])).fails(1, &words);
        }
        // A name is one of several, and then the last.
        assert_eq!(host.cli(cli, ["rmi", "other:1"]).ok(), "Untagged: other:1");
        host.cli(cli, ["tag", "busybox", "kept:1"]).ok();
        host.cli(cli, ["rmi", "busybox"]).ok();
        assert_eq!(host.cli(cli, ["rmi", "used:1"]).ok(), "Untagged: used:1");
        let words = format!(
            "conflict: unable to remove repository reference \"kept:1\" (must force) - container {} is using its referenced image {short}",
            &container[..12]
        );
        host.cli(cli, ["rmi", "kept:1"]).fails(1, &words);
        assert_eq!(host.cli(cli, ["rmi", "-f", "kept:1"]).ok(), "Untagged: kept:1");
        // The container has all it needs, now and when it starts again.
        assert_eq!(host.cli(cli, ["exec", "user", "echo", "on"]).ok(), "on");
        assert_eq!(inspect(&host, cli, "user", "{{.Image}} {{.Config.Image}}"), format!("{id} used:1"));
        host.cli(cli, ["image", "prune", "-af"]).ok();
        host.cli(cli, ["restart", "-t", "0", "user"]).ok();
        assert_eq!(host.cli(cli, ["exec", "user", "echo", "on"]).ok(), "on");
        assert!(host.cli(cli, ["ps"]).ok().contains(short), "without a name it is called by its number");
        host.cli(cli, ["tag", short, "busybox"]).ok();
        host.cli(cli, ["rm", "-f", "user"]).ok();
    }
}

/// Moments that are not the same in each round, and the same in each run.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn a_daemon_killed_again_and_again_under_load_loses_nobody_and_no_line() {
    const CONTAINERS: usize = 6;
    let mut host = Host::with_busybox();
    let mut moments = Moments(0x9e37_79b9_7f4a_7c15);
    let script = "trap 'exit 0' TERM; n=$(cat /n 2>/dev/null | wc -l); \
        while :; do n=$((n+1)); echo >> /n; echo line $n; sleep 0.005; done";
    let names: Vec<String> = (0..CONTAINERS).map(|n| format!("c{n}")).collect();
    for name in &names {
        host.corten(["run", "-d", "--network", "none", "--name", name, "busybox", "sh", "-c", script]).ok();
    }
    let mut made = Vec::new();
    for round in 0..12 {
        let mut clients = Vec::new();
        for name in &names {
            let args: &[&str] = match moments.next(6) {
                0 => &["stop", "-t", "5"],
                1 => &["start"],
                2 => &["restart", "-t", "5"],
                3 => &["logs", "--tail", "5"],
                4 => &["pause"],
                _ => &["unpause"],
            };
            clients.push(host.corten(args.iter().copied().chain([&name[..]])).spawn());
            clients.push(host.corten(["exec", name, "true"]).spawn());
        }
        let name = format!("new{round}");
        made.push((
            name.clone(),
            host.corten(["create", "--network", "none", "--name", &name, "busybox", "true"]).spawn(),
        ));
        // What is to be interrupted cannot be waited for: each round at another moment.
        std::thread::sleep(Duration::from_millis(moments.next(120)));
        host.kill_daemon();
        for client in clients {
            // Whether it came through depends on the moment.
            let _ = client.wait();
        }
        host.start_daemon();
        let all = host.corten(["ps", "-a", "--format", "{{.Names}}"]).ok();
        for name in &names {
            assert!(all.lines().any(|line| line == name), "{name} is lost in round {round}: {all}");
        }
    }
    let all = host.corten(["ps", "-a", "--format", "{{.Names}}"]).ok();
    for (name, client) in made {
        let output = client.wait();
        assert!(
            output.code != 0 || all.lines().any(|line| line == name),
            "{name} was acknowledged and is lost"
        );
    }
    for name in &names {
        // What the last daemon asked for may still happen; after this nothing of it does.
        host.corten(["restart", "-t", "5", name]).ok();
        assert_eq!(host.corten(["exec", name, "echo", "here"]).ok(), "here");
        host.corten(["stop", "-t", "10", name]).ok();
        let log = host.corten(["logs", name]).ok();
        // Who was killed between counting and telling leaves one number out; nothing else may be.
        let numbers: Vec<u32> = log.lines().map(|line| line[5..].parse().expect("a number")).collect();
        assert!(
            numbers.windows(2).all(|pair| pair[1] > pair[0] && pair[1] - pair[0] <= 2),
            "{name}: {numbers:?}"
        );
    }
    for name in host.corten(["ps", "-aq"]).ok().lines() {
        host.corten(["rm", "-f", name]).ok();
    }
    for dir in [host.data_root().join("containers"), host.exec_root().join("c")] {
        wait_for("nothing to be left", || empty(&dir).then_some(()));
    }
    wait_for("the snapshots to be gone", || empty(&host.data_root().join("snapshots")).then_some(()));
    assert_eq!(host.supervisors(), Vec::<u32>::new());
    assert_eq!(host.mounts(), Vec::<String>::new());
}

fn empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|entries| entries.count() == 0)
}
