//! The user's terminal.

use rustix::termios::{OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{stderr, stdin, stdout};

use crate::error::{Error, Result};

/// Whether standard input is a terminal.
#[must_use]
pub fn stdin_is_terminal() -> bool {
    isatty(stdin())
}

/// Whether standard output is a terminal.
#[must_use]
pub fn stdout_is_terminal() -> bool {
    isatty(stdout())
}

/// Whether standard error is a terminal.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    isatty(stderr())
}

/// Whether standard output may be coloured.
#[must_use]
pub fn colour() -> bool {
    stdout_is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb")
}

/// Whether standard error may be coloured.
#[must_use]
pub fn error_colour() -> bool {
    stderr_is_terminal() && std::env::var_os("NO_COLOR").is_none() && !is_dumb()
}

/// Whether the terminal can do nothing but write.
#[must_use]
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// Height and width of the terminal on standard error; none when it is not one.
#[must_use]
pub fn error_size() -> Option<(u16, u16)> {
    let Winsize { ws_row, ws_col, .. } = tcgetwinsize(stderr()).ok()?;
    Some((ws_row, ws_col))
}

/// Height and width of the terminal on standard output; none when it is not one, or has no size.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let Winsize { ws_row, ws_col, .. } = tcgetwinsize(stdout()).ok()?;
    (ws_row > 0 || ws_col > 0).then_some((ws_row, ws_col))
}

/// Columns to write for.
#[must_use]
pub fn width() -> Option<usize> {
    size().map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// A terminal in raw mode; dropping it restores what was.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Puts the terminal on standard input into raw mode.
    pub fn enter() -> Result<Self> {
        let failed = |errno: rustix::io::Errno| Error::File {
            verb: "setting up",
            path: "the terminal".into(),
            source: errno.into(),
        };
        let before = tcgetattr(stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal is gone when this fails: there is nothing left to restore.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
