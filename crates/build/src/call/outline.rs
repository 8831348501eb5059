//! What a target takes: its variables and secrets, and those of the stages that it needs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Answer, Location, Subject, json, table};
use crate::dockerfile::instruction::{Command, Instruction};
use crate::dockerfile::mount::{self, Kind};

#[derive(Serialize)]
struct Outline {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<Wanted>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<Wanted>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Argument {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    location: Location,
}

/// A secret or a key that is asked for.
#[derive(Serialize)]
struct Wanted {
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Default)]
struct Gathered {
    arguments: Vec<Argument>,
    secrets: BTreeMap<String, (bool, crate::Span)>,
    ssh: BTreeMap<String, (bool, crate::Span)>,
}

/// The answer.
pub(super) fn answer(subject: &Subject<'_>) -> Answer {
    let stages = &subject.stages;
    let mut gathered = Gathered::default();
    let first = stages.list.first().map_or(0, |stage| stage.from);
    for instruction in &subject.file.instructions[..first] {
        gathered.take(subject, instruction);
    }
    for at in &stages.order {
        for instruction in &subject.file.instructions[stages.list[*at].instructions.clone()] {
            gathered.take(subject, instruction);
        }
    }
    let target = stages.target.and_then(|at| stages.list.get(at));
    let name = target.and_then(|stage| stage.name.clone()).unwrap_or_default();
    let description = target
        .map(|stage| Subject::described(&subject.file.instructions[stage.from], &name))
        .unwrap_or_default();
    let wanted = |map: BTreeMap<String, (bool, crate::Span)>| -> Vec<Wanted> {
        let one = |(name, (required, span))| Wanted { name, required, location: subject.location(span) };
        map.into_iter().map(one).collect()
    };
    let outline = Outline {
        name,
        description,
        args: gathered.arguments,
        secrets: wanted(gathered.secrets),
        ssh: wanted(gathered.ssh),
        sources: subject.sources(),
    };
    Answer { json: json(&outline), text: text(&outline), is_fine: true }
}

impl Gathered {
    fn take(&mut self, subject: &Subject<'_>, instruction: &Instruction) {
        match &instruction.command {
            Command::Arg(declared) => {
                for argument in declared {
                    let name = &argument.name.text;
                    if self.arguments.iter().any(|known| known.name == *name) {
                        continue;
                    }
                    let given = subject.request.arguments.get(name).map(str::to_owned);
                    let default = || argument.default.as_ref().map(|word| word.text.clone());
                    self.arguments.push(Argument {
                        name: name.clone(),
                        description: Subject::described(instruction, name),
                        value: given.or_else(default).unwrap_or_default(),
                        location: subject.location(argument.name.span),
                    });
                }
            }
            Command::Run(run) => {
                for word in &run.mounts {
                    let Ok(mount) = mount::parse(&word.text) else { continue };
                    let list = match mount.kind {
                        Kind::Secret => &mut self.secrets,
                        Kind::Ssh => &mut self.ssh,
                        _ => continue,
                    };
                    let name = if mount.id.is_empty() { "default".to_owned() } else { mount.id };
                    let known = list.entry(name).or_insert((false, word.span));
                    known.0 |= mount.required;
                }
            }
            _ => {}
        }
    }
}

fn text(outline: &Outline) -> String {
    let mut out = String::new();
    if !outline.name.is_empty() {
        out.push_str(&format!("TARGET:      {}\n", outline.name));
    }
    if !outline.description.is_empty() {
        out.push_str(&format!("DESCRIPTION: {}\n", outline.description));
    }
    let mut section = |head: &[&str], rows: Vec<Vec<String>>| {
        if rows.is_empty() {
            return;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        out.push_str(&table(&[vec![head], rows].concat()));
    };
    let arguments = outline.args.iter();
    let arguments = arguments.map(|one| vec![one.name.clone(), one.value.clone(), one.description.clone()]);
    section(&["BUILD ARG", "VALUE", "DESCRIPTION"], arguments.collect());
    let rows = |list: &[Wanted]| {
        let required = |one: &Wanted| if one.required { "true".to_owned() } else { String::new() };
        list.iter().map(|one| vec![one.name.clone(), required(one)]).collect()
    };
    section(&["SECRET", "REQUIRED"], rows(&outline.secrets));
    section(&["SSH", "REQUIRED"], rows(&outline.ssh));
    out
}
