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
    /// Notes the changes in the record; one that does not run has them at once.
    pub(super) async fn change_next(&mut self, changes: &Changes) -> Result<()> {
        if !next::concerns(changes) {
            return Ok(());
        }
        let (context, record, changes) = (Arc::clone(&self.context), self.record.clone(), changes.clone());
        let next = blocking::run("plan a container's next start", move || plan(&context, &record, &changes));
        self.record.next = Some(next.await?);
        if self.machine.life.pid().is_none() {
            self.record.begin_next();
        }
        Ok(())
    }

    /// What it was before a change that failed; its places are those of now.
    pub(super) fn take_back(&mut self, old: Record) {
        let places = std::mem::take(&mut self.record.places);
        self.record = Record { places, ..old };
    }
}

/// What it will have; volumes that are named and not there are made.
fn plan(context: &Context, record: &Record, changes: &Changes) -> Result<Next> {
    let (mut next, wanted) = Next::plan(record, changes)?;
    create::sources_exist(&wanted)?;
    let mut made = create::Made::default();
    let mounted: Result<Vec<_>> =
        wanted.into_iter().map(|wanted| create::volume_for(&context.volumes, wanted, &mut made)).collect();
    let done = mounted.and_then(|mounts| next.mount(mounts));
    if let Err(error) = done {
        for name in &made.named {
            if let Err(error) = context.volumes.remove_blocking(name, false) {
                tracing::warn!(volume = %name, error = %error.chain(), "cannot remove a volume");
            }
        }
        return Err(error);
    }
    Ok(next)
}
