//! Which targets a Dockerfile has.

use serde::Serialize;

use super::{Answer, Location, Subject, json, table};
use crate::stages::Origin;

#[derive(Serialize)]
struct List {
    targets: Vec<Target>,
    sources: Vec<String>,
}

#[derive(Serialize)]
struct Target {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    base: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    platform: String,
    location: Location,
}

/// The answer.
pub(super) fn answer(subject: &Subject<'_>) -> Answer {
    let stages = &subject.stages.list;
    let mut targets = Vec::new();
    let mut rows = vec![vec!["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
    for (at, stage) in stages.iter().enumerate() {
        let from = &subject.file.instructions[stage.from];
        let name = stage.name.clone().unwrap_or_default();
        let description = Subject::described(from, &name);
        let is_default = at + 1 == stages.len();
        let shown = match (name.as_str(), is_default) {
            ("", true) => "(default)".to_owned(),
            ("", false) => at.to_string(),
            (name, true) => format!("{name} (default)"),
            (name, false) => name.to_owned(),
        };
        rows.push(vec![shown, description.clone()]);
        targets.push(Target {
            name,
            default: is_default,
            description,
            base: match &stage.base {
                Origin::Scratch => "scratch".to_owned(),
                Origin::Image(name) | Origin::Context(name) => name.clone(),
                Origin::Stage(other) => stages[*other].name.clone().unwrap_or_else(|| other.to_string()),
            },
            platform: stage.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
            location: subject.location(from.span),
        });
    }
    let list = List { targets, sources: subject.sources() };
    Answer { json: json(&list), text: table(&rows), is_fine: true }
}
