//! The machine's second disk: the programs built here, where they find each other, and the list of jobs as a script.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::boot;
use super::guest::make_disk;
use super::jobs::{Job, PROGRAMS, Who};
use crate::run::{Result, cargo, output, show};

/// The end of the console's output that means success or not; the number of jobs stands between the two.
const PASSED: &str = "vm-test: passed all jobs:";
const FAILED: &str = "vm-test: failed:";

/// Builds the tests and their disk.
pub fn build(cache: &Path, jobs: &[&Job], filter: Option<&[String]>) -> Result<PathBuf> {
    let cargo = cargo();
    show(&cargo, &["build", "--package", "corten"])?;
    // The whole workspace, as for `test`: with fewer crates cargo would choose other features, and build them again.
    let messages = output(&cargo, &["test", "--workspace", "--no-run", "--message-format=json"])?;
    let built = executables(&messages);
    let directory =
        tempfile::tempdir_in(cache).map_err(|error| format!("cannot make a directory: {error}"))?;
    let tree = directory.path();
    let mut lines = String::new();
    for job in jobs {
        let key = (job.package.to_owned(), job.test.to_owned());
        let program = built.get(&key).ok_or_else(|| format!("{} has no test {}", job.package, job.test))?;
        let path = add(tree, "debug/deps", program)?;
        lines.push_str(&line(job, &path, filter));
    }
    // Tests look for these beside themselves, in the places where cargo puts them.
    let target = built.values().next().and_then(|path| path.ancestors().nth(2)).ok_or("nothing was built")?;
    add(tree, "debug/examples", &target.join("examples/runtime"))?;
    add(tree, "debug", &target.join("corten"))?;
    add(tree, "debug", &target.join("probe"))?;
    fs::create_dir(tree.join("programs")).map_err(|error| format!("cannot make a directory: {error}"))?;
    for (name, source) in PROGRAMS {
        let program = tree.join("programs").join(name);
        output("cc", &["-static", "-no-pie", "-O1", "-o", &program.to_string_lossy(), source])?;
    }
    let script = include_str!("payload/run.sh");
    let script = script
        .replace("@JOBS@", &lines)
        .replace("@PASSED@", PASSED)
        .replace("@FAILED@", FAILED)
        // A job that hangs leaves the others their time.
        .replace("@SECONDS@", &(boot::limit().as_secs() / 2).to_string());
    fs::write(tree.join("run"), script).map_err(|error| format!("cannot write the list of jobs: {error}"))?;
    let disk = cache.join("payload.img");
    make_disk(tree, &disk, "1G")?;
    Ok(disk)
}

/// The job as a line of the script.
fn line(job: &Job, program: &str, filter: Option<&[String]>) -> String {
    let who = match job.who {
        Who::Root => "as_root",
        Who::Tester => "as_tester",
    };
    let own = || job.args.iter().map(|arg| (*arg).to_owned()).collect();
    let args: Vec<String> = filter.map_or_else(own, <[String]>::to_vec);
    let args: Vec<String> = args.iter().map(|arg| format!("'{arg}'")).collect();
    format!("job '{}' {who} {program} {}\n", job.name, args.join(" "))
}

/// What a line of the console says about the end of `jobs` jobs, if it is the line that does.
pub fn verdict(line: &str, jobs: usize) -> Option<Result> {
    if let Some(names) = line.strip_prefix(FAILED) {
        return Some(Err(format!("failed in the machine:{names}")));
    }
    (line.strip_prefix(PASSED)?.trim() == jobs.to_string()).then_some(Ok(()))
}

/// The test programs that cargo names, by crate and test.
fn executables(messages: &str) -> BTreeMap<(String, String), PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter_map(|message| {
            // The crate's directory, the only name of it that all cargos print in the same way.
            let package = Path::new(message["manifest_path"].as_str()?).parent()?.file_name()?.to_str()?;
            let test = match message["target"]["kind"][0].as_str()? {
                "test" => message["target"]["name"].as_str()?,
                "lib" => "lib",
                _ => return None,
            };
            let path = message["executable"].as_str()?;
            Some(((package.to_owned(), test.to_owned()), PathBuf::from(path)))
        })
        .collect()
}

/// Puts a program into a folder of the disk; returns its path in the machine.
fn add(tree: &Path, folder: &str, program: &Path) -> Result<String> {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let failed = |error| format!("cannot add {} to the machine: {error}", program.display());
    fs::create_dir_all(tree.join(folder)).map_err(failed)?;
    fs::copy(program, tree.join(folder).join(name)).map_err(failed)?;
    Ok(format!("/payload/{folder}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_word_is_success() {
        assert_eq!(verdict("vm-test: passed all jobs: 3", 3), Some(Ok(())));
        assert_eq!(verdict("vm-test: passed all jobs: 2", 3), None);
        assert_eq!(verdict("test x ... ok", 3), None);
        assert_eq!(verdict("vm-test: failed: a b", 3), Some(Err("failed in the machine: a b".into())));
    }

    #[test]
    fn programs_are_found_in_what_cargo_says() {
        let messages = concat!(
            r#"{"manifest_path":"/w/crates/runtime/Cargo.toml","target":{"kind":["test"],"name":"kernel"},"executable":"/t/kernel-1"}"#,
            "\n",
            r#"{"manifest_path":"/w/crates/runtime/Cargo.toml","target":{"kind":["lib"],"name":"runtime"},"executable":"/t/runtime-1"}"#,
            "\nnoise\n",
        );
        let found = executables(messages);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&("runtime".to_owned(), "lib".to_owned())], Path::new("/t/runtime-1"));
        assert_eq!(found[&("runtime".to_owned(), "kernel".to_owned())], Path::new("/t/kernel-1"));
    }
}
