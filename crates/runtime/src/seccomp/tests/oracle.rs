//! A plain reading of the rules, with no thought of speed.

use std::collections::HashMap;

use super::syscalls::{Abi, Syscall};
use oci::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};

/// The rules as one architecture sees them.
pub(super) struct Oracle<'a> {
    abi: Abi,
    default: u32,
    /// The last number that is named, if what lies above it is ENOSYS.
    last: Option<u32>,
    by_name: HashMap<&'a str, Vec<&'a LinuxSyscall>>,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(seccomp: &'a LinuxSeccomp, abi: Abi) -> Self {
        let default = seccomp.default_action().as_u32(seccomp.default_errno_ret());
        let rules = || seccomp.syscalls().iter().flatten();
        let number = |name: &String| Syscall::named(name).and_then(|syscall| syscall.number(abi));
        let permissive = matches!(default & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000);
        let last = rules().flat_map(LinuxSyscall::names).filter_map(number).max().filter(|_| !permissive);
        let mut by_name: HashMap<&str, Vec<&LinuxSyscall>> = HashMap::new();
        for rule in rules().filter(|rule| rule.action().as_u32(rule.errno_ret()) != default) {
            for name in rule.names() {
                by_name.entry(name).or_default().push(rule);
            }
        }
        Self { abi, default, last, by_name }
    }

    /// What the rules say about a call that the architecture has.
    pub(super) fn decide(&self, name: &str, args: &[u64; 6]) -> u32 {
        let syscall = Syscall::named(name).unwrap();
        if self.last.is_some_and(|last| syscall.number(self.abi).unwrap() > last) {
            return super::ENOSYS;
        }
        let value = |rule: &LinuxSyscall| rule.action().as_u32(rule.errno_ret());
        let rules = self.by_name.get(name).map(Vec::as_slice).unwrap_or_default();
        if let Some(always) = rules.iter().rev().find(|rule| rule.args().is_none()) {
            return value(always);
        }
        let narrow = |index: usize| !self.abi.is_wide() || syscall.narrow_arguments() & (1 << index) != 0;
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
        self.default
    }
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
