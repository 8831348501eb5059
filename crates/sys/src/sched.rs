//! How the kernel schedules a process: policy and priority, the processors it may run on, the memory nodes it takes from.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::io;

/// Processors that a set can name: the kernel's own limit (`CONFIG_NR_CPUS` of the largest configurations).
pub const CPUS_MAX: usize = 8192;
/// Memory nodes that a set can name: the kernel's own limit (`MAX_NUMNODES`).
pub const NODES_MAX: usize = 1024;

/// What `sched_setattr(2)` sets, without the fields behind those of its first version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For `SCHED_OTHER` and `SCHED_BATCH`.
    pub nice: i32,
    /// For `SCHED_FIFO` and `SCHED_RR`.
    pub priority: u32,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, for `SCHED_DEADLINE`.
    pub period: u64,
}

/// `struct sched_attr`, which says how long it is.
#[repr(C)]
#[derive(Default)]
struct Raw {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how the calling process is scheduled.
pub fn set_attributes(attributes: Attributes) -> io::Result<()> {
    let Attributes { policy, flags, nice, priority, runtime, deadline, period } = attributes;
    let size = size_of::<Raw>() as u32;
    let raw = Raw { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: the kernel reads one live structure, whose size is in its first field.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const raw, 0) })
}

/// How the calling process is scheduled.
pub fn attributes() -> io::Result<Attributes> {
    let mut raw = Raw::default();
    // SAFETY: the kernel writes at most as many bytes as it is told into a live structure of plain integers.
    check(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut raw, size_of::<Raw>(), 0) })?;
    let Raw { policy, flags, nice, priority, runtime, deadline, period, .. } = raw;
    Ok(Attributes { policy, flags, nice, priority, runtime, deadline, period })
}

/// A set of numbers as the kernel takes it: one bit each, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask(Vec<libc::c_ulong>);

const WORD_BITS: usize = libc::c_ulong::BITS as usize;

impl Mask {
    /// Reads a list like `0-3,7`; `None` if it is none, or a number is not below `limit`.
    pub fn parse(list: &str, limit: usize) -> Option<Self> {
        let mut words = vec![0; limit.div_ceil(WORD_BITS)];
        for range in list.trim().split(',') {
            let range = range.trim();
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| {
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                text.parse::<usize>().ok().filter(|n| digits && *n < limit)
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            for n in first..=last {
                words[n / WORD_BITS] |= 1 << (n % WORD_BITS);
            }
        }
        Some(Self(words))
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: usize) -> bool {
        self.0.get(number / WORD_BITS).is_some_and(|word| word >> (number % WORD_BITS) & 1 == 1)
    }
}

/// Lets the calling process run only on these processors.
pub fn set_affinity(cpus: &Mask) -> io::Result<()> {
    let size = size_of_val(cpus.0.as_slice());
    // SAFETY: the pointer and the size in bytes are those of a live list.
    check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size, cpus.0.as_ptr()) })
}

/// The processors that the calling process may run on.
pub fn affinity() -> io::Result<Mask> {
    let mut words = vec![0; CPUS_MAX / WORD_BITS];
    let size = size_of_val(words.as_slice());
    // SAFETY: the kernel writes at most `size` bytes into a live list of integers.
    check(unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size, words.as_mut_ptr()) })?;
    Ok(Mask(words))
}

/// Sets from which nodes the calling process is given memory: `mode` with its flags as in `set_mempolicy(2)`.
pub fn set_memory_policy(mode: i32, nodes: Option<&Mask>) -> io::Result<()> {
    let (pointer, bits) =
        nodes.map_or((std::ptr::null(), 0), |nodes| (nodes.0.as_ptr(), nodes.0.len() * WORD_BITS));
    // The kernel takes one bit less than it is told.
    let bits = if bits == 0 { 0 } else { bits + 1 };
    // SAFETY: the pointer is null, or that of a live list with that many bits.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        let mask = Mask::parse("0-2,5, 64\n", 128).unwrap();
        let all: Vec<usize> = (0..128).filter(|n| mask.contains(*n)).collect();
        assert_eq!(all, [0, 1, 2, 5, 64]);
        for wrong in ["", "a", "1-", "-1", "3-1", "0,,1", "128", "0x1", "+1"] {
            assert_eq!(Mask::parse(wrong, 128), None, "{wrong}");
        }
    }

    #[test]
    fn a_thread_is_moved_and_sees_it() {
        std::thread::spawn(|| {
            let before = affinity().unwrap();
            let one = (0..CPUS_MAX).find(|n| before.contains(*n)).unwrap();
            set_affinity(&Mask::parse(&one.to_string(), CPUS_MAX).unwrap()).unwrap();
            let after = affinity().unwrap();
            assert!((0..CPUS_MAX).all(|n| after.contains(n) == (n == one)));
            set_attributes(Attributes { policy: 3, nice: 5, ..Attributes::default() }).unwrap();
            let attributes = attributes().unwrap();
            assert_eq!((attributes.policy, attributes.nice), (3, 5));
        })
        .join()
        .unwrap();
    }
}
