/*
 * The address spaces of a guest: those of the bundled guest's processes and, of any
 * guest, whatever each vCPU has loaded as CR3. The guest's tables are untrusted: what
 * walks them here shares one budget, so that no guest makes an inspection long.
 *
 * Stop the world first. Nothing is written to guest memory, no accessed or dirty bit
 * either: all of it can be done on a read-only mapping.
 */
#ifndef STRATA_INSPECT_SPACES_H
#define STRATA_INSPECT_SPACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/guest.h"
#include "vmm/machine/paging.h"

#define SPACES_MAX 128

/* Page-table entries that one inspection reads at most: well under a second's work. */
#define SPACES_BUDGET (48ull << 20)

/* What decides how a vCPU translates. */
struct space_cpu {
    uint64_t cr0, cr3, cr4, efer;
};

struct space {
    const struct paging_format *format;
    uint64_t root; /* GPA of the root table */
    uint32_t pid;  /* of the process; 0: not known, or none */
    char name[24]; /* printable; "" if not known */
    uint64_t cpus; /* bit n: vCPU n has it loaded */
    /* First space with the same upper half, in everything but accessed bits; may be itself. */
    unsigned upper_as;
};

struct spaces {
    const struct memory *memory;
    struct paging_reader reader;
    bool bundled; /* the guest keeps the contract of guest/abi, and this is where: */
    struct guest_view guest;
    unsigned n;
    struct space space[SPACES_MAX];
    unsigned left_out;      /* no room for them */
    unsigned unpaged_cpus;  /* vCPUs that have paging off: addresses are physical */
    unsigned unwalked_cpus; /* and in a 32-bit form, which strata does not walk */
};

/*
 * Fills in the address spaces. `kernel_va` is where the bundled guest has its
 * struct abi_kernel, 0 for another guest; a guest that holds nothing sound there counts
 * as not bundled (`bundled`). ncpus is at most 64.
 */
void spaces_find(struct spaces *spaces, const struct memory *memory, const struct space_cpu *cpus,
                 unsigned ncpus, uint64_t kernel_va);

/* The space of a process, NULL if there is none. */
const struct space *spaces_of_pid(const struct spaces *spaces, uint32_t pid);

struct spaces_visitor {
    void *owner;
    /* As in paging.h, with the index of the space; either may be NULL. */
    int (*leaf)(void *owner, unsigned space, const struct paging_leaf *leaf);
    int (*table)(void *owner, unsigned space, const struct paging_table *table);
    int (*broken)(void *owner, unsigned space, uint64_t va, enum paging_status status);
};

#define SPACES_LOWER 1u
#define SPACES_UPPER 2u

/*
 * Visits these halves of every space, one space after the other, in ascending order; an
 * upper half that several have in common only for the first of them. Budget and result
 * are those of paging_each_within.
 */
int spaces_each(const struct spaces *spaces, unsigned halves, uint64_t *budget,
                const struct spaces_visitor *visitor);

/* The same for one space. */
int spaces_visit(const struct spaces *spaces, unsigned space, unsigned halves, uint64_t *budget,
                 const struct spaces_visitor *visitor);

#endif
