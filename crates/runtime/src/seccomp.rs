//! Seccomp: from the runtime configuration's rules to a program that the kernel runs at each system call.
//!
//! ```text
//! LinuxSeccomp --lower--> per architecture: number -> decision --assemble--> instructions
//!                         ([`rules`])                            ([`assembler`])
//! ```
//!
//! What is decided, and where it differs from what libseccomp makes of the same rules:
//!
//! - An architecture that is not listed (the native one always is) is killed, as with libseccomp.
//! - Numbers above the last one that the rules name on an architecture get ENOSYS, unless the default action permits:
//!   programs then fall back to what older kernels had, as under runc.
//! - Where the kernel reads only 32 bits of an argument, only those are compared. libseccomp compares 64, and
//!   `socket(38 | 1 << 32)` then passes a filter that forbids 38.
//! - The decision is found by binary search over the numbers instead of a list: six comparisons instead of up to 400.

mod assembler;
mod default;
mod profile;
mod rules;
mod syscalls;

use oci::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};
use sys::seccomp::{FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_WAIT_KILLABLE, Instruction};

pub use default::default_profile;
pub use profile::{PROFILE_BYTES_MAX, parse_profile};

/// What is wrong with a seccomp profile or with the rules made from it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The profile is not the JSON that it should be.
    #[error("decoding seccomp profile failed")]
    Json(#[source] serde_json::Error),
    /// The profile is larger than any honest one.
    #[error("seccomp profile is too large: {size} bytes, the limit is {PROFILE_BYTES_MAX}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The profile contradicts itself or says something that cannot be done.
    #[error("{reason}")]
    Invalid {
        /// What.
        reason: String,
    },
    /// The program would be longer than the kernel takes.
    #[error(
        "seccomp program is too long: {length} instructions, the limit is {}",
        sys::seccomp::INSTRUCTIONS_MAX
    )]
    TooLong {
        /// Its length.
        length: usize,
    },
}

/// The processor that a profile is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86_64, with i386 and x32 beside it.
    X86_64,
    /// arm64, with 32-bit arm beside it.
    Aarch64,
}

impl Machine {
    /// The one that this program was built for.
    #[cfg(target_arch = "x86_64")]
    pub const HOST: Self = Self::X86_64;
    /// The one that this program was built for.
    #[cfg(target_arch = "aarch64")]
    pub const HOST: Self = Self::Aarch64;

    /// The machine's architectures, its own first.
    pub const fn architectures(self) -> &'static [Arch] {
        match self {
            Self::X86_64 => &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
            Self::Aarch64 => &[Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        }
    }

    /// Its name in Docker's profiles.
    const fn profile_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }
}

/// What a profile's conditions depend on.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// The processor.
    pub machine: Machine,
    /// The kernel's version: major, minor.
    pub kernel: (u32, u32),
    /// What the container may do.
    pub capabilities: crate::capabilities::CapabilitySet,
}

/// A filter, ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    instructions: Vec<Instruction>,
    flags: u64,
}

impl Program {
    /// The flags for `sys::seccomp::install`.
    pub fn flags(&self) -> u64 {
        self.flags
    }

    /// Whether installing it gives a descriptor on which somebody has to answer.
    pub fn has_listener(&self) -> bool {
        self.flags & FLAG_NEW_LISTENER != 0
    }
}

impl std::ops::Deref for Program {
    type Target = [Instruction];

    fn deref(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// Makes the program for this machine.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Program, Error> {
    compile_for(Machine::HOST, seccomp)
}

/// Makes the program for any machine.
pub fn compile_for(machine: Machine, seccomp: &LinuxSeccomp) -> Result<Program, Error> {
    let filter = rules::lower(machine, seccomp)?;
    let instructions = assembler::assemble(&filter);
    if instructions.len() > sys::seccomp::INSTRUCTIONS_MAX {
        return Err(Error::TooLong { length: instructions.len() });
    }
    let mut flags = 0;
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => FLAG_LOG,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE,
            // The process that installs it has one thread.
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
        };
    }
    if uses_notify(seccomp)? {
        flags |= FLAG_NEW_LISTENER;
    } else {
        // The kernel refuses this one without a listener.
        flags &= !FLAG_WAIT_KILLABLE;
    }
    Ok(Program { instructions, flags })
}

fn uses_notify(seccomp: &LinuxSeccomp) -> Result<bool, Error> {
    let invalid = |reason: &str| Err(Error::Invalid { reason: reason.to_owned() });
    let notify = LinuxSeccompAction::ScmpActNotify;
    if seccomp.default_action() == notify {
        return invalid("SCMP_ACT_NOTIFY cannot be used as default action");
    }
    let mut notifies = seccomp.syscalls().iter().flatten().filter(|rule| rule.action() == notify).peekable();
    let used = notifies.peek().is_some();
    // The descriptor of the listener is handed over by a write, which would wait for itself.
    if notifies.any(|rule| rule.names().iter().any(|name| name == "write")) {
        return invalid("SCMP_ACT_NOTIFY cannot be used for the write syscall");
    }
    if used && seccomp.listener_path().is_none() {
        return invalid("SCMP_ACT_NOTIFY needs a listenerPath");
    }
    Ok(used)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of the tests themselves")]
mod tests;
