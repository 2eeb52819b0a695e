/*
 * How many memory references the walk of an address takes where no cache helps, from the
 * page sizes that are really there: of the guest's mapping by walking its tables, of the
 * host's by asking the kernel what is behind each table and behind the page itself.
 *
 * A walk of one dimension reads one entry for each level down to the page. In a walk of
 * two, each of the guest's tables lies at a guest-physical address, which the CPU first
 * has to walk through the second stage, and so does the page itself: with g guest levels
 * and h host levels (g + 1)(h + 1) - 1 of them in all (AMD APM vol. 2, 15.25; Intel SDM
 * vol. 3, 29.3). A large page on either side saves a level of it.
 */
#ifndef STRATA_MEASURE_REFERENCES_H
#define STRATA_MEASURE_REFERENCES_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/translate.h"
#include "vmm/measure/session.h"

/* Entries read to walk `levels` levels down to a page of that size: 4K, 2M or 1G. */
unsigned references_down_to(unsigned levels, uint64_t page_bytes);

/*
 * A walk of two dimensions: n guest tables, by the size of the host's page behind each,
 * and the size of the one behind the page they lead to.
 */
unsigned references_nested(const uint64_t *tables, unsigned n, uint64_t page,
                           unsigned second_levels);

/* Levels of the host's own page tables, which nested ones follow on AMD; of EPT. */
unsigned references_host_levels(void);
unsigned references_second_levels(const struct kvm_host *host);

/* Where sizes are looked up; remembers what it has seen, until references_forget. */
#define REFERENCES_BLOCKS 256
struct references {
    const struct kvm_host *host;
    const struct memory *memory; /* NULL: of this process itself */
    struct host_pages pages;
    unsigned host_levels, second_levels;
    const char *unknown; /* why a size is not known */
    struct {
        uintptr_t block; /* address of 2 MiB of this process, 0: none */
        uint64_t bytes;
    } seen[REFERENCES_BLOCKS];
};

void references_open(struct references *references, const struct kvm_host *host,
                     const struct memory *memory);
void references_close(struct references *references);
void references_forget(struct references *references);

/*
 * The size of the page that maps the host's memory behind this address in the page tables
 * of this process: 4 KiB, 2 MiB or 1 GiB; 0: not known, references->unknown says why.
 */
uint64_t references_host_page(struct references *references, const void *hva);

/*
 * The same, as KVM may map it for the guest: large pages are as large only if guest-physical
 * and host addresses agree, if they lie in one slot, and while no dirty pages are logged.
 */
uint64_t references_second_stage_page(struct references *references, uint64_t gpa);

/* What a range's walks take: the least and the most, and all pages' mean. */
struct reference_range {
    uint64_t pages; /* of the range, by its own mapping */
    unsigned least, most;
    double mean;
};

/*
 * All pages of [va, va + bytes) of the session's program; of this process, by their 4K. 0;
 * -EFAULT one of them is not mapped; -ENODATA a size is not known.
 */
int references_of_guest(struct references *references, const struct session *session, uint64_t va,
                        uint64_t bytes, struct reference_range *range);
int references_of_process(struct references *references, const void *start, uint64_t bytes,
                          struct reference_range *range);

#endif
