//! Resource limits.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;

/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// The kernel's number of the limit called `name` (`RLIMIT_NOFILE`, …).
pub fn number(name: &str) -> Option<u32> {
    Some(match name {
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        _ => return None,
    })
}

/// Sets limit `number` of process `pid`; 0 is the caller.
pub fn set(pid: i32, number: u32, soft: u64, hard: u64) -> io::Result<()> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads one live `rlimit64`, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid,
            number,
            &raw const new,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Soft and hard value of limit `number` of the caller.
pub fn get(number: u32) -> io::Result<(u64, u64)> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one live `rlimit64`, and reads nothing.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, number, std::ptr::null::<libc::rlimit64>(), &raw mut old)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((old.rlim_cur, old.rlim_max)) }
}
