/*
 * What the host has behind guest RAM, from /proc/self/smaps (proc(5)): what the kernel
 * itself counts as resident.
 */
#ifndef STRATA_INSPECT_RESIDENT_H
#define STRATA_INSPECT_RESIDENT_H

#include <stdbool.h>
#include <stdint.h>

struct memory;

struct resident {
    uint64_t rss_bytes;
    uint64_t huge_bytes; /* of it in 2 MiB pages, transparent or hugetlb */
    uint64_t swap_bytes;
    uint64_t table_bytes; /* of the whole process: its own page tables (VmPTE) */
};

/* 0, or -errno where /proc cannot be read. */
int resident_read(const struct memory *memory, struct resident *resident);

/*
 * How many of n pages of guest RAM, by address, are there or swapped out, by
 * /proc/self/pagemap; or -errno. Looking makes none of them resident.
 */
int64_t resident_pages(const struct memory *memory, const uint64_t *gpa, uint64_t n);

/* Bytes that the host's kernel uses for second-stage tables of all VMs, from
 * /proc/meminfo (SecPageTables, Linux 6.1): 0, or -ENOENT where it does not tell. */
int resident_second_stage(uint64_t *bytes);

#endif
