//! `manifest annotate`.

use super::lists::Lists;
use super::reference_for;
use crate::command::{Arity, Command, Example};
use crate::error::{Error, Result};
use crate::flags::{Group, Parsed, list, text};
use crate::session::Session;

/// `manifest annotate`.
pub const COMMAND: Command = Command {
    name: "annotate",
    usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
    about: "Add additional information to a local image manifest",
    arity: Arity::Exactly(2),
    flags: &[Group {
        title: "",
        flags: &[
            text("arch", "Set architecture"),
            text("os", "Set operating system"),
            list("os-features", "Set operating system feature"),
            text("os-version", "Set operating system version"),
            text("variant", "Set architecture variant"),
        ],
    }],
    examples: &[Example {
        about: "Say more exactly for which processor an image of a list is",
        line: "manifest annotate --arch arm --variant v7 r.example/app:1 r.example/app:1-arm",
    }],
    ..Command::leaf(|session, parsed| Box::pin(async move { run(session, parsed) }))
};

/// What Go can be compiled for, which is what Docker takes for a platform.
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64", "arm", "arm64"]),
];

fn run(session: &Session, parsed: &Parsed) -> Result<()> {
    let list = reference_for("annotate: error parsing name for manifest list", &parsed.args[0])?;
    let image = reference_for("annotate: error parsing name for manifest", &parsed.args[1])?;
    let lists = Lists::of(&session.config);
    let mut entry = lists.entry(&list, &image)?.ok_or_else(|| {
        Error::Message(format!("manifest for image {} does not exist in {}", parsed.args[1], parsed.args[0]))
    })?;
    let mut platform = entry.descriptor.platform.take().unwrap_or_default();
    let given = |name: &str| parsed.text(name).unwrap_or_default().to_owned();
    let (os, arch) = (given("os"), given("arch"));
    for (field, text) in [
        (&mut platform.os, os.clone()),
        (&mut platform.architecture, arch.clone()),
        (&mut platform.variant, given("variant")),
        (&mut platform.os_version, given("os-version")),
    ] {
        if !text.is_empty() {
            *field = text;
        }
    }
    for feature in parsed.list("os-features").flat_map(|features| features.split(',')) {
        if !feature.is_empty() && !platform.os_features.iter().any(|known| known == feature) {
            platform.os_features.push(feature.to_owned());
        }
    }
    let known = PLATFORMS.iter().find(|(os, _)| *os == platform.os);
    if !known.is_some_and(|(_, all)| all.contains(&platform.architecture.as_str())) {
        return Err(Error::Message(format!(
            "manifest entry for image has unsupported os/arch combination: {os}/{arch}"
        )));
    }
    entry.descriptor.platform = Some(platform);
    lists.save(&list, &image, &entry)
}
