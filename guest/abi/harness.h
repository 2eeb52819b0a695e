/*
 * Between strata's test harness (vmm/dma/harness.h) and its program in the bundled guest: the host
 * writes commands into a page of the program, the program carries them out one after
 * the other and reaches a checkpoint. While the host looks, and attacks, the world stands
 * still; what the program says of itself (addresses apart) does not count.
 */
#ifndef STRATA_ABI_HARNESS_H
#define STRATA_ABI_HARNESS_H

#include <stdint.h>

#include "guest/abi/dma.h"

#define ABI_HARNESS_MAGIC      0x42414c53u /* "SLAB" */
#define ABI_HARNESS_COMMANDS   24
#define ABI_HARNESS_TEST_PAGES 96

/* The one step of exercise ABI_DMA_HARNESS. arg: abi_harness_arg. */
#define ABI_HARNESS_STEP 1

enum abi_harness_arg {
    ABI_HARNESS_VA,    /* of struct abi_harness */
    ABI_HARNESS_PAGES, /* va of ABI_HARNESS_TEST_PAGES pages, each present and written */
    ABI_HARNESS_PID,
    ABI_HARNESS_NARGS,
};

enum abi_harness_op {
    ABI_HARNESS_NOTHING = 0,
    ABI_HARNESS_DMA,   /* SYS_DMA(operation, &dma): result */
    ABI_HARNESS_BLOCK, /* SYS_BLOCK(operation, &block): result */
    /*
     * The UNMAP of `dma`, with the page's flag raised to ABI_HARNESS_RETURNED right after it
     * returned; then waits, so that the kernel may go on meanwhile, until the host lowers
     * the flag to ABI_HARNESS_STOP or operation milliseconds have passed (tsc_hz of the page).
     */
    ABI_HARNESS_UNMAP_WATCHED,
    /* dma.bytes of fresh pages, written: va in dma.va. */
    ABI_HARNESS_MAP_PAGE,
    /* munmap [dma.va, dma.va + dma.bytes): result. */
    ABI_HARNESS_UNMAP_PAGE,
    /*
     * Writes each page of [dma.va, dma.va + dma.bytes) while a fork shares them, so that
     * each moves to a frame that was free: result.
     */
    ABI_HARNESS_COPY_PAGES,
    /* Calls the function pointer at dma.va: what it returned in dma.value. */
    ABI_HARNESS_CALL,
    /* Waits operation milliseconds, interrupts on. */
    ABI_HARNESS_WAIT,
};

enum abi_harness_flag {
    ABI_HARNESS_IDLE = 0,
    ABI_HARNESS_MAPPED,
    ABI_HARNESS_RETURNED,
    ABI_HARNESS_STOP,
};

struct abi_harness_command {
    uint32_t op, operation; /* enum abi_harness_op; of SYS_DMA, SYS_BLOCK, or milliseconds */
    int64_t result;
    union {
        struct abi_dma dma;
        struct abi_block block;
    };
};

/* What the functions return that ABI_HARNESS_CALL may come to. */
#define ABI_HARNESS_HONEST   0x686f6e657374ull
#define ABI_HARNESS_HIJACKED 0x68696a61636bull

/* One page; the host writes it at a checkpoint only, but for `flag`. */
struct abi_harness {
    uint32_t magic;
    uint32_t ncommands;
    uint64_t challenge;        /* the host's, and ABI_HARNESS_ANSWER of it by the program */
    uint64_t answer;           /* from the last time: it is alive, and in order */
    uint64_t honest, hijacked; /* va of two functions */
    uint64_t tsc_hz;
    uint64_t flag; /* enum abi_harness_flag */
    uint64_t reserved;
    struct abi_harness_command command[ABI_HARNESS_COMMANDS];
};

#define ABI_HARNESS_ANSWER(challenge) (((challenge) ^ 0x5bd1e995) * 0x9e3779b97f4a7c15ull)

_Static_assert(sizeof(struct abi_harness) <= 4096, "one page");

#endif
