#include "devices/iommu/dma.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/iommu/dma_segment.h"
#include "devices/iommu/endpoint.h"
#include "devices/iommu/faults.h"
#include "devices/iommu/unit.h"
#include "vmm/machine/memory.h"

/* Pieces of a copy that fit on the stack. */
#define COPY_PIECES 16

int dma_create(struct dma *dma, const struct memory *memory, struct iommu *iommu, uint32_t endpoint)
{
    int err;

    *dma = (struct dma){
        .memory = memory, .id = endpoint, .generation = 1, .kept_first = UINT64_MAX
    };
    pthread_mutex_init(&dma->lock, NULL);
    pthread_mutex_init(&dma->transfers_lock, NULL);
    pthread_cond_init(&dma->transfers_ended, NULL);
    err = iommu ? iommu_add_endpoint(iommu, endpoint, dma) : 0;
    if (err)
        dma_destroy(dma);
    return err;
}

void dma_destroy(struct dma *dma)
{
    if (dma->endpoint)
        iommu_remove_endpoint(dma->endpoint);
    dma->endpoint = NULL;
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
    bool faults = dma->faults_pending;

    dma->faults_pending = false;
    pthread_mutex_unlock(&dma->lock);
    if (faults)
        iommu_faults_wake(&dma->iommu->faults);
    if (dma->unlocked)
        dma->unlocked(dma->unlocked_owner);
}

/* Guest RAM, as the dma handle sees it. */

/* An address below a slot wraps around to more than its length. */
inline void *dma_host(const struct memory *memory, uint64_t gpa, uint64_t *available)
{
    for (unsigned i = 0; i < memory->nslots; i++) {
        const struct memory_slot *slot = &memory->slots[i];
        uint64_t offset = gpa - slot->gpa;

        if (offset < slot->bytes) {
            *available = slot->bytes - offset;
            return (char *)slot->hva + offset;
        }
    }
    return NULL;
}

bool dma_all_ram(const struct memory *memory, uint64_t gpa, uint64_t len)
{
    uint64_t available;

    while (len && dma_host(memory, gpa, &available)) {
        if (available >= len)
            return true;
        gpa += available;
        len -= available;
    }
    return false;
}

bool dma_any_ram(const struct memory *memory, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; len && i < memory->nslots; i++) {
        const struct memory_slot *slot = &memory->slots[i];

        if (gpa <= slot->gpa + (slot->bytes - 1) && slot->gpa <= gpa + (len - 1))
            return true;
    }
    return false;
}

uint64_t dma_ram_end(const struct memory *memory)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < memory->nslots; i++) {
        if (memory->slots[i].gpa + memory->slots[i].bytes > end)
            end = memory->slots[i].gpa + memory->slots[i].bytes;
    }
    return end;
}

/* Translation. */

static void count(atomic_ullong *counter)
{
    /* One thread at a time counts, others only look: no locked instruction is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void dma_fault(struct dma *dma, struct iommu_fault *fault)
{
    fault->endpoint = dma->id;
    dma->faults++;
    if (dma->iommu && iommu_faults_record(dma->iommu, fault))
        dma->faults_pending = true;
}

/* Whether addresses are taken as they are. */
static bool untranslated(const struct dma *dma)
{
    return !dma->endpoint || dma->endpoint->mode == IOMMU_BYPASS;
}

/*
 * What a translated endpoint's iova leads to, and maybe what the `len` bytes from there on do;
 * NULL: a fault, in *fault and recorded. `own` is where it may be put.
 */
static inline const struct iotlb_entry *find(struct dma *dma, uint64_t iova, uint64_t len,
                                             enum dma_direction direction, struct iotlb_entry *own,
                                             struct iommu_fault *fault)
{
    struct iommu_endpoint *endpoint = dma->endpoint;
    const struct iotlb_entry *entry = iotlb_find(&endpoint->tlb, iova, direction);

    if (entry) {
        count(&endpoint->tlb_hits);
        return entry;
    }
    count(&endpoint->tlb_misses);
    *fault = (struct iommu_fault){ .access = direction, .iova = iova };
    if (iommu_resolve(endpoint, len, own, fault) == 0)
        return own;
    dma_fault(dma, fault);
    return NULL;
}

/*
 * The host memory at iova, of which `len` bytes are wanted, and how many follow in one piece;
 * NULL: a fault, recorded.
 */
static void *find_host(struct dma *dma, uint64_t iova, uint64_t len, enum dma_direction direction,
                       uint64_t *available)
{
    const struct iotlb_entry *entry;
    struct iommu_fault fault;
    struct iotlb_entry own;
    void *host;

    if (untranslated(dma)) {
        host = dma_host(dma->memory, iova, available);
        if (host)
            return host;
    } else {
        entry = find(dma, iova, len, direction, &own, &fault);
        if (!entry)
            return NULL;
        if (entry->host) {
            *available = entry->bytes - (iova - entry->first);
            return entry->host + (iova - entry->first);
        }
    }
    /* Registers of a device, or nothing at all: not for those who know only memory. */
    fault = (struct iommu_fault){ IOMMU_FAULT_TARGET, .access = direction, .iova = iova };
    dma_fault(dma, &fault);
    return NULL;
}

int dma_translate(struct dma *dma, uint64_t iova, uint64_t len, enum dma_direction direction,
                  struct iovec *pieces, unsigned max)
{
    uint64_t available;
    unsigned n = 0;

    if (!len || iova + (len - 1) < iova)
        return -EINVAL;
    while (len) {
        char *host = find_host(dma, iova, len, direction, &available);

        if (!host)
            return -EFAULT;
        if (available > len)
            available = len;
        if (n && (char *)pieces[n - 1].iov_base + pieces[n - 1].iov_len == host) {
            pieces[n - 1].iov_len += available;
        } else {
            if (n == max)
                return -E2BIG;
            pieces[n++] = (struct iovec){ .iov_base = host, .iov_len = available };
        }
        iova += available;
        len -= available;
    }
    return (int)n;
}

static void move(void *host, char *data, size_t len, enum dma_direction direction)
{
    if (direction == DMA_READ)
        memcpy(data, host, len);
    else
        memcpy(host, data, len);
}

/* All of it is translated before the first byte moves; nothing is unmapped in between. */
static __attribute__((noinline)) int copy_pieces(struct dma *dma, uint64_t iova, char *data,
                                                 size_t len, enum dma_direction direction)
{
    struct iovec some[COPY_PIECES], *pieces = some;
    int n;

    n = dma_translate(dma, iova, len, direction, pieces, COPY_PIECES);
    if (n == -E2BIG) {
        unsigned max = (unsigned)(len / IOPT_PAGE_BYTES) + 2;

        pieces = calloc(max, sizeof(*pieces));
        if (!pieces)
            return -ENOMEM;
        n = dma_translate(dma, iova, len, direction, pieces, max);
    }
    for (int i = 0; i < n; i++) {
        move(pieces[i].iov_base, data, pieces[i].iov_len, direction);
        data += pieces[i].iov_len;
    }
    if (pieces != some)
        free(pieces);
    return n < 0 ? n : 0;
}

/* [iova, iova + len) where that is plain to see; NULL: look closer. */
static inline void *plain_host(struct dma *dma, uint64_t iova, uint64_t len,
                               enum dma_direction direction)
{
    const struct memory_slot *slot = &dma->memory->slots[0];
    const struct iotlb_entry *entry;

    if (!dma->endpoint) {
        uint64_t offset = iova - slot->gpa;

        if (offset >= slot->bytes || len > slot->bytes - offset)
            return NULL;
        return (char *)slot->hva + offset;
    }
    entry = iotlb_find(&dma->endpoint->tlb, iova, direction);
    if (untranslated(dma) || !entry || len > entry->bytes - (iova - entry->first))
        return NULL;
    count(&dma->endpoint->tlb_hits);
    return entry->host + (iova - entry->first);
}

static inline int copy(struct dma *dma, uint64_t iova, char *data, size_t len,
                       enum dma_direction direction)
{
    void *host;

    if (!len)
        return 0;
    host = plain_host(dma, iova, len, direction);
    if (!host)
        return copy_pieces(dma, iova, data, len, direction);
    move(host, data, len, direction);
    return 0;
}

int dma_read(struct dma *dma, uint64_t iova, void *to, size_t len)
{
    return copy(dma, iova, to, len, DMA_READ);
}

int dma_write(struct dma *dma, uint64_t iova, const void *from, size_t len)
{
    return copy(dma, iova, (char *)from, len, DMA_WRITE);
}

void *dma_window(struct dma *dma, struct dma_window *window, uint64_t iova, uint64_t len,
                 enum dma_direction direction, bool *fault)
{
    struct iovec piece;
    int n;

    if (fault)
        *fault = false;
    if (dma_window_good(dma, window) && window->iova == iova && window->len == len &&
        window->direction == direction)
        return window->host;
    window->host = NULL;
    window->generation = 0;
    n = dma_translate(dma, iova, len, direction, &piece, 1);
    if (fault)
        *fault = n == -EFAULT;
    if (n < 0)
        return NULL;
    *window = (struct dma_window){ iova, len, direction, piece.iov_base, dma->generation };
    if (iova < dma->kept_first)
        dma->kept_first = iova;
    if (iova + (len - 1) > dma->kept_last)
        dma->kept_last = iova + (len - 1);
    return window->host;
}

void dma_forget(struct dma *dma, uint64_t first, uint64_t last)
{
    if (first > dma->kept_last || last < dma->kept_first)
        return;
    dma->generation++;
    dma->kept_first = UINT64_MAX;
    dma->kept_last = 0;
}

int64_t dma_discard(struct dma *dma, const struct iommu *iommu, uint64_t gpa, uint64_t len,
                    uint64_t *pinned)
{
    uint64_t at = (gpa + IOPT_PAGE_BYTES - 1) & ~(IOPT_PAGE_BYTES - 1), free_from = at, end;
    int64_t given = 0, part;

    *pinned = 0;
    if (!memory_at(dma->memory, gpa, len))
        return -EFAULT;
    end = (gpa + len) & ~(IOPT_PAGE_BYTES - 1);
    if (!iommu || !iommu_pinned(iommu, gpa, len))
        return at < end ? memory_discard(dma->memory, at, end - at) : 0;
    for (; at < end; at += IOPT_PAGE_BYTES) {
        if (!iommu_pinned(iommu, at, IOPT_PAGE_BYTES))
            continue;
        ++*pinned;
        part = free_from < at ? memory_discard(dma->memory, free_from, at - free_from) : 0;
        if (part < 0)
            return part;
        given += part;
        free_from = at + IOPT_PAGE_BYTES;
    }
    part = free_from < end ? memory_discard(dma->memory, free_from, end - free_from) : 0;
    return part < 0 ? part : given + part;
}

/* What dma_request.c asks. */

int dma_resolve(struct dma *dma, uint64_t iova, enum dma_direction direction, bool ats,
                struct dma_segment *span, struct iommu_fault *fault)
{
    uint64_t in_page = IOPT_PAGE_BYTES - (iova & (IOPT_PAGE_BYTES - 1)), available = in_page;
    bool message = iova >= IOMMU_MSI_FIRST && iova <= IOMMU_MSI_LAST;
    bool believed = ats && !dma_checks(dma, IOMMU_CHECK_TRANSLATED);
    const struct iotlb_entry *entry;
    struct iotlb_entry own;

    *span = (struct dma_segment){ .gpa = iova, .len = in_page };
    if (untranslated(dma) || believed) {
        span->message = message;
        span->host = dma_host(dma->memory, iova, &available);
        if (span->host && available < in_page)
            span->len = available;
        return 0;
    }
    if (ats) {
        *fault = (struct iommu_fault){ IOMMU_FAULT_CLAIM, .access = direction, .iova = iova };
        dma_fault(dma, fault);
        return -EFAULT;
    }
    span->translated = true;
    if (message && direction == DMA_WRITE && dma->endpoint->mode == IOMMU_TRANSLATED) {
        span->message = true;
        return 0;
    }
    entry = find(dma, iova, 1, direction, &own, fault);
    if (!entry)
        return -EFAULT;
    /* No leaf ends before its page does. */
    span->gpa = entry->gpa + (iova - entry->first);
    span->host = entry->host ? entry->host + (iova - entry->first) : NULL;
    return 0;
}

bool dma_may_signal(const struct dma *dma, uint8_t vector)
{
    if (!dma->endpoint || !dma_checks(dma, IOMMU_CHECK_MSI))
        return true;
    return dma->endpoint->vectors[vector / 64] >> vector % 64 & 1;
}

struct dma *dma_of_requester(struct dma *dma, uint32_t requester)
{
    struct iommu_endpoint *endpoint;

    if (!dma->iommu || dma_checks(dma, IOMMU_CHECK_REQUESTER))
        return dma;
    pthread_mutex_lock(&dma->iommu->lock);
    endpoint = iommu_find(dma->iommu, requester);
    pthread_mutex_unlock(&dma->iommu->lock);
    return endpoint ? endpoint->dma : NULL;
}

bool dma_checks(const struct dma *dma, enum iommu_check check)
{
    return dma->iommu && iommu_checks(dma->iommu, check);
}
