/*
 * Commands to the measuring program, which runs in ring 3 of the bundled guest and, the same
 * source (guest/measure/), in a process of the host: what to do, and what came of it.
 *
 * The guest's program reaches the checkpoint ABI_MEASURE with its shared page's address, finds a
 * command there when the call returns, carries it out and comes back with the reply; a
 * checkpoint's result other than 0 ends it. All times are ticks of the time stamp counter.
 */
#ifndef STRATA_ABI_MEASURE_H
#define STRATA_ABI_MEASURE_H

#include <stdint.h>

/*
 * A histogram with logarithmic buckets: values below 2 * ABI_HISTOGRAM_STEPS have a bucket
 * each, and every octave above has ABI_HISTOGRAM_STEPS, so a value is known to 1 in
 * ABI_HISTOGRAM_STEPS (3 %). Larger values count in the last bucket; max is exact.
 */
#define ABI_HISTOGRAM_SHIFT   5u
#define ABI_HISTOGRAM_STEPS   (1u << ABI_HISTOGRAM_SHIFT)
#define ABI_HISTOGRAM_OCTAVES 40u
#define ABI_HISTOGRAM_BUCKETS (ABI_HISTOGRAM_OCTAVES * ABI_HISTOGRAM_STEPS)

struct abi_histogram {
    uint64_t count, sum, min, max; /* min and max of nothing: 0 */
    uint32_t bucket[ABI_HISTOGRAM_BUCKETS];
};

static inline unsigned abi_histogram_bucket(uint64_t value)
{
    unsigned octave, bucket;

    if (value < 2 * ABI_HISTOGRAM_STEPS)
        return (unsigned)value;
    octave = 63u - (unsigned)__builtin_clzll(value) - ABI_HISTOGRAM_SHIFT;
    bucket = octave * ABI_HISTOGRAM_STEPS + (unsigned)(value >> octave);
    return bucket < ABI_HISTOGRAM_BUCKETS ? bucket : ABI_HISTOGRAM_BUCKETS - 1;
}

/* The smallest value that counts in a bucket. */
static inline uint64_t abi_histogram_low(unsigned bucket)
{
    unsigned octave = bucket / ABI_HISTOGRAM_STEPS;

    if (octave < 2)
        return bucket;
    return (uint64_t)(bucket % ABI_HISTOGRAM_STEPS + ABI_HISTOGRAM_STEPS) << (octave - 1);
}

static inline void abi_histogram_add(struct abi_histogram *histogram, uint64_t value)
{
    if (!histogram->count || value < histogram->min)
        histogram->min = value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->count++;
    histogram->sum += value;
    histogram->bucket[abi_histogram_bucket(value)]++;
}

enum abi_command_kind {
    ABI_COMMAND_CLOCK = 1, /* time nothing, `count` times: what a measurement costs */
    ABI_COMMAND_MAP,       /* map `bytes` of fresh memory by `page`; value[0]: va */
    ABI_COMMAND_UNMAP,     /* [va, va + bytes) */
    ABI_COMMAND_TOUCH,     /* one access, by ABI_TOUCH_*, to every stride of [va, va + bytes) */

    /* exits, workloads */
    ABI_COMMAND_KERNEL,   /* SYS_MEASURE (arg[0], count, arg[1]); value[0]: what it returned */
    ABI_COMMAND_WAIT,     /* until the word at va is not 0, `count` ticks at most; value[0]: it */
    ABI_COMMAND_WORKLOAD, /* arg[0] of them, ABI_WORKLOAD_* in flags, in [va, va + bytes): below */
    /* guest/measure/chain.h: */
    ABI_COMMAND_CHAIN_MAKE, /* of `count` nodes, in [va, va + bytes), its order by the seed */
    /*
     * Two, from the node at va and the one at arg[0]: each arg[1] nodes untimed, then `count`.
     * value[0], [2]: ticks; value[1], [3]: where it ended.
     */
    ABI_COMMAND_CHAIN_FOLLOW,

    /* Faults, copies and forgotten translations. */
    ABI_COMMAND_DISCARD = 32, /* [va, va + bytes) stays mapped, what it held is given back */
    ABI_COMMAND_ZEROING, /* by enum abi_zeroing `count` from now on; value[0]: before. Guest only */
    ABI_COMMAND_COPY,    /* by pages of `stride`, [arg[0], + bytes) to va; value[0]: ticks in all */
    /*
     * Forks, and the child stores to `count` pages of `stride` bytes, spread over all of
     * [va, va + bytes), a power of two of them; timed each with ABI_TOUCH_TIMED. Then the
     * parent stores to all. value[ABI_FORK_*]: ticks.
     */
    ABI_COMMAND_FORK,
    /*
     * `count` times: stores to a page (of its own making, by `page`), then, timed, takes the
     * right to write to it, or (arg[0]) unmaps it, while arg[1] other CPUs spin in the same
     * address space. value[0]: ticks that making them start and stop took.
     */
    ABI_COMMAND_CHANGE,
    ABI_COMMAND_KINDS,
};

/* The pages of a mapping; in a process of the host, 2M are transparent huge pages. */
enum abi_page_kind {
    ABI_PAGE_4K,
    ABI_PAGE_2M,
    ABI_PAGE_1G,
    ABI_PAGE_KINDS,
};

#define ABI_TOUCH_WRITE 1u /* store a zero word; else load */
#define ABI_TOUCH_TIMED 2u /* each by itself, into the histogram; else all at once */

/*
 * Programs whose time goes to memory at addresses that depend on data. `bytes` is a power of
 * two from 1 MiB on. BUILD makes the data from `seed`; a run does `count` operations, chosen by
 * `seed`. value[0]: ticks of the operations alone; value[1]: their result, the same wherever
 * they run; value[2]: how many there were (of BFS: edges looked at).
 */
enum abi_workload {
    ABI_WORKLOAD_GUPS,  /* updates of random words of all of it */
    ABI_WORKLOAD_BTREE, /* lookups of keys, half of which are there */
    ABI_WORKLOAD_JOIN,  /* rows looked up in a hash table, half of which match */
    ABI_WORKLOAD_BFS,   /* `count` vertices of a random graph, the nearest of one first */
    ABI_WORKLOADS,
};

#define ABI_WORKLOAD_BUILD 1u

/*
 * ---- Events of the kernel's side, for SYS_MEASURE ----
 *
 * The kernel does one thing `count` times (at most ABI_MEASURE_SAMPLES) with interrupts off,
 * each between two looks at the clock, which it leaves in its area for the host to read; up to
 * VMMCALL every other sample, the first one too, has nothing between them. What it waits for comes
 * by a vector whose handler's first instruction looks at the clock.
 */
/* One CPUID is little beside two looks at the clock where kernel code is interpreted. */
#define ABI_MEASURE_CPUIDS 8

enum abi_measure_op {
    ABI_MEASURE_AREA,       /* () -> GPA of the area */
    ABI_MEASURE_EMPTY,      /* nothing */
    ABI_MEASURE_PIO,        /* a 32-bit read from port `arg` */
    ABI_MEASURE_MMIO,       /* a 32-bit load at offset `arg` of the first device's window */
    ABI_MEASURE_STORE,      /* a 32-bit store of ABI_MEASURE_SIGNAL at that offset */
    ABI_MEASURE_CPUID,      /* leaf 0, ABI_MEASURE_CPUIDS times in each pair */
    ABI_MEASURE_RDMSR,      /* MSR `arg` */
    ABI_MEASURE_VMCALL,     /* hypercall `arg`, as Intel's CPUs have it */
    ABI_MEASURE_VMMCALL,    /* and AMD's */
    ABI_MEASURE_STORE_TURN, /* as STORE, each when the host has seen the one before */
    ABI_MEASURE_IPI,        /* to another CPU: until its handler */
    ABI_MEASURE_IPI_ECHO,   /* and back: until the handler here */
    ABI_MEASURE_TIMER,      /* `arg` ticks ahead by IA32_TSC_DEADLINE; spinning */
    ABI_MEASURE_TIMER_HALT, /* the same in HLT */
    ABI_MEASURE_HALT,       /* HLT, until the host interrupts: handler, and after HLT */
    ABI_MEASURE_OPS,
};

#define ABI_MEASURE_SAMPLES 256u
#define ABI_MEASURE_VECTOR  0xf0u       /* where interrupts of the host's are to go, on CPU 0 */
#define ABI_MEASURE_SIGNAL  0x5349474eu /* for an ioeventfd */

struct abi_measure_area {
    uint64_t stamp;   /* of the handler's first instruction, the last time it ran */
    uint32_t reached; /* how often it ran */
    uint32_t ready;   /* the sample, from 1, that the guest is at */
    uint32_t seen;    /* the host's: the sample it is done with */
    uint32_t result;  /* of the last sample: what was read or returned */
    uint64_t begin[ABI_MEASURE_SAMPLES], end[ABI_MEASURE_SAMPLES];
};

#define ABI_CHAIN_PACKED 1u /* the nodes side by side; else one in each 4K */

/* Of ABI_COMMAND_FORK: until fork is back, for all stores, until the child is reaped. */
enum { ABI_FORK_TICKS, ABI_FORK_STORES_TICKS, ABI_FORK_ALL_TICKS };

#define ABI_COMMAND_ARGS 8
#define ABI_REPLY_VALUES 16

struct abi_command {
    uint32_t kind; /* enum abi_command_kind */
    uint32_t page; /* enum abi_page_kind */
    uint64_t va, bytes, stride;
    uint64_t count; /* repetitions */
    uint64_t seed;
    uint32_t flags, reserved;
    uint64_t arg[ABI_COMMAND_ARGS]; /* whatever else the kind needs */
};

struct abi_reply {
    int64_t status; /* 0, or -ABI_E*: -ABI_ENOSYS a command that is not known here */
    uint64_t value[ABI_REPLY_VALUES];
    struct abi_histogram histogram;
};

struct abi_shared_page {
    struct abi_command command;
    struct abi_reply reply;
};

#endif
