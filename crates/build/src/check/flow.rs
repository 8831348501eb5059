//! Checks of what is known where: variables, platforms, directories, files.

use std::collections::BTreeSet;

use oci::{Platform, Reference};

use super::form::is_shell_line;
use super::{Finder, Input, rules};
use crate::dockerfile::instruction::{Command, Files, From, Instruction, Word};
use crate::expand::{Environment, Expanded, Lexer};
use crate::ignore::clean;
use crate::stages::{Globals, Origin, Request, Scope};
use crate::suggest;

/// Variables that only the scanner of a build sets.
const SCANNER: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];
/// Words of names that are kept for themselves.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "passwd", "pword", "secret", "token"];
/// Words of names that are no secrets all the same.
const NO_SECRET: [&str; 3] = ["public", "file", "version"];

/// Variables of all stages together, each of which keeps those of the one below: what has more is made to do harm, and is not
/// looked at further.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// What a stage leaves to those that are built on it.
#[derive(Clone, Default)]
struct State {
    scope: Scope,
    has_workdir: bool,
    has_shell: bool,
}

pub fn check(input: &Input<'_>, finder: &mut Finder<'_>) {
    let defaults = Request { arguments: Environment::new(), ..input.request.clone() };
    let (defaults, _) = Globals::of(input.file, &defaults);
    let mut states: Vec<State> = Vec::new();
    let mut kept = 0;
    for stage in &input.stages.list {
        if let Some(instruction) = input.file.instructions.get(stage.from)
            && let Command::From(from) = &instruction.command
        {
            base(input, instruction, from, &defaults, finder);
        }
        let mut state = match &stage.base {
            Origin::Stage(before) => states.get(*before).cloned().unwrap_or_default(),
            Origin::Scratch => State::default(),
            Origin::Image(name) | Origin::Context(name) => {
                let known = (input.image)(name);
                let environment =
                    known.unwrap_or_else(|| Environment::from_entries([crate::stages::DEFAULT_PATH]));
                State { scope: Scope::of_image(environment), ..State::default() }
            }
        };
        for instruction in input.file.instructions.get(stage.instructions.clone()).unwrap_or_default() {
            step(input, instruction, &mut state, finder);
        }
        kept += state.scope.visible.bytes();
        if kept > KEPT_BYTES_MAX {
            return;
        }
        states.push(state);
    }
}

fn expanded(input: &Input<'_>, word: &Word, variables: &Environment) -> Option<Expanded> {
    Lexer::new(input.file.directives.escape).process(&word.text, variables).ok()
}

fn base(
    input: &Input<'_>,
    instruction: &Instruction,
    from: &From,
    defaults: &Globals,
    finder: &mut Finder<'_>,
) {
    let globals = &input.stages.globals;
    let mut undefined = |word: &Word| {
        for name in expanded(input, word, &globals.environment).into_iter().flat_map(|done| done.unmatched) {
            if finder.is_full() {
                return;
            }
            if !globals.declared.contains(&name) {
                let hint = suggest::hint(suggest::nearest(&name, globals.names(), true));
                let message = format!("FROM argument '{name}' is not declared{hint}");
                finder.warn(&rules::UNDEFINED_ARG_IN_FROM, word.span, instruction.span, message);
            }
        }
    };
    undefined(&from.image);
    from.platform.iter().for_each(&mut undefined);
    let name = expanded(input, &from.image, &defaults.environment);
    if name.is_some_and(|name| Reference::parse_named(&name.text).is_err()) {
        let message =
            format!("Default value for ARG {} results in empty or invalid base image name", from.image.text);
        finder.warn(&rules::INVALID_DEFAULT_ARG_IN_FROM, from.image.span, instruction.span, message);
    }
    if let Some(word) = &from.platform
        && let Some(done) = expanded(input, word, &globals.environment)
    {
        platform(instruction, from, word, &done, globals, finder);
    }
}

fn platform(
    instruction: &Instruction,
    from: &From,
    word: &Word,
    done: &Expanded,
    globals: &Globals,
    finder: &mut Finder<'_>,
) {
    let is_target =
        done.matched.len() == 1 && done.matched.contains("TARGETPLATFORM") && done.unmatched.is_empty();
    if is_target && globals.environment.get("TARGETPLATFORM") == Some(done.text.as_str()) {
        let message = format!(
            "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
            word.text
        );
        finder.warn(&rules::REDUNDANT_TARGET_PLATFORM, word.span, instruction.span, message);
    }
    if !done.matched.is_empty() || !done.unmatched.is_empty() {
        return;
    }
    let Ok(platform) = Platform::parse(&done.text) else { return };
    let name = from.name.as_ref().map(|name| name.text.to_lowercase()).unwrap_or_default();
    // A stage that is called after its platform is meant to be for one.
    if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
        let message = format!("FROM --platform flag should not use constant value {:?}", done.text);
        finder.warn(&rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, word.span, instruction.span, message);
    }
}

fn step(input: &Input<'_>, instruction: &Instruction, state: &mut State, finder: &mut Finder<'_>) {
    let escape = input.file.directives.escape;
    let Ok(expansion) = state.scope.step(&instruction.command, escape, &input.stages.globals, input.request)
    else {
        return;
    };
    // What is declared by the instruction itself is known to the rest of it.
    let declared = &state.scope.declared;
    let mut told = BTreeSet::new();
    for (name, span) in &expansion.unmatched {
        if finder.is_full() {
            break;
        }
        if declared.contains(name) || SCANNER.contains(&name.as_str()) || !told.insert(name) {
            continue;
        }
        let near = suggest::nearest(name, state.scope.visible.names(), true);
        let hint = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
        let message = format!("Usage of undefined variable '${name}'{hint}");
        finder.warn(&rules::UNDEFINED_VAR, *span, instruction.span, message);
    }
    match &expansion.command {
        Command::Arg(arguments) => {
            for argument in arguments {
                secret(instruction, "ARG", &argument.name, finder);
            }
        }
        Command::Env(pairs) => {
            for pair in pairs {
                secret(instruction, "ENV", &pair.name, finder);
            }
        }
        Command::Expose(ports) => ports.iter().for_each(|port| exposed(instruction, port, finder)),
        Command::Copy(copy) if copy.from.is_none() => {
            ignored(input, instruction, "Copy", &copy.files, finder);
        }
        Command::Add(add) => ignored(input, instruction, "Add", &add.files, finder),
        Command::Workdir(path) => {
            if !state.has_workdir && !path.text.starts_with('/') {
                let message = format!(
                    "Relative workdir {:?} can have unexpected results if the base image changes",
                    path.text
                );
                finder.warn(&rules::WORKDIR_RELATIVE_PATH, path.span, instruction.span, message);
            }
            state.has_workdir = true;
        }
        Command::Shell(_) => state.has_shell = true,
        Command::Cmd(line) | Command::Entrypoint(line) if is_shell_line(line) && !state.has_shell => {
            let message = format!(
                "JSON arguments recommended for {} to prevent unintended behavior related to OS signals",
                instruction.name.text
            );
            finder.warn(&rules::JSON_ARGS_RECOMMENDED, instruction.name.span, instruction.span, message);
        }
        _ => {}
    }
}

fn secret(instruction: &Instruction, what: &str, name: &Word, finder: &mut Finder<'_>) {
    let lower = name.text.to_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(&SECRET) && !has(&NO_SECRET) {
        let message =
            format!("Do not use ARG or ENV instructions for sensitive data ({what} {:?})", name.text);
        finder.warn(&rules::SECRETS_USED_IN_ARG_OR_ENV, name.span, instruction.span, message);
    }
}

fn exposed(instruction: &Instruction, port: &Word, finder: &mut Finder<'_>) {
    let text = &port.text;
    let inside = text.rsplit(':').next().unwrap_or_default();
    let protocol = inside.split_once('/').map(|(_, protocol)| protocol).unwrap_or_default();
    if protocol != protocol.to_lowercase() {
        let message = format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
        finder.warn(&rules::EXPOSE_PROTO_CASING, port.span, instruction.span, message);
    }
    if inside.len() + 1 < text.len() {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
        );
        finder.warn(&rules::EXPOSE_INVALID_FORMAT, port.span, instruction.span, message);
    }
}

fn ignored(input: &Input<'_>, instruction: &Instruction, what: &str, files: &Files, finder: &mut Finder<'_>) {
    // Where something is brought back, a directory that is hidden may have it in it.
    let Some(ignore) = input.ignore.filter(|ignore| !ignore.has_exceptions()) else { return };
    for source in files.sources.iter().filter(|source| !is_remote(&source.text)) {
        let path = clean(source.text.trim_start_matches('/'));
        if path != "." && ignore.hides(&path).is_some() {
            let message =
                format!("Attempting to {what} file {:?} that is excluded by .dockerignore", source.text);
            finder.warn(&rules::COPY_IGNORED_FILE, source.span, instruction.span, message);
        }
    }
}

/// Whether a source is an address, of a file or of a repository.
fn is_remote(source: &str) -> bool {
    source.contains("://") || source.starts_with("git@") || source.starts_with("github.com/")
}
