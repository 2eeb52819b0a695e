/*
 * A test region: a piece of the measuring program's memory, in 2M blocks of guest memory that
 * hold nothing else, so that guest and host may each have it in 4K or in 2M pages; and what can be
 * done to it from outside, between commands, to have the next touch fault where it should.
 *
 * Functions return 0 or -errno; session->program.failure or `error` tells more.
 */
#ifndef STRATA_MEASURE_TEST_REGION_H
#define STRATA_MEASURE_TEST_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/measure.h"
#include "vmm/measure/session.h"

#define TEST_REGION_BLOCK_BYTES (2ull << 20)

struct test_region {
    struct session *session;
    enum abi_page_kind guest; /* the guest's pages: 4K or 2M */
    bool huge_host;           /* as test_region_host was told */
    uint64_t va;              /* in the program */
    uint64_t gpa;             /* contiguous, if in another order */
    uint64_t bytes;
    uint64_t blocks_gpa, blocks_bytes; /* the 2M blocks of guest memory that it lies in */
    uint64_t mapped_va, mapped_bytes;  /* the test region and what lies around it */
};

/* What the guest's kernel and KVM have counted so far; UINT64_MAX: this KVM does not count it. */
enum test_region_count {
    TEST_REGION_GUEST_FAULTS, /* by the guest's kernel, of the program */
    TEST_REGION_GUEST_COPIES, /* copies on write, so too */
    TEST_REGION_KVM_TAKEN,    /* page faults that KVM has seen, */
    TEST_REGION_KVM_FIXED, /* and mended by an entry of the second stage (shadow: of its tables) */
    TEST_REGION_KVM_FAST,  /* and so too, without its lock: only rights were lacking */
    TEST_REGION_COUNTS,
};

/*
 * A test region of so many pages, of 4K at most 511. Maps it in the program and has it touched, so
 * that the guest's tables and frames are there; from now on they stay the same ones, if only this
 * test region is discarded and touched.
 */
int test_region_open(struct test_region *region, struct session *session, enum abi_page_kind guest,
                     unsigned pages, char *error, size_t error_bytes);

/*
 * Has the host use pages of that kind behind it, all of them there. *found: the smallest size
 * that was found there in fact; 0: the host does not tell.
 */
int test_region_host(struct test_region *region, bool huge, uint64_t *found);

/* Has the host's pages there, and the second stage's entries gone (as an mmu notifier does). */
int test_region_zap(struct test_region *region);

/* Gives the host's pages back, as a balloon does. The content is zero then. */
int test_region_discard(struct test_region *region);

/* Puts a private mapping of a file in the place of the host's pages, until test_region_host. */
int test_region_map_file(struct test_region *region);

/* In the program: a touch of every `stride` bytes of it. */
int test_region_touch(struct test_region *region, uint64_t stride, uint32_t flags,
                      struct abi_reply *reply);

/* In the program: its pages given back to the guest's kernel, the mapping stays. */
int test_region_drop(struct test_region *region);

/* All command statuses that are not 0 become -EIO with this text in session->program.failure. */
int test_region_command(struct session *session, const struct abi_command *command,
                        struct abi_reply *reply, const char *what);

int test_region_counts(const struct session *session, uint64_t counts[TEST_REGION_COUNTS]);

#endif
