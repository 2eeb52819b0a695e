/*
 * A virtio device, whatever transport a driver reaches it by (virtio 1.2, chapter 2): status,
 * feature negotiation, queues, configuration changes, DEVICE_NEEDS_RESET.
 *
 * A device model is a struct virtio_class and an owner; it knows no registers, no addresses
 * and no interrupts. Its callbacks run with the lock of the device's DMA handle held, on the
 * thread of a vCPU or the I/O thread (io_thread.h). A transport (virtio_mmio.h) turns
 * accesses of the driver into calls of the second half of this header, and tells the driver
 * of used buffers and changes by its struct virtio_transport.
 */
#ifndef STRATA_CORE_VIRTIO_DEVICE_H
#define STRATA_CORE_VIRTIO_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/core/virtqueue.h"

#define VIRTIO_QUEUES_MAX    32
#define VIRTIO_QUEUES_INLINE 8 /* of most devices */

/* Device status bits (2.1). */
#define VIRTIO_ACKNOWLEDGE 1u
#define VIRTIO_DRIVER      2u
#define VIRTIO_DRIVER_OK   4u
#define VIRTIO_FEATURES_OK 8u
#define VIRTIO_NEEDS_RESET 64u
#define VIRTIO_FAILED      128u

struct io_thread;
struct vm_thread;

struct virtio_class {
    const char *name; /* as in messages: "virtio-blk" */
    uint32_t device_id;
    /* Of the device type; VERSION_1, RING_* and ACCESS_PLATFORM are added to them. */
    uint64_t features;
    unsigned nqueues;
    struct virtqueue *queues; /* the device's own, where it has more than VIRTIO_QUEUES_INLINE */
    uint16_t queue_max;       /* size, at most VIRTQUEUE_SIZE_MAX */
    uint32_t config_bytes;    /* of the device-specific configuration space */

    /* The driver notified the device of available buffers in a queue. */
    void (*notify)(void *owner, unsigned queue);
    /*
     * Back to the state after power-on, nothing in flight any more: may wait on a
     * condition with the lock, never for the guest. NULL: nothing to do.
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
     * After a write to the device, without the lock: for what may take long or wait for the
     * host. On the thread `self` (NULL: tests), which may be parked. NULL: nothing to do.
     */
    void (*deferred_work)(void *owner, struct vm_thread *self);
};

/* What the device asks of its transport; with the lock held. */
struct virtio_transport {
    /* Tells the driver that the device has used buffers of this queue. */
    void (*queue_interrupt)(void *transport, unsigned queue);
    /* Tells the driver that the configuration, or DEVICE_NEEDS_RESET, has changed. */
    void (*config_interrupt)(void *transport);
    /* The device was reset: back to what the transport's own registers are after power-on. */
    void (*reset)(void *transport);
    /*
     * Has the driver's notifications of this queue come to the I/O thread, as calls of
     * virtio_device_thread_notified, instead of an exit each. 0 or -errno.
     */
    int (*watch_queue)(void *transport, struct io_thread *io, unsigned queue);
};

/*
 * What the guest can see or has set: to be saved with the queues' states, the transport's
 * and the device model's.
 */
struct virtio_device_state {
    uint32_t status;
    uint32_t config_generation;
    uint64_t driver_features; /* as written; negotiated once FEATURES_OK is set */
    uint32_t early_notify;    /* a bit for each queue that was notified before DRIVER_OK */
};

struct virtio_device {
    const struct virtio_class *class;
    void *owner;
    struct dma *dma;
    const struct virtio_transport *transport; /* NULL: none yet, no driver reaches the device */
    void *transport_owner;
    struct virtio_device_state state;
    struct virtqueue *queues; /* class->nqueues */
    struct virtqueue inline_queues[VIRTIO_QUEUES_INLINE];
    const char *needs_reset;      /* why NEEDS_RESET is set; NULL: it is not */
    const char *last_needs_reset; /* the same, the last time that it was; a reset keeps it */
    struct io_thread *io;         /* gets the notifications from DRIVER_OK on; NULL: exits */
    bool watched;                 /* it does */
    bool resetting;               /* class->reset or class->stop runs, maybe without the lock */
    atomic_uint pending_queues;   /* a bit for each queue, virtio_device_set_pending */
    uint64_t kicks, interrupts, bad_accesses, needed_resets;
};

/* A device that no driver reaches yet, in place. All pointers outlive it. */
void virtio_device_init(struct virtio_device *device, const struct virtio_class *class, void *owner,
                        struct dma *dma);

/*
 * Puts a device that no driver has reached yet where one of its class was when these states
 * were taken, `queues` of all its queues. What its driver has made available meanwhile is
 * looked for by the next virtio_device_after_write. The device model's and the transport's own
 * states are theirs to restore. With the lock. 0, or -EINVAL for states that cannot be, after
 * which the device needs a reset.
 */
int virtio_device_restore(struct virtio_device *device, const struct virtio_device_state *state,
                          const struct virtqueue_state *queues);

/* ---- For device models, with the lock held ---- */

/* Whether the feature was negotiated. */
bool virtio_device_has_feature(const struct virtio_device *device, unsigned feature_bit);

/* Whether a driver runs the device, which needs no reset. */
bool virtio_device_is_running(const struct virtio_device *device);

/*
 * After virtqueue_push: tells the driver of used buffers if it wants that, or that the queue
 * is broken.
 */
void virtio_device_notify_used(struct virtio_device *device, unsigned queue);

/*
 * From class->notify: enough for now, call it again for this queue soon. For a device
 * that would otherwise work for as long as a guest keeps it busy: others get the lock in
 * between.
 */
void virtio_device_set_pending(struct virtio_device *device, unsigned queue);

void virtio_device_config_changed(struct virtio_device *device);

/*
 * The driver did something no driver may: sets DEVICE_NEEDS_RESET, tells it by a
 * configuration interrupt, and takes no more from its queues. `why` stays valid.
 */
void virtio_device_set_needs_reset(struct virtio_device *device, const char *why);

/* ---- Without the lock ---- */

/*
 * Looks for buffers in a queue as if the driver had notified the device, if it works at
 * all. On the thread `self` (NULL: tests).
 */
void virtio_device_poll(struct virtio_device *device, struct vm_thread *self, unsigned queue);

/* ---- For transports: without the lock ---- */

/* The device is reached by this transport from now on. Only while no vCPU runs. */
void virtio_device_attach(struct virtio_device *device, const struct virtio_transport *transport,
                          void *transport_owner);

/*
 * Before a notification, and after a write of any kind: what was left for then. On the thread
 * `self`, which wrote (NULL: tests) and may be parked.
 */
void virtio_device_before_notify(struct virtio_device *device, struct vm_thread *self);
void virtio_device_after_write(struct virtio_device *device, struct vm_thread *self);

/* A notification that made no exit, on the I/O thread: an io_ready (io_thread.h). */
void virtio_device_thread_notified(void *device, unsigned queue, uint64_t count,
                                   struct vm_thread *self);

/* ---- For transports: with the lock; writes only while device->resetting is not set ---- */

/* All features that the device offers. */
uint64_t virtio_device_features(const struct virtio_device *device);

/* Those that the driver accepts; refused, and counted, once FEATURES_OK is set (3.1.1). */
void virtio_device_set_driver_features(struct virtio_device *device, uint64_t features);

/* The driver writes the status; 0 resets the device. */
void virtio_device_write_status(struct virtio_device *device, uint32_t value);

/* NULL: no such queue. */
struct virtqueue *virtio_device_queue(struct virtio_device *device, uint32_t index);

/* The queue if the driver may set it up now (4.2.2.2); else NULL, and it is counted. */
struct virtqueue *virtio_device_queue_to_configure(struct virtio_device *device, uint32_t index);

/* 1: uses the queue with what its state says; 0: stops it. What cannot be is counted. */
void virtio_device_set_queue_ready(struct virtio_device *device, uint32_t index, uint32_t value);

/* The driver notified the device of available buffers. */
void virtio_device_notify(struct virtio_device *device, uint32_t index);

/* Accesses to the device-specific configuration space; outside of it 0, ignored, counted. */
uint64_t virtio_device_read_config(struct virtio_device *device, uint64_t offset, unsigned size);
void virtio_device_write_config(struct virtio_device *device, uint64_t offset, unsigned size,
                                uint64_t value);

/* Counts an access that no driver should make. */
void virtio_device_bad_access(struct virtio_device *device);

#endif
