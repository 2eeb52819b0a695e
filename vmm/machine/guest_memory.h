/*
 * A reader of guest RAM for the page walker. Each entry is one aligned 8-byte
 * load, so that a vCPU that writes it meanwhile is seen before or after, never
 * in between; -EFAULT where there is no RAM.
 */
#ifndef STRATA_MACHINE_GUEST_MEMORY_H
#define STRATA_MACHINE_GUEST_MEMORY_H

#include "vmm/machine/paging.h"

struct memory;

/* `memory` must outlive the reader. */
struct paging_reader guest_memory_reader(const struct memory *memory);

#endif
