#include "guest/kernel/dma/dma_call.h"

#include "guest/abi/machine.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/dma/dma_attach.h"
#include "guest/kernel/dma/dma_domain.h"
#include "guest/kernel/dma/region.h"
#include "guest/kernel/dma/viommu.h"
#include "guest/kernel/drivers/probe.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/space.h"

static int64_t describe(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    dma->kind = device->kind;
    dma->endpoint = device->endpoint;
    dma->mode = device->mode;
    dma->domain = device->domain_number;
    dma->mmio = device->gpa;
    dma->value = device->buffers;
    dma->bytes = device->flags;
    dma->last = device->fault_action;
    memcpy(dma->name, device->name, sizeof(dma->name));
    return 0;
}

/* Makes what was mapped true, or takes it back. */
static int64_t finish_map(struct device *device, struct dma_mapping *m, struct abi_dma *dma)
{
    struct dma_segment segment;
    int64_t err = 0;

    /* One address is all a program gets. */
    if (dma_segments(m, 0, m->bytes, &segment, 1) != 1)
        err = -ABI_EINVAL;
    dma_commit();
    if (!err && m->failed)
        err = -ABI_EIO;
    if (err) {
        device->errors += err == -ABI_EIO;
        dma_unmap(m, 0);
        dma_commit();
        return err;
    }
    dma->iova = m->iova;
    return 0;
}

static int64_t map(struct process *p, struct device *device, struct abi_dma *dma)
{
    const struct dma_buffer buffer = { .p = p, .va = dma->va, .bytes = dma->bytes };
    struct dma_mapping *m;
    int err = dma_map(device, &buffer, dma->rights, DMA_BY_POLICY, &m);

    return err ? err : finish_map(device, m, dma);
}

static int64_t alias(struct process *p, struct device *device, struct abi_dma *dma)
{
    const struct dma_buffer buffer = { .p = p, .va = dma->va, .bytes = dma->bytes };
    struct dma_mapping *m;
    int err = dma_map(device, &buffer, dma->rights, DMA_AN_ALIAS, &m);

    return err ? err : finish_map(device, m, dma);
}

static struct dma_mapping *mapping_at(const struct process *p, struct device *device, uint64_t iova)
{
    struct dma_mapping *m = device->mappings;

    while (m && (m->iova != iova || m->owner != p->pub.pid || m->permanent || m->held))
        m = m->next;
    return m;
}

/* Two mappings of one process that are one, seen twice. */
static bool doubles(const struct dma_mapping *a, const struct dma_mapping *b)
{
    return (a->is_alias || b->is_alias) && a->owner == b->owner && !b->held && !b->permanent &&
           a->va < b->va + b->bytes && b->va < a->va + a->bytes;
}

static int64_t unmap(struct process *p, struct device *device, struct abi_dma *dma)
{
    struct dma_mapping *m = mapping_at(p, device, dma->iova), *other, *next;

    if (!m)
        return -ABI_ENOENT;
    for (other = device->mappings; other && !(device->flags & ABI_DEVICE_ALIASES_STAY);
         other = next) {
        next = other->next;
        if (other != m && doubles(m, other))
            dma_unmap(other, other->bytes);
    }
    dma_unmap(m, m->bytes);
    return dma_commit();
}

static int64_t flush(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    (void)dma;
    dma_flush(device);
    return 0;
}

static int64_t attach(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    (void)dma;
    return device_attach(device);
}

static int64_t detach(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    (void)dma;
    dma_detach(device);
    return 0;
}

static int64_t reset(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    (void)dma;
    device_reset(device, -ABI_EIO);
    return 0;
}

static int64_t transfer(struct process *p, struct device *device, struct abi_dma *dma)
{
    if (device->kind != ABI_DEVICE_PROBE)
        return -ABI_EINVAL;
    return probe_transfer(device, p, dma->iova, dma->bytes, dma->rights, &dma->value);
}

static bool is_register(const struct abi_dma *dma)
{
    return (dma->bytes == 1 || dma->bytes == 2 || dma->bytes == 4 || dma->bytes == 8) &&
           dma->iova <= ABI_MMIO_BYTES - dma->bytes;
}

static int64_t register_write(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    if (!is_register(dma))
        return -ABI_EINVAL;
    device_write(device, (uint32_t)dma->iova, (unsigned)dma->bytes, dma->value);
    return 0;
}

static int64_t register_read(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    if (!is_register(dma))
        return -ABI_EINVAL;
    dma->value = device_read(device, (uint32_t)dma->iova, (unsigned)dma->bytes);
    return 0;
}

static int64_t state(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    dma->value = device->nmappings;
    dma->bytes = device->errors + device->protocol_errors;
    return 0;
}

static int64_t raw(int status, struct abi_dma *dma)
{
    if (status < 0)
        return status;
    dma->value = (uint64_t)status;
    return 0;
}

static uint64_t last_of(const struct abi_dma *dma)
{
    return dma->bytes ? dma->iova + dma->bytes - 1 : dma->last;
}

static int64_t raw_map(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    return raw(
        viommu_map_now(device->domain_number, dma->iova, last_of(dma), dma->gpa, dma->rights), dma);
}

static int64_t raw_unmap(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    return raw(viommu_unmap_now(device->domain_number, dma->iova, dma->last), dma);
}

static int64_t raw_attach(struct process *p, struct device *device, struct abi_dma *dma)
{
    (void)p;
    return raw(viommu_attach_now((uint32_t)dma->value, device->endpoint, false), dma);
}

/* ---- Of no device --------------------------------------------------------- */

static int64_t fault(struct abi_dma *dma)
{
    struct viommu_fault f;

    if (!viommu_next_fault(&f))
        return -ABI_ENOENT;
    dma->endpoint = f.endpoint;
    dma->rights = f.rights;
    dma->iova = f.address;
    dma->value = f.reason;
    return 0;
}

static int64_t region(struct process *p, struct abi_dma *dma)
{
    const struct abi_policy_region *r;
    uint64_t frame;
    int64_t va;

    if (dma->device >= boot_info.policy.nregions)
        return -ABI_ENOENT;
    r = &boot_info.policy.region[dma->device];
    frame = region_frame(dma->device);
    dma->kind = r->kind;
    memcpy(dma->name, r->name, sizeof(dma->name));
    dma->gpa = frame << PAGE_SHIFT;
    dma->iova = region_iova(dma->device);
    dma->bytes = r->bytes;
    dma->va = 0;
    if (!frame)
        return r->kind == ABI_REGION_RESERVED_IOVA ? 0 : -ABI_ENOMEM;
    va = space_map_region(p, frame, region_pages(dma->device));
    if (va < 0)
        return va;
    dma->va = (uint64_t)va;
    return 0;
}

static int64_t where(struct process *p, struct abi_dma *dma)
{
    const char *at = space_reach(p, dma->va, false);

    if (!at)
        return -ABI_EFAULT;
    dma->gpa = (uint64_t)at - DIRECT_MAP;
    return 0;
}

typedef int64_t operation(struct process *p, struct device *device, struct abi_dma *dma);

static operation *const operations[] = {
    [ABI_DMA_DEVICE] = describe,
    [ABI_DMA_MAP] = map,
    [ABI_DMA_ALIAS] = alias,
    [ABI_DMA_UNMAP] = unmap,
    [ABI_DMA_FLUSH] = flush,
    [ABI_DMA_ATTACH] = attach,
    [ABI_DMA_DETACH] = detach,
    [ABI_DMA_RESET] = reset,
    [ABI_DMA_TRANSFER] = transfer,
    [ABI_DMA_REGISTER_WRITE] = register_write,
    [ABI_DMA_REGISTER_READ] = register_read,
    [ABI_DMA_STATE] = state,
    [ABI_DMA_RAW_MAP] = raw_map,
    [ABI_DMA_RAW_UNMAP] = raw_unmap,
    [ABI_DMA_RAW_ATTACH] = raw_attach,
};

int64_t dma_call(struct process *p, uint32_t op, uint64_t va)
{
    struct abi_dma dma;
    struct device *device;
    int64_t result;

    if (space_read(p, &dma, va, sizeof(dma)))
        return -ABI_EFAULT;
    device = device_at(dma.device);
    if (op == ABI_DMA_FAULT)
        result = fault(&dma);
    else if (op == ABI_DMA_REGION)
        result = region(p, &dma);
    else if (op == ABI_DMA_WHERE)
        result = where(p, &dma);
    else if (op >= sizeof(operations) / sizeof(operations[0]) || !operations[op])
        result = -ABI_EINVAL;
    else if (!device)
        result = -ABI_ENOENT;
    else
        result = operations[op](p, device, &dma);
    /* A wait starts the call again, with what the program wrote. */
    if (result != PROCESS_WAITS && space_write(p, va, &dma, sizeof(dma)))
        return -ABI_EFAULT;
    return result;
}
