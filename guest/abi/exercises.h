/*
 * The steps of the tour's exercises: which checkpoint means what, and what its
 * arguments are. The program claims; the host's side in vmm/tour checks.
 */
#ifndef STRATA_ABI_EXERCISES_H
#define STRATA_ABI_EXERCISES_H

#include <stdint.h>

/* ---- paging --------------------------------------------------------------- */

enum abi_paging_step {
    /* Nothing mapped yet. No arguments. */
    ABI_PAGING_BEFORE = 1,
    /* Everything mapped and touched. arg: abi_paging_arg. */
    ABI_PAGING_MAPPED,
    /* Every forbidden access made. arg[0] = va of struct abi_attempt[arg[1]]. */
    ABI_PAGING_FAULTS,
    /* Everything unmapped; the same accesses tried again, same arguments. */
    ABI_PAGING_UNMAPPED,
    ABI_PAGING_STEPS,
};

/* Page i of the touched region was left alone, read, or written: i % 3. */
#define ABI_PAGING_TOUCH(i) ((i) % 3)

enum abi_paging_arg {
    ABI_PAGING_PAGES,    /* 4K pages in the touched region */
    ABI_PAGING_TOUCHED,  /* va: read-write region, touched by ABI_PAGING_TOUCH */
    ABI_PAGING_READONLY, /* va: 4 pages, written, then made read-only */
    ABI_PAGING_CODE,     /* va: 1 page, written, then made read-execute */
    ABI_PAGING_NONE,     /* va: 1 page, written, then made inaccessible */
    ABI_PAGING_HUGE_RW,  /* va: 2M page, read-write, written */
    ABI_PAGING_HUGE_RO,  /* va: 2M page, read-only, read once */
    ABI_PAGING_TEXT,     /* va in the program's own text */
    ABI_PAGING_KERNEL,   /* va in the kernel's image */
    ABI_PAGING_NARGS,
};

enum abi_access {
    ABI_READ = 0,
    ABI_WRITE = 1,
    ABI_FETCH = 2,
};

/* One access that must fault, and what came of it (vector 0: no fault came). */
struct abi_attempt {
    uint64_t va;
    uint32_t access; /* enum abi_access */
    uint32_t vector;
    uint32_t error;
    uint32_t reserved;
    uint64_t fault_va;
};

/* ---- fork-cow ------------------------------------------------------------- */

enum abi_fork_cow_step {
    /* The child is there and has written nothing. arg: abi_fork_cow_arg. */
    ABI_FORK_COW_SHARED = 1,
    /* The child has written its pages. Same arguments. */
    ABI_FORK_COW_WRITTEN,
    /* The child is gone. Same arguments. */
    ABI_FORK_COW_REAPED,
    /* Timing of the sweep: arg: abi_fork_cow_time. */
    ABI_FORK_COW_TIMED,
    /* A child that got its copies at once has written all pages. As SHARED. */
    ABI_FORK_COW_BULK,
    ABI_FORK_COW_STEPS,
};

enum abi_fork_cow_arg {
    ABI_FORK_COW_VA,
    ABI_FORK_COW_PAGES, /* a power of two */
    ABI_FORK_COW_WRITES,
    ABI_FORK_COW_PARENT, /* pid */
    ABI_FORK_COW_CHILD,  /* pid */
    ABI_FORK_COW_NARGS,
};

enum abi_fork_cow_time {
    ABI_FORK_COW_T_PAGES,
    ABI_FORK_COW_T_WRITES,
    ABI_FORK_COW_T_RUNS,       /* medians over so many runs, in TSC ticks: */
    ABI_FORK_COW_T_COW_FORK,   /* fork, copy-on-write */
    ABI_FORK_COW_T_COW_WRITE,  /* the child's writes after it */
    ABI_FORK_COW_T_EAGER_FORK, /* fork that copies at once */
    ABI_FORK_COW_T_EAGER_WRITE,
    ABI_FORK_COW_T_NARGS,
};

/* The i-th page the child writes; odd factor, so that it visits each page once. */
#define ABI_FORK_COW_PAGE(i, pages) (((i)*37u) & ((pages)-1))
/* First word of page i as the parent, and then the child, wrote it. */
#define ABI_FORK_COW_PARENT_WORD(i) (0x706172656e740000ull + (i))
#define ABI_FORK_COW_CHILD_WORD(i)  (0x6368696c64000000ull + (i))

/* ---- snapshot-consistency ------------------------------------------------- */

/*
 * A writer publishes version after version of a structure of ABI_SNAPSHOT_PAGES pages that
 * its child, the reader, checks. Reached by the writer; arg of all but the results:
 * abi_snapshot_arg.
 */
enum abi_snapshot_step {
    /* Just forked: both have the same frames, and what they hold is `version`. */
    ABI_SNAPSHOT_SHARED = 1,
    /* Versions were written in place. arg: abi_snapshot_result. */
    ABI_SNAPSHOT_NAIVE,
    /* `version` is written, where only the writer sees it. */
    ABI_SNAPSHOT_PREPARED,
    /* The reader is kept out, with the frames it had. */
    ABI_SNAPSHOT_BLINDED,
    /* The frames have changed places, or (on the way) some of them; still kept out. */
    ABI_SNAPSHOT_SWAPPED,
    /* The reader may read `version`. */
    ABI_SNAPSHOT_PUBLISHED,
    /* All publications are made. arg: abi_snapshot_result. */
    ABI_SNAPSHOT_DONE,
    ABI_SNAPSHOT_STEPS,
};

enum abi_snapshot_arg {
    ABI_SNAPSHOT_VA, /* in both processes */
    ABI_SNAPSHOT_WRITER,
    ABI_SNAPSHOT_READER,
    ABI_SNAPSHOT_VERSION,
    ABI_SNAPSHOT_NARGS,
};

enum abi_snapshot_result {
    ABI_SNAPSHOT_R_PUBLICATIONS,
    ABI_SNAPSHOT_R_CAUGHT,   /* publications that began with the reader halfway through */
    ABI_SNAPSHOT_R_READS,    /* of the whole structure */
    ABI_SNAPSHOT_R_TORN,     /* reads that found more than one version */
    ABI_SNAPSHOT_R_STALE,    /* reads of a version older than what was published before */
    ABI_SNAPSHOT_R_FAULTS,   /* the reader met the barrier, */
    ABI_SNAPSHOT_R_RESTARTS, /* and began a read again for it */
    ABI_SNAPSHOT_R_TICKS,    /* of a publication, median */
    ABI_SNAPSHOT_R_READER,   /* pid; of DONE only, as what follows: */
    ABI_SNAPSHOT_R_LOCKED,   /* publications by copying under a lock */
    ABI_SNAPSHOT_R_LOCKED_READS,
    ABI_SNAPSHOT_R_LOCKED_TORN,
    ABI_SNAPSHOT_R_LOCKED_TICKS,
    ABI_SNAPSHOT_R_NARGS,
};

#define ABI_SNAPSHOT_PAGES 64
/* The first and the last word of each page. */
#define ABI_SNAPSHOT_WORD(version, page) ((uint64_t)(version) << 8 | (page))

/* ---- shared-memory -------------------------------------------------------- */

enum abi_shared_step {
    /* Both processes map the object and run. arg: abi_shared_arg. */
    ABI_SHARED_MAPPED = 1,
    /* The exchange is over. arg: abi_shared_result. */
    ABI_SHARED_EXCHANGED,
    /* The same through the kernel. arg: abi_shared_copy. */
    ABI_SHARED_COPIED,
    ABI_SHARED_STEPS,
};

enum abi_shared_arg {
    ABI_SHARED_PAGES,
    ABI_SHARED_WRITER_VA,
    ABI_SHARED_READER_VA,
    ABI_SHARED_WRITER, /* pid */
    ABI_SHARED_READER, /* pid */
    ABI_SHARED_NARGS,
};

enum abi_shared_result {
    ABI_SHARED_R_MESSAGES, /* sent */
    ABI_SHARED_R_RECEIVED,
    ABI_SHARED_R_LOST,
    ABI_SHARED_R_TORN,    /* accepted, but not what was sent */
    ABI_SHARED_R_RETRIES, /* reads given up because the writer was in the slot */
    ABI_SHARED_R_DIGEST,  /* over all messages received */
    ABI_SHARED_R_TICKS,
    ABI_SHARED_R_YIELDS,
    ABI_SHARED_R_NARGS,
};

enum abi_shared_copy {
    ABI_SHARED_C_MESSAGES,
    ABI_SHARED_C_TICKS,
    ABI_SHARED_C_DIGEST,
    ABI_SHARED_C_NARGS,
};

/*
 * A slot of the ring that fills the shared pages. sequence is odd while the
 * writer is inside; message n leaves slot n % slots with sequence 2 (n / slots) + 2.
 */
#define ABI_SHARED_WORDS 6
struct abi_slot {
    uint64_t sequence;
    uint64_t number;
    uint64_t word[ABI_SHARED_WORDS];
};

/* Word i of message n, and how a receiver folds words into its digest. */
#define ABI_SHARED_WORD(n, i)      (((n) + 1) * 0x9e3779b97f4a7c15ull ^ ((uint64_t)(i) << 56))
#define ABI_SHARED_DIGEST(d, word) (((d) ^ (word)) * 0x100000001b3ull)

/* ---- shared-library ------------------------------------------------------- */

/* Processes, each of a program of its own, that share libfigures.so. */
#define ABI_LIBRARY_MEMBERS 3

enum abi_library_step {
    /* All have mapped the library and read each page of it; nothing is relocated. */
    ABI_LIBRARY_MAPPED = 1,
    /* The dynamic loader has relocated it in each; nothing was called. */
    ABI_LIBRARY_BOUND,
    /* Each has called its functions, which count calls. */
    ABI_LIBRARY_WRITTEN,
    /* All have ended. */
    ABI_LIBRARY_GONE,
    ABI_LIBRARY_STEPS,
};

/* Of each step. Bytes: of the library, from its base to the end of what is from the file. */
enum abi_library_arg {
    ABI_LIBRARY_BYTES,
    ABI_LIBRARY_CALLS_VA, /* va of the count of calls in the first process; from BOUND on */
    ABI_LIBRARY_PID,      /* of each */
    ABI_LIBRARY_BASE = ABI_LIBRARY_PID + ABI_LIBRARY_MEMBERS, /* va, of each */
    ABI_LIBRARY_NARGS = ABI_LIBRARY_BASE + ABI_LIBRARY_MEMBERS,
};

/* Calls that process i makes, and where the count begins. */
#define ABI_LIBRARY_CALLS(i)    (10 * ((i) + 1ull))
#define ABI_LIBRARY_FIRST_COUNT 0x1000ull

/* ---- leak ----------------------------------------------------------------- */

/*
 * Two processes lose all memory they map: one maps and touches nothing until there is no
 * address space left, the other has a limit (SYS_LIMIT) and touches what it maps.
 */
enum abi_leak_step {
    /* Neither is there. No arguments. */
    ABI_LEAK_BEFORE = 1,
    /* The first is there, and has mapped nothing. arg: abi_leak_arg, as in all that follow. */
    ABI_LEAK_STARTED,
    /* Not even one more page can be mapped. */
    ABI_LEAK_RESERVED,
    /* It has ended. */
    ABI_LEAK_RETURNED,
    /* The second has come to its limit. */
    ABI_LEAK_TOUCHED,
    /* It has ended. */
    ABI_LEAK_AFTER,
    ABI_LEAK_STEPS,
};

enum abi_leak_arg {
    ABI_LEAK_PID,
    ABI_LEAK_COUNT, /* of mappings; TOUCHED: those of ABI_LEAK_CHUNK */
    ABI_LEAK_BYTES, /* mapped by them, all in all */
    ABI_LEAK_ERROR, /* of the one that failed: -ABI_E* */
    ABI_LEAK_FIRST, /* TOUCHED: va of the first; they follow each other */
    ABI_LEAK_NARGS,
};

/* RESERVED: the first mappings are so large, then half as large, … down to one page. */
#define ABI_LEAK_LARGEST (1ull << 40)

/* TOUCHED: bytes of a mapping; its first pages are written, so many of mapping i, with this. */
#define ABI_LEAK_CHUNK    (1ull << 20)
#define ABI_LEAK_PAGES(i) ((i) % 4 + 1)
#define ABI_LEAK_WORD(i)  (0x6c65616b00000000ull + (i))
/* And, besides, a 2M page and a shared object of so many pages. */
#define ABI_LEAK_OBJECT_PAGES 8

/* ---- dma ------------------------------------------------------------------ */

/*
 * The device is the first probe (probe.h); its driver has DMA mappings made for it
 * (dma.h). In a machine without an IOMMU only the first step is reached.
 */
enum abi_tour_dma_step {
    /* The secret is written, nothing mapped for the device. arg: abi_tour_dma_arg. */
    ABI_TOUR_DMA_SECRET = 1,
    /* One page mapped for the device to read, one to write; the driver had the device read
       the one. Same arguments, as in all steps but TOLD. */
    ABI_TOUR_DMA_MAPPED,
    /* The faults that the driver was told: arg[0] = va of struct abi_dma[arg[1]]. */
    ABI_TOUR_DMA_TOLD,
    /* Reached by a child that copies pages: its parent has unmapped both pages from its own
       address space, the device has them still. */
    ABI_TOUR_DMA_FREED,
    /* The mappings of the device are gone as well, since just now. */
    ABI_TOUR_DMA_REVOKED,
    /* Reached by a child that copies pages, as in FREED. */
    ABI_TOUR_DMA_REUSED,
    ABI_TOUR_DMA_STEPS,
};

enum abi_tour_dma_arg {
    ABI_TOUR_DMA_VA_SECRET, /* one page, never mapped for the device */
    ABI_TOUR_DMA_VA_READ,   /* one page, for the device to read */
    ABI_TOUR_DMA_VA_WRITE,  /* one page, for the device to write */
    ABI_TOUR_DMA_IOVA_READ,
    ABI_TOUR_DMA_IOVA_WRITE,
    ABI_TOUR_DMA_DEVICE, /* GPA of its registers */
    ABI_TOUR_DMA_ENDPOINT,
    ABI_TOUR_DMA_PARENT, /* pid */
    ABI_TOUR_DMA_NARGS,
};

/* Pages that a child copies; what is freed is what a copy takes first. */
#define ABI_TOUR_DMA_COPIES 16

/* Accesses that are to fault before TOLD, which the host makes at the first two steps. */
#define ABI_TOUR_DMA_FAULTS 8

/* Word i of a page: of the secret, and of the pages for the device. */
#define ABI_TOUR_DMA_WORD(page, i) \
    ((((uint64_t)(page) << 32 | (uint64_t)(i)) + 1) * 0x9e3779b97f4a7c15ull)

#endif
