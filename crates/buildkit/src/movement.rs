//! Whether what goes on between us and a client's session moves, and how much of it goes on at once.
//!
//! A transfer keeps threads, a build, and what the build holds. Who opens one and then does nothing must not keep them for ever.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// How long a transfer may stand still: clients walk slow disks before they say anything, and write to slow disks before they want more.
pub(crate) const STILL_MAX: Duration = Duration::from_secs(10 * 60);
/// Threads that transfers keep at once: what the engine's own work leaves of those that may block.
const THREADS_MAX: usize = 24;

static THREADS: Semaphore = Semaphore::const_new(THREADS_MAX);

/// Waits for threads that a transfer may keep for as long as it goes on.
pub(crate) async fn threads(count: u32) -> Result<SemaphorePermit<'static>> {
    THREADS.acquire_many(count).await.map_err(|_| Error::Gone("the transfer".to_owned()))
}

/// When a transfer has moved last.
#[derive(Debug, Clone)]
pub(crate) struct Movement(Arc<Mutex<Instant>>);

impl Movement {
    /// One that begins to move now.
    pub(crate) fn begin() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// It has moved.
    pub(crate) fn goes_on(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Does something for as long as it moves.
    ///
    /// # Errors
    /// Those of `work`, or it has stood still for too long.
    pub(crate) async fn during<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let still = async {
            loop {
                let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= STILL_MAX {
                    return Error::Still { what: what.to_owned(), within: STILL_MAX };
                }
                tokio::time::sleep_until(last + STILL_MAX).await;
            }
        };
        tokio::select! {
            done = work => done,
            error = still => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moves_goes_on_and_what_does_not_ends() {
        let movement = Movement::begin();
        let (inner, begun) = (movement.clone(), Instant::now());
        let slow = async {
            for _ in 0..3 {
                tokio::time::sleep(STILL_MAX / 2).await;
                inner.goes_on();
            }
            Ok(())
        };
        movement.during("it", slow).await.unwrap();
        let error = movement.during("it", std::future::pending::<Result<()>>()).await.unwrap_err();
        assert!(matches!(error, Error::Still { .. }), "{error}");
        assert_eq!(begun.elapsed(), STILL_MAX / 2 * 3 + STILL_MAX);
    }
}
