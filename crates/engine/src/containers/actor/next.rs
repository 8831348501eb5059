//! Changing what a container has from its next start on.

use std::sync::Arc;

use api::container::Changes;

use super::Actor;
use crate::blocking;
use crate::containers::create;
use crate::containers::next::{self, Next};
use crate::containers::record::Record;
use crate::context::Context;
use crate::error::Result;

impl Actor {
    /// Notes the changes in the record; one that does not run has them at once. The volumes that were made for it.
    pub(super) async fn change_next(&mut self, changes: &Changes) -> Result<Vec<String>> {
        if !next::concerns(changes) {
            return Ok(Vec::new());
        }
        let (context, record, changes) = (Arc::clone(&self.context), self.record.clone(), changes.clone());
        let next = blocking::run("plan a container's next start", move || plan(&context, &record, &changes));
        let (next, made) = next.await?;
        self.record.next = Some(next);
        if self.machine.life.pid().is_none() {
            self.record.begin_next();
        }
        Ok(made)
    }

    /// Writes the record with these changes, if the volumes that it names are still there; removes those that were made for it if not.
    pub(super) async fn persist_changes(&mut self, made: Vec<String>) -> Result<()> {
        let record = self.show();
        let context = Arc::clone(&self.context);
        blocking::run("write a container's record", move || {
            let written = context.put_record_with_volumes(&record);
            if written.is_err() {
                unmake(&context, &made);
            }
            written
        })
        .await
    }

    /// What it was before a change that failed; its places are those of now.
    pub(super) fn take_back(&mut self, old: Record) {
        let places = std::mem::take(&mut self.record.places);
        self.record = Record { places, ..old };
    }
}

/// What it will have; volumes that are named and not there are made.
fn plan(context: &Context, record: &Record, changes: &Changes) -> Result<(Next, Vec<String>)> {
    let (mut next, wanted) = Next::plan(record, changes)?;
    create::sources_exist(&wanted)?;
    let mut made = create::Made::default();
    let mounted: Result<Vec<_>> =
        wanted.into_iter().map(|wanted| create::volume_for(&context.volumes, wanted, &mut made)).collect();
    let done = mounted.and_then(|mounts| next.mount(mounts, &record.host.secrets));
    if let Err(error) = done {
        unmake(context, &made.named);
        return Err(error);
    }
    Ok((next, std::mem::take(&mut made.named)))
}

fn unmake(context: &Context, volumes: &[String]) {
    for name in volumes {
        if let Err(error) = context.volumes.remove_blocking(name, false) {
            tracing::warn!(volume = %name, error = %error.chain(), "cannot remove a volume");
        }
    }
}
