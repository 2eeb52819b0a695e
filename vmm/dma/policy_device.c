/* What the node of one device says. */
#include <errno.h>
#include <string.h>

#include "vmm/dma/policy_reader.h"

#define VECTOR_MIN     32 /* below are the CPU's exceptions */
#define TIMEOUT_MS_MAX 60000

#define NWORDS(a)      (sizeof(a) / sizeof((a)[0]))

static const char *const mode_words[] = { "DMA", "DMA-FQ", "identity" };
static const uint32_t modes[] = { ABI_DMA_STRICT, ABI_DMA_LAZY, ABI_DMA_IDENTITY };
static const char *const buffers_words[] = {
    [ABI_DMA_IN_PLACE] = "in-place",
    [ABI_DMA_EXCLUSIVE] = "exclusive",
    [ABI_DMA_BOUNCE] = "bounce",
};
static const char *const action_words[] = {
    [ABI_FAULT_REPORT] = "report",
    [ABI_FAULT_DETACH] = "detach",
    [ABI_FAULT_RESET] = "reset",
};
static const char *const permission_words[] = { "r", "w", "rw" };
static const uint32_t permissions[] = { IOMMU_READ, IOMMU_WRITE, IOMMU_READ | IOMMU_WRITE };

static const char *const lacks_words[] = {
    "checks",           "alias-tracking", "pinning", "attach-before-use", "private-bounce-metadata",
    "descriptor-checks"
};
static const uint32_t lacks_bits[] = { ABI_DEVICE_TRUSTING,    ABI_DEVICE_ALIASES_STAY,
                                       ABI_DEVICE_NO_PIN,      ABI_DEVICE_EARLY,
                                       ABI_DEVICE_BOUNCE_META, ABI_DEVICE_NAIVE_QUEUE };

/* Whether a phandle is the IOMMU, or one that is switched off. */
static int check_iommu(const struct policy_reader *reader, int node, const char *property,
                       uint32_t phandle)
{
    int target = fdt_node_offset_by_phandle(reader->fdt, phandle);

    if (target < 0 || (target != reader->iommu && target != reader->disabled_iommu))
        return policy_complain(
            reader, node, property,
            "0x%x is no IOMMU; write <&IOMMU ID>, with a label that an IOMMU has", phandle);
    if (reader->iommu != POLICY_NO_NODE && target != reader->iommu)
        return policy_complain(reader, node, property,
                               "that IOMMU is disabled; name the other one");
    return 0;
}

static int read_iommus(struct policy_reader *reader, unsigned n)
{
    int count, found, node = reader->device[n];
    const fdt32_t *cells;

    found = policy_cells(reader, node, "iommus", &cells, &count);
    if (found <= 0)
        return found;
    if (count != 2)
        return policy_complain(reader, node, "iommus", "holds %d cells; write one <&IOMMU ID>",
                               count);
    if (check_iommu(reader, node, "iommus", fdt32_ld(cells)))
        return -EINVAL;
    reader->policy->guest.device[n].endpoint = fdt32_ld(cells + 1);
    reader->has_endpoint[n] = true;
    return 1;
}

/* What iommu-map goes by: for PCI bus, device and function, else the address (reg). */
static int requester_id(const struct policy_reader *reader, int bus, int node, uint32_t *id)
{
    int count, bytes, found;
    const fdt32_t *cells;
    const char *type = fdt_getprop(reader->fdt, bus, "device_type", &bytes);

    found = policy_cells(reader, node, "reg", &cells, &count);
    if (found < 0)
        return found;
    if (!found)
        return policy_complain(reader, node, "reg", "is missing; iommu-map of its bus goes by it");
    *id = fdt32_ld(cells);
    if (type && bytes == 4 && !memcmp(type, "pci", 4))
        *id = *id >> 8 & 0xffff; /* IEEE 1275 PCI binding, 2.2.1.1 */
    return 0;
}

/* <id IOMMU endpoint length> of the nearest bus that has a map. */
static int read_iommu_map(struct policy_reader *reader, unsigned n)
{
    int bus, count, found = 0, node = reader->device[n];
    uint32_t id = 0, mask = ~0u;
    const fdt32_t *cells;

    for (bus = fdt_parent_offset(reader->fdt, node); bus >= 0;
         bus = fdt_parent_offset(reader->fdt, bus)) {
        found = policy_cells(reader, bus, "iommu-map", &cells, &count);
        if (found)
            break;
    }
    if (found <= 0)
        return found;
    if (count % 4)
        return policy_complain(reader, bus, "iommu-map",
                               "holds %d cells; write <ID &IOMMU ENDPOINT LENGTH>", count);
    if (requester_id(reader, bus, node, &id) ||
        policy_u32(reader, bus, "iommu-map-mask", 0, ~0u, &mask) < 0)
        return -EINVAL;
    id &= mask;
    for (int at = 0; at < count; at += 4) {
        uint32_t first = fdt32_ld(cells + at), length = fdt32_ld(cells + at + 3);

        if (check_iommu(reader, bus, "iommu-map", fdt32_ld(cells + at + 1)))
            return -EINVAL;
        if (id < first || id - first >= length)
            continue;
        reader->policy->guest.device[n].endpoint = fdt32_ld(cells + at + 2) + (id - first);
        reader->has_endpoint[n] = true;
        return 1;
    }
    return policy_complain(reader, bus, "iommu-map",
                           "has no entry for the device with id 0x%x; add one", id);
}

static int read_endpoint(struct policy_reader *reader, unsigned n)
{
    int found = read_iommus(reader, n);

    if (!found)
        found = read_iommu_map(reader, n);
    if (found < 0)
        return found;
    /* The lab means nobody by that. */
    if (found && reader->policy->guest.device[n].endpoint == ~0u)
        return policy_complain(reader, reader->device[n], "iommus",
                               "endpoint 0xffffffff cannot be told from none; give a lower id");
    if (!found && reader->policy->iommu)
        return policy_complain(reader, reader->device[n], NULL,
                               "has no iommus and its bus no iommu-map; add iommus = <&IOMMU ID> "
                               "(strata,mode = \"identity\" for a device that is not translated)");
    return 0;
}

static int read_mode(struct policy_reader *reader, unsigned n)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    int node = reader->device[n];
    uint32_t word = 0;
    int found = policy_word(reader, node, "strata,mode", mode_words, NWORDS(mode_words), &word);

    if (found < 0)
        return found;
    if (found && !reader->policy->iommu)
        return policy_complain(
            reader, node, "strata,mode",
            "\"%s\" needs an IOMMU and there is none%s; add one, or leave it out", mode_words[word],
            reader->disabled_iommu != POLICY_NO_NODE ? " that is enabled" : "");
    device->mode = reader->policy->iommu ? modes[word] : ABI_DMA_OFF;
    return 0;
}

static int add_use(struct policy_reader *reader, unsigned n, int region, uint32_t rights)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    int node = reader->device[n];

    switch (reader->policy->guest.region[region].kind) {
    case ABI_REGION_CARVE:
        return policy_complain(reader, node, "memory-region",
                               "%s has no memory; give it reg or size",
                               reader->policy->guest.region[region].name);
    case ABI_REGION_POOL:
        if (device->pool != ~0u)
            return policy_complain(reader, node, "memory-region",
                                   "names two pools; a device has one");
        if (rights != (IOMMU_READ | IOMMU_WRITE))
            return policy_complain(reader, node, "strata,permission",
                                   "a pool is for both directions; write \"rw\" for it");
        device->pool = (uint32_t)region;
        return 0;
    case ABI_REGION_HOLE:
        if (!(reader->policy->guest.region[region].endpoints >> n & 1))
            return policy_complain(reader, node, "memory-region",
                                   "%s has iommu-addresses, but none for this device; add them "
                                   "there, or leave it out here",
                                   reader->policy->guest.region[region].name);
        if (rights != (IOMMU_READ | IOMMU_WRITE))
            return policy_complain(reader, node, "strata,permission",
                                   "%s is mapped for good and for both directions; write \"rw\" "
                                   "for it",
                                   reader->policy->guest.region[region].name);
        break;
    default: break;
    }
    for (unsigned i = 0; i < device->nuses; i++) {
        if (device->use[i].region == (uint32_t)region)
            return policy_complain(reader, node, "memory-region", "names %s twice; once is enough",
                                   reader->policy->guest.region[region].name);
    }
    if (device->nuses == ABI_POLICY_USES_MAX)
        return policy_complain(reader, node, "memory-region", "names too many; use at most %d",
                               ABI_POLICY_USES_MAX);
    device->use[device->nuses++] = (struct abi_policy_use){ (uint32_t)region, rights };
    return 0;
}

static int read_uses(struct policy_reader *reader, unsigned n)
{
    int count = 0, npermissions = 0, node = reader->device[n];
    const fdt32_t *cells = NULL;
    int named, found = policy_cells(reader, node, "memory-region", &cells, &count);

    if (found < 0)
        return found;
    named = policy_strings(reader, node, "strata,permission", &npermissions);
    if (named < 0)
        return named;
    if (named && npermissions != count)
        return policy_complain(reader, node, "strata,permission",
                               "has %d entries, memory-region %d; give one for each", npermissions,
                               count);
    for (int i = 0; i < count; i++) {
        int region = policy_region_of(reader, fdt32_ld(cells + i));
        uint32_t rights = IOMMU_READ | IOMMU_WRITE;

        if (region < 0)
            return policy_complain(
                reader, node, "memory-region",
                "entry %d is no enabled child of /reserved-memory; write <&REGION>", i + 1);
        if (named) {
            uint32_t word;

            if (policy_word_at(reader, node, "strata,permission", i, permission_words,
                               NWORDS(permission_words), &word))
                return -EINVAL;
            rights = permissions[word];
        }
        if (add_use(reader, n, region, rights))
            return -EINVAL;
    }
    return 0;
}

static int read_buffers(struct policy_reader *reader, unsigned n)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    bool pool = device->pool != ~0u;
    int found = policy_word(reader, reader->device[n], "strata,buffers", buffers_words,
                            NWORDS(buffers_words), &device->buffers);

    if (found < 0)
        return found;
    /* A restricted-dma-pool is what all of a device's transfers go through. */
    if (!found && pool)
        device->buffers = ABI_DMA_BOUNCE;
    if (device->buffers == ABI_DMA_BOUNCE && !pool)
        return policy_complain(reader, reader->device[n], "strata,buffers",
                               "\"bounce\" needs a pool; name a region with compatible = "
                               "\"restricted-dma-pool\" in memory-region");
    if (device->buffers != ABI_DMA_BOUNCE && pool)
        return policy_complain(reader, reader->device[n], "strata,buffers",
                               "\"%s\", but memory-region names a pool; write \"bounce\"",
                               buffers_words[device->buffers]);
    return 0;
}

static int read_vectors(struct policy_reader *reader, unsigned n)
{
    int count = 0, node = reader->device[n];
    const fdt32_t *cells = NULL;
    int found = policy_cells(reader, node, "strata,msi-vectors", &cells, &count);

    for (int i = 0; found > 0 && i < count; i++) {
        uint32_t vector = fdt32_ld(cells + i);

        if (vector < VECTOR_MIN || vector > 255)
            return policy_complain(reader, node, "strata,msi-vectors",
                                   "%u is no vector of a device; give %d to 255", vector,
                                   VECTOR_MIN);
        reader->policy->device[n].vectors[vector / 64] |= 1ull << vector % 64;
    }
    return found < 0 ? found : 0;
}

static int read_driver(struct policy_reader *reader, unsigned n)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    int found, node = reader->device[n];

    if (policy_word(reader, node, "strata,fault-action", action_words, NWORDS(action_words),
                    &device->fault_action) < 0 ||
        policy_u32(reader, node, "strata,completion-timeout-ms", 0, TIMEOUT_MS_MAX,
                   &device->timeout_ms) < 0 ||
        policy_flags(reader, node, "strata,driver-lacks", lacks_words, lacks_bits,
                     NWORDS(lacks_words), &device->flags) < 0)
        return -EINVAL;
    if (device->flags & ABI_DEVICE_BOUNCE_META && device->buffers != ABI_DMA_BOUNCE)
        return policy_complain(reader, node, "strata,driver-lacks",
                               "\"private-bounce-metadata\" needs a bounce pool; name one in "
                               "memory-region");
    if (device->flags & ABI_DEVICE_NAIVE_QUEUE && device->kind != ABI_DEVICE_BLK)
        return policy_complain(reader, node, "strata,driver-lacks",
                               "\"descriptor-checks\" is for a device with queues; leave it out");
    found = policy_u32(reader, node, "strata,domain", 0, ~0u, &device->domain);
    reader->has_domain[n] = found > 0;
    return found < 0 ? found : 0;
}

int policy_read_device(struct policy_reader *reader, unsigned n)
{
    int err = read_endpoint(reader, n);

    if (!err)
        err = read_mode(reader, n);
    if (!err)
        err = read_uses(reader, n);
    if (!err)
        err = read_buffers(reader, n);
    if (!err)
        err = read_vectors(reader, n);
    if (!err)
        err = read_driver(reader, n);
    return err;
}
