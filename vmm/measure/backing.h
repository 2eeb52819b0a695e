/*
 * Kinds of host pages behind guest memory, by name, and what this host has of each.
 */
#ifndef STRATA_MEASURE_BACKING_H
#define STRATA_MEASURE_BACKING_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/measure.h"
#include "vmm/machine/memory.h"
#include "vmm/measure/measure.h"
#include "vmm/measure/session.h"

#define BACKINGS (MEMORY_HUGETLB_1G + 1)

/* "4k", "thp", …, and of the guest's pages "4k", "2m", "1g": as in figures' names. */
const char *backing_name(enum memory_backing backing);
const char *backing_guest_name(enum abi_page_kind page);

/*
 * How much memory of that kind can be had at most, UINT64_MAX where nothing is reserved;
 * 0: none, and *why says it and the remedy.
 */
uint64_t backing_available(enum memory_backing backing, const char **why);

/* Why a guest with some of that memory has too little of it, and the remedy. */
const char *backing_shortage(enum memory_backing backing);

/*
 * A machine of one vCPU with that memory and room for its kernel, for two ranges of *bytes, for
 * what goes with them (a 32nd), and where this host walks 1G pages of guests for one of those.
 * *bytes is halved until all fits, the last but as far as that goes. False: none does; *why as
 * above.
 */
bool backing_params(const struct measure_host *host, enum memory_backing backing,
                    struct session_params *params, uint64_t *bytes, const char **why);

#endif
