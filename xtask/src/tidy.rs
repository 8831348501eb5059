//! `cargo xtask tidy`: the rules of the house that no compiler knows.
//!
//! Edges between crates as ARCHITECTURE.md has them; where `unsafe` may stand; names; lengths; words that may not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{Result, cargo, output, root};

/// A file longer than this is two files.
const FILE_LINES_MAX: usize = 700;

/// Module names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "misc", "mod"];

/// Text that may not stand in sources, and what to do instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("#[allow(", "use #[expect(…, reason = \"…\")]"),
    ("todo!(", "finish it, or refuse it by name"),
    ("unimplemented!(", "finish it, or refuse it by name"),
    ("FIXME", "fix it"),
    ("XXX:", "fix it"),
];

/// Checks everything and prints each breach.
pub fn tidy() -> Result {
    let mut breaches = Vec::new();
    edges(&mut breaches)?;
    let files = sources()?;
    for file in &files {
        check_file(file, &mut breaches)?;
    }
    if breaches.is_empty() {
        eprintln!("tidy: {} files are in order", files.len());
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("tidy: {breach}");
    }
    Err(format!("{} breaches of the house's rules", breaches.len()))
}

/// The Rust files that git tracks, relative to the root.
fn sources() -> Result<Vec<PathBuf>> {
    let list = output("git", &["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])?;
    Ok(list.lines().map(PathBuf::from).filter(|path| root().join(path).exists()).collect())
}

fn check_file(path: &Path, breaches: &mut Vec<String>) -> Result {
    let shown = path.display();
    let text = fs::read_to_string(root().join(path)).map_err(|error| format!("{shown}: {error}"))?;
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem.as_str()) {
        breaches.push(format!("{shown}: a module is a noun of the domain, not {stem:?}"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        breaches.push(format!("{shown}: {lines} lines, more than {FILE_LINES_MAX}"));
    }
    let is_sys = path.starts_with("crates/sys");
    let is_this = path.ends_with("xtask/src/tidy.rs");
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let place = format!("{shown}:{}", number + 1);
        for (word, instead) in FORBIDDEN.iter().filter(|_| !is_this) {
            if line.contains(word) {
                breaches.push(format!("{place}: {word} is not allowed: {instead}"));
            }
        }
        if !is_sys
            && !is_this
            && (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl"))
        {
            breaches.push(format!("{place}: unsafe belongs in crates/sys"));
        }
    }
    Ok(())
}

/// Compares the table in ARCHITECTURE.md with what cargo knows.
fn edges(breaches: &mut Vec<String>) -> Result {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).map_err(|error| error.to_string())?;
    let allowed = table(&text);
    let metadata = output(&cargo(), &["metadata", "--format-version", "1", "--no-deps", "--offline"])?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let name_of = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name_of).collect();
    for package in &packages {
        let name = name_of(package);
        let Some(may) = allowed.get(&name) else {
            breaches.push(format!("ARCHITECTURE.md: no line for the crate {name}"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().cloned().unwrap_or_default();
        for dependency in &dependencies {
            // Any crate's tests may use the harness.
            let tests_only = dependency["kind"] == "dev";
            let dependency = name_of(dependency);
            let known = ours.contains(&dependency) && !(tests_only && dependency == "kit");
            if known && !may.contains(&dependency) {
                breaches.push(format!("crates/{name}: may not use {dependency} (ARCHITECTURE.md)"));
            }
        }
    }
    for name in allowed.keys().filter(|name| !ours.contains(*name)) {
        breaches.push(format!("ARCHITECTURE.md: there is no crate {name}"));
    }
    Ok(())
}

/// Crate and allowed dependencies, from the rows that begin with a name in backticks and have six columns or so.
fn table(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, _, may, _] = cells.as_slice() else { return None };
        let may = may.split(',').map(|word| word.trim().to_owned()).collect();
        Some((name.trim_matches('`').to_owned(), may))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = table(
            "| crate | a | b | may use | async |\n| --- |\n| `x` | does | not | sys, oci | no |\n| `y` | z |\n",
        );
        assert_eq!(table.len(), 1);
        assert_eq!(table["x"], BTreeSet::from(["sys".to_owned(), "oci".to_owned()]));
    }
}
