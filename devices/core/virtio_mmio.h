/*
 * The virtio-mmio transport, version 2 (virtio 1.2, 4.2): a window of registers and a
 * level-triggered interrupt line, by which a driver reaches a virtio device.
 */
#ifndef STRATA_CORE_VIRTIO_MMIO_H
#define STRATA_CORE_VIRTIO_MMIO_H

#include <stdint.h>

#include "devices/core/virtio_device.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/irq_line.h"

#define VIRTIO_MMIO_BYTES 0x1000ull /* a window: registers, config space from 0x100 */

/* Why a device interrupts (4.2.2, InterruptStatus). */
#define VIRTIO_INTERRUPT_USED   1u
#define VIRTIO_INTERRUPT_CONFIG 2u

struct vm;

/* What the guest can see or has set, beside the device's own state. */
struct virtio_mmio_state {
    uint32_t interrupt_status;
    uint32_t device_features_sel, driver_features_sel, queue_sel;
};

struct virtio_mmio {
    struct virtio_device *device;
    struct virtio_mmio_state state;
    struct irq_source irq;
    struct bus_region region;
};

/*
 * Makes the device reachable at `base` of the VM's memory bus, with interrupts at this GSI
 * (irq_line_alloc). vm NULL: on no bus, without interrupts (tests). `device` outlives it.
 * 0 or -errno of bus_add.
 */
int virtio_mmio_create(struct virtio_mmio *mmio, struct virtio_device *device, struct vm *vm,
                       uint64_t base, unsigned gsi);

/*
 * Puts the registers of a transport where they were when this state was taken, and the
 * interrupt line with them. Any state will do: selectors that select nothing read 0, as if a
 * driver had written them. With the lock of the device's dma handle, after
 * virtio_device_restore, whose interrupts it replaces.
 */
void virtio_mmio_restore(struct virtio_mmio *mmio, const struct virtio_mmio_state *state);

#endif
