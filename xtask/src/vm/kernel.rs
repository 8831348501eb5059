//! Debian's kernel: taken out of its package, not installed here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Result, output};

/// Always depends on the newest kernel for virtual machines.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// A kernel and its modules.
pub struct Kernel {
    /// `uname -r`.
    pub release: String,
    /// What is booted.
    pub image: PathBuf,
    /// The directory that becomes `/usr/lib/modules/<release>`.
    pub modules: PathBuf,
}

/// Finds the newest kernel in `cache`, or downloads it.
pub fn fetch(cache: &Path) -> Result<Kernel> {
    let package = real_package().or_else(|_| {
        crate::run::show("apt-get", &["-qq", "update"])?;
        real_package()
    })?;
    let release = package.trim_start_matches("linux-image-").to_owned();
    let directory = cache.join(&package);
    let kernel = Kernel {
        image: directory.join(format!("boot/vmlinuz-{release}")),
        modules: directory.join(format!("lib/modules/{release}")),
        release,
    };
    if directory.exists() {
        return Ok(kernel);
    }
    let part = tempfile::tempdir_in(cache).map_err(|error| format!("cannot make a directory: {error}"))?;
    let part = part.path();
    // `apt-get download` knows no other place than the working directory.
    let script = "cd \"$1\" && apt-get -qq download \"$2\" && dpkg-deb -x \"$2\"_*.deb kernel";
    let shown = part.to_string_lossy();
    output("sh", &["-c", script, "sh", &shown, &package])?;
    fs::rename(part.join("kernel"), &directory).map_err(|error| format!("cannot keep {package}: {error}"))?;
    Ok(kernel)
}

/// The package that [`PACKAGE`] stands for at the moment.
fn real_package() -> Result<String> {
    let depends = output("apt-cache", &["depends", "--important", PACKAGE])?;
    let found = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let found = found.filter(|name| name.starts_with("linux-image-"));
    found.map(str::to_owned).ok_or_else(|| format!("{PACKAGE} depends on no kernel"))
}
