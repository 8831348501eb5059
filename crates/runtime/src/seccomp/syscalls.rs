//! System calls by name, on each architecture.

mod table;

use table::{ROWS, Row};

/// An architecture's convention for system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
}

/// Marks numbers of x32, which shares its audit name with x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// The kernel's `AUDIT_ARCH_*`, by which a filter sees who calls.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits.
    pub(super) const fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    const fn column(self) -> usize {
        match self {
            Self::X86_64 => 0,
            Self::X32 => 1,
            Self::X86 => 2,
            Self::Aarch64 => 3,
            Self::Arm => 4,
        }
    }
}

/// On i386, for each call that can be made through another one too, that one and the first argument which selects it.
pub(super) struct Multiplexed {
    through: [Option<Syscall>; 2],
    /// By the row in the table: which of the two, and the argument; 0 is none.
    calls: [(u8, u8); ROWS.len()],
}

impl Multiplexed {
    pub(super) fn new() -> Self {
        let mut calls = [(0, 0); ROWS.len()];
        for (through, list) in [(0, SOCKETCALL), (1, IPC)] {
            for (name, call) in list {
                if let Some(syscall) = Syscall::named(name) {
                    calls[usize::from(syscall.0)] = (through, *call);
                }
            }
        }
        Self { through: [Syscall::named("socketcall"), Syscall::named("ipc")], calls }
    }

    pub(super) fn of(&self, syscall: Syscall) -> Option<(Syscall, u8)> {
        let (through, call) = self.calls[usize::from(syscall.0)];
        if call == 0 {
            return None;
        }
        Some((self.through[usize::from(through)]?, call))
    }
}

/// A system call that some architecture has: its row in the table.
#[derive(Clone, Copy)]
pub(super) struct Syscall(u16);

impl Syscall {
    /// The one with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes());
        loop {
            match usize::from(BUCKETS[slot % BUCKETS.len()]) {
                0 => return None,
                row if ROWS[row - 1].0 == name => return Some(Self((row - 1) as u16)),
                _ => slot += 1,
            }
        }
    }

    fn row(self) -> &'static Row {
        &ROWS[usize::from(self.0)]
    }

    /// Its number there, with x32's bit.
    pub(super) fn number(self, abi: Abi) -> Option<u32> {
        let number = u32::try_from(self.row().1[abi.column()]).ok()?;
        Some(if abi == Abi::X32 { number | X32_BIT } else { number })
    }

    /// Bits set for the arguments of which the kernel reads 32 bits only, whatever the register holds above: parameters
    /// of type `int` or `unsigned int` on which profiles decide.
    pub(super) fn narrow_arguments(self) -> u8 {
        match self.row().0 {
            "socket" | "socketpair" | "setsockopt" | "getsockopt" | "tgkill" => 0b111,
            "ioctl" | "fcntl" | "kill" | "tkill" | "setns" => 0b011,
            "futex" => 0b010,
            "madvise" => 0b100,
            // clone's flags are declared long, but only their lower half is used.
            "personality" | "prctl" | "arch_prctl" | "bpf" | "keyctl" | "socketcall" | "ipc" | "quotactl"
            | "clone" => 0b001,
            _ => 0,
        }
    }
}

const SOCKETCALL: &[(&str, u8)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

const IPC: &[(&str, u8)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The table's rows by the hash of their names, counted from 1; 0 is empty. Twice as many places as rows, filled when this is
/// compiled: a profile has hundreds of names, and is read at every start.
static BUCKETS: [u16; 1024] = {
    let mut buckets = [0; 1024];
    let mut row = 0;
    while row < ROWS.len() {
        let mut slot = hash(ROWS[row].0.as_bytes());
        while buckets[slot % buckets.len()] != 0 {
            slot += 1;
        }
        row += 1;
        buckets[slot % buckets.len()] = row as u16;
    }
    buckets
};

/// FNV-1a.
const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 15) as usize
}

/// All system calls that some architecture has.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, Syscall)> {
    ROWS.iter().zip(0..).map(|(row, index)| (row.0, Syscall(index)))
}
