//! Progress of a pull or a push: a line per layer that is written over on a terminal, plain lines elsewhere.

use api::stream::Progress;
use client::Json;
use std::fmt::Write as _;
use std::io::Write;

use crate::error::{Error, Result};
use crate::session::output_failed;
use crate::units::size;

/// Terminals narrower than this get no bars.
const BAR_COLUMNS_MIN: usize = 110;
/// A bar's length.
const BAR_LENGTH: usize = 50;
/// An image has at most this many layers on any storage driver; more ids than that are not progress.
const LINES_MAX: usize = 4096;

/// Where progress is shown.
#[derive(Debug, Clone, Copy)]
pub enum To {
    /// Standard output, on a terminal or not.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere; only errors count.
    Nothing,
}

struct Screen {
    to: To,
    columns: Option<usize>,
    ids: Vec<String>,
}

/// Shows a stream of progress to its end. An error in it is the command's error.
pub async fn show(stream: Json<Progress>, to: To) -> Result<()> {
    show_all(stream, to, &mut |_| ()).await
}

/// The same; what is told besides goes to `aside`.
pub async fn show_all(
    mut stream: Json<Progress>,
    to: To,
    aside: &mut dyn FnMut(&serde_json::Value),
) -> Result<()> {
    let terminal = match to {
        To::Stdout => crate::terminal::stdout_is_terminal(),
        To::Stderr => crate::terminal::stderr_is_terminal(),
        To::Nothing => false,
    };
    let columns = terminal.then(|| crate::terminal::width().unwrap_or(crate::help::WIDTH));
    let mut screen = Screen { to, columns, ids: Vec::new() };
    while let Some(message) = stream.next().await? {
        if let Some(failure) = failure(&message) {
            return Err(Error::Message(failure));
        }
        if let Some(aux) = &message.aux {
            aside(aux);
            continue;
        }
        let text = screen.text(&message);
        screen.write(&text)?;
    }
    Ok(())
}

fn failure(message: &Progress) -> Option<String> {
    let detail =
        message.error_detail.as_ref().map(|detail| detail.message.clone()).filter(|text| !text.is_empty());
    detail.or_else(|| Some(message.error.clone()).filter(|text| !text.is_empty()))
}

impl Screen {
    fn write(&self, text: &str) -> Result<()> {
        match self.to {
            To::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(output_failed)
            }
            To::Stderr => {
                // Progress that cannot be told does not stop the pull.
                let _ = std::io::stderr().lock().write_all(text.as_bytes());
                Ok(())
            }
            To::Nothing => Ok(()),
        }
    }

    /// What a message adds to the output.
    fn text(&mut self, message: &Progress) -> String {
        let bar =
            message.progress_detail.as_ref().map(|detail| bar(detail.current, detail.total, self.columns));
        let bar = bar.unwrap_or_default();
        let Some(_) = self.columns else {
            // Elsewhere than on a terminal only what is final is told.
            return if bar.is_empty() { plain(message) } else { String::new() };
        };
        if message.id.is_empty() || (message.progress_detail.is_none() && !self.ids.contains(&message.id)) {
            if message.id.is_empty() {
                self.ids.clear();
            }
            return plain(message);
        }
        let mut out = String::new();
        let at = match self.ids.iter().position(|id| *id == message.id) {
            Some(at) => at,
            None if self.ids.len() >= LINES_MAX => return String::new(),
            None => {
                self.ids.push(message.id.clone());
                out.push('\n');
                self.ids.len() - 1
            }
        };
        let up = self.ids.len() - at;
        let _ = write!(out, "\x1b[{up}A\x1b[2K\r{}: {}", clean(&message.id), clean(&message.status));
        if !bar.is_empty() {
            let _ = write!(out, " {bar}");
        }
        let _ = write!(out, "\r\x1b[{up}B");
        out
    }
}

fn plain(message: &Progress) -> String {
    if !message.stream.is_empty() {
        return message.stream.clone();
    }
    if message.status.is_empty() {
        return String::new();
    }
    let id = if message.id.is_empty() { String::new() } else { format!("{}: ", clean(&message.id)) };
    format!("{id}{}\n", clean(&message.status))
}

/// A daemon's text must not move the cursor.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn bar(current: i64, total: i64, columns: Option<usize>) -> String {
    if current <= 0 && total <= 0 {
        return String::new();
    }
    if total <= 0 {
        return format!("{:>8}", size(current));
    }
    let mut out = String::new();
    if columns.is_some_and(|columns| columns > BAR_COLUMNS_MIN) {
        let done = ((current as f64 / total as f64 * BAR_LENGTH as f64) as usize).min(BAR_LENGTH);
        let _ = write!(out, "[{}>{}] ", "=".repeat(done), " ".repeat(BAR_LENGTH - done));
    }
    if current > total {
        let _ = write!(out, "{:>8}", size(current));
    } else {
        let _ = write!(out, "{:>8}/{}", size(current), size(total));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> Progress {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn elsewhere_than_on_a_terminal_only_final_lines_are_told() {
        let mut screen = Screen { to: To::Stdout, columns: None, ids: Vec::new() };
        let mut text = |json| screen.text(&message(json));
        assert_eq!(
            text(r#"{"status":"Pulling from library/bb","id":"latest"}"#),
            "latest: Pulling from library/bb\n"
        );
        assert_eq!(
            text(r#"{"status":"Downloading","id":"aa","progressDetail":{"current":1,"total":2}}"#),
            ""
        );
        assert_eq!(
            text(r#"{"status":"Pull complete","id":"aa","progressDetail":{}}"#),
            "aa: Pull complete\n"
        );
        assert_eq!(text(r#"{"status":"Status: Image is up to date"}"#), "Status: Image is up to date\n");
    }

    #[test]
    fn on_a_terminal_each_layer_has_its_line() {
        let mut screen = Screen { to: To::Stdout, columns: Some(80), ids: Vec::new() };
        let mut text = |json| screen.text(&message(json));
        assert_eq!(
            text(r#"{"status":"Waiting","id":"aa","progressDetail":{}}"#),
            "\n\x1b[1A\x1b[2K\raa: Waiting\r\x1b[1B"
        );
        assert_eq!(
            text(r#"{"status":"Waiting","id":"bb","progressDetail":{}}"#),
            "\n\x1b[1A\x1b[2K\rbb: Waiting\r\x1b[1B"
        );
        let line =
            text(r#"{"status":"Downloading","id":"aa","progressDetail":{"current":1000,"total":2000}}"#);
        assert_eq!(line, "\x1b[2A\x1b[2K\raa: Downloading      1kB/2kB\r\x1b[2B");
    }

    #[test]
    fn a_bar_fills() {
        assert_eq!(bar(50, 100, Some(200)), format!("[{}>{}]      50B/100B", "=".repeat(25), " ".repeat(25)));
        assert_eq!(bar(5, 0, None), "      5B");
        assert_eq!(bar(0, 0, None), "");
    }

    #[test]
    fn an_error_in_the_stream_is_an_error() {
        assert_eq!(failure(&message(r#"{"errorDetail":{"message":"no"},"error":"no"}"#)), Some("no".into()));
        assert_eq!(clean("a\x1b[2Jb"), "a[2Jb");
    }
}
