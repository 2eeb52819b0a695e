/*
 * An attack, as its file has it: its name and description, what it should come to under a
 * policy, and how it is carried out. The expectation knows nothing of a machine (rules.h);
 * carrying it out shows what happens on one (engine.h). attacks.h lists all attacks.
 */
#ifndef STRATA_DMA_ATTACKS_ATTACK_H
#define STRATA_DMA_ATTACKS_ATTACK_H

#include "vmm/dma/attacks/attacks.h"
#include "vmm/dma/harness.h"
#include "vmm/dma/policy/policy.h"

#define ATTACK_PAGE_BYTES 4096u

struct harness;

/* One target of an attack, and what the policy lets become of it. */
struct attack_plan {
    char target[ABI_POLICY_NAME_BYTES]; /* a region's name, or what else is attacked */
    struct harness_effect effect;
    char because[HARNESS_REASON_BYTES];
};

struct attack {
    const char *name;       /* --attack NAME */
    const char *mechanism;  /* what the device does, in one line */
    const char *stopped_by; /* what a policy can do about it, in one line */
    const char *source;     /* where it is described: "Thunderclap, NDSS'19", ... */

    /* The n-th target of a device, from the policy alone; false: there is none. */
    bool (*expect)(const struct policy *policy, unsigned device, unsigned n,
                   struct attack_plan *plan);

    /*
     * Attacks the n-th target of cell->device, whose plan is in the cell already: fills in
     * cell->observed and adds checks.
     */
    void (*run)(struct harness *harness, struct matrix_cell *cell, unsigned n);

    /* Once, with everything set up, before the first cell of any attack. NULL: nothing. */
    void (*prepare)(struct harness *harness);

    /*
     * While no driver has attached the device, with a page of the guest's: before the guest
     * starts, or when its kernel has come up (booted). NULL: nothing.
     */
    void (*before_attach)(struct harness *harness, unsigned device, uint64_t gpa, bool booted);
};

#define ATTACK_DECLARATION(constant, file) extern const struct attack attack_##file;

ATTACKS(ATTACK_DECLARATION)

#undef ATTACK_DECLARATION

#endif
