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

#endif
