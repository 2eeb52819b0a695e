/*
 * The steps of the tour's exercise reclaim. The first two are reached in a machine without a
 * balloon too; where there is one, there are a DMA probe and an IOMMU as well.
 */
#ifndef STRATA_ABI_RECLAIM_H
#define STRATA_ABI_RECLAIM_H

#include <stdint.h>

enum abi_reclaim_step {
    /* Both regions are mapped and filled; one page is mapped for the probe. */
    ABI_RECLAIM_FILLED = 1,
    /* The upper half of each is no longer needed, and the host has had time to get it back. */
    ABI_RECLAIM_GIVEN,
    /* All of it has been touched again; the host asks for ABI_RECLAIM_BALLOON_PAGES. */
    ABI_RECLAIM_TOUCHED,
    /* The balloon has them, and the probe has lost its page; the host asks for none. */
    ABI_RECLAIM_INFLATED,
    /* The balloon is empty. */
    ABI_RECLAIM_DEFLATED,
    ABI_RECLAIM_STEPS,
};

/* The arguments of all steps. */
enum abi_reclaim_arg {
    ABI_RECLAIM_VA, /* region of 4K pages */
    ABI_RECLAIM_BYTES,
    ABI_RECLAIM_HUGE_VA, /* region of 2M pages */
    ABI_RECLAIM_HUGE_BYTES,
    ABI_RECLAIM_PINNED_VA, /* a page of the first region's upper half, 0: none */
    ABI_RECLAIM_TICKS,     /* what the advice took */
    ABI_RECLAIM_NONZERO,   /* TOUCHED: words that did not read zero */
    ABI_RECLAIM_NARGS,
};

/* The words of each 4K that are written: this one, and every so many bytes the next. */
#define ABI_RECLAIM_STRIDE        512ull
#define ABI_RECLAIM_WORD(index)   (((uint64_t)(index) + 1) * 0x9e3779b97f4a7c15ull | 1)

#define ABI_RECLAIM_BALLOON_PAGES 512u

#endif
