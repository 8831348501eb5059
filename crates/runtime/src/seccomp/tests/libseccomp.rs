//! libseccomp's answer to the same rules, call by call.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::interpreter::{self, Call};
use super::syscalls::{self, Abi, X32_BIT};
use super::*;

/// Docker's default profile, where it is at hand.
fn dockers_profile() -> Option<Vec<u8>> {
    let folder = std::env::var_os("CORTEN_SPECS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/specs"),
        PathBuf::from,
    );
    let path = folder.join("seccomp-default.json");
    let read = std::fs::read(&path).ok();
    if read.is_none() {
        println!("skipped: no oracle ({})", path.display());
    }
    read
}

/// The helper that asks libseccomp, where it can be built.
struct Helper {
    folder: tempfile::TempDir,
}

impl Helper {
    fn build() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("helper.c");
        std::fs::write(&source, include_str!("helper.c")).unwrap();
        let built = Command::new("cc")
            .args(["-o", "helper", "helper.c", "-lseccomp"])
            .current_dir(folder.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !built {
            println!("skipped: no C compiler or no libseccomp-dev");
        }
        built.then_some(Self { folder })
    }

    fn compile(&self, machine: Machine, seccomp: &LinuxSeccomp) -> Vec<Instruction> {
        let default = seccomp.default_action().as_u32(seccomp.default_errno_ret());
        let mut orders = format!("default {default}\n");
        let names: &[&str] = match machine {
            Machine::X86_64 => &["x86_64", "x86", "x32"],
            Machine::Aarch64 => &["aarch64", "arm"],
        };
        for name in names {
            orders += &format!("arch {name}\n");
        }
        for rule in seccomp.syscalls().iter().flatten() {
            let action = rule.action().as_u32(rule.errno_ret());
            if action == default {
                continue;
            }
            for name in rule.names() {
                let args = rule.args().as_deref().unwrap_or_default();
                orders += &format!("rule {action} {name} {}", args.len());
                for arg in args {
                    let second = arg.value_two().unwrap_or_default();
                    orders += &format!(" {} {} {} {second}", arg.index(), arg.op() as u32, arg.value());
                }
                orders.push('\n');
            }
        }
        let mut child = Command::new(self.folder.path().join("helper"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(orders.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "helper: {:?}", output.status);
        let word = |bytes: &[u8]| u16::from_ne_bytes([bytes[0], bytes[1]]);
        output
            .stdout
            .chunks_exact(8)
            .map(|bytes| Instruction {
                code: word(bytes),
                jt: bytes[2],
                jf: bytes[3],
                k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            })
            .collect()
    }
}

fn abis(machine: Machine) -> &'static [Abi] {
    match machine {
        Machine::X86_64 => &[Abi::X86_64, Abi::X32, Abi::X86],
        Machine::Aarch64 => &[Abi::Aarch64, Abi::Arm],
    }
}

fn capability_sets() -> Vec<CapabilitySet> {
    let mut sets = vec![CapabilitySet::EMPTY, CapabilitySet::DEFAULT, CapabilitySet::ALL];
    sets.extend(
        (0..41)
            .map(|number| [Capability::from_number(number).unwrap()].into_iter().collect::<CapabilitySet>()),
    );
    sets
}

/// Values of a first argument on both sides of whatever the profile compares with.
const EDGES: [u64; 22] = [
    0,
    1,
    2,
    7,
    8,
    9,
    16,
    17,
    37,
    38,
    39,
    40,
    41,
    42,
    0x1ffff,
    0x20000,
    0x20008,
    0x20009,
    0x0200_0000,
    0x1000_0000,
    0xffff_fffe,
    0xffff_ffff,
];

/// Values to try for a call's first argument: all edges where the profile looks at it.
fn edges(name: &str) -> Vec<u64> {
    match name {
        "socket" | "personality" | "clone" => {
            EDGES.into_iter().chain([1 << 32, 38 | 1 << 32, 0x1000_0000 | 1 << 32]).collect()
        }
        _ => vec![0, 0xffff_ffff],
    }
}

/// The last number of an architecture that the rules name: above it the answer is ENOSYS.
fn last_named(seccomp: &LinuxSeccomp, abi: Abi) -> u32 {
    let names = seccomp.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
    names.filter_map(|name| syscalls::Syscall::named(name)?.number(abi)).max().unwrap()
}

#[test]
fn the_default_profile_is_dockers() {
    let Some(json) = dockers_profile() else { return };
    let mut compared = 0_u32;
    for machine in [Machine::X86_64, Machine::Aarch64] {
        let sets = capability_sets().into_iter().map(|capabilities| ((6, 18), capabilities));
        let old = [((4, 7), CapabilitySet::DEFAULT), ((4, 8), CapabilitySet::DEFAULT)];
        for (kernel, capabilities) in sets.chain(old) {
            let conditions = Conditions { machine, kernel, capabilities };
            let dockers = parse_profile(&json, &conditions).unwrap().unwrap();
            let program = compile_for(machine, &default_profile(&conditions)).unwrap();
            for &abi in abis(machine) {
                let oracle = oracle::Oracle::new(&dockers, abi);
                for (name, syscall) in syscalls::all() {
                    let Some(number) = syscall.number(abi) else { continue };
                    for first in edges(name) {
                        let args = [first, 0, 0, 0, 0, 0];
                        let ours = interpreter::run(&program, &Call { arch: abi.audit(), number, args });
                        let expected = oracle.decide(name, &args);
                        assert_eq!(ours, expected, "{abi:?} {name} {first:#x} {kernel:?} {capabilities:?}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert!(compared > 50_000, "only {compared} decisions compared");
}

#[test]
fn the_default_profile_decides_as_libseccomp_makes_it() {
    let (Some(json), Some(helper)) = (dockers_profile(), Helper::build()) else { return };
    for machine in [Machine::X86_64, Machine::Aarch64] {
        for capabilities in capability_sets() {
            let conditions = conditions(machine, capabilities);
            let dockers = parse_profile(&json, &conditions).unwrap().unwrap();
            let theirs = helper.compile(machine, &dockers);
            let ours = compile_for(machine, &default_profile(&conditions)).unwrap();
            for &abi in abis(machine) {
                compare_architecture(&ours, &theirs, &dockers, abi);
            }
            let foreign = Call { arch: 0x1234_5678, number: 1, args: [0; 6] };
            assert_eq!(interpreter::run(&ours, &foreign), interpreter::run(&theirs, &foreign));
        }
    }
}

fn compare_architecture(ours: &[Instruction], theirs: &[Instruction], dockers: &LinuxSeccomp, abi: Abi) {
    let base = if abi == Abi::X32 { X32_BIT } else { 0 };
    let last = last_named(dockers, abi);
    let names: std::collections::BTreeMap<u32, (&str, syscalls::Syscall)> =
        syscalls::all().filter_map(|(name, syscall)| Some((syscall.number(abi)?, (name, syscall)))).collect();
    let private = [0xf0001, 0xf0002, 0xf0003, 0xf0004, 0xf0005, 0xf0006];
    for number in (base..base + 700).chain(if abi == Abi::Arm { private } else { [base; 6] }) {
        let name = names.get(&number).map_or("?", |(name, _)| name);
        for first in edges(name) {
            let call = |first| Call { arch: abi.audit(), number, args: [first, 0, 0, 0, 0, 0] };
            // Where only half of an argument is read, the question is what libseccomp says to that half.
            let narrow = names.get(&number).is_some_and(|(_, syscall)| syscall.narrow_arguments() & 1 != 0);
            let seen = if narrow { first & 0xffff_ffff } else { first };
            let expected = if number > last { ENOSYS } else { interpreter::run(theirs, &call(seen)) };
            let got = interpreter::run(ours, &call(first));
            if got != expected && NEWER_THAN_LIBSECCOMP.contains(&name) {
                continue;
            }
            assert_eq!(got, expected, "{abi:?} {name} ({number}) {first:#x}");
        }
    }
}

/// Calls in Docker's profile that Debian's libseccomp has not heard of. What they get is compared with the profile.
const NEWER_THAN_LIBSECCOMP: [&str; 13] = [
    "statmount",
    "listmount",
    "lsm_get_self_attr",
    "lsm_set_self_attr",
    "lsm_list_modules",
    "mseal",
    "setxattrat",
    "getxattrat",
    "listxattrat",
    "removexattrat",
    "uretprobe",
    "open_tree_attr",
    "file_getattr",
];

#[test]
fn custom_profiles_decide_as_libseccomp_makes_them() {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActErrno, ScmpActKillProcess, ScmpActTrap};
    use LinuxSeccompOperator::*;
    let Some(helper) = Helper::build() else { return };
    let values = [0_u64, 1, 2, 3, 0xfff, 0x1000, 0x1001, 0xffff_ffff, 1 << 32, (1 << 32) + 0x1000, u64::MAX];
    let mut profiles = Vec::new();
    for op in [ScmpCmpNe, ScmpCmpLt, ScmpCmpLe, ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpMaskedEq] {
        for value in [0, 1, 0x1000, 0xffff_ffff, (1 << 32) + 0x1000, u64::MAX] {
            let one = rule(&["lseek", "mmap"], ScmpActErrno, vec![arg(1, op, value, 0x1000)]);
            profiles.push(profile(ScmpActAllow, vec![one.clone()]));
            let two = vec![arg(1, op, value, 0x1000), arg(2, ScmpCmpEq, 2, 0)];
            profiles.push(profile(ScmpActAllow, vec![rule(&["lseek", "mmap"], ScmpActKillProcess, two)]));
        }
    }
    let conditional = || rule(&["lseek"], ScmpActErrno, vec![arg(1, ScmpCmpEq, 1, 0)]);
    let always = |action| rule(&["lseek"], action, vec![]);
    profiles.push(profile(ScmpActAllow, vec![conditional(), always(ScmpActTrap)]));
    profiles.push(profile(ScmpActAllow, vec![always(ScmpActTrap), conditional()]));
    profiles.push(profile(
        ScmpActAllow,
        vec![rule(&["bind", "shmget", "accept", "semop"], ScmpActErrno, vec![])],
    ));
    profiles
        .push(profile(ScmpActAllow, vec![rule(&["socket"], ScmpActErrno, vec![arg(0, ScmpCmpEq, 2, 0)])]));
    for seccomp in profiles {
        let theirs = helper.compile(Machine::X86_64, &seccomp);
        let ours = compile_for(Machine::X86_64, &seccomp).unwrap();
        // On 32-bit architectures libseccomp cuts the values that it compares with; here they keep their meaning.
        let is_wide = |arg: &LinuxSeccompArg| u32::try_from(arg.value()).is_err();
        let cuts = seccomp.syscalls().iter().flatten().any(|rule| rule.args().iter().flatten().any(is_wide));
        let abis = if cuts { &[Abi::X86_64][..] } else { &[Abi::X86_64, Abi::X32, Abi::X86] };
        for &abi in abis {
            for name in
                ["lseek", "mmap", "bind", "shmget", "accept", "semop", "socket", "socketcall", "ipc", "read"]
            {
                let Some(number) = syscalls::Syscall::named(name).and_then(|syscall| syscall.number(abi))
                else {
                    continue;
                };
                for (one, two) in values.iter().flat_map(|one| values.map(|two| (*one, two))) {
                    let cut = |value: u64| if abi.is_wide() { value } else { value & 0xffff_ffff };
                    let call =
                        Call { arch: abi.audit(), number, args: [cut(two), cut(one), cut(two), 0, 0, 0] };
                    let mut seen = call.clone();
                    if name == "socket" {
                        seen.args[0] &= 0xffff_ffff;
                    }
                    let (got, expected) = (interpreter::run(&ours, &call), interpreter::run(&theirs, &seen));
                    assert_eq!(got, expected, "{abi:?} {name} {:x?} {seccomp:?}", call.args);
                }
            }
        }
    }
}
