//! The tables of COMPATIBILITY.md against what the real `docker` says of itself.

use std::collections::BTreeSet;
use std::path::Path;

/// The long names at the beginnings of lines of `docker COMMAND --help`.
fn of_docker(command: &str) -> BTreeSet<String> {
    let help = kit::Cmd::new("docker").args([command, "--help"]).ok();
    let name = |line: &str| {
        let line = line.trim_start();
        let long = line.split_once(", ").filter(|(short, _)| short.len() == 2).map_or(line, |(_, long)| long);
        Some(long.strip_prefix("--")?.split_whitespace().next()?.to_owned())
    };
    // Every command has that one, and help is all it does.
    help.lines().filter_map(name).filter(|name| name != "help").collect()
}

/// Flags and states of a command's table.
fn of_ours(text: &str, command: &str) -> Vec<(String, String)> {
    let (_, table) = text.split_once(&format!("\n### {command}:")).expect("a table of the command");
    let rows = table.lines().skip(4).take_while(|line| line.starts_with('|'));
    let read = |row: &str| {
        let (_, rest) = row.split_once("`--")?;
        let (name, rest) = rest.split_once("` | ")?;
        Some((name.to_owned(), rest.trim_end_matches(" |").to_owned()))
    };
    rows.map(|row| read(row).unwrap_or_else(|| panic!("{row}"))).collect()
}

#[test]
fn every_flag_of_docker_has_a_state() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPATIBILITY.md");
    let text = std::fs::read_to_string(path).unwrap();
    for (command, count) in [("run", 103), ("create", 100), ("exec", 9), ("update", 14)] {
        let docker = of_docker(command);
        let ours = of_ours(&text, command);
        assert_eq!(docker.len(), count, "docker {command}");
        let like_docker: BTreeSet<String> =
            ours.iter().filter(|(_, state)| state != "beyond Docker").map(|(name, _)| name.clone()).collect();
        let missing: Vec<_> = docker.difference(&like_docker).collect();
        let more: Vec<_> = like_docker.difference(&docker).collect();
        // What `docker` only has hidden.
        let hidden: &[&str] = if command == "update" { &["kernel-memory"] } else { &[] };
        assert!(missing.is_empty(), "docker {command} has {missing:?}");
        assert!(more.iter().all(|name| hidden.contains(&name.as_str())), "only ours has {more:?}");
    }
}
