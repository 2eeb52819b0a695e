/*
 * The virtio-mmio transport, version 2 (virtio 1.2, 4.2), and what is common to all
 * virtio devices: status, feature negotiation, queues, interrupts, DEVICE_NEEDS_RESET.
 *
 * A device model is a struct virtio_class and an owner. Its callbacks run with the lock
 * of the device's dma handle held, on the thread of a vCPU or the I/O thread (io_thread.h).
 */
#ifndef STRATA_CORE_VIRTIO_MMIO_H
#define STRATA_CORE_VIRTIO_MMIO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/core/virtqueue.h"
#include "vmm/machine/bus.h"

#define VIRTIO_QUEUES_MAX 32
#define VIRTIO_QUEUES_FEW 8         /* of most devices */
#define VIRTIO_MMIO_BYTES 0x1000ull /* a window: registers, config space from 0x100 */

/* Why a device interrupts (4.2.2, InterruptStatus). */
#define VIRTIO_INTERRUPT_USED   1u
#define VIRTIO_INTERRUPT_CONFIG 2u

struct io_thread;
struct virtio_mmio;
struct vm_thread;

/* Device status bits (2.1). */
#define VIRTIO_ACKNOWLEDGE 1u
#define VIRTIO_DRIVER      2u
#define VIRTIO_DRIVER_OK   4u
#define VIRTIO_FEATURES_OK 8u
#define VIRTIO_NEEDS_RESET 64u
#define VIRTIO_FAILED      128u

struct virtio_class {
    const char *name; /* as in messages: "virtio-blk" */
    uint32_t device_id;
    uint64_t
        features; /* of the device type; the transport adds VERSION_1, RING_*, ACCESS_PLATFORM */
    unsigned nqueues;
    struct virtqueue *queues; /* the room for more than VIRTIO_QUEUES_FEW, the device's own */
    uint16_t queue_max;       /* size, at most VIRTQUEUE_SIZE_MAX */
    uint32_t config_bytes;    /* of the device-specific configuration space */

    /* The driver kicked a queue. */
    void (*notify)(void *owner, unsigned queue);
    /*
     * Back to the state after power-on, nothing in flight any more: may wait on a
     * condition with the lock of the dma handle, never for the guest. NULL: nothing to do.
     */
    void (*reset)(void *owner);
    /*
     * The driver stops one queue (4.2.2.2, QueueReady): nothing of it is in flight any
     * more on return; may wait as reset may. NULL: nothing to do.
     */
    void (*stop)(void *owner, unsigned queue);
    /* DRIVER_OK was set, with these features. NULL: nothing to do. */
    void (*start)(void *owner, uint64_t features);
    /* Accesses inside config_bytes, any size from 1 to 8 and any alignment. NULL: zero, ignored. */
    uint64_t (*config_read)(void *owner, uint32_t offset, unsigned size);
    void (*config_write)(void *owner, uint32_t offset, unsigned size, uint64_t value);
    /*
     * After a write to the window, without the lock: for what may take long or wait for the
     * host. On the thread `self` (NULL: tests), which may be parked. NULL: nothing to do.
     */
    void (*settle)(void *owner, struct vm_thread *self);
};

/* What the guest can see or has set: all there is to save, with the queues' states. */
struct virtio_state {
    uint32_t status;
    uint32_t interrupt_status;
    uint32_t device_features_sel, driver_features_sel, queue_sel;
    uint64_t driver_features; /* as written; negotiated once FEATURES_OK is set */
    uint32_t config_generation;
    uint32_t early; /* a bit for each queue that was notified before DRIVER_OK */
};

struct virtio_mmio {
    const struct virtio_class *class;
    void *owner;
    struct vm *vm; /* NULL: no interrupts (tests) */
    struct dma *dma;
    unsigned gsi;
    struct virtio_state state;
    struct virtqueue *queues; /* class->nqueues */
    struct virtqueue few[VIRTIO_QUEUES_FEW];
    struct bus_region region;
    const char *broken;      /* why NEEDS_RESET is set; NULL: it is not */
    const char *broken_last; /* the same, the last time that it was; a reset keeps it */
    bool line;               /* level of the interrupt line */
    struct io_thread *io;    /* gets the notifications from DRIVER_OK on; NULL: they are exits */
    bool listening;          /* it does */
    bool held;               /* class->reset or class->stop runs, maybe without the lock */
    atomic_uint again;       /* a bit for each queue, virtio_again */
    uint64_t kicks, interrupts, bad_accesses, needed_resets;
};

/*
 * Puts a device on the VM's memory bus at `base` (vm NULL: on no bus). All pointers
 * stay the caller's and outlive it. 0 or -errno of bus_add.
 */
int virtio_mmio_create(struct virtio_mmio *device, const struct virtio_class *class, void *owner,
                       struct vm *vm, struct dma *dma, uint64_t base, unsigned gsi);

/*
 * Looks for buffers in a queue as if the driver had notified the device, if it works at
 * all. Without the lock of the dma handle, on the thread `self` (NULL: tests).
 */
void virtio_poll(struct virtio_mmio *device, struct vm_thread *self, unsigned queue);

/* ---- For device models, with the lock of the dma handle held ---- */

bool virtio_has(const struct virtio_mmio *device, unsigned feature_bit);

/* After virtqueue_push: interrupts the driver if it wants that, or says that the queue is broken.
 */
void virtio_used(struct virtio_mmio *device, unsigned queue);

/*
 * From class->notify: enough for now, call it again for this queue soon. For a device
 * that would otherwise work for as long as a guest keeps it busy: everybody else gets
 * the lock in between.
 */
void virtio_again(struct virtio_mmio *device, unsigned queue);

void virtio_config_changed(struct virtio_mmio *device);

/*
 * The driver did something no driver may: sets DEVICE_NEEDS_RESET, tells it by a
 * configuration interrupt, and takes no more from its queues. `why` stays valid.
 */
void virtio_broken(struct virtio_mmio *device, const char *why);

#endif
