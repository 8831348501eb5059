//! As a pod for Kubernetes: what a pod has no word for is refused where it would be another container without it.

mod probe;
mod refusal;
mod security;
mod volumes;

use api::container::HostConfig;
use serde_json::{Map, Value, json};

use super::{Recipe, flags, yaml};
use crate::error::Result;
use volumes::Volumes;

/// The manifest.
pub(super) fn write(recipe: &Recipe) -> Result<String> {
    refusal::check(recipe)?;
    let (config, host) = (&recipe.config, &recipe.host);
    let name = label(&recipe.name);
    let mut container = Map::new();
    container.insert("name".into(), json!(name));
    container.insert("image".into(), json!(recipe.image));
    let mut put = |key: &str, value: Value, given: bool| {
        if given {
            container.insert(key.to_owned(), value);
        }
    };
    let (command, args) = program(recipe);
    put("command", json!(command), !command.is_empty());
    put("args", json!(args), !args.is_empty());
    let env = config.env.iter().filter_map(|entry| entry.split_once('='));
    let env: Vec<Value> = env.map(|(name, value)| json!({"name": name, "value": dollars(value)})).collect();
    put("env", json!(env), !env.is_empty());
    put("workingDir", json!(config.working_dir), !config.working_dir.is_empty());
    put("stdin", json!(true), config.open_stdin);
    put("tty", json!(true), config.tty);
    let ports = ports(recipe)?;
    put("ports", json!(ports), !ports.is_empty());
    let Volumes { mounts, volumes } = Volumes::of(recipe)?;
    put("volumeMounts", json!(mounts), !mounts.is_empty());
    let resources = resources(recipe)?;
    put("resources", Value::Object(resources.clone()), !resources.is_empty());
    if let Some(probe) = probe::of(recipe)? {
        put("readinessProbe", probe, true);
    }
    let context = security::of_container(recipe)?;
    put("securityContext", Value::Object(context.clone()), !context.is_empty());
    let mut spec = Map::from_iter([("containers".to_owned(), json!([container]))]);
    if !volumes.is_empty() {
        spec.insert("volumes".into(), json!(volumes));
    }
    spec.extend(pod(recipe)?);
    let annotations: Map<String, Value> = config
        .labels
        .iter()
        .chain(&host.annotations)
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), Value::Object(annotations));
    }
    Ok(yaml::write(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})))
}

/// What is the pod's and not its container's.
fn pod(recipe: &Recipe) -> Result<Map<String, Value>> {
    let (config, host) = (&recipe.config, &recipe.host);
    let mut spec = Map::new();
    let mut put = |key: &str, value: Value, given: bool| {
        if given {
            spec.insert(key.to_owned(), value);
        }
    };
    let policy = match host.restart_policy.name.as_str() {
        "always" | "unless-stopped" => "Always",
        "on-failure" => "OnFailure",
        _ => "Never",
    };
    put("restartPolicy", json!(policy), true);
    put("hostname", json!(config.hostname), !config.hostname.is_empty());
    put("hostNetwork", json!(true), host.network_mode == "host");
    put("hostPID", json!(true), host.pid_mode == "host");
    put("hostIPC", json!(true), host.ipc_mode == "host");
    put("terminationGracePeriodSeconds", json!(config.stop_timeout), config.stop_timeout.is_some());
    let hosts: Vec<Value> = host
        .extra_hosts
        .iter()
        .filter_map(|entry| entry.split_once(':'))
        .map(|(name, ip)| json!({"ip": ip, "hostnames": [name]}))
        .collect();
    put("hostAliases", json!(hosts), !hosts.is_empty());
    // What is said stands instead of the cluster's.
    put("dnsPolicy", json!("None"), !host.dns.is_empty());
    let dns = names(host);
    put("dnsConfig", Value::Object(dns.clone()), !dns.is_empty());
    let context = security::of_pod(recipe)?;
    put("securityContext", Value::Object(context.clone()), !context.is_empty());
    Ok(spec)
}

/// The program and its arguments. No program at all is one that the image's must not stand before.
fn program(recipe: &Recipe) -> (Vec<String>, Vec<String>) {
    let written = |words: &[String]| words.iter().map(|word| dollars(word)).collect::<Vec<_>>();
    match recipe.entrypoint.as_deref() {
        Some(words) if words.iter().all(String::is_empty) => (written(&recipe.command), Vec::new()),
        Some(words) => (written(words), written(&recipe.command)),
        None => (Vec::new(), written(&recipe.command)),
    }
}

/// `$(NAME)` is a variable's value, and `$$` a `$`.
fn dollars(text: &str) -> String {
    if text.contains("$(") || text.contains("$$") { text.replace('$', "$$") } else { text.to_owned() }
}

/// A name as Kubernetes has them.
fn label(name: &str) -> String {
    let name: String = name
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    name.trim_matches('-').to_owned()
}

fn ports(recipe: &Recipe) -> Result<Vec<Value>> {
    let mut ports = Vec::new();
    for (port, bindings) in &recipe.host.port_bindings {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        for binding in bindings.iter().flatten() {
            let mut one = Map::new();
            one.insert("containerPort".into(), json!(number.parse::<u16>().unwrap_or_default()));
            one.insert("protocol".into(), json!(protocol.to_uppercase()));
            let is_range = binding.host_port.contains('-');
            recipe.refuse(refusal::FORM, [(is_range, "a port out of several (--publish FROM-TO)")])?;
            if let Ok(port) = binding.host_port.parse::<u16>() {
                one.insert("hostPort".into(), json!(port));
            }
            if !binding.host_ip.is_empty() {
                one.insert("hostIP".into(), json!(binding.host_ip));
            }
            ports.push(Value::Object(one));
        }
    }
    Ok(ports)
}

/// Bounds, and what is asked for at least.
fn resources(recipe: &Recipe) -> Result<Map<String, Value>> {
    let given = &recipe.host.resources;
    let (mut limits, mut requests) = (Map::new(), Map::new());
    if given.memory > 0 {
        limits.insert("memory".into(), json!(given.memory.to_string()));
    }
    if given.nano_cpus > 0 {
        limits.insert("cpu".into(), json!(flags::cpus(given.nano_cpus)));
    }
    if given.memory_reservation > 0 {
        requests.insert("memory".into(), json!(given.memory_reservation.to_string()));
    }
    if given.cpu_shares > 0 {
        // A whole processor has 1024 of them.
        let thousandths = given.cpu_shares.saturating_mul(1000).saturating_add(1023) / 1024;
        let is_above = given.nano_cpus > 0 && thousandths > given.nano_cpus / 1_000_000;
        recipe
            .refuse(refusal::FORM, [(is_above, "more shares than processors (--cpu-shares above --cpus)")])?;
        requests.insert("cpu".into(), json!(format!("{thousandths}m")));
    }
    let all = [("limits", limits), ("requests", requests)];
    let given = all.into_iter().filter(|(_, values)| !values.is_empty());
    Ok(given.map(|(key, values)| (key.to_owned(), Value::Object(values))).collect())
}

/// Where names are looked up.
fn names(host: &HostConfig) -> Map<String, Value> {
    let mut dns = Map::new();
    for (key, list) in [("nameservers", &host.dns), ("searches", &host.dns_search)] {
        if !list.is_empty() {
            dns.insert(key.into(), json!(list));
        }
    }
    let options = host.dns_options.iter().map(|option| match option.split_once(':') {
        Some((name, value)) => json!({"name": name, "value": value}),
        None => json!({"name": option}),
    });
    let options: Vec<Value> = options.collect();
    if !options.is_empty() {
        dns.insert("options".into(), json!(options));
    }
    dns
}

#[cfg(test)]
mod tests;
