//! `context inspect`.

use client::context::{DEFAULT, TLS_NAMES};
use serde_json::{Map, Value as Json, json};

use super::{current, default_address};
use crate::command::{Arity, Command, Completes};
use crate::error::{Error, Result, told};
use crate::flags::{Group, Parsed};
use crate::format::FORMAT;
use crate::session::Session;
use crate::template::{Mode, Template, Value};

/// `inspect`.
pub const COMMAND: Command = Command {
    name: "inspect",
    usage: "[OPTIONS] [CONTEXT] [CONTEXT...]",
    about: "Display detailed information on one or more contexts",
    arity: Arity::Any,
    flags: &[Group { title: "", flags: &[FORMAT] }],
    completes: Completes::Contexts,
    ..Command::leaf(|session, parsed| Box::pin(inspect(session, parsed)))
};

fn describe(session: &Session, name: &str) -> Result<Json> {
    if name == DEFAULT {
        return Ok(json!({
            "Name": DEFAULT,
            "Metadata": {},
            "Endpoints": { "docker": { "Host": default_address(session), "SkipTLSVerify": false } },
            "TLSMaterial": {},
            "Storage": { "MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>" },
        }));
    }
    let meta = session.store.load(name)?;
    let files: Vec<&str> = TLS_NAMES
        .iter()
        .zip(session.store.tls_files(name))
        .filter_map(|(file, path)| path.map(|_| *file))
        .collect();
    let mut tls = Map::new();
    if !files.is_empty() {
        tls.insert("docker".into(), json!(files));
    }
    Ok(json!({
        "Name": meta.name,
        "Metadata": meta.raw.get("Metadata").cloned().unwrap_or_else(|| json!({})),
        "Endpoints": meta.raw.get("Endpoints").cloned().unwrap_or_else(|| json!({})),
        "TLSMaterial": tls,
        "Storage": {
            "MetadataPath": session.store.meta_folder(name),
            "TLSPath": session.store.tls_folder(name),
        },
    }))
}

async fn inspect(session: &Session, parsed: &Parsed) -> Result<()> {
    let names = if parsed.args.is_empty() { vec![current(session)?] } else { parsed.args.clone() };
    let format = parsed.text("format").unwrap_or_default();
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for name in &names {
        match describe(session, name) {
            Ok(json) => found.push(json),
            Err(err) => failed.push(told(&err)),
        }
    }
    match format {
        "" => session.line(&four_spaces(&found))?,
        "json" => session.line(&Json::Array(found).to_string())?,
        text => {
            let parsing = |err| Error::Message(format!("template parsing error: {err}"));
            let template = Template::parse("", text).map_err(parsing)?;
            for json in &found {
                let value = Value::from_json("", json);
                session.line(&template.render(&value, Mode::default()).map_err(parsing)?)?;
            }
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::Message(failed.join("\n"))) }
}

/// JSON indented by four spaces, `<` and `>` escaped as Docker does here.
fn four_spaces(list: &[Json]) -> String {
    if list.is_empty() {
        return "[]".into();
    }
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Values in memory always serialize.
    let _ = serde::Serialize::serialize(list, &mut serializer);
    String::from_utf8_lossy(&out).replace('<', "\\u003c").replace('>', "\\u003e")
}
