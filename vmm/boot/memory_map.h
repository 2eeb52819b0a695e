/*
 * What lies where in guest-physical memory, as every kernel is told in the form of its
 * own protocol. The types are those of the PC's E820 (ACPI specification 6.5, 15).
 */
#ifndef STRATA_BOOT_MEMORY_MAP_H
#define STRATA_BOOT_MEMORY_MAP_H

#include <stdint.h>

#include "vmm/machine/memory.h"

#define MEMORY_MAP_MAX 4

enum memory_type { MEMORY_TYPE_RAM = 1, MEMORY_TYPE_RESERVED = 2 };

struct memory_range {
    uint64_t gpa;
    uint64_t bytes;
    enum memory_type type;
};

/* Fills in the ranges, by address, and returns how many. */
unsigned memory_map(const struct memory *memory, struct memory_range ranges[MEMORY_MAP_MAX]);

#endif
