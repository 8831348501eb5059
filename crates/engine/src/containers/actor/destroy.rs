//! Clearing up after a run, and removing a container.

use std::sync::Arc;

use crate::blocking;
use crate::containers::record::MountKind;
use crate::containers::state::Input;
use crate::context::CONTAINER;
use crate::error::Result;

use super::Actor;

/// How long the removal of a container waits for the receiver of its log.
const SHIPPING: std::time::Duration = std::time::Duration::from_secs(10);

impl Actor {
    /// Removes what a run leaves, in the background: the next launch waits for it. Not before the record says how the run ended:
    /// until then the runtime directory is the only place that knows.
    pub(super) fn begin_sweep(&mut self) {
        self.unswept = self.unwritten;
        if self.unswept {
            tracing::warn!(id = %self.record.id, "what is left of a run stays, as its end could not be written down");
            return;
        }
        let (paths, cgroup) = (self.paths.clone(), self.context.cgroup(&self.record));
        let (id, volumes) = (self.record.id.clone(), Arc::clone(&self.context.volumes));
        let held: Vec<String> = self
            .record
            .mounts
            .iter()
            .filter(|mount| mount.point.kind == "volume")
            .map(|mount| mount.point.name.clone())
            .collect();
        let before = self.sweep.take();
        self.sweep = Some(self.context.tasks.spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let holder = id.clone();
            let swept = blocking::run("clear up after a run", move || {
                let swept = crate::converge::sweep(&paths, &cgroup);
                volumes.let_go_blocking(held.iter().map(String::as_str), &holder);
                swept
            });
            if let Err(error) = swept.await {
                tracing::warn!(id, error = %error.chain(), "something is left of a run");
            }
        }));
    }

    /// Waits until nothing is left of the last run.
    pub(super) async fn swept(&mut self) {
        if let Some(sweep) = self.sweep.take() {
            let _ = sweep.await;
        }
    }

    /// Removes everything. It is gone when its record is; what its last run left goes in the background, unless processes of it
    /// may still be writing.
    pub(super) async fn destroy(&mut self, volumes: bool) -> Input {
        if !self.record.host.pid_mode.is_empty() && self.paths.run.exists() {
            // Not all of them end with the first, where they are in somebody else's namespace.
            self.begin_sweep();
            self.swept().await;
        }
        self.shipped().await;
        match self.remove_all(volumes).await {
            Ok(()) => {
                self.context.execs.forget(&self.record.id);
                self.context.index.remove(&self.record.id);
                self.gone = true;
                self.unwritten = false;
                if self.paths.run.exists() {
                    self.begin_sweep();
                }
                Input::Destroyed
            }
            Err(error) => Input::DestroyFailed(error),
        }
    }

    /// Waits for what the container said last to be shipped: its log is about to go. Not for ever, where nobody takes it.
    async fn shipped(&mut self) {
        if let Some(mut shipping) = self.shipping.take()
            && tokio::time::timeout(SHIPPING, &mut shipping).await.is_err()
        {
            shipping.abort();
            tracing::warn!(id = %self.record.id, "the log of a container that is removed has not been shipped to its end");
        }
    }

    async fn remove_all(&self, volumes: bool) -> Result<()> {
        let context = Arc::clone(&self.context);
        let (id, state) = (self.record.id.clone(), self.paths.state.clone());
        let mounts = self.record.mounts.clone();
        blocking::run("remove a container", move || {
            context.store.make_way();
            context.store.transaction(|tx| {
                tx.delete_record(CONTAINER, &id)?;
                if volumes {
                    crate::volumes::doom_anonymous(tx, &mounts)?;
                }
                for mount in &mounts {
                    if let MountKind::Image { snapshot, .. } = &mount.kind {
                        tx.remove_snapshot(snapshot)?;
                    }
                }
                tx.remove_snapshot(&id)
            })?;
            // Without a record a directory is rubbish, which the next start of the daemon would remove too.
            Ok(context.store.throw_away(&state)?)
        })
        .await?;
        for mount in &self.record.mounts {
            let MountKind::Volume { anonymous, .. } = &mount.kind else { continue };
            let name = &mount.point.name;
            if let Err(error) = self.context.volumes.released(name, *anonymous && volumes).await {
                tracing::warn!(volume = %name, error = %error.chain(), "cannot remove a volume");
            }
        }
        Ok(())
    }
}
