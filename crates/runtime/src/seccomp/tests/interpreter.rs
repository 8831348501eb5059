//! The kernel's side: runs a filter on a call, and panics on what the kernel would refuse to install.

use sys::seccomp::Instruction;

/// What a filter sees of a system call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) arch: u32,
    pub(super) number: u32,
    pub(super) args: [u64; 6],
}

/// The filter's answer.
pub(super) fn run(program: &[Instruction], call: &Call) -> u32 {
    execute(program, call).0
}

/// How many instructions the answer takes.
pub(super) fn steps(program: &[Instruction], call: &Call) -> usize {
    execute(program, call).1
}

fn execute(program: &[Instruction], call: &Call) -> (u32, usize) {
    let mut data = [0_u32; 16];
    data[0] = call.number;
    data[1] = call.arch;
    for (index, value) in call.args.iter().enumerate() {
        data[4 + 2 * index] = *value as u32;
        data[5 + 2 * index] = (*value >> 32) as u32;
    }
    let (mut accumulator, mut index, mut scratch) = (0_u32, 0_u32, [0_u32; 16]);
    let mut at = 0;
    for step in 1..=program.len() {
        let Instruction { code, jt, jf, k } = program[at];
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        match code {
            0x20 => accumulator = data[k as usize / 4],
            0x00 => accumulator = k,
            0x01 => index = k,
            0x60 => accumulator = scratch[k as usize],
            0x61 => index = scratch[k as usize],
            0x02 => scratch[k as usize] = accumulator,
            0x03 => scratch[k as usize] = index,
            0x07 => index = accumulator,
            0x87 => accumulator = index,
            0x54 => accumulator &= k,
            0x44 => accumulator |= k,
            0x05 => at += k as usize,
            0x15 => at += jump(accumulator == k),
            0x25 => at += jump(accumulator > k),
            0x35 => at += jump(accumulator >= k),
            0x45 => at += jump(accumulator & k != 0),
            0x06 => return (k, step),
            other => panic!("instruction {other:#x} at {} is not allowed", at - 1),
        }
    }
    panic!("the program does not end");
}
