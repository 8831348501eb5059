//! Instructions that change the configuration of the image alone.

use oci::image::config::Empty;
use oci::image::{ContainerConfig, Healthcheck};

use super::State;
use super::commands::SHELL;
use crate::dockerfile::instruction::{self, Command, CommandLine, Word};

/// Applies an instruction with the values of its variables, and notes it in the history.
pub(super) fn apply(state: &mut State, command: &Command, now: &str) -> Result<(), String> {
    let mut told = configure(&mut state.config.config, command, &mut state.cmd_set)?;
    match command {
        Command::Maintainer(word) => {
            state.config.author = Some(word.text.clone());
            told = Some(format!("MAINTAINER {}", word.text));
        }
        Command::Arg(arguments) => {
            let words: Vec<String> = arguments
                .iter()
                .map(|argument| {
                    let name = &argument.name.text;
                    match state.scope.arguments.get(name) {
                        Some(value) => format!("{name}={value}"),
                        None => name.clone(),
                    }
                })
                .collect();
            told = Some(format!("ARG {}", words.join(" ")));
        }
        _ => {}
    }
    if let Some(told) = told {
        state.note(told, now, None);
    }
    Ok(())
}

/// Applies an instruction to a configuration; how the history tells it. Nothing for one that changes no configuration.
pub fn configure(
    config: &mut ContainerConfig,
    command: &Command,
    cmd_set: &mut bool,
) -> Result<Option<String>, String> {
    let shell = config.shell.clone().filter(|shell| !shell.is_empty());
    let shell = shell.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
    let told = match command {
        Command::Cmd(line) => {
            let words = arguments(line, &shell);
            let told = format!("CMD {}", json(&words));
            config.cmd = Some(words);
            config.args_escaped = false;
            *cmd_set = true;
            told
        }
        Command::Entrypoint(line) => {
            let words = arguments(line, &shell);
            let told = format!("ENTRYPOINT {}", json(&words));
            config.entrypoint = Some(words).filter(|words| !words.is_empty());
            // Arguments that were meant for another program.
            if !*cmd_set {
                config.cmd = None;
            }
            told
        }
        Command::Env(pairs) => {
            for pair in pairs {
                set(&mut config.env, &pair.name.text, &pair.value.text);
            }
            let words = pairs.iter().map(|pair| format!(" {}={}", pair.name.text, pair.value.text));
            format!("ENV{}", words.collect::<String>())
        }
        Command::Label(pairs) => {
            let both = pairs.iter().map(|pair| (pair.name.text.clone(), pair.value.text.clone()));
            config.labels.extend(both);
            let words = pairs.iter().map(|pair| format!(" {}={}", pair.name.text, pair.value.text));
            format!("LABEL{}", words.collect::<String>())
        }
        Command::Expose(words) => {
            let mut all = Vec::new();
            for word in words {
                all.extend(ports(&word.text)?);
            }
            config.exposed_ports.extend(all.iter().map(|port| (port.clone(), Empty)));
            format!("EXPOSE [{}]", all.join(" "))
        }
        Command::Volume(words) => {
            let paths: Vec<&str> = words.iter().map(|word| word.text.trim()).collect();
            if paths.contains(&"") {
                return Err("VOLUME specified can not be an empty string".to_owned());
            }
            config.volumes.extend(paths.iter().map(|path| ((*path).to_owned(), Empty)));
            format!("VOLUME [{}]", paths.join(" "))
        }
        Command::User(word) => {
            config.user.clone_from(&word.text);
            format!("USER {}", word.text)
        }
        Command::StopSignal(word) => {
            check_signal(&word.text)?;
            config.stop_signal.clone_from(&word.text);
            format!("STOPSIGNAL {}", word.text)
        }
        Command::Shell(words) => {
            let words = texts(words);
            let told = format!("SHELL [{}]", words.join(" "));
            config.shell = Some(words);
            told
        }
        Command::OnBuild(trigger) => {
            config.on_build.push(trigger.expression.clone());
            format!("ONBUILD {}", trigger.expression)
        }
        Command::Healthcheck(check) => {
            let check = healthcheck(check);
            let told = format!("HEALTHCHECK {}", json(&check.test));
            config.healthcheck = Some(check);
            told
        }
        _ => return Ok(None),
    };
    Ok(Some(told))
}

/// Which word of an instruction that cannot be applied is wrong, and what should be there.
pub(super) fn wrong(command: &Command) -> (Option<&Word>, Option<String>) {
    let (word, expected) = match command {
        Command::Expose(words) => (
            words.iter().find(|word| ports(&word.text).is_err()),
            "port[-port][/tcp|udp|sctp], ports up to 65535",
        ),
        Command::StopSignal(word) => (Some(word), "a signal as SIGTERM or 15"),
        Command::Volume(words) => (words.iter().find(|word| word.text.trim().is_empty()), "a path"),
        _ => return (None, None),
    };
    (word, Some(expected.to_owned()))
}

fn texts(words: &[Word]) -> Vec<String> {
    words.iter().map(|word| word.text.clone()).collect()
}

fn arguments(line: &CommandLine, shell: &[String]) -> Vec<String> {
    match line {
        CommandLine::Exec(words) => texts(words),
        CommandLine::Shell(word) => shell.iter().cloned().chain([word.text.clone()]).collect(),
    }
}

fn json(words: &[String]) -> String {
    // Strings can always be written.
    serde_json::to_string(words).unwrap_or_default()
}

fn set(environment: &mut Vec<String>, name: &str, value: &str) {
    let entry = format!("{name}={value}");
    match environment.iter_mut().find(|known| known.split('=').next() == Some(name)) {
        Some(known) => *known = entry,
        None => environment.push(entry),
    }
}

fn healthcheck(check: &instruction::Healthcheck) -> Healthcheck {
    let instruction::Healthcheck::Command(check) = check else {
        return Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
    };
    let test = match &check.line {
        CommandLine::Exec(words) => std::iter::once("CMD".to_owned()).chain(texts(words)).collect(),
        CommandLine::Shell(word) => vec!["CMD-SHELL".to_owned(), word.text.clone()],
    };
    Healthcheck {
        test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: i64::from(check.retries),
    }
}

/// `80`, `80/udp`, `8000-8010/tcp`; what stands before a colon is the host's, and means nothing here.
fn ports(text: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("invalid containerPort: {text}");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    if ports.is_empty() {
        return Err(format!("no port specified: {text}<empty>"));
    }
    let number = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = match ports.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(ports)?, number(ports)?),
    };
    if last < first {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A signal's number, or its name with or without `SIG`.
fn check_signal(text: &str) -> Result<(), String> {
    const NAMES: [&str; 33] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.starts_with("RTMIN") || name.starts_with("RTMAX") || name == "XFSZ";
    let number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    if number || real_time || NAMES.contains(&name) {
        return Ok(());
    }
    Err(format!("Invalid signal: {text}"))
}
