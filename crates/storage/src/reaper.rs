//! Removes in the background what was thrown away: a tree of many files must not hold up who threw it away.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use sys::fsx;

use crate::error::{At, Result};
use crate::quota;
use crate::snapshots::UPPER;

/// A thread that empties a directory whenever it is told to.
pub struct Reaper {
    state: Arc<(Mutex<State>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// How often something was thrown away, and up to which of these the directory was emptied.
    asked: u64,
    done: u64,
    stop: bool,
}

impl Reaper {
    /// Starts to empty the directory `trash`.
    pub fn start(trash: PathBuf) -> Result<Self> {
        let dir = fsx::open_dir(&trash).at("open", &trash)?;
        let state = Arc::new((Mutex::new(State { asked: 1, ..State::default() }), Condvar::new()));
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("storage-reaper".into())
            .spawn(move || run(&dir, &shared))
            .at("start a thread for", &trash)?;
        Ok(Self { state, thread: Some(thread) })
    }

    /// Something was thrown away.
    pub fn wake(&self) {
        let (state, changed) = &*self.state;
        state.lock().unwrap_or_else(PoisonError::into_inner).asked += 1;
        changed.notify_all();
    }

    /// Waits until what was thrown away so far is gone.
    pub fn wait(&self) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = state.asked;
        while state.done < asked && !state.stop {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let (state, changed) = &*self.state;
        state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(trash: &OwnedFd, shared: &(Mutex<State>, Condvar)) {
    let (state, changed) = shared;
    let has_quotas = quota::has(trash);
    loop {
        let asked = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            while state.done == state.asked && !state.stop {
                state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stop {
                // The rest is removed after the next start.
                return;
            }
            state.asked
        };
        match fsx::list(trash) {
            Ok(entries) => {
                for entry in entries {
                    if state.lock().unwrap_or_else(PoisonError::into_inner).stop {
                        return;
                    }
                    if has_quotas {
                        release(trash, &entry.name);
                    }
                    if let Err(error) = fsx::remove_tree(trash, &entry.name) {
                        tracing::warn!(name = ?entry.name, %error, "cannot remove");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot list what is to be removed"),
        }
        state.lock().unwrap_or_else(PoisonError::into_inner).done = asked;
        changed.notify_all();
    }
}

/// Takes the limit of a snapshot away.
fn release(trash: &OwnedFd, name: &OsStr) {
    let upper = fsx::open_dir_at(trash, name).and_then(|snapshot| fsx::open_dir_at(snapshot, UPPER));
    // What is not a snapshot has none.
    if let Ok(upper) = upper
        && let Err(error) = quota::release(&upper)
    {
        tracing::warn!(?name, %error, "a quota stays");
    }
}
