//! A health check as a probe of readiness: one of liveness would end what is unhealthy, which the engine does not.

use api::container::HealthConfig;
use serde_json::{Map, Value, json};

use super::{dollars, refusal};
use crate::error::{Error, Result};
use crate::recipe::Recipe;

/// What the engine takes where nobody says; a pod takes less.
const PERIOD_SECONDS: i64 = 30;
const FAILURES: i64 = 3;

/// The probe, if there is a check. A pod looks at none that its image says, so that one is written too.
pub(super) fn of(recipe: &Recipe) -> Result<Option<Value>> {
    let Some(health) = &recipe.health else { return Ok(None) };
    let (key, action) = match health.test.as_slice() {
        [] => return Ok(None),
        [word] if word == "NONE" => return Ok(None),
        [word, line] if word == "CMD-SHELL" => {
            let shell = &recipe.config.shell;
            let shell = if shell.is_empty() { &["/bin/sh".to_owned(), "-c".to_owned()][..] } else { shell };
            ("exec", command(shell.iter().chain([line])))
        }
        [word, program @ ..] if word == "CMD" => ("exec", command(program)),
        [word, address] if word == "HTTP" => ("httpGet", page(recipe, address)?),
        [word, address] if word == "TCP" => {
            let port = port(recipe, address.strip_prefix("tcp://").unwrap_or(address))?;
            ("tcpSocket", json!({"port": port.ok_or_else(|| unreadable(recipe, address))?}))
        }
        _ => return Err(unreadable(recipe, &health.test.join(" "))),
    };
    let mut probe = Map::from_iter([(key.to_owned(), action)]);
    times(&mut probe, health);
    Ok(Some(Value::Object(probe)))
}

fn command<'a>(words: impl IntoIterator<Item = &'a String>) -> Value {
    json!({"command": words.into_iter().map(|word| dollars(word)).collect::<Vec<_>>()})
}

fn times(probe: &mut Map<String, Value>, health: &HealthConfig) {
    // A pod counts in whole seconds: what is between two is the later.
    let seconds = |time: i64| time.saturating_add(999_999_999) / 1_000_000_000;
    let or = |value: i64, default: i64| if value > 0 { value } else { default };
    // Nothing is asked at the start, so how often that would be has no word and needs none.
    if health.start_period > 0 {
        probe.insert("initialDelaySeconds".into(), json!(seconds(health.start_period)));
    }
    probe.insert("periodSeconds".into(), json!(or(seconds(health.interval), PERIOD_SECONDS)));
    probe.insert("timeoutSeconds".into(), json!(or(seconds(health.timeout), PERIOD_SECONDS)));
    probe.insert("failureThreshold".into(), json!(or(health.retries, FAILURES)));
}

fn page(recipe: &Recipe, address: &str) -> Result<Value> {
    let rest = address.strip_prefix("http://").ok_or_else(|| unreadable(recipe, address))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let port = port(recipe, host)?;
    Ok(json!({"path": path, "port": port.unwrap_or(80)}))
}

/// The port of an address. A pod is asked at its own address; the host of another is not there.
fn port(recipe: &Recipe, text: &str) -> Result<Option<u16>> {
    let wrong = || unreadable(recipe, text);
    let at = match text.strip_prefix('[') {
        Some(_) => text.find(']').map(|end| end + 1).ok_or_else(wrong)?,
        None => text.find(':').unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(at);
    let is_own = host.is_empty() || host == "localhost" || host == "[::1]" || host.starts_with("127.");
    recipe.refuse(refusal::FORM, [(!is_own, "health checks of other addresses than localhost")])?;
    let port = port.strip_prefix(':').map(str::parse).transpose().map_err(|_| wrong())?;
    Ok(port)
}

fn unreadable(recipe: &Recipe, text: &str) -> Error {
    Error::Message(format!("{}: cannot read the health check {text}", recipe.name))
}
