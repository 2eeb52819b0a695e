/*
 * Processes: what each has, how they come and go. A process that does not run is
 * just this struct; the kernel has no stack for it. A system call that must wait is
 * started again from its gate when what it waits for may have happened.
 */
#ifndef STRATA_KERNEL_PROC_PROCESS_H
#define STRATA_KERNEL_PROC_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/checkpoint.h"
#include "guest/abi/syscall.h"
#include "guest/kernel/arch/cpu.h"

#define PROCESSES_MAX 64
#define VMAS_MAX      96

struct pagecache;
struct shared;

/* One range of user memory with one meaning; ranges do not overlap. */
struct vma {
    uint64_t start, end;
    uint8_t prot;  /* ABI_PROT_* */
    uint8_t level; /* of its leaf entries: 0 by 4K pages, 1 by 2M, 2 by 1G */
    bool locked;   /* all of it is there and stays */
    bool random;   /* VMA_DISK: nothing is read ahead */
    enum vma_kind { VMA_ZERO, VMA_FILE, VMA_DISK, VMA_SHARED, VMA_REGION } kind;
    /*
     * VMA_FILE: the image frame at start; bytes of file from start on, zeroes follow.
     * VMA_REGION: the frame at start, of reserved memory.
     */
    uint64_t file_frame, file_bytes;
    /* VMA_SHARED: the object, VMA_DISK: the disk, and its page at start. */
    union {
        struct shared *object;
        struct pagecache *cache;
    };
    uint64_t object_page;
};

struct process {
    struct abi_process pub; /* first: the host reads the table */
    struct regs regs __attribute__((aligned(16)));
    uint8_t fpu[512] __attribute__((aligned(16)));
    struct process *next;   /* in the run queue */
    const void *waits_for;  /* BLOCKED: what process_wake must name */
    int cpu;                /* the only CPU it may run on, -1 any */
    uint32_t breaks;        /* ABI_BREAK_* */
    uint32_t status;        /* ZOMBIE: exit status */
    struct process *leader; /* whose address space a companion runs in; NULL: it has its own */
    unsigned companions;    /* that run in this one */
    bool killed;
    bool uses_devices; /* it may hold DMA mappings or wait for a device */
    uint64_t paging;   /* page of a disk that it waits for, or that it has waited for; 0: none */
    bool page_alone;   /* and is to be read without others: that has failed */
    bool page_failed;  /* and cannot be read */
    uint64_t populated, reading_to; /* how far a system call that is started again has come */
    uint64_t fault_handler;
    uint64_t probe_entry; /* while init probes the gate: where it really starts */
    unsigned nvmas;
    struct vma vma[VMAS_MAX]; /* ascending */
};

extern struct process processes[PROCESSES_MAX];

/* The first process, running `init`; panics if it cannot. */
void process_start_init(void);

/* SYS_FORK and friends: a result or -ABI_E*. */
int64_t process_fork(struct process *parent, uint32_t flags);
int64_t process_exec(struct process *p, const char *command_line);
int64_t process_companion(struct process *leader, uint64_t entry, uint64_t stack, uint64_t cpu);
int64_t process_wait(struct process *p, uint64_t pid, uint64_t status_va);
int64_t process_kill(const struct process *by, uint64_t pid);

/* A child that has memory still; NULL if there is none of that number. */
struct process *process_child(const struct process *parent, uint64_t pid);

/*
 * Ends it: memory back, parent told. It must not be running on another CPU. One that has
 * companions is BLOCKED instead, until they have ended; it is to be ended again then.
 */
void process_exit(struct process *p, uint32_t status);

/*
 * p waits for `what` and starts its system call again when process_wake names it.
 * Returns PROCESS_WAITS, which a system call passes on as its result.
 */
int64_t process_block(struct process *p, const void *what);
void process_wake(const void *what);
#define PROCESS_WAITS INT64_MIN

#endif
