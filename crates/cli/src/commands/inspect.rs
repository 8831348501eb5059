//! `inspect`, for all kinds of objects.

use api::container::Inspect;
use client::Client;
use client::query::{Query, segment};
use serde_json::Value as Json;

use crate::command::{Arity, Command, Completes, Example};
use crate::error::{Error, Result, told};
use crate::flags::{Flag, Group, Parsed, switch, text};
use crate::format::FORMAT;
use crate::recipe::{self, Recipe};
use crate::session::Session;
use crate::template::{Mode, Template, Value};

const SIZE: Flag = switch("size", "Show sizes of containers").short('s');
const AS: Flag = text("as", "Write what makes the same container again: run, compose, quadlet or kube")
    .check(recipe::check);
const PLATFORM: Flag = text("platform", "Platform of the image (os[/arch[/variant]])");

const COMMON: Command = Command {
    name: "inspect",
    about: "Display detailed information on one or more objects",
    arity: Arity::AtLeast(1),
    flags: &[Group { title: "", flags: &[FORMAT] }],
    ..Command::leaf(|session, parsed| Box::pin(any(session, parsed)))
};

/// `inspect`.
pub const COMMAND: Command = Command {
    usage: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Return low-level information on objects of any kind",
    flags: &[Group {
        title: "",
        flags: &[
            FORMAT,
            SIZE,
            AS,
            text("type", "Only objects of this kind: container, image, volume, network, …"),
        ],
    }],
    completes: Completes::Containers,
    examples: &[
        Example { about: "All there is to know", line: "inspect web" },
        Example { about: "One thing", line: "inspect -f '{{.State.Status}}' web" },
    ],
    ..COMMON
};

/// `container inspect`.
pub const CONTAINER: Command = Command {
    usage: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Display detailed information on one or more containers",
    flags: &[Group { title: "", flags: &[FORMAT, SIZE, AS] }],
    completes: Completes::Containers,
    examples: &[
        Example { about: "All there is to know", line: "container inspect web" },
        Example { about: "The command line that makes it again", line: "container inspect --as run web" },
    ],
    action: crate::command::Action::Run(|session, parsed| Box::pin(of(session, parsed, &[Kind::Container]))),
    ..COMMON
};

/// `image inspect`.
pub const IMAGE: Command = Command {
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Display detailed information on one or more images",
    flags: &[Group { title: "", flags: &[FORMAT, PLATFORM] }],
    completes: Completes::Images,
    action: crate::command::Action::Run(|session, parsed| Box::pin(of(session, parsed, &[Kind::Image]))),
    ..COMMON
};

/// `volume inspect`.
pub const VOLUME: Command = Command {
    usage: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Display detailed information on one or more volumes",
    completes: Completes::Volumes,
    action: crate::command::Action::Run(|session, parsed| Box::pin(of(session, parsed, &[Kind::Volume]))),
    ..COMMON
};

/// `network inspect`.
pub const NETWORK: Command = Command {
    usage: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Display detailed information on one or more networks",
    flags: &[Group {
        title: "",
        flags: &[FORMAT, switch("verbose", "Show details for diagnosis").short('v')],
    }],
    completes: Completes::Networks,
    action: crate::command::Action::Run(|session, parsed| Box::pin(of(session, parsed, &[Kind::Network]))),
    ..COMMON
};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Secret,
    Volume,
}

/// In the order in which a name is looked for.
const ALL: &[Kind] = &[Kind::Container, Kind::Image, Kind::Network, Kind::Volume];

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Secret => "secret",
            Self::Volume => "volume",
        }
    }

    async fn get(
        self,
        client: &Client,
        name: &str,
        parsed: &Parsed,
        platform: Option<&str>,
    ) -> client::Result<String> {
        let name = segment(name);
        let (path, query) = match self {
            Self::Container => {
                (format!("/containers/{name}/json"), Query::new().flag("size", parsed.on("size")))
            }
            Self::Image => (format!("/images/{name}/json"), Query::new().maybe("platform", platform)),
            Self::Network => {
                (format!("/networks/{name}"), Query::new().flag("verbose", parsed.on("verbose")))
            }
            Self::Secret => (format!("/corten/secrets/{name}"), Query::new()),
            Self::Volume => (format!("/volumes/{name}"), Query::new()),
        };
        client.get_text(&path, query).await
    }
}

/// `secret inspect`.
pub(crate) async fn secrets(session: &Session, parsed: &Parsed) -> Result<()> {
    of(session, parsed, &[Kind::Secret]).await
}

async fn any(session: &Session, parsed: &Parsed) -> Result<()> {
    let kinds = match parsed.text("type") {
        None | Some("") => ALL,
        Some(word) => match ALL.iter().position(|kind| kind.word() == word) {
            Some(at) => &ALL[at..=at],
            None => {
                let known: Vec<_> = ALL.iter().map(|kind| format!("{:?}", kind.word())).collect();
                return Err(Error::Message(format!(
                    "unknown type: {word:?}: must be one of {}",
                    known.join(", ")
                )));
            }
        },
    };
    of(session, parsed, kinds).await
}

/// `--as`: each container in that form.
async fn rewritten(session: &Session, parsed: &Parsed, form: &str) -> Result<()> {
    if parsed.given("format") {
        return Err(Error::say("conflicting options: cannot specify both --as and --format"));
    }
    let client = session.client()?;
    for (place, name) in parsed.args.iter().enumerate() {
        let shown: Inspect = client.get(&format!("/containers/{}/json", segment(name)), Query::new()).await?;
        let image = client.get(&format!("/images/{}/json", segment(&shown.image)), Query::new()).await;
        let image = match image {
            Ok::<api::image::Inspect, _>(image) => image.config,
            // What is the image's is written as the container's own.
            Err(err) if err.is_not_found() => None,
            Err(err) => return Err(err.into()),
        };
        if place > 0 {
            session.out(if form == "kube" { "---\n" } else { "\n" })?;
        }
        session.out(&Recipe::of(shown, image).written(form)?)?;
    }
    Ok(())
}

async fn of(session: &Session, parsed: &Parsed, kinds: &[Kind]) -> Result<()> {
    if let Some(form) = parsed.text("as") {
        return rewritten(session, parsed, form).await;
    }
    let format = parsed.text("format").unwrap_or_default();
    let template = match format {
        "" | "json" => None,
        text => Some(
            Template::parse("", text)
                .map_err(|err| Error::Format(format!("template parsing error: {err}")))?,
        ),
    };
    let platform = match parsed.text("platform").filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => {
            let platform = oci::Platform::parse(text).map_err(|err| Error::Message(err.to_string()))?;
            Some(serde_json::to_string(&platform).map_err(|err| Error::Message(err.to_string()))?)
        }
    };
    let client = session.client()?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    let mut rendered = String::new();
    for name in &parsed.args {
        match look(client, name, parsed, platform.as_deref(), kinds).await {
            Ok(text) => match &template {
                None => found.push(text),
                Some(template) => match render(template, &text) {
                    Ok(line) => {
                        rendered.push_str(&line);
                        rendered.push('\n');
                    }
                    Err(err) => {
                        // Docker prints what it has, an empty line when that is nothing.
                        if rendered.is_empty() {
                            rendered.push('\n');
                        }
                        session.out(&rendered)?;
                        return Err(err);
                    }
                },
            },
            Err(Error::Client(err)) if err.is_unreachable() => return Err(err.into()),
            Err(err) => failures.push(told(&err)),
        }
    }
    match format {
        "" => session.out(pretty(&found)?)?,
        "json" => session
            .out(format!("[{}]\n", found.iter().map(|text| text.trim()).collect::<Vec<_>>().join(",")))?,
        _ if rendered.is_empty() => session.line("")?,
        _ => session.out(&rendered)?,
    }
    if failures.is_empty() {
        return Ok(());
    }
    Err(Error::Message(failures.join("\n")))
}

async fn look(
    client: &Client,
    name: &str,
    parsed: &Parsed,
    platform: Option<&str>,
    kinds: &[Kind],
) -> Result<String> {
    for kind in kinds {
        match kind.get(client, name, parsed, platform).await {
            // With one kind to look for, the daemon's own words are the answer.
            Err(err) if kinds.len() > 1 && passed_over(*kind, &err) => {}
            Err(err) => return Err(err.into()),
            Ok(text) => return Ok(text),
        }
    }
    Err(Error::Message(format!("Error: No such object: {name}")))
}

/// Whether the answer means that an object may be of another kind. A daemon without networks says that there is
/// no such page; a name that is no image's may still be a volume's.
fn passed_over(kind: Kind, err: &client::Error) -> bool {
    err.is_not_found() || (kind != Kind::Container && matches!(err.status(), Some(400 | 501)))
}

fn render(template: &Template, text: &str) -> Result<String> {
    let json: Json = serde_json::from_str(text)
        .map_err(|err| Error::Message(format!("unable to read inspect data: {err}")))?;
    template
        .render(&Value::from_json("", &json), Mode::default())
        .map_err(|err| Error::Message(format!("template parsing error: {err}")))
}

/// Objects as an indented list, byte for byte as the daemon sent them but for the spaces.
fn pretty(objects: &[String]) -> Result<String> {
    if objects.is_empty() {
        return Ok("[]\n".into());
    }
    let parts: Vec<_> = objects.iter().map(|text| format!("    {}", indent(text.trim(), 1))).collect();
    Ok(format!("[\n{}\n]\n", parts.join(",\n")))
}

/// JSON text with line breaks and four spaces a level, its values untouched.
fn indent(text: &str, level: usize) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = level;
    let mut chars = text.chars().peekable();
    let (mut inside, mut escaped) = (false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth * 4));
    };
    while let Some(c) = chars.next() {
        if inside {
            out.push(c);
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => inside = false,
                _ => {}
            }
            continue;
        }
        match c {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => {
                inside = c == '"';
                out.push(c);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_indented_and_untouched() {
        let text = r#"{"a":[],"b":{"c":1.50,"d":"x:y, {\"z\"}"},"e":[1,2]}"#;
        let want = "[\n    {\n        \"a\": [],\n        \"b\": {\n            \"c\": 1.50,\n            \"d\": \"x:y, {\\\"z\\\"}\"\n        },\n        \"e\": [\n            1,\n            2\n        ]\n    }\n]\n";
        assert_eq!(pretty(&[text.into()]).unwrap(), want);
        assert_eq!(pretty(&[]).unwrap(), "[]\n");
    }
}
