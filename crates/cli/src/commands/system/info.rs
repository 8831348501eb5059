//! `info`.

use api::system::Info;
use client::query::Query;
use serde_json::{Value as Json, json};
use std::fmt::Write;

use crate::command::{Command, Example};
use crate::error::{Error, Result, told};
use crate::flags::{Group, Parsed};
use crate::format::{FORMAT, detail};
use crate::plugins::{self, Plugin};
use crate::session::{self, Session};
use crate::template::Value;
use crate::units::memory;

/// `info`.
pub const COMMAND: Command = Command {
    name: "info",
    also: &["system info", "info"],
    usage: "[OPTIONS]",
    about: "Display information about the engine and its host",
    flags: &[Group { title: "", flags: &[FORMAT] }],
    examples: &[Example { about: "One thing", line: "info -f '{{.CgroupVersion}}'" }],
    ..Command::leaf(|session, parsed| Box::pin(info(session, parsed)))
};

async fn info(session: &Session, parsed: &Parsed) -> Result<()> {
    let answer = match session.client() {
        Ok(client) => client.get::<Json>("/info", Query::new()).await.map_err(Error::from),
        Err(err) => Err(err),
    };
    let plugins = plugins::all(session);
    let context = super::super::context::current(session)?;
    match parsed.text("format") {
        None | Some("") => {
            session.out(client_side(session, &context, &plugins))?;
            let info: Info = match answer {
                Ok(json) => serde_json::from_value(json).map_err(|err| {
                    Error::Message(format!("the daemon's answer is not what it should be: {err}"))
                })?,
                Err(err) => {
                    session.out("\nServer:\n")?;
                    session.note(&told(&err));
                    session.note("errors pretty printing info");
                    return Err(Error::Exit(1));
                }
            };
            session.out(server_side(&info))?;
            for warning in &info.warnings {
                session.note(warning);
            }
            Ok(())
        }
        Some(format) => {
            let mut whole = answer?;
            if let Some(fields) = whole.as_object_mut() {
                let plugins: Vec<_> = plugins
                    .iter()
                    .map(|plugin| {
                        json!({
                            "SchemaVersion": "0.1.0", "Vendor": plugin.vendor, "Version": plugin.version,
                            "ShortDescription": plugin.about, "Name": plugin.name, "Path": plugin.path,
                        })
                    })
                    .collect();
                let client = json!({
                    "Debug": session.debug, "Version": session::VERSION, "Context": context, "Plugins": plugins,
                    "Warnings": null,
                });
                fields.insert("ClientInfo".into(), client);
            }
            let text = detail("", format, &Value::typed("system.dockerInfo", &whole));
            if let Err(Error::Message(_)) = &text {
                // Docker ends the line that it had begun.
                session.line("")?;
            }
            session.line(&text?)
        }
    }
}

fn client_side(session: &Session, context: &str, plugins: &[Plugin]) -> String {
    let name = if session.is_docker() { "Client:" } else { "Client: Corten" };
    let mut text = format!(
        "{name}\n Version:    {}\n Context:    {context}\n Debug Mode: {}\n",
        session::VERSION,
        session.debug
    );
    if !plugins.is_empty() {
        text.push_str(" Plugins:\n");
        for plugin in plugins {
            let _ = writeln!(text, "  {}: {} ({})", plugin.name, plugin.about, plugin.vendor);
            let _ =
                writeln!(text, "    Version:  {}\n    Path:     {}", plugin.version, plugin.path.display());
        }
    }
    text
}

fn server_side(info: &Info) -> String {
    let mut text = String::from("\nServer:\n");
    let _ = writeln!(text, " Containers: {}", info.containers);
    let _ = writeln!(
        text,
        "  Running: {}\n  Paused: {}\n  Stopped: {}",
        info.containers_running, info.containers_paused, info.containers_stopped
    );
    let _ = writeln!(text, " Images: {}", info.images);
    let mut field = |title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, " {title}: {value}");
        }
    };
    field("Server Version", &info.server_version);
    field("Storage Driver", &info.driver);
    for [name, value] in &info.driver_status {
        let _ = writeln!(text, "  {name}: {value}");
    }
    let mut field = |title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, " {title}: {value}");
        }
    };
    field("Logging Driver", &info.logging_driver);
    field("Cgroup Driver", &info.cgroup_driver);
    field("Cgroup Version", &info.cgroup_version);
    let plugins = &info.plugins;
    let _ = writeln!(
        text,
        " Plugins:\n  Volume: {}\n  Network: {}",
        plugins.volume.join(" "),
        plugins.network.join(" ")
    );
    if !plugins.authorization.is_empty() {
        let _ = writeln!(text, "  Authorization: {}", plugins.authorization.join(" "));
    }
    let _ = writeln!(text, "  Log: {}", plugins.log.join(" "));
    if !info.cdi_spec_dirs.is_empty() {
        let _ = writeln!(text, " CDI spec directories:");
        for folder in &info.cdi_spec_dirs {
            let _ = writeln!(text, "  {folder}");
        }
    }
    if !info.discovered_devices.is_empty() {
        let _ = writeln!(text, " Discovered Devices:");
        for device in &info.discovered_devices {
            let _ = writeln!(text, "  {}: {}", device.source, device.id);
        }
    }
    if !info.swarm.local_node_state.is_empty() {
        let _ = writeln!(text, " Swarm: {}", info.swarm.local_node_state);
    }
    platform(&mut text, info);
    tail(&mut text, info);
    text
}

fn platform(text: &mut String, info: &Info) {
    if !info.runtimes.is_empty() {
        let names: Vec<_> = info.runtimes.keys().map(String::as_str).collect();
        let _ = writeln!(text, " Runtimes: {}\n Default Runtime: {}", names.join(" "), info.default_runtime);
    }
    let mut field = |title: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, " {title}: {value}");
        }
    };
    field("Init Binary", &info.init_binary);
    field("containerd version", &info.containerd_commit.id);
    field("runc version", &info.runc_commit.id);
    field("init version", &info.init_commit.id);
    if !info.security_options.is_empty() {
        text.push_str(" Security Options:\n");
        for option in &info.security_options {
            for (index, part) in option.split(',').enumerate() {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                if index == 0 {
                    let _ = writeln!(text, "  {}", if key == "name" { value } else { part });
                } else if key == "profile" {
                    let _ = writeln!(text, "   Profile: {value}");
                } else {
                    let _ = writeln!(text, "   {part}");
                }
            }
        }
    }
}

fn tail(text: &mut String, info: &Info) {
    let _ = writeln!(text, " Kernel Version: {}", info.kernel_version);
    let _ = writeln!(text, " Operating System: {}", info.operating_system);
    let _ = writeln!(text, " OSType: {}\n Architecture: {}", info.os_type, info.architecture);
    let _ = writeln!(text, " CPUs: {}\n Total Memory: {}", info.n_cpu, memory(info.mem_total));
    let _ = writeln!(text, " Name: {}\n ID: {}", info.name, info.id);
    let _ = writeln!(text, " Docker Root Dir: {}\n Debug Mode: {}", info.docker_root_dir, info.debug);
    for (title, value) in
        [("HTTP Proxy", &info.http_proxy), ("HTTPS Proxy", &info.https_proxy), ("No Proxy", &info.no_proxy)]
    {
        if !value.is_empty() {
            let _ = writeln!(text, " {title}: {value}");
        }
    }
    if !info.labels.is_empty() {
        let _ = writeln!(text, " Labels:\n  {}", info.labels.join("\n  "));
    }
    let _ = writeln!(text, " Experimental: {}", info.experimental_build);
    if let Some(registry) = &info.registry_config {
        let mut insecure: Vec<_> = registry
            .index_configs
            .values()
            .filter(|index| !index.secure)
            .map(|index| index.name.as_str())
            .collect();
        insecure.extend(registry.insecure_registry_cidrs.iter().map(String::as_str));
        if !insecure.is_empty() {
            let _ = writeln!(text, " Insecure Registries:\n  {}", insecure.join("\n  "));
        }
        if !registry.mirrors.is_empty() {
            let _ = writeln!(text, " Registry Mirrors:\n  {}", registry.mirrors.join("\n  "));
        }
    }
    let _ = writeln!(text, " Live Restore Enabled: {}", info.live_restore_enabled);
    if let Some(firewall) = &info.firewall_backend {
        let _ = writeln!(text, " Firewall Backend: {}", firewall.driver);
    }
    text.push('\n');
}
