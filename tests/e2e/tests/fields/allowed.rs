//! What is otherwise than with Docker, with the reason for each.

use std::fmt::Write as _;
use std::path::Path;

use crate::compare::{Differences, How, Place, matches};

/// The kind of the document, the path in it (a star is the rest of a name), how it differs, and why.
const ALLOWED: &[(&str, &str, How, &str)] = &include!("allowed_list.rs");
/// Where the table is in COMPATIBILITY.md.
const BEGIN: &str = "<!-- fields: written by `CORTEN_WRITE=1 cargo test -p e2e --test fields` -->\n";
const END: &str = "<!-- end of fields -->\n";

/// Fails where a difference is not in the list, or the list has one that is not there.
pub fn check(differences: &Differences) {
    let covers = |(document, path, how, _): &(&str, &str, How, &str), place: &Place| {
        *document == place.0 && *how == place.2 && matches(path, &place.1)
    };
    let mut wrong = Vec::new();
    for (place, example) in &differences.found {
        if !ALLOWED.iter().any(|allowed| covers(allowed, place)) {
            wrong.push(format!("{} {} ({}): {example}", place.0, place.1, place.2.text()));
        }
    }
    for allowed in ALLOWED {
        if !differences.found.keys().any(|place| covers(allowed, place)) {
            wrong.push(format!("gone: {} {} ({})", allowed.0, allowed.1, allowed.2.text()));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// The table for people.
fn table() -> String {
    let mut text = String::from("\n| of | field | how | why |\n| --- | --- | --- | --- |\n");
    for (document, path, how, why) in ALLOWED {
        let path = path.replace("/-", "[]").replace('/', ".");
        let _ = writeln!(text, "| {document} | `{path}` | {} | {why} |", how.text());
    }
    text.push('\n');
    text
}

/// COMPATIBILITY.md has the same list.
pub fn check_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPATIBILITY.md");
    let text = std::fs::read_to_string(&path).expect("COMPATIBILITY.md");
    let (before, rest) = text.split_once(BEGIN).expect("where the table begins");
    let (written, after) = rest.split_once(END).expect("where the table ends");
    if std::env::var_os("CORTEN_WRITE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", table())).expect("write it");
    } else {
        assert_eq!(written, table(), "write it anew with CORTEN_WRITE=1");
    }
}
