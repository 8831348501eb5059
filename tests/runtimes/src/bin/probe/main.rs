//! The program inside: does what its arguments say, step by step, and reports in JSON what came of it.
//!
//! Its one argument is a list of steps, each a list of a name and operands: `[["world"], ["open", "/dev/null", "r"]]`. What it writes is
//! one line: a list with a result for each step; what failed is `{"errno": 13}`. `hold` writes what there is so far.

mod steps;
mod world;

use std::process::ExitCode;

use serde_json::Value;

fn main() -> ExitCode {
    let Some(text) = std::env::args().nth(1) else {
        eprintln!("usage: probe '[[\"world\"]]'");
        return ExitCode::from(2);
    };
    let steps: Vec<Vec<Value>> = match serde_json::from_str(&text) {
        Ok(steps) => steps,
        Err(error) => {
            eprintln!("probe: {error}");
            return ExitCode::from(2);
        }
    };
    steps::run(&steps)
}
