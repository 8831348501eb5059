//! Instructions of Dockerfiles that change an image's configuration: what `--change` of `commit` and `import` takes.
//!
//! The text is a Dockerfile without `FROM`: lines, comments, continued lines, exec form and shell form, quotes and variables as
//! there, errors in the same words.

mod health;
mod lines;
mod ports;
mod words;

use oci::image::ContainerConfig;
use oci::image::config::Empty;

use crate::error::{Error, Result};
use crate::signals;
use lines::Line;
use words::{expand, process};

/// Bytes of all changes together: a Dockerfile of this size does not exist.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// The shell of shell forms where the image names no other.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Applies changes, in order.
pub fn apply(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let text = changes.join("\n");
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::invalid(format!("changes are longer than {TEXT_BYTES_MAX} bytes")));
    }
    let mut cmd_set = false;
    for line in lines::parse(&text)? {
        one(config, &line, &mut cmd_set)?;
    }
    Ok(())
}

fn one(config: &mut ContainerConfig, line: &Line, cmd_set: &mut bool) -> Result<()> {
    let name = line.name.to_ascii_uppercase();
    if name != "HEALTHCHECK" {
        line.no_flags()?;
    }
    match name.as_str() {
        "CMD" => {
            config.cmd = Some(line.command(&shell(config)));
            *cmd_set = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = Some(line.command(&shell(config))).filter(|words| !words.is_empty());
            // Arguments that were meant for another program.
            if !*cmd_set {
                config.cmd = None;
            }
        }
        "ENV" => {
            for (name, value) in pairs(config, line)? {
                set_environment(&mut config.env, &name, &value);
            }
        }
        "LABEL" => {
            let pairs = pairs(config, line)?;
            config.labels.extend(pairs);
        }
        "EXPOSE" => {
            let words = expanded(config, &line.words())?;
            line.at_least_one(&words)?;
            for word in words {
                for port in ports::parse(&word)? {
                    config.exposed_ports.insert(port, Empty);
                }
            }
        }
        "VOLUME" => {
            let given = line.json().unwrap_or_else(|| line.words());
            line.at_least_one(&given)?;
            for path in expanded(config, &given)? {
                let path = path.trim();
                if path.is_empty() {
                    return Err(Error::invalid("VOLUME specified can not be an empty string"));
                }
                config.volumes.insert(path.to_owned(), Empty);
            }
        }
        "USER" => config.user = exactly_one(config, line)?,
        "STOPSIGNAL" => {
            let text = exactly_one(config, line)?;
            signals::parse(&text)?;
            config.stop_signal = text;
        }
        "WORKDIR" => config.working_dir = directory(&config.working_dir, &exactly_one(config, line)?),
        "ONBUILD" => config.on_build.push(trigger(line)?),
        "HEALTHCHECK" => config.healthcheck = Some(health::parse(line, &shell(config))?),
        _ => return Err(Error::invalid(format!("{} is not a valid change command", line.name))),
    }
    Ok(())
}

fn shell(config: &ContainerConfig) -> Vec<String> {
    match &config.shell {
        Some(shell) if !shell.is_empty() => shell.clone(),
        _ => SHELL.map(str::to_owned).to_vec(),
    }
}

fn expanded(config: &ContainerConfig, words: &[String]) -> Result<Vec<String>> {
    // One word may become several, as in a shell.
    let lists = words.iter().map(|word| expand(word, &config.env)).collect::<Result<Vec<_>>>()?;
    Ok(lists.into_iter().flatten().collect())
}

fn exactly_one(config: &ContainerConfig, line: &Line) -> Result<String> {
    if line.rest.is_empty() {
        return Err(Error::invalid(format!("{} requires exactly one argument", line.upper())));
    }
    process(&line.rest, &config.env)
}

/// `name=value …`, or `name the value`.
fn pairs(config: &ContainerConfig, line: &Line) -> Result<Vec<(String, String)>> {
    let name = line.upper();
    let words = line.words();
    line.at_least_one(&words)?;
    let raw = if words[0].contains('=') {
        let split = |word: &String| {
            word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| {
                line.error(&format!(
                    "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
                ))
            })
        };
        words.iter().map(split).collect::<Result<Vec<_>>>()?
    } else {
        let mut parts = line.rest.splitn(2, char::is_whitespace);
        match (parts.next(), parts.next().map(str::trim_start).filter(|value| !value.is_empty())) {
            (Some(key), Some(value)) => vec![(key.to_owned(), value.to_owned())],
            _ => return Err(line.error(&format!("{name} must have two arguments"))),
        }
    };
    raw.into_iter()
        .map(|(key, value)| {
            let key = process(&key, &config.env)?;
            if key.is_empty() {
                return Err(Error::invalid(format!("{name} names can not be blank")));
            }
            Ok((key, process(&value, &config.env)?))
        })
        .collect()
}

fn set_environment(env: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    let known = env.iter_mut().find(|known| known.split('=').next() == Some(name));
    match known {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
}

/// The working directory after one that was there before.
fn directory(before: &str, asked: &str) -> String {
    let joined = if asked.starts_with('/') { asked.to_owned() } else { format!("/{before}/{asked}") };
    let clean = sys::path::normalize(std::path::Path::new(&joined));
    format!("/{}", clean.display())
}

/// What a build on top of the image is to do.
fn trigger(line: &Line) -> Result<String> {
    let word = line.rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    match word.as_str() {
        "" => Err(Error::invalid("ONBUILD requires at least one argument")),
        "ONBUILD" => Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        "MAINTAINER" | "FROM" => Err(Error::invalid(format!("{word} isn't allowed as an ONBUILD trigger"))),
        _ => Ok(line.rest.clone()),
    }
}

#[cfg(test)]
mod tests;
