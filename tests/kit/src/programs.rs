//! Small programs in C, for what no program of busybox does.

use std::fs;

use crate::command::Cmd;
use crate::host::skip;

/// A program linked statically. Where there is no compiler it is looked for, by its name, in the folder that
/// `CORTEN_TEST_PROGRAMS` names; where it is not either, the test is to be skipped.
///
/// # Panics
/// The source does not compile, though there is a compiler.
#[must_use]
pub fn compiled(name: &str, source: &str) -> Option<Vec<u8>> {
    if let Some(folder) = std::env::var_os("CORTEN_TEST_PROGRAMS") {
        let path = std::path::Path::new(&folder).join(name);
        return Some(
            fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display())),
        );
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (text, program) = (directory.path().join("source.c"), directory.path().join(name));
    fs::write(&text, source).expect("write a source");
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("cc").is_file()) {
        skip("cc", "no C compiler");
        return None;
    }
    let _ = Cmd::new("cc").args(["-static", "-no-pie", "-O1", "-o"]).args([&program, &text]).ok();
    Some(fs::read(&program).expect("read a program"))
}
