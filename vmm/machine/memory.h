/*
 * Guest-physical memory: slots, each a range of guest-physical addresses backed
 * by host memory and known to KVM (api.rst, KVM_SET_USER_MEMORY_REGION).
 *
 * Every host address is congruent to its guest-physical address modulo 2 MiB, so
 * that KVM can map a huge page wherever the backing has one; modulo 1 GiB, if that is
 * its page size.
 */
#ifndef STRATA_MACHINE_MEMORY_H
#define STRATA_MACHINE_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define MEMORY_PAGE_BYTES  4096ull
#define MEMORY_HUGE_BYTES  (2ull << 20)
#define MEMORY_GIANT_BYTES (1ull << 30)
#define MEMORY_SLOTS_MAX   32

enum memory_backing {
    MEMORY_4K,         /* small pages only */
    MEMORY_THP,        /* transparent huge pages wherever the kernel finds one */
    MEMORY_HUGETLB,    /* reserved 2 MiB pages; sizes are multiples of 2 MiB */
    MEMORY_HUGETLB_1G, /* reserved 1 GiB pages; sizes are multiples of 1 GiB */
};

/* What guest RAM is to the host. */
enum memory_source {
    MEMORY_ANONYMOUS, /* the process's own */
    MEMORY_SHARED,    /* a memfd, which other processes may map, too: `fd` of struct memory */
    MEMORY_FILE,      /* a private mapping of a file: what the guest writes stays its own */
};

struct memory_params {
    uint64_t bytes;
    enum memory_backing backing;
    enum memory_source source;
    int file_fd; /* MEMORY_FILE: at least as long as `bytes`; may be closed afterwards */
};

struct memory_slot {
    uint64_t gpa;
    uint64_t bytes;
    void *hva;
    uint32_t id;    /* KVM's slot number, the index in struct memory */
    uint32_t flags; /* KVM_MEM_* */
};

struct memory {
    int vm_fd; /* not owned; < 0: no KVM behind it (tests) */
    enum memory_backing backing;
    enum memory_source source;
    int fd;         /* MEMORY_SHARED: its memfd, all of RAM one after the other; else < 0 */
    uint64_t bytes; /* RAM, without what memory_add added */
    unsigned nslots;
    unsigned slots_limit; /* KVM_CAP_NR_MEMSLOTS once it was needed, else 0 */
    struct memory_slot slots[MEMORY_SLOTS_MAX];
    void *mapping[2]; /* what memory_destroy unmaps: RAM below and above the hole */
    size_t mapping_bytes[2];
};

/*
 * RAM of `bytes` (a positive multiple of the backing's page size) at [0, 3 GiB) and,
 * for the rest, from 4 GiB on (guest/abi/machine.h). Nothing is touched or zeroed:
 * a page costs the host something when the guest first uses it.
 * 0, or -errno: -EINVAL a size that cannot be, -ENOMEM no room (for hugetlb: too few
 * free huge pages), or what KVM said. On failure nothing is left behind.
 */
int memory_create(struct memory *memory, int vm_fd, uint64_t bytes, enum memory_backing backing);

/*
 * The same from another source; of a file, RAM is its contents. -EINVAL, too: a file that is
 * shorter, or huge pages of hugetlb from a file.
 */
int memory_create_from(struct memory *memory, int vm_fd, const struct memory_params *params);
void memory_destroy(struct memory *memory);

/*
 * Memory that was created with no KVM behind it (vm_fd < 0), for a VM that exists now, and
 * has no slots yet. 0, or -errno: what KVM said.
 */
int memory_attach(struct memory *memory, int vm_fd);

/* What sizes are multiples of; the pages that the host gives and takes back, THP aside. */
uint64_t memory_page_bytes(enum memory_backing backing);

/*
 * One more slot over host memory that stays the caller's and outlives `memory`.
 * -EINVAL: not page-aligned, empty or wrapping around; -EEXIST: overlaps a slot;
 * -ENOSPC: no slot left. Only while no vCPU runs.
 */
int memory_add(struct memory *memory, uint64_t gpa, uint64_t bytes, void *hva, uint32_t flags);

/*
 * The one way from a guest-physical range to a pointer: NULL unless all of
 * [gpa, gpa + len) lies in one slot; len 0 is NULL.
 */
void *memory_at(const struct memory *memory, uint64_t gpa, uint64_t len);

/*
 * Gives the whole host pages within [gpa, gpa + len) back to the host: whoever touches them
 * next, guest or host, finds zeroes. How many bytes that were, fewer where the ends are not
 * page-aligned; -EFAULT, and nothing is given, unless all of it is RAM that memory_create
 * made, in one slot; -errno of madvise. Any thread, the guest running or not.
 */
int64_t memory_discard(const struct memory *memory, uint64_t gpa, uint64_t len);

/* First address after RAM below the 3 GiB hole, the limit for what is loaded low. */
uint64_t memory_low_end(const struct memory *memory);

#endif
