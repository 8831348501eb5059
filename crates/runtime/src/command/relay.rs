//! Attending a process in the foreground: signals passed on, its terminal joined with ours, its end waited for.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd, OwnedFd};

use sys::process::{self, Child};
use sys::signal::{self, SignalFd};
use sys::terminal::{Raw, readable};
use sys::{pty, socket};

use crate::error::{Context as _, Error};
use crate::init::NOT_FORWARDED;

const SIGWINCH: i32 = 28;

/// Bytes moved at once: a terminal's buffer holds 4096.
const CHUNK_BYTES: usize = 4096;

/// A terminal in a container, shown on ours.
pub(super) struct Relay {
    master: OwnedFd,
    input_open: bool,
    _raw: Option<Raw>,
}

impl Relay {
    /// Takes the master that the container's init has sent.
    pub(super) fn receive(socket: &OwnedFd) -> Result<Self, Error> {
        let mut descriptors = Vec::new();
        socket::recv_fds(socket, &mut [0; 64], &mut descriptors).on("receive", "the terminal")?;
        let missing = || Error::Setup { text: "init sent no terminal".into() };
        Self::of(descriptors.pop().ok_or_else(missing)?)
    }

    /// Shows the terminal with this master.
    pub(super) fn of(master: OwnedFd) -> Result<Self, Error> {
        let input = std::io::stdin();
        let raw = if input.is_terminal() { Some(Raw::enter(0).on("set up", "the terminal")?) } else { None };
        let relay = Self { master, input_open: true, _raw: raw };
        relay.resize();
        Ok(relay)
    }

    /// Ours may have no size, or be none: then theirs stays as it is.
    fn resize(&self) {
        if let Ok((rows, columns)) = pty::size(std::io::stdin()) {
            let _ = pty::set_size(&self.master, rows, columns);
        }
    }

    /// Moves what came from the container; false once nothing more can come.
    fn output(&self) -> Result<bool, Error> {
        let mut chunk = [0; CHUNK_BYTES];
        match process::read(&self.master, &mut chunk) {
            // The kernel's way of saying that nobody has the terminal open any more.
            Ok(0) | Err(_) => Ok(false),
            Ok(length) => process::write_all(std::io::stdout(), &chunk[..length])
                .on("write to", "standard output")
                .map(|()| true),
        }
    }

    fn input(&mut self) -> Result<(), Error> {
        const END_OF_TRANSMISSION: u8 = 4;
        let mut chunk = [0; CHUNK_BYTES];
        let length = process::read(std::io::stdin(), &mut chunk).on("read", "standard input")?;
        if length == 0 {
            // The end of a file or pipe is what a person would have typed.
            self.input_open = false;
            chunk[0] = END_OF_TRANSMISSION;
        }
        // The container may just have closed it.
        let _ = process::write_all(&self.master, &chunk[..length.max(1)]);
        Ok(())
    }
}

/// Attends `child` until it has ended, and returns its exit code.
pub(super) fn attend(child: &Child, signals: &SignalFd, mut relay: Option<Relay>) -> Result<i32, Error> {
    let input = process::stdio(0).ok();
    loop {
        let master = relay.as_ref().map(|r| r.master.as_fd());
        let stdin = relay.as_ref().filter(|r| r.input_open).and(input.as_ref()).map(AsFd::as_fd);
        let [signalled, output, typed] =
            readable([Some(signals.as_fd()), master, stdin], true).on("wait for", "events")?;
        if let Some(open) = &mut relay {
            if typed {
                open.input()?;
            }
            if output && !open.output()? {
                relay = None;
            }
        }
        if signalled && let Some(code) = handle_signals(child, signals, relay.as_ref())? {
            return Ok(code);
        }
    }
}

/// Passes signals on; the exit code if the one that came was about the end of `child`.
fn handle_signals(child: &Child, signals: &SignalFd, relay: Option<&Relay>) -> Result<Option<i32>, Error> {
    while let Some(number) = signals.next().on("read", "signals")? {
        match (relay, number) {
            (Some(relay), SIGWINCH) => relay.resize(),
            (_, number) if NOT_FORWARDED.contains(&number) => {}
            // It may have ended just now.
            _ => drop(signal::send(&child.pidfd, number)),
        }
    }
    while let Ok(Some((pid, exit))) = process::wait_any(false) {
        if pid == child.pid {
            relay.map_or(Ok(()), drain)?;
            return Ok(Some(exit.code()));
        }
    }
    Ok(None)
}

/// What the process wrote last is still in the terminal.
fn drain(relay: &Relay) -> Result<(), Error> {
    while let [true] = readable([Some(relay.master.as_fd())], false).on("wait for", "the terminal")? {
        if !relay.output()? {
            break;
        }
    }
    Ok(())
}
