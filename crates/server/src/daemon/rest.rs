//! Gives memory back when nobody has asked for anything for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// Nobody has connected for this long: it is quiet.
const QUIET: Duration = Duration::from_secs(3);

/// Counts those who connect, so that the daemon knows when it is quiet.
#[derive(Debug, Clone, Default)]
pub(super) struct Visitors(Arc<(AtomicU64, Notify)>);

impl Visitors {
    /// Somebody has connected.
    pub fn count(&self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.notify_one();
    }

    /// Once it is quiet, drops the code that was last needed at the start or by those visitors, and what the heap holds for
    /// nobody. It comes back page by page as it is needed. While it stays quiet, nothing wakes up.
    pub async fn rest_between(self) {
        let (count, came) = &*self.0;
        loop {
            let mut before = count.load(Ordering::Relaxed);
            loop {
                tokio::time::sleep(QUIET).await;
                let now = count.load(Ordering::Relaxed);
                if now == before {
                    break;
                }
                before = now;
            }
            sys::memory::drop_text();
            while count.load(Ordering::Relaxed) == before {
                came.notified().await;
            }
        }
    }
}
