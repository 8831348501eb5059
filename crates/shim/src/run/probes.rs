//! Commands that are run to their end for who asked: their output is kept here, and no connection is made for it.

use crate::process::{Asker, Probe};
use crate::wire::{ExecSpec, Exit, Failure, Message, Stage, Target};

use super::{Shim, failed, libc_signal};

/// The most that is kept of a probe's output, whatever was asked for.
const MAX_OUTPUT: usize = 64 * 1024;

impl Shim {
    /// Starts a probe.
    pub(super) fn probe(
        &mut self,
        id: String,
        limit: u32,
        process: Vec<u8>,
        asker: Asker,
    ) -> Result<(), Failure> {
        let target = Target::Exec(id.clone());
        self.create_exec(ExecSpec { id, tty: false, stdin: false, size: None, process })?;
        let slot = self.find(&target)?;
        if let Some(process) = self.processes.get_mut(slot) {
            let limit = usize::try_from(limit).unwrap_or(MAX_OUTPUT).min(MAX_OUTPUT);
            process.probe = Some(Probe { asker, limit, output: Vec::new(), cut: false });
        }
        self.make(slot).map_err(|error| {
            self.forget(slot);
            failed(Stage::Create, "start the creator")(error)
        })
    }

    /// A probe has ended, or could not begin.
    pub(super) fn probed(&mut self, probe: Probe, failure: Option<Failure>, exit: Exit) {
        let answer = match failure {
            Some(failure) => Message::Failed(failure),
            None => Message::Probed { exit, output: probe.output, cut: probe.cut },
        };
        self.answer(Some(probe.asker), answer);
    }

    /// Whoever asked has gone: nobody would end what does not end by itself.
    pub(super) fn forsake(&mut self, connection: usize) {
        for (_, process) in self.processes.iter() {
            if process.probe.as_ref().is_some_and(|probe| probe.asker.connection == connection) {
                let _ = process.signal(libc_signal::KILL);
            }
        }
    }
}
