//! A real Debian from a real registry, on a real terminal.

use kit::{CLIS, Host, fixtures};

#[test]
fn a_shell_in_debian() {
    let host = Host::new();
    host.give(&fixtures::debian(), "debian");
    for cli in CLIS {
        let run = |args: &[&str]| {
            let mut all = vec!["run", "--rm", "--network", "none", "debian"];
            all.extend(args);
            host.cli(cli, all).ok()
        };
        assert!(run(&["apt-get", "--version"]).starts_with("apt 2."));
        let root = run(&["ls", "-la", "/"]);
        assert!(root.contains("usr") && root.contains("bin -> usr/bin"), "{root}");
        assert_eq!(run(&["getent", "passwd", "daemon"]), "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin");
        let ps = run(&["ps", "-e", "-o", "pid,comm"]);
        assert_eq!(ps.split_whitespace().collect::<Vec<_>>(), ["PID", "COMMAND", "1", "ps"]);
        assert_eq!(
            run(&["stat", "-c", "%a %U %G", "/usr/bin/passwd", "/etc/shadow", "/var/mail"]),
            "4755 root root\n640 root shadow\n2775 root mail"
        );

        let mut terminal = host.terminal(cli, &["run", "--rm", "-it", "--network", "none", "debian", "bash"]);
        terminal.expect("# ");
        terminal.send("tty; stty size; echo $((6*7))\n");
        terminal.expect("/dev/pts/0");
        terminal.expect("24 80");
        terminal.expect("42");
        terminal.resize(30, 100);
        terminal.send("sleep 0.2; stty size\n");
        terminal.expect("30 100");
        // Control-C interrupts the command and leaves the shell.
        // The terminal forgets what was typed before it, so the command has to run already, and its prompt to be back.
        // The job that says so has the terminal by then; a word of the shell itself would say nothing about that.
        terminal.send("sh -c \"echo sle''eping; exec sleep 1000\"\n");
        terminal.expect("sleeping");
        terminal.send("\x03");
        terminal.expect("^C");
        terminal.send("\n");
        terminal.send("echo st''ill here\n");
        terminal.expect("still here");
        terminal.send("exit 5\n");
        assert_eq!(terminal.wait(), 5);

        let mut terminal =
            host.terminal(cli, &["run", "-it", "--name", "detached", "--network", "none", "debian", "bash"]);
        terminal.expect("# ");
        terminal.send("echo be''fore\n");
        terminal.expect("before");
        terminal.send("\x10\x11");
        assert_eq!(terminal.wait(), 0);
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.State.Status}}", "detached"]).ok(), "running");
        let mut terminal = host.terminal(cli, &["attach", "detached"]);
        terminal.send("echo af''ter\n");
        terminal.expect("after");
        terminal.send("exit 3\n");
        assert_eq!(terminal.wait(), 3);
        assert_eq!(host.cli(cli, ["rm", "detached"]).ok(), "detached");
    }
}
