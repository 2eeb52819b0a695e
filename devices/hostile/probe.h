/*
 * The DMA probe (guest/abi/probe.h): a device for testing isolation. The guest drives
 * it through its registers as it would QEMU's "edu"; attacks come from the guest or,
 * with probe_attack, from the host.
 */
#ifndef STRATA_HOSTILE_PROBE_H
#define STRATA_HOSTILE_PROBE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/iommu/dma_request.h"
#include "guest/abi/probe.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq_line.h"

struct vm;

/* What the guest can see or has set. */
struct probe_state {
    uint32_t liveness, factorial, status, irq_status;
    uint32_t attack; /* enum abi_probe_attack that runs */
    uint64_t dma_source, dma_target, dma_count, dma_command;
    uint64_t address, length, stride, requester, value, flags;
    uint64_t result, error, first;
    bool withholding;
    bool withheld; /* a completion is */
    /* While the probe is busy this belongs to the request. */
    _Alignas(8) uint8_t buffer[ABI_PROBE_BUFFER_BYTES];
};

struct probe {
    struct dma *dma;
    struct irq_source irq;
    struct probe_state state; /* under the dma handle's lock */
    struct dma_window remembered;
    atomic_bool busy; /* a request of its own is on the bus: further commands are ignored */
    struct bus_region region;
    uint64_t bad_accesses;
};

/* Puts a probe on the VM's memory bus at `base` (vm NULL: on no bus). 0 or -errno. */
int probe_create(struct probe *probe, struct vm *vm, struct dma *dma, uint64_t base, unsigned gsi);

/*
 * Carries out an attack function with the parameters in probe->state, as a write to
 * ABI_PROBE_ATTACK does; result, error and first say what came of it. Without the dma handle's
 * lock, from a thread that is inside (vm_thread.h) or that pauses the VM itself. Where the probe
 * is busy, nothing happens.
 */
void probe_attack(struct probe *probe, enum abi_probe_attack attack);

#endif
