/*
 * The steps of the tour's exercise remanence. All but the last are reached in a machine with a
 * balloon, the last in a second one after it.
 */
#ifndef STRATA_ABI_REMANENCE_H
#define STRATA_ABI_REMANENCE_H

#include <stdint.h>

enum abi_remanence_step {
    /* Secret 1 was "erased" with a memset that is not there, and freed. */
    ABI_REMANENCE_LEFT = 1,
    /* Secret 2 was wiped, its cache lines written back, and freed. */
    ABI_REMANENCE_WIPED,
    /* Secret 5 is on ABI_REMANENCE_MANY pages. */
    ABI_REMANENCE_FILLED,
    /* They were freed, and the host has had time to get free frames back, that of secret 1 and
     * those of secret 5 among them. */
    ABI_REMANENCE_GIVEN,
    /* Secret 3 went as secret 1, while the kernel zeroes what is freed. */
    ABI_REMANENCE_ON_FREE,
    /* Secret 4 the same, while it zeroes what is allocated. */
    ABI_REMANENCE_ON_ALLOC,
    /* And then as much was allocated again. */
    ABI_REMANENCE_REUSED,
    /* Pages mapped, touched and unmapped: what that takes by policy, NEEDED with clean ones. */
    ABI_REMANENCE_COST,
    /* Another machine has touched ABI_REMANENCE_ELSEWHERE_PAGES of its memory. */
    ABI_REMANENCE_ELSEWHERE,
    ABI_REMANENCE_STEPS,
};

/* The arguments of all steps. */
enum abi_remanence_arg {
    ABI_REMANENCE_FORGET, /* va of the functions: the one that erases nothing, */
    ABI_REMANENCE_WIPE,   /* the one that does, */
    ABI_REMANENCE_FREE,   /* and where both end */
    ABI_REMANENCE_PAGES,  /* COST: */
    ABI_REMANENCE_TICKS,  /* medians, by enum abi_zeroing */
    ABI_REMANENCE_NARGS = ABI_REMANENCE_TICKS + 3,
};

#define ABI_REMANENCE_SECRETS         5
#define ABI_REMANENCE_MANY            320 /* so many freed pages the kernel reports */
#define ABI_REMANENCE_ELSEWHERE_PAGES 256

/* Word i of secret n (from 1), of so many. */
#define ABI_SECRET_WORDS 8u
#define ABI_SECRET_WORD(n, i) \
    ((((uint64_t)(n) << 32 | (uint64_t)(i)) + 0x5ec4e7) * 0x9e3779b97f4a7c15ull)

#endif
