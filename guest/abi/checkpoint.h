/*
 * What the guest publishes for the host to look at: the checkpoint record, and
 * the kernel's process and frame tables. All of it lies in guest memory and is
 * only ever a *claim*; the host walks page tables and compares.
 *
 * Addresses are guest-physical unless a name says va. Little-endian, naturally
 * aligned, no padding that matters.
 */
#ifndef STRATA_ABI_CHECKPOINT_H
#define STRATA_ABI_CHECKPOINT_H

#include <stdint.h>

#define ABI_PAGE_BYTES  4096ull
#define ABI_HUGE_BYTES  (2ull << 20)
#define ABI_GIANT_BYTES (1ull << 30)

/* Exercises, and the word for each on the guest's command line. */
enum abi_exercise {
    ABI_PAGING = 1,
    ABI_FORK_COW = 2,
    ABI_SHARED_MEMORY = 3,
    ABI_DMA = 4,
    ABI_LIBRARY = 5,
    ABI_RECLAIM = 6,
    ABI_LEAK = 7,
    ABI_REMANENCE = 8,
    ABI_DEMAND = 9,
    ABI_SNAPSHOT = 10,
    ABI_DMA_HARNESS = 16, /* not of the tour: harness.h, */
    ABI_MEASURE = 17,     /* and measure.h */
};

/*
 * Mechanisms the kernel can be told to break, so that a check can be seen to
 * fail. Given to the system call of that name; a new process inherits them.
 */
#define ABI_BREAK_PROTECTION 1u   /* leaf entries lose NX and are always writable */
#define ABI_BREAK_COW        2u   /* fork leaves mmapped pages writable on both sides */
#define ABI_BREAK_SHARED     4u   /* mapping a shared object maps a private copy of it */
#define ABI_BREAK_FILE       8u   /* a page of a file is copied when it is first touched */
#define ABI_BREAK_MADVISE    16u  /* advice is taken, and nothing done */
#define ABI_BREAK_LOCK       64u  /* locking memory is said to have worked, and nothing done */
#define ABI_BREAK_PAGE       128u /* what is read from a disk for a fault has a wrong byte */
#define ABI_BREAK_EXIT       32u  /* a process's end forgets a page of each range, and a table */

#define ABI_CHECKPOINT_MAGIC 0x4b434843u /* "CHCK" */
#define ABI_CHECKPOINT_ARGS  16

/* One frame (4096 bytes) for each vCPU; reached by its frame number. */
struct abi_checkpoint {
    uint32_t magic;
    uint32_t vcpu;     /* number of the CPU that rang */
    uint32_t pid;      /* process that asked for it */
    uint32_t exercise; /* enum abi_exercise */
    uint32_t step;     /* defined by the exercise, see exercises.h */
    uint32_t nargs;
    uint64_t arg[ABI_CHECKPOINT_ARGS];
    uint64_t kernel; /* GPA of struct abi_kernel */
    uint32_t reply;  /* written by the host: 0 go on, else the program should stop */
    uint32_t reserved;
};

/* The kernel's own bit of a page-table entry: read-only now, a copy is due on write. */
#define ABI_PTE_COW 0x200ull

/* Error code bits of a page fault (Intel SDM vol. 3, 4.7; AMD APM vol. 2, 8.4.2). */
#define ABI_PF_PRESENT 1u
#define ABI_PF_WRITE   2u
#define ABI_PF_USER    4u
#define ABI_PF_RSVD    8u
#define ABI_PF_FETCH   16u

struct abi_fault {
    uint32_t vector;
    uint32_t error;
    uint64_t va; /* CR2 for a page fault, else 0 */
    uint64_t rip;
};

/* A write that made the kernel copy the page at va; made by the instruction at rip. */
struct abi_cow {
    uint64_t va;
    uint64_t rip;
};

#define ABI_COWS 8

enum abi_process_state {
    ABI_PROCESS_FREE = 0,
    ABI_PROCESS_RUNNABLE = 1,
    ABI_PROCESS_RUNNING = 2,
    ABI_PROCESS_BLOCKED = 3,
    ABI_PROCESS_ZOMBIE = 4, /* exited, address space gone, status not collected */
};

/* The public head of every process; the table's stride is in abi_kernel. */
struct abi_process {
    uint32_t pid;
    uint32_t parent;
    uint32_t state;      /* enum abi_process_state */
    uint32_t cpu;        /* where it runs, or ran last */
    uint64_t root;       /* page table root (CR3's address bits), 0 if none */
    uint64_t vsz_bytes;  /* address space in use */
    uint64_t vsz_limit;  /* that it may have, 0: all that addresses reach */
    uint64_t rss_frames; /* 4K frames mapped to user, a 2M page counts 512 */
    uint64_t faults;     /* page faults taken, all kinds */
    uint64_t demand_zero;
    uint64_t file_mapped;
    uint64_t cow_copies;          /* COW breaks that copied */
    uint64_t cow_reuses;          /* COW breaks where the frame had no other user any more */
    uint64_t major_faults;        /* that had a page read from a disk */
    uint64_t joined_faults;       /* that waited for a page somebody else had read */
    uint64_t bad_faults;          /* accesses the mapping forbids */
    struct abi_fault last_fault;  /* the last of those */
    struct abi_cow cow[ABI_COWS]; /* the last copies: copy n, from 0, is at n % ABI_COWS */
    char name[24];
};

/* What a frame is in use for. */
enum abi_frame_kind {
    ABI_FRAME_FREE = 0,   /* on a free list, or never used; refs is 0 */
    ABI_FRAME_KERNEL = 1, /* kernel data */
    ABI_FRAME_TABLE = 2,  /* a page-table page of a user address space */
    ABI_FRAME_USER = 3,   /* 4K page of user memory */
    ABI_FRAME_HUGE = 4,   /* head of a 2M page of user memory; the other 511 stay FREE */
};

/*
 * Frames below abi_kernel.first_frame hold the kernel's image and tables and are
 * never allocated or freed; their kind is 0, and refs counts the mappings of the
 * pages of bundled programs among them.
 */
struct abi_frame {
    uint16_t refs; /* mappings, shared objects that hold it, and pins */
    uint8_t kind;  /* enum abi_frame_kind */
    uint8_t pins;  /* DMA mappings that hold it; one for ever if it is reserved memory */
    uint32_t link; /* FREE: next free frame, 0 at the end; TABLE: entries in use */
};

/* Never-used frames of one range of RAM: [start, end) are free and read zero. */
struct abi_range {
    uint64_t start, end;
};

#define ABI_FRESH_MAX      20

#define ABI_KERNEL_MAGIC   0x4c4e524b41525453ull /* "STRAKRNL" */
#define ABI_KERNEL_VERSION 1

struct abi_kernel {
    uint64_t magic;
    uint32_t version;
    uint32_t ncpus;
    uint64_t frames; /* struct abi_frame[nframes], index = frame number */
    uint64_t nframes;
    uint64_t first_frame;
    uint64_t free_frames; /* the kernel's own count */
    /* Below 3 GiB, and from 4 GiB on; more where reserved memory lies in between. */
    struct abi_range fresh[ABI_FRESH_MAX];
    uint64_t processes; /* nprocesses structs of process_stride bytes, each headed by abi_process */
    uint32_t nprocesses;
    uint32_t process_stride;
    uint64_t root;           /* the kernel's own page table root */
    uint64_t image_start_va; /* kernel image, virtual */
    uint64_t image_end_va;
    uint64_t direct_map_va; /* GPA 0 of the direct map */
    uint32_t gate;          /* enum abi_gate that was chosen */
    uint32_t reserved;
    uint64_t context_switches;
    uint64_t timer_ticks;
    uint64_t stray_interrupts; /* by vectors that nobody uses; counted where there is a policy */
    uint64_t stray_vector;     /* of the last one */
    uint64_t given_frames;     /* free frames that the host has back */
    uint64_t cached_frames;    /* pages of disks, or being read: one reference each */
    uint64_t shootdowns;       /* times that a CPU made another forget translations */
};

enum abi_gate {
    ABI_GATE_SYSCALL = 1,
    ABI_GATE_UD2 = 2,
};

#endif
