//! The compiler against three oracles: a plain reading of the rules, Docker's profile, and libseccomp.

mod interpreter;
mod libseccomp;
mod oracle;

use super::*;
use crate::capabilities::{Capability, CapabilitySet};
use interpreter::Call;
use oci::runtime::{LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall};
use proptest::prelude::*;
use syscalls::{Abi, X32_BIT};

const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn conditions(machine: Machine, capabilities: CapabilitySet) -> Conditions {
    Conditions { machine, kernel: (6, 18), capabilities }
}

fn call(abi: Abi, name: &str, args: [u64; 6]) -> Call {
    let number = syscalls::Syscall::named(name).and_then(|syscall| syscall.number(abi));
    Call { arch: abi.audit(), number: number.unwrap_or_else(|| panic!("{abi:?} has no {name}")), args }
}

fn rule(names: &[&str], action: LinuxSeccompAction, args: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.iter().map(ToString::to_string).collect()).set_action(action);
    rule.set_args((!args.is_empty()).then_some(args));
    rule
}

fn arg(index: usize, op: LinuxSeccompOperator, value: u64, second: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default().index(index).op(op).value(value).value_two(second).build().unwrap()
}

fn profile(default: LinuxSeccompAction, rules: Vec<LinuxSyscall>) -> LinuxSeccomp {
    let mut seccomp = LinuxSeccomp::default();
    seccomp.set_default_action(default).set_syscalls(Some(rules));
    seccomp.set_architectures(Some(Machine::X86_64.architectures().to_vec()));
    seccomp
}

#[test]
fn the_default_profile_decides() {
    let seccomp = default_profile(&conditions(Machine::X86_64, CapabilitySet::DEFAULT));
    let program = compile_for(Machine::X86_64, &seccomp).unwrap();
    let run = |abi, name, first: u64| interpreter::run(&program, &call(abi, name, [first, 0, 0, 0, 0, 0]));
    for abi in [Abi::X86_64, Abi::X32, Abi::X86] {
        assert_eq!(run(abi, "read", 0), ALLOW);
        assert_eq!(run(abi, "exit_group", 0), ALLOW);
        for name in ["bpf", "mount", "unshare", "keyctl", "userfaultfd", "io_uring_setup", "reboot", "ptrace"]
        {
            let expected = if name == "ptrace" { ALLOW } else { EPERM };
            assert_eq!(run(abi, name, 0), expected, "{name}");
        }
        assert_eq!(run(abi, "socket", 1), ALLOW);
        assert_eq!(run(abi, "socket", 38), EPERM);
        assert_eq!(run(abi, "socket", 39), ALLOW);
        assert_eq!(run(abi, "socket", 40), EPERM);
        assert_eq!(run(abi, "socket", 41), ALLOW);
        // The kernel would not see the upper half.
        assert_eq!(run(abi, "socket", 38 | 1 << 32), EPERM);
        assert_eq!(run(abi, "clone", 0x1200011), ALLOW);
        assert_eq!(run(abi, "clone", 0x1000_0000), EPERM);
        assert_eq!(run(abi, "clone3", 0), ENOSYS);
        assert_eq!(run(abi, "personality", 0xffff_ffff), ALLOW);
        assert_eq!(run(abi, "personality", 0x004_0000), EPERM);
        let base = if abi == Abi::X32 { X32_BIT } else { 0 };
        assert_eq!(
            interpreter::run(&program, &Call { arch: abi.audit(), number: base + 1000, args: [0; 6] }),
            ENOSYS
        );
    }
    assert_eq!(interpreter::run(&program, &Call { arch: 0xc000_00b7, number: 0, args: [0; 6] }), KILL);
}

#[test]
fn the_default_program_is_short() {
    for machine in [Machine::X86_64, Machine::Aarch64] {
        for capabilities in [CapabilitySet::EMPTY, CapabilitySet::DEFAULT, CapabilitySet::ALL] {
            let program = compile_for(machine, &default_profile(&conditions(machine, capabilities))).unwrap();
            assert!(program.len() < 600, "{machine:?}: {} instructions", program.len());
            assert_eq!(program.flags(), 0);
        }
    }
}

#[test]
fn decisions_take_few_steps() {
    let program =
        compile_for(Machine::X86_64, &default_profile(&conditions(Machine::X86_64, CapabilitySet::DEFAULT)))
            .unwrap();
    for (name, syscall) in syscalls::all() {
        let Some(number) = syscall.number(Abi::X86_64) else { continue };
        let steps = interpreter::steps(&program, &Call { arch: Abi::X86_64.audit(), number, args: [0; 6] });
        assert!(steps <= 32, "{name} takes {steps} steps");
    }
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    use LinuxSeccompAction::{ScmpActAllow, ScmpActErrno, ScmpActKill, ScmpActNotify};
    let refused = |seccomp: &LinuxSeccomp| compile_for(Machine::X86_64, seccomp).unwrap_err().to_string();
    let mut errno = rule(&["read"], ScmpActAllow, vec![]);
    errno.set_errno_ret(Some(1));
    assert_eq!(refused(&profile(ScmpActErrno, vec![errno])), "errnoRet 1 cannot be used with SCMP_ACT_ALLOW");
    let mut errno = rule(&["read"], ScmpActErrno, vec![]);
    errno.set_errno_ret(Some(70_000));
    assert_eq!(refused(&profile(ScmpActKill, vec![errno])), "errnoRet 70000 is out of range");
    let seventh = vec![arg(6, LinuxSeccompOperator::ScmpCmpEq, 0, 0)];
    assert_eq!(
        refused(&profile(ScmpActErrno, vec![rule(&["read"], ScmpActAllow, seventh)])),
        "invalid seccomp argument index 6: must be below 6"
    );
    assert_eq!(refused(&profile(ScmpActNotify, vec![])), "SCMP_ACT_NOTIFY cannot be used as default action");
    assert_eq!(
        refused(&profile(ScmpActAllow, vec![rule(&["write"], ScmpActNotify, vec![])])),
        "SCMP_ACT_NOTIFY cannot be used for the write syscall"
    );
    assert_eq!(
        refused(&profile(ScmpActAllow, vec![rule(&["mkdir"], ScmpActNotify, vec![])])),
        "SCMP_ACT_NOTIFY needs a listenerPath"
    );
    let many = (0..3000).map(|value| {
        rule(&["read", "write"], ScmpActAllow, vec![arg(0, LinuxSeccompOperator::ScmpCmpEq, value, 0)])
    });
    assert!(refused(&profile(ScmpActErrno, many.collect())).starts_with("seccomp program is too long"));
}

#[test]
fn notify_asks_for_a_listener() {
    let mut seccomp = profile(
        LinuxSeccompAction::ScmpActAllow,
        vec![rule(&["mkdir"], LinuxSeccompAction::ScmpActNotify, vec![])],
    );
    seccomp.set_listener_path(Some("/run/agent.sock".into()));
    seccomp.set_flags(Some(vec![LinuxSeccompFilterFlag::SeccompFilterFlagLog]));
    let program = compile_for(Machine::X86_64, &seccomp).unwrap();
    assert!(program.has_listener());
    assert_eq!(program.flags(), FLAG_NEW_LISTENER | FLAG_LOG);
    assert_eq!(interpreter::run(&program, &call(Abi::X86_64, "mkdir", [0; 6])), 0x7fc0_0000);
}

#[test]
fn profiles_that_contradict_themselves() {
    let conditions = conditions(Machine::X86_64, CapabilitySet::DEFAULT);
    let parse = |json: &str| parse_profile(json.as_bytes(), &conditions);
    assert!(parse("{}").unwrap().is_none());
    for (json, words) in [
        ("", "decoding seccomp profile failed"),
        (
            r#"{"syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW"}]}"#,
            "seccomp profile has no defaultAction",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"a","names":["a"],"action":"SCMP_ACT_ALLOW"}]}"#,
            "both 'name' and 'names' were specified in the seccomp profile, use either 'name' or 'names'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"x"}}]}"#,
            "invalid kernel version: \"x\"",
        ),
    ] {
        assert_eq!(parse(json).unwrap_err().to_string(), words);
    }
    assert!(matches!(parse(&" ".repeat(PROFILE_BYTES_MAX + 1)), Err(Error::TooLarge { .. })));
}

#[test]
fn numbers_are_those_of_the_headers() {
    let folder = "/usr/include/x86_64-linux-gnu/asm";
    for (file, abi) in [("unistd_64.h", Abi::X86_64), ("unistd_32.h", Abi::X86), ("unistd_x32.h", Abi::X32)] {
        let Ok(text) = std::fs::read_to_string(format!("{folder}/{file}")) else {
            println!("skipped: no kernel headers ({folder}/{file})");
            continue;
        };
        let mut seen = 0;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("#define __NR_") else { continue };
            let Some((name, number)) = rest.split_once(char::is_whitespace) else { continue };
            let digits: String =
                number.rsplit(['+', ' ']).next().unwrap().chars().filter(char::is_ascii_digit).collect();
            let number: u32 = digits.parse().unwrap();
            let ours = syscalls::Syscall::named(name).and_then(|syscall| syscall.number(abi));
            assert_eq!(ours.map(|number| number & !X32_BIT), Some(number), "{name} in {file}");
            seen += 1;
        }
        assert!(seen > 300, "{file} has only {seen}");
    }
    assert!(syscalls::all().map(|(name, _)| name).is_sorted());
}

fn any_operator() -> impl Strategy<Value = LinuxSeccompOperator> {
    use LinuxSeccompOperator::*;
    prop::sample::select(vec![
        ScmpCmpNe,
        ScmpCmpLt,
        ScmpCmpLe,
        ScmpCmpEq,
        ScmpCmpGe,
        ScmpCmpGt,
        ScmpCmpMaskedEq,
    ])
}

fn any_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        Just(u64::from(u32::MAX)),
        Just(1 << 32),
        Just((1 << 32) + 1),
        Just(u64::MAX),
        any::<u64>(),
    ]
}

fn any_action() -> impl Strategy<Value = LinuxSeccompAction> {
    use LinuxSeccompAction::*;
    prop::sample::select(vec![ScmpActAllow, ScmpActErrno, ScmpActKillProcess, ScmpActLog, ScmpActTrap])
}

fn any_rule() -> impl Strategy<Value = LinuxSyscall> {
    let names =
        vec!["read", "socket", "clone", "ioctl", "mkdir", "statmount", "semget", "mmap", "vfork", "nonesuch"];
    let args = prop::collection::vec((0_usize..6, any_operator(), any_value(), any_value()), 0..3);
    (prop::sample::subsequence(names, 1..6), any_action(), args).prop_map(|(names, action, args)| {
        rule(
            &names,
            action,
            args.into_iter().map(|(index, op, value, second)| arg(index, op, value, second)).collect(),
        )
    })
}

proptest! {
    #[test]
    fn any_profile_is_read_or_refused(
        bytes: Vec<u8>,
        number in any_value(),
        words in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"names\"", "\"syscalls\"", "\"SCMP_ACT_ERRNO\"", "\"action\"", "null",
                "\"defaultAction\"", "\"args\"", "\"read\"", "\"index\"", "7", "\"op\"", "\"SCMP_CMP_EQ\"",
            ]),
            0..40,
        ),
    ) {
        let conditions = conditions(Machine::X86_64, CapabilitySet::DEFAULT);
        let template = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["read"],"action":"SCMP_ACT_TRACE","errnoRet":{number},
                "args":[{{"index":{number},"value":{number},"op":"SCMP_CMP_GT"}}]}}]}}"#
        );
        for json in [bytes.as_slice(), words.concat().as_bytes(), template.as_bytes()] {
            if let Ok(Some(rules)) = parse_profile(json, &conditions) {
                let _ = compile_for(Machine::X86_64, &rules);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn programs_decide_as_the_rules_say(
        default in any_action(),
        rules in prop::collection::vec(any_rule(), 0..8),
        arguments in prop::collection::vec(prop::array::uniform6(any_value()), 8),
    ) {
        let seccomp = profile(default, rules);
        let program = compile_for(Machine::X86_64, &seccomp).unwrap();
        for abi in [Abi::X86_64, Abi::X32, Abi::X86] {
            let oracle = oracle::Oracle::new(&seccomp, abi);
            for name in ["read", "socket", "clone", "ioctl", "mkdir", "statmount", "mmap", "vfork", "getpid", "reboot"] {
                for args in &arguments {
                    let call = call(abi, name, *args);
                    prop_assert_eq!(
                        interpreter::run(&program, &call),
                        oracle.decide(name, args),
                        "{:?} {} {:x?}", abi, name, args
                    );
                }
            }
        }
    }
}

#[test]
fn the_kernel_takes_the_default_program_and_obeys_it() {
    // A filter belongs to one thread, and ends with it.
    let enforced = std::thread::spawn(|| {
        let rules = default_profile(&conditions(Machine::HOST, CapabilitySet::DEFAULT));
        let program = compile(&rules).unwrap();
        sys::process::set_no_new_privileges().unwrap();
        match sys::seccomp::install(&program, program.flags()) {
            Err(error) if error.raw_os_error() == Some(38) => None,
            other => {
                other.unwrap();
                // What is allowed goes on working; what is not is refused before anything is looked at.
                std::fs::read("/proc/self/stat").unwrap();
                Some(sys::namespace::unshare(sys::namespace::UTS).unwrap_err().raw_os_error())
            }
        }
    });
    match enforced.join().unwrap() {
        Some(errno) => assert_eq!(errno, Some(1)),
        None => println!("skipped: the kernel has no seccomp"),
    }
}
