//! As a unit for Quadlet, the generator of Podman's services.

use super::{Recipe, flags};

/// Flags that have a key of their own.
const KEYS: [(&str, &str); 33] = [
    ("name", "ContainerName"),
    ("env", "Environment"),
    ("user", "User"),
    ("group-add", "GroupAdd"),
    ("workdir", "WorkingDir"),
    ("entrypoint", "Entrypoint"),
    ("stop-signal", "StopSignal"),
    ("stop-timeout", "StopTimeout"),
    ("label", "Label"),
    ("annotation", "Annotation"),
    ("log-driver", "LogDriver"),
    ("log-opt", "LogOpt"),
    ("volume", "Volume"),
    ("mount", "Mount"),
    ("secret", "Secret"),
    ("tmpfs", "Tmpfs"),
    ("shm-size", "ShmSize"),
    ("hostname", "HostName"),
    ("network", "Network"),
    ("publish", "PublishPort"),
    ("expose", "ExposeHostPort"),
    ("add-host", "AddHost"),
    ("dns", "DNS"),
    ("dns-option", "DNSOption"),
    ("dns-search", "DNSSearch"),
    ("cap-add", "AddCapability"),
    ("cap-drop", "DropCapability"),
    ("sysctl", "Sysctl"),
    ("userns", "UserNS"),
    ("memory", "Memory"),
    ("pids-limit", "PidsLimit"),
    ("ulimit", "Ulimit"),
    ("device", "AddDevice"),
];

/// Flags that a service does without: systemd holds it, and starts it again.
const NOT_OF_A_SERVICE: [&str; 4] = ["interactive", "tty", "rm", "restart"];

/// The unit, `NAME.container`.
pub(super) fn write(recipe: &Recipe) -> String {
    let mut unit = format!("[Unit]\nDescription={}\n\n[Container]\n", plain(&recipe.name));
    unit.push_str(&format!("Image={}\n", escaped(&recipe.image)));
    let words = flags::all(recipe);
    for word in &words.0 {
        if NOT_OF_A_SERVICE.contains(&word.flag) {
            continue;
        }
        let key = KEYS.iter().find(|(flag, _)| *flag == word.flag).map(|(_, key)| *key);
        let line = match (word.flag, key, &word.value) {
            ("read-only", _, None) => "ReadOnly=true".to_owned(),
            ("init", _, None) => "RunInit=true".to_owned(),
            ("env" | "label" | "annotation", Some(key), Some(value)) => format!("{key}={}", word_of(value)),
            (_, Some(key), Some(value)) => format!("{key}={}", escaped(value)),
            (flag, _, None) => format!("PodmanArgs=--{flag}"),
            (flag, _, Some(value)) => format!("PodmanArgs={}", word_of(&format!("--{flag}={value}"))),
        };
        unit.push_str(&line);
        unit.push('\n');
    }
    let (_, arguments) = recipe.program();
    if !arguments.is_empty() {
        let arguments: Vec<String> = arguments.iter().map(|word| word_of(word)).collect();
        unit.push_str(&format!("Exec={}\n", arguments.join(" ")));
    }
    let restart = match recipe.host.restart_policy.name.as_str() {
        "always" | "unless-stopped" => Some("always"),
        "on-failure" => Some("on-failure"),
        _ => None,
    };
    if let Some(restart) = restart {
        unit.push_str(&format!("\n[Service]\nRestart={restart}\n"));
    }
    if matches!(restart, Some("always")) {
        unit.push_str("\n[Install]\nWantedBy=default.target\n");
    }
    unit
}

fn plain(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// A value that is not cut into words: `%` begins a specifier of systemd.
fn escaped(text: &str) -> String {
    plain(text).replace('%', "%%")
}

/// A word of a line that systemd cuts into words.
fn word_of(text: &str) -> String {
    let text = text.replace('%', "%%").replace('$', "$$");
    if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "\"'\\;".contains(c)) {
        return text;
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{text}\"")
}
