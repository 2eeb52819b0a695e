#include "vmm/dma/policy/check.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/dma/policy/properties.h"
#include "vmm/dma/rules.h"

static bool check_overlap(uint64_t a, uint64_t abytes, uint64_t b, uint64_t bbytes)
{
    return a <= b + (bbytes - 1) && b <= a + (abytes - 1);
}

static int check_pair(const struct policy_reader *reader, unsigned i, unsigned j)
{
    const struct abi_policy_device *a = &reader->policy->guest.device[i];
    const struct abi_policy_device *b = &reader->policy->guest.device[j];
    int node = reader->device[j];

    if (a->endpoint == b->endpoint)
        return policy_complain(reader, node, "iommus",
                               "endpoint %u is that of %s too; give each device its own",
                               b->endpoint, a->name);
    if (reader->policy->iommu && a->domain == b->domain && a->mode != b->mode)
        return policy_complain(
            reader, node, "strata,domain",
            "%u is shared with %s, which has another strata,mode; make the modes "
            "equal",
            b->domain, a->name);
    if (a->pool != ~0u && a->pool == b->pool && (a->flags ^ b->flags) & ABI_DEVICE_BOUNCE_META)
        return policy_complain(reader, node, "memory-region",
                               "names the pool of %s, and only one of the drivers lacks "
                               "\"private-bounce-metadata\"; make them equal, or give each a pool",
                               a->name);
    return 0;
}

/* The devices that share an address space with one of these, themselves included. */
static uint64_t check_add_domains(const struct abi_policy *guest, uint64_t devices)
{
    uint64_t all = devices;

    for (unsigned i = 0; i < guest->ndevices; i++) {
        for (unsigned j = 0; j < guest->ndevices; j++) {
            if ((devices >> i & 1) && guest->device[i].domain == guest->device[j].domain)
                all |= 1ull << j;
        }
    }
    return all;
}

/* The addresses that a device may not choose freely. */
static int check_addresses(const struct policy_reader *reader, unsigned n)
{
    const struct abi_policy *guest = &reader->policy->guest;
    const struct abi_policy_region *region = &guest->region[n];
    int node = reader->region[n];

    if (region->kind == ABI_REGION_IDENTITY &&
        check_overlap(region->iova, region->bytes, IOMMU_MSI_FIRST,
                      IOMMU_MSI_LAST - IOMMU_MSI_FIRST + 1))
        return policy_complain(reader, node, "iommu-addresses",
                               "0x%" PRIx64 " lies in the interrupt window; give another address",
                               region->iova);
    if (region->kind == ABI_REGION_IDENTITY && region->iova + (region->bytes - 1) >= 1ull << 48)
        return policy_complain(reader, node, "iommu-addresses",
                               "0x%" PRIx64 " is beyond 48 bits; give a lower address",
                               region->iova);
    if (check_overlap(region->iova, region->bytes, POLICY_ATTACKED_FIRST,
                      POLICY_ATTACKED_LAST - POLICY_ATTACKED_FIRST + 1))
        return policy_complain(reader, node, "iommu-addresses",
                               "the attacks need 0x%llx to 0x%llx for themselves; leave these out",
                               POLICY_ATTACKED_FIRST, POLICY_ATTACKED_LAST);
    if (region->bytes >= POLICY_DRIVERS_BYTES &&
        check_overlap(region->iova, region->bytes, POLICY_DRIVERS_FIRST,
                      ABI_POLICY_DEVICES_MAX * POLICY_DRIVERS_BYTES))
        return policy_complain(reader, node, "iommu-addresses",
                               "leaves drivers no addresses, which are from 0x%llx on; leave out "
                               "less than 0x%llx bytes there",
                               POLICY_DRIVERS_FIRST, POLICY_DRIVERS_BYTES);
    for (unsigned i = 0; i < guest->ndevices; i++) {
        if (!(region->endpoints >> i & 1) || region->kind != ABI_REGION_IDENTITY)
            continue;
        if (guest->device[i].mode == ABI_DMA_IDENTITY)
            return policy_complain(
                reader, node, "iommu-addresses",
                "%s is not translated (\"identity\"), so nothing can be mapped for "
                "it; leave it out",
                guest->device[i].name);
    }
    for (unsigned i = 0; i < n; i++) {
        const struct abi_policy_region *other = &guest->region[i];

        uint64_t devices = region->endpoints;

        /* What is mapped for one device is mapped for all of its domain. */
        if (region->kind == ABI_REGION_IDENTITY || other->kind == ABI_REGION_IDENTITY)
            devices = check_add_domains(guest, devices);
        if (other->endpoints & devices &&
            check_overlap(other->iova, other->bytes, region->iova, region->bytes))
            return policy_complain(reader, node, "iommu-addresses",
                                   "overlaps that of %s for the same device, or one that shares "
                                   "its domain; move one",
                                   other->name);
    }
    return 0;
}

static int check_memory(const struct policy_reader *reader)
{
    const struct abi_policy *guest = &reader->policy->guest;
    uint64_t bytes = 0;

    for (unsigned i = 0; i < guest->nregions; i++) {
        const struct abi_policy_region *a = &guest->region[i];

        if (a->kind == ABI_REGION_RESERVED_IOVA)
            continue;
        bytes += a->bytes;
        if (bytes > POLICY_REGIONS_BYTES_MAX)
            return policy_complain(reader, reader->region[i], NULL,
                                   "takes the regions above 0x%x bytes in all; make them smaller",
                                   POLICY_REGIONS_BYTES_MAX);
        for (unsigned j = 0; a->gpa && j < i; j++) {
            const struct abi_policy_region *b = &guest->region[j];

            if (b->gpa && check_overlap(a->gpa, a->bytes, b->gpa, b->bytes))
                return policy_complain(reader, reader->region[i], "reg",
                                       "overlaps %s; move one of them", b->name);
        }
    }
    return 0;
}

static int check_quotas(const struct policy_reader *reader)
{
    const struct iommu_config *config = &reader->policy->iommu_config;
    const struct abi_policy *guest = &reader->policy->guest;
    unsigned domains = rules_domains(reader->policy), needed = 0;
    uint64_t all = config->mappings_max ? config->mappings_max : POLICY_MAPPINGS_MAX;

    for (unsigned i = 0, j; i < guest->ndevices; i++) {
        for (j = 0; guest->device[j].domain != guest->device[i].domain;)
            j++;
        needed += j == i;
    }
    if (config->domains_max && config->domains_max < needed)
        return policy_complain(reader, reader->iommu, "strata,max-domains",
                               "%u, but the devices need %u; give as many", config->domains_max,
                               needed);
    if (config->mappings_of_domain_max * domains > all)
        return policy_complain(reader, reader->iommu, "strata,max-mappings-per-domain",
                               "%" PRIu64 " for each of %u domains are more than all mappings, "
                               "%" PRIu64 "; give at most %" PRIu64 ", or more strata,max-mappings",
                               config->mappings_of_domain_max, domains, all, all / domains);
    return 0;
}

int policy_check(const struct policy_reader *reader)
{
    const struct abi_policy *guest = &reader->policy->guest;

    if (reader->policy->iommu && check_quotas(reader))
        return -EINVAL;

    for (unsigned j = 1; j < guest->ndevices; j++) {
        for (unsigned i = 0; i < j; i++) {
            if (check_pair(reader, i, j))
                return -EINVAL;
        }
    }
    for (unsigned i = 0; i < guest->nregions; i++) {
        if (guest->region[i].endpoints && check_addresses(reader, i))
            return -EINVAL;
    }
    return check_memory(reader);
}
