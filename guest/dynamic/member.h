/*
 * The shared-library exercise: the program `shared-library` starts three others, and they
 * go through its steps together. This is the page they share.
 */
#ifndef STRATA_GUEST_MEMBER_H
#define STRATA_GUEST_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/exercises.h"

struct member {
    volatile uint64_t step; /* enum abi_library_step that it has come to */
    volatile uint64_t base, bytes, calls_va;
};

struct members {
    volatile uint64_t go; /* the step that they may go on from */
    struct member member[ABI_LIBRARY_MEMBERS];
};

/* Waits until all may go on from this step. */
void member_step(enum abi_library_step step);

/* How often this program is to call figures_apply. */
uint64_t member_calls(void);

#endif
