/*
 * The steps of the tour's exercise demand-paging: a disk, mapped into memory and touched by a
 * program that has a frame to draw every sixtieth of a second.
 */
#ifndef STRATA_ABI_DEMAND_H
#define STRATA_ABI_DEMAND_H

#include <stdint.h>

enum abi_demand_step {
    /* Nothing of the disk is mapped. */
    ABI_DEMAND_BEFORE = 1,
    /* It is mapped, and not touched. */
    ABI_DEMAND_MAPPED,
    /* All frames drawn, each page read when it was touched. */
    ABI_DEMAND_PLAIN,
    /* The same on a new mapping, with read-ahead. */
    ABI_DEMAND_AHEAD,
    /* A new mapping, locked. */
    ABI_DEMAND_LOCKED,
    /* All frames drawn on it. */
    ABI_DEMAND_STEADY,
    /* On a new mapping a second process and this one have touched ABI_DEMAND_TWIN_PAGES at the
     * same time; then the second has written to the first of them. */
    ABI_DEMAND_SHARED,
    /* A new mapping with read-ahead, not touched; the host now takes the last page away. */
    ABI_DEMAND_CUT,
    /* The last but one was touched, and then the last. The host brings it back. */
    ABI_DEMAND_BROKEN,
    /* The last was touched again. */
    ABI_DEMAND_MENDED,
    /* Nothing is mapped any more, and there is no other process. */
    ABI_DEMAND_GONE,
    ABI_DEMAND_STEPS,
};

/* The arguments of all steps; of the last loop. */
enum abi_demand_arg {
    ABI_DEMAND_VA,        /* of the mapping */
    ABI_DEMAND_FRAMES_VA, /* struct abi_demand_frame[ABI_DEMAND_FRAMES] */
    ABI_DEMAND_FRAMES,
    ABI_DEMAND_TOUCHES_VA, /* uint64_t[ABI_DEMAND_TOUCHES]: ticks that each touch took */
    ABI_DEMAND_TOUCHES,
    ABI_DEMAND_PERIOD,    /* ticks between two frames */
    ABI_DEMAND_WRONG,     /* touched pages that did not begin as the file's do */
    ABI_DEMAND_OTHER_RAN, /* touches during which another process got on */
    ABI_DEMAND_KEPT,      /* STEADY: what giving locked pages back came to, negated */
    ABI_DEMAND_TWIN,      /* SHARED: pid of the second process */
    ABI_DEMAND_GOOD,      /* BROKEN: vector of the fault at the last page but one, 0: none */
    ABI_DEMAND_BAD,       /* and at the last, */
    ABI_DEMAND_BAD_VA,    /* and its address */
    ABI_DEMAND_NARGS,
};

/* A frame drawn. */
struct abi_demand_frame {
    uint64_t ticks;   /* from when it was due until it was drawn */
    uint32_t touches; /* pages touched */
    uint32_t major;   /* page faults that had a page read, as the kernel counts them */
    uint32_t missed;  /* it took longer than a period */
    uint32_t reserved;
};

#define ABI_DEMAND_BYTES (16ull << 20)
#define ABI_DEMAND_PAGES (ABI_DEMAND_BYTES / 4096)
#define ABI_DEMAND_HZ    60u

/* Frame n touches so many pages, which follow those of the frame before; one in four many. */
#define ABI_DEMAND_FIRST         8u
#define ABI_DEMAND_TOUCHES_OF(n) ((n) % 4 == 3 ? 12u : 2u)
#define ABI_DEMAND_FRAMES_MAX    64u
#define ABI_DEMAND_TOUCHES_MAX   (12u * ABI_DEMAND_FRAMES_MAX)

#define ABI_DEMAND_TWIN_FIRST    2048u
#define ABI_DEMAND_TWIN_PAGES    16u

/* Word i of the file, of 8 bytes each. */
#define ABI_DEMAND_WORD(i) (((uint64_t)(i) + 1) * 0x9e3779b97f4a7c15ull)

#endif
