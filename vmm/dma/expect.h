/* What each attack should come to (attack.h): the functions behind attack_expectations. */
#ifndef STRATA_DMA_EXPECT_H
#define STRATA_DMA_EXPECT_H

#include "vmm/dma/attack.h"
#include "vmm/dma/rules.h"

/* Fills a plan in: `rights` is what succeeds, on `bytes`. */
void expect_effect(struct attack_plan *plan, const char *target, uint32_t rights, uint64_t bytes,
                   const char *because);

/* The attack makes no sense there. */
void expect_none(struct attack_plan *plan, const char *target, const char *because);

attack_expect expect_probe_scan, expect_kernel_pointer, expect_co_location, expect_alias,
    expect_withheld_completion, expect_shared_map, expect_ats, expect_deferred_invalidation,
    expect_stale_pointer, expect_pre_init, expect_identity_hole, expect_msi_spoof, expect_peer,
    expect_requester_spoof, expect_permission, expect_descriptor_loop, expect_descriptor_toctou,
    expect_used_ring, expect_bounce_metadata, expect_arithmetic, expect_exhaustion, expect_unpinned;

#endif
