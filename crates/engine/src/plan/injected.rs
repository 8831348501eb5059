//! What devices bring that have names of their own: into the process and its surroundings.

use std::path::PathBuf;

use oci::runtime::{Hook, Hooks, Process};

use crate::cdi::Injected;
use crate::error::{Error, Result};

/// The process with their variables, over those of the same name, and their groups.
pub(super) fn process(mut process: Process, injected: &Injected) -> Process {
    if !injected.env.is_empty() {
        let mut env = process.env().clone().unwrap_or_default();
        for entry in &injected.env {
            let name = entry.split('=').next().unwrap_or_default();
            env.retain(|known| known.split('=').next() != Some(name));
            env.push(entry.clone());
        }
        process.set_env(Some(env));
    }
    if !injected.groups.is_empty() {
        let mut user = process.user().clone();
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        for group in &injected.groups {
            if !groups.contains(group) {
                groups.push(*group);
            }
        }
        user.set_additional_gids(Some(groups));
        process.set_user(user);
    }
    process
}

/// What the runtime is to call.
pub(super) fn hooks(injected: &Injected) -> Result<Option<Hooks>> {
    if injected.hooks.is_empty() {
        return Ok(None);
    }
    let mut by_place: std::collections::BTreeMap<&str, Vec<Hook>> = std::collections::BTreeMap::new();
    for hook in &injected.hooks {
        let mut made = Hook::default();
        made.set_path(PathBuf::from(&hook.path))
            .set_args(Some(hook.args.clone()).filter(|args| !args.is_empty()))
            .set_env(Some(hook.env.clone()).filter(|env| !env.is_empty()))
            .set_timeout(hook.timeout);
        by_place.entry(&hook.hook_name).or_default().push(made);
    }
    // By the names of the specification: those of the description are the same.
    let written = serde_json::to_value(&by_place).and_then(serde_json::from_value);
    written.map(Some).map_err(|e| Error::system("cannot write the hooks of a device").with_source(e))
}
