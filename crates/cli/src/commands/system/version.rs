//! `version`.

use api::system::{Component, Version};
use client::query::Query;
use serde_json::{Map, Value as Json, json};
use std::fmt::Write;

use crate::command::{Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, text};
use crate::format::{FORMAT, detail};
use crate::session::{self, Session};
use crate::template::Value;

/// `version`.
pub const COMMAND: Command = Command {
    name: "version",
    usage: "[OPTIONS]",
    about: "Show the versions of client and engine",
    flags: &[Group { title: "", flags: &[FORMAT, text("kubeconfig", "").hidden()] }],
    examples: &[Example { about: "The engine's version alone", line: "version -f '{{.Server.Version}}'" }],
    ..Command::leaf(|session, parsed| Box::pin(version(session, parsed)))
};

/// The client's side.
fn client_side(session: &Session) -> Result<Map<String, Json>> {
    let target = session.target()?;
    let newest = client::NEWEST_API.to_string();
    let spoken = session.client.get().map_or_else(|| newest.clone(), |client| client.spoken().to_string());
    let fields = json!({
        "Version": session::VERSION,
        "ApiVersion": spoken,
        "DefaultAPIVersion": newest,
        "GitCommit": option_env!("CORTEN_COMMIT").unwrap_or_default(),
        "GoVersion": "",
        "Os": "linux",
        "Arch": arch(),
        "BuildTime": option_env!("CORTEN_BUILD_TIME").unwrap_or_default(),
        "Context": target.context,
    });
    Ok(fields.as_object().cloned().unwrap_or_default())
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn version(session: &Session, parsed: &Parsed) -> Result<()> {
    let server = match session.client() {
        Ok(client) => client.get::<Json>("/version", Query::new()).await.map(readable).map_err(Error::from),
        Err(err) => Err(err),
    };
    let client = client_side(session)?;
    match parsed.text("format") {
        None | Some("") => {
            let mut text = shown_client(session, &client);
            if let Ok(server) = &server {
                text.push_str(&shown_server(&serde_json::from_value(server.clone()).unwrap_or_default()));
            }
            session.out(&text)?;
        }
        Some(format) => {
            let value = json!({ "Client": client, "Server": server.as_ref().ok() });
            match detail("version", format, &Value::typed("system.versionInfo", &value)) {
                Ok(text) => session.line(&text)?,
                Err(err) => {
                    session.line("")?;
                    return Err(err);
                }
            }
        }
    }
    server.map(drop)
}

/// The answer with the components' build times as Docker shows them.
fn readable(mut server: Json) -> Json {
    let components = server.get_mut("Components").and_then(Json::as_array_mut);
    for component in components.into_iter().flatten() {
        if let Some(time) = component.get_mut("Details").and_then(|details| details.get_mut("BuildTime"))
            && let Some(text) = time.as_str().and_then(built)
        {
            *time = Json::String(text);
        }
    }
    server
}

/// `Thu May  7 21:09:36 2026`.
fn built(rfc3339: &str) -> Option<String> {
    let time: jiff::Timestamp = rfc3339.parse().ok()?;
    Some(time.strftime("%a %b %e %H:%M:%S %Y").to_string())
}

fn shown_client(session: &Session, client: &Map<String, Json>) -> String {
    let field = |key: &str| client.get(key).and_then(Json::as_str).unwrap_or_default();
    let name = if session.is_docker() { "Client:" } else { "Client: Corten" };
    let mut text = format!("{name}\n");
    let _ = writeln!(text, " Version:           {}", field("Version"));
    let spoken = field("ApiVersion");
    let newest = field("DefaultAPIVersion");
    let downgraded = if spoken == newest { String::new() } else { format!(" (downgraded from {newest})") };
    let _ = writeln!(text, " API version:       {spoken}{downgraded}");
    for (title, key) in [("Git commit:        ", "GitCommit"), ("Built:             ", "BuildTime")] {
        if !field(key).is_empty() {
            let _ = writeln!(text, " {title}{}", field(key));
        }
    }
    let _ = writeln!(text, " OS/Arch:           {}/{}", field("Os"), field("Arch"));
    let _ = writeln!(text, " Context:           {}", field("Context"));
    text
}

fn shown_server(server: &Version) -> String {
    let platform = server.platform.as_ref().map(|platform| platform.name.as_str()).unwrap_or_default();
    let mut text = format!("\nServer: {platform}").trim_end().to_owned();
    text.push('\n');
    let engine = Component {
        name: "Engine".into(),
        version: server.version.clone(),
        details: [
            ("ApiVersion", &server.api_version),
            ("MinAPIVersion", &server.min_api_version),
            ("GoVersion", &server.go_version),
            ("GitCommit", &server.git_commit),
            ("Os", &server.os),
            ("Arch", &server.arch),
            ("BuildTime", &server.build_time),
            ("Experimental", &server.experimental.to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect(),
    };
    let own = [engine];
    let components = if server.components.is_empty() { &own[..] } else { &server.components };
    for component in components {
        let _ = writeln!(text, " {}:", component.name);
        let detail = |key: &str| component.details.get(key).map(String::as_str).unwrap_or_default();
        if detail("ApiVersion").is_empty() {
            let _ = writeln!(text, "  Version:          {}", component.version);
            let _ = writeln!(text, "  GitCommit:        {}", detail("GitCommit"));
            continue;
        }
        let _ = writeln!(text, "  Version:          {}", component.version);
        let _ = writeln!(
            text,
            "  API version:      {} (minimum version {})",
            detail("ApiVersion"),
            detail("MinAPIVersion")
        );
        for (title, key) in [
            ("Go version:       ", "GoVersion"),
            ("Git commit:       ", "GitCommit"),
            ("Built:            ", "BuildTime"),
        ] {
            if !detail(key).is_empty() {
                let _ = writeln!(text, "  {title}{}", detail(key));
            }
        }
        let _ = writeln!(text, "  OS/Arch:          {}/{}", detail("Os"), detail("Arch"));
        let _ = writeln!(text, "  Experimental:     {}", detail("Experimental"));
    }
    text
}
