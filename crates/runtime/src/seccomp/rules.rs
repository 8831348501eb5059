//! From names and operators to numbers and comparisons: what each architecture's calls are decided by.

use oci::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use super::syscalls::{Abi, Multiplexed, Syscall, X32_BIT};
use super::{Error, Machine};

/// Kill the calling thread: what an architecture that is not listed gets.
const RET_KILL_THREAD: u32 = 0;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// What the lower half of a return action holds.
const DATA_MAX: u32 = 0xffff;
/// A system call has this many arguments.
const ARGUMENTS: usize = 6;
/// More comparisons than this cannot become a program that the kernel takes; it bounds the work on hostile input.
const CONDITIONS_MAX: usize = 8192;
/// More names than this are no profile: every call there is, on every architecture, twenty times over.
const NAMES_MAX: usize = 10_000;

/// What a call is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Always this.
    Return(u32),
    /// The first case whose conditions all hold, or else the fallback.
    Cases {
        /// The cases.
        cases: Vec<Case>,
        /// If no case holds.
        fallback: u32,
    },
}

/// Conditions that must all hold, and the answer then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: u32,
}

/// What an argument, under a mask, is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u8,
    pub(super) mask: u64,
    pub(super) comparison: Comparison,
    pub(super) value: u64,
    /// Whether the opposite is meant.
    pub(super) negated: bool,
}

/// How it is compared; the others are opposites of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
}

/// One of the kernel's names for architectures, with its decisions: each holds from its number up to the next.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) audit: u32,
    pub(super) ranges: Vec<(u32, Decision)>,
}

/// A whole filter.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) sections: Vec<Section>,
    /// For architectures without a section.
    pub(super) otherwise: u32,
}

/// One rule for one name, before it is known what it means on each architecture.
struct Rule<'a> {
    syscall: Syscall,
    action: u32,
    arguments: &'a [LinuxSeccompArg],
    /// Whether it says what holds anyway. Its name still counts as known.
    redundant: bool,
}

/// Resolves the names and operators for each of the machine's architectures that is listed.
pub(super) fn lower(machine: Machine, seccomp: &LinuxSeccomp) -> Result<Filter, Error> {
    let default = return_value(seccomp.default_action(), seccomp.default_errno_ret())?;
    let rules = collect_rules(seccomp, default)?;
    let permits = matches!(
        seccomp.default_action(),
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog | LinuxSeccompAction::ScmpActTrace
    );
    let beyond = if permits { default } else { RET_ERRNO | ENOSYS };
    let mut sections: Vec<Section> = Vec::new();
    for abi in listed(machine, seccomp) {
        let mut ranges = decide(&rules, abi, default, beyond)?;
        match sections.iter_mut().find(|section| section.audit == abi.audit()) {
            // x32's numbers lie above all of x86_64's.
            Some(section) => {
                section.ranges.retain(|(start, _)| *start < X32_BIT);
                section.ranges.append(&mut ranges);
            }
            None => {
                if abi == Abi::X86_64 {
                    let x32 = if permits { RET_KILL_THREAD } else { RET_ERRNO | ENOSYS };
                    ranges.push((X32_BIT, Decision::Return(x32)));
                    // -1 is what a tracer leaves to skip a call.
                    ranges.push((u32::MAX, Decision::Return(beyond)));
                }
                sections.push(Section { audit: abi.audit(), ranges });
            }
        }
    }
    for section in &mut sections {
        section.ranges.dedup_by(|next, kept| next.1 == kept.1);
    }
    Ok(Filter { sections, otherwise: RET_KILL_THREAD })
}

/// The machine's own architecture, then the others that are listed. Those of other machines cannot call this kernel.
fn listed(machine: Machine, seccomp: &LinuxSeccomp) -> impl Iterator<Item = Abi> {
    let native = machine.architectures()[0];
    let wanted =
        move |arch: &Arch| *arch == native || seccomp.architectures().iter().flatten().any(|one| one == arch);
    machine.architectures().iter().filter(move |arch| wanted(arch)).filter_map(|arch| match arch {
        Arch::ScmpArchX86_64 => Some(Abi::X86_64),
        Arch::ScmpArchX32 => Some(Abi::X32),
        Arch::ScmpArchX86 => Some(Abi::X86),
        Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
        Arch::ScmpArchArm => Some(Abi::Arm),
        _ => None,
    })
}

/// The kernel's return value for an action.
fn return_value(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let base = match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => RET_KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => RET_KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => RET_TRAP,
        LinuxSeccompAction::ScmpActErrno => RET_ERRNO,
        LinuxSeccompAction::ScmpActTrace => RET_TRACE,
        LinuxSeccompAction::ScmpActNotify => RET_NOTIFY,
        LinuxSeccompAction::ScmpActLog => RET_LOG,
        LinuxSeccompAction::ScmpActAllow => RET_ALLOW,
    };
    let takes_errno = matches!(base, RET_ERRNO | RET_TRACE);
    match errno {
        Some(errno) if takes_errno && errno <= DATA_MAX => Ok(base | errno),
        Some(errno) if takes_errno => {
            Err(Error::Invalid { reason: format!("errnoRet {errno} is out of range") })
        }
        Some(errno) => {
            Err(Error::Invalid { reason: format!("errnoRet {errno} cannot be used with {action}") })
        }
        None if takes_errno => Ok(base | EPERM),
        None => Ok(base),
    }
}

/// The rules for names that are known.
fn collect_rules(seccomp: &LinuxSeccomp, default: u32) -> Result<Vec<Rule<'_>>, Error> {
    let mut rules = Vec::with_capacity(512);
    let mut names = 0;
    for entry in seccomp.syscalls().iter().flatten() {
        let action = return_value(entry.action(), entry.errno_ret())?;
        let arguments = entry.args().as_deref().unwrap_or_default();
        names += entry.names().len();
        if names > NAMES_MAX || names.saturating_mul(arguments.len()) > NAMES_MAX * ARGUMENTS {
            return Err(Error::Invalid {
                reason: format!("seccomp profile has more than {NAMES_MAX} names"),
            });
        }
        if let Some(wrong) = arguments.iter().find(|argument| argument.index() >= ARGUMENTS) {
            let reason =
                format!("invalid seccomp argument index {}: must be below {ARGUMENTS}", wrong.index());
            return Err(Error::Invalid { reason });
        }
        let known = entry.names().iter().filter_map(|name| Syscall::named(name));
        rules.extend(known.map(|syscall| Rule { syscall, action, arguments, redundant: action == default }));
    }
    Ok(rules)
}

/// What one rule says about one number, in the order of the numbers and then of the profile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    number: u32,
    rule: u16,
    /// The first argument that selects the call, where it is made through another one; 0 for itself.
    call: u8,
}

/// The decisions of one architecture, in the order of the numbers.
fn decide(rules: &[Rule<'_>], abi: Abi, default: u32, beyond: u32) -> Result<Vec<(u32, Decision)>, Error> {
    let mut entries: Vec<Entry> = Vec::with_capacity(rules.len() + 64);
    let multiplexed = (abi == Abi::X86).then(Multiplexed::new);
    let (mut last, mut conditions) = (None, 0);
    for (rule, index) in rules.iter().zip(0..) {
        let number = rule.syscall.number(abi);
        last = last.max(number);
        if rule.redundant {
            continue;
        }
        if let Some(number) = number {
            conditions += rule.arguments.len();
            entries.push(Entry { number, rule: index, call: 0 });
        }
        if let Some((through, call)) = multiplexed.as_ref().and_then(|calls| calls.of(rule.syscall))
            && let Some(number) = through.number(abi)
        {
            conditions += 1;
            entries.push(Entry { number, rule: index, call });
        }
    }
    if conditions > CONDITIONS_MAX {
        return Err(Error::TooLong { length: conditions });
    }
    entries.sort_unstable();
    let mut ranges = Vec::with_capacity(256);
    let mut next = if abi == Abi::X32 { X32_BIT } else { 0 };
    for group in entries.chunk_by(|one, other| one.number == other.number) {
        let number = group[0].number;
        if number > next {
            extend(&mut ranges, next, Decision::Return(default));
        }
        extend(&mut ranges, number, combine(group, rules, abi, default));
        next = number + 1;
    }
    extend(&mut ranges, next, Decision::Return(default));
    // Without any name it is not known where the known ones end.
    if let Some(last) = last {
        ranges.retain(|(start, _)| *start <= last);
        extend(&mut ranges, last + 1, Decision::Return(beyond));
    }
    Ok(ranges)
}

/// Adds what holds from `start` on, unless it holds already.
fn extend(ranges: &mut Vec<(u32, Decision)>, start: u32, decision: Decision) {
    if ranges.last().is_none_or(|(_, last)| *last != decision) {
        ranges.push((start, decision));
    }
}

/// The decision for one number: a rule without conditions settles it, the last one if there are several; or else the
/// first case that holds.
fn combine(group: &[Entry], rules: &[Rule<'_>], abi: Abi, default: u32) -> Decision {
    let rule = |entry: &Entry| &rules[usize::from(entry.rule)];
    if let Some(always) = group.iter().rev().find(|entry| entry.call == 0 && rule(entry).arguments.is_empty())
    {
        return Decision::Return(rule(always).action);
    }
    let mut cases = Vec::with_capacity(group.len());
    for entry in group {
        match entry.call {
            0 => push_cases(&mut cases, rule(entry), abi),
            call => {
                // The arguments are behind a pointer there, where a filter cannot look.
                let (call, mask) = (u64::from(call), u64::from(u32::MAX));
                let selects = Condition::new(0, Comparison::Equal, call, mask, false);
                cases.push(Case { conditions: vec![selects], action: rule(entry).action });
            }
        }
    }
    Decision::Cases { cases, fallback: default }
}

/// One rule becomes one case; but if it compares an argument twice, it becomes a case for each comparison, of which any
/// may hold, as with runc.
fn push_cases(cases: &mut Vec<Case>, rule: &Rule<'_>, abi: Abi) {
    let narrow = if abi.is_wide() { rule.syscall.narrow_arguments() } else { u8::MAX };
    let condition = |argument: &LinuxSeccompArg| {
        let width = if narrow & (1 << argument.index()) == 0 { u64::MAX } else { u64::from(u32::MAX) };
        Condition::from_argument(argument, width)
    };
    let mut seen = 0_u8;
    let repeats = rule.arguments.iter().any(|argument| {
        let bit = 1 << argument.index();
        let again = seen & bit != 0;
        seen |= bit;
        again
    });
    if repeats {
        cases.extend(
            rule.arguments.iter().map(|one| Case { conditions: vec![condition(one)], action: rule.action }),
        );
        return;
    }
    cases.push(Case { conditions: rule.arguments.iter().map(condition).collect(), action: rule.action });
}

impl Condition {
    fn new(argument: u8, comparison: Comparison, value: u64, mask: u64, negated: bool) -> Self {
        Self { argument, mask, comparison, value, negated }
    }

    fn from_argument(argument: &LinuxSeccompArg, width: u64) -> Self {
        let (comparison, negated) = match argument.op() {
            LinuxSeccompOperator::ScmpCmpEq | LinuxSeccompOperator::ScmpCmpMaskedEq => {
                (Comparison::Equal, false)
            }
            LinuxSeccompOperator::ScmpCmpNe => (Comparison::Equal, true),
            LinuxSeccompOperator::ScmpCmpGt => (Comparison::Greater, false),
            LinuxSeccompOperator::ScmpCmpLe => (Comparison::Greater, true),
            LinuxSeccompOperator::ScmpCmpGe => (Comparison::GreaterOrEqual, false),
            LinuxSeccompOperator::ScmpCmpLt => (Comparison::GreaterOrEqual, true),
        };
        // The index was checked when the rules were collected.
        let index = argument.index() as u8;
        if argument.op() == LinuxSeccompOperator::ScmpCmpMaskedEq {
            let mask = argument.value();
            let value = argument.value_two().unwrap_or_default() & mask;
            // Bits that the kernel does not read are compared with nothing.
            return Self::new(index, comparison, value & width, mask & width, negated);
        }
        // Negative numbers are written with all 64 bits; for a narrow argument they mean their lower half.
        let value = argument.value();
        let sign_extended = width != u64::MAX && value >> 31 == 0x1_ffff_ffff;
        let value = if sign_extended { value & width } else { value };
        Self::new(index, comparison, value, width, negated)
    }
}
