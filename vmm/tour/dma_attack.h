/*
 * Attacks of the dma exercise: the probe carries them out by its own functions, with the
 * world stopped, and memory tells what came of it.
 */
#ifndef STRATA_TOUR_DMA_ATTACK_H
#define STRATA_TOUR_DMA_ATTACK_H

#include "devices/iommu/iommu.h"
#include "guest/abi/exercises.h"
#include "guest/abi/probe.h"
#include "vmm/tour/tour.h"

#define ATTACK_DEVICE       0 /* the probe, the only device of the list, */
#define ATTACK_ENDPOINT     1 /* as the IOMMU has it */
#define ATTACK_SWEEP_STRIDE (16 * ABI_PAGE_BYTES)
#define ATTACK_FAULTS_MAX   (2 * ABI_TOUR_DMA_FAULTS)

struct attack {
    const char *name;
    enum abi_probe_attack function;
    uint64_t address, length, flags; /* length at most the device's buffer, but for SWEEP */
    uint64_t faults_at;              /* of one that is to be blocked: where */
};

/* The IOMMU's fault records as they were made. */
struct attack_faults {
    struct iommu_fault fault[ATTACK_FAULTS_MAX];
    size_t n; /* beyond the room too */
};

/* For iommu_watch_faults; the owner is a struct attack_faults. */
void attack_fault(void *owner, const struct iommu_fault *fault);

/* Has the device carry it out: what got through by its own account. */
uint64_t attack_carry_out(struct tour_run *run, const struct attack *attack);

/* Bytes of the device's buffer that are what memory at gpa holds. */
uint64_t attack_known(const struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                      size_t bytes);

/*
 * Checks an attack that must come to nothing from faults_at on: nothing learnt by the
 * device, nothing changed in the page at gpa (which is put back), an error, and one record
 * that says what happened; whether that was so.
 */
bool attack_expect_blocked(struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                           struct attack_faults *faults, const struct attack *attack);

/*
 * Checks an access that must get through, all of it, between the device and memory at gpa;
 * what a write changed is put back.
 */
void attack_expect_allowed(struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                           struct attack_faults *faults, const struct attack *attack);

#endif
