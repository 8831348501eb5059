//! `update --env-add`, `--env-rm`, `--mount-add`, `--mount-rm`: from the next start on.

use kit::{Cli, Host};

use super::{remove, start};

#[test]
fn environment_and_mounts_change_at_the_next_start() {
    let mut host = Host::with_busybox();
    let folder = host.root().join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("file"), "of the host").unwrap();
    let script = "echo $A $B $C; cat /added/file; ls /old /named 2>/dev/null; exec sleep 1000";
    let flags = ["-e", "A=1", "-e", "B=2", "-v", "old:/old", "-t"];
    start(&host, Cli::Corten, "box", &flags, script);
    let bind = format!("type=bind,src={},dst=/added,ro", folder.display());
    let args = ["update", "--env-add", "B=3", "--env-add", "C=4", "--env-rm", "A", "--mount-add", &bind];
    let more = ["--mount-add", "type=volume,src=named,dst=/named", "--mount-rm", "/old", "box"];
    let output = host.corten(args.iter().chain(&more)).run();
    output.expect_code(0);
    assert!(output.stderr.contains("change when it starts next"), "{output}");
    // Nothing of it now, and not for commands beside it either.
    assert_eq!(host.corten(["exec", "box", "sh", "-c", "echo $A $B $C; ls -d /old"]).ok(), "1 2\n/old");
    let env = |host: &Host| host.corten(["inspect", "-f", "{{.Config.Env}} {{len .Mounts}}", "box"]).ok();
    assert!(env(&host).contains("A=1 B=2 ") && env(&host).ends_with(" 1"), "{}", env(&host));
    // What it will use is in use, and a daemon that comes after this one knows it too.
    host.corten(["volume", "rm", "named"]).fails(1, "volume is in use");
    host.kill_daemon();
    host.start_daemon();
    host.corten(["restart", "-t", "0", "box"]).ok();
    assert_eq!(
        host.corten([
            "exec",
            "box",
            "sh",
            "-c",
            "echo $A $B $C; cat /added/file; cut -d\" \" -f2 /proc/mounts | grep -E \"^/(named|old)\""
        ])
        .run()
        .stdout,
        "3 4\nof the host/named\n"
    );
    let now = env(&host);
    assert!(
        now.contains("B=3") && now.contains("C=4") && !now.contains("A=1") && now.ends_with(" 2"),
        "{now}"
    );
    host.corten(["volume", "rm", "old"]).ok();
    // One that does not run has it at once; a second change builds on the first.
    host.corten(["stop", "-t", "0", "box"]).ok();
    let quiet = host.corten(["update", "--env-rm", "C", "--mount-rm", "/named", "box"]).run();
    quiet.expect_code(0);
    assert_eq!(quiet.stderr, "");
    assert!(!env(&host).contains("C=4") && env(&host).ends_with(" 1"), "{}", env(&host));
    for (args, text) in [
        (["--mount-rm", "/nothing"], "nothing is mounted at /nothing"),
        (["--mount-add", "type=bind,src=/no/such/path,dst=/x"], "bind source path does not exist"),
        (["--mount-add", "type=volume,src=new,dst=/added"], "Duplicate mount point: /added"),
        (["--mount-add", "type=image,src=busybox,dst=/image"], "mounts of images cannot be added"),
        (["--mount-add", "type=volume,dst=/y"], "a volume that is added needs a name"),
        (["--env-rm", "A=1"], "invalid environment variable"),
    ] {
        host.corten(["update"].iter().chain(&args).chain(&["box"])).fails(1, text);
    }
    assert_eq!(host.corten(["volume", "ls", "-q"]).ok(), "named");
    remove(&host, Cli::Corten, &["box"]);
}
