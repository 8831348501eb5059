//! `events`.

use api::event::Message;
use client::query::Query;

use crate::command::{Command, Example};
use crate::commands::moment;
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, filter, text};
use crate::format::FORMAT;
use crate::session::Session;
use crate::template::{Map, Mode, Shape, Template, Value};
use crate::units::padded_time;

/// `events`.
pub const COMMAND: Command = Command {
    name: "events",
    also: &["system events", "events"],
    usage: "[OPTIONS]",
    about: "Get real time events from the engine",
    flags: &[Group {
        title: "",
        flags: &[
            filter("Only those that match (container=web, event=die, type=image, …)").short('f'),
            text("format", FORMAT.help),
            text("since", "From this time on: RFC 3339, seconds since 1970, or how long ago (42m)"),
            text("until", "Up to this time"),
        ],
    }],
    examples: &[Example {
        about: "What ended in the last hour",
        line: "events --since 1h --until 0s --filter event=die",
    }],
    ..Command::leaf(|session, parsed| Box::pin(events(session, parsed)))
};

async fn events(session: &Session, parsed: &Parsed) -> Result<()> {
    let format = parsed.text("format").unwrap_or_default();
    let template = match format {
        "" | "json" => None,
        text => Some(tried(text)?),
    };
    let time = |flag: &str| moment(parsed.text(flag).unwrap_or_default()).map_err(Error::Message);
    let filters = parsed.filters();
    let query = Query::new()
        .maybe("since", Some(&time("since")?))
        .maybe("until", Some(&time("until")?))
        .maybe("filters", (!filters.is_empty()).then(|| filters.to_json()).as_deref());
    let mut stream = session.client()?.stream("/events", query).await?.json::<serde_json::Value>();
    while let Some(event) = stream.next().await? {
        let line = match &template {
            None if format == "json" => event.to_string(),
            None => line(&serde_json::from_value(event).unwrap_or_default()),
            Some(template) => {
                let failed = |err| Error::Message(format!("failed to execute template: {err}"));
                template.render(&value(&event), Mode::default()).map_err(failed)?
            }
        };
        session.line(&line)?;
    }
    Ok(())
}

/// A template, tried on an event of nothing: what it asks for that no event has is told before any comes.
fn tried(text: &str) -> Result<Template> {
    let wrong = |err: String| Error::Format(format!("Error parsing format: {err}"));
    let template = Template::parse("", text).map_err(|err| wrong(err.to_string()))?;
    let nothing = serde_json::json!({"Actor": {"ID": "", "Attributes": {}}, "time": 0, "timeNano": 0});
    template.render(&value(&nothing), Mode::default()).map_err(|err| wrong(err.to_string()))?;
    Ok(template)
}

/// `time type action id (key=value, …)`.
fn line(event: &Message) -> String {
    let time = if event.time_nano != 0 { event.time_nano } else { event.time.saturating_mul(1_000_000_000) };
    let mut text = format!("{} {} {} {}", padded_time(time), event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let pairs: Vec<_> =
            event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        text.push_str(&format!(" ({})", pairs.join(", ")));
    }
    text
}

/// An event for templates: Go's names of the fields, which are not those of the JSON.
fn value(event: &serde_json::Value) -> Value {
    let names = [
        ("Status", "status"),
        ("ID", "id"),
        ("From", "from"),
        ("Type", "Type"),
        ("Action", "Action"),
        ("Actor", "Actor"),
        ("Scope", "scope"),
        ("Time", "time"),
        ("TimeNano", "timeNano"),
    ];
    let pairs = names
        .iter()
        .map(|(name, key)| {
            let value = event.get(key).map_or_else(|| "".into(), |json| Value::from_json(name, json));
            ((*name).to_owned(), value)
        })
        .collect();
    Value::Map(std::rc::Rc::new(Map { pairs, shape: Shape::Struct, type_name: "events.Message" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let json = serde_json::json!({
            "Type": "container", "Action": "die", "Actor": {"ID": "ab", "Attributes": {"name": "web", "exitCode": "1"}},
            "scope": "local", "time": 1, "timeNano": 1_000_000_002,
        });
        let shown = line(&serde_json::from_value(json.clone()).unwrap());
        assert!(
            shown.ends_with(".000000002Z container die ab (exitCode=1, name=web)") || !shown.contains('Z'),
            "{shown}"
        );
        let template = Template::parse("", "{{.Type}} {{.Actor.Attributes.name}} {{.TimeNano}}").unwrap();
        assert_eq!(template.render(&value(&json), Mode::default()).unwrap(), "container web 1000000002");
        for fine in ["{{json .}}", "{{.Actor.Attributes.nothing}} {{.Actor.ID}}", "{{.Time}}{{.Scope}}"] {
            assert!(tried(fine).is_ok(), "{fine}");
        }
        assert!(tried("{{.Foo}}").is_err_and(|err| err.to_string().starts_with("Error parsing format: ")));
    }
}
