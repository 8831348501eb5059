//! Which devices a container may use: the rules, and the program that decides by them on a host with version 2.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

use oci::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use sys::bpf::Instruction;

use crate::error::Error;

/// May be read.
const READ: u8 = 2;
/// May be written.
const WRITE: u8 = 4;
/// A node may be made.
const MKNOD: u8 = 1;
/// All of them.
pub(super) const ALL: u8 = READ | WRITE | MKNOD;

const LETTERS: [(u8, char); 3] = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];

/// Access as the kernel's files and systemd write it: `rwm`.
pub(super) fn letters(access: u8) -> String {
    LETTERS.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect()
}

/// What letters stand for; the first that stands for nothing is the error.
pub(super) fn parse_letters(text: &str) -> Result<u8, char> {
    text.chars().try_fold(0, |access, letter| {
        let bit = LETTERS.iter().find(|(_, l)| *l == letter).map(|(bit, _)| bit);
        bit.map(|bit| access | bit).ok_or(letter)
    })
}

/// One rule. The last one that fits decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    allow: bool,
    /// `None` for both kinds.
    pub(super) block: Option<bool>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

impl Rule {
    const fn default(block: bool, major: Option<u32>, minor: Option<u32>, access: u8) -> Self {
        Self { allow: true, block: Some(block), major, minor, access }
    }

    /// Whether it says the same about all devices.
    pub(crate) fn is_for_all(&self) -> bool {
        self.block.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }

    pub(crate) fn allows(&self) -> bool {
        self.allow
    }
}

/// What every container may do: make any node (opening is what counts), and use the devices that no program can do without.
const DEFAULTS: [Rule; 11] = [
    Rule::default(false, None, None, MKNOD),
    Rule::default(true, None, None, MKNOD),
    Rule::default(false, Some(1), Some(3), ALL), // null
    Rule::default(false, Some(1), Some(5), ALL), // zero
    Rule::default(false, Some(1), Some(7), ALL), // full
    Rule::default(false, Some(1), Some(8), ALL), // random
    Rule::default(false, Some(1), Some(9), ALL), // urandom
    Rule::default(false, Some(5), Some(0), ALL), // tty
    Rule::default(false, Some(5), Some(1), ALL), // console
    Rule::default(false, Some(5), Some(2), ALL), // ptmx
    Rule::default(false, Some(136), None, ALL),  // pts
];

/// Nothing is allowed, then the configuration's rules, then the defaults.
pub(crate) fn rules(configured: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    let mut rules = vec![Rule { allow: false, block: None, major: None, minor: None, access: ALL }];
    for rule in configured {
        let rule = parse(rule)?;
        // A rule about both kinds that is not about everything: version 1 has no word for it, and would take it for one.
        let both = rule.block.is_none() && !rule.is_for_all();
        let kinds: &[Option<bool>] = if both { &[Some(false), Some(true)] } else { &[rule.block] };
        rules.extend(kinds.iter().map(|block| Rule { block: *block, ..rule }));
    }
    // Rules before one about everything have no effect.
    if let Some(last) = rules.iter().rposition(Rule::is_for_all) {
        rules.drain(..last);
    }
    if !rules[0].allow {
        rules.extend(DEFAULTS);
    }
    Ok(rules)
}

fn parse(rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let invalid = |what: &str| Error::Invalid(format!("linux.resources.devices: {what}"));
    let block = match rule.typ() {
        None | Some(LinuxDeviceType::A) => None,
        Some(LinuxDeviceType::B) => Some(true),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(false),
        Some(LinuxDeviceType::P) => return Err(invalid("a FIFO is not a device")),
    };
    let number = |n: Option<i64>| match n {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| invalid("a number out of range")),
    };
    let access = parse_letters(rule.access().as_deref().unwrap_or_default())
        .map_err(|letter| invalid(&format!("access {letter:?}")))?;
    let access = if access == 0 { ALL } else { access };
    Ok(Rule {
        allow: rule.allow(),
        block,
        major: number(rule.major())?,
        minor: number(rule.minor())?,
        access,
    })
}

/// Whether a new group of version 2, in which everything is allowed, has them already.
pub(super) fn allow_everything(rules: &[Rule]) -> bool {
    matches!(rules, [one] if one.allow && one.is_for_all())
}

/// Has the rules enforced on a group of version 2, in place of those that this runtime had enforced before.
pub(super) fn attach(cgroup: impl AsFd, rules: &[Rule]) -> io::Result<()> {
    let program = sys::bpf::load_device_program(&compile(rules), PROGRAM_NAME)?;
    // Those of others, systemd's for one, stay: a device must be allowed by all of them.
    let mut old = sys::bpf::device_programs(&cgroup, PROGRAM_NAME)?.into_iter();
    match old.next() {
        None => sys::bpf::attach_device_program(&cgroup, &program),
        Some(first) => sys::bpf::replace_device_program(&cgroup, &first, &program),
    }?;
    old.try_for_each(|program| sys::bpf::detach_device_program(&cgroup, program))
}

/// Has none of our rules enforced on a group of version 2 any more.
pub(super) fn detach(cgroup: impl AsFd) -> io::Result<()> {
    let programs = sys::bpf::device_programs(&cgroup, PROGRAM_NAME)?;
    programs.into_iter().try_for_each(|program| sys::bpf::detach_device_program(&cgroup, program))
}

/// By which our programs are told from those of others.
const PROGRAM_NAME: &CStr = c"corten_devices";

const R0: u64 = 0;
const R1: u64 = 1;
const R2: u64 = 2;
const R3: u64 = 3;
const R4: u64 = 4;
const R5: u64 = 5;
const R6: u64 = 6;

const LOAD_WORD: u64 = 0x61;
const MOV_REGISTER: u64 = 0xbc;
const MOV_NUMBER: u64 = 0xb7;
const AND_NUMBER: u64 = 0x54;
const SHIFT_RIGHT: u64 = 0x74;
const JUMP_IF_NOT_EQUAL: u64 = 0x55;
const JUMP_IF_EQUAL: u64 = 0x15;
const EXIT: u64 = 0x95;

fn instruction(code: u64, to: u64, from: u64, offset: i16, number: u32) -> Instruction {
    code | to << 8 | from << 12 | u64::from(offset as u16) << 16 | u64::from(number) << 32
}

/// The program: 1 in R0 lets the access through, 0 does not. Rules are tried from the last to the first.
///
/// The context holds three words: access in the upper half of the first and the type in its lower half, major, minor.
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, R2, R1, 0, 0),
        instruction(MOV_REGISTER, R3, R2, 0, 0),
        instruction(AND_NUMBER, R2, 0, 0, 0xffff), // R2: type
        instruction(SHIFT_RIGHT, R3, 0, 0, 16),    // R3: access
        instruction(LOAD_WORD, R4, R1, 4, 0),      // R4: major
        instruction(LOAD_WORD, R5, R1, 8, 0),      // R5: minor
    ];
    for rule in rules.iter().rev() {
        program.extend(compile_rule(rule));
    }
    program.push(instruction(MOV_NUMBER, R0, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

fn compile_rule(rule: &Rule) -> Vec<Instruction> {
    const TYPE_BLOCK: u32 = 1;
    const TYPE_CHAR: u32 = 2;
    // Each test leaves the rule with a jump whose distance is put in once the length is known.
    let mut tests: Vec<(Vec<Instruction>, u64, u64, u32)> = Vec::new();
    if let Some(block) = rule.block {
        tests.push((vec![], JUMP_IF_NOT_EQUAL, R2, if block { TYPE_BLOCK } else { TYPE_CHAR }));
    }
    let copy = instruction(MOV_REGISTER, R6, R3, 0, 0);
    if rule.allow {
        // Fits if nothing is asked for beyond what the rule allows.
        let beyond = u32::from(!rule.access & (ALL));
        if beyond != 0 {
            let mask = instruction(AND_NUMBER, R6, 0, 0, beyond);
            tests.push((vec![copy, mask], JUMP_IF_NOT_EQUAL, R6, 0));
        }
    } else {
        // Fits if any of what is asked for is denied.
        let mask = instruction(AND_NUMBER, R6, 0, 0, u32::from(rule.access));
        tests.push((vec![copy, mask], JUMP_IF_EQUAL, R6, 0));
    }
    for (number, register) in [(rule.major, R4), (rule.minor, R5)] {
        if let Some(number) = number {
            tests.push((vec![], JUMP_IF_NOT_EQUAL, register, number));
        }
    }
    let verdict = [instruction(MOV_NUMBER, R0, 0, 0, u32::from(rule.allow)), instruction(EXIT, 0, 0, 0, 0)];
    let length: usize = tests.iter().map(|(before, ..)| before.len() + 1).sum::<usize>() + verdict.len();
    let mut code = Vec::with_capacity(length);
    for (before, jump, register, number) in tests {
        code.extend(before);
        let distance = length - code.len() - 1;
        code.push(instruction(jump, register, 0, distance as i16, number));
    }
    code.extend(verdict);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(json: serde_json::Value) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_value(json).unwrap()
    }

    /// Runs the program as the kernel would.
    fn run(program: &[Instruction], kind: u32, access: u8, major: u32, minor: u32) -> u64 {
        let context = [u32::from(access) << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let i = program[at];
            let (code, to, from) = (i & 0xff, (i >> 8 & 0xf) as usize, (i >> 12 & 0xf) as usize);
            let (offset, number) = ((i >> 16) as i16, (i >> 32) as u32);
            at += 1;
            match code {
                LOAD_WORD => registers[to] = context[offset as usize / 4].into(),
                MOV_REGISTER => registers[to] = registers[from] & 0xffff_ffff,
                MOV_NUMBER => registers[to] = number.into(),
                AND_NUMBER => registers[to] &= u64::from(number),
                SHIFT_RIGHT => registers[to] = (registers[to] & 0xffff_ffff) >> number,
                JUMP_IF_EQUAL if registers[to] == u64::from(number) => at += offset as usize,
                JUMP_IF_NOT_EQUAL if registers[to] != u64::from(number) => at += offset as usize,
                JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("unknown instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn without_rules_only_the_defaults_are_open() {
        let program = compile(&rules(&[]).unwrap());
        assert_eq!(run(&program, 2, READ | WRITE, 1, 3), 1, "null");
        assert_eq!(run(&program, 2, MKNOD, 10, 200), 1, "any node may be made");
        assert_eq!(run(&program, 2, READ, 10, 200), 0, "and not opened");
        assert_eq!(run(&program, 1, READ, 8, 0), 0, "a disk");
        assert_eq!(run(&program, 1, READ, 1, 3), 0, "the block device of the same numbers");
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let json = serde_json::json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "access": "rw"},
            {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"},
        ]);
        let program = compile(&rules(&configured(json)).unwrap());
        assert_eq!(run(&program, 1, READ | WRITE, 8, 0), 1);
        assert_eq!(run(&program, 1, READ, 8, 1), 1);
        assert_eq!(run(&program, 1, READ | WRITE, 8, 1), 0);
    }

    #[test]
    fn a_privileged_container_has_all() {
        let json = serde_json::json!([{"allow": false, "access": "rwm"}, {"allow": true, "access": "rwm"}]);
        let rules = rules(&configured(json)).unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(run(&compile(&rules), 1, READ | WRITE | MKNOD, 8, 0), 1);
    }

    #[test]
    fn a_rule_about_both_kinds_is_two() {
        let json = serde_json::json!([{"allow": true, "major": 10, "minor": 7, "access": "r"}]);
        let rules = rules(&configured(json)).unwrap();
        assert_eq!((rules[1].block, rules[2].block), (Some(false), Some(true)));
        let program = compile(&rules);
        assert_eq!((run(&program, 1, READ, 10, 7), run(&program, 2, READ, 10, 7)), (1, 1));
        assert_eq!(run(&program, 2, READ, 10, 8), 0);
    }

    #[test]
    fn unknown_letters_of_access_are_refused() {
        let json = serde_json::json!([{"allow": true, "type": "c", "access": "x"}]);
        rules(&configured(json)).unwrap_err();
    }

    #[test]
    fn the_kernel_accepts_the_program() {
        match sys::bpf::load_device_program(&compile(&rules(&[]).unwrap()), PROGRAM_NAME) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(1) => println!("skipped: CAP_BPF"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_kernel_decides_by_the_program() {
        let group =
            std::path::Path::new("/sys/fs/cgroup/unified").join(format!("devices-{}", std::process::id()));
        if std::fs::create_dir(&group).is_err() {
            println!("skipped: a cgroup hierarchy of version 2");
            return;
        }
        let fd = sys::fsx::open_dir(&group).unwrap();
        let more = serde_json::json!([{"allow": true, "type": "c", "major": 1, "minor": 11}]);
        let attached = attach(&fd, &rules(&configured(more)).unwrap());
        // In the place of the first, which allowed more.
        let attached = attached.and_then(|()| attach(&fd, &rules(&[]).unwrap()));
        let script = "echo $$ > \"$0/cgroup.procs\" && head -c 1 /dev/zero >&2 && echo zero; head -c 0 /dev/kmsg && echo kmsg";
        let output = std::process::Command::new("sh").args(["-c", script]).arg(&group).output().unwrap();
        drop(fd);
        while std::fs::remove_dir(&group).is_err_and(|e| e.kind() == io::ErrorKind::ResourceBusy) {
            std::thread::yield_now();
        }
        match attached {
            Err(error) if matches!(error.raw_os_error(), Some(1 | 22)) => println!("skipped: CAP_BPF"),
            other => {
                other.unwrap();
                assert_eq!(String::from_utf8_lossy(&output.stdout), "zero\n", "{output:?}");
            }
        }
    }
}
