/* Transfers: what outlasts a dma handle's lock, and how the IOMMU waits for it. */
#include "devices/iommu/dma_transfer.h"

#include "devices/iommu/dma.h"

int dma_transfer_begin(struct dma *dma, struct dma_transfer *transfer,
                       const struct dma_range *ranges, unsigned nranges, struct iovec *pieces,
                       unsigned max)
{
    unsigned n = 0;

    for (unsigned i = 0; i < nranges; i++) {
        int more = dma_translate(dma, ranges[i].iova, ranges[i].len, ranges[i].direction,
                                 pieces + n, max - n);

        if (more < 0)
            return more;
        n += (unsigned)more;
    }
    transfer->dma = dma;
    transfer->ranges = ranges;
    transfer->nranges = nranges;
    /*
     * Still with the device's lock: an unmap of what was just found takes that lock
     * first, and then sees the transfer.
     */
    pthread_mutex_lock(&dma->transfers_lock);
    transfer->drains = dma->drains;
    transfer->next = dma->transfers;
    transfer->link = &dma->transfers;
    if (transfer->next)
        transfer->next->link = &transfer->next;
    __atomic_store_n(&dma->transfers, transfer, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&dma->transfers_lock);
    return (int)n;
}

void dma_transfer_end(struct dma_transfer *transfer)
{
    struct dma *dma = transfer->dma;

    pthread_mutex_lock(&dma->transfers_lock);
    __atomic_store_n(transfer->link, transfer->next, __ATOMIC_RELEASE);
    if (transfer->next)
        transfer->next->link = transfer->link;
    transfer->dma = NULL;
    pthread_cond_broadcast(&dma->transfers_ended);
    pthread_mutex_unlock(&dma->transfers_lock);
}

static bool touches(const struct dma_transfer *transfer, uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < transfer->nranges; i++) {
        const struct dma_range *range = &transfer->ranges[i];

        if (range->iova <= last && range->iova + (range->len - 1) >= first)
            return true;
    }
    return false;
}

void dma_drain(struct dma *dma, uint64_t first, uint64_t last)
{
    uint64_t drain;
    bool wait;

    /*
     * A transfer that began before has been seen by now, as the device's lock was taken
     * since. Acquire: pairs with the release in dma_transfer_end, after its last access.
     */
    if (!__atomic_load_n(&dma->transfers, __ATOMIC_ACQUIRE))
        return;
    pthread_mutex_lock(&dma->transfers_lock);
    /* Those that began later did not find what was unmapped: they need not end. */
    drain = ++dma->drains;
    do {
        wait = false;
        for (struct dma_transfer *transfer = dma->transfers; transfer; transfer = transfer->next) {
            if (transfer->drains >= drain || !touches(transfer, first, last))
                continue;
            wait = true;
            if (transfer->cancel)
                transfer->cancel(transfer);
        }
        if (wait)
            pthread_cond_wait(&dma->transfers_ended, &dma->transfers_lock);
    } while (wait);
    pthread_mutex_unlock(&dma->transfers_lock);
}
