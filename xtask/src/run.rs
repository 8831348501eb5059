//! Runs other programs, and shows which.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// What a chore ends with: nothing, or one line about why not.
pub type Result<T = ()> = std::result::Result<T, String>;

/// The workspace's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The cargo that runs us.
pub fn cargo() -> String {
    env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Runs a program in the workspace's root, its output shown; an error if it fails.
pub fn show(program: &str, args: &[&str]) -> Result {
    show_with(program, args, &[])
}

/// The same with more environment.
pub fn show_with(program: &str, args: &[&str], envs: &[(&str, &str)]) -> Result {
    let line = format!("{} {}", program.rsplit('/').next().unwrap_or(program), args.join(" "));
    eprintln!("--- {line}");
    let started = Instant::now();
    let status = Command::new(program)
        .args(args)
        .envs(envs.iter().copied())
        .current_dir(root())
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    eprintln!("--- {line}: {} s", started.elapsed().as_secs());
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// Runs a program quietly and gives its standard output; an error if it fails.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{program} {}` failed: {}", args.join(" "), reason.trim()));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{program} printed something that is no text"))
}

/// Whether a program is to be found in `PATH`.
pub fn exists(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
