//! Checks of how things are written, whatever variables hold.

use std::collections::BTreeSet;

use super::{Finder, Input, rules};
use crate::dockerfile::instruction::{Command, CommandLine, From, Instruction, Pair};

/// Names that mean something else.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub fn check(input: &Input<'_>, finder: &mut Finder<'_>) {
    let instructions = &input.file.instructions;
    casing(instructions, finder);
    let mut names = BTreeSet::new();
    for instruction in instructions {
        if let Some(span) = instruction.empty_continuation {
            finder.warn(&rules::NO_EMPTY_CONTINUATION, span, instruction.span, "Empty continuation line");
        }
        match &instruction.command {
            Command::From(from) => stage(instruction, from, &mut names, finder),
            Command::Arg(arguments) => {
                let keys: Vec<&str> = arguments.iter().map(|argument| argument.name.text.as_str()).collect();
                description(instruction, "ARG", &keys, finder);
            }
            Command::Env(pairs) | Command::Label(pairs) => legacy(instruction, pairs, finder),
            Command::Maintainer(_) => {
                let message = "Maintainer instruction is deprecated in favor of using label";
                finder.warn(&rules::MAINTAINER_DEPRECATED, instruction.name.span, instruction.span, message);
            }
            _ => {}
        }
    }
    for stage in &input.stages.list {
        let of_stage = instructions.get(stage.instructions.clone()).unwrap_or_default();
        once(of_stage, finder);
    }
}

fn is_lower(text: &str) -> bool {
    text == text.to_lowercase()
}

fn is_upper(text: &str) -> bool {
    text == text.to_uppercase()
}

fn casing(instructions: &[Instruction], finder: &mut Finder<'_>) {
    let names = || instructions.iter().map(|instruction| instruction.name.text.as_str());
    let lower = names().filter(|name| is_lower(name)).count();
    let upper = names().filter(|name| is_upper(name) && !is_lower(name)).count();
    let (fits, casing): (fn(&str) -> bool, _) =
        if lower > upper { (is_lower, "lowercase") } else { (is_upper, "uppercase") };
    for instruction in instructions.iter().filter(|instruction| !fits(&instruction.name.text)) {
        let message = format!(
            "Command '{}' should match the case of the command majority ({casing})",
            instruction.name.text
        );
        finder.warn(&rules::CONSISTENT_INSTRUCTION_CASING, instruction.name.span, instruction.span, message);
    }
}

fn stage(instruction: &Instruction, from: &From, names: &mut BTreeSet<String>, finder: &mut Finder<'_>) {
    let command = &instruction.name.text;
    if let Some(keyword) = &from.keyword {
        let fits = if is_lower(command) {
            is_lower(&keyword.text)
        } else {
            // What is mixed in itself is told elsewhere.
            !is_upper(command) || is_upper(&keyword.text)
        };
        if !fits {
            let message = format!("'{}' and '{command}' keywords' casing do not match", keyword.text);
            finder.warn(&rules::FROM_AS_CASING, keyword.span, instruction.span, message);
        }
    }
    let Some(name) = &from.name else { return };
    let lower = name.text.to_lowercase();
    if lower != name.text {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        finder.warn(&rules::STAGE_NAME_CASING, name.span, instruction.span, message);
    }
    if RESERVED.contains(&lower.as_str()) {
        let message = format!("Stage name should not use the same name as reserved stage {lower:?}");
        finder.warn(&rules::RESERVED_STAGE_NAME, name.span, instruction.span, message);
    }
    description(instruction, "FROM", &[&lower], finder);
    if names.contains(&lower) {
        let message = format!("Duplicate stage name {lower:?}, stage names should be unique");
        finder.warn(&rules::DUPLICATE_STAGE_NAME, name.span, instruction.span, message);
    }
    names.insert(lower);
}

fn description(instruction: &Instruction, what: &str, keys: &[&str], finder: &mut Finder<'_>) {
    let (Some(comment), Some(first)) = (instruction.comments.last(), keys.first()) else { return };
    let word = comment.split(' ').next().unwrap_or_default();
    if keys.contains(&word) {
        return;
    }
    let example = if keys.len() > 1 { "<arg_key>" } else { first };
    let message = format!("Comment for {what} should follow the format: `# {example} <description>`");
    finder.warn(&rules::INVALID_DEFINITION_DESCRIPTION, instruction.name.span, instruction.span, message);
}

fn legacy(instruction: &Instruction, pairs: &[Pair], finder: &mut Finder<'_>) {
    let name = &instruction.name.text;
    for pair in pairs.iter().filter(|pair| pair.legacy) {
        let message =
            format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
        finder.warn(
            &rules::LEGACY_KEY_VALUE_FORMAT,
            pair.name.span.to(pair.value.span),
            instruction.span,
            message,
        );
    }
}

/// Instructions of which a stage needs one.
fn once(instructions: &[Instruction], finder: &mut Finder<'_>) {
    let mut before: [Option<&Instruction>; 3] = [None; 3];
    for instruction in instructions {
        let place = match &instruction.command {
            Command::Cmd(_) => 0,
            Command::Entrypoint(_) => 1,
            Command::Healthcheck(_) => 2,
            _ => continue,
        };
        // The one before is the one that means nothing.
        if let Some(before) = before[place].replace(instruction) {
            let message = format!(
                "Multiple {} instructions should not be used in the same stage because only the last one will be used",
                instruction.name.text
            );
            finder.warn(&rules::MULTIPLE_INSTRUCTIONS_DISALLOWED, before.name.span, before.span, message);
        }
    }
}

/// Whether a command is a line that a shell is needed for.
pub fn is_shell_line(line: &CommandLine) -> bool {
    matches!(line, CommandLine::Shell(word) if !word.text.is_empty())
}
