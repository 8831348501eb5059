//! What servers outside have answered, for as long as they said that it holds.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::message;

/// How many answers are kept: a host's containers ask for the same few names over and over.
const ENTRIES_MAX: usize = 4096;
/// How many bytes they may have together.
const BYTES_MAX: usize = 1 << 20;
/// An answer longer than this is asked for again: it would push out many others.
const ANSWER_MAX: usize = 4096;
/// No answer is kept longer, whatever its records say: names of services move.
const POSITIVE_MAX: Duration = Duration::from_secs(300);
/// That something is not there is kept no longer than this: it may be about to be made.
const NEGATIVE_MAX: Duration = Duration::from_secs(30);

/// Answers by what was asked, and whom.
#[derive(Debug, Default)]
pub(super) struct Cache {
    entries: HashMap<Rc<[u8]>, Entry>,
    /// In the order in which they came.
    order: VecDeque<(u64, Rc<[u8]>)>,
    bytes: usize,
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    answer: Box<[u8]>,
    stored: Instant,
    until: Instant,
    serial: u64,
}

impl Cache {
    /// The answer to `key`, made as old as it is.
    pub(super) fn get(&mut self, key: &[u8], now: Instant, out: &mut Vec<u8>) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        if entry.until <= now {
            self.remove(key);
            return false;
        }
        out.clear();
        out.extend_from_slice(&entry.answer);
        let age = now.saturating_duration_since(entry.stored).as_secs();
        message::age(out, u32::try_from(age).unwrap_or(u32::MAX));
        true
    }

    /// Keeps an answer for at most `seconds`.
    pub(super) fn put(&mut self, key: Vec<u8>, answer: &[u8], seconds: u32, now: Instant) {
        let size = key.len() + answer.len();
        if answer.len() > ANSWER_MAX {
            return;
        }
        self.remove(&key);
        // What was replaced leaves its place in the order behind.
        while self.entries.len() >= ENTRIES_MAX
            || self.bytes + size > BYTES_MAX
            || self.order.len() >= 2 * ENTRIES_MAX
        {
            let Some((serial, oldest)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|entry| entry.serial == serial) {
                self.remove(&oldest);
            }
        }
        let negative = answer.get(6..8) == Some(&[0, 0]);
        let most = if negative { NEGATIVE_MAX } else { POSITIVE_MAX };
        let until = now + most.min(Duration::from_secs(seconds.into()));
        self.serial += 1;
        let key: Rc<[u8]> = key.into();
        self.bytes += size;
        self.order.push_back((self.serial, key.clone()));
        self.entries.insert(key, Entry { answer: answer.into(), stored: now, until, serial: self.serial });
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.answer.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with one address that holds for `ttl` seconds.
    fn answer(ttl: u32) -> Vec<u8> {
        let mut bytes =
            vec![0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 1, b'x', 0, 0, 1, 0, 1, 0xC0, 12, 0, 1, 0, 1];
        bytes.extend_from_slice(&ttl.to_be_bytes());
        bytes.extend_from_slice(&[0, 4, 10, 0, 0, 1]);
        bytes
    }

    #[test]
    fn answers_grow_older_and_go() {
        let (mut cache, now, mut out) = (Cache::default(), Instant::now(), Vec::new());
        cache.put(b"x".to_vec(), &answer(20), 20, now);
        assert!(cache.get(b"x", now + Duration::from_millis(19_500), &mut out));
        assert_eq!(out, answer(1));
        assert!(!cache.get(b"x", now + Duration::from_secs(20), &mut out));
        assert_eq!(cache.bytes, 0);
        cache.put(b"x".to_vec(), &answer(1 << 30), 1 << 30, now);
        assert!(!cache.get(b"x", now + POSITIVE_MAX, &mut out));
    }

    #[test]
    fn it_is_bounded_whatever_comes() {
        let (mut cache, now, mut out) = (Cache::default(), Instant::now(), Vec::new());
        for n in 0..3 * ENTRIES_MAX {
            cache.put(n.to_string().into_bytes(), &answer(20), 20, now);
            cache.put(b"same".to_vec(), &answer(20), 20, now);
            assert!(cache.entries.len() <= ENTRIES_MAX && cache.order.len() <= 2 * ENTRIES_MAX);
        }
        assert!(cache.get(b"same", now, &mut out) && !cache.get(b"0", now, &mut out));
        let long = [answer(20), vec![0; ANSWER_MAX - 100]].concat();
        for n in 0..1000_u32 {
            cache.put(n.to_be_bytes().to_vec(), &long, 20, now);
            assert!(cache.bytes <= BYTES_MAX);
        }
        cache.put(b"too long".to_vec(), &[0; ANSWER_MAX + 1], 20, now);
        assert!(!cache.get(b"too long", now, &mut out));
        let kept: usize = cache.entries.iter().map(|(key, entry)| key.len() + entry.answer.len()).sum();
        assert_eq!(kept, cache.bytes);
    }
}
