//! Trying what a filter of system calls lets through: calls that take numbers alone.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;

/// System calls that take no addresses and give up no descriptor, so that any arguments are sound.
const NUMERIC: &[(&str, i64)] = &[
    ("alarm", libc::SYS_alarm),
    ("getpgid", libc::SYS_getpgid),
    ("getpid", libc::SYS_getpid),
    ("getppid", libc::SYS_getppid),
    ("getpriority", libc::SYS_getpriority),
    ("getsid", libc::SYS_getsid),
    ("getuid", libc::SYS_getuid),
    ("ioprio_get", libc::SYS_ioprio_get),
    ("personality", libc::SYS_personality),
    ("sched_getscheduler", libc::SYS_sched_getscheduler),
    ("sched_yield", libc::SYS_sched_yield),
    ("setpriority", libc::SYS_setpriority),
    ("socket", libc::SYS_socket),
    ("sync", libc::SYS_sync),
    ("umask", libc::SYS_umask),
    ("unshare", libc::SYS_unshare),
    ("vhangup", libc::SYS_vhangup),
];

/// Marks numbers of the x32 ABI.
const X32: i64 = 0x4000_0000;

/// The number of `getpid` in the 32-bit ABI.
#[cfg(target_arch = "x86_64")]
const GETPID_32: i64 = 20;

fn result(returned: i64) -> io::Result<i64> {
    if returned == -1 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

fn number(name: &str) -> io::Result<i64> {
    let found = NUMERIC.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| *number).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
}

/// Makes the system call `name` with these arguments; refuses those that could take one for an address.
pub fn call(name: &str, arguments: [u64; 6]) -> io::Result<i64> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the calls of the list read and write no memory of ours, whatever their arguments, and close nothing.
    result(unsafe { libc::syscall(number(name)?, a, b, c, d, e, f) })
}

/// The same by the x32 ABI, which most kernels do not have.
pub fn call_x32(name: &str) -> io::Result<i64> {
    // SAFETY: as for `call`; the other ABI differs in how it reads memory, which these do not.
    result(unsafe { libc::syscall(number(name)? | X32, 0, 0, 0, 0, 0, 0) })
}

/// `getpid` by the 32-bit ABI.
#[cfg(target_arch = "x86_64")]
pub fn getpid_32() -> io::Result<i64> {
    let mut value = GETPID_32;
    // SAFETY: the call takes no arguments; the kernel keeps all registers but the ones named.
    unsafe {
        std::arch::asm!("int 0x80", inout("rax") value, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    let value = i64::from(value as i32);
    if value < 0 { Err(io::Error::from_raw_os_error(-value as i32)) } else { Ok(value) }
}

/// The caller's session keyring, or the one it would use in its place.
pub fn session_keyring() -> io::Result<i64> {
    const KEYCTL_GET_KEYRING_ID: i32 = 0;
    const KEY_SPEC_SESSION_KEYRING: i32 = -3;
    // SAFETY: the operation takes numbers.
    result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_made_and_others_refused() {
        assert_eq!(call("getpid", [0; 6]).expect("getpid"), i64::from(std::process::id()));
        assert_eq!(call("getpgid", [99_999_999, 0, 0, 0, 0, 0]).expect_err("none").raw_os_error(), Some(3));
        assert_eq!(call("write", [0; 6]).expect_err("refused").kind(), io::ErrorKind::Unsupported);
    }
}
