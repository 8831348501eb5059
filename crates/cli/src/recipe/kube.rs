//! As a pod for Kubernetes: what a pod has no word for is refused where it would be another container without it.

use api::container::HostConfig;
use serde_json::{Map, Value, json};

use super::{Recipe, yaml};
use crate::error::{Error, Result};

/// The manifest.
pub(super) fn write(recipe: &Recipe) -> Result<String> {
    refuse(recipe)?;
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
    put(
        "command",
        json!(recipe.entrypoint),
        recipe.entrypoint.as_ref().is_some_and(|words| !words.is_empty()),
    );
    put("args", json!(recipe.command), !recipe.command.is_empty());
    let env = config.env.iter().filter_map(|entry| entry.split_once('='));
    let env: Vec<Value> = env.map(|(name, value)| json!({"name": name, "value": dollars(value)})).collect();
    put("env", json!(env), !env.is_empty());
    put("workingDir", json!(config.working_dir), !config.working_dir.is_empty());
    put("stdin", json!(true), config.open_stdin);
    put("tty", json!(true), config.tty);
    let ports = ports(host);
    put("ports", json!(ports), !ports.is_empty());
    let (mounts, volumes) = volumes(recipe)?;
    put("volumeMounts", json!(mounts), !mounts.is_empty());
    let limits = limits(host);
    put("resources", json!({ "limits": limits }), !limits.is_empty());
    let context = context(recipe)?;
    put("securityContext", Value::Object(context.clone()), !context.is_empty());

    let mut spec = Map::new();
    spec.insert("containers".into(), json!([container]));
    let mut put = |key: &str, value: Value, given: bool| {
        if given {
            spec.insert(key.to_owned(), value);
        }
    };
    put("volumes", json!(volumes), !volumes.is_empty());
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
    let mut dns = Map::new();
    for (key, list) in [("nameservers", &host.dns), ("searches", &host.dns_search)] {
        if !list.is_empty() {
            dns.insert(key.into(), json!(list));
        }
    }
    put("dnsConfig", Value::Object(dns.clone()), !dns.is_empty());

    let mut metadata = Map::from_iter([("name".to_owned(), json!(name))]);
    let annotations: Map<String, Value> = config
        .labels
        .iter()
        .chain(&host.annotations)
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    if !annotations.is_empty() {
        metadata.insert("annotations".into(), Value::Object(annotations));
    }
    Ok(yaml::write(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})))
}

/// `$(NAME)` is another variable's value.
fn dollars(text: &str) -> String {
    text.replace("$(", "$$(")
}

fn refuse(recipe: &Recipe) -> Result<()> {
    let host = &recipe.host;
    let others = [&host.network_mode, &host.pid_mode, &host.ipc_mode]
        .into_iter()
        .any(|mode| mode.starts_with("container:"));
    for (given, what) in [
        (others, "namespaces of other containers"),
        (!host.volumes_from.is_empty(), "volumes of other containers (--volumes-from)"),
        (
            !host.resources.devices.is_empty() || !host.resources.device_requests.is_empty(),
            "devices of the host (--device, --gpus)",
        ),
        (!host.links.is_empty(), "links (--link)"),
        (!host.secrets.is_empty(), "secrets of this engine (--secret)"),
    ] {
        if given {
            return Err(Error::Message(format!(
                "{}: a pod of Kubernetes has no word for {what}",
                recipe.name
            )));
        }
    }
    Ok(())
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

fn ports(host: &HostConfig) -> Vec<Value> {
    let mut ports = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        for binding in bindings.iter().flatten() {
            let mut one = Map::new();
            one.insert("containerPort".into(), json!(number.parse::<u16>().unwrap_or_default()));
            one.insert("protocol".into(), json!(protocol.to_uppercase()));
            if let Ok(port) = binding.host_port.parse::<u16>() {
                one.insert("hostPort".into(), json!(port));
            }
            if !binding.host_ip.is_empty() {
                one.insert("hostIP".into(), json!(binding.host_ip));
            }
            ports.push(Value::Object(one));
        }
    }
    ports
}

/// Where volumes are mounted, and what they are.
fn volumes(recipe: &Recipe) -> Result<(Vec<Value>, Vec<Value>)> {
    let host = &recipe.host;
    let (mut mounts, mut volumes) = (Vec::new(), Vec::new());
    let mut add = |target: &str, read_only: bool, what: Value| {
        let name = format!("volume-{}", volumes.len());
        let mut mount =
            Map::from_iter([("name".to_owned(), json!(name)), ("mountPath".to_owned(), json!(target))]);
        if read_only {
            mount.insert("readOnly".into(), json!(true));
        }
        mounts.push(Value::Object(mount));
        let mut volume = Map::from_iter([("name".to_owned(), json!(name))]);
        volume.extend(what.as_object().cloned().unwrap_or_default());
        volumes.push(Value::Object(volume));
    };
    let source = |source: &str| match source {
        "" => json!({"emptyDir": {}}),
        path if path.starts_with('/') => json!({"hostPath": {"path": path}}),
        name => json!({"persistentVolumeClaim": {"claimName": label(name)}}),
    };
    for bind in &host.binds {
        let parts: Vec<&str> = bind.split(':').collect();
        let (from, target, mode) = match parts[..] {
            [target] => ("", target, ""),
            [from, target] => (from, target, ""),
            [from, target, mode] => (from, target, mode),
            _ => return Err(Error::Message(format!("{}: cannot read the mount {bind}", recipe.name))),
        };
        add(target, mode.split(',').any(|word| word == "ro"), source(from));
    }
    for mount in &host.mounts {
        match mount.kind.as_str() {
            "bind" | "volume" => add(&mount.target, mount.read_only, source(&mount.source)),
            "tmpfs" => add(&mount.target, mount.read_only, json!({"emptyDir": {"medium": "Memory"}})),
            "image" => add(&mount.target, true, json!({"image": {"reference": mount.source}})),
            other => {
                return Err(Error::Message(format!(
                    "{}: a pod of Kubernetes has no word for mounts of type {other}",
                    recipe.name
                )));
            }
        }
    }
    host.tmpfs.keys().for_each(|path| add(path, false, json!({"emptyDir": {"medium": "Memory"}})));
    recipe.config.volumes.keys().for_each(|path| add(path, false, source("")));
    Ok((mounts, volumes))
}

fn limits(host: &HostConfig) -> Map<String, Value> {
    let mut limits = Map::new();
    if host.resources.memory > 0 {
        limits.insert("memory".into(), json!(host.resources.memory.to_string()));
    }
    if host.resources.nano_cpus > 0 {
        limits.insert("cpu".into(), json!(super::flags::cpus(host.resources.nano_cpus)));
    }
    limits
}

fn context(recipe: &Recipe) -> Result<Map<String, Value>> {
    let (config, host) = (&recipe.config, &recipe.host);
    let mut context = Map::new();
    let mut put = |key: &str, value: Value, given: bool| {
        if given {
            context.insert(key.to_owned(), value);
        }
    };
    put("privileged", json!(true), host.privileged);
    put("readOnlyRootFilesystem", json!(true), host.readonly_rootfs);
    let no_new = host
        .security_opt
        .iter()
        .any(|option| option.starts_with("no-new-privileges") && !option.ends_with("false"));
    put("allowPrivilegeEscalation", json!(false), no_new);
    let mut capabilities = Map::new();
    for (key, list) in [("add", &host.cap_add), ("drop", &host.cap_drop)] {
        let bare: Vec<&str> = list.iter().map(|name| name.strip_prefix("CAP_").unwrap_or(name)).collect();
        if !bare.is_empty() {
            capabilities.insert(key.into(), json!(bare));
        }
    }
    put("capabilities", Value::Object(capabilities.clone()), !capabilities.is_empty());
    if !config.user.is_empty() {
        let (user, group) = config.user.split_once(':').unwrap_or((&config.user, ""));
        let number = |text: &str| {
            text.parse::<u32>().map_err(|_| {
                Error::Message(format!(
                    "{}: a pod of Kubernetes takes users by number alone: {text}",
                    recipe.name
                ))
            })
        };
        put("runAsUser", json!(number(user)?), true);
        if !group.is_empty() {
            put("runAsGroup", json!(number(group)?), true);
        }
    }
    Ok(context)
}
