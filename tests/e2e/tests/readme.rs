//! README.md's tour, run as it stands there.

use kit::{Cmd, Host, binary};

/// Whether our command line has a command.
fn exists(command: &str) -> bool {
    Cmd::new(binary().display().to_string()).args([command, "--help"]).run().code == 0
}

#[test]
fn what_is_not_yet_is_not_yet() {
    let readme = include_str!("../../../README.md");
    let row = readme.lines().find_map(|line| line.strip_prefix("| not yet | ")).expect("the row");
    let (named, _) = row.split_once(": each is refused by name").expect("its end");
    let words = named.split(", ").map(|item| item.trim_matches('`').to_lowercase());
    let words: Vec<String> = words.filter(|item| !item.contains(' ')).collect();
    assert!(words.len() >= 8 && words.iter().any(|word| word == "swarm"), "{words:?}");
    let there: Vec<&String> = words.iter().filter(|word| exists(word)).collect();
    assert!(there.is_empty(), "these are there: {there:?}");
    assert!(exists("push"));
}

#[test]
fn the_tour_is_true() {
    let host = Host::with_busybox();
    let readme = include_str!("../../../README.md");
    let tour =
        readme.split("<!-- tour").nth(1).expect("the tour").split("```console\n").nth(1).expect("its block");
    let tour = tour.split("```").next().expect("its end");
    let path = format!("{}:{}", binary().parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut steps = 0;
    for step in format!("\n{tour}").split("\n$ ").skip(1) {
        let (command, expected) = step.split_once('\n').unwrap_or((step, ""));
        let mut cmd =
            Cmd::new("sh").args(["-c", &format!("{command} 2>&1 | grep -v ^WARNING")]).env("PATH", &path);
        for (name, value) in host.environment() {
            cmd = cmd.env(name, value);
        }
        let output = cmd.run();
        let squeeze = |text: &str| {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(squeeze(&output.stdout), squeeze(expected), "`{command}` says: {output}");
        steps += 1;
    }
    assert!(steps >= 10, "only {steps} steps were found");
}
