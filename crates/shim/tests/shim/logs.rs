//! The log of a real program.

use crate::host::{Host, able};

#[test]
fn rotation_under_a_flood_keeps_the_newest_lines() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["seq", "1", "200000"], |launch| {
        let log = launch.log.as_mut().expect("log");
        log.max_size = 1 << 20;
        log.max_files = 3;
    });
    assert_eq!(host.exit().code, 0);
    let mut numbers = Vec::new();
    for name in ["json.log.2", "json.log.1", "json.log"] {
        let text = std::fs::read_to_string(host.path().join(name)).expect("read");
        assert!(text.len() <= (1 << 20) + 200);
        for line in text.lines() {
            let number = line["{\"log\":\"".len()..].split('\\').next().expect("text");
            numbers.push(number.parse::<u32>().expect("number"));
        }
    }
    assert!(!host.path().join("json.log.3").exists());
    assert_eq!(numbers.last(), Some(&200_000));
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    host.gone();
}

#[test]
fn a_container_without_a_log_runs() {
    if !able() {
        return;
    }
    let mut host = Host::running(&["echo", "x"], |launch| launch.log = None);
    assert_eq!(host.exit().code, 0);
    assert!(!host.path().join("json.log").exists());
    host.gone();
}
