//! The profile of containers that name none: what Docker's default decides, as data of our own.
//!
//! A list of what is allowed; all else is EPERM. What depends on a capability is allowed to those who have it, for the
//! kernel asks for the capability as well: the filter only takes away code that could be attacked. A test compares every
//! decision with Docker's own profile.

use oci::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

use super::{Conditions, Machine};
use crate::capabilities::Capability;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// All flags of clone that make a namespace.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// Allowed to everybody.
const ALWAYS: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod \
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range \
    creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
    epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
    fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 \
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents \
    getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid \
    getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 \
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get \
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 \
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr \
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat \
    mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal \
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat \
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 \
    pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom \
    recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat \
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity \
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid \
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat \
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall \
    socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range \
    syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink \
    unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
    writev";

/// Allowed on kernels from 4.8, where a tracer cannot change a call after the filter saw it.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";
/// The first kernel on which tracing is safe.
const TRACING_KERNEL: (u32, u32) = (4, 8);

/// Allowed to those who have the capability.
const WITH_CAPABILITY: &[(&str, &str)] = &[
    ("DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "SYS_ADMIN",
        "\
         bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open \
         quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("SYS_BOOT", "reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module finit_module init_module"),
    ("SYS_PACCT", "acct"),
    ("SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("SYS_RAWIO", "ioperm iopl"),
    ("SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("SYS_TTY_CONFIG", "vhangup"),
    ("SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("SYSLOG", "syslog"),
    ("BPF", "bpf"),
    ("PERFMON", "perf_event_open"),
];

/// Comparisons of a call's first argument, any of which allows it.
type Comparisons = &'static [(LinuxSeccompOperator, u64, Option<u64>)];

/// `socket` but for AF_ALG (38), whose parsers are a field for exploits, and AF_VSOCK (40), which leads out of the
/// container to the machine's hypervisor.
const SOCKET: Comparisons = &[
    (LinuxSeccompOperator::ScmpCmpLt, 38, None),
    (LinuxSeccompOperator::ScmpCmpEq, 39, None),
    (LinuxSeccompOperator::ScmpCmpGt, 40, None),
];

/// `personality` to ask (0xffffffff), to be Linux, 32-bit Linux, or either without UNAME26 set.
const PERSONALITY: Comparisons = &[
    (LinuxSeccompOperator::ScmpCmpEq, 0, None),
    (LinuxSeccompOperator::ScmpCmpEq, 0x8, None),
    (LinuxSeccompOperator::ScmpCmpEq, 0x2_0000, None),
    (LinuxSeccompOperator::ScmpCmpEq, 0x2_0008, None),
    (LinuxSeccompOperator::ScmpCmpEq, 0xffff_ffff, None),
];

/// `clone` without a new namespace.
const CLONE: Comparisons = &[(LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NAMESPACES, Some(0))];

/// Allowed on one kind of machine.
const fn machine_calls(machine: Machine) -> &'static str {
    match machine {
        Machine::X86_64 => "arch_prctl modify_ldt",
        Machine::Aarch64 => {
            "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"
        }
    }
}

/// The default profile under these conditions.
pub fn default_profile(conditions: &Conditions) -> LinuxSeccomp {
    let is_admin = conditions.capabilities.contains(Capability::SYS_ADMIN);
    let mut allowed: Vec<&str> = ALWAYS.split_whitespace().collect();
    if conditions.kernel >= TRACING_KERNEL {
        allowed.extend(TRACING.split_whitespace());
    }
    allowed.extend(machine_calls(conditions.machine).split_whitespace());
    for (capability, names) in WITH_CAPABILITY {
        if Capability::parse(capability)
            .is_some_and(|capability| conditions.capabilities.contains(capability))
        {
            allowed.extend(names.split_whitespace());
        }
    }
    let mut syscalls = vec![allow(allowed, None)];
    for (name, comparisons) in [("socket", SOCKET), ("personality", PERSONALITY)] {
        syscalls.extend(comparisons.iter().map(|comparison| allow(vec![name], Some(*comparison))));
    }
    if !is_admin {
        syscalls.extend(CLONE.iter().map(|comparison| allow(vec!["clone"], Some(*comparison))));
        // Its flags are behind a pointer. Without it programs fall back to clone.
        let mut clone3 = allow(vec!["clone3"], None);
        clone3.set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(Some(ENOSYS));
        syscalls.push(clone3);
    }
    let mut seccomp = LinuxSeccomp::default();
    seccomp
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(conditions.machine.architectures().to_vec()))
        .set_syscalls(Some(syscalls));
    seccomp
}

fn allow(names: Vec<&str>, comparison: Option<(LinuxSeccompOperator, u64, Option<u64>)>) -> LinuxSyscall {
    let mut syscall = LinuxSyscall::default();
    syscall
        .set_names(names.into_iter().map(str::to_owned).collect())
        .set_action(LinuxSeccompAction::ScmpActAllow)
        .set_args(comparison.map(|(op, value, second)| vec![argument(op, value, second)]));
    syscall
}

fn argument(op: LinuxSeccompOperator, value: u64, second: Option<u64>) -> LinuxSeccompArg {
    let builder = LinuxSeccompArgBuilder::default().index(0_usize).op(op).value(value);
    let builder = match second {
        Some(second) => builder.value_two(second),
        None => builder,
    };
    builder.build().expect("every field of an argument has a default")
}
