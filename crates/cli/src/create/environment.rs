//! Variables and labels, from flags and files.

use client::config::ConfigFile;
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::flags::Parsed;

/// A file of variables or labels longer than this is a mistake.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A variable has a name.
pub(super) fn check(text: &str) -> std::result::Result<(), String> {
    if text.is_empty() || text.starts_with('=') {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(())
}

/// All variables: proxies of the configuration, files, flags, in this order.
pub fn collect(parsed: &Parsed, config: &ConfigFile) -> Result<Vec<String>> {
    let mut all = env_file_list(parsed)?;
    let given = |all: &[String], name: &str| all.iter().any(|line| line.split('=').next() == Some(name));
    for (name, value) in proxies(config) {
        if !given(&all, &name) {
            all.push(format!("{name}={value}"));
        }
    }
    Ok(all)
}

/// The variables of files and flags.
pub fn env_file_list(parsed: &Parsed) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for path in parsed.list("env-file") {
        for (name, value) in read(path, "env")? {
            // Of a name without a value that is not set here either nothing is said.
            if let Some(value) = value.or_else(|| std::env::var(&name).ok()) {
                all.push(format!("{name}={value}"));
            }
        }
    }
    all.extend(given(parsed, "env"));
    Ok(all)
}

/// The variables of a flag; a name alone takes its value from here.
pub(super) fn given(parsed: &Parsed, flag: &str) -> Vec<String> {
    let read = |text: &str| match std::env::var(text) {
        Ok(value) if !text.contains('=') => format!("{text}={value}"),
        _ => text.to_owned(),
    };
    parsed.list(flag).map(read).collect()
}

/// The labels of files and flags.
pub(super) fn labels(parsed: &Parsed) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for path in parsed.list("label-file") {
        all.extend(read(path, "label")?.into_iter().map(|(name, value)| (name, value.unwrap_or_default())));
    }
    for text in parsed.list("label") {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        all.insert(name.to_owned(), value.to_owned());
    }
    Ok(all)
}

/// The lines of a file: `name=value` or `name`; empty lines and comments left out.
fn read(path: &str, kind: &str) -> Result<Vec<(String, Option<String>)>> {
    use std::io::Read;
    let failed = |source| Error::File { verb: "open", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    lines(&bytes).map_err(|why| Error::Message(format!("invalid {kind} file ({path}): {why}")))
}

fn lines(bytes: &[u8]) -> std::result::Result<Vec<(String, Option<String>)>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut all = Vec::new();
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            return Err(format!("invalid utf8 bytes at line {}: {}", number + 1, shown(line)));
        };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (line, None),
        };
        if name.is_empty() {
            return Err(format!("no variable name on line '{line}'"));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("variable '{name}' contains whitespaces"));
        }
        all.push((name.to_owned(), value));
    }
    Ok(all)
}

/// Bytes as Go shows them.
fn shown(bytes: &[u8]) -> String {
    format!("[{}]", bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" "))
}

/// The proxies that the configuration sets in every container.
fn proxies(config: &ConfigFile) -> Vec<(String, String)> {
    let Some(default) = config.object("proxies").and_then(|all| all.get("default")) else {
        return Vec::new();
    };
    let names = [
        ("httpProxy", "HTTP_PROXY"),
        ("httpsProxy", "HTTPS_PROXY"),
        ("noProxy", "NO_PROXY"),
        ("ftpProxy", "FTP_PROXY"),
        ("allProxy", "ALL_PROXY"),
    ];
    let mut all = Vec::new();
    for (key, name) in names {
        if let Some(value) =
            default.get(key).and_then(serde_json::Value::as_str).filter(|value| !value.is_empty())
        {
            all.push((name.to_owned(), value.to_owned()));
            all.push((name.to_lowercase(), value.to_owned()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_file() {
        let text = b"\xef\xbb\xbf# note\n\n A=1=2 \r\nB\n  C= # kept\nD= \"quoted\"\n";
        let want = [("A", Some("1=2 ")), ("B", None), ("C", Some(" # kept")), ("D", Some(" \"quoted\""))];
        let got = lines(text).unwrap();
        assert_eq!(got.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect::<Vec<_>>(), want);
        assert_eq!(lines(b"=x").unwrap_err(), "no variable name on line '=x'");
        assert_eq!(lines(b"a b=x").unwrap_err(), "variable 'a b' contains whitespaces");
        assert!(lines(b"a\xff=x").unwrap_err().starts_with("invalid utf8 bytes at line 1"));
    }

    #[test]
    fn a_variable_needs_a_name() {
        assert_eq!(check("=x").unwrap_err(), "invalid environment variable: =x");
        check("A").unwrap();
    }
}
