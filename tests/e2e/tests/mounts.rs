//! Volumes and mounts in all their forms; through our command line and the real `docker` where that has the form.

use kit::{CLIS, Cli, Host, wait_for};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

fn sh(host: &Host, cli: Cli, flags: &[&str], script: &str) -> String {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    host.cli(cli, args).ok()
}

fn refused(host: &Host, cli: Cli, flags: &[&str], text: &str) {
    let mut args = vec!["run", "--rm", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "true"]);
    host.cli(cli, args).fails(125, text);
}

fn not_there(host: &Host, cli: Cli, mount: &str) {
    let output =
        host.cli(cli, ["run", "--rm", "--network", "none", "--mount", mount, "busybox", "ls", "/m"]).run();
    assert!(output.code != 0 && output.stdout.is_empty(), "{output}");
    assert!(
        output.stderr.contains("No such file or directory") || output.stderr.contains("Not a directory"),
        "{output}"
    );
}

fn is_mounted(host: &Host, volume: &str) -> bool {
    host.mounts().iter().any(|line| line.contains(&format!("volumes/{volume}/_data")))
}

#[test]
fn a_volume_with_options_is_mounted_while_somebody_runs() {
    let mut host = Host::with_busybox();
    for cli in CLIS {
        host.cli(
            cli,
            [
                "volume",
                "create",
                "-o",
                "type=tmpfs",
                "-o",
                "device=tmpfs",
                "-o",
                "o=size=1m,mode=0751",
                "mem",
            ],
        )
        .ok();
        let shown = host.cli(cli, ["volume", "inspect", "-f", "{{.Options.o}} {{.Mountpoint}}", "mem"]).ok();
        assert!(shown.starts_with("size=1m,mode=0751 /") && shown.ends_with("/volumes/mem/_data"), "{shown}");
        assert!(!is_mounted(&host, "mem"));
        let one = host
            .cli(cli, ["run", "-d", "--network", "none", "-v", "mem:/m", "busybox", "sleep", "1000"])
            .ok();
        assert_eq!(
            sh(&host, cli, &["-v", "mem:/m"], "touch /m/x; stat -f -c %T /m; stat -c %a /m"),
            "tmpfs\n751"
        );
        // The other one runs still.
        assert!(is_mounted(&host, "mem"));
        assert_eq!(host.cli(cli, ["exec", &one, "ls", "/m"]).ok(), "x");
        host.cli(cli, ["volume", "rm", "mem"]).fails(1, "volume is in use");
        host.cli(cli, ["kill", &one]).ok();
        wait_for("the volume to be unmounted", || (!is_mounted(&host, "mem")).then_some(()));
        host.cli(cli, ["start", &one]).ok();
        assert_eq!(host.cli(cli, ["exec", &one, "ls", "/m"]).ok(), "");
        // A daemon that is killed, and a container that ends meanwhile.
        let pid: i32 = host.cli(cli, ["inspect", "-f", "{{.State.Pid}}", &one]).ok().parse().expect("a pid");
        host.kill_daemon();
        let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        wait_for("its end", || rustix::process::test_kill_process(pid).is_err().then_some(()));
        assert!(is_mounted(&host, "mem"));
        host.start_daemon();
        wait_for("the volume to be unmounted", || (!is_mounted(&host, "mem")).then_some(()));
        host.cli(cli, ["rm", &one]).ok();
        host.cli(cli, ["volume", "rm", "mem"]).ok();
    }
}

#[test]
fn bound_volumes_and_wrong_options() {
    let host = Host::with_busybox();
    let source = host.root().join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("file"), "x").expect("write");
    let device = format!("device={}", source.display());
    for cli in CLIS {
        host.cli(cli, ["volume", "create", "-o", "type=none", "-o", "o=bind,ro", "-o", &device, "bound"])
            .ok();
        assert_eq!(
            sh(
                &host,
                cli,
                &["-v", "bound:/m"],
                "cat /m/file; touch /m/y 2>&1 | grep -o 'Read-only file system'"
            ),
            "xRead-only file system"
        );
        host.cli(cli, ["volume", "rm", "bound"]).ok();
        assert!(source.join("file").exists());
        let wrong = |options: &[&str], text: &str| {
            let mut args = vec!["volume", "create"];
            args.extend(options.iter().flat_map(|option| ["-o", option]));
            host.cli(cli, args).fails(1, text);
        };
        wrong(&["colour=red"], "invalid option: \"colour\"");
        wrong(&["type=tmpfs"], "missing required option: \"device\"");
        wrong(&["size=1m"], "quota size requested but no quota support");
        host.cli(cli, ["volume", "create", "-d", "nowhere", "vol"]).fails(1, "plugin \"nowhere\" not found");
        refused(
            &host,
            cli,
            &["--mount", "type=volume,src=v2,dst=/m,volume-driver=nowhere"],
            "plugin \"nowhere\" not found",
        );
        refused(&host, cli, &["--volume-driver", "nowhere", "-v", "v2:/m"], "plugin \"nowhere\" not found");
    }
}

#[test]
fn images_are_mounted() {
    let host = Host::with_busybox();
    let own = host.corten(["create", "--network", "none", "busybox"]).ok();
    host.corten(["rm", &own]).ok();
    let made = host
        .corten([
            "run",
            "-d",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "mkdir -p /data/sub; echo hello > /data/sub/file; ln -s ../../etc/hostname /data/out",
        ])
        .ok();
    host.corten(["wait", &made]).ok();
    host.corten(["commit", &made, "tree"]).ok();
    host.corten(["rm", &made]).ok();
    for cli in CLIS {
        let flags = ["--mount", "type=image,source=tree,target=/m"];
        assert_eq!(
            sh(&host, cli, &flags, "cat /m/data/sub/file; touch /m/x 2>&1 | grep -o 'Read-only.*'"),
            "hello\nRead-only file system"
        );
        let below = ["--mount", "type=image,source=tree,target=/m,image-subpath=data/sub"];
        assert_eq!(sh(&host, cli, &below, "ls /m"), "file");
        refused(
            &host,
            cli,
            &["--mount", "type=image,source=tree,target=/m,image-subpath=../x"],
            "relative path",
        );
        refused(
            &host,
            cli,
            &["--mount", "type=image,source=not-there,target=/m"],
            "No such image: not-there",
        );
        // A link in an image does not lead out of it: what it names is looked for within.
        not_there(&host, cli, "type=image,source=tree,target=/m,image-subpath=data/out/x");
        // It is kept for who mounts it, whatever becomes of its name.
        let one = host
            .cli(
                cli,
                ["create", "--network", "none", "--mount", flags[1], "busybox", "cat", "/m/data/sub/file"],
            )
            .ok();
        let points = host
            .cli(cli, ["inspect", "-f", "{{(index .Mounts 0).Type}} {{(index .Mounts 0).RW}}", &one])
            .ok();
        assert_eq!(points, "image false");
        host.corten(["tag", "tree", "kept"]).ok();
        host.corten(["rmi", "tree"]).ok();
        assert_eq!(host.cli(cli, ["start", "-a", &one]).ok(), "hello");
        host.cli(cli, ["rm", &one]).ok();
        host.corten(["tag", "kept", "tree"]).ok();
    }
}

#[test]
fn a_subpath_stays_in_its_volume() {
    let host = Host::with_busybox();
    let secret = host.root().join("secret");
    fs::create_dir(&secret).expect("mkdir");
    fs::write(secret.join("canary"), "secret").expect("write");
    host.corten(["volume", "create", "vol"]).ok();
    let data = host.data_root().join("volumes/vol/_data");
    symlink(&secret, data.join("absolute")).expect("link");
    symlink("../../../../../../../../../../../..", data.join("up")).expect("link");
    fs::create_dir_all(data.join("in/side")).expect("mkdir");
    symlink("in/side", data.join("good")).expect("link");
    for cli in CLIS {
        let below = |path: &str| format!("type=volume,src=vol,dst=/m,volume-subpath={path}");
        assert_eq!(sh(&host, cli, &["--mount", &below("in")], "ls /m"), "side");
        assert_eq!(sh(&host, cli, &["--mount", &below("good")], "touch /m/here; ls /m"), "here");
        assert!(data.join("in/side/here").exists());
        not_there(&host, cli, &below("absolute"));
        refused(
            &host,
            cli,
            &["--mount", &below("../x")],
            "subpath must be a relative path within the volume",
        );
        not_there(&host, cli, &below("missing"));
        // The root that it leads to is the volume's own.
        assert_eq!(sh(&host, cli, &["--mount", &below("up")], "ls /m | head -1"), "absolute");
        assert_eq!(fs::read(secret.join("canary")).expect("read"), b"secret");
        fs::remove_file(data.join("in/side/here")).expect("remove");
    }
}

#[test]
fn bind_mounts_in_all_forms() {
    let host = Host::with_busybox();
    let source = host.root().join("source");
    fs::create_dir_all(source.join("sub")).expect("mkdir");
    let text = source.display().to_string();
    let bind = |more: &str| format!("type=bind,src={text},dst=/m{more}");
    for cli in CLIS {
        let writable =
            |flags: &[&str]| sh(&host, cli, flags, "touch /m/x 2>/dev/null && echo yes || echo no");
        assert_eq!(writable(&["--mount", &bind("")]), "yes");
        assert_eq!(writable(&["--mount", &bind(",readonly")]), "no");
        assert_eq!(writable(&["--mount", &bind(",readonly,bind-recursive=writable")]), "no");
        assert_eq!(
            writable(&["--mount", &bind(",readonly,bind-recursive=readonly,bind-propagation=rprivate")]),
            "no"
        );
        assert_eq!(writable(&["--mount", &bind(",bind-recursive=disabled")]), "yes");
        // What the host mounted read-only stays so, whoever asks for it.
        kit::Cmd::new("mount").args(["--bind", "-o", "ro", &text, &text]).ok();
        let stays = [writable(&["-v", &format!("{text}:/m")]), writable(&["--mount", &bind("")])];
        kit::Cmd::new("umount").args([&text]).ok();
        assert_eq!(stays, ["no", "no"]);
        for mode in ["ro", "ro,z", "Z,ro", "ro,rslave"] {
            assert_eq!(writable(&["-v", &format!("{text}:/m:{mode}")]), "no", "{mode}");
        }
        refused(&host, cli, &["-v", &format!("{text}:/m:nocopy")], "invalid mode");
        refused(
            &host,
            cli,
            &["--mount", "type=bind,src=/not/there/at/all,dst=/m"],
            "bind source path does not exist: /not/there/at/all",
        );
        let options = ["--mount", "type=tmpfs,dst=/m,tmpfs-size=1m,tmpfs-mode=0700"];
        assert_eq!(
            sh(&host, cli, &options, "stat -c %a /m; df -k /m | tail -1 | awk '{print $2}'"),
            "700\n1024"
        );
    }
    let missing = host.root().join("made");
    let create = format!("type=bind,src={},dst=/m,bind-create-src", missing.display());
    assert_eq!(sh(&host, Cli::Corten, &["--mount", &create], "ls /m"), "");
    assert!(missing.is_dir());
    let options = ["--mount", "type=tmpfs,dst=/m,\"tmpfs-options=uid=5,exec\""];
    assert_eq!(sh(&host, Cli::Corten, &options, "stat -c %u /m"), "5");
}

#[test]
fn a_bind_mount_has_the_right_owner() {
    let host = Host::with_busybox();
    let source = host.root().join("source");
    fs::create_dir(&source).expect("mkdir");
    fs::write(source.join("mine"), "x").expect("write");
    fs::write(source.join("other"), "x").expect("write");
    fs::set_permissions(&source, fs::Permissions::from_mode(0o700)).expect("chmod");
    for path in [source.clone(), source.join("mine")] {
        chown(&path, Some(4321), Some(4322)).expect("chown");
    }
    chown(source.join("other"), Some(77), Some(78)).expect("chown");
    let bind = |mapping: &str| format!("type=bind,src={},dst=/m,{mapping}", source.display());
    let run = |flags: &[&str], script: &str| sh(&host, Cli::Corten, flags, script);
    let owners = "stat -c '%u:%g' /m/mine /m/other; touch /m/new && stat -c '%u:%g' /m/new";
    assert_eq!(
        run(&["-u", "1000:1001", "--mount", &bind("bind-idmap")], owners),
        "1000:1001\n77:78\n1000:1001"
    );
    let new = fs::metadata(source.join("new")).expect("made");
    assert_eq!((new.uid(), new.gid()), (4321, 4322));
    assert_eq!(
        run(&["--mount", &bind("bind-idmap=match-user:1000:1001")], "stat -c '%u:%g' /m/mine"),
        "1000:1001"
    );
    assert_eq!(run(&["--mount", &bind("readonly")], "stat -c '%u:%g' /m/mine"), "4321:4322");
    refused(
        &host,
        Cli::Corten,
        &["--mount", &bind("bind-idmap=userns")],
        "needs a container with a user namespace of its own",
    );
    refused(&host, Cli::Corten, &["--mount", &bind("bind-idmap=nonsense")], "invalid value for bind-idmap");
    // A filesystem that cannot is named.
    refused(
        &host,
        Cli::Corten,
        &["-u", "1000", "--mount", "type=bind,src=/sys/kernel,dst=/m,bind-idmap"],
        "does not support id-mapped mounts",
    );
}

#[test]
fn clone_snapshot_rename_export_import() {
    let host = Host::with_busybox();
    let run = |flags: &[&str], script: &str| sh(&host, Cli::Corten, flags, script);
    run(
        &["-v", "one:/m"],
        "cd /m; mkdir d; echo hello > d/file; ln d/file hard; ln -s d soft; mkfifo pipe; touch .wh.x; chown 5:6 d; chmod 1770 /m; chown 7:8 /m",
    );
    let tree = "cd /m; find . | sort; cat d/file; stat -c '%u:%g' d; stat -c '%u:%g %a' .; stat -c %h hard; readlink soft";
    let expected = run(&["-v", "one:/m"], tree);
    assert_eq!(host.corten(["volume", "clone", "one", "two"]).ok(), "two");
    assert_eq!(run(&["-v", "two:/m"], tree), expected);
    run(&["-v", "two:/m"], "echo changed > /m/d/file");
    assert_eq!(run(&["-v", "one:/m"], tree), expected);
    host.corten(["volume", "clone", "one", "two"]).fails(1, "there is a volume two already");
    host.corten(["volume", "clone", "none", "three"]).fails(1, "no such volume");

    assert_eq!(host.corten(["volume", "snapshot", "one", "snap"]).ok(), "snap");
    assert_eq!(
        host.corten(["volume", "inspect", "-f", "{{index .Labels \"corten.snapshot.of\"}}", "snap"]).ok(),
        "one"
    );
    refused(&host, Cli::Corten, &["-v", "snap:/m"], "volume snap is a snapshot: mount it read-only");
    assert_eq!(run(&["-v", "snap:/m:ro"], tree), expected);

    let user = host.corten(["create", "--network", "none", "-v", "two:/m", "busybox"]).ok();
    host.corten(["volume", "rename", "two", "four"]).fails(1, "rename two: volume is in use");
    host.corten(["rm", &user]).ok();
    host.corten(["volume", "rename", "two", "four"]).ok();
    assert_eq!(run(&["-v", "four:/m"], "cat /m/d/file"), "changed");
    assert_eq!(host.corten(["volume", "ls", "-q"]).ok(), "four\none\nsnap");

    let archive = host.root().join("one.tar");
    let path = archive.display().to_string();
    host.corten(["volume", "export", "-o", &path, "one"]).ok();
    assert_eq!(host.corten(["volume", "import", "five", &path]).ok(), "five");
    assert_eq!(run(&["-v", "five:/m"], tree), expected);
    kit::Cmd::new("gzip").args([&path]).ok();
    let packed = fs::read(host.root().join("one.tar.gz")).expect("read");
    assert_eq!(host.corten(["volume", "import", "six", "-"]).stdin(packed.clone()).ok(), "six");
    assert_eq!(run(&["-v", "six:/m"], "cat /m/d/file"), "hello");
    // Half an archive is no volume.
    host.corten(["volume", "import", "half", "-"])
        .stdin(packed[..packed.len() / 2].to_vec())
        .fails(1, "cannot import volume half");
    host.corten(["volume", "inspect", "half"]).fails(1, "no such volume");
    host.corten(["volume", "import", "bad", "-"])
        .stdin(b"this is no archive at all".to_vec())
        .fails(1, "bad");
    let left: Vec<_> = fs::read_dir(host.data_root().join("volumes"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("utf8"))
        .filter(|name| name.starts_with(".removing"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_daemon_that_is_killed_while_it_copies_leaves_nothing_half_made() {
    let mut host = Host::with_busybox();
    let fill = "mkdir /m/d; for n in $(seq 1 3000); do echo $n > /m/d/$n; done";
    sh(&host, Cli::Corten, &["-v", "one:/m"], fill);
    let volumes = host.data_root().join("volumes");
    let staged = || {
        let names = fs::read_dir(&volumes).expect("list").map(|entry| entry.expect("entry").file_name());
        names.filter(|name| name.to_string_lossy().starts_with(".removing")).count()
    };
    let copying = host.corten(["volume", "clone", "one", "two"]).spawn();
    // In its middle, or just after: both have to be right.
    wait_for("the copy to begin", || (staged() > 0 || volumes.join("two").exists()).then_some(()));
    host.kill_daemon();
    let _ = copying.wait();
    host.start_daemon();
    assert_eq!(staged(), 0);
    let listed = host.corten(["volume", "ls", "-q"]).ok();
    if listed == "one\ntwo" {
        assert_eq!(sh(&host, Cli::Corten, &["-v", "two:/m"], "ls /m/d | wc -l"), "3000");
    } else {
        assert_eq!((listed.as_str(), volumes.join("two").exists()), ("one", false));
    }
}

#[test]
fn prune_takes_what_nobody_named() {
    let host = Host::with_busybox();
    for cli in CLIS {
        host.cli(cli, ["volume", "create", "--label", "keep=1", "named"]).ok();
        let anonymous = host.cli(cli, ["volume", "create"]).ok();
        let pruned = host.cli(cli, ["volume", "prune", "-f"]).ok();
        assert!(pruned.contains(&anonymous) && !pruned.contains("named"), "{pruned}");
        let filter = ["volume", "prune", "-f", "-a", "--filter", "label!=keep"];
        assert!(!host.cli(cli, filter).ok().contains("named"));
        assert!(host.cli(cli, ["volume", "prune", "-f", "-a"]).ok().contains("named"));
    }
}
