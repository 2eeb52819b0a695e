/*
 * The DMA API of the kernel: memory is mapped for a device before the device may use it,
 * as the device's policy says (guest/abi/policy.h), and unmapped after.
 *
 * Mappings and unmaps are collected; dma_commit makes them true with as few
 * notifications as possible. Before it, a mapping may not be given to its device, and an
 * unmapped one must be taken to be within its reach.
 */
#ifndef STRATA_KERNEL_DMA_DMA_H
#define STRATA_KERNEL_DMA_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/dma.h"
#include "guest/kernel/dma/viommu_batch.h"
#include "guest/kernel/drivers/device.h"
#include "guest/kernel/mm/extents.h"
#include "guest/kernel/proc/process.h"

#define DMA_READ      1u /* the device reads */
#define DMA_WRITE     2u /* the device writes */

#define DMA_PAGES_MAX 1024

enum dma_how {
    DMA_BY_POLICY, /* in place, in pages of its own, or bounced */
    DMA_AN_ALIAS,  /* in place, and doubling another mapping of the same bytes */
};

struct dma_mapping {
    struct dma_mapping *next, **link; /* in its device's list; `next` alone in other lists */
    struct device *device;
    uint64_t iova; /* of `bytes` */
    uint64_t bytes;
    uint32_t pages;        /* mapped now */
    uint8_t buffers;       /* enum abi_dma_buffers, what was made of it */
    bool permanent;        /* of the driver, the policy: back at each attach */
    bool is_alias;         /* DMA_AN_ALIAS */
    bool held;             /* by a driver: the record stays until its dma_unmap */
    bool pinned;           /* holds references on `memory` */
    bool installed;        /* the IOMMU has been told */
    bool failed;           /* and has refused */
    uint32_t users;        /* for its driver to count: requests that share it */
    uint32_t owner;        /* pid, 0: the kernel */
    uint64_t va;           /* the owner's address */
    uint32_t slot;         /* BOUNCE: the first one */
    uint32_t copied;       /* bytes to copy back */
    struct extents memory; /* the buffer's own */
    struct extents shadow; /* EXCLUSIVE: what the device has instead */

    /*
     * The record's for life: its addresses, and what the IOMMU is told of them. Rights are in
     * to_map.map.flags (DMA_*), and of this use.
     */
    struct dma_domain *home; /* whose addresses they are; NULL: it has none */
    uint64_t base;           /* iova of the first page; without a home, of this use */
    uint32_t size;           /* log2 of pages that fit */
    struct viommu_request to_map, to_unmap;
};

/* ---- Memory --------------------------------------------------------------- */

/* A zeroed page of the kernel for a driver's queues, mapped while attached. NULL without memory. */
void *dma_alloc_page(struct device *device, uint32_t rights, uint64_t *iova);

/* Memory of a process: [va, va + bytes). */
struct dma_buffer {
    struct process *p;
    uint64_t va, bytes;
};

/*
 * Maps a buffer for the device. 0 and *mapping; -ABI_EINVAL, -ABI_EFAULT, -ABI_ENOMEM,
 * -ABI_ENODEV (not attached). After dma_commit, `failed` tells if the IOMMU refused.
 */
int dma_map(struct device *device, const struct dma_buffer *buffer, uint32_t rights,
            enum dma_how how, struct dma_mapping **mapping);

/* The same for whole frames of the kernel, which it keeps until the unmap. */
int dma_map_frames(struct device *device, const uint32_t *frame, uint64_t pages, uint32_t rights,
                   struct dma_mapping **mapping);

/* So much one buffer may have, for several to be mapped at once. */
uint64_t dma_map_most(const struct device *device);

/*
 * Undoes it; of a buffer that is not in place, the first `copied` bytes are copied back
 * (at most what was mapped; for a trusting driver, to the end of its pages). The record may be gone
 * when this returns, at the latest after dma_commit.
 */
void dma_unmap(struct dma_mapping *mapping, uint64_t copied);

/* Makes all of it true: 0, or -ABI_EIO where the IOMMU refused something. */
int dma_commit(void);

/*
 * The same for a device that sees none of it before its driver notifies it, which comes next:
 * by then it is true, or the IOMMU refused and the device faults. What was unmapped, and
 * what failed, is known after the dma_commit that must follow.
 */
void dma_post(void);

struct dma_segment {
    uint64_t iova;
    uint32_t bytes;
};

/*
 * Where the device finds [offset, offset + bytes) of the buffer: how many pieces, or
 * -ABI_E2BIG for more than max.
 */
int dma_segments(const struct dma_mapping *mapping, uint64_t offset, uint64_t bytes,
                 struct dma_segment *segments, unsigned max);

/* All lazy unmaps of the device's domain, at once. */
void dma_flush(struct device *device);

/* Those of all domains that are old enough. */
void dma_flush_due(uint64_t now);

/* ---- Taking away ---------------------------------------------------------- */

/*
 * Every mapping of the device but the permanent ones, lazy ones too; at once. Of those that
 * a driver holds the record stays.
 */
void dma_revoke(struct device *device);

/* Those that a process made itself: strictly, unless the mode is lazy. */
void dma_drop_owned(struct device *device, uint32_t pid);

#endif
