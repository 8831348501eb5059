//! The progress of a build: what is known of its steps, and how that is shown.
//!
//! ```text
//!  StatusResponse, … -> known::Known -> plain    lines, as they come
//!                                    -> screen   a picture of all steps, drawn anew
//!                    -> raw                      each message as JSON
//! ```

mod known;
mod plain;
mod raw;
mod screen;
mod summary;

use std::time::Duration;

use buildkit::client::Status;
use buildkit::client::api::StatusResponse;
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::terminal;
use known::Known;
use plain::Plain;
use screen::Screen;

/// How often the screen is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// The environment's way to choose.
const CHOICE: &str = "BUILDKIT_PROGRESS";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Lines, as they come.
    Plain,
    /// A picture of all steps.
    Screen,
    /// Messages as JSON.
    Raw,
    /// Not at all.
    Quiet,
}

impl Mode {
    /// What was asked for.
    ///
    /// # Errors
    /// There is no such mode, or no terminal for it.
    pub fn of(asked: Option<&str>, quiet: bool) -> Result<Self> {
        if quiet {
            return Ok(Self::Quiet);
        }
        let chosen = std::env::var(CHOICE).ok();
        let asked = asked.filter(|asked| !matches!(*asked, "" | "auto")).or(chosen.as_deref());
        match asked.unwrap_or("auto") {
            "plain" => Ok(Self::Plain),
            "rawjson" => Ok(Self::Raw),
            "quiet" | "none" => Ok(Self::Quiet),
            "tty" if !terminal::stderr_is_terminal() => {
                Err(Error::say("--progress=tty needs a terminal on standard error: use plain"))
            }
            "tty" => Ok(Self::Screen),
            "" | "auto" if terminal::stderr_is_terminal() && !terminal::is_dumb() => Ok(Self::Screen),
            "" | "auto" => Ok(Self::Plain),
            other => Err(Error::Message(format!(
                "invalid progress mode {other:?}: use auto, tty, plain, rawjson or quiet"
            ))),
        }
    }
}

/// What is known of a build that has ended.
#[derive(Debug)]
pub struct Shown {
    known: Known,
}

/// Shows what a build tells until it has told all.
pub async fn show(mode: Mode, mut heard: mpsc::Receiver<StatusResponse>) -> Shown {
    let mut known = Known::default();
    let mut plain = Plain::default();
    let mut screen = (mode == Mode::Screen).then(Screen::default);
    let mut ticks = tokio::time::interval(DRAW_EVERY);
    loop {
        let message = tokio::select! {
            message = heard.recv() => message,
            _ = ticks.tick(), if screen.is_some() => {
                if let Some(screen) = &mut screen {
                    write(&screen.draw(&known, false));
                }
                continue;
            }
        };
        let Some(message) = message else { break };
        match mode {
            Mode::Raw => write(&raw::line(&message)),
            Mode::Plain => write(&plain.show(&mut known, message)),
            Mode::Screen | Mode::Quiet => drop(known.take(message)),
        }
    }
    if let Some(screen) = &mut screen {
        write(&screen.draw(&known, true));
    }
    Shown { known }
}

impl Shown {
    /// Says at the end what went wrong where, and what the Dockerfile should not have.
    pub fn summarize(&self, mode: Mode, failure: Option<&Status>) {
        match mode {
            Mode::Raw => {}
            // Who wants no progress still wants to know why there is nothing.
            Mode::Quiet if failure.is_none() => {}
            _ => write(&summary::text(&self.known, failure)),
        }
    }
}

/// Progress goes beside the command's output. If it cannot be told, the build goes on.
fn write(text: &str) {
    if !text.is_empty() {
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
    }
}

/// A text without what would move a cursor; tabs are spaces.
fn clean(text: &str) -> String {
    text.replace('\t', "    ").chars().filter(|letter| !letter.is_control()).collect()
}
