//! The nine flags of `exec`.

use kit::{CLIS, Host};

use super::{remove, start};

#[test]
fn every_flag_of_exec() {
    let host = Host::with_busybox();
    let file = host.root().join("variables");
    std::fs::write(&file, "# note\nFROM_FILE=a b\n").unwrap();
    let file = file.to_str().unwrap();
    for cli in CLIS {
        start(&host, cli, "box", &["-e", "OWN=1"], "exec sleep 1000");
        let exec = |flags: &[&str], script: &str| {
            let mut args = vec!["exec"];
            args.extend(flags);
            args.extend(["box", "sh", "-c", script]);
            host.cli(cli, args)
        };
        let variables = ["-e", "A=1", "--env", "OWN=2", "--env-file", file];
        assert_eq!(exec(&variables, "echo $A $OWN $FROM_FILE").ok(), "1 2 a b");
        assert_eq!(exec(&["-w", "/tmp"], "pwd").ok(), "/tmp");
        assert_eq!(exec(&["-u", "7:8"], "id -u; id -g").ok(), "7\n8");
        assert_eq!(exec(&["-i"], "cat").stdin("typed").ok(), "typed");
        assert_eq!(exec(&[], "cat").stdin("typed").ok(), "");
        let capabilities = |flags: &[&str]| exec(flags, "grep ^CapEff /proc/self/status | cut -f2").ok();
        assert_eq!(capabilities(&[]), "00000000a80425fb");
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap().trim().to_owned();
        assert_eq!(capabilities(&["--privileged"]), own);
        exec(&["-d"], "echo detached > /mark").ok();
        kit::wait_for("the detached command", || {
            (exec(&[], "cat /mark").run().stdout == "detached\n").then_some(())
        });
        // A terminal, whose keys leave the command running.
        let keys = ["exec", "-it", "--detach-keys", "ctrl-a,d", "box", "sh"];
        let mut terminal = host.terminal(cli, &keys);
        terminal.expect("# ");
        terminal.send("tty; echo $((40 + 2))\n");
        terminal.expect("/dev/pts/");
        terminal.expect("42");
        terminal.send("\x01d");
        assert_eq!(terminal.wait(), 1);
        assert!(host.cli(cli, ["top", "box"]).ok().lines().count() > 2);
        remove(&host, cli, &["box"]);
    }
}
