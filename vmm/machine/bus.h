/*
 * A bus: who answers at which address. The VM has two, one for ports and one for
 * memory-mapped registers.
 */
#ifndef STRATA_MACHINE_BUS_H
#define STRATA_MACHINE_BUS_H

#include <stdatomic.h>
#include <stdint.h>

#define BUS_REGIONS_MAX 64

struct vcpu;

/*
 * A window of `len` bytes at `base`. The callbacks run on the thread of the vCPU
 * that made the access, several at a time; they get the offset into the window, a
 * size of 1 to 8 bytes with offset + size <= len, and an owner of their own.
 * NULL read reads all ones, NULL write ignores.
 */
struct bus_region {
    uint64_t base;
    uint64_t len;
    void *owner;
    uint64_t (*read)(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size);
    void (*write)(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size, uint64_t value);
    /* Optional: called once after the last write of one exit (`rep outs` has many). */
    void (*after_write)(void *owner, struct vcpu *vcpu);
};

struct bus {
    uint64_t limit; /* last address of the bus */
    unsigned nregions;
    const struct bus_region *regions[BUS_REGIONS_MAX]; /* by ascending base */
    /* The one that answered last, mostly the next one too; NULL: none yet. */
    _Atomic(const struct bus_region *) recent;
    atomic_ullong unclaimed_reads;
    atomic_ullong unclaimed_writes;
};

void bus_init(struct bus *bus, uint64_t limit);

/*
 * Puts the region, which the caller keeps alive and unchanged, on the bus. Only
 * while no vCPU runs. -ERANGE: empty or beyond the bus; -EEXIST: overlaps another;
 * -ENOSPC: the bus is full.
 */
int bus_add(struct bus *bus, const struct bus_region *region);

/* The region that holds all of [address, address + size), or NULL. */
const struct bus_region *bus_find(const struct bus *bus, uint64_t address, unsigned size);

/*
 * One exit's accesses: `count` times `size` bytes (1 to 8) at the same address, to
 * or from `data`. Where nobody answers, reads are all ones and writes are dropped;
 * both are counted.
 */
void bus_read(struct bus *bus, struct vcpu *vcpu, uint64_t address, void *data, unsigned size,
              unsigned count);
void bus_write(struct bus *bus, struct vcpu *vcpu, uint64_t address, const void *data,
               unsigned size, unsigned count);

#endif
