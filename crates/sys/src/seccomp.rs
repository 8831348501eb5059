//! Installing a seccomp filter, answering for one that asks, and asking what the kernel offers.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Log all actions but `allow`.
pub const FLAG_LOG: u64 = 2;
/// Leave the speculative store bypass mitigation off.
pub const FLAG_SPEC_ALLOW: u64 = 4;
/// Return a descriptor on which a supervisor answers.
pub const FLAG_NEW_LISTENER: u64 = 8;
/// A call that waits for the supervisor can only be interrupted by a fatal signal.
pub const FLAG_WAIT_KILLABLE: u64 = 32;

/// One instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// The kernel's limit on the length of a filter.
pub const INSTRUCTIONS_MAX: usize = 4096;

#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// Installs `filter` for the calling thread and all it will execute. Returns the listener if `flags` asks for one.
///
/// The caller must have no-new-privileges set, or CAP_SYS_ADMIN.
pub fn install(filter: &[Instruction], flags: u64) -> io::Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    if filter.is_empty() || filter.len() > INSTRUCTIONS_MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let program = Program { len: filter.len() as u16, filter: filter.as_ptr() };
    // SAFETY: `program` describes a live list of instructions of the kernel's layout, which the kernel copies and checks.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the result is a descriptor that the kernel has just opened for us.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(result as i32) }))
}

/// Whether the kernel knows the filter's return action `action` (`SECCOMP_RET_*`).
pub fn knows_action(action: u32) -> bool {
    const SECCOMP_GET_ACTION_AVAIL: u32 = 2;
    // SAFETY: the kernel reads one live integer.
    unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// A call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// What to answer to.
    pub id: u64,
    /// Who called, in the PID namespace of the asker.
    pub pid: u32,
    /// The number of the system call.
    pub number: i32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// What to do with it.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// It returns this.
    Value(i64),
    /// It fails with this error number.
    Errno(i32),
    /// It is made after all.
    Continue,
}

/// Waits for the next call that the filter behind `listener` asks about.
pub fn asked(listener: impl AsFd) -> io::Result<Asked> {
    // SAFETY: all zeros is a valid value of this structure of integers, and what the kernel wants to find there.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one live structure of the type that the request code stands for.
    let rc = unsafe {
        libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut request)
    };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    let data = request.data;
    Ok(Asked { id: request.id, pid: request.pid, number: data.nr, arguments: data.args })
}

/// Answers.
pub fn answer(listener: impl AsFd, id: u64, answer: Answer) -> io::Result<()> {
    let (val, error, flags) = match answer {
        Answer::Value(value) => (value, 0, 0),
        Answer::Errno(number) => (0, -number, 0),
        Answer::Continue => (0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
    };
    let response = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the kernel reads one live structure of the type that the request code stands for.
    let rc = unsafe {
        libc::ioctl(listener.as_fd().as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw const response)
    };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
