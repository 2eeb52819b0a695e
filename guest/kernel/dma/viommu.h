/*
 * The virtio-iommu driver (virtio 1.2, 5.13). Requests are collected and go to the
 * device with one notification (viommu_batch.h); their end is polled for, because whoever maps or
 * unmaps cannot go on without it. Faults come by interrupt, and are kept for SYS_DMA.
 */
#ifndef STRATA_KERNEL_DMA_VIOMMU_H
#define STRATA_KERNEL_DMA_VIOMMU_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/drivers/device.h"

extern const struct driver viommu_driver;

/* There is one, and it answers. */
bool viommu_present(void);

/* Addresses it translates. */
void viommu_input(uint64_t *first, uint64_t *last);

/* Runs what was collected: 0, or -ABI_EIO if a request failed since the last call. */
int viommu_run(void);

/* One request, at once: its status as virtio 1.2, 5.13.6 numbers it, or -ABI_EIO, -ABI_ENODEV. */
int viommu_attach_now(uint32_t domain, uint32_t endpoint, bool bypass);
int viommu_detach_now(uint32_t domain, uint32_t endpoint);
int viommu_map_now(uint32_t domain, uint64_t first, uint64_t last, uint64_t gpa, uint32_t rights);
int viommu_unmap_now(uint32_t domain, uint64_t first, uint64_t last);

/* Calls `reserve` for each region that an endpoint must not use. */
void viommu_reserved(uint32_t endpoint, void (*reserve)(void *owner, uint64_t first, uint64_t last),
                     void *owner);

struct viommu_fault {
    uint32_t reason, rights, endpoint;
    uint64_t address;
};

/* Looks for faults, then takes the oldest: false if there is none. */
bool viommu_next_fault(struct viommu_fault *fault);

#endif
