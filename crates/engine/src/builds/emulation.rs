//! Which architectures' programs this machine runs: its own, and those that the kernel has an interpreter for.

use std::fs;
use std::path::Path;

use build::graph::{Graph, Op};
use oci::Platform;

use super::Resolved;
use crate::error::{Error, Result};

/// Where the kernel shows its interpreters.
const INTERPRETERS: &str = "/proc/sys/fs/binfmt_misc";
/// Architectures, and what their emulators are registered as.
const EMULATORS: [(&str, &str); 9] = [
    ("amd64", "qemu-x86_64"),
    ("arm64", "qemu-aarch64"),
    ("arm", "qemu-arm"),
    ("386", "qemu-i386"),
    ("riscv64", "qemu-riscv64"),
    ("ppc64le", "qemu-ppc64le"),
    ("s390x", "qemu-s390x"),
    ("mips64le", "qemu-mips64el"),
    ("loong64", "qemu-loongarch64"),
];

/// Whether an interpreter is on, and was opened when it was registered: a container has none of its own.
fn is_usable(text: &str) -> bool {
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    text.starts_with("enabled") && flags.is_some_and(|flags| flags.contains('F'))
}

fn is_registered(folder: &Path, architecture: &str) -> bool {
    let known = EMULATORS.iter().find(|(name, _)| *name == architecture);
    known.is_some_and(|(_, emulator)| {
        fs::read_to_string(folder.join(emulator)).is_ok_and(|text| is_usable(&text))
    })
}

/// Whether programs of a platform run here.
fn runs(platform: &Platform) -> bool {
    Platform::host().rank(platform).is_some()
        || (platform.os == "linux" && is_registered(Path::new(INTERPRETERS), &platform.architecture))
}

/// What can be built for, the machine's own first.
pub fn platforms() -> Vec<Platform> {
    let host = Platform::host();
    let others = EMULATORS
        .iter()
        .map(|(architecture, _)| Platform::new("linux", architecture, None))
        .filter(|one| one.architecture != host.architecture && runs(one));
    std::iter::once(host.clone()).chain(others).collect()
}

/// Refuses a build of which a step could not be run, before anything is.
pub(super) fn check(graph: &Graph, images: &[Resolved]) -> Result<()> {
    let needed = graph.needed();
    for at in (0..graph.vertices.len()).filter(|at| needed[*at]) {
        let vertex = &graph.vertices[at];
        if !matches!(vertex.op, Op::Exec(_)) {
            continue;
        }
        let mut root = at;
        while let Some(below) = graph.vertices[root].inputs.first() {
            root = *below;
        }
        let Op::Image { manifest, .. } = &graph.vertices[root].op else { continue };
        let found = images.iter().find(|image| image.image.manifest.digest == *manifest);
        let Some(platform) = found.map(|image| image.image.config.platform()) else { continue };
        if !platform.architecture.is_empty() && !runs(&platform) {
            return Err(Error::invalid(format!(
                "cannot run {:?}: it needs {platform}, this machine is {}, and the kernel has no emulator for it: \
                 register one (qemu-user-static with binfmt_misc and its flag F), or build this stage with \
                 FROM --platform=$BUILDPLATFORM",
                vertex.name,
                Platform::host()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_has_to_be_on_and_open() {
        let text = "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n";
        assert!(is_usable(text));
        assert!(!is_usable(&text.replace("OCF", "OC")));
        assert!(!is_usable(&text.replace("enabled", "disabled")));
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_registered(folder.path(), "arm64"));
        fs::write(folder.path().join("qemu-aarch64"), text).unwrap();
        assert!(is_registered(folder.path(), "arm64") && !is_registered(folder.path(), "s390x"));
        assert!(runs(&Platform::host()));
    }
}
