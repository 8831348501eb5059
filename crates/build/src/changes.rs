//! Instructions that change an image's configuration and nothing else: what `--change` of `commit` and `import` takes.

use oci::image::ContainerConfig;

use crate::diagnostic::Severity;
use crate::dockerfile::instruction::Command;
use crate::expand::Environment;
use crate::lower::configure;
use crate::stages::{Globals, Request, Scope};

/// The instructions that there are here, as Docker has them.
const NAMES: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
/// What stands before them, where they are read: a Dockerfile begins so.
const BEGINNING: &str = "FROM scratch\n";

/// Applies the instructions of a text, in order.
///
/// # Errors
/// One is none that changes a configuration, or is wrong; one line that says which.
pub fn apply(config: &mut ContainerConfig, text: &str) -> Result<(), String> {
    let parsed = crate::parse(&format!("{BEGINNING}{text}\n"));
    let directives = &parsed.dockerfile.directives;
    let mut scope = Scope::of_image(Environment::from_entries(config.env.iter().map(String::as_str)));
    let mut cmd_set = false;
    for instruction in parsed.dockerfile.instructions.iter().skip(1) {
        let name = &instruction.name.text;
        if !NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(format!("{name} is not a valid change command"));
        }
        let errors = parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        let inside = |start: usize| (instruction.span.start..=instruction.span.end).contains(&start);
        if let Some(error) = errors.into_iter().find(|error| inside(error.span.start)) {
            return Err(error.message.clone());
        }
        let expanded =
            scope.step(&instruction.command, directives.escape, &Globals::default(), &Request::default());
        let expanded = expanded.map_err(|failure| failure.to_string())?;
        if let Command::Workdir(word) = &expanded.command {
            config.working_dir = crate::lower::absolute(&config.working_dir, &word.text);
            continue;
        }
        configure(config, &expanded.command, &mut cmd_set)?;
    }
    match parsed.error() {
        Some(error) => Err(error.message.clone()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
