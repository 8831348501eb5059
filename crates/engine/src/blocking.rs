//! The one door from asynchronous code to calls that block: bounded, traced, timed.

use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{Error, Result};

/// How many blocking calls run at once: more do not make two cores or one disk faster, and each costs a stack.
const AT_ONCE: usize = 64;
/// A call that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_secs(2);

/// How many calls that last as long as a client reads or writes run at once: they must not keep all others out.
const PACED_AT_ONCE: usize = 32;
/// How many long calls run at once that wait for nobody: each keeps a core and the disk busy.
const LONG_AT_ONCE: usize = 8;

static DOOR: Semaphore = Semaphore::const_new(AT_ONCE);
static PACED_DOOR: Semaphore = Semaphore::const_new(PACED_AT_ONCE);
static LONG_DOOR: Semaphore = Semaphore::const_new(LONG_AT_ONCE);

/// A place for a long call.
#[derive(Debug)]
pub struct Place(SemaphorePermit<'static>);

/// Waits for a place for a long call: for who holds something up meanwhile, which is not to wait too.
pub async fn place() -> Result<Place> {
    enter(&LONG_DOOR).await.map(Place)
}

/// Runs `call` where it may block, and waits for it. Dropping the future does not stop the call.
pub async fn run<T, F>(what: &'static str, call: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    through(enter(&DOOR).await?, what, Some(SLOW), call).await
}

/// As [`run`], for what takes long, but waits for no client.
pub async fn run_long<T, F>(what: &'static str, call: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    run_at(place().await?, what, call).await
}

/// As [`run_long`], for who has a place.
pub async fn run_at<T, F>(place: Place, what: &'static str, call: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    through(place.0, what, None, call).await
}

/// As [`run`], for what goes on for as long as a client reads or writes: an archive.
pub async fn run_paced<T, F>(what: &'static str, call: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    through(enter(&PACED_DOOR).await?, what, None, call).await
}

async fn enter(door: &'static Semaphore) -> Result<SemaphorePermit<'static>> {
    door.acquire().await.map_err(|e| Error::system("the engine is closed").with_source(e))
}

async fn through<T, F>(
    permit: SemaphorePermit<'static>,
    what: &'static str,
    slow: Option<Duration>,
    call: F,
) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let joined = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let begun = Instant::now();
        let result = call();
        let took = begun.elapsed();
        if slow.is_some_and(|slow| took > slow) {
            tracing::warn!(what, took_ms = took.as_millis() as u64, "slow");
        } else {
            tracing::trace!(what, took_us = took.as_micros() as u64);
        }
        result
    })
    .await;
    match joined {
        Ok(result) => result,
        Err(e) if e.is_panic() => Err(Error::system(format!("a bug: {what} panicked"))),
        Err(e) => Err(Error::new(crate::Kind::Cancelled, format!("{what} was given up")).with_source(e)),
    }
}
