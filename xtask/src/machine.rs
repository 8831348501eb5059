//! Installs from Debian's packages and from PyPI what the tests and the bench use, and says so.

use std::path::Path;

use crate::run::{Result, exists, output, show_with};

/// A program and the Debian package that brings it.
pub struct Need {
    /// Found in `PATH` or, with a slash, as a file: then the package is there.
    pub probe: &'static str,
    /// Debian's name of the package.
    pub package: &'static str,
}

const fn need(probe: &'static str, package: &'static str) -> Need {
    Need { probe, package }
}

/// What the tests need.
pub const FOR_TESTS: &[Need] = &[
    need("docker-registry", "docker-registry"),
    need("skopeo", "skopeo"),
    need("mmdebstrap", "mmdebstrap"),
    need("/bin/busybox", "busybox-static"),
    need("crun", "crun"),
    need("runc", "runc"),
    need("/usr/include/seccomp.h", "libseccomp-dev"),
    need("openssl", "openssl"),
    need("htpasswd", "apache2-utils"),
    need("setsid", "util-linux"),
    need("mkfs.ext4", "e2fsprogs"),
    need("mkfs.xfs", "xfsprogs"),
    need("unshare", "util-linux"),
    need("newuidmap", "uidmap"),
    need("strace", "strace"),
    need("containerd", "containerd"),
    need("podman", "podman"),
    need("buildah", "buildah"),
    need("/usr/bin/time", "time"),
    need("/usr/sbin/dockerd", "docker.io"),
    need("ip", "iproute2"),
    need("nft", "nftables"),
    need("iptables-nft", "iptables"),
    need("iperf3", "iperf3"),
    need("dbus-daemon", "dbus"),
    need("/usr/sbin/sshd", "openssh-server"),
    need("/usr/sbin/firewalld", "firewalld"),
    need("curl", "curl"),
    need("xz", "xz-utils"),
    need("bzip2", "bzip2"),
    need("zstd", "zstd"),
    need("/usr/bin/pasta", "passt"),
    need("/usr/sbin/ufw", "ufw"),
    need("/usr/sbin/rsyslogd", "rsyslog"),
];

/// What the emulated machine needs.
pub const FOR_VM: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86"),
    need("mke2fs", "e2fsprogs"),
    need("setpriv", "util-linux"),
];

/// What the bench needs beyond that.
pub const FOR_BENCH: &[Need] =
    &[need("podman", "podman"), need("/usr/sbin/dockerd", "docker.io"), need("/usr/bin/iperf3", "iperf3")];

/// Installs those of `needs` that are not there.
pub fn install(needs: &[Need]) -> Result {
    let there = |need: &Need| {
        if need.probe.contains('/') { Path::new(need.probe).exists() } else { exists(need.probe) }
    };
    let missing: Vec<&str> = needs.iter().filter(|need| !there(need)).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if output("id", &["-u"])?.trim() != "0" {
        return Err(format!("run as root, or install first: apt-get install {}", missing.join(" ")));
    }
    eprintln!("installing Debian packages: {}", missing.join(" "));
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    // A daemon that a package brings must not be started by its installation.
    let policy = Path::new("/usr/sbin/policy-rc.d");
    let placed = !policy.exists() && write_policy(policy).is_ok();
    let result = show_with("apt-get", &["-qq", "update"], &quiet).and_then(|()| {
        let mut args = vec!["-qq", "install", "-y", "--no-install-recommends"];
        args.extend(missing);
        show_with("apt-get", &args, &quiet)
    });
    if placed {
        let _ = std::fs::remove_file(policy);
    }
    result
}

fn write_policy(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, "#!/bin/sh\nexit 101\n")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}
