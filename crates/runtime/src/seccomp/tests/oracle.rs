//! A plain reading of the rules, with no thought of speed.

use super::syscalls::{Abi, Syscall};
use oci::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

/// What the rules say about a call that the architecture has.
pub(super) fn decide(seccomp: &LinuxSeccomp, abi: Abi, name: &str, args: &[u64; 6]) -> u32 {
    let default = seccomp.default_action().as_u32(seccomp.default_errno_ret());
    let value = |rule: &LinuxSyscall| rule.action().as_u32(rule.errno_ret());
    let rules: Vec<&LinuxSyscall> = seccomp.syscalls().iter().flatten().collect();
    let number = |name: &str| Syscall::named(name).and_then(|syscall| syscall.number(abi));
    let this = number(name).unwrap();
    let last = rules.iter().flat_map(|rule| rule.names()).filter_map(|name| number(name)).max();
    let permissive = matches!(default & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000);
    if !permissive && last.is_some_and(|last| this > last) {
        return super::ENOSYS;
    }
    let rules: Vec<&LinuxSyscall> = rules
        .into_iter()
        .filter(|rule| rule.names().iter().any(|known| known == name) && value(rule) != default)
        .collect();
    if let Some(always) = rules.iter().rev().find(|rule| rule.args().is_none()) {
        return value(always);
    }
    let narrow =
        |index: usize| !abi.is_wide() || Syscall::named(name).unwrap().narrow_arguments() & (1 << index) != 0;
    for rule in rules {
        let conditions = rule.args().as_ref().unwrap();
        let repeated = conditions
            .iter()
            .enumerate()
            .any(|(at, one)| conditions[..at].iter().any(|other| other.index() == one.index()));
        let holds = |condition: &LinuxSeccompArg| {
            holds(condition, args[condition.index()], narrow(condition.index()))
        };
        let matched = if repeated { conditions.iter().any(holds) } else { conditions.iter().all(holds) };
        if matched {
            return value(rule);
        }
    }
    default
}

fn holds(condition: &LinuxSeccompArg, argument: u64, narrow: bool) -> bool {
    use LinuxSeccompOperator::*;
    let cut = |value: u64| if narrow { value & 0xffff_ffff } else { value };
    let negative =
        narrow && (condition.value() as i64) < 0 && condition.value() as i64 >= i64::from(i32::MIN);
    let value = if negative { cut(condition.value()) } else { condition.value() };
    let argument = cut(argument);
    match condition.op() {
        ScmpCmpNe => argument != value,
        ScmpCmpLt => argument < value,
        ScmpCmpLe => argument <= value,
        ScmpCmpEq => argument == value,
        ScmpCmpGe => argument >= value,
        ScmpCmpGt => argument > value,
        ScmpCmpMaskedEq => {
            argument & condition.value() == cut(condition.value_two().unwrap_or_default() & condition.value())
        }
    }
}
