//! What is wrong with a Dockerfile.

use serde::Serialize;

use super::{Answer, Location, Subject, json};
use crate::check::{self, Rule};
use crate::ignore::Ignore;

#[derive(Serialize)]
struct Report {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Warning>,
    sources: Vec<SourceInfo>,
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

#[derive(Serialize)]
struct Warning {
    #[serde(rename = "ruleName")]
    rule: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    location: Location,
}

#[derive(Serialize)]
struct SourceInfo {
    filename: String,
    language: &'static str,
    data: String,
}

#[derive(Serialize)]
struct Failure {
    message: String,
    location: Location,
}

/// The answer.
pub(super) fn answer(subject: &Subject<'_>, ignore: Option<&Ignore>) -> Result<Answer, String> {
    let name = &subject.document.name;
    let options = check::Options::of(&subject.file, &subject.request.arguments)?;
    let input = check::Input {
        file: &subject.file,
        stages: &subject.stages,
        request: subject.request,
        ignore,
        image: &|_| None,
    };
    let found = check::check(&input, &options).warnings;
    let mut text = match found.len() {
        0 if subject.error.is_some() => String::new(),
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    let mut warnings = Vec::new();
    for warning in &found {
        let rule = warning.rule.and_then(Rule::named);
        let url = rule.map(Rule::url).unwrap_or_default();
        let title = rule.map(|rule| rule.name).unwrap_or_default();
        text.push_str(&format!("\nWARNING: {title} - {url}\n"));
        if let Some(rule) = rule {
            text.push_str(&format!("{}\n", rule.description));
        }
        text.push_str(&warning.render(&subject.source, name));
        warnings.push(Warning {
            rule: title.to_owned(),
            description: rule.map(|rule| rule.description.to_owned()).unwrap_or_default(),
            url,
            detail: warning.message.clone(),
            location: subject.location(warning.instruction.unwrap_or(warning.span)),
        });
    }
    if let Some(error) = &subject.error {
        text.push_str(&error.render(&subject.source, name));
    }
    let names = subject.document.files().into_iter().map(|(name, _)| name.to_owned());
    let source = |(filename, data)| SourceInfo { filename, language: "Dockerfile", data };
    let report = Report {
        warnings,
        sources: names.zip(subject.sources()).map(source).collect(),
        error: subject.error.as_ref().map(|error| Failure {
            message: error.line(&subject.source),
            location: subject.location(error.instruction.unwrap_or(error.span)),
        }),
    };
    Ok(Answer { json: json(&report), text, is_fine: found.is_empty() && subject.error.is_none() })
}
