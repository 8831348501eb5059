//! Signals that belong to the container.

use client::Client;
use client::query::{Query, segment};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Number and name of what is handed on: all that ends or steers a program. Left out are those that are about
/// this process itself: CHLD, PIPE, URG, faults, and KILL and STOP, which nobody can catch.
const FORWARDED: &[(i32, &str)] = &[
    (libc_signal::HUP, "HUP"),
    (libc_signal::INT, "INT"),
    (libc_signal::QUIT, "QUIT"),
    (libc_signal::USR1, "USR1"),
    (libc_signal::USR2, "USR2"),
    (libc_signal::ALRM, "ALRM"),
    (libc_signal::TERM, "TERM"),
    (libc_signal::CONT, "CONT"),
    (libc_signal::TSTP, "TSTP"),
    (libc_signal::WINCH, "WINCH"),
    (libc_signal::IO, "IO"),
    (libc_signal::PWR, "PWR"),
];

/// The kernel's numbers on the architectures we build for.
mod libc_signal {
    use rustix::process::Signal;

    pub(super) const HUP: i32 = Signal::HUP.as_raw();
    pub(super) const INT: i32 = Signal::INT.as_raw();
    pub(super) const QUIT: i32 = Signal::QUIT.as_raw();
    pub(super) const USR1: i32 = Signal::USR1.as_raw();
    pub(super) const USR2: i32 = Signal::USR2.as_raw();
    pub(super) const ALRM: i32 = Signal::ALARM.as_raw();
    pub(super) const TERM: i32 = Signal::TERM.as_raw();
    pub(super) const CONT: i32 = Signal::CONT.as_raw();
    pub(super) const TSTP: i32 = Signal::TSTP.as_raw();
    pub(super) const WINCH: i32 = Signal::WINCH.as_raw();
    pub(super) const IO: i32 = Signal::IO.as_raw();
    pub(super) const PWR: i32 = Signal::POWER.as_raw();
}

/// The signals that were caught from here on.
#[derive(Debug)]
pub struct Caught {
    signals: Vec<(Signal, &'static str)>,
}

/// Catches what is to be forwarded. Done before the container starts, so that none is lost.
pub fn catch() -> Caught {
    let signals = FORWARDED
        .iter()
        .filter_map(|(number, name)| Some((signal(SignalKind::from_raw(*number)).ok()?, *name)))
        .collect();
    Caught { signals }
}

impl Caught {
    /// The next signal's name.
    pub async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|cx| {
            for (signal, name) in &mut self.signals {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Hands signals on to a container until it is dropped.
    pub async fn forward(mut self, client: &Client, container: &str) {
        let path = format!("/containers/{}/kill", segment(container));
        loop {
            let name = self.next().await;
            // The container may have ended just now; its end is told in another way.
            let _ = client.post(&path, Query::new().pair("signal", name)).await;
        }
    }
}

/// Calls `resize` with the terminal's size, now and at every change, until it is dropped.
pub async fn follow_size<F: Future<Output = bool>>(mut resize: impl FnMut(u16, u16) -> F) {
    /// A process that was just started may not have its terminal yet.
    const TRIES_MAX: u32 = 10;
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        let mut tries = 0;
        while let Some((height, width)) = crate::terminal::size() {
            if resize(height, width).await || tries == TRIES_MAX {
                break;
            }
            tries += 1;
            // The daemon has no event for "the terminal is there"; Docker's client asks in the same rhythm.
            tokio::time::sleep(std::time::Duration::from_millis(10 * u64::from(tries))).await;
        }
        if changes.recv().await.is_none() {
            return;
        }
    }
}
