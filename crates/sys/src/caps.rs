//! Capabilities of the calling process, as sets of bits: bit *n* is capability number *n*.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// The three sets that `capset(2)` sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    /// In force.
    pub effective: u64,
    /// Can be put in force.
    pub permitted: u64,
    /// Kept over execution of a program whose file inherits them.
    pub inheritable: u64,
}

/// The caller's sets.
pub fn get() -> io::Result<Sets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: `header` and the two `Data` that version 3 calls for are live and writable.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Sets {
        effective: join(data[0].effective, data[1].effective),
        permitted: join(data[0].permitted, data[1].permitted),
        inheritable: join(data[0].inheritable, data[1].inheritable),
    })
}

/// Sets the caller's sets.
pub fn set(sets: Sets) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: `header` and the two `Data` that version 3 calls for are live; the kernel reads them.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) })
}

/// The number of the highest capability that this kernel knows.
pub fn last() -> u32 {
    // Asking for the bounding set fails with EINVAL beyond the last one.
    (0..64).take_while(|&n| bounding_has(n).is_some()).last().unwrap_or(0)
}

/// Whether capability `number` is in the bounding set; `None` if the kernel does not know it.
pub fn bounding_has(number: u32) -> Option<bool> {
    // SAFETY: passes integers only.
    match unsafe { libc::prctl(libc::PR_CAPBSET_READ, u64::from(number), 0, 0, 0) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// Takes from the bounding set, for ever, all that is not in `keep`.
pub fn limit_bounding(keep: u64) -> io::Result<()> {
    for number in 0..64u64 {
        if keep >> number & 1 == 1 {
            continue;
        }
        // SAFETY: passes integers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) } < 0 {
            let error = io::Error::last_os_error();
            // Beyond the last capability of this kernel.
            if error.raw_os_error() == Some(libc::EINVAL) {
                return Ok(());
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Makes the ambient set exactly `set`, whose members must be both permitted and inheritable.
pub fn set_ambient(set: u64) -> io::Result<()> {
    // SAFETY: passes integers only.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) }.into())?;
    for number in (0..64u64).filter(|n| set >> n & 1 == 1) {
        // SAFETY: passes integers only.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) }.into())?;
    }
    Ok(())
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
