#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/dma/policy_reader.h"

#define PAGE_BYTES      4096u
#define RANGE_CELLS_MAX 2

/* Cells of an address and of a size where a node's parent is `bus`: 1 or 2 each. */
static int bus_cells(const struct policy_reader *reader, int bus, int *address, int *size)
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

static int check_bytes(const struct policy_reader *reader, int node, const char *property,
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

static int read_reg(const struct policy_reader *reader, int node, int address, int size,
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
    if (check_bytes(reader, node, "reg", region->bytes))
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

static int read_size(const struct policy_reader *reader, int node, int size,
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
    return check_bytes(reader, node, "size", region->bytes) ? -EINVAL : 1;
}

/*
 * As Linux does it: the nearest #address-cells above the device, whatever else its bus
 * says, since a device's addresses need not be those of its registers.
 */
static int cells_above(const struct policy_reader *reader, int node, const char *property,
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

static int device_of(const struct policy_reader *reader, uint32_t phandle)
{
    int node = fdt_node_offset_by_phandle(reader->fdt, phandle);

    for (unsigned i = 0; node >= 0 && i < reader->policy->guest.ndevices; i++) {
        if (reader->device[i] == node)
            return (int)i;
    }
    return -1;
}

/* One <device address size>: how many cells it took, or -EINVAL. */
static int read_device_address(const struct policy_reader *reader, int node, const fdt32_t *cells,
                               int count, struct abi_policy_region *region, bool memory)
{
    int target = fdt_node_offset_by_phandle(reader->fdt, fdt32_ld(cells));
    int device = device_of(reader, fdt32_ld(cells));
    const char *property = "iommu-addresses";
    uint64_t iova, bytes;
    int address, size;

    if (target < 0 || (device < 0 && !policy_disabled(reader->fdt, target)))
        return policy_complain(reader, node, property,
                               "0x%x is no device of this policy; write <&DEVICE ADDRESS SIZE>",
                               fdt32_ld(cells));
    address = cells_above(reader, target, "#address-cells", 2);
    size = cells_above(reader, target, "#size-cells", 1);
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
    if (bytes && iova + (bytes - 1) < iova)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " and 0x%" PRIx64
                               " bytes end beyond 2^64; give a lower address",
                               iova, bytes);
    if (memory && !iova)
        return policy_complain(reader, node, property,
                               "address 0 is never mapped for a device; give another one");
    if (iova % PAGE_BYTES || !bytes || bytes % PAGE_BYTES)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " and 0x%" PRIx64
                               " bytes are not whole pages; give multiples of 0x%x",
                               iova, bytes, PAGE_BYTES);
    if (memory && bytes != region->bytes)
        return policy_complain(reader, node, property,
                               "0x%" PRIx64 " bytes, but reg has 0x%" PRIx64 "; make them equal",
                               bytes, region->bytes);
    if (region->endpoints && (iova != region->iova || bytes != region->bytes))
        return policy_complain(reader, node, property,
                               "differs between devices; give each address a node of its own");
    region->iova = iova;
    region->bytes = bytes;
    region->endpoints |= 1ull << device;
    return 1 + address + size;
}

/* 1 if the region has addresses for a device, 0 if not, or -EINVAL. */
static int read_addresses(const struct policy_reader *reader, int node,
                          struct abi_policy_region *region, bool memory)
{
    const fdt32_t *cells;
    int count, found = policy_cells(reader, node, "iommu-addresses", &cells, &count);

    for (int at = 0; found > 0 && at < count;) {
        int took = read_device_address(reader, node, cells + at, count - at, region, memory);

        if (took < 0)
            return took;
        at += took;
    }
    return found;
}

static int read_region(const struct policy_reader *reader, int node, int address, int size,
                       struct abi_policy_region *region)
{
    bool pool = fdt_stringlist_search(reader->fdt, node, "compatible", "restricted-dma-pool") >= 0;
    int reg, dynamic, addresses;

    memset(region, 0, sizeof(*region));
    if (policy_node_name(reader, node, region->name))
        return -EINVAL;
    reg = read_reg(reader, node, address, size, region);
    if (reg < 0)
        return reg;
    dynamic = read_size(reader, node, size, region);
    if (dynamic < 0)
        return dynamic;
    if (reg && dynamic)
        return policy_complain(reader, node, "size",
                               "says again what reg says; leave one of them out");
    if (fdt_getprop(reader->fdt, node, "alloc-ranges", NULL) ||
        fdt_getprop(reader->fdt, node, "alignment", NULL))
        return policy_complain(reader, node, NULL,
                               "alloc-ranges and alignment are not known here; place it with reg");
    addresses = read_addresses(reader, node, region, reg > 0);
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
                   : reg        ? ABI_REGION_HOLE
                                : ABI_REGION_CARVE;
    return 0;
}

int policy_read_regions(struct policy_reader *reader)
{
    struct abi_policy *guest = &reader->policy->guest;
    int node, address, size;

    if (reader->reserved == POLICY_NO_NODE)
        return 0;
    if (bus_cells(reader, reader->reserved, &address, &size))
        return -EINVAL;
    fdt_for_each_subnode(node, reader->fdt, reader->reserved)
    {
        if (policy_disabled(reader->fdt, node))
            continue;
        if (guest->nregions == ABI_POLICY_REGIONS_MAX)
            return policy_complain(reader, node, NULL, "is one region too many; use at most %d",
                                   ABI_POLICY_REGIONS_MAX);
        if (read_region(reader, node, address, size, &guest->region[guest->nregions]))
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
