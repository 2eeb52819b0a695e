#include "vmm/dma/policy/nodes.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/dma/policy/properties.h"

#define DOMAINS_MAX     (1u << 16)
#define MAPPINGS_MAX    (1u << 24)
#define FAULTS_MAX      2048 /* fewer than a flood has, which must overflow them */
#define PAGE_BYTES      4096u
#define RANGE_CELLS_MAX 2
#define VECTOR_MIN      32 /* below are the CPU's exceptions */
#define TIMEOUT_MS_MAX  60000

/* ---- The IOMMU ------------------------------------------------------------------------ */

static const char *const iommu_kinds_text[] = { "virtio,device17", "virtio,mmio", "virtio,iommu",
                                                "virtio,pci-iommu" };
static const struct policy_words iommu_kinds = POLICY_WORDS(iommu_kinds_text);

static const char *const iommu_lacks_text[] = {
    "requester-check", "translated-check", "wrap-check",  "quota",
    "pinning",         "msi-filter",       "peer-filter", "permission",
};
static const uint32_t iommu_lacks_bits[] = {
    IOMMU_CHECK_REQUESTER, IOMMU_CHECK_TRANSLATED, IOMMU_CHECK_WRAP, IOMMU_CHECK_QUOTA,
    IOMMU_CHECK_PIN,       IOMMU_CHECK_MSI,        IOMMU_CHECK_PEER, IOMMU_CHECK_PERMISSION,
};
static const struct policy_words iommu_lacks = POLICY_FLAGS(iommu_lacks_text, iommu_lacks_bits);

static int node_read_quotas(struct policy_reader *reader, int node, struct iommu_config *config)
{
    uint32_t total = 0, of_domain = 0;

    if (policy_u32(reader, node, "strata,max-domains", (struct policy_range){ 1, DOMAINS_MAX },
                   &config->domains_max) < 0 ||
        policy_u32(reader, node, "strata,max-mappings", (struct policy_range){ 1, MAPPINGS_MAX },
                   &total) < 0 ||
        policy_u32(reader, node, "strata,max-mappings-per-domain",
                   (struct policy_range){ 1, MAPPINGS_MAX }, &of_domain) < 0 ||
        policy_u32(reader, node, "strata,fault-records", (struct policy_range){ 1, FAULTS_MAX },
                   &config->faults_max) < 0)
        return -EINVAL;
    config->mappings_max = total;
    config->mappings_of_domain_max = of_domain;
    if (of_domain && config->disabled_checks & IOMMU_CHECK_QUOTA)
        return policy_complain(
            reader, node, "strata,max-mappings-per-domain",
            "is a quota, and strata,lacks says \"quota\"; leave one of them out");
    return 0;
}

int policy_read_iommu(struct policy_reader *reader)
{
    bool on = reader->iommu != POLICY_NO_NODE;
    int node = on ? reader->iommu : reader->disabled_iommu;
    struct iommu_config config = { 0 };
    uint32_t cells;
    int bytes;

    if (node == POLICY_NO_NODE)
        return 0;
    if (!policy_compatible(reader->fdt, node, &iommu_kinds))
        return policy_complain(reader, node, "compatible",
                               "is not that of an IOMMU of strata; write \"virtio,device17\"");
    if (policy_u32(reader, node, "#iommu-cells", (struct policy_range){ 1, 1 }, &cells) < 0 ||
        policy_flags(reader, node, "strata,lacks", &iommu_lacks, &config.disabled_checks) < 0 ||
        node_read_quotas(reader, node, &config))
        return -EINVAL;
    if (fdt_getprop(reader->fdt, node, "strata,boot-bypass", &bytes)) {
        if (bytes)
            return policy_complain(reader, node, "strata,boot-bypass",
                                   "takes no value; it is there or it is not");
        config.boot_bypass = true;
    }
    reader->policy->iommu = on;
    if (on)
        reader->policy->iommu_config = config;
    return 0;
}

/* ---- Regions -------------------------------------------------------------------------- */

/* Cells of an address and of a size where a node's parent is `bus`: 1 or 2 each. */
static int node_bus_cells(const struct policy_reader *reader, int bus, int *address, int *size)
{
    *address = fdt_address_cells(reader->fdt, bus);
    *size = fdt_size_cells(reader->fdt, bus);
    if (*address < 1 || *address > RANGE_CELLS_MAX)
        return policy_complain(reader, bus, "#address-cells", "%d cells cannot be; give 1 or 2",
                               *address);
    if (*size < 1 || *size > RANGE_CELLS_MAX)
        return policy_complain(reader, bus, "#size-cells", "%d cells cannot be; give 1 or 2",
                               *size);
    return 0;
}

static int node_check_bytes(const struct policy_reader *reader, int node, const char *property,
                            uint64_t bytes)
{
    if (!bytes || bytes % PAGE_BYTES)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " bytes are not whole pages; give a multiple of 0x%x",
                               bytes, PAGE_BYTES);
    if (bytes > POLICY_REGIONS_BYTES_MAX)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " bytes are more than the guest has; give at most 0x%x",
                               bytes, POLICY_REGIONS_BYTES_MAX);
    return 0;
}

static int node_read_reg(const struct policy_reader *reader, int node, int address, int size,
                         struct abi_policy_region *region)
{
    const fdt32_t *cells;
    int count, found = policy_cells(reader, node, "reg", &cells, &count);

    if (found <= 0)
        return found;
    if (count != address + size)
        return policy_complain(reader, node, "reg",
                               "holds %d cells; give one address of %d and one size of %d, as "
                               "/reserved-memory has them",
                               count, address, size);
    region->gpa = policy_number(cells, address);
    region->bytes = policy_number(cells + address, size);
    if (node_check_bytes(reader, node, "reg", region->bytes))
        return -EINVAL;
    if (region->gpa % PAGE_BYTES)
        return policy_complain(reader, node, "reg",
                               "0x%" PRIx64 " does not start a page; give a multiple of 0x%x",
                               region->gpa, PAGE_BYTES);
    if (region->gpa < POLICY_KERNEL_END)
        return policy_complain(reader, node, "reg",
                               "0x%" PRIx64 " is the guest kernel's; give 0x%llx or higher",
                               region->gpa, POLICY_KERNEL_END);
    if (region->gpa >= POLICY_MEMORY_BYTES || region->bytes > POLICY_MEMORY_BYTES - region->gpa)
        return policy_complain(reader, node, "reg", "ends outside memory; stay below 0x%llx",
                               POLICY_MEMORY_BYTES);
    return 1;
}

static int node_read_size(const struct policy_reader *reader, int node, int size,
                          struct abi_policy_region *region)
{
    const fdt32_t *cells;
    int count, found = policy_cells(reader, node, "size", &cells, &count);

    if (found <= 0)
        return found;
    if (count != size)
        return policy_complain(reader, node, "size",
                               "holds %d cells; give %d, as /reserved-memory has", count, size);
    region->bytes = policy_number(cells, count);
    return node_check_bytes(reader, node, "size", region->bytes) ? -EINVAL : 1;
}

/*
 * As Linux does it: the nearest #address-cells above the device, whatever else its bus
 * says, since a device's addresses need not be those of its registers.
 */
static int node_cells_above(const struct policy_reader *reader, int node, const char *property,
                            int otherwise)
{
    for (int above = fdt_parent_offset(reader->fdt, node); above >= 0;
         above = fdt_parent_offset(reader->fdt, above)) {
        int bytes;
        const fdt32_t *cell = fdt_getprop(reader->fdt, above, property, &bytes);

        if (cell && bytes == (int)sizeof(*cell))
            return (int)fdt32_ld(cell);
    }
    return otherwise;
}

static int node_device_of(const struct policy_reader *reader, uint32_t phandle)
{
    int node = fdt_node_offset_by_phandle(reader->fdt, phandle);

    for (unsigned i = 0; node >= 0 && i < reader->policy->guest.ndevices; i++) {
        if (reader->device[i] == node)
            return (int)i;
    }
    return -1;
}

/* Whether the region can be at these addresses for one more device: 0 or -EINVAL. */
static int node_check_device_address(const struct policy_reader *reader, int node,
                                     const struct abi_policy_region *region, uint64_t iova,
                                     uint64_t bytes)
{
    const char *property = "iommu-addresses";

    if (bytes && iova + (bytes - 1) < iova)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " and 0x%" PRIx64
                               " bytes end beyond 2^64; give a lower address",
                               iova, bytes);
    if (region->gpa && !iova)
        return policy_complain(reader, node, property,
                               "address 0 is never mapped for a device; give another one");
    if (iova % PAGE_BYTES || !bytes || bytes % PAGE_BYTES)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " and 0x%" PRIx64
                               " bytes are not whole pages; give multiples of 0x%x",
                               iova, bytes, PAGE_BYTES);
    if (region->gpa && bytes != region->bytes)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " bytes, but reg has 0x%" PRIx64 "; make them equal",
                               bytes, region->bytes);
    if (region->endpoints && (iova != region->iova || bytes != region->bytes))
        return policy_complain(reader, node, property,
                               "differs between devices; give each address a node of its own");
    return 0;
}

/* One <device address size>: how many cells it took, or -EINVAL. */
static int node_read_device_address(const struct policy_reader *reader, int node,
                                    const fdt32_t *cells, int count,
                                    struct abi_policy_region *region)
{
    int target = fdt_node_offset_by_phandle(reader->fdt, fdt32_ld(cells));
    int device = node_device_of(reader, fdt32_ld(cells));
    const char *property = "iommu-addresses";
    uint64_t iova, bytes;
    int address, size;

    if (target < 0 || (device < 0 && !policy_disabled(reader->fdt, target)))
        return policy_complain(reader, node, property,
                               "0x%x is no device of this policy; write <&DEVICE ADDRESS SIZE>",
                               fdt32_ld(cells));
    address = node_cells_above(reader, target, "#address-cells", 2);
    size = node_cells_above(reader, target, "#size-cells", 1);
    if (address < 1 || address > RANGE_CELLS_MAX || size < 1 || size > RANGE_CELLS_MAX)
        return policy_complain(reader, target, NULL,
                               "#address-cells and #size-cells above it must be 1 or 2");
    if (count < 1 + address + size)
        return policy_complain(reader, node, property,
                               "is too short; after the device give %d cells of address and %d of "
                               "size, as the device's bus has them",
                               address, size);
    iova = policy_number(cells + 1, address);
    bytes = policy_number(cells + 1 + address, size);
    if (device < 0)
        return 1 + address + size;
    if (node_check_device_address(reader, node, region, iova, bytes))
        return -EINVAL;
    region->iova = iova;
    region->bytes = bytes;
    region->endpoints |= 1ull << device;
    return 1 + address + size;
}

/* 1 if the region has addresses for a device, 0 if not, or -EINVAL. */
static int node_read_addresses(const struct policy_reader *reader, int node,
                               struct abi_policy_region *region)
{
    const fdt32_t *cells;
    int count, found = policy_cells(reader, node, "iommu-addresses", &cells, &count);

    for (int at = 0; found > 0 && at < count;) {
        int took = node_read_device_address(reader, node, cells + at, count - at, region);

        if (took < 0)
            return took;
        at += took;
    }
    return found;
}

static int node_read_region(const struct policy_reader *reader, int node, int address, int size,
                            struct abi_policy_region *region)
{
    bool pool = fdt_stringlist_search(reader->fdt, node, "compatible", "restricted-dma-pool") >= 0;
    int reg, dynamic, addresses;

    memset(region, 0, sizeof(*region));
    if (policy_node_name(reader, node, region->name))
        return -EINVAL;
    reg = node_read_reg(reader, node, address, size, region);
    if (reg < 0)
        return reg;
    dynamic = node_read_size(reader, node, size, region);
    if (dynamic < 0)
        return dynamic;
    if (reg && dynamic)
        return policy_complain(reader, node, "size",
                               "says again what reg says; leave one of them out");
    if (fdt_getprop(reader->fdt, node, "alloc-ranges", NULL) ||
        fdt_getprop(reader->fdt, node, "alignment", NULL))
        return policy_complain(reader, node, NULL,
                               "alloc-ranges and alignment are not known here; place it with reg");
    addresses = node_read_addresses(reader, node, region);
    if (addresses < 0)
        return addresses;
    if (addresses && dynamic)
        return policy_complain(reader, node, "iommu-addresses",
                               "needs memory at a known place; give reg, or leave size out for "
                               "addresses that the device must not use");
    if (!reg && !dynamic && !addresses)
        return policy_complain(reader, node, NULL,
                               "has neither reg nor size nor iommu-addresses; "
                               "give one of them");
    if (pool && addresses)
        return policy_complain(reader, node, "iommu-addresses",
                               "a restricted-dma-pool has none; leave it out");
    region->kind = pool         ? ABI_REGION_POOL
                   : !addresses ? ABI_REGION_BUFFER
                   : reg        ? ABI_REGION_IDENTITY
                                : ABI_REGION_RESERVED_IOVA;
    return 0;
}

int policy_read_regions(struct policy_reader *reader)
{
    struct abi_policy *guest = &reader->policy->guest;
    int node, address, size;

    if (reader->reserved == POLICY_NO_NODE)
        return 0;
    if (node_bus_cells(reader, reader->reserved, &address, &size))
        return -EINVAL;
    fdt_for_each_subnode(node, reader->fdt, reader->reserved)
    {
        if (policy_disabled(reader->fdt, node))
            continue;
        if (guest->nregions == ABI_POLICY_REGIONS_MAX)
            return policy_complain(reader, node, NULL, "is one region too many; use at most %d",
                                   ABI_POLICY_REGIONS_MAX);
        if (node_read_region(reader, node, address, size, &guest->region[guest->nregions]))
            return -EINVAL;
        for (unsigned i = 0; i < guest->nregions; i++) {
            if (!strcmp(guest->region[i].name, guest->region[guest->nregions].name))
                return policy_complain(reader, node, NULL,
                                       "there are two of this name; rename one");
        }
        reader->region[guest->nregions++] = node;
    }
    return 0;
}

int policy_region_of(const struct policy_reader *reader, uint32_t phandle)
{
    int node = fdt_node_offset_by_phandle(reader->fdt, phandle);

    for (unsigned i = 0; node >= 0 && i < reader->policy->guest.nregions; i++) {
        if (reader->region[i] == node)
            return (int)i;
    }
    return -1;
}

/* ---- Devices -------------------------------------------------------------------------- */

static const char *const mode_text[] = { "DMA", "DMA-FQ", "identity" };
static const struct policy_words mode_words = POLICY_WORDS(mode_text);
static const uint32_t modes[] = { ABI_DMA_STRICT, ABI_DMA_LAZY, ABI_DMA_IDENTITY };
static const char *const buffers_text[] = {
    [ABI_DMA_IN_PLACE] = "in-place",
    [ABI_DMA_EXCLUSIVE] = "exclusive",
    [ABI_DMA_BOUNCE] = "bounce",
};
static const struct policy_words buffers_words = POLICY_WORDS(buffers_text);
static const char *const action_text[] = {
    [ABI_FAULT_REPORT] = "report",
    [ABI_FAULT_DETACH] = "detach",
    [ABI_FAULT_RESET] = "reset",
};
static const struct policy_words action_words = POLICY_WORDS(action_text);
static const char *const permission_text[] = { "r", "w", "rw" };
static const struct policy_words permission_words = POLICY_WORDS(permission_text);
static const uint32_t permissions[] = { IOMMU_READ, IOMMU_WRITE, IOMMU_READ | IOMMU_WRITE };

static const char *const device_lacks_text[] = {
    "checks",           "alias-tracking", "pinning", "attach-before-use", "private-bounce-metadata",
    "descriptor-checks"
};
static const uint32_t device_lacks_bits[] = { ABI_DEVICE_TRUSTING,    ABI_DEVICE_ALIASES_STAY,
                                              ABI_DEVICE_NO_PIN,      ABI_DEVICE_EARLY,
                                              ABI_DEVICE_BOUNCE_META, ABI_DEVICE_NAIVE_QUEUE };
static const struct policy_words device_lacks = POLICY_FLAGS(device_lacks_text, device_lacks_bits);

/* Whether a phandle is the IOMMU, or one that is switched off. */
static int node_check_iommu(const struct policy_reader *reader, int node, const char *property,
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

static int node_read_iommus(struct policy_reader *reader, unsigned n)
{
    int count, found, node = reader->device[n];
    const fdt32_t *cells;

    found = policy_cells(reader, node, "iommus", &cells, &count);
    if (found <= 0)
        return found;
    if (count != 2)
        return policy_complain(reader, node, "iommus", "holds %d cells; write one <&IOMMU ID>",
                               count);
    if (node_check_iommu(reader, node, "iommus", fdt32_ld(cells)))
        return -EINVAL;
    reader->policy->guest.device[n].endpoint = fdt32_ld(cells + 1);
    reader->has_endpoint[n] = true;
    return 1;
}

/* What iommu-map goes by: for PCI bus, device and function, else the address (reg). */
static int node_requester_id(const struct policy_reader *reader, int bus, int node, uint32_t *id)
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
static int node_read_iommu_map(struct policy_reader *reader, unsigned n)
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
    if (node_requester_id(reader, bus, node, &id) ||
        policy_u32(reader, bus, "iommu-map-mask", (struct policy_range){ 0, ~0u }, &mask) < 0)
        return -EINVAL;
    id &= mask;
    for (int at = 0; at < count; at += 4) {
        uint32_t first = fdt32_ld(cells + at), length = fdt32_ld(cells + at + 3);

        if (node_check_iommu(reader, bus, "iommu-map", fdt32_ld(cells + at + 1)))
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

static int node_read_endpoint(struct policy_reader *reader, unsigned n)
{
    int found = node_read_iommus(reader, n);

    if (!found)
        found = node_read_iommu_map(reader, n);
    if (found < 0)
        return found;
    /* HARNESS_NOBODY: an address that belongs to no endpoint. */
    if (found && reader->policy->guest.device[n].endpoint == ~0u)
        return policy_complain(reader, reader->device[n], "iommus",
                               "endpoint 0xffffffff cannot be told from none; give a lower id");
    if (!found && reader->policy->iommu)
        return policy_complain(reader, reader->device[n], NULL,
                               "has no iommus and its bus no iommu-map; add iommus = <&IOMMU ID> "
                               "(strata,mode = \"identity\" for a device that is not translated)");
    return 0;
}

static int node_read_mode(struct policy_reader *reader, unsigned n)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    int node = reader->device[n];
    uint32_t word = 0;
    int found = policy_word(reader, node, "strata,mode", &mode_words, &word);

    if (found < 0)
        return found;
    if (found && !reader->policy->iommu)
        return policy_complain(
            reader, node, "strata,mode",
            "\"%s\" needs an IOMMU and there is none%s; add one, or leave it out", mode_text[word],
            reader->disabled_iommu != POLICY_NO_NODE ? " that is enabled" : "");
    device->mode = reader->policy->iommu ? modes[word] : ABI_DMA_OFF;
    return 0;
}

static int node_add_use(struct policy_reader *reader, unsigned n, int region, uint32_t rights)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    int node = reader->device[n];

    switch (reader->policy->guest.region[region].kind) {
    case ABI_REGION_RESERVED_IOVA:
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
    case ABI_REGION_IDENTITY:
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

static int node_read_uses(struct policy_reader *reader, unsigned n)
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
            int word = policy_word_at(reader, node, "strata,permission", i, &permission_words);

            if (word < 0)
                return word;
            rights = permissions[word];
        }
        if (node_add_use(reader, n, region, rights))
            return -EINVAL;
    }
    return 0;
}

static int node_read_buffers(struct policy_reader *reader, unsigned n)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    bool pool = device->pool != ~0u;
    int found = policy_word(reader, reader->device[n], "strata,buffers", &buffers_words,
                            &device->buffers);

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
                               buffers_text[device->buffers]);
    return 0;
}

static int node_read_vectors(struct policy_reader *reader, unsigned n)
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

static int node_read_driver(struct policy_reader *reader, unsigned n)
{
    struct abi_policy_device *device = &reader->policy->guest.device[n];
    int found, node = reader->device[n];

    if (policy_word(reader, node, "strata,fault-action", &action_words, &device->fault_action) <
            0 ||
        policy_u32(reader, node, "strata,completion-timeout-ms",
                   (struct policy_range){ 0, TIMEOUT_MS_MAX }, &device->timeout_ms) < 0 ||
        policy_flags(reader, node, "strata,driver-lacks", &device_lacks, &device->flags) < 0)
        return -EINVAL;
    if (device->flags & ABI_DEVICE_BOUNCE_META && device->buffers != ABI_DMA_BOUNCE)
        return policy_complain(reader, node, "strata,driver-lacks",
                               "\"private-bounce-metadata\" needs a bounce pool; name one in "
                               "memory-region");
    if (device->flags & ABI_DEVICE_NAIVE_QUEUE && device->kind != ABI_DEVICE_BLK)
        return policy_complain(reader, node, "strata,driver-lacks",
                               "\"descriptor-checks\" is for a device with queues; leave it out");
    found = policy_u32(reader, node, "strata,domain", (struct policy_range){ 0, ~0u },
                       &device->domain);
    reader->has_domain[n] = found > 0;
    return found < 0 ? found : 0;
}

int policy_read_device(struct policy_reader *reader, unsigned n)
{
    int err = node_read_endpoint(reader, n);

    if (!err)
        err = node_read_mode(reader, n);
    if (!err)
        err = node_read_uses(reader, n);
    if (!err)
        err = node_read_buffers(reader, n);
    if (!err)
        err = node_read_vectors(reader, n);
    if (!err)
        err = node_read_driver(reader, n);
    return err;
}
