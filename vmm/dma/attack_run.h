/* How each attack is carried out (attack.h), on a machine (engine.h). */
#ifndef STRATA_DMA_ATTACK_RUN_H
#define STRATA_DMA_ATTACK_RUN_H

#include "vmm/dma/engine.h"

/*
 * The n-th target of cell->device, whose plan is in the cell already: fills in
 * cell->observed and adds checks.
 */
typedef void attack_run(struct lab *lab, struct lab_cell *cell, unsigned n);

extern attack_run *const attack_runs[LAB_ATTACKS];

attack_run run_probe_scan, run_kernel_pointer, run_co_location, run_alias, run_withheld_completion,
    run_shared_map, run_ats, run_deferred_invalidation, run_stale_pointer, run_pre_init,
    run_identity_hole, run_msi_spoof, run_peer, run_requester_spoof, run_permission,
    run_descriptor_loop, run_descriptor_toctou, run_used_ring, run_bounce_metadata, run_arithmetic,
    run_exhaustion, run_unpinned;

/*
 * pre-init's first half: while nothing has attached the device, with this page of the
 * guest's; before the guest starts, or when its kernel has come up (booted).
 */
void attack_before_attach(struct lab *lab, unsigned device, uint64_t gpa, bool booted);

/* probe-scan's first part, while the guest has not yet been told of many faults. */
void attack_guests_view(struct lab *lab, unsigned device);

/* ---- What several attacks on a mapping's life begin and end with ---------------------------- */

/* Maps this page, with fresh canaries, for the device: its address, 0 if that failed. */
uint64_t attack_map_scratch(struct lab *lab, struct lab_cell *cell, struct lab_page *page);

/* The page at this address, and where nothing translates, at its own too. */
struct lab_victim attack_page_at(struct lab *lab, unsigned device, struct lab_page *page,
                                 uint64_t iova);

/* What the door must say once the page is unmapped. */
enum lab_gate attack_after_unmap(struct lab *lab, unsigned device);

#endif
