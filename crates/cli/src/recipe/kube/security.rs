//! Who a pod's process is and what it may do.

use serde_json::{Map, Value, json};

use super::refusal;
use crate::error::{Error, Result};
use crate::recipe::Recipe;

/// What is the container's.
pub(super) fn of_container(recipe: &Recipe) -> Result<Map<String, Value>> {
    let (config, host) = (&recipe.config, &recipe.host);
    let mut context = Map::new();
    let mut put = |key: &str, value: Value, given: bool| {
        if given {
            context.insert(key.to_owned(), value);
        }
    };
    put("privileged", json!(true), host.privileged);
    put("readOnlyRootFilesystem", json!(true), host.readonly_rootfs);
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
        put("runAsUser", json!(number(recipe, "users", user)?), true);
        if !group.is_empty() {
            put("runAsGroup", json!(number(recipe, "groups", group)?), true);
        }
    }
    options(recipe, &mut context)?;
    Ok(context)
}

/// What is the pod's.
pub(super) fn of_pod(recipe: &Recipe) -> Result<Map<String, Value>> {
    let host = &recipe.host;
    let mut context = Map::new();
    let groups: Result<Vec<u32>> =
        host.group_add.iter().map(|group| number(recipe, "groups", group)).collect();
    let groups = groups?;
    if !groups.is_empty() {
        context.insert("supplementalGroups".into(), json!(groups));
    }
    let sysctls = host.sysctls.iter().map(|(name, value)| json!({"name": name, "value": value}));
    let sysctls: Vec<Value> = sysctls.collect();
    if !sysctls.is_empty() {
        context.insert("sysctls".into(), json!(sysctls));
    }
    Ok(context)
}

fn number(recipe: &Recipe, what: &str, text: &str) -> Result<u32> {
    text.parse().map_err(|_| {
        Error::Message(format!("{}: a pod of Kubernetes takes {what} by number alone: {text}", recipe.name))
    })
}

/// `--security-opt`.
fn options(recipe: &Recipe, context: &mut Map<String, Value>) -> Result<()> {
    let none = |what: String| recipe.refuse(refusal::FORM, [(true, what.as_str())]);
    for option in &recipe.host.security_opt {
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
        match (key, value) {
            ("no-new-privileges", "" | "1" | "t" | "T" | "true" | "TRUE" | "True") => {
                context.insert("allowPrivilegeEscalation".into(), json!(false));
            }
            ("no-new-privileges", _) => {}
            // Without a word a pod may be filtered as its node says.
            ("seccomp", "unconfined") => {
                context.insert("seccompProfile".into(), json!({"type": "Unconfined"}));
            }
            ("seccomp", "" | "builtin") => {
                context.insert("seccompProfile".into(), json!({"type": "RuntimeDefault"}));
            }
            ("seccomp", _) => none("a filter of its own (--security-opt seccomp=PROFILE)".to_owned())?,
            ("apparmor", "") => {}
            ("apparmor", "unconfined") => {
                context.insert("appArmorProfile".into(), json!({"type": "Unconfined"}));
            }
            ("apparmor", name) => {
                let profile = json!({"type": "Localhost", "localhostProfile": name});
                context.insert("appArmorProfile".into(), profile);
            }
            ("label", label) => match label.split_once(':') {
                Some((part @ ("user" | "role" | "type" | "level"), text)) => {
                    let labels = context.entry("seLinuxOptions").or_insert_with(|| json!({}));
                    labels[part] = json!(text);
                }
                _ => none(format!("this label (--security-opt {option})"))?,
            },
            _ => none(format!("this (--security-opt {option})"))?,
        }
    }
    Ok(())
}
