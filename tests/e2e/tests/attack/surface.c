// Calls what a container must not reach, and prints the error numbers.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TRY(name, call) do { errno = 0; long r = (call); printf("%s %d\n", name, r < 0 ? errno : 0); } while (0)

// socket() through the gate of 32-bit programs, where one call with a number stands for all of the sockets' calls.
static int socketcall(int family, int type, int protocol) {
    unsigned *args = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (args == MAP_FAILED) return -1;
    args[0] = family, args[1] = type, args[2] = protocol;
    int result;
    asm volatile("int $0x80"
                 : "=a"(result)
                 : "a"(102), "b"(1), "c"((unsigned)(unsigned long)args)
                 : "memory", "r8", "r9", "r10", "r11");
    if (result < 0) { errno = -result; return -1; }
    return result;
}

int main(void) {
    TRY("af_alg", socket(38, SOCK_SEQPACKET, 0));
    TRY("af_alg_socketcall", socketcall(38, SOCK_SEQPACKET, 0));
    TRY("af_vsock", socket(40, SOCK_STREAM, 0));
    TRY("io_uring_setup", syscall(425, 1, 0));
    TRY("io_uring_enter", syscall(426, 1, 0, 0, 0, 0));
    TRY("io_uring_register", syscall(427, 1, 0, 0, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 0));
    TRY("keyctl", syscall(SYS_keyctl, 0, 0, 0, 0, 0));
    TRY("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -2));
    TRY("bpf", syscall(SYS_bpf, 0, 0, 0));
    TRY("perf_event_open", syscall(SYS_perf_event_open, 0, 0, 0, 0, 0));
    TRY("kexec_load", syscall(SYS_kexec_load, 0, 0, 0, 0));
    TRY("init_module", syscall(SYS_init_module, 0, 0, 0));
    TRY("unshare", unshare(0x10000000));
    TRY("mount", syscall(SYS_mount, "x", "/", "tmpfs", 0, 0));
    return 0;
}
