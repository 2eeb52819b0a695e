#include "guest/kernel/dma/dma_attach.h"

#include "guest/kernel/dma/bounce.h"
#include "guest/kernel/dma/dma_domain.h"
#include "guest/kernel/dma/region.h"
#include "guest/kernel/dma/viommu.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/frame.h"

static void reserve(void *owner, uint64_t first, uint64_t last)
{
    dma_domain_reserve(owner, first, last);
}

/* A mapping for good, at the address that a region asks for. */
static int map_region(struct device *device, uint32_t region, uint64_t iova)
{
    struct dma_mapping *m = dma_record(&dma_direct, 0);
    uint64_t pages = region_pages(region);

    if (!m)
        return -ABI_ENOMEM;
    m->to_map.map.flags = DMA_READ | DMA_WRITE;
    m->permanent = true;
    m->pages = (uint32_t)pages;
    m->bytes = pages << PAGE_SHIFT;
    m->base = m->iova = iova;
    extents_add(&m->memory, region_frame(region), pages, false);
    dma_enlist(device, m);
    return 0;
}

/* Whether a device on the same domain has this identity window already. */
static bool has_window(const struct device *device, uint64_t iova)
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
            (region->kind != ABI_REGION_IDENTITY && region->kind != ABI_REGION_RESERVED_IOVA))
            continue;
        dma_domain_reserve(domain, iova, iova + region->bytes - 1);
        if (region->kind == ABI_REGION_IDENTITY && region_frame(i) && !has_window(device, iova))
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
    if (!dma_translates(device))
        return map_region(device, device->pool, region_frame(device->pool) << PAGE_SHIFT);
    iova = device->regions >> device->pool & 1
               ? region_iova(device->pool)
               : dma_domain_take(device->domain, region_pages(device->pool));
    return iova ? map_region(device, device->pool, iova) : -ABI_ENOMEM;
}

int dma_attach(struct device *device)
{
    bool first = !device->nmappings;
    int err = 0;

    if (device->domain)
        return 0;
    if (device->mode == ABI_DMA_OFF) {
        device->domain = &dma_direct;
    } else {
        struct dma_domain *domain;

        if (!viommu_present())
            return -ABI_ENODEV;
        domain = dma_domain_of(device->domain_number, dma_translates(device));
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
    if (first && dma_translates(device))
        err = prepare(device);
    if (!err && first && device->buffers == ABI_DMA_BOUNCE)
        err = prepare_pool(device);
    if (dma_translates(device)) {
        for (struct dma_mapping *m = device->mappings; m; m = m->next) {
            if (m->permanent)
                dma_install(m);
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

    if (!domain || domain == &dma_direct)
        return;
    dma_revoke(device);
    for (struct dma_mapping *m = device->mappings; m; m = m->next) {
        if (m->installed && domain->attached > 1)
            dma_uninstall(m);
        m->installed = false;
    }
    dma_commit();
    if (viommu_detach_now(domain->number, device->endpoint))
        device->errors++;
    domain->attached--;
    device->domain = NULL;
}
