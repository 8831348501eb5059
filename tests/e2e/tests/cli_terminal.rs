//! Terminals: raw mode and its end, sizes, detach keys, signals.

use kit::{CLIS, Host};

#[test]
fn a_shell_on_a_terminal() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let mut terminal = host.terminal(cli, &["run", "--rm", "-it", "--network", "none", "busybox", "sh"]);
        terminal.expect("# ");
        terminal.send("stty size; tty\r");
        terminal.expect("24 80");
        terminal.expect("/dev/pts/0");
        terminal.resize(31, 101);
        // The size arrives by a signal, an API call and another signal: asked for until it is there.
        terminal.send("until stty size | grep -q '31 101'; do usleep 20000; done; echo now-$((40+2))\r");
        terminal.expect("now-42");
        terminal.send("exit 7\r");
        assert_eq!(terminal.wait(), 7, "{cli:?}");
    }
}

#[test]
fn the_terminal_is_as_it_was_whatever_happens() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let run = format!("{} run --rm --network none", cli.program().display());
        let script = format!(
            "stty -a > {root}/before; {run} -it busybox sh -c 'exit 3'; echo code-$?; stty -a | cmp - {root}/before && echo same-1; \
             {run} -it busybox no-such-program; echo code-$?; stty -a | cmp - {root}/before && echo same-2",
            root = host.root().display()
        );
        let terminal = kit::Terminal::spawn("sh", &["-c", &script], &host.environment());
        for text in ["code-3", "same-1", "code-127", "same-2"] {
            terminal.expect(text);
        }
        assert_eq!(terminal.wait(), 0);
    }
}

#[test]
fn detach_and_come_back() {
    let host = Host::with_busybox();
    for cli in CLIS {
        let name = format!("shell-{cli:?}").to_lowercase();
        let mut terminal =
            host.terminal(cli, &["run", "-it", "--name", &name, "--network", "none", "busybox", "sh"]);
        terminal.expect("# ");
        terminal.send("x=kept\r");
        terminal.send("\x10\x11");
        assert_eq!(terminal.wait(), 0, "{cli:?}");
        assert_eq!(host.cli(cli, ["inspect", "-f", "{{.State.Running}}", &name]).ok(), "true");

        let mut terminal = host.terminal(cli, &["attach", "--detach-keys", "a,b", &name]);
        terminal.send("\r");
        terminal.expect("# ");
        terminal.send("echo $x-$((1+1))\r");
        terminal.expect("kept-2");
        terminal.send("ab");
        terminal.expect("read escape sequence");
        assert_eq!(terminal.wait(), 1, "{cli:?}");

        let mut terminal = host.terminal(cli, &["exec", "-it", &name, "sh"]);
        terminal.expect("# ");
        terminal.send("exit 5\r");
        assert_eq!(terminal.wait(), 5, "{cli:?}");
        host.cli(cli, ["rm", "-f", &name]).ok();
    }
}

#[test]
fn keys_and_signals_reach_the_program() {
    let host = Host::with_busybox();
    let program = "trap 'echo got-int; exit 8' INT; trap 'echo got-term; exit 9' TERM; echo ready; while :; do usleep 10000; done";
    for cli in CLIS {
        for flags in [&[][..], &["-t"], &["-it"]] {
            let mut args = vec!["run", "--rm", "--network", "none"];
            args.extend(flags);
            args.extend(["busybox", "sh", "-c", program]);
            let mut terminal = host.terminal(cli, &args);
            terminal.expect("ready");
            // With `-it` the key itself travels; else our own terminal makes a signal of it, which is handed on.
            terminal.send("\x03");
            terminal.expect("got-int");
            assert_eq!(terminal.wait(), 8, "{cli:?} {flags:?}");
        }
    }
}

#[test]
fn a_terminal_is_not_asked_of_a_pipe() {
    let host = Host::with_busybox();
    for cli in CLIS {
        host.cli(cli, ["run", "--rm", "-it", "--network", "none", "busybox", "sh"])
            .fails(1, "the input device is not a TTY");
        assert_eq!(host.cli(cli, ["ps", "-aq"]).ok(), "");
    }
}
