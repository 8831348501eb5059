//! `tag`: a template of what a container's lines are called, with Docker's fields.
//!
//! `{{.ID}}`, `{{.FullID}}`, `{{.Name}}`, `{{.ImageID}}`, `{{.ImageFullID}}`, `{{.ImageName}}`, `{{.DaemonName}}`, `{{.Command}}`,
//! `{{.Hostname}}`, and Docker's functions over one of them: `lower`, `upper`, `title`, `json`, `truncate FIELD N`, `index .ContainerLabels "NAME"`.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// The longest template, and the longest tag.
const BYTES_MAX: usize = 4096;
/// Docker's, where nothing is said.
pub const DEFAULT: &str = "{{.ID}}";

/// What a tag can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image's id.
    pub image_id: String,
    /// The image's name.
    pub image_name: String,
    /// The program and its arguments.
    pub command: String,
    /// The host's name.
    pub hostname: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    FullId,
    Name,
    ImageId,
    ImageFullId,
    ImageName,
    DaemonName,
    Command,
    Hostname,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field, Vec<Change>),
    Label(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Lower,
    Upper,
    Title,
    Json,
    Truncate(usize),
}

/// A template that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

impl Template {
    /// Reads one; an empty one is [`DEFAULT`].
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Error::invalid(format!("invalid value for log opt 'tag': {text}: {what}"));
        let text_or_default = if text.is_empty() { DEFAULT } else { text };
        if text.len() > BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let mut pieces = Vec::new();
        let mut rest = text_or_default;
        while let Some(begin) = rest.find("{{") {
            if begin > 0 {
                pieces.push(Piece::Text(rest[..begin].to_owned()));
            }
            let end = rest[begin..].find("}}").ok_or_else(|| wrong("unclosed action"))? + begin;
            let action = rest[begin + 2..end].trim().trim_matches('-').trim();
            pieces.push(piece(action).map_err(|what| wrong(&what))?);
            rest = &rest[end + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The tag of a container.
    pub fn render(&self, subject: &Subject) -> String {
        let mut tag = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => tag.push_str(text),
                Piece::Label(name) => tag.push_str(subject.labels.get(name).map_or("", String::as_str)),
                Piece::Field(field, changes) => {
                    tag.push_str(
                        &changes.iter().fold(value(*field, subject), |text, change| apply(*change, text)),
                    );
                }
            }
            if tag.len() > BYTES_MAX {
                let end = (0..=BYTES_MAX).rev().find(|at| tag.is_char_boundary(*at)).unwrap_or(0);
                tag.truncate(end);
                break;
            }
        }
        tag
    }
}

fn piece(action: &str) -> std::result::Result<Piece, String> {
    let mut stages = action.split('|').map(str::trim);
    let words: Vec<&str> = stages.next().unwrap_or_default().split_whitespace().collect();
    let mut changes = Vec::new();
    let named = match words.as_slice() {
        [field] => *field,
        ["index", ".ContainerLabels", label] => {
            let label = label.strip_prefix('"').and_then(|label| label.strip_suffix('"'));
            return label
                .map(|label| Piece::Label(label.to_owned()))
                .ok_or_else(|| "a label's name is quoted".into());
        }
        ["truncate", field, length] => {
            changes.push(Change::Truncate(length.parse().map_err(|_| format!("{length} is no number"))?));
            *field
        }
        [function, field] => {
            changes.push(change(function)?);
            *field
        }
        _ => return Err(format!("{action:?} is not supported")),
    };
    let field = match named {
        ".ID" => Field::Id,
        ".FullID" | ".ContainerID" => Field::FullId,
        ".Name" => Field::Name,
        ".ImageID" => Field::ImageId,
        ".ImageFullID" | ".ContainerImageID" => Field::ImageFullId,
        ".ImageName" | ".ContainerImageName" => Field::ImageName,
        ".DaemonName" => Field::DaemonName,
        ".Command" => Field::Command,
        ".Hostname" => Field::Hostname,
        other => return Err(format!("{other} is not supported")),
    };
    for stage in stages {
        changes.push(match stage.split_once(char::is_whitespace) {
            Some(("truncate", length)) => {
                Change::Truncate(length.trim().parse().map_err(|_| format!("{length} is no number"))?)
            }
            _ => change(stage)?,
        });
    }
    Ok(Piece::Field(field, changes))
}

fn change(name: &str) -> std::result::Result<Change, String> {
    Ok(match name {
        "lower" => Change::Lower,
        "upper" => Change::Upper,
        "title" => Change::Title,
        "json" => Change::Json,
        other => return Err(format!("function {other:?} not defined")),
    })
}

fn apply(change: Change, text: String) -> String {
    match change {
        Change::Lower => text.to_lowercase(),
        Change::Upper => text.to_uppercase(),
        Change::Title => {
            let mut chars = text.chars();
            chars
                .next()
                .map(|first| first.to_uppercase().collect::<String>() + chars.as_str())
                .unwrap_or_default()
        }
        Change::Json => serde_json::Value::String(text).to_string(),
        Change::Truncate(length) => text.chars().take(length).collect(),
    }
}

fn value(field: Field, subject: &Subject) -> String {
    let short = |id: &str| id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect();
    match field {
        Field::Id => short(&subject.id),
        Field::FullId => subject.id.clone(),
        Field::Name => subject.name.clone(),
        Field::ImageId => short(&subject.image_id),
        Field::ImageFullId => subject.image_id.clone(),
        Field::ImageName => subject.image_name.clone(),
        // Tools look for the engine that they know.
        Field::DaemonName => "docker".to_owned(),
        Field::Command => subject.command.clone(),
        Field::Hostname => subject.hostname.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            image_id: format!("sha256:{}", "ab".repeat(32)),
            image_name: "nginx:1".into(),
            command: "nginx -g x".into(),
            hostname: "host".into(),
            labels: BTreeMap::from([("a".into(), "b".into())]),
        }
    }

    #[test]
    fn tags_are_rendered() {
        let render = |text: &str| Template::parse(text).unwrap().render(&subject());
        assert_eq!(render(""), "0123456789ab");
        assert_eq!(render("{{.ImageName}}/{{ .Name }}/{{.ID}}"), "nginx:1/web/0123456789ab");
        assert_eq!(
            render("{{.ImageID}} {{.DaemonName}} {{upper .Name}} {{.Name | title | json}}"),
            "abababababab docker WEB \"Web\""
        );
        assert_eq!(render("{{truncate .FullID 4}}-{{index .ContainerLabels \"a\"}}"), "0123-b");
        assert_eq!(render("plain"), "plain");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["{{.Nothing}}", "{{.ID", "{{range .X}}", "{{foo .ID}}", "{{truncate .ID x}}"] {
            assert!(Template::parse(text).unwrap_err().to_string().contains("log opt 'tag'"), "{text}");
        }
        assert!(Template::parse(&"x".repeat(5000)).is_err());
    }
}
