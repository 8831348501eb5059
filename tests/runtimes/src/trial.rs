//! Running a test with each runtime, and holding it to what is known of that.

use std::panic::{self, AssertUnwindSafe};

use crate::known;
use crate::runtime::Runtime;

/// What a test unwinds with that cannot be run here.
struct Skipped;

/// Ends a test that needs what is not there; prints the capability for the runner's summary.
pub fn skip(capability: &str, why: &str) -> ! {
    kit::skip(capability, why);
    panic::resume_unwind(Box::new(Skipped))
}

/// Runs `test` with each runtime under test.
///
/// # Panics
/// It fails with one of which nothing is known, or holds with one of which it is known not to.
pub fn judge<T: Fn(&Runtime)>(test: T) {
    // The path of the closure: suite::module::test::{{closure}}.
    let path = std::any::type_name::<T>();
    let name = path.split_once("::").map_or(path, |(_, rest)| rest).trim_end_matches("::{{closure}}");
    for runtime in Runtime::under_test() {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| test(&runtime)));
        let skipped = outcome.as_ref().is_err_and(|payload| payload.is::<Skipped>());
        match (outcome, known::reason(runtime.kind, name)) {
            _ if skipped => {}
            (Ok(()), None) => {}
            (Ok(()), Some((_, true))) => {}
            (Ok(()), Some((reason, false))) => {
                panic!(
                    "{name} holds with {}: take it off the list of what is known ({reason})",
                    runtime.name()
                )
            }
            (Err(_), Some((reason, _))) => println!("KNOWN [{}]: {reason}", runtime.name()),
            (Err(payload), None) => {
                eprintln!("{name} does not hold with {}", runtime.name());
                panic::resume_unwind(payload)
            }
        }
    }
}
