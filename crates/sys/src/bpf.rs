//! Programs that decide about devices for a cgroup of version 2.

#![expect(unsafe_code, reason = "these calls have no safe wrapper elsewhere")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction of extended BPF, as the kernel encodes it.
pub type Instruction = u64;

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
const BPF_PROG_QUERY: i32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// Room for a program's name with its NUL.
const NAME_BYTES: usize = 16;

/// Programs on one cgroup: the kernel's own limit.
const PROGRAMS_MAX: usize = 64;

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_BYTES],
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    /// What would be padding, so that the kernel is given no byte that was not set.
    rest: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    prog_id: u32,
    next_id: u32,
    open_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of the kernel's `bpf_prog_info`, up to the name.
#[repr(C)]
#[derive(Default)]
struct Info {
    before: [u64; 8],
    name: [u8; NAME_BYTES],
}

/// Loads a device program, which the kernel verifies. `name` has up to 15 letters, digits and underscores.
pub fn load_device_program(program: &[Instruction], name: &CStr) -> io::Result<OwnedFd> {
    let load = Load {
        prog_name: padded(name)?,
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the pointers in `load` lead to a live list of the length that is passed and a NUL-terminated string.
    let fd = unsafe { call(BPF_PROG_LOAD, &raw const load) }?;
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn padded(name: &CStr) -> io::Result<[u8; NAME_BYTES]> {
    let mut padded = [0; NAME_BYTES];
    let bytes = name.to_bytes_with_nul();
    let room = padded.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(bytes);
    Ok(padded)
}

/// Has every use of a device in `cgroup` decided by `program` (and by those attached before, and in cgroups above).
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    change(BPF_PROG_ATTACH, &cgroup, &program, BPF_F_ALLOW_MULTI, None)
}

/// Puts `program` in the place of `old`, with no moment at which neither decides.
pub fn replace_device_program(cgroup: impl AsFd, old: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let flags = BPF_F_ALLOW_MULTI | BPF_F_REPLACE;
    match change(BPF_PROG_ATTACH, &cgroup, &program, flags, Some(old.as_fd())) {
        // Linux before 5.6 cannot: then both decide for a moment.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            attach_device_program(&cgroup, &program)?;
            detach_device_program(&cgroup, &old)
        }
        other => other,
    }
}

/// Takes `program` away from `cgroup`.
pub fn detach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    change(BPF_PROG_DETACH, &cgroup, &program, 0, None)
}

fn change(
    command: i32,
    cgroup: impl AsFd,
    program: impl AsFd,
    flags: u32,
    replaced: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attach = Attach {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    // SAFETY: there are no pointers in `attach`.
    unsafe { call(command, &raw const attach) }.map(drop)
}

/// The device programs of this name that are attached to `cgroup` itself.
pub fn device_programs(cgroup: impl AsFd, name: &CStr) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; PROGRAMS_MAX];
    let mut query = Query {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..Query::default()
    };
    // SAFETY: the pointer in `query` leads to a live list of the length that is passed, which the kernel fills; the count that it
    // writes back goes into `query`, which is live and mutable.
    unsafe { call(BPF_PROG_QUERY, &raw mut query) }?;
    let wanted = padded(name)?;
    let mut found = Vec::new();
    for id in ids.iter().take(query.prog_cnt as usize) {
        let by_id = ById { prog_id: *id, ..ById::default() };
        // SAFETY: there are no pointers in `by_id`.
        let fd = match unsafe { call(BPF_PROG_GET_FD_BY_ID, &raw const by_id) } {
            // Detached meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        // SAFETY: the kernel has just opened this descriptor for us.
        let program = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut info = Info::default();
        let about = InfoByFd {
            bpf_fd: program.as_raw_fd() as u32,
            info_len: size_of::<Info>() as u32,
            info: (&raw mut info) as u64,
        };
        // SAFETY: the pointer in `about` leads to live, mutable memory of the size that is passed; any bytes are valid in it.
        unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &raw const about) }?;
        if info.name == wanted {
            found.push(program);
        }
    }
    Ok(found)
}

/// # Safety
///
/// `attributes` leads to a live value of the layout that the kernel expects for `command`, and so do the pointers in it.
unsafe fn call<T>(command: i32, attributes: *const T) -> io::Result<i32> {
    // SAFETY: as the caller promises; the size is that of the value.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
