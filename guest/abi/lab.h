/*
 * Between strata's lab (vmm/dma/lab.h) and its program in the bundled guest: the host
 * writes commands into a page of the program, the program carries them out one after
 * the other and rings a checkpoint. While the host looks, and attacks, the world stands
 * still; what the program says of itself (addresses apart) does not count.
 */
#ifndef STRATA_ABI_LAB_H
#define STRATA_ABI_LAB_H

#include <stdint.h>

#include "guest/abi/dma.h"

#define ABI_LAB_MAGIC       0x42414c53u /* "SLAB" */
#define ABI_LAB_COMMANDS    24
#define ABI_LAB_ARENA_PAGES 96

/* The one step of exercise ABI_DMA_LAB. arg: abi_lab_arg. */
#define ABI_LAB_STEP 1

enum abi_lab_arg {
    ABI_LAB_VA,    /* of struct abi_lab */
    ABI_LAB_ARENA, /* va of ABI_LAB_ARENA_PAGES pages, each present and written */
    ABI_LAB_PID,
    ABI_LAB_NARGS,
};

enum abi_lab_op {
    ABI_LAB_NOTHING = 0,
    ABI_LAB_DMA,   /* SYS_DMA(operation, &dma): result */
    ABI_LAB_BLOCK, /* SYS_BLOCK(operation, &block): result */
    /*
     * The UNMAP of `dma`, with the page's flag raised to ABI_LAB_RETURNED right after it
     * returned; then waits, so that the kernel may go on meanwhile, until the host lowers
     * the flag to ABI_LAB_STOP or operation milliseconds have passed (tsc_hz of the page).
     */
    ABI_LAB_UNMAP_WATCHED,
    /* dma.bytes of fresh pages, written: va in dma.va. */
    ABI_LAB_MAP_PAGE,
    /* munmap [dma.va, dma.va + dma.bytes): result. */
    ABI_LAB_UNMAP_PAGE,
    /*
     * Writes each page of [dma.va, dma.va + dma.bytes) while a fork shares them, so that
     * each moves to a frame that was free: result.
     */
    ABI_LAB_COPY_PAGES,
    /* Calls the function pointer at dma.va: what it returned in dma.value. */
    ABI_LAB_CALL,
    /* Waits operation milliseconds, interrupts on. */
    ABI_LAB_WAIT,
};

enum abi_lab_flag {
    ABI_LAB_IDLE = 0,
    ABI_LAB_MAPPED,
    ABI_LAB_RETURNED,
    ABI_LAB_STOP,
};

struct abi_lab_command {
    uint32_t op, operation; /* enum abi_lab_op; of SYS_DMA, SYS_BLOCK, or milliseconds */
    int64_t result;
    union {
        struct abi_dma dma;
        struct abi_block block;
    };
};

/* What the functions return that ABI_LAB_CALL may come to. */
#define ABI_LAB_HONEST   0x686f6e657374ull
#define ABI_LAB_HIJACKED 0x68696a61636bull

/* One page; the host writes it at a checkpoint only, but for `flag`. */
struct abi_lab {
    uint32_t magic;
    uint32_t ncommands;
    uint64_t challenge;        /* the host's, and ABI_LAB_ANSWER of it by the program */
    uint64_t answer;           /* from the last time: it is alive, and in order */
    uint64_t honest, hijacked; /* va of two functions */
    uint64_t tsc_hz;
    uint64_t flag; /* enum abi_lab_flag */
    uint64_t reserved;
    struct abi_lab_command command[ABI_LAB_COMMANDS];
};

#define ABI_LAB_ANSWER(challenge) (((challenge) ^ 0x5bd1e995) * 0x9e3779b97f4a7c15ull)

_Static_assert(sizeof(struct abi_lab) <= 4096, "one page");

#endif
