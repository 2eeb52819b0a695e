/*
 * The one dma handle of devices to guest memory: (endpoint, address, length, direction) in,
 * host memory out. Everything passes it: rings, descriptors, data.
 *
 * A device owns one struct dma. Its lock is the device's lock: held while the device
 * handles a register access, a notification or a completion, and needed for every
 * function here unless it says otherwise. The IOMMU takes the same lock to end
 * access; so a pointer that came from here is good until the lock is given up, and no
 * longer. What outlasts the lock is a transfer (struct dma_transfer): the IOMMU waits
 * for it.
 *
 * Without an IOMMU, and for an endpoint that bypasses it, addresses are guest-physical.
 */
#ifndef STRATA_IOMMU_DMA_H
#define STRATA_IOMMU_DMA_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "devices/iommu/dma_transfer.h"
#include "devices/iommu/iommu.h"

struct iommu_endpoint;
struct memory;
struct vm;

/* What the device does to memory; the same bits as IOMMU_READ and IOMMU_WRITE. */
enum dma_direction {
    DMA_READ = 1,
    DMA_WRITE = 2,
};

struct dma_transfer;

struct dma {
    pthread_mutex_t lock;
    const struct memory *memory;
    struct vm *vm;                   /* for messages and peers (dma_request.h); NULL: none */
    struct iommu *iommu;             /* NULL: none, addresses are guest-physical */
    struct iommu_endpoint *endpoint; /* NULL: not translated */
    uint32_t id;                     /* endpoint id */
    /*
     * Goes up whenever a translation that is kept (struct dma_window) may no longer be
     * good. All that are kept of the present generation lie in [kept_first, kept_last]:
     * what is unmapped outside, such as the buffer of a request, does not concern them.
     */
    uint64_t generation, kept_first, kept_last;
    bool faults_pending; /* the guest is told once the lock is free */
    uint64_t faults;     /* accesses that were refused */
    /*
     * Optional: called by dma_unlock once the lock is free, on the same thread. Not when
     * the IOMMU had the lock for a moment: a thread that must get it waits for it, by dma_lock.
     */
    void (*unlocked)(void *owner);
    void *unlocked_owner;

    pthread_mutex_t transfers_lock; /* a leaf: nothing is locked under it */
    pthread_cond_t transfers_ended;
    struct dma_transfer *transfers;
    uint64_t drains; /* begun */
};

/*
 * The dma handle of one endpoint, in place. With iommu NULL it is untranslated: the IOMMU's own
 * dma handle, and every device's where there is no IOMMU. `memory` outlives it. 0 or -errno of
 * iommu_add_endpoint.
 */
int dma_create(struct dma *dma, const struct memory *memory, struct iommu *iommu,
               uint32_t endpoint);

/* No transfer may be left. */
void dma_destroy(struct dma *dma);

void dma_lock(struct dma *dma);
bool dma_trylock(struct dma *dma);
/* Also tells the guest of faults since the lock was taken (iommu_on_fault). */
void dma_unlock(struct dma *dma);

/*
 * The host memory of [iova, iova + len) in at most `max` pieces, joined where they
 * touch; good until the lock is given up. Their number; -EFAULT: some byte may not be
 * accessed so (recorded as a fault; nothing of it is accessible then), -E2BIG: more
 * pieces than max, -EINVAL: len 0, or the range wraps around.
 */
int dma_translate(struct dma *dma, uint64_t iova, uint64_t len, enum dma_direction direction,
                  struct iovec *pieces, unsigned max);

/* Copies all or nothing: 0 or the errors of dma_translate (never -E2BIG). len 0 is 0. */
int dma_read(struct dma *dma, uint64_t iova, void *to, size_t len);
int dma_write(struct dma *dma, uint64_t iova, const void *from, size_t len);

/*
 * For the balloon: gives the whole pages of guest-physical [gpa, gpa + len) back to the host
 * (memory_discard), but for those that `iommu` (NULL: none) has mapped for a device. How many
 * bytes were given, and in *pinned how many pages were kept; -EFAULT, and nothing is given,
 * where it is not all RAM in one slot. Whatever the guest says of a page, it loses only its
 * contents: host addresses stay good.
 */
int64_t dma_discard(struct dma *dma, const struct iommu *iommu, uint64_t gpa, uint64_t len,
                    uint64_t *pinned);

/*
 * A translation that a device keeps from one use to the next, for one contiguous piece
 * of host memory (a ring). Zero it before the first use, and when the device is reset.
 */
struct dma_window {
    uint64_t iova, len;
    enum dma_direction direction;
    void *host;
    uint64_t generation; /* 0: host is none */
};

/* Whether the window's host address is still good for the range that was last asked for. */
static inline bool dma_window_good(const struct dma *dma, const struct dma_window *window)
{
    return window->generation == dma->generation;
}

/*
 * The window's host address, translated anew if it is another range, or if the IOMMU may have
 * unmapped it since. NULL: a fault (recorded), or more than one piece: use dma_read and
 * dma_write then. *fault says which (NULL: not asked).
 */
void *dma_window(struct dma *dma, struct dma_window *window, uint64_t iova, uint64_t len,
                 enum dma_direction direction, bool *fault);

struct dma_range {
    uint64_t iova, len;
    enum dma_direction direction;
};

#endif
