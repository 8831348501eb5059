//! Help, in Docker's layout, with flags in groups and examples.

use std::fmt::Write;

use crate::command::{Action, Command};
use crate::flags::{Flag, Group};

/// The line width help is written for when nothing is known of the terminal.
pub const WIDTH: usize = 80;
/// Lines longer than this are hard to read, however wide the terminal.
const WIDTH_MAX: usize = 120;
/// Narrower than this nothing is wrapped any more.
const TEXT_MIN: usize = 24;

/// What a newcomer needs first.
const COMMON: &[&str] = &["exec", "images", "info", "logs", "ps", "pull", "rm", "run", "stop", "version"];
/// What is in the same file, beside the command line.
const OTHER_PROGRAMS: [(&str, &str); 3] = [
    ("daemon", "Run the engine in the foreground"),
    ("registry", "Serve and look after a registry of one's own"),
    ("runtime", "Run containers as an OCI runtime, without the engine"),
];
/// The least width of the column of commands.
const NAME_WIDTH_MIN: usize = 10;

/// How help looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Columns.
    pub width: usize,
    /// Whether headings are bold.
    pub colour: bool,
}

impl Look {
    fn heading(self, text: &str) -> String {
        if self.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The usage line.
#[must_use]
pub fn usage(path: &str, command: &Command) -> String {
    format!("Usage:  {path} {}", command.usage).trim_end().to_owned()
}

/// The whole help of a command; `globals` are the flags that stand before it.
#[must_use]
pub fn help(path: &str, program: &str, command: &Command, globals: &[Group], look: Look) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}\n\n{}", usage(path, command), command.about);
    if !command.also.is_empty() {
        let lines: Vec<_> = command.also.iter().map(|line| format!("{program} {line}")).collect();
        let _ = writeln!(out, "\n{}\n  {}", look.heading("Aliases:"), lines.join(", "));
    }
    if !command.examples.is_empty() {
        let _ = writeln!(out, "\n{}", look.heading("Examples:"));
        for example in command.examples {
            let _ = writeln!(out, "  # {}\n  {program} {}", example.about, example.line);
        }
    }
    if let Action::Group(children) = command.action {
        sections(&mut out, children, look);
    }
    let column =
        command.flags.iter().chain(globals).flat_map(|group| group.flags).map(width).max().unwrap_or(0);
    for group in command.flags {
        flags(
            &mut out,
            if group.title.is_empty() { "Options" } else { group.title },
            group.flags,
            column,
            look,
        );
    }
    for group in globals {
        flags(&mut out, group.title, group.flags, column, look);
    }
    if matches!(command.action, Action::Group(_)) {
        if is_root(command) {
            let _ = writeln!(out, "\n{}", look.heading("Other Programs:"));
            for (name, about) in OTHER_PROGRAMS {
                let _ = writeln!(out, "  {name:<NAME_WIDTH_MIN$}  {about}");
            }
        }
        let _ = writeln!(out, "\nRun '{path} COMMAND --help' for more information on a command.");
    }
    out
}

/// Whether this is the command line itself: only there are groups among the commands.
fn is_root(command: &Command) -> bool {
    let group = |child: &&Command| matches!(child.action, Action::Group(_));
    matches!(command.action, Action::Group(children) if children.iter().any(group))
}

fn sections(out: &mut String, children: &[&Command], look: Look) {
    let widest = children.iter().map(|child| child.name.len()).max().unwrap_or(0).max(NAME_WIDTH_MIN);
    let mut section = |title: &str, wanted: &dyn Fn(&Command) -> bool| {
        let mut some: Vec<_> = children.iter().filter(|child| !child.hidden && wanted(child)).collect();
        if some.is_empty() {
            return;
        }
        some.sort_by_key(|child| child.name);
        let _ = writeln!(out, "\n{}", look.heading(title));
        for child in some {
            let _ = writeln!(out, "  {:<widest$}  {}", child.name, child.about);
        }
    };
    let group = |child: &Command| matches!(child.action, Action::Group(_));
    let root = children.iter().any(|child| group(child));
    let common = |child: &Command| root && COMMON.contains(&child.name);
    if root {
        section("Common Commands:", &common);
        section("Management Commands:", &group);
    }
    section("Commands:", &|child| !group(child) && !common(child));
}

fn left(flag: &Flag) -> String {
    let name = match flag.short {
        Some(letter) => format!("  -{letter}, --{}", flag.long),
        None => format!("      --{}", flag.long),
    };
    if flag.value.is_empty() { name } else { format!("{name} {}", flag.value) }
}

fn width(flag: &Flag) -> usize {
    if flag.hidden { 0 } else { left(flag).len() }
}

fn flags(out: &mut String, title: &str, flags: &[Flag], column: usize, look: Look) {
    let mut shown: Vec<_> = flags.iter().filter(|flag| !flag.hidden).collect();
    if shown.is_empty() {
        return;
    }
    shown.sort_by_key(|flag| flag.long);
    let _ = writeln!(out, "\n{}", look.heading(&format!("{title}:")));
    let room = look.width.min(WIDTH_MAX).saturating_sub(column + 3).max(TEXT_MIN);
    for flag in shown {
        let mut text = flag.help.to_owned();
        if !flag.default.is_empty() {
            let _ = write!(text, " (default {})", flag.default);
        }
        for (index, line) in wrap(&text, room).into_iter().enumerate() {
            let head = if index == 0 { left(flag) } else { String::new() };
            let _ = writeln!(out, "{head:<column$}   {line}");
        }
    }
}

fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_at_words() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aaaaaaaa b", 5), ["aaaaaaaa", "b"]);
    }
}
