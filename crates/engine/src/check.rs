//! Whether the store is whole: `corten system check`.

use std::path::Path;

use api::check::{Line, Problem, Progress, Report};
use storage::{CheckOptions, Checked, Store};
use tokio::sync::mpsc;

use crate::blocking;
use crate::error::{Error, Result};
use crate::system::System;

/// Lines on their way to a client: how far it is is left out where the client does not read.
const LINES: usize = 16;

/// What to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Contents are taken on trust.
    pub quick: bool,
    /// What can be mended is.
    pub repair: bool,
}

impl System {
    /// Checks the store. The lines end with a report or with why there is none; a receiver that is dropped ends the check.
    pub fn check(&self, options: Options) -> mpsc::Receiver<Line> {
        let (sender, lines) = mpsc::channel(LINES);
        let store = self.context().store.clone();
        let tasks = self.context().tasks.clone();
        tasks.spawn(async move {
            let told = sender.clone();
            let outcome = blocking::run("check the store", move || {
                let tell = |progress| told.try_send(line(progress)).is_ok() || !told.is_closed();
                check(&store, options, &mut { tell })
            })
            .await;
            let last = match outcome {
                Ok(report) => Line { report: Some(report), ..Line::default() },
                Err(error) => Line { error: error.chain(), ..Line::default() },
            };
            let _ = sender.send(last).await;
        });
        lines
    }
}

fn line(progress: Progress) -> Line {
    Line { progress: Some(progress), ..Line::default() }
}

fn check(store: &Store, options: Options, tell: &mut dyn FnMut(Progress) -> bool) -> Result<Report> {
    let mut progress = |at: storage::Progress| tell(Progress { bytes: at.bytes, total: at.total });
    let mut how = CheckOptions { quick: options.quick, progress: &mut progress };
    if !options.repair {
        return Ok(report(store.check(&mut how)?, None));
    }
    let (found, left) = store.repair(&mut how)?;
    Ok(report(found, Some(left)))
}

/// Checks the store in a data root that no daemon has open, and leaves it as it is.
pub fn closed(data_root: &Path, quick: bool, tell: &mut dyn FnMut(Progress) -> bool) -> Result<Report> {
    if !data_root.is_dir() {
        return Err(Error::not_found(format!("there is no data root {}", data_root.display())));
    }
    let mut progress = |at: storage::Progress| tell(Progress { bytes: at.bytes, total: at.total });
    Ok(report(Store::check_closed(data_root, &mut CheckOptions { quick, progress: &mut progress })?, None))
}

fn report(found: Checked, left: Option<Checked>) -> Report {
    Report {
        clean: left.as_ref().unwrap_or(&found).is_clean(),
        left: left.map(|left| problems(&left)),
        problems: problems(&found),
        untold: found.untold,
        images: found.images,
        blobs: found.blobs,
        layers: found.layers,
        snapshots: found.snapshots,
        bytes: found.bytes,
    }
}

fn problems(checked: &Checked) -> Vec<Problem> {
    let told = checked.problems.iter().map(|problem| Problem {
        fault: problem.fault.word().to_owned(),
        what: problem.what.clone(),
        detail: problem.detail.clone(),
    });
    told.collect()
}
