#include "devices/iommu/dma.h"

#include <errno.h>
#include <string.h>

#include "devices/iommu/door.h"
#include "vmm/machine/memory.h"

int dma_create(struct dma *dma, const struct memory *memory, struct iommu *iommu, uint32_t endpoint)
{
    *dma = (struct dma){ .memory = memory, .iommu = iommu, .id = endpoint, .generation = 1 };
    pthread_mutex_init(&dma->lock, NULL);
    pthread_mutex_init(&dma->transfers_lock, NULL);
    pthread_cond_init(&dma->transfers_ended, NULL);
    return iommu ? -ENOSYS : 0;
}

void dma_destroy(struct dma *dma)
{
    pthread_cond_destroy(&dma->transfers_ended);
    pthread_mutex_destroy(&dma->transfers_lock);
    pthread_mutex_destroy(&dma->lock);
}

void dma_lock(struct dma *dma)
{
    pthread_mutex_lock(&dma->lock);
}

bool dma_trylock(struct dma *dma)
{
    return pthread_mutex_trylock(&dma->lock) == 0;
}

void dma_unlock(struct dma *dma)
{
    pthread_mutex_unlock(&dma->lock);
    if (dma->unlocked)
        dma->unlocked(dma->unlocked_owner);
}

int dma_translate(struct dma *dma, uint64_t iova, uint64_t len, enum dma_direction direction,
                  struct iovec *pieces, unsigned max)
{
    void *host = memory_at(dma->memory, iova, len);

    (void)direction;
    if (!len || iova + len - 1 < iova)
        return -EINVAL;
    if (!host) {
        dma->faults++;
        return -EFAULT;
    }
    if (!max)
        return -E2BIG;
    pieces[0] = (struct iovec){ .iov_base = host, .iov_len = len };
    return 1;
}

int dma_read(struct dma *dma, uint64_t iova, void *to, size_t len)
{
    struct iovec piece;
    int n = len ? dma_translate(dma, iova, len, DMA_READ, &piece, 1) : 0;

    if (n > 0)
        memcpy(to, piece.iov_base, len);
    return n < 0 ? n : 0;
}

int dma_write(struct dma *dma, uint64_t iova, const void *from, size_t len)
{
    struct iovec piece;
    int n = len ? dma_translate(dma, iova, len, DMA_WRITE, &piece, 1) : 0;

    if (n > 0)
        memcpy(piece.iov_base, from, len);
    return n < 0 ? n : 0;
}

void *dma_window(struct dma *dma, struct dma_window *window, uint64_t iova, uint64_t len,
                 enum dma_direction direction, bool *fault)
{
    struct iovec piece;
    int n;

    if (window->host && window->generation == dma->generation && window->iova == iova &&
        window->len == len && window->direction == direction)
        return window->host;
    n = dma_translate(dma, iova, len, direction, &piece, 1);
    if (fault)
        *fault = n == -EFAULT;
    if (n < 0)
        return NULL;
    *window = (struct dma_window){ iova, len, direction, piece.iov_base, dma->generation };
    return window->host;
}

int dma_transfer_begin(struct dma *dma, struct dma_transfer *transfer,
                       const struct dma_range *ranges, unsigned nranges, struct iovec *pieces,
                       unsigned max)
{
    unsigned count = 0;

    for (unsigned i = 0; i < nranges; i++) {
        int n = dma_translate(dma, ranges[i].iova, ranges[i].len, ranges[i].direction,
                              pieces + count, max - count);

        if (n < 0)
            return n;
        count += (unsigned)n;
    }
    transfer->dma = dma;
    transfer->ranges = ranges;
    transfer->nranges = nranges;
    return (int)count;
}

void dma_transfer_end(struct dma_transfer *transfer)
{
    transfer->dma = NULL;
}

void dma_drain(struct dma *dma, uint64_t first, uint64_t last)
{
    (void)dma;
    (void)first;
    (void)last;
}

int door_resolve(struct dma *dma, uint64_t iova, enum dma_direction direction, bool ats,
                 struct door_span *span, struct iommu_fault *fault)
{
    (void)direction;
    (void)ats;
    (void)fault;
    *span = (struct door_span){
        .gpa = iova,
        .len = MEMORY_PAGE_BYTES - iova % MEMORY_PAGE_BYTES,
        .message = iova >= IOMMU_MSI_FIRST && iova <= IOMMU_MSI_LAST,
    };
    span->host = memory_at(dma->memory, iova, span->len);
    return 0;
}

bool door_may_signal(const struct dma *dma, uint8_t vector)
{
    (void)dma;
    (void)vector;
    return true;
}

void door_fault(struct dma *dma, enum iommu_fault_reason reason, enum dma_direction direction,
                uint64_t iova, struct iommu_fault *fault)
{
    *fault = (struct iommu_fault){ reason, direction, dma->id, iova };
}

struct dma *door_of_requester(struct dma *dma, uint32_t requester)
{
    (void)requester;
    return dma;
}

uint32_t door_without(const struct dma *dma)
{
    (void)dma;
    return ~0u;
}
