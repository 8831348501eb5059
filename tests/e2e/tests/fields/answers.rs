//! Status, type and words of answers, request by request.

use serde_json::{Value, json};

use crate::engine::Engine;

/// Requests in their order; the body is JSON, or nothing where it is empty.
const REQUESTS: &[(&str, &str, &str)] = &[
    ("GET", "/_ping", ""),
    ("HEAD", "/_ping", ""),
    ("GET", "/containers/json", ""),
    ("GET", "/containers/json?all=1", ""),
    ("GET", "/images/json?filters={\"reference\":[\"nothing\"]}", ""),
    ("GET", "/volumes", ""),
    ("GET", "/volumes?filters={\"name\":[\"nothing\"]}", ""),
    ("GET", "/networks?filters={\"name\":[\"nothing\"]}", ""),
    ("GET", "/plugins", ""),
    ("GET", "/swarm", ""),
    ("GET", "/nodes", ""),
    ("GET", "/services", ""),
    ("GET", "/secrets", ""),
    ("GET", "/nothing", ""),
    ("GET", "/containers/nobody/json", ""),
    ("GET", "/containers/nobody/logs?stdout=1", ""),
    ("GET", "/containers/nobody/logs", ""),
    ("GET", "/containers/nobody/top", ""),
    ("GET", "/containers/nobody/stats", ""),
    ("GET", "/containers/nobody/changes", ""),
    ("GET", "/containers/nobody/export", ""),
    ("GET", "/containers/nobody/archive?path=/", ""),
    ("GET", "/containers/nobody/archive", ""),
    ("HEAD", "/containers/nobody/archive?path=/", ""),
    ("GET", "/exec/nothing/json", ""),
    ("POST", "/exec/nothing/start", "{}"),
    ("POST", "/exec/nothing/resize?h=1&w=1", ""),
    ("GET", "/images/nobody/json", ""),
    ("GET", "/images/nobody/history", ""),
    ("GET", "/images/UPPER/json", ""),
    ("DELETE", "/images/nobody", ""),
    ("POST", "/images/nobody/tag?repo=x", ""),
    ("POST", "/images/busybox/tag?repo=UPPER", ""),
    ("GET", "/volumes/nothing", ""),
    ("DELETE", "/volumes/nothing", ""),
    ("GET", "/networks/nothing", ""),
    ("DELETE", "/networks/nothing", ""),
    ("DELETE", "/networks/bridge", ""),
    ("POST", "/networks/create", "{\"Name\": \"bridge\", \"CheckDuplicate\": true}"),
    ("POST", "/networks/create", "{\"Name\": \"\"}"),
    ("POST", "/networks/create", "{\"Name\": \"n\", \"Driver\": \"nosuch\"}"),
    ("POST", "/networks/nothing/connect", "{\"Container\": \"nobody\"}"),
    ("POST", "/networks/bridge/connect", "{\"Container\": \"nobody\"}"),
    ("POST", "/volumes/create", "{\"Name\": \"../x\"}"),
    ("POST", "/volumes/create", "{\"Name\": \"v\"}"),
    ("POST", "/volumes/create", "{\"Name\": \"vv\", \"Driver\": \"nosuch\"}"),
    ("POST", "/volumes/create", "{\"Name\": \"vv\", \"DriverOpts\": {\"nosuch\": \"1\"}}"),
    ("POST", "/volumes/create", "{\"Name\": \"vv\"}"),
    ("POST", "/volumes/create", "{\"Name\": \"vv\"}"),
    ("POST", "/containers/create", "{}"),
    ("POST", "/containers/create", "{\"Image\": \"\"}"),
    ("POST", "/containers/create", "{\"Image\": \"nobody\"}"),
    ("POST", "/containers/create", "{\"Image\": \"UPPER\"}"),
    ("POST", "/containers/create?name=-", "{\"Image\": \"busybox\"}"),
    ("POST", "/containers/create?name=a%20b", "{\"Image\": \"busybox\"}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"WorkingDir\": \"relative\"}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"StopSignal\": \"NOSUCH\"}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"Env\": [\"=x\"]}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"Memory\": 1}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"CpuShares\": -1}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"CpuPeriod\": 1}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"CpuQuota\": 1}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"NanoCpus\": 1000000000000}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"CpusetCpus\": \"x\"}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"MemorySwap\": 1}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"MemorySwappiness\": 101}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"OomScoreAdj\": 2000}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"ShmSize\": -1}}"),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"RestartPolicy\": {\"Name\": \"nosuch\"}}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"RestartPolicy\": {\"Name\": \"always\", \"MaximumRetryCount\": 1}}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"AutoRemove\": true, \"RestartPolicy\": {\"Name\": \"always\"}}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"LogConfig\": {\"Type\": \"nosuch\"}}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"LogConfig\": {\"Type\": \"json-file\", \"Config\": {\"nosuch\": \"1\"}}}}",
    ),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"Binds\": [\"/a\"]}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"Binds\": [\"/a:b\"]}}"),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"Binds\": [\"/a:/b:nosuch\"]}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"Binds\": [\"/nosuch:/b\", \"/nosuch:/b\"]}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"Mounts\": [{\"Type\": \"nosuch\", \"Target\": \"/x\"}]}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"Mounts\": [{\"Type\": \"bind\", \"Source\": \"/no/such\", \"Target\": \"/x\"}]}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"Mounts\": [{\"Type\": \"bind\", \"Target\": \"/x\"}]}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"Mounts\": [{\"Type\": \"tmpfs\", \"Source\": \"/y\", \"Target\": \"/x\"}]}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"VolumesFrom\": [\"nobody\"]}}",
    ),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"IpcMode\": \"nosuch\"}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"PidMode\": \"nosuch\"}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"UTSMode\": \"nosuch\"}}"),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"CgroupnsMode\": \"nosuch\"}}",
    ),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"Runtime\": \"nosuch\"}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"CapAdd\": [\"NOSUCH\"]}}"),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"SecurityOpt\": [\"nosuch\"]}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"PortBindings\": {\"x\": []}}}",
    ),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"PortBindings\": {\"80/tcp\": [{\"HostPort\": \"x\"}]}}}",
    ),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"ExtraHosts\": [\"x\"]}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"Dns\": [\"x\"]}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"HostConfig\": {\"Links\": [\"nobody:x\"]}}"),
    (
        "POST",
        "/containers/create",
        "{\"Image\": \"busybox\", \"HostConfig\": {\"NetworkMode\": \"container:nobody\"}}",
    ),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"Healthcheck\": {\"Test\": [\"nosuch\"]}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"Healthcheck\": {\"Interval\": 1}}"),
    ("POST", "/containers/create", "{\"Image\": \"busybox\", \"Healthcheck\": {\"Retries\": -1}}"),
    (
        "POST",
        "/containers/create?name=cc",
        "{\"Image\": \"busybox\", \"Cmd\": [\"sleep\", \"1000\"], \"Tty\": true}",
    ),
    ("POST", "/containers/create?name=cc", "{\"Image\": \"busybox\"}"),
    ("GET", "/containers/cc/top", ""),
    ("GET", "/containers/cc/changes", ""),
    ("GET", "/containers/cc/logs?stdout=1", ""),
    ("POST", "/containers/cc/pause", ""),
    ("POST", "/containers/cc/unpause", ""),
    ("POST", "/containers/cc/stop", ""),
    ("POST", "/containers/cc/kill", ""),
    ("POST", "/containers/cc/exec", "{\"Cmd\": [\"true\"]}"),
    ("POST", "/containers/cc/wait", ""),
    ("POST", "/containers/cc/start", ""),
    ("POST", "/containers/cc/start", ""),
    ("GET", "/containers/cc/top?ps_args=-nosuch", ""),
    ("POST", "/containers/cc/exec", "{}"),
    ("POST", "/containers/cc/exec", "{\"Cmd\": []}"),
    ("POST", "/containers/cc/resize?h=10&w=x", ""),
    ("POST", "/containers/cc/resize?h=10&w=20", ""),
    ("POST", "/containers/cc/kill?signal=NOSUCH", ""),
    ("POST", "/containers/cc/kill?signal=-1", ""),
    ("POST", "/containers/cc/kill?signal=WINCH", ""),
    ("POST", "/containers/cc/rename", ""),
    ("POST", "/containers/cc/rename?name=cc", ""),
    ("POST", "/containers/cc/rename?name=-", ""),
    ("POST", "/containers/cc/update", "{\"Memory\": 1}"),
    ("POST", "/containers/cc/update", "{\"RestartPolicy\": {\"Name\": \"nosuch\"}}"),
    ("GET", "/containers/cc/archive?path=/no/such", ""),
    ("POST", "/containers/cc/unpause", ""),
    ("POST", "/containers/cc/pause", ""),
    ("POST", "/containers/cc/pause", ""),
    ("POST", "/containers/cc/exec", "{\"Cmd\": [\"true\"]}"),
    ("POST", "/containers/cc/unpause", ""),
    ("DELETE", "/containers/cc", ""),
    ("POST", "/networks/bridge/connect", "{\"Container\": \"cc\"}"),
    ("POST", "/networks/bridge/disconnect", "{\"Container\": \"nobody\"}"),
    ("DELETE", "/images/busybox", ""),
    ("POST", "/containers/cc/kill", ""),
    ("POST", "/containers/cc/wait", ""),
    ("POST", "/commit", "{}"),
    ("POST", "/commit?container=nobody", "{}"),
    ("POST", "/commit?container=cc&repo=UPPER", "{}"),
    ("DELETE", "/containers/nobody", ""),
    ("DELETE", "/containers/cc?link=1", ""),
    ("DELETE", "/containers/cc", ""),
    ("DELETE", "/volumes/vv", ""),
    ("POST", "/containers/prune", ""),
    ("POST", "/volumes/prune", ""),
    ("POST", "/networks/prune", ""),
    ("POST", "/images/prune", ""),
    ("POST", "/containers/prune?again", ""),
    ("POST", "/volumes/prune?again", ""),
    ("POST", "/networks/prune?again", ""),
    ("POST", "/images/prune?again", ""),
    ("POST", "/build/prune", ""),
    ("GET", "/events?since=10&until=5", ""),
    ("GET", "/events?since=x&until=5", ""),
    ("GET", "/events?since=1&until=2", ""),
    ("GET", "/containers/json?filters=x", ""),
    ("GET", "/containers/json?filters={\"nosuch\":[\"x\"]}", ""),
    ("GET", "/containers/json?filters={\"status\":[\"nosuch\"]}", ""),
    ("GET", "/images/json?filters={\"nosuch\":[\"x\"]}", ""),
    ("GET", "/system/df?type=nosuch", ""),
    ("POST", "/containers/create?platform=nosuch", "{\"Image\": \"busybox\"}"),
    ("POST", "/auth", "{\"username\": \"a\", \"password\": \"b\", \"serveraddress\": \"localhost:1\"}"),
    ("POST", "/images/create", ""),
    ("POST", "/images/create?fromImage=UPPER", ""),
];

/// What is answered otherwise, and why.
pub const OTHERWISE: &[(&str, &str)] = &include!("otherwise.rs");

/// A message without what differs by chance: letters' case, which Docker changed over the years, and ids.
fn plain(message: &str) -> String {
    let is_id = |word: &str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lower = message.to_lowercase();
    let words = lower.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric());
    let word = |word: &str| {
        let bare = word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
        if is_id(bare) { word.replace(bare, "id") } else { word.to_owned() }
    };
    words.map(word).collect()
}

/// What is compared of every answer, by the request and its place.
pub fn all(engine: &Engine) -> Vec<(String, Value)> {
    let ask = |(at, (method, path, body)): (usize, &(&str, &str, &str))| {
        let (status, head, text) = engine.raw(method, path, body);
        let header = |name: &str| {
            let found = head.lines().filter_map(|line| line.split_once(':'));
            let mut found = found.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.trim().to_owned())
        };
        let document: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        let shown = match (&document["message"], &document) {
            (Value::String(message), _) => json!({ "message": plain(message) }),
            // Ids of what was made are its own.
            (_, Value::Object(object)) if object.contains_key("Id") => {
                json!({"Id": 0, "Warnings": object.get("Warnings")})
            }
            (_, Value::Array(list)) if !list.is_empty() => json!(list.len()),
            // What a prune took away.
            (_, Value::Object(object))
                if object.values().any(|value| value.as_array().is_some_and(|list| !list.is_empty())) =>
            {
                json!(object.keys().collect::<Vec<_>>())
            }
            (_, Value::Object(object))
                if object.contains_key("Mountpoint") || object.contains_key("Processes") =>
            {
                json!(object.keys().collect::<Vec<_>>())
            }
            (_, other) => other.clone(),
        };
        let answer = json!({
            "status": status,
            "type": header("content-type"),
            "chunked": header("transfer-encoding").is_some(),
            "said": shown,
        });
        let body = if body.len() > 20 { body.trim_start_matches("{\"Image\": \"busybox\", ") } else { body };
        (format!("{at} {method} {path} {body}").trim_end().to_owned(), answer)
    };
    REQUESTS.iter().enumerate().map(ask).collect()
}
