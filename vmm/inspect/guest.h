/*
 * What the bundled guest publishes about itself (guest/abi/checkpoint.h), and an
 * audit of it: the host walks every address space and holds what it finds against
 * the guest's own frame table. The guest's words are untrusted input; nothing here
 * reads outside guest RAM, whatever they say.
 *
 * Stop the world first.
 */
#ifndef STRATA_INSPECT_GUEST_H
#define STRATA_INSPECT_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/checkpoint.h"
#include "vmm/machine/paging.h"

struct memory;

/* A guest that keeps the contract: where its tables are, with the bounds checked. */
struct guest_view {
    const struct memory *memory;
    struct paging_reader reader;
    struct abi_kernel kernel;       /* a copy */
    const struct abi_frame *frames; /* kernel.nframes of them, in guest memory */
};

/* Reads the record in frame `frame` of guest memory. 0, or -EINVAL if it is none. */
int guest_checkpoint(const struct memory *memory, uint32_t frame, struct abi_checkpoint *record);

/* Looks at the kernel's block at this GPA. 0, or -EINVAL if it does not hold together. */
int guest_view_open(struct guest_view *view, const struct memory *memory, uint64_t kernel_gpa);

/* A copy of the process's public part. 0, or -ESRCH. */
int guest_process(const struct guest_view *view, uint64_t pid, struct abi_process *process);

/* What the frame table says of a frame; all 0 beyond its end. */
struct abi_frame guest_frame(const struct guest_view *view, uint64_t gpa);

/* Walks va in the address space with this root. The result is that of paging_walk. */
int guest_walk(const struct guest_view *view, uint64_t root, uint64_t va, struct paging_walk *walk);

/* Copies user memory of that address space, by walking it: 0, or -EFAULT. */
int guest_read(const struct guest_view *view, uint64_t root, uint64_t va, void *to, size_t bytes);

/*
 * All address spaces against the frame table. A reference is explained when a walk
 * finds the mapping behind it.
 */
struct guest_audit {
    uint64_t address_spaces;
    uint64_t user_frames;    /* distinct frames that walks found mapped to user, allocated ones */
    uint64_t claimed_frames; /* frames that the guest's table has as user memory */
    uint64_t tables; /* page-table pages of the user half that walks found, roots included */
    uint64_t claimed_tables; /* and that the guest's table has as such */
    uint64_t unexplained;    /* references that no mapping explains, pins included */
    uint64_t pinned;         /* pins: references of DMA mappings and reserved memory */
    uint64_t missing;        /* mappings that no reference accounts for */
    uint64_t kernel_open;    /* pages of the kernel's half that user code could reach */
    uint64_t kernel_wx;      /* pages of the kernel's half both writable and executable */
    uint64_t broken;         /* entries that cannot be walked */
};

/* 0; -ENOMEM, or -E2BIG where the tables do not end. */
int guest_audit(const struct guest_view *view, struct guest_audit *audit);

#endif
