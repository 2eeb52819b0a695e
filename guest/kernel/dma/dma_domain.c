#include "guest/kernel/dma/dma_domain.h"

#include "guest/kernel/dma/viommu.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"

/*
 * Where the addresses of the first domain begin, and those of the next: above all RAM, so
 * that none is by chance a guest-physical address, nor good in another domain.
 */
#define IOVA_FIRST 0x400000000000ull
#define IOVA_STEP  0x10000000000ull

struct dma_domain dma_domains[DMA_DOMAINS_MAX];

/* Records without addresses, as they come from a fresh frame. */
static struct dma_mapping *blank;

static void place(struct dma_domain *domain, unsigned index)
{
    uint64_t first, last, step;

    viommu_input(&first, &last);
    domain->next = IOVA_FIRST + index * IOVA_STEP;
    domain->last = domain->next + IOVA_STEP - 1;
    if (first <= domain->next && domain->last <= last)
        return;
    /* Less than that: a part for each, behind the lowest, which many expect to be empty. */
    step = (last - first) / (2 * DMA_DOMAINS_MAX) & ~(ABI_HUGE_BYTES - 1);
    domain->next = ((first + ABI_HUGE_BYTES - 1) & ~(ABI_HUGE_BYTES - 1)) +
                   (DMA_DOMAINS_MAX + index) * step;
    domain->last = domain->next + step - 1;
}

struct dma_domain *dma_domain_of(uint32_t number, bool translates)
{
    struct dma_domain *domain = dma_domains;

    for (unsigned i = 0; i < DMA_DOMAINS_MAX; i++, domain++) {
        if (domain->used && domain->number == number && domain->translates == translates)
            return domain;
        if (domain->used)
            continue;
        *domain = (struct dma_domain){ .number = number, .used = true, .translates = translates };
        if (translates)
            place(domain, i);
        return domain;
    }
    return NULL;
}

void dma_domain_reserve(struct dma_domain *domain, uint64_t first, uint64_t last)
{
    for (unsigned i = 0; i < domain->nreserved; i++) {
        if (domain->reserved[i].first == first && domain->reserved[i].last == last)
            return;
    }
    if (domain->nreserved == DMA_RESERVED_MAX) {
        /* Rather nothing than something that is not free. */
        domain->last = 0;
        return;
    }
    domain->reserved[domain->nreserved].first = first;
    domain->reserved[domain->nreserved++].last = last;
}

uint64_t dma_domain_take(struct dma_domain *domain, uint64_t pages)
{
    uint64_t bytes = pages << PAGE_SHIFT;
    /* A 2M page may stay one for the IOMMU, too. */
    uint64_t align = pages >= HUGE_FRAMES ? ABI_HUGE_BYTES : ABI_PAGE_BYTES;
    uint64_t at = (domain->next + align - 1) & ~(align - 1);

    for (unsigned i = 0; i < domain->nreserved;) {
        if (at <= domain->reserved[i].last && domain->reserved[i].first <= at + bytes - 1) {
            at = (domain->reserved[i].last + align) & ~(align - 1);
            i = 0;
        } else {
            i++;
        }
    }
    /* A page between two buffers, so that running over the end of one is a fault. */
    bytes += ABI_PAGE_BYTES;
    if (at < domain->next || at > domain->last || bytes > domain->last - at)
        return 0;
    domain->next = at + bytes;
    return at;
}

static struct dma_mapping *take_blank(void)
{
    struct dma_mapping *mapping;

    if (!blank) {
        uint64_t frame = frame_alloc(ABI_FRAME_KERNEL, true);

        mapping = frame_va(frame);
        for (uint64_t n = frame ? ABI_PAGE_BYTES / sizeof(*mapping) : 0; n--; mapping++) {
            mapping->next = blank;
            blank = mapping;
        }
    }
    mapping = blank;
    if (mapping)
        blank = mapping->next;
    return mapping;
}

/* One with addresses that were never given out; out of the way of those that were. */
static __attribute__((noinline)) struct dma_mapping *fresh(struct dma_domain *domain, uint64_t size)
{
    uint64_t base = dma_domain_take(domain, 1ull << size);
    struct dma_mapping *mapping = base ? take_blank() : NULL;

    if (!mapping)
        return NULL;
    mapping->home = domain;
    mapping->base = base;
    mapping->size = (uint32_t)size;
    mapping->to_map = (struct viommu_request){ .type = VIOMMU_MAP,
                                               .domain = domain->number,
                                               .failed = &mapping->failed };
    mapping->to_map.map.first = base;
    mapping->to_unmap = (struct viommu_request){ .type = VIOMMU_UNMAP,
                                                 .domain = domain->number,
                                                 .failed = &dma_unmap_failed };
    mapping->to_unmap.unmap.first = base;
    mapping->to_unmap.unmap.last = base + (ABI_PAGE_BYTES << size) + ABI_PAGE_BYTES - 1;
    return mapping;
}

struct dma_mapping *dma_record(struct dma_domain *domain, uint64_t pages)
{
    struct dma_mapping *mapping;
    uint64_t size;

    if (!pages)
        return take_blank();
    /* log2, rounded up: that of 2 * pages - 1, rounded down. */
    size = 63 ^ (uint64_t)__builtin_clzll(2 * pages - 1);
    mapping = domain->free[size];
    if (!mapping)
        return fresh(domain, size);
    domain->free[size] = mapping->next;
    return mapping;
}

void dma_record_free(struct dma_mapping *mapping)
{
    struct dma_domain *home = mapping->home;
    struct dma_mapping **list = home ? &home->free[mapping->size] : &blank;

    __builtin_memset(mapping, 0, offsetof(struct dma_mapping, home));
    mapping->next = *list;
    *list = mapping;
}
