//! A log that its writer never waits for: what is said goes into a bounded queue, and a process of its own writes it down.
//!
//! Where the disk does not keep up, the queue is full and what comes is dropped, counted, and told in the log at its place.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::Shutdown;
use sys::epoll::{Epoll, EventFlags};
use sys::spawn::{self, Fork};

use super::{Log, Source};
use crate::launch;
use crate::source::{Source as Watched, Token};

/// Before each piece: whose it is, how long, and when.
const HEAD: usize = 1 + 4 + 8;
/// Whose a piece is that tells how much was dropped.
const GAP: u8 = 2;
/// How long the end of a container waits for its log to be written down.
const LAST_WORDS_MS: u64 = 10_000;
/// What the writing process reads at once.
const READ: usize = 128 * 1024;

/// The end that is written to.
#[derive(Debug)]
pub struct Apart {
    socket: Watched,
    queue: VecDeque<u8>,
    limit: usize,
    /// Lines and bytes that were dropped and are not told yet.
    gap: (u64, u64),
    /// Bytes that were dropped in all.
    dropped: u64,
}

impl Apart {
    /// Starts the writing process.
    pub fn start(config: &launch::Log) -> io::Result<Self> {
        // What cannot be opened is told here.
        let log = Log::open(config)?;
        let (ours, theirs) = sys::socket::stream_pair()?;
        match spawn::fork()? {
            Fork::Child => {
                sys::signal::reset();
                drop(ours);
                let _ = sys::process::set_name(c"corten-log");
                spawn::keep_only([theirs.as_fd(), log.file()]);
                write_down(log, &theirs);
                spawn::exit_now(0)
            }
            Fork::Parent(_) => {}
        }
        crate::creator::nonblocking(&ours)?;
        let limit = usize::try_from(config.buffer).unwrap_or(usize::MAX);
        let socket = Watched::new(ours, Token::Log);
        Ok(Self { socket, queue: VecDeque::new(), limit, gap: (0, 0), dropped: 0 })
    }

    /// Bytes that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes what a source said, or drops it.
    pub fn write(&mut self, source: Source, bytes: &[u8], now_ns: i64, epoll: &Epoll) {
        let told = if self.gap == (0, 0) { 0 } else { HEAD + 16 };
        let fits = self.queue.len() + told + HEAD + bytes.len() <= self.limit;
        if !fits && !self.queue.is_empty() {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.gap = (self.gap.0 + lines, self.gap.1 + bytes.len() as u64);
            self.dropped += bytes.len() as u64;
        } else {
            self.tell_gap(now_ns);
            self.push(source as u8, bytes, now_ns);
        }
        self.flush(epoll);
    }

    fn tell_gap(&mut self, now_ns: i64) {
        let (lines, bytes) = std::mem::take(&mut self.gap);
        if bytes > 0 {
            let mut content = [0; 16];
            content[..8].copy_from_slice(&lines.to_le_bytes());
            content[8..].copy_from_slice(&bytes.to_le_bytes());
            self.push(GAP, &content, now_ns);
        }
    }

    fn push(&mut self, whose: u8, bytes: &[u8], now_ns: i64) {
        self.queue.push_back(whose);
        self.queue.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.queue.extend(now_ns.to_le_bytes());
        self.queue.extend(bytes);
    }

    /// Sends what can be sent without waiting.
    pub fn flush(&mut self, epoll: &Epoll) {
        self.send();
        let wanted = (!self.queue.is_empty()).then_some(EventFlags::OUT);
        // Where it cannot be watched, the next output sends it.
        let _ = self.socket.watch(epoll, wanted);
    }

    fn send(&mut self) {
        while !self.queue.is_empty() {
            match sys::socket::send(&self.socket, self.queue.as_slices().0) {
                Ok(sent) => drop(self.queue.drain(..sent)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    // Nobody writes any more.
                    self.dropped += self.queue.len() as u64;
                    self.queue.clear();
                }
            }
        }
    }

    /// Waits until all that is queued is written down, or as long as that may take.
    pub fn finish(&mut self, epoll: &Epoll, now_ns: i64) {
        self.tell_gap(now_ns);
        let _ = self.socket.watch(epoll, None);
        let deadline = sys::timer::monotonic_ms() + LAST_WORDS_MS;
        self.send();
        while !self.queue.is_empty() && self.wait(PollFlags::OUT, deadline) {
            self.send();
        }
        // What was not taken in time is lost with this process.
        self.dropped += self.queue.len() as u64;
        self.queue.clear();
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        // It says nothing: what can be read is its end.
        self.wait(PollFlags::IN, deadline);
    }

    fn wait(&self, flags: PollFlags, deadline: u64) -> bool {
        loop {
            let left = deadline.saturating_sub(sys::timer::monotonic_ms());
            let time = rustix::event::Timespec {
                tv_sec: i64::try_from(left / 1000).unwrap_or(0),
                tv_nsec: i64::try_from(left % 1000 * 1_000_000).unwrap_or(0),
            };
            let mut fds = [PollFd::new(&self.socket, flags)];
            match rustix::event::poll(&mut fds, Some(&time)) {
                Err(Errno::INTR) if left > 0 => {}
                Ok(ready) => return ready > 0,
                Err(_) => return false,
            }
        }
    }

    /// Gives the memory of the queue back.
    pub fn relax(&mut self) {
        self.queue.shrink_to_fit();
    }
}

/// The writing process: until its shim ends, or has said everything.
fn write_down(mut log: Log, socket: &OwnedFd) {
    let mut input: Vec<u8> = Vec::new();
    let mut chunk = vec![0; READ];
    let mut last = 0;
    while let Ok(read @ 1..) = sys::process::read(socket, &mut chunk) {
        input.extend_from_slice(&chunk[..read]);
        let mut used = 0;
        while let Some((whose, content, now)) = piece(&input[used..]) {
            last = now;
            match whose {
                0 => log.write(Source::Stdout, content, now),
                1 => log.write(Source::Stderr, content, now),
                _ => tell(&mut log, content, now),
            }
            used += HEAD + content.len();
        }
        input.drain(..used);
    }
    log.finish(Source::Stdout, last);
    log.finish(Source::Stderr, last);
    log.close();
}

/// The first whole piece.
fn piece(input: &[u8]) -> Option<(u8, &[u8], i64)> {
    let (head, rest) = input.split_first_chunk::<HEAD>()?;
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut time = [0; 8];
    time.copy_from_slice(&head[5..]);
    Some((head[0], rest.get(..length)?, i64::from_le_bytes(time)))
}

/// Says in the log that something is missing there.
fn tell(log: &mut Log, content: &[u8], now: i64) {
    // What was cut off is not continued by what comes after the gap, and is a line of its own to who reads.
    log.end_line(Source::Stdout, now);
    log.end_line(Source::Stderr, now);
    let Some((lines, rest)) = content.split_first_chunk::<8>() else { return };
    let Some((bytes, _)) = rest.split_first_chunk::<8>() else { return };
    let (lines, bytes) = (u64::from_le_bytes(*lines), u64::from_le_bytes(*bytes));
    let text = format!("corten: {lines} lines ({bytes} bytes) are missing here: the log could not keep up\n");
    log.write(Source::Stderr, text.as_bytes(), now);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_is_a_line_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let config =
            launch::Log { path: path.to_str().unwrap().to_owned(), max_files: 1, ..launch::Log::default() };
        let mut log = Log::open(&config).unwrap();
        log.write(Source::Stdout, b"whole\ncut", 1);
        tell(&mut log, &[1_u64.to_le_bytes(), 9_u64.to_le_bytes()].concat(), 2);
        log.write(Source::Stdout, b"next\n", 3);
        log.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""log":"cut\n""#) && text.contains(r#""log":"next\n""#), "{text}");
    }

    #[test]
    fn what_does_not_fit_is_dropped_counted_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let config = launch::Log {
            path: path.to_str().unwrap().to_owned(),
            max_files: 1,
            buffer: 1000,
            ..launch::Log::default()
        };
        let epoll = Epoll::new().unwrap();
        // Nobody reads at the other end for now.
        let (ours, theirs) = sys::socket::stream_pair().unwrap();
        crate::creator::nonblocking(&ours).unwrap();
        let mut apart = Apart {
            socket: Watched::new(ours, Token::Log),
            queue: VecDeque::new(),
            limit: 1000,
            gap: (0, 0),
            dropped: 0,
        };
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let mut written = 0_u64;
        while apart.dropped() < 300 {
            apart.write(Source::Stdout, &line, 1, &epoll);
            written += 1;
            assert!(apart.queue.len() <= 1000);
        }
        let reader = std::thread::spawn(move || write_down(Log::open(&config).unwrap(), &theirs));
        apart.finish(&epoll, 2);
        drop(apart);
        reader.join().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("xxx\\n").count() as u64, written - 3);
        assert!(text.contains("corten: 3 lines (300 bytes) are missing here"), "{text}");
    }
}
