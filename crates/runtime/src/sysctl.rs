//! Kernel parameters that belong to a namespace of the container.

use std::collections::HashMap;

use sys::namespace;
use sys::proc::Proc;

use crate::error::{Context as _, Error};

/// The parameters of the IPC namespace below `kernel.`; those of message queues have a prefix.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Checks that every parameter belongs to a namespace that the container has for itself: anything else would change the host.
pub(crate) fn check(parameters: &HashMap<String, String>, namespaces: u64) -> Result<(), Error> {
    for name in parameters.keys() {
        let needed = owner(name).ok_or_else(|| {
            Error::Invalid(format!("sysctl {name:?} is not in a separate kernel namespace"))
        })?;
        if namespaces & needed == 0 {
            return Err(Error::Invalid(format!("sysctl {name:?} is not allowed in the hosts namespace")));
        }
        path(name)?;
    }
    Ok(())
}

fn owner(name: &str) -> Option<u64> {
    let name = dotted(name);
    if let Some(kernel) = name.strip_prefix("kernel.") {
        return match kernel {
            "domainname" => Some(namespace::UTS),
            other if IPC.contains(&other) => Some(namespace::IPC),
            _ => None,
        };
    }
    match name {
        name if name.starts_with("fs.mqueue.") => Some(namespace::IPC),
        name if name.starts_with("net.") => Some(namespace::NETWORK),
        _ => None,
    }
}

/// Which of `.` and `/` comes first is the separator.
fn dotted(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

fn path(name: &str) -> Result<String, Error> {
    let path: String = dotted(name)
        .chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect();
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Error::Invalid(format!("sysctl {name:?} is not a valid name")));
    }
    Ok(format!("sys/{path}"))
}

/// Sets the parameters. Which namespace is meant is decided by who opens the file: the container's init.
pub(crate) fn set(proc: &Proc, parameters: &HashMap<String, String>) -> Result<(), Error> {
    for (name, value) in parameters {
        let path = path(name)?;
        proc.write(&path, value).on("write", format!("/proc/{path}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_one(name: &str) -> Result<(), Error> {
        let all = namespace::NETWORK | namespace::IPC | namespace::UTS;
        check(&HashMap::from([(name.to_owned(), "1".to_owned())]), all)
    }

    #[test]
    fn only_namespaced_parameters_are_taken() {
        for name in
            ["net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "kernel.sem", "fs.mqueue.msg_max"]
        {
            try_one(name).unwrap();
        }
        for name in [
            "kernel.core_pattern",
            "vm.swappiness",
            "kernel.hostname",
            "net..x",
            "net/../kernel/x",
            "fs.file-max",
        ] {
            try_one(name).unwrap_err();
        }
        let host = HashMap::from([("net.ipv4.ip_forward".to_owned(), "1".to_owned())]);
        assert!(check(&host, namespace::IPC).unwrap_err().to_string().contains("hosts namespace"));
    }

    #[test]
    fn a_dot_in_a_device_name_survives() {
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").unwrap(), "sys/net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net.ipv4.ip_forward").unwrap(), "sys/net/ipv4/ip_forward");
    }
}
