//! What this machine is and can do: found out once, when the engine is opened.

use std::fs;

use crate::plan::last_group;

/// What this machine is and can do.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Processors that the daemon may use.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's own description of its build.
    pub kernel_build: String,
    /// The distribution, for people.
    pub os: String,
    /// Its version.
    pub os_version: String,
    /// The host's name.
    pub name: String,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// What the cgroups can limit.
    pub controllers: Vec<String>,
    /// Whether the memory controller counts swap.
    pub swap_limit: bool,
    /// Whether cgroups limit real-time scheduling.
    pub realtime: bool,
    /// Whether the kernel filters system calls.
    pub seccomp: bool,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether containers are confined by the engine's own AppArmor profile: it is loaded when the engine starts.
    pub confines: bool,
    /// What SELinux calls containers, if it is on and the engine was asked to use it.
    pub selinux: Option<crate::selinux::Policy>,
    /// Whether packets are forwarded.
    pub ipv4_forwarding: bool,
    /// The highest group of the engine's user namespace.
    pub last_group: u32,
    /// Whether the engine is an ordinary user's, and root only in a user namespace.
    pub rootless: bool,
}

/// A line of a file of the kernel, without its end; empty where there is none.
fn line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

impl Host {
    /// Looks around.
    pub fn detect() -> Self {
        let release = fs::read_to_string("/etc/os-release")
            .or_else(|_| fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let v2 = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").ok();
        let (cgroup_version, controllers): (u8, Vec<String>) = match &v2 {
            Some(text) => (2, text.split_whitespace().map(str::to_owned).collect()),
            None => (1, v1_controllers(&line("/proc/cgroups"))),
        };
        let swap_limit = match cgroup_version {
            2 => controllers.iter().any(|c| c == "memory"),
            _ => fs::exists("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").unwrap_or(false),
        };
        Self {
            cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1)),
            memory_bytes: memory(&line("/proc/meminfo")),
            kernel: line("/proc/sys/kernel/osrelease"),
            kernel_build: line("/proc/sys/kernel/version"),
            os: field(&release, "PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
            os_version: field(&release, "VERSION_ID").unwrap_or_default(),
            name: line("/proc/sys/kernel/hostname"),
            cgroup_version,
            controllers,
            swap_limit,
            realtime: cgroup_version == 1
                && fs::exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").unwrap_or(false),
            seccomp: fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap_or(false),
            apparmor: line("/sys/module/apparmor/parameters/enabled") == "Y",
            confines: false,
            selinux: None,
            ipv4_forwarding: line("/proc/sys/net/ipv4/ip_forward") == "1",
            last_group: last_group(&line("/proc/self/gid_map")),
            rootless: line("/proc/self/uid_map").split_whitespace().nth(2) != Some("4294967295"),
        }
    }

    /// Whether a controller is there.
    pub fn can(&self, controller: &str) -> bool {
        self.controllers.iter().any(|known| known == controller)
    }
}

/// The controllers of version 1 that are switched on.
fn v1_controllers(table: &str) -> Vec<String> {
    table
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let name = fields.next()?;
            (fields.nth(2)? == "1").then(|| name.to_owned())
        })
        .collect()
}

fn memory(meminfo: &str) -> u64 {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A field of `os-release`, without its quotes.
fn field(release: &str, key: &str) -> Option<String> {
    release.lines().find_map(|line| {
        let value = line.strip_prefix(key)?.strip_prefix('=')?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t5\t1\nmemory\t0\t1\t0\n";
        assert_eq!(v1_controllers(table), ["cpu"]);
        assert_eq!(memory("MemTotal:       1000 kB\nMemFree: 1 kB\n"), 1_024_000);
        assert_eq!(field("NAME=x\nPRETTY_NAME=\"Debian 12\"\n", "PRETTY_NAME").as_deref(), Some("Debian 12"));
    }
}
