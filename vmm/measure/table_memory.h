/*
 * What page tables take, in each of their dimensions: the guest's, by walking them; the second
 * stage's, by what the host's kernel says; and this process's own, which map guest memory too.
 */
#ifndef STRATA_MEASURE_TABLE_MEMORY_H
#define STRATA_MEASURE_TABLE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/measure/session.h"

/* The guest's tables, below the root, on the way to a range, and their entries in use for it. */
struct table_count {
    uint64_t tables, entries;
};

struct table_memory {
    /* KVM's own count of what it maps, by size; UINT64_MAX: it does not tell. */
    uint64_t pages_4k, pages_2m, pages_1g;
    /* Bytes of second-stage tables; not of this machine alone, where source says so. */
    bool second_known;
    uint64_t second_bytes;
    uint64_t process_bytes; /* this process's own tables (VmPTE) */
};

/* Where second-stage bytes come from: the control group if it tells, else all of the host. */
enum table_source {
    TABLES_OF_CGROUP,
    TABLES_OF_HOST,
    TABLES_LATE, /* the host's total, but a second late: it takes root to have it at once */
    TABLES_UNKNOWN,
};
enum table_source table_memory_source(void);

/* With the session's world at rest; what the kernel does not tell is not known. */
void table_memory_read(const struct session *session, struct table_memory *memory);

/* Walks what maps [va, va + bytes) of the session's program. 0; -E2BIG: it does not end. */
int table_memory_count(const struct session *session, uint64_t va, uint64_t bytes,
                       struct table_count *count);

/*
 * The arithmetic limit: bytes of entries that a GiB takes in pages of that size, with the
 * entries that lead to full tables of them. 4K: 2 MiB + 4 KiB; 2M: 4 KiB; 1G: 8 bytes.
 */
uint64_t table_memory_limit(uint64_t page_bytes);

/* Tables below the root that [va, va + bytes) by such pages takes, by arithmetic. */
uint64_t table_memory_least(uint64_t va, uint64_t bytes, uint64_t page_bytes);

#endif
