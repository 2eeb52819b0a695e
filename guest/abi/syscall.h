/*
 * System calls of the bundled guest. Number in rax, arguments in rdi, rsi, rdx,
 * r10, r8, result in rax; rcx and r11 are lost. A negative result is -ABI_E*.
 *
 * A program calls the gate: `call *ABI_GATE_VA`, a page the kernel maps into
 * every process (as a vDSO), which holds the fastest way in that works on this
 * host: `syscall`, or `ud2` where `syscall` does not change privilege.
 */
#ifndef STRATA_ABI_SYSCALL_H
#define STRATA_ABI_SYSCALL_H

#include <stdint.h>

#define ABI_GATE_VA 0x7ffffffe0000ull

enum abi_syscall {
    SYS_EXIT = 1,       /* (status) */
    SYS_WRITE,          /* (buf, len) -> len: to the console */
    SYS_READ,           /* (buf, len) -> bytes: one line from the console; waits */
    SYS_FORK,           /* (flags) -> pid, 0 in the child */
    SYS_EXEC,           /* (command line) -> only on error; its first word names the program */
    SYS_WAIT,           /* (pid, or 0 for any; status*) -> pid; waits */
    SYS_GETPID,         /* () -> pid */
    SYS_YIELD,          /* () */
    SYS_MMAP,           /* (addr or 0, bytes, prot, flags, object) -> va */
    SYS_MUNMAP,         /* (addr, bytes) */
    SYS_MPROTECT,       /* (addr, bytes, prot) */
    SYS_SHARED_CREATE,  /* (bytes) -> object: page frames that any process may map */
    SYS_SHARED_DROP,    /* (object): forget it; its frames live while mapped */
    SYS_FAULT_HANDLER,  /* (function or 0): forbidden accesses go there */
    SYS_FAULT_RETURN,   /* (struct abi_user_fault *): go back as it says */
    SYS_PIN,            /* (cpu, or -1 for any): run there only */
    SYS_SYSINFO,        /* (struct abi_sysinfo *) */
    SYS_PROCESS_INFO,   /* (slot, struct abi_process *) -> 1 if in use, 0 if free */
    SYS_PROGRAM_NAME,   /* (index, char[24]) -> 0 */
    SYS_CHANNEL_CREATE, /* () -> channel: a byte pipe through the kernel */
    SYS_CHANNEL_DROP,   /* (channel) */
    SYS_SEND,           /* (channel, buf, len) -> len; waits for room */
    SYS_RECV,           /* (channel, buf, len) -> len; waits for all of it */
    SYS_KILL,           /* (pid) */
    SYS_CHECKPOINT,     /* (exercise, step, const uint64_t *arg, nargs) -> reply */
    SYS_BREAK,          /* (ABI_BREAK_* bits): this process and its children */
    SYS_HALT,           /* (status): end the machine; init only */
    SYS_PANIC,          /* (): the kernel panics; init only */
    SYS_PROBE,          /* the gate's own question whether `syscall` works */
    SYS_DMA,            /* (op, struct abi_dma *), see dma.h */
    SYS_BLOCK,          /* (op, struct abi_block *) */
    SYS_RANDOM,         /* (buf, len) -> len: bytes from the entropy device */
    SYS_MAP_FILE,       /* (name, offset, bytes, prot, addr or 0) -> va: a bundled file, private */
    SYS_MADVISE,        /* (addr, bytes, ABI_MADV_*): as madvise(2), without what is said there */
    SYS_LIMIT,          /* (bytes, 0 for none): address space of this process and its children */
    SYS_ZEROING,        /* (enum abi_zeroing) -> the policy before: for all frames from now on */
    SYS_PROTECT_CHILD,  /* (pid, addr, bytes, prot): SYS_MPROTECT of a child's memory */
    SYS_SWAP_CHILD,     /* (pid, its addr, own addr, bytes): private pages change places */
    SYS_MAP_DISK,       /* (disk, offset, bytes, prot, addr or 0) -> va: of a disk, private */
    SYS_LOCK,           /* (addr, bytes, 1 or 0): as mlock(2), munlock(2); waits */
    SYS_MEASURE,        /* (enum abi_measure_op, count, arg) -> count: see measure.h */
    SYS_COMPANION,      /* (entry, stack, cpu) -> pid: runs there in the caller's address space */
    SYS_COUNT,
};

#define ABI_PROT_NONE  0u
#define ABI_PROT_READ  1u
#define ABI_PROT_WRITE 2u
#define ABI_PROT_EXEC  4u

#define ABI_MAP_FIXED  1u /* at addr exactly; -ABI_EEXIST if something is there */
#define ABI_MAP_SHARED 2u /* the frames of a shared object */
#define ABI_MAP_HUGE   4u /* 2M pages; address and length multiples of 2M */
/*
 * 1G pages, of which children get none. -ABI_ENOMEM where there is no such piece of memory that
 * was never used, -ABI_EINVAL on a CPU that has no such pages.
 */
#define ABI_MAP_GIANT 8u

/*
 * Of a disk's page that is touched, those around it are read too (NORMAL), or not (RANDOM).
 * WILLNEED maps what can be had without waiting, and starts reading the rest. DONTNEED gives pages
 * back: what was private is zero, or the file's, when touched again. FREE may wait with that, and
 * here does not. -ABI_EINVAL: another advice, part of a 2M page, or given back while locked;
 * -ABI_ENOMEM: nothing is mapped somewhere in the range, and everything before it has been done.
 */
#define ABI_MADV_NORMAL   0u
#define ABI_MADV_RANDOM   1u
#define ABI_MADV_WILLNEED 3u
#define ABI_MADV_DONTNEED 4u
#define ABI_MADV_FREE     8u

/* When frames that were used are zeroed. */
enum abi_zeroing {
    ABI_ZERO_NEEDED = 0, /* when they are allocated, if they must read zero and no others do */
    ABI_ZERO_ON_FREE,    /* when they are freed */
    ABI_ZERO_ON_ALLOC,   /* when they are allocated, whatever for, and those first */
    ABI_ZERO_COUNT,
};

#define ABI_FORK_EAGER 1u /* copy private pages now instead of on write */

/*
 * A companion has no address space of its own and needs none of the kernel's help: a fault ends
 * it, and SYS_EXIT is its only call. It ends before the process it belongs to does, which
 * cannot exec meanwhile.
 */

#define ABI_EPERM  1
#define ABI_ENOENT 2
#define ABI_ESRCH  3
#define ABI_E2BIG  7
#define ABI_ECHILD 10
#define ABI_EAGAIN 11
#define ABI_ENOMEM 12
#define ABI_EFAULT 14
#define ABI_EEXIST 17
#define ABI_EINVAL 22
#define ABI_ENOSYS 38

/* Exit status of a process that a fault or SYS_KILL ended. */
#define ABI_STATUS_FAULT  139
#define ABI_STATUS_KILLED 137
#define ABI_STATUS_IO     135 /* a page could not be read from its disk */

/* The vector of the fault that this is, if the process has a handler (as SIGBUS). */
#define ABI_FAULT_IO 0x100u

struct abi_sysinfo {
    uint64_t tsc_hz; /* 0 if unknown */
    uint64_t total_frames;
    uint64_t free_frames;
    uint64_t given_frames; /* of them, those that the host has back */
    uint32_t ncpus;
    uint32_t host_cpus;
    uint32_t gate;       /* enum abi_gate */
    uint32_t nprocesses; /* slots for SYS_PROCESS_INFO */
    uint64_t context_switches;
    uint64_t timer_ticks;
    char command_line[512]; /* the kernel's */
};

/* Pushed on the user stack before a fault handler runs; rdi points to it. */
struct abi_user_fault {
    uint32_t vector;
    uint32_t error;
    uint64_t va;
    uint64_t rip, rsp, rflags;
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
};

#endif
