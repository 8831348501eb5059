//! `corten daemon --check-store`: looks whether a store is whole that no daemon has open, and leaves it as it is.

use std::path::Path;

/// How much of the store is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreCheck {
    /// Everything.
    Full,
    /// References, sizes and directories; contents are taken on trust.
    Quick,
}

/// Checks, and tells what is wrong; the exit code.
pub(super) fn run(data_root: &Path, how: StoreCheck) -> i32 {
    let report = match engine::check::closed(data_root, how == StoreCheck::Quick, &mut |_| true) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("corten daemon: {}", error.chain());
            return 1;
        }
    };
    for problem in &report.problems {
        println!("{}: {}: {}", problem.fault, problem.what, problem.detail);
    }
    if report.untold > 0 {
        println!("… and {} more.", report.untold);
    }
    println!(
        "Images: {}, blobs: {}, layers: {}, snapshots: {}: {}",
        report.images,
        report.blobs,
        report.layers,
        report.snapshots,
        if report.clean { "nothing is wrong" } else { "the store is damaged" }
    );
    i32::from(!report.clean)
}
