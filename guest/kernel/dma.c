#include "guest/kernel/dma.h"

#include "guest/kernel/bounce.h"
#include "guest/kernel/cpu.h"
#include "guest/kernel/dma_domain.h"
#include "guest/kernel/frame.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/region.h"
#include "guest/kernel/viommu.h"
#include "guest/kernel/viommu_batch.h"

/* Unmapped strictly, and waiting for the IOMMU to say so; in lists by `next`. */
static struct dma_mapping *dying;
static bool unmap_failed; /* of some of them */

/* Devices without an IOMMU, and records without addresses. */
static struct dma_domain direct = { .used = true };

static struct dma_domain *domain_of(const struct device *device)
{
    return device->domain ? device->domain : &direct;
}

static bool translates(const struct device *device)
{
    return device->mode == ABI_DMA_STRICT || device->mode == ABI_DMA_LAZY;
}

/* ---- Records -------------------------------------------------------------- */

static void enlist(struct device *device, struct dma_mapping *m)
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

/* Tells the IOMMU, run by run. */
static void install(struct dma_mapping *m)
{
    const struct extents *pages = visible(m);
    const struct extent *extent = extents_all(pages);
    uint32_t domain = m->device->domain->number, count = pages->count;
    uint64_t at = m->base;

    m->installed = true;
    do {
        uint64_t bytes = (uint64_t)extent->pages << PAGE_SHIFT;

        viommu_map(domain, at, at + bytes - 1, (uint64_t)extent->frame << PAGE_SHIFT, m->rights,
                   &m->failed);
        at += bytes;
        extent++;
    } while (--count);
}

/*
 * All addresses of the record, mapped or not: neighbours touch, so that unmapping those of
 * one batch is one request.
 */
static uint64_t last_of(const struct dma_mapping *m)
{
    uint64_t pages = m->home ? dma_record_pages(m) : m->pages;

    return m->base + (pages << PAGE_SHIFT) - 1;
}

/* One request undoes many mappings (virtio 1.2, 5.13.6.6): it waits for those that follow. */
static struct {
    uint32_t domain;
    uint64_t first, last; /* last 0: none waits */
} unmapping;

static void flush_unmapping(void)
{
    if (unmapping.last)
        viommu_unmap(unmapping.domain, unmapping.first, unmapping.last, &unmap_failed);
    unmapping.last = 0;
}

static void uninstall(struct dma_mapping *m)
{
    uint32_t domain = m->device->domain->number;

    m->installed = false;
    if (m->base != unmapping.last + 1 || domain != unmapping.domain) {
        flush_unmapping();
        unmapping.domain = domain;
        unmapping.first = m->base;
    }
    unmapping.last = last_of(m);
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
    else if (m->shadow.count && m->rights & DMA_WRITE)
        copy_shadow(m, m->copied, true);
    extents_drop(&m->shadow, EXTENTS_OWNED);
    extents_drop(&m->memory, m->pinned ? EXTENTS_PINNED : EXTENTS_NONE);
}

/* ---- Attaching ------------------------------------------------------------ */

static void reserve(void *owner, uint64_t first, uint64_t last)
{
    dma_domain_reserve(owner, first, last);
}

/* A mapping for good, at the address that a region asks for. */
static int map_region(struct device *device, uint32_t region, uint64_t iova)
{
    struct dma_mapping *m = dma_record(&direct, 0);
    uint64_t pages = region_pages(region);

    if (!m)
        return -ABI_ENOMEM;
    m->rights = DMA_READ | DMA_WRITE;
    m->permanent = true;
    m->pages = (uint32_t)pages;
    m->bytes = pages << PAGE_SHIFT;
    m->base = m->iova = iova;
    extents_add(&m->memory, region_frame(region), pages, false);
    enlist(device, m);
    return 0;
}

/* Whether somebody on the device's domain has this hole already. */
static bool has_hole(const struct device *device, uint64_t iova)
{
    for (unsigned i = 0; i < device_count; i++) {
        if (devices[i].domain != device->domain)
            continue;
        for (const struct dma_mapping *m = devices[i].mappings; m; m = m->next) {
            if (m->permanent && m->base == iova)
                return true;
        }
    }
    return false;
}

/* What the policy has for the device beside its driver's buffers. */
static int prepare(struct device *device)
{
    struct dma_domain *domain = device->domain;
    int err = 0;

    viommu_reserved(device->endpoint, reserve, domain);
    for (uint32_t i = 0; i < boot_info.policy.nregions; i++) {
        const struct abi_policy_region *region = &boot_info.policy.region[i];
        uint64_t iova = region_iova(i);

        if (!(device->regions >> i & 1) ||
            (region->kind != ABI_REGION_HOLE && region->kind != ABI_REGION_CARVE))
            continue;
        dma_domain_reserve(domain, iova, iova + region->bytes - 1);
        if (region->kind == ABI_REGION_HOLE && region_frame(i) && !has_hole(device, iova))
            err = map_region(device, i, iova);
        if (err)
            return err;
    }
    return 0;
}

static int prepare_pool(struct device *device)
{
    uint64_t iova;

    device->bounce = bounce_pool_of(device->pool, device->flags & ABI_DEVICE_BOUNCE_META);
    if (!device->bounce)
        return -ABI_ENOMEM;
    if (!translates(device))
        return map_region(device, device->pool, region_frame(device->pool) << PAGE_SHIFT);
    iova = device->regions >> device->pool & 1
               ? region_iova(device->pool)
               : dma_domain_take(device->domain, region_pages(device->pool));
    return iova ? map_region(device, device->pool, iova) : -ABI_ENOMEM;
}

static struct dma_mapping *pool_mapping(const struct device *device)
{
    struct dma_mapping *m = device->mappings;

    while (m && !(m->permanent && m->memory.count &&
                  m->memory.inside[0].frame == region_frame(device->pool)))
        m = m->next;
    return m;
}

int dma_attach(struct device *device)
{
    bool first = !device->nmappings;
    int err = 0;

    if (device->domain)
        return 0;
    if (device->mode == ABI_DMA_OFF) {
        device->domain = &direct;
    } else {
        struct dma_domain *domain;

        if (!viommu_present())
            return -ABI_ENODEV;
        domain = dma_domain_of(device->domain_number, translates(device));
        if (!domain)
            return -ABI_ENOMEM;
        err = viommu_attach_now(domain->number, device->endpoint, !domain->translates);
        if (err) {
            printk("%s: the IOMMU does not attach endpoint %u to domain %u: %d\n", device->name,
                   device->endpoint, domain->number, err);
            device->errors++;
            return err < 0 ? err : -ABI_EIO;
        }
        domain->attached++;
        device->domain = domain;
    }
    if (first && translates(device))
        err = prepare(device);
    if (!err && first && device->buffers == ABI_DMA_BOUNCE)
        err = prepare_pool(device);
    if (translates(device)) {
        for (struct dma_mapping *m = device->mappings; m; m = m->next) {
            if (m->permanent)
                install(m);
        }
    }
    if (!err)
        err = dma_commit();
    if (err)
        dma_detach(device);
    return err;
}

void dma_detach(struct device *device)
{
    struct dma_domain *domain = device->domain;

    if (!domain || domain == &direct)
        return;
    dma_revoke(device);
    for (struct dma_mapping *m = device->mappings; m; m = m->next) {
        if (m->installed && domain->attached > 1)
            uninstall(m);
        m->installed = false;
    }
    dma_commit();
    if (viommu_detach_now(domain->number, device->endpoint))
        device->errors++;
    domain->attached--;
    device->domain = NULL;
}

/* ---- Mapping -------------------------------------------------------------- */

void *dma_alloc_page(struct device *device, uint32_t rights, uint64_t *iova)
{
    struct dma_mapping *m = dma_record(domain_of(device), translates(device));
    uint64_t frame = m ? frame_alloc(ABI_FRAME_KERNEL, true) : 0;

    if (!frame) {
        if (m)
            dma_record_free(m);
        return NULL;
    }
    m->rights = (uint8_t)rights;
    m->permanent = true;
    m->pages = 1;
    m->bytes = ABI_PAGE_BYTES;
    extents_add(&m->memory, frame, 1, false);
    enlist(device, m);
    m->iova = frame << PAGE_SHIFT;
    if (translates(device)) {
        m->iova = m->base;
        if (device->domain)
            install(m);
        dma_commit();
    }
    *iova = m->iova;
    return m->failed ? NULL : frame_va(frame);
}

/* Which pages the device is to have. */
static int choose(struct device *device, struct dma_mapping *m, enum dma_how how)
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
        }
        return err;
    }
    slot = bounce_in(device->bounce, &m->memory, m->va, m->bytes, m->rights, &offset);
    if (slot < 0)
        return (int)slot;
    m->buffers = ABI_DMA_BOUNCE;
    m->slot = (uint32_t)slot;
    m->iova = pool_mapping(device)->iova + offset;
    return 0;
}

int dma_map(struct device *device, struct process *p, uint64_t va, uint64_t bytes, uint32_t rights,
            enum dma_how how, struct dma_mapping **mapping)
{
    uint64_t skew = va % ABI_PAGE_BYTES;
    uint64_t pages = (skew + bytes + ABI_PAGE_BYTES - 1) >> PAGE_SHIFT;
    bool bounced = device->buffers == ABI_DMA_BOUNCE && how == DMA_BY_POLICY;
    struct dma_mapping *m;
    int err;

    if (!bytes || bytes > DMA_PAGES_MAX * ABI_PAGE_BYTES || pages > DMA_PAGES_MAX || !rights ||
        rights & ~(DMA_READ | DMA_WRITE))
        return -ABI_EINVAL;
    if (va >= USER_END || bytes > USER_END - va)
        return -ABI_EFAULT;
    if (!device->domain)
        return -ABI_ENODEV;
    m = dma_record(device->domain, translates(device) && !bounced ? pages : 0);
    if (!m)
        return -ABI_ENOMEM;
    m->va = va;
    m->bytes = bytes;
    m->pages = (uint32_t)pages;
    m->rights = (uint8_t)rights;
    m->owner = p->pub.pid;
    m->is_alias = how == DMA_AN_ALIAS;
    m->pinned = !(device->flags & ABI_DEVICE_NO_PIN);
    err = extents_of_user(&m->memory, p, va, bytes, rights & DMA_WRITE, m->pinned);
    if (err)
        goto free_record;
    err = choose(device, m, how);
    if (err)
        goto drop_memory;
    enlist(device, m);
    if (m->buffers != ABI_DMA_BOUNCE) {
        m->iova = translates(device)
                      ? m->base + skew
                      : ((uint64_t)extents_all(visible(m))->frame << PAGE_SHIFT) + skew;
        if (translates(device))
            install(m);
    }
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
        uninstall(m);
        m->next = dying;
        dying = m;
    }
}

void dma_post(void)
{
    flush_unmapping();
    if (!viommu_post())
        dma_commit();
}

int dma_commit(void)
{
    bool lost;
    int err;

    flush_unmapping();
    err = viommu_batch.collected ? viommu_run() : 0;
    lost = unmap_failed;
    unmap_failed = false;
    while (dying) {
        struct dma_mapping *m = dying;

        dying = m->next;
        /* If the IOMMU would not unmap it, its memory is lost: better than given away. */
        if (m->failed || lost)
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
    for (m = list; m && domain->attached; m = m->next)
        viommu_unmap(domain->number, m->base, m->base + ((uint64_t)m->pages << PAGE_SHIFT) - 1,
                     &m->failed);
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
            uninstall(m);
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
