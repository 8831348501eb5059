//! Upkeep: what nobody needs any more goes, in the background.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::json;
use storage::{Pruned, Pruning};

use super::{Answer, Call, Query, Server, body};

/// How often upkeep comes without a reason.
const PERIOD: Duration = Duration::from_secs(10 * 60);
/// How long it waits after something was deleted: more may be.
const PAUSE: Duration = Duration::from_secs(2);
/// How long an upload that nobody goes on with is kept, as in other registries: a week.
const UPLOAD_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What upkeep has removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// From repositories.
    pub pruned: Pruned,
    /// Uploads.
    pub uploads: u64,
    /// Blobs, from the store.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Server {
    /// Prunes now and then, and soon after something was deleted. Never ends by itself.
    pub async fn keep_up(&self) {
        loop {
            let _ = tokio::time::timeout(PERIOD, self.inner.deleted.notified()).await;
            tokio::time::sleep(PAUSE).await;
            self.inner.close_idle();
            if self.inner.options.read_only {
                continue;
            }
            let untagged = self.inner.options.delete_untagged;
            match self.prune(untagged, self.inner.options.grace).await {
                Ok(removed) => tracing::debug!(?removed, "pruned"),
                Err(error) => tracing::warn!(error = crate::error::chain(&error), "cannot prune"),
            }
        }
    }

    /// Removes what nobody needs: unlinked blobs, old uploads, if asked also manifests without tags.
    pub async fn prune(&self, untagged: bool, grace: Duration) -> storage::Result<Removed> {
        self.inner
            .blocking(move |store| {
                let uploads = store.expire_uploads(UPLOAD_AGE_MAX)?;
                let pruned = store.prune_repositories(Pruning { untagged, grace })?;
                let collected = store.gc()?;
                // What was acknowledged is on the disk; with this nobody has to check it after the next boot.
                store.flush()?;
                Ok(Removed { pruned, uploads, blobs: collected.blobs, bytes: collected.bytes })
            })
            .await
    }
}

impl Call<'_> {
    /// Prunes on demand: `?untagged=1&grace=<seconds>`.
    pub(super) async fn prune_now(&self, query: &Query) -> Answer {
        let options = &self.server.options;
        let untagged = query.get("untagged").map_or(options.delete_untagged, |value| value == "1");
        let grace = query.get("grace").and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let server = Server { inner: self.server.clone() };
        let removed = server.prune(untagged, grace.unwrap_or(options.grace)).await?;
        let document = json!({
            "manifests": removed.pruned.manifests, "links": removed.pruned.blobs,
            "repositories": removed.pruned.repositories, "uploads": removed.uploads,
            "blobs": removed.blobs, "bytes": removed.bytes,
        });
        Ok(body::json(StatusCode::OK, document.to_string().into_bytes()))
    }
}
