/*
 * libFuzzer: a policy as a blob that may be anything. Whatever is accepted must keep the
 * promises that the guest and the test harness build on; whatever is not must say why.
 */
#include <stdlib.h>
#include <string.h>

#include "guest/abi/machine.h"
#include "vmm/dma/policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void check_device(const struct policy *policy, unsigned n)
{
    const struct abi_policy *guest = &policy->guest;
    const struct abi_policy_device *device = &guest->device[n];

    check(device->name[0] && !device->name[ABI_POLICY_NAME_BYTES - 1]);
    check(device->kind == ABI_DEVICE_PROBE || device->kind == ABI_DEVICE_BLK);
    check(device->buffers <= ABI_DMA_BOUNCE && device->fault_action <= ABI_FAULT_RESET);
    check(policy->iommu ? device->mode > ABI_DMA_OFF && device->mode <= ABI_DMA_LAZY
                        : device->mode == ABI_DMA_OFF);
    check((device->buffers == ABI_DMA_BOUNCE) == (device->pool != ~0u));
    check(device->pool == ~0u ||
          (device->pool < guest->nregions && guest->region[device->pool].kind == ABI_REGION_POOL));
    check(device->nuses <= ABI_POLICY_USES_MAX);
    for (unsigned i = 0; i < device->nuses; i++) {
        check(device->use[i].region < guest->nregions);
        check(device->use[i].rights >= 1 && device->use[i].rights <= 3);
    }
    for (unsigned i = 0; i < n; i++)
        check(guest->device[i].endpoint != device->endpoint &&
              strcmp(guest->device[i].name, device->name));
}

static void check_region(const struct abi_policy *guest, unsigned n)
{
    const struct abi_policy_region *region = &guest->region[n];

    check(region->name[0] && !region->name[ABI_POLICY_NAME_BYTES - 1]);
    check(region->kind <= ABI_REGION_RESERVED_IOVA);
    check(region->bytes && region->bytes % 4096 == 0);
    check(region->endpoints >> guest->ndevices == 0);
    if (region->kind == ABI_REGION_RESERVED_IOVA) {
        check(region->endpoints && !region->gpa);
        return;
    }
    check(region->bytes <= POLICY_REGIONS_BYTES_MAX);
    check(!region->gpa ||
          (region->gpa >= POLICY_KERNEL_END && region->gpa + region->bytes <= POLICY_MEMORY_BYTES));
    check(region->kind != ABI_REGION_IDENTITY || region->gpa);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct policy policy;
    struct policy_error error;
    int err = policy_parse(&policy, data, size, "fuzz", &error);

    check(err <= 0 && (err < 0) == (error.text[0] != 0));
    check(!memchr(error.text, '\n', strlen(error.text)));
    if (err)
        return 0;
    check(policy.guest.ndevices >= 1 && policy.guest.ndevices <= ABI_POLICY_DEVICES_MAX);
    check(policy.guest.nregions <= ABI_POLICY_REGIONS_MAX);
    check(policy.guest.ndevices + policy.iommu <= ABI_MMIO_DEVICES_MAX);
    for (unsigned i = 0; i < policy.guest.ndevices; i++)
        check_device(&policy, i);
    for (unsigned i = 0; i < policy.guest.nregions; i++)
        check_region(&policy.guest, i);
    return 0;
}
