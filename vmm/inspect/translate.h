/*
 * One address through every layer: GVA → GPA by the guest's page tables, GPA →
 * slot → HVA by strata's memory slots, HVA → PFN by the host's page tables, of
 * which the kernel tells through /proc (Documentation/admin-guide/mm/pagemap.rst).
 *
 * Looking changes nothing, except that a layer that moves meanwhile is read as of
 * different moments: stop the vCPUs first, and remember that the host may still
 * move or reclaim a frame.
 */
#ifndef STRATA_INSPECT_TRANSLATE_H
#define STRATA_INSPECT_TRANSLATE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/paging.h"

struct memory;
struct memory_slot;

/* What the host has behind one page of this process. */
struct host_page {
    bool present; /* false: never touched, discarded, or swapped out */
    bool swapped;
    bool file_or_shared;     /* file-backed, or anonymous and shared with others */
    bool exclusive;          /* mapped here only */
    uint64_t pfn;            /* 0: not known, see why */
    const char *pfn_unknown; /* NULL if known */
    uint64_t bytes; /* 4096; 2 MiB, 1 GiB if the frame is part of a huge page; 0: not known */
    const char *size_unknown; /* NULL if known */
};

/* /proc/self/pagemap and /proc/kpageflags; either may be closed to us. */
struct host_pages {
    int pagemap; /* < 0: -errno of open */
    int kpageflags;
};

/* Never fails: what cannot be read is explained at each host_pages_read(). */
void host_pages_open(struct host_pages *pages);
void host_pages_close(struct host_pages *pages);
void host_pages_read(const struct host_pages *pages, const void *hva, struct host_page *out);

struct translation {
    struct paging_walk walk;        /* GVA → GPA; all 0 if it began with a GPA */
    bool mapped;                    /* gpa means something */
    uint64_t gpa;                   /* of the byte */
    const struct memory_slot *slot; /* NULL: no RAM there */
    void *hva;                      /* of the byte; NULL without a slot */
    struct host_page host;          /* only with a slot */
};

/*
 * All layers from gpa, or from gva, on down. `pages` may be NULL: no host layer.
 * Returns 0 if hva is there, -EFAULT if gva is not mapped (out->walk tells why),
 * -ENXIO if gpa is not RAM.
 */
int translate_gpa(const struct memory *memory, const struct host_pages *pages, uint64_t gpa,
                  struct translation *out);
int translate_gva(const struct paging_format *format, const struct memory *memory,
                  const struct host_pages *pages, uint64_t root, uint64_t gva,
                  struct translation *out);

#endif
