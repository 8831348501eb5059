//! From decisions to instructions of classic BPF.
//!
//! Jumps only go forward, so the program is written from its end: each piece is emitted after what it jumps to, and the
//! list is turned round when all is there.
//!
//! ```text
//! load architecture; is it the first? the second? … or else kill
//! first:  load number; binary search over the ranges
//!         leaf: return, or: load an argument's half, compare, …, return
//! ```

use sys::seccomp::Instruction;

use super::rules::{Case, Comparison, Condition, Decision, Filter};

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where the kernel's `struct seccomp_data` has the number, the architecture and the arguments.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The furthest that a conditional jump reaches.
const REACH: usize = u8::MAX as usize;
/// A return statement is shared by jumps that are this near, so that the pieces between can still grow a little.
const SHARED_WITHIN: usize = 200;

/// A place in the program, counted from its end.
type Label = usize;

/// The program while it is written, the last instruction first.
#[derive(Default)]
struct Assembler {
    reversed: Vec<Instruction>,
    /// Return statements that may be shared, with where they are.
    returns: Vec<(u32, Label)>,
}

/// Makes the instructions for a filter.
pub(super) fn assemble(filter: &Filter) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    let mut entry = assembler.ret(filter.otherwise);
    let mut dispatch = Vec::new();
    for section in filter.sections.iter().rev() {
        assembler.search(&section.ranges);
        dispatch.push((section.audit, assembler.emit(LOAD, NUMBER)));
    }
    for (audit, label) in dispatch {
        entry = assembler.branch(JUMP_EQUAL, audit, label, entry);
    }
    assembler.goto(entry);
    assembler.emit(LOAD, ARCHITECTURE);
    assembler.reversed.reverse();
    assembler.reversed
}

impl Assembler {
    fn emit(&mut self, code: u16, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt: 0, jf: 0, k });
        self.reversed.len() - 1
    }

    /// How many instructions lie between the next one emitted and `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label - 1
    }

    /// A statement that returns `value`: one that is near enough, or a new one.
    fn ret(&mut self, value: u32) -> Label {
        let near = self.returns.iter().rev().find(|(known, _)| *known == value).map(|(_, label)| *label);
        if let Some(label) = near.filter(|label| self.distance(*label) < SHARED_WITHIN) {
            return label;
        }
        let label = self.emit(RETURN, value);
        self.returns.push((value, label));
        label
    }

    /// Makes the program go on at `label`, if it would not do so by itself.
    fn goto(&mut self, label: Label) -> Label {
        match self.distance(label) {
            0 => label,
            far => self.emit(JUMP, far as u32),
        }
    }

    /// A conditional jump; far targets are reached by a jump in between.
    fn branch(&mut self, code: u16, k: u32, mut yes: Label, mut no: Label) -> Label {
        loop {
            if self.distance(yes) > REACH {
                yes = self.far(yes);
            } else if self.distance(no) > REACH {
                no = self.far(no);
            } else {
                break;
            }
        }
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.reversed.push(Instruction { code, jt, jf, k });
        self.reversed.len() - 1
    }

    fn far(&mut self, label: Label) -> Label {
        let far = self.distance(label);
        self.emit(JUMP, far as u32)
    }

    /// Binary search over ranges, the number being loaded. The piece's entry is its last emitted instruction.
    fn search(&mut self, ranges: &[(u32, Decision)]) -> Label {
        let entry = self.search_within(ranges);
        self.goto(entry)
    }

    fn search_within(&mut self, ranges: &[(u32, Decision)]) -> Label {
        match ranges {
            [] => self.ret(0),
            [(_, decision)] => self.decision(decision),
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let start = above[0].0;
                let yes = self.search_within(above);
                let no = self.search_within(below);
                self.branch(JUMP_GREATER_OR_EQUAL, start, yes, no)
            }
        }
    }

    fn decision(&mut self, decision: &Decision) -> Label {
        match decision {
            Decision::Return(value) => self.ret(*value),
            Decision::Cases { cases, fallback } => {
                let otherwise = self.ret(*fallback);
                cases.iter().rev().fold(otherwise, |otherwise, case| self.case(case, otherwise))
            }
        }
    }

    fn case(&mut self, case: &Case, otherwise: Label) -> Label {
        let action = self.ret(case.action);
        case.conditions
            .iter()
            .rev()
            .fold(action, |holds, condition| self.condition(condition, holds, otherwise))
    }

    /// Compares one argument, half by half: the lower one decides if the upper ones are equal.
    fn condition(&mut self, condition: &Condition, holds: Label, fails: Label) -> Label {
        let (yes, no) = if condition.negated { (fails, holds) } else { (holds, fails) };
        let (mask_high, mask_low) = halves(condition.mask);
        let (value_high, value_low) = halves(condition.value);
        let code = match condition.comparison {
            Comparison::Equal => JUMP_EQUAL,
            Comparison::Greater => JUMP_GREATER,
            Comparison::GreaterOrEqual => JUMP_GREATER_OR_EQUAL,
        };
        if mask_high == 0 && value_high != 0 {
            // The argument is below 2^32 and the value is not: neither equal nor greater.
            return no;
        }
        let lower = if mask_low == 0 && condition.comparison == Comparison::Equal {
            yes
        } else {
            self.branch(code, value_low, yes, no);
            self.load_half(condition.argument, 0, mask_low)
        };
        if mask_high == 0 {
            return lower;
        }
        let differs = match condition.comparison {
            Comparison::Equal => no,
            Comparison::Greater | Comparison::GreaterOrEqual => {
                self.branch(JUMP_GREATER, value_high, yes, no)
            }
        };
        self.branch(JUMP_EQUAL, value_high, lower, differs);
        self.load_half(condition.argument, 4, mask_high)
    }

    /// Loads half of an argument under a mask; the machines are all little-endian.
    fn load_half(&mut self, argument: u8, half: u32, mask: u32) -> Label {
        if mask != u32::MAX {
            self.emit(AND, mask);
        }
        self.emit(LOAD, ARGUMENTS + 8 * u32::from(argument) + half)
    }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
