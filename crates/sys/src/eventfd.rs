//! Counters that the kernel, or another process, makes readable (`eventfd(2)`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// Makes one, not blocking and closed on exec.
pub fn new() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Sets it to zero; whether it was above.
pub fn clear(fd: impl AsFd) -> io::Result<bool> {
    let mut count = [0_u8; 8];
    match rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut count)) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_seen_once() {
        let fd = new().expect("eventfd");
        assert!(!clear(&fd).expect("clear"));
        rustix::io::write(&fd, &3_u64.to_ne_bytes()).expect("write");
        assert!(clear(&fd).expect("clear"));
        assert!(!clear(&fd).expect("clear"));
    }
}
