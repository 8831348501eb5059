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

/// A system call that some architecture has.
#[derive(Clone, Copy)]
pub(super) struct Syscall(&'static Row);

impl Syscall {
    /// The one with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let index = ROWS.binary_search_by(|row| row.0.cmp(name)).ok()?;
        Some(Self(&ROWS[index]))
    }

    /// Its number there, with x32's bit.
    pub(super) fn number(self, abi: Abi) -> Option<u32> {
        let number = u32::try_from(self.0.1[abi.column()]).ok()?;
        Some(if abi == Abi::X32 { number | X32_BIT } else { number })
    }

    /// On i386 the call by which it can be made too, and the first argument which selects it there.
    pub(super) fn multiplexed(self) -> Option<(Self, u32)> {
        let find =
            |names: &[(&str, u32)]| names.iter().find(|(name, _)| *name == self.0.0).map(|(_, call)| *call);
        let (through, call) = match find(SOCKETCALL) {
            Some(call) => ("socketcall", call),
            None => ("ipc", find(IPC)?),
        };
        Some((Self::named(through)?, call))
    }

    /// Bits set for the arguments of which the kernel reads 32 bits only, whatever the register holds above: parameters
    /// of type `int` or `unsigned int` on which profiles decide.
    pub(super) fn narrow_arguments(self) -> u8 {
        match self.0.0 {
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

const SOCKETCALL: &[(&str, u32)] = &[
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

const IPC: &[(&str, u32)] = &[
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

/// All system calls that some architecture has.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, Syscall)> {
    ROWS.iter().map(|row| (row.0, Syscall(row)))
}
