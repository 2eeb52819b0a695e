#include "guest/kernel/dma/dma.h"

#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/bounce.h"
#include "guest/kernel/dma/dma_domain.h"
#include "guest/kernel/dma/region.h"
#include "guest/kernel/dma/viommu.h"
#include "guest/kernel/dma/viommu_batch.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"

/* Unmapped strictly, and waiting for the IOMMU to say so; in lists by `next`. */
static struct dma_mapping *dying;
bool dma_unmap_failed; /* of some of them */

/* Devices without an IOMMU, and records without addresses. */
struct dma_domain dma_direct = { .used = true };

static struct dma_domain *domain_of(const struct device *device)
{
    return device->domain ? device->domain : &dma_direct;
}

/* ---- Records -------------------------------------------------------------- */

void dma_enlist(struct device *device, struct dma_mapping *m)
{
    m->device = device;
    m->next = device->mappings;
    m->link = &device->mappings;
    if (m->next)
        m->next->link = &m->next;
    device->mappings = m;
    device->nmappings++;
}

static void delist(struct dma_mapping *m)
{
    *m->link = m->next;
    if (m->next)
        m->next->link = m->link;
    m->device->nmappings--;
}

/* What the device has: the buffer itself, or what stands for it. */
static const struct extents *visible(const struct dma_mapping *m)
{
    return m->shadow.count ? &m->shadow : &m->memory;
}

/* One run of pages, at addresses that are the record's own: the request is all but ready. */
static inline void install_run(struct dma_mapping *m, const struct extent *run)
{
    m->installed = true;
    m->to_map.map.last = m->base + ((uint64_t)run->pages << PAGE_SHIFT) - 1;
    m->to_map.map.gpa = (uint64_t)run->frame << PAGE_SHIFT;
    viommu_add(&m->to_map, VIOMMU_MAP_BYTES);
}

void dma_install(struct dma_mapping *m)
{
    const struct extents *pages = visible(m);
    const struct extent *run = extents_all(pages);
    uint64_t at = m->base;

    if (m->home && pages->count == 1) {
        viommu_room();
        install_run(m, run);
        return;
    }
    m->installed = true;
    for (uint32_t left = pages->count; left; left--, run++) {
        uint64_t bytes = (uint64_t)run->pages << PAGE_SHIFT;

        viommu_room();
        viommu_map(m->device->domain_number, at, at + bytes - 1, (uint64_t)run->frame << PAGE_SHIFT,
                   m->to_map.map.flags, &m->failed);
        at += bytes;
    }
}

/*
 * One request undoes many mappings (virtio 1.2, 5.13.6.6): if the last that was collected
 * unmaps what ends right before the record, it is extended. Records' requests hold their
 * guard page too, so that those of neighbours touch. They stay as they are: what is extended
 * is a copy.
 */
static bool extend_unmap(const struct dma_mapping *m)
{
    uint64_t slot = viommu_slot(viommu_batch.next - 1);
    struct viommu_request *own = &viommu_batch.own[slot], *last;

    if (!viommu_collected() || viommu_posted())
        return false;
    last = viommu_added(slot);
    if (last->type != VIOMMU_UNMAP || last->domain != m->to_unmap.domain ||
        last->unmap.last + 1 != m->base)
        return false;
    if (last != own) {
        *own = *last;
        viommu_batch.next--;
        viommu_add(own, VIOMMU_UNMAP_BYTES);
    }
    own->unmap.last = m->to_unmap.unmap.last;
    return true;
}

void dma_uninstall(struct dma_mapping *m)
{
    m->installed = false;
    if (m->home && extend_unmap(m))
        return;
    viommu_room();
    if (m->home)
        viommu_add(&m->to_unmap, VIOMMU_UNMAP_BYTES);
    else
        viommu_unmap(m->device->domain_number, m->base,
                     m->base + ((uint64_t)m->pages << PAGE_SHIFT) - 1, &dma_unmap_failed);
}

/* Between the buffer and the pages that stand for it. */
static void copy_shadow(struct dma_mapping *m, uint64_t bytes, bool back)
{
    uint64_t at = m->va % ABI_PAGE_BYTES;

    while (bytes) {
        uint64_t part = ABI_PAGE_BYTES - at % ABI_PAGE_BYTES;
        char *buffer = extents_at(&m->memory, at), *shadow = extents_at(&m->shadow, at);

        if (part > bytes)
            part = bytes;
        memcpy(back ? buffer : shadow, back ? shadow : buffer, part);
        at += part;
        bytes -= part;
    }
}

/* The driver's side of an unmap: contents back, memory given up. */
static void release(struct dma_mapping *m)
{
    if (m->buffers == ABI_DMA_BOUNCE)
        bounce_out(m->device->bounce, m->slot, m->bytes, m->va, m->copied > 0);
    else if (m->shadow.count && m->to_map.map.flags & DMA_WRITE)
        copy_shadow(m, m->copied, true);
    extents_drop(&m->shadow, EXTENTS_OWNED);
    extents_drop(&m->memory, m->pinned ? EXTENTS_PINNED : EXTENTS_NONE);
}

/* ---- Mapping -------------------------------------------------------------- */

void *dma_alloc_page(struct device *device, uint32_t rights, uint64_t *iova)
{
    struct dma_mapping *m = dma_record(domain_of(device), dma_translates(device));
    uint64_t frame = m ? frame_alloc(ABI_FRAME_KERNEL, true) : 0;

    if (!frame) {
        if (m)
            dma_record_free(m);
        return NULL;
    }
    m->to_map.map.flags = rights;
    m->permanent = true;
    m->pages = 1;
    m->bytes = ABI_PAGE_BYTES;
    extents_add(&m->memory, frame, 1, false);
    dma_enlist(device, m);
    m->iova = frame << PAGE_SHIFT;
    if (dma_translates(device)) {
        m->iova = m->base;
        if (device->domain)
            dma_install(m);
        dma_commit();
    }
    *iova = m->iova;
    return m->failed ? NULL : frame_va(frame);
}

static struct dma_mapping *pool_mapping(const struct device *device)
{
    struct dma_mapping *m = device->mappings;

    while (m && !(m->permanent && m->memory.count &&
                  m->memory.inside[0].frame == region_frame(device->pool)))
        m = m->next;
    return m;
}

/* Which pages the device is to have, in *pages; not touched if it has the buffer itself. */
static int choose(struct device *device, struct dma_mapping *m, enum dma_how how,
                  const struct extents **pages)
{
    bool whole = m->va % ABI_PAGE_BYTES == 0 && m->bytes % ABI_PAGE_BYTES == 0;
    uint64_t offset;
    int64_t slot;
    int err;

    if (how == DMA_AN_ALIAS || device->buffers == ABI_DMA_IN_PLACE)
        return 0;
    if (device->buffers == ABI_DMA_EXCLUSIVE) {
        /* Whole pages share with nothing as they are. */
        if (whole)
            return 0;
        err = extents_alloc(&m->shadow, m->pages);
        if (!err) {
            m->buffers = ABI_DMA_EXCLUSIVE;
            copy_shadow(m, m->bytes, false);
            *pages = &m->shadow;
        }
        return err;
    }
    slot = bounce_in(device->bounce, &m->memory, m->va, m->bytes, m->to_map.map.flags, &offset);
    if (slot < 0)
        return (int)slot;
    m->buffers = ABI_DMA_BOUNCE;
    m->slot = (uint32_t)slot;
    m->iova = pool_mapping(device)->iova + offset;
    return 0;
}

/* A record for so many pages, which has no memory yet. */
static inline __attribute__((always_inline)) int new_record(struct device *device, uint64_t pages,
                                                            uint64_t bytes, uint32_t rights,
                                                            enum dma_how how,
                                                            struct dma_mapping **mapping)
{
    bool bounced = device->buffers == ABI_DMA_BOUNCE && how == DMA_BY_POLICY;
    struct dma_mapping *m;

    if (!device->domain)
        return -ABI_ENODEV;
    m = dma_record(device->domain, dma_translates(device) && !bounced ? pages : 0);
    if (!m)
        return -ABI_ENOMEM;
    m->bytes = bytes;
    m->pages = (uint32_t)pages;
    m->to_map.map.flags = rights;
    *mapping = m;
    return 0;
}

/* Its memory is known: what the device gets for it, and where. */
static inline __attribute__((always_inline)) int map_memory(struct device *device,
                                                            struct dma_mapping *m, enum dma_how how)
{
    uint64_t skew = m->va % ABI_PAGE_BYTES;
    const struct extents *seen = &m->memory;
    int err = choose(device, m, how, &seen);

    if (err)
        return err;
    dma_enlist(device, m);
    if (m->home) {
        m->iova = m->base + skew;
        if (seen->count == 1 && !viommu_is_full())
            install_run(m, seen->inside);
        else
            dma_install(m);
    } else if (m->buffers != ABI_DMA_BOUNCE) {
        m->iova = ((uint64_t)extents_all(seen)->frame << PAGE_SHIFT) + skew;
    }
    return 0;
}

int dma_map_frames(struct device *device, const uint32_t *frame, uint64_t pages, uint32_t rights,
                   struct dma_mapping **mapping)
{
    struct dma_mapping *m;
    int err = new_record(device, pages, pages * ABI_PAGE_BYTES, rights, DMA_BY_POLICY, &m);

    if (err)
        return err;
    for (uint64_t i = 0; !err && i < pages; i++)
        err = extents_add(&m->memory, frame[i], 1, true);
    if (!err)
        err = map_memory(device, m, DMA_BY_POLICY);
    if (err) {
        extents_drop(&m->memory, EXTENTS_NONE);
        dma_record_free(m);
        return err;
    }
    *mapping = m;
    return 0;
}

int dma_map(struct device *device, const struct dma_buffer *buffer, uint32_t rights,
            enum dma_how how, struct dma_mapping **mapping)
{
    uint64_t va = buffer->va, bytes = buffer->bytes, skew = va % ABI_PAGE_BYTES;
    uint64_t pages = (skew + bytes + ABI_PAGE_BYTES - 1) >> PAGE_SHIFT;
    struct dma_mapping *m;
    int err;

    if (!bytes || bytes > DMA_PAGES_MAX * ABI_PAGE_BYTES || pages > DMA_PAGES_MAX || !rights ||
        rights & ~(DMA_READ | DMA_WRITE))
        return -ABI_EINVAL;
    if (va >= USER_END || bytes > USER_END - va)
        return -ABI_EFAULT;
    err = new_record(device, pages, bytes, rights, how, &m);
    if (err)
        return err;
    m->va = va;
    m->owner = buffer->p->pub.pid;
    m->is_alias = how == DMA_AN_ALIAS;
    m->pinned = !(device->flags & ABI_DEVICE_NO_PIN);
    err = extents_of_user(&m->memory, buffer->p, va, bytes, rights & DMA_WRITE, m->pinned);
    if (err)
        goto free_record;
    err = map_memory(device, m, how);
    if (err)
        goto drop_memory;
    *mapping = m;
    return 0;

drop_memory:
    extents_drop(&m->memory, m->pinned ? EXTENTS_PINNED : EXTENTS_NONE);
free_record:
    dma_record_free(m);
    return err;
}

uint64_t dma_map_most(const struct device *device)
{
    if (device->buffers == ABI_DMA_BOUNCE && device->bounce)
        return bounce_room(device->bounce) / 8;
    return DMA_PAGES_MAX * ABI_PAGE_BYTES;
}

void dma_unmap(struct dma_mapping *m, uint64_t copied)
{
    struct device *device = m->device;
    struct dma_domain *domain = domain_of(device);

    uint64_t most = device->flags & ABI_DEVICE_TRUSTING
                        ? ((uint64_t)m->pages << PAGE_SHIFT) - m->va % ABI_PAGE_BYTES
                        : m->bytes;

    m->copied = (uint32_t)(copied < most ? copied : most);
    delist(m);
    if (!m->installed) {
        release(m);
        dma_record_free(m);
    } else if (device->mode == ABI_DMA_LAZY) {
        /* The memory goes now, as it does in Linux; the device loses it later. */
        release(m);
        if (!domain->nlazy++)
            domain->lazy_since = rdtsc();
        m->next = domain->lazy;
        domain->lazy = m;
        device_expect(domain->lazy_since + device_ticks(DMA_LAZY_US));
        if (domain->nlazy == DMA_LAZY_MAX)
            dma_flush(device);
    } else {
        /* The first of a batch, as often as not the only one, extends nothing. */
        if (__builtin_expect(dying || viommu_is_full(), false))
            dma_uninstall(m);
        else
            viommu_add(&m->to_unmap, VIOMMU_UNMAP_BYTES);
        m->next = dying;
        dying = m;
    }
}

void dma_post(void)
{
    if (!viommu_post())
        dma_commit();
}

int dma_commit(void)
{
    int err = viommu_collected() && !viommu_went_well() ? viommu_run() : 0;
    bool lost = dma_unmap_failed;
    struct dma_mapping *m, *next;

    dma_unmap_failed = false;
    m = dying;
    dying = NULL;
    for (; m; m = next) {
        next = m->next;
        /* If the IOMMU would not unmap it, its memory is lost: better than given away. */
        if (lost)
            continue;
        release(m);
        dma_record_free(m);
    }
    return err;
}

int dma_segments(const struct dma_mapping *m, uint64_t offset, uint64_t bytes,
                 struct dma_segment *segments, unsigned max)
{
    const struct extents *pages = visible(m);
    const struct extent *extent = extents_all(pages);
    uint64_t skip = m->va % ABI_PAGE_BYTES + offset;
    unsigned count = 0;

    if (m->base || m->buffers == ABI_DMA_BOUNCE || pages->count == 1) {
        segments[0] = (struct dma_segment){ m->iova + offset, (uint32_t)bytes };
        return 1;
    }
    for (; bytes; extent++) {
        uint64_t room = (uint64_t)extent->pages << PAGE_SHIFT, part;

        if (skip >= room) {
            skip -= room;
            continue;
        }
        if (count == max)
            return -ABI_E2BIG;
        part = room - skip < bytes ? room - skip : bytes;
        segments[count].iova = ((uint64_t)extent->frame << PAGE_SHIFT) + skip;
        segments[count++].bytes = (uint32_t)part;
        bytes -= part;
        skip = 0;
    }
    return (int)count;
}

/* ---- Lazy unmaps ---------------------------------------------------------- */

static void flush(struct dma_domain *domain)
{
    struct dma_mapping *m, *list = domain->lazy;

    if (!list)
        return;
    domain->lazy = NULL;
    domain->nlazy = 0;
    for (m = list; m && domain->attached; m = m->next) {
        viommu_room();
        viommu_unmap(domain->number, m->base, m->base + ((uint64_t)m->pages << PAGE_SHIFT) - 1,
                     &m->failed);
    }
    viommu_run();
    while ((m = list)) {
        list = m->next;
        if (!m->failed)
            dma_record_free(m);
    }
}

void dma_flush(struct device *device)
{
    flush(domain_of(device));
}

void dma_flush_due(uint64_t now)
{
    for (unsigned i = 0; i < DMA_DOMAINS_MAX && dma_domains[i].used; i++) {
        uint64_t due = dma_domains[i].lazy_since + device_ticks(DMA_LAZY_US);

        if (!dma_domains[i].lazy)
            continue;
        if (now >= due)
            flush(&dma_domains[i]);
        else
            device_expect(due);
    }
}

/* ---- Taking away ---------------------------------------------------------- */

void dma_revoke(struct device *device)
{
    struct dma_mapping *m = device->mappings, *next;

    for (; m; m = next) {
        next = m->next;
        if (m->held && m->installed)
            dma_uninstall(m);
        else if (!m->held && !m->permanent)
            dma_unmap(m, 0);
    }
    dma_commit();
    dma_flush(device);
}

void dma_drop_owned(struct device *device, uint32_t pid)
{
    struct dma_mapping *m = device->mappings, *next;

    for (; m; m = next) {
        next = m->next;
        if (m->owner == pid && !m->permanent && !m->held)
            dma_unmap(m, 0);
    }
    dma_commit();
}
