//! The table of flags in COMPATIBILITY.md is what the parser knows, with a note where a flag does something else than Docker's.

use std::fmt::Write as _;
use std::path::Path;

use crate::command::{Action, Command};
use crate::commands;
use crate::flags::Flag;

const BEGIN: &str = "<!-- flags: written by `CORTEN_WRITE=1 cargo test -p cli compatibility` -->\n";
const END: &str = "<!-- end of flags -->\n";
/// The commands whose flags are listed.
const COMMANDS: [&str; 5] = ["run", "create", "exec", "update", "build"];
/// What Docker does not have.
const BEYOND: [(&str, &[&str]); 4] = [
    ("build", &["watch"]),
    ("run", &["health-http", "health-tcp", "secret"]),
    ("create", &["health-http", "health-tcp", "secret"]),
    ("update", &["env-add", "env-rm", "mount-add", "mount-rm", "network", "publish-add", "publish-rm"]),
];

const WINDOWS: &str = "refused in Docker's words: it is for Windows";

/// Flags that do not do all that Docker's do.
const NOTES: &[(&str, &str)] = &[
    ("cpu-count", WINDOWS),
    ("cpu-percent", WINDOWS),
    ("io-maxbandwidth", WINDOWS),
    ("io-maxiops", WINDOWS),
    ("isolation", "only `default`: others are for Windows"),
    ("kernel-memory", "refused: the kernel has no such limit any more; Docker ignores it"),
    (
        "disable-content-trust",
        "`=false` is refused: there is no Notary; `signature-policy` of the daemon does more",
    ),
    (
        "runtime",
        "`corten`, and those of `runtimes` in daemon.json with runc's command line; containerd's shims are not known",
    ),
    (
        "storage-opt",
        "where the data root is on XFS with project quotas (`pquota`); elsewhere refused in Docker's words",
    ),
    ("use-api-socket", "where the daemon is reached by a unix socket"),
    (
        "blkio-weight",
        "where the kernel's I/O scheduler has weights; elsewhere an error, which Docker only warns of",
    ),
    ("blkio-weight-device", "as `--blkio-weight`"),
    ("cpu-rt-period", "where the kernel has it (cgroup v1, `CONFIG_RT_GROUP_SCHED`)"),
    ("cpu-rt-runtime", "where the kernel has it (cgroup v1, `CONFIG_RT_GROUP_SCHED`)"),
    (
        "gpus",
        "by the vendor's CDI description (`nvidia.com/gpu`, `amd.com/gpu`), without the vendor's runtime",
    ),
    ("memory-swappiness", "cgroup v1, as with Docker"),
    ("pids-limit", "4096 where it is not given (`default-pids-limit` of the daemon); `-1` for none"),
    ("userns", "`host`, or nothing: there is no `userns-remap`"),
    ("log-driver", "`json-file`, `local`, `syslog`, `gelf`, `fluentd`, `journald`, `none`"),
    (
        "log-opt",
        "files are bounded; no receiver is waited for unless `fluentd-async=false`; `fluentd-buffer-limit` gives up the oldest",
    ),
];

/// The same of one command, whatever a flag of that name does elsewhere. Those of `build` are of the classic client's and of buildx's.
const OWN_NOTES: &[(&str, &str, &str)] = &[
    ("build", "allow", "`network.host`, `security.insecure`; others are refused by name"),
    ("build", "attest", "`type=provenance`, `type=sbom`; `generator=` is refused"),
    ("build", "builder", "`default`: the engine builds itself; others are refused in buildx's words"),
    ("build", "cache-from", "`registry`, `local`; `gha`, `s3` and `azblob` are refused by name"),
    ("build", "cache-to", "`inline`, `registry`, `local`; `gha`, `s3` and `azblob` are refused by name"),
    (
        "build",
        "call",
        "`build`, `check`, `outline`, `targets`, without a daemon; other requests are refused by name",
    ),
    (
        "build",
        "compress",
        "changes nothing, and says so: files are sent one by one, and only those that have changed",
    ),
    (
        "build",
        "debug",
        "refused: this client has no log of its own; `--progress rawjson` shows all that is told",
    ),
    ("build", "force-rm", "steps have no containers that could stay"),
    ("build", "load", "the image is in the engine, also if it goes elsewhere"),
    (
        "build",
        "memory",
        "by BuildKit's API too, where Docker ignores it; so are `--memory-swap`, `--cpu-*` and `--cpuset-*`",
    ),
    ("build", "network", "one of the engine's networks too, which buildx refuses"),
    (
        "build",
        "output",
        "`compression=estargz`, `registry.insecure=true`, `unpack=false` and `load=false` are refused by name",
    ),
    ("build", "policy", "refused: not there yet; `signature-policy` of the daemon holds for `FROM`"),
    ("build", "rm", "steps have no containers that could stay; `=false` is refused"),
    ("build", "sbom", "packages of dpkg, apk and RPM; other generators are refused by name"),
    ("build", "secret", "needs BuildKit's API, as with Docker"),
    ("build", "security-opt", "refused in Docker's words"),
    ("build", "squash", "keeps the layers of the base image"),
];

fn flags(command: &str) -> Vec<&'static Flag> {
    let Action::Group(children) = commands::root().action else { panic!("the root holds commands") };
    let command: &Command = children.iter().find(|child| child.name == command).expect("a command");
    let mut flags: Vec<&Flag> = command.flags.iter().flat_map(|group| group.flags).collect();
    flags.retain(|flag| flag.same_as.is_empty());
    flags.sort_by_key(|flag| flag.long);
    flags
}

fn is_beyond(command: &str, flag: &str) -> bool {
    BEYOND.iter().any(|(of, flags)| *of == command && flags.contains(&flag))
}

fn table() -> String {
    let mut text = String::new();
    for command in COMMANDS {
        let flags = flags(command);
        let docker = flags.iter().filter(|flag| !is_beyond(command, flag.long)).count();
        writeln!(text, "\n### {command}: {docker} flags of Docker\n\n| flag | state |\n| --- | --- |")
            .expect("text");
        for flag in flags {
            let own = OWN_NOTES.iter().find(|(of, name, _)| *of == command && *name == flag.long);
            let own = own.map(|(_, _, note)| *note);
            let note = NOTES.iter().find(|(name, _)| *name == flag.long).map(|(_, note)| *note);
            let note = own.or(note);
            let state = match note {
                _ if is_beyond(command, flag.long) => "beyond Docker",
                Some(note) => note,
                None => "works",
            };
            let letter = flag.short.map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
            writeln!(text, "| {letter}`--{}` | {state} |", flag.long).expect("text");
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_table_in_compatibility_is_what_the_parser_knows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../COMPATIBILITY.md");
    let file = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = file.split_once(BEGIN).unwrap();
    let (known, tail) = rest.split_once(END).unwrap();
    if std::env::var_os("CORTEN_WRITE").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{}{END}{tail}", table())).unwrap();
        return;
    }
    assert!(known == table(), "COMPATIBILITY.md is old: CORTEN_WRITE=1 cargo test -p cli compatibility");
}

#[test]
fn notes_are_about_flags_that_exist() {
    let all: Vec<&str> = COMMANDS.iter().flat_map(|command| flags(command)).map(|flag| flag.long).collect();
    for name in NOTES.iter().map(|(name, _)| name).chain(BEYOND.iter().flat_map(|(_, flags)| *flags)) {
        assert!(all.contains(name), "{name}");
    }
    for (command, name, _) in OWN_NOTES {
        assert!(flags(command).iter().any(|flag| flag.long == *name), "{command} --{name}");
    }
}

/// What `docker build --help` of 28.2 lists, and `docker buildx build --help` of 0.30.
#[test]
fn build_has_all_flags_of_both_clients() {
    let classic = "add-host build-arg cache-from cgroup-parent compress cpu-period cpu-quota cpu-shares cpuset-cpus cpuset-mems \
        disable-content-trust file force-rm iidfile isolation label memory memory-swap network no-cache platform pull quiet rm \
        security-opt shm-size squash tag target ulimit";
    let buildx = "add-host allow annotation attest build-arg build-context builder cache-from cache-to call cgroup-parent check debug \
        file iidfile label load metadata-file network no-cache no-cache-filter output platform policy progress provenance pull \
        push quiet sbom secret shm-size ssh tag target ulimit";
    let known: Vec<&str> = flags("build").iter().map(|flag| flag.long).collect();
    for name in classic.split_whitespace().chain(buildx.split_whitespace()) {
        assert!(known.contains(&name), "--{name}");
    }
}
