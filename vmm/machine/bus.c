#include "vmm/machine/bus.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

void bus_init(struct bus *bus, uint64_t limit)
{
    memset(bus, 0, sizeof(*bus));
    bus->limit = limit;
}

int bus_add(struct bus *bus, const struct bus_region *region)
{
    uint64_t last = region->base + region->len - 1;
    unsigned at;

    if (!region->len || last < region->base || last > bus->limit)
        return -ERANGE;
    if (bus->nregions == BUS_REGIONS_MAX)
        return -ENOSPC;
    for (at = 0; at < bus->nregions && bus->regions[at]->base <= last; at++) {
        const struct bus_region *other = bus->regions[at];

        if (other->base + (other->len - 1) >= region->base)
            return -EEXIST;
    }
    memmove(&bus->regions[at + 1], &bus->regions[at],
            (bus->nregions - at) * sizeof(bus->regions[0]));
    bus->regions[at] = region;
    bus->nregions++;
    return 0;
}

const struct bus_region *bus_find(const struct bus *bus, uint64_t address, unsigned size)
{
    unsigned low = 0, high = bus->nregions;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct bus_region *region = bus->regions[middle];

        if (address < region->base)
            high = middle;
        else if (address - region->base >= region->len)
            low = middle + 1;
        else
            return size <= region->len - (address - region->base) ? region : NULL;
    }
    return NULL;
}

/* bus_find, with the region that answered last tried first. */
static const struct bus_region *bus_find_recent(struct bus *bus, uint64_t address, unsigned size)
{
    const struct bus_region *region = atomic_load_explicit(&bus->recent, memory_order_relaxed);

    if (region && address - region->base < region->len &&
        size <= region->len - (address - region->base))
        return region;
    region = bus_find(bus, address, size);
    if (region)
        atomic_store_explicit(&bus->recent, region, memory_order_relaxed);
    return region;
}

/* `size` bytes, 1 to 8. The usual sizes are single moves, not calls. */
static inline void bus_copy(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 1: memcpy(to, from, 1); break;
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    default: memcpy(to, from, size);
    }
}

void bus_read(struct bus *bus, struct vcpu *vcpu, uint64_t address, void *data, unsigned size,
              unsigned count)
{
    const struct bus_region *region = bus_find_recent(bus, address, size);

    if (!region || !region->read) {
        memset(data, 0xff, (size_t)size * count);
        atomic_fetch_add_explicit(&bus->unclaimed_reads, count, memory_order_relaxed);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t value = region->read(region->owner, vcpu, address - region->base, size);

        bus_copy((char *)data + (size_t)i * size, &value, size);
    }
}

void bus_write(struct bus *bus, struct vcpu *vcpu, uint64_t address, const void *data,
               unsigned size, unsigned count)
{
    const struct bus_region *region = bus_find_recent(bus, address, size);

    if (!region || !region->write) {
        atomic_fetch_add_explicit(&bus->unclaimed_writes, count, memory_order_relaxed);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t value = 0;

        bus_copy(&value, (const char *)data + (size_t)i * size, size);
        region->write(region->owner, vcpu, address - region->base, size, value);
    }
    if (region->after_write)
        region->after_write(region->owner, vcpu);
}
