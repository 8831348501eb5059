//! Kernel keyrings.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::ffi::CStr;
use std::io;

/// Gives the caller a new session keyring, named `name`.
pub fn new_session(name: &CStr) -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: `name` is NUL-terminated and lives through the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
