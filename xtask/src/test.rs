//! `cargo xtask test` and `cargo xtask ci`.

use crate::run::{Result, cargo, exists, output, show, show_with};
use crate::{machine, tidy, vm};

/// What the cases of property tests are drawn from: whether a change passes depends on the change alone. To look for cases that nobody has
/// seen, run the tests without it and with a large `PROPTEST_CASES`.
const PROPERTIES_SEED: &str = "1979";

/// Installs what the tests need, builds the binary under test, and runs all tests (or those that `filter` names).
pub fn test(filter: &[String]) -> Result {
    machine::install(machine::FOR_TESTS)?;
    let before = remains()?;
    let cargo = cargo();
    // The e2e tests drive this binary; cargo does not know that they depend on it.
    show(&cargo, &["build", "--package", "corten"])?;
    let mut args = if exists("cargo-nextest") {
        vec!["nextest", "run", "--workspace"]
    } else {
        vec!["test", "--workspace", "--"]
    };
    args.extend(filter.iter().map(String::as_str));
    let result = show_with(&cargo, &args, &[("PROPTEST_RNG_SEED", PROPERTIES_SEED)])
        .and_then(|()| if filter.is_empty() { validate(&cargo) } else { Ok(()) });
    let left: Vec<String> = remains()?.into_iter().filter(|remain| !before.contains(remain)).collect();
    if !left.is_empty() {
        return Err(format!("the tests left something on the machine:\n{}", left.join("\n")));
    }
    result
}

/// Holds the runtimes that everybody uses to the suite that ours is held to: it says what they do as well, or its table says why not.
fn validate(cargo: &str) -> Result {
    let args: &[&str] = if exists("cargo-nextest") {
        &["nextest", "run", "--package", "runtimes", "--test", "suite"]
    } else {
        &["test", "--package", "runtimes", "--test", "suite"]
    };
    show_with(cargo, args, &[("RUNTIME_UNDER_TEST", "runc,crun")])
}

/// Everything that must hold before a change lands.
pub fn ci() -> Result {
    let cargo = cargo();
    // First, so that nobody waits for all the rest to learn that the last part cannot be.
    vm::install()?;
    show(&cargo, &["fmt", "--all", "--check"])?;
    tidy::tidy()?;
    show(&cargo, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    if !exists("cargo-deny") {
        show(&cargo, &["install", "--locked", "--quiet", "cargo-deny"])?;
    }
    // Advisories need a database that is not among the package registries; they are checked by hand.
    show(&cargo, &["deny", "check", "bans", "licenses", "sources"])?;
    test(&[])?;
    vm::vm_test(&[])
}

/// Mounts, cgroups and bridges of tests that are on the machine now; an earlier run that was killed may have left some.
fn remains() -> Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let mounts = mounts.lines().filter(|line| line.contains("/tmp/ct")).map(str::to_owned);
    let cgroups = output("find", &["/sys/fs/cgroup", "-maxdepth", "3", "-name", "corten-test-*"])?;
    let bridges = output("find", &["/sys/class/net", "(", "-name", "corten*", "-o", "-name", "br-*", ")"])?;
    let others = cgroups.lines().chain(bridges.lines()).map(str::to_owned);
    Ok(mounts.chain(others).collect())
}
