//! SELinux: what a container's processes and files are called, and the names of what is bound into it.
//!
//! It is off unless the daemon is started with `--selinux-enabled` on a host whose kernel has it on, as with dockerd. Then each
//! container has a pair of categories to itself, so that one container's processes may not touch another's files.

pub(crate) mod relabel;

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::containers::record::Paths;
use crate::error::{Error, Result};

/// There where the kernel has a policy.
const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// Names the policy: `SELINUXTYPE=targeted`.
const CONFIG: &str = "/etc/selinux/config";
const POLICY: &str = "targeted";
/// What policies without a word about containers are taken to say.
const PROCESS: &str = "system_u:system_r:container_t:s0";
const FILE: &str = "system_u:object_r:container_file_t:s0";
/// Categories are numbered from 0; the last two are those of files that only containers without a label use.
const CATEGORIES: u64 = 1022;
const UNLABELLED_LEVEL: &str = "s0:c1022,c1023";
/// What files that several containers share have: no category.
const SHARED_LEVEL: &str = "s0";

/// The names of a container's processes and files; empty where SELinux has no say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub mount: String,
}

impl Labels {
    /// The level that sets it apart; empty where there is none.
    pub fn level(&self) -> &str {
        self.process.splitn(4, ':').nth(3).unwrap_or_default()
    }

    /// The label of files that any container may use.
    pub fn shared(&self) -> Option<String> {
        let mut context = Context::parse(&self.mount)?;
        SHARED_LEVEL.clone_into(&mut context.level);
        Some(context.text())
    }
}

/// What the host's policy calls processes and files of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    process: Context,
    file: Context,
}

/// `user:role:type:level`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Context {
    user: String,
    role: String,
    kind: String,
    level: String,
}

impl Context {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        Some(Self { user: parts.next()?, role: parts.next()?, kind: parts.next()?, level: parts.next()? })
    }

    fn text(&self) -> String {
        format!("{}:{}:{}:{}", self.user, self.role, self.kind, self.level)
    }
}

impl Policy {
    /// That of this host, if SELinux is on.
    pub fn detect() -> Option<Self> {
        fs::exists(ENFORCE).unwrap_or(false).then(|| {
            let name = fs::read_to_string(CONFIG).unwrap_or_default();
            let name = setting(&name, "SELINUXTYPE").unwrap_or_else(|| POLICY.to_owned());
            let path = format!("/etc/selinux/{name}/contexts/lxc_contexts");
            Self::read(&fs::read_to_string(path).unwrap_or_default())
        })
    }

    fn read(contexts: &str) -> Self {
        let context = |key: &str, default: &str| {
            let found = setting(contexts, key).and_then(|text| Context::parse(&text));
            found.or_else(|| Context::parse(default))
        };
        let none = || Context {
            user: String::new(),
            role: String::new(),
            kind: String::new(),
            level: String::new(),
        };
        Self {
            process: context("process", PROCESS).unwrap_or_else(none),
            file: context("file", FILE).unwrap_or_else(none),
        }
    }

    /// The labels of a container with these `label=` options. `id` chooses the categories, past those that are `taken`.
    pub fn labels(&self, options: &[String], id: &str, taken: impl Fn(&str) -> bool) -> Result<Labels> {
        let (mut process, mut file) = (self.process.clone(), self.file.clone());
        if options.iter().any(|option| option == "disable") {
            UNLABELLED_LEVEL.clone_into(&mut file.level);
            return Ok(Labels { process: String::new(), mount: file.text() });
        }
        let level = categories(id, taken)
            .ok_or_else(|| Error::conflict("every pair of SELinux categories belongs to a container"))?;
        process.level.clone_from(&level);
        file.level = level;
        for option in options {
            let (key, value) = option.split_once(':').ok_or_else(|| bad(option))?;
            match key {
                "user" => value.clone_into(&mut process.user),
                "role" => value.clone_into(&mut process.role),
                "type" => value.clone_into(&mut process.kind),
                "filetype" => value.clone_into(&mut file.kind),
                "level" => {
                    value.clone_into(&mut process.level);
                    value.clone_into(&mut file.level);
                }
                _ => return Err(bad(option)),
            }
        }
        Ok(Labels { process: process.text(), mount: file.text() })
    }
}

fn bad(option: &str) -> Error {
    Error::invalid(format!(
        "bad label option \"{option}\", valid options 'disable' or \n'user, role, level, type, filetype' followed by ':' and a value"
    ))
}

/// The value of `key = value`, without quotes.
fn setting(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// A pair of categories that is not taken: the one that the container's id stands for, or one of those after it.
fn categories(id: &str, taken: impl Fn(&str) -> bool) -> Option<String> {
    const PAIRS: u64 = CATEGORIES * (CATEGORIES - 1) / 2;
    let digits = id.get(..16).unwrap_or(id);
    let start = u64::from_str_radix(digits, 16).unwrap_or(0) % PAIRS;
    (0..PAIRS).map(|step| level((start + step) % PAIRS)).find(|level| !taken(level))
}

/// The `index`th pair, in the order c0,c1 c0,c2 c1,c2 c0,c3 …
fn level(index: u64) -> String {
    // The larger of the two is the largest number with `larger * (larger - 1) / 2 <= index`.
    let mut larger = 1;
    while larger * (larger + 1) / 2 <= index {
        larger += 1;
    }
    format!("s0:c{},c{larger}", index - larger * (larger - 1) / 2)
}

/// Whether the mode of a mount (`ro,Z`) asks for other labels of its source: `Some(true)` for one that is shared.
pub(crate) fn asked(mode: &str) -> Option<bool> {
    mode.split(',').find_map(|word| match word {
        "z" => Some(true),
        "Z" => Some(false),
        _ => None,
    })
}

/// Puts the label on the source of a mount whose mode asks for it.
pub(crate) fn prepare_source(labels: &Labels, mode: &str, source: &Path) -> Result<()> {
    let Some(shared) = asked(mode).filter(|_| !labels.mount.is_empty()) else { return Ok(()) };
    let label = if shared { labels.shared() } else { Some(labels.mount.clone()) };
    label.map_or(Ok(()), |label| relabel::tree(source, relabel::ATTRIBUTE, &label))
}

/// Puts the label on the files that the engine makes for a container, and that of all containers on the small init.
pub(crate) fn prepare_files(labels: &Labels, paths: &Paths) -> Result<()> {
    let Some(shared) = labels.shared() else { return Ok(()) };
    for path in [paths.resolv_conf(), paths.hostname(), paths.hosts()] {
        relabel::tree(&path, relabel::ATTRIBUTE, &labels.mount)?;
    }
    relabel::tree(&crate::plan::init::path(paths), relabel::ATTRIBUTE, &shared)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn policy() -> Policy {
        Policy::read(
            "process = \"system_u:system_r:svirt_lxc_net_t:s0\"\nfile = \"system_u:object_r:svirt_sandbox_file_t:s0\"\n",
        )
    }

    fn labels(options: &[&str]) -> Result<Labels> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        policy().labels(&options, "0000000000000000", |_| false)
    }

    #[test]
    fn a_container_has_a_pair_of_categories_to_itself() {
        let own = labels(&[]).unwrap();
        assert_eq!(own.process, "system_u:system_r:svirt_lxc_net_t:s0:c0,c1");
        assert_eq!(own.mount, "system_u:object_r:svirt_sandbox_file_t:s0:c0,c1");
        assert_eq!(own.level(), "s0:c0,c1");
        assert_eq!(own.shared().unwrap(), "system_u:object_r:svirt_sandbox_file_t:s0");
        let next = policy().labels(&[], "0000000000000000", |level| level == "s0:c0,c1").unwrap();
        assert_eq!(next.level(), "s0:c0,c2");
        assert!(policy().labels(&[], "x", |_| true).is_err());
    }

    #[test]
    fn pairs_are_all_different_and_ordered() {
        let mut seen = HashSet::new();
        for index in 0..20_000 {
            let text = level(index);
            let (smaller, larger) = text.trim_start_matches("s0:c").split_once(",c").unwrap();
            assert!(smaller.parse::<u64>().unwrap() < larger.parse::<u64>().unwrap(), "{text}");
            assert!(seen.insert(text));
        }
        let last = CATEGORIES * (CATEGORIES - 1) / 2 - 1;
        assert_eq!(level(last), "s0:c1020,c1021", "the last pair stays free for files without a container");
    }

    #[test]
    fn options_change_what_they_name() {
        let own = labels(&["user:u", "role:r", "type:t", "filetype:f", "level:s0:c5,c6"]).unwrap();
        assert_eq!(own.process, "u:r:t:s0:c5,c6");
        assert_eq!(own.mount, "system_u:object_r:f:s0:c5,c6");
        let disabled = labels(&["type:t", "disable"]).unwrap();
        assert_eq!(disabled.process, "");
        assert_eq!(disabled.mount, "system_u:object_r:svirt_sandbox_file_t:s0:c1022,c1023");
        for wrong in ["colour:blue", "type", ""] {
            assert!(labels(&[wrong]).unwrap_err().to_string().starts_with("bad label option"), "{wrong}");
        }
    }

    #[test]
    fn a_policy_without_a_word_about_containers() {
        let policy = Policy::read("# nothing\nprocess = nonsense\n");
        assert_eq!((policy.process.text().as_str(), policy.file.text().as_str()), (PROCESS, FILE));
    }

    #[test]
    fn modes_are_read() {
        assert_eq!(
            (asked("ro,z"), asked("Z"), asked("rw"), asked("")),
            (Some(true), Some(false), None, None)
        );
    }
}
