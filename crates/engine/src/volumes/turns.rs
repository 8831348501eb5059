//! Who may mount, unmount or fill a volume: one at a time for each, so that gigabytes that are copied into one do not hold
//! up the starts of containers that use others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A lock for each volume that somebody works on at this moment.
#[derive(Debug, Default)]
pub struct Turns<L = Mutex<()>> {
    held: Mutex<HashMap<String, Weak<L>>>,
}

impl<L: Default> Turns<L> {
    /// The lock of a volume; it is there as long as somebody has it.
    pub fn of(&self, name: &str) -> Arc<L> {
        let mut held = lock(&self.held);
        if let Some(turn) = held.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        held.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        held.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

/// Waits for a lock. It guards nothing in memory that a panic could leave half-done.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_volume_has_its_own_turn_and_none_is_kept() {
        let turns: Turns = Turns::default();
        let one = turns.of("one");
        let held = lock(&one);
        assert!(turns.of("one").try_lock().is_err());
        assert!(turns.of("two").try_lock().is_ok());
        drop(held);
        drop(one);
        let _three = turns.of("three");
        assert_eq!(lock(&turns.held).len(), 1);
    }
}
