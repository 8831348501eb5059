//! The project's own chores: `cargo xtask test`, `ci`, `tidy`, `vm-test`, `bench`.

mod bench;
mod machine;
mod run;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask CHORE

  test [FILTER…]   install what the tests need, build, run all tests
  ci               format, clippy, tidy, deny, test, vm-test: what CI runs
  vm-test [JOB…] [-- FILTER…]
                   run tests on Debian's kernel with cgroup v2 and AppArmor, in an emulated machine
  tidy             check the rules of the house that no compiler knows
  bench [NAME…]    print the promises beside what is measured, and the peers
  install          install what the tests and the bench need, and nothing else
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let result = match args.first().map(String::as_str) {
        Some("test") => test::test(rest),
        Some("ci") => test::ci(),
        Some("vm-test") => vm::vm_test(rest),
        Some("tidy") => tidy::tidy(),
        Some("bench") => bench::bench(rest),
        Some("bench-with") => bench::bench_with(rest),
        // What the bench has run elsewhere.
        Some("bench-turns") => bench::turns(rest),
        Some("install") => {
            machine::install(machine::FOR_TESTS).and_then(|()| machine::install(machine::FOR_BENCH))
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
