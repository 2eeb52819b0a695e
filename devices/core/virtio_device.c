#include "devices/core/virtio_device.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sched.h>

#include "vmm/machine/vm_thread.h"

#define FEATURE(bit) (1ull << (bit))
#define STATUS_DRIVERS \
    (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED)

void virtio_device_bad_access(struct virtio_device *device)
{
    device->bad_accesses++;
}

/* ---- Features (2.2) ---------------------------------------------------------------- */

uint64_t virtio_device_features(const struct virtio_device *device)
{
    uint64_t features = device->class->features | FEATURE(VIRTIO_F_VERSION_1) |
                        FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | FEATURE(VIRTIO_RING_F_EVENT_IDX);

    /* 6.1: a device whose accesses are translated says so. */
    return device->dma->iommu ? features | FEATURE(VIRTIO_F_ACCESS_PLATFORM) : features;
}

/* 6.2: a device may refuse a driver without VERSION_1, and one that ignores the IOMMU. */
static uint64_t virtio_device_required(const struct virtio_device *device)
{
    return (FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_F_ACCESS_PLATFORM)) &
           virtio_device_features(device);
}

static bool virtio_device_accepts(const struct virtio_device *device, uint64_t features)
{
    uint64_t required = virtio_device_required(device);

    return !(features & ~virtio_device_features(device)) && (features & required) == required;
}

bool virtio_device_has_feature(const struct virtio_device *device, unsigned feature_bit)
{
    return device->state.status & VIRTIO_FEATURES_OK &&
           device->state.driver_features & FEATURE(feature_bit);
}

void virtio_device_set_driver_features(struct virtio_device *device, uint64_t features)
{
    /* 3.1.1: no features after FEATURES_OK. */
    if (device->state.status & VIRTIO_FEATURES_OK)
        virtio_device_bad_access(device);
    else
        device->state.driver_features = features;
}

/* ---- Notifications to the driver (2.3) ----------------------------------------------- */

bool virtio_device_is_running(const struct virtio_device *device)
{
    return device->state.status & VIRTIO_DRIVER_OK && !device->needs_reset;
}

/* 2.1.2: nothing is sent before DRIVER_OK. */
static bool virtio_device_may_interrupt(struct virtio_device *device)
{
    if (!(device->state.status & VIRTIO_DRIVER_OK))
        return false;
    device->interrupts++;
    return true;
}

static void virtio_device_config_interrupt(struct virtio_device *device)
{
    if (virtio_device_may_interrupt(device))
        device->transport->config_interrupt(device->transport_owner);
}

void virtio_device_notify_used(struct virtio_device *device, unsigned index)
{
    struct virtqueue *queue = &device->queues[index];

    if (virtqueue_should_notify(queue)) {
        if (virtio_device_may_interrupt(device))
            device->transport->queue_interrupt(device->transport_owner, index);
    } else if (queue->broken) {
        virtio_device_set_needs_reset(device, queue->broken);
    }
}

void virtio_device_config_changed(struct virtio_device *device)
{
    /* 2.5: what is read after the change has another generation. */
    device->state.config_generation++;
    virtio_device_config_interrupt(device);
}

void virtio_device_set_needs_reset(struct virtio_device *device, const char *why)
{
    if (device->needs_reset)
        return;
    device->needs_reset = device->last_needs_reset = why;
    for (unsigned i = 0; i < device->class->nqueues; i++) {
        if (!device->queues[i].broken)
            device->queues[i].broken = why;
    }
    /* 2.1.2: set NEEDS_RESET, and send a configuration change if DRIVER_OK is set. */
    device->state.status |= VIRTIO_NEEDS_RESET;
    device->needed_resets++;
    virtio_device_config_interrupt(device);
}

void virtio_device_set_pending(struct virtio_device *device, unsigned queue)
{
    atomic_fetch_or_explicit(&device->pending_queues, 1u << queue, memory_order_relaxed);
}

/* ---- Status (2.1, 3.1.1) ----------------------------------------------------------- */

static void virtio_device_reset(struct virtio_device *device)
{
    uint32_t generation = device->state.config_generation;

    /* The lock may be given up meanwhile: no interrupt comes any more, registers stand still. */
    device->state.status &= ~VIRTIO_DRIVER_OK;
    device->resetting = true;
    if (device->class->reset)
        device->class->reset(device->owner);
    device->resetting = false;
    for (unsigned i = 0; i < device->class->nqueues; i++)
        virtqueue_reset(&device->queues[i]);
    device->state = (struct virtio_device_state){ .config_generation = generation };
    device->needs_reset = NULL;
    atomic_store_explicit(&device->pending_queues, 0, memory_order_relaxed);
    device->transport->reset(device->transport_owner);
}

/* What cannot be had costs nothing but the exits: the same write then comes by the bus. */
static void virtio_device_watch(struct virtio_device *device)
{
    int err = 0;

    for (unsigned i = 0; i < device->class->nqueues && !err; i++)
        err = device->transport->watch_queue(device->transport_owner, device->io, i);
    device->watched = true;
}

static void virtio_device_start(struct virtio_device *device)
{
    struct virtio_device_state *state = &device->state;

    state->status |= VIRTIO_DRIVER_OK;
    if (device->io && !device->watched)
        virtio_device_watch(device);
    if (device->class->start)
        device->class->start(device->owner, state->driver_features);
    atomic_fetch_or_explicit(&device->pending_queues, state->early_notify, memory_order_relaxed);
    state->early_notify = 0;
    if (device->needs_reset)
        virtio_device_config_interrupt(device); /* 2.1.2: broken before */
}

void virtio_device_write_status(struct virtio_device *device, uint32_t value)
{
    struct virtio_device_state *state = &device->state;
    uint32_t before = state->status, added = value & STATUS_DRIVERS & ~before;

    if (!value) {
        virtio_device_reset(device);
        return;
    }
    /* 2.1.1: a driver clears no bit but by a reset; NEEDS_RESET is not its to set. */
    if (before & ~value & STATUS_DRIVERS || value & ~(STATUS_DRIVERS | VIRTIO_NEEDS_RESET))
        virtio_device_bad_access(device);
    state->status |= added & ~(VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
    if (added & VIRTIO_FEATURES_OK) {
        /* 2.2.2: FEATURES_OK stays clear for features that the device cannot work with. */
        if (state->status & VIRTIO_DRIVER && virtio_device_accepts(device, state->driver_features))
            state->status |= VIRTIO_FEATURES_OK;
        else
            virtio_device_bad_access(device);
    }
    if (!(added & VIRTIO_DRIVER_OK))
        return;
    /* 3.1.1: only after the features are settled. */
    if (state->status & VIRTIO_FEATURES_OK)
        virtio_device_start(device);
    else
        virtio_device_bad_access(device);
}

/* ---- Queues ----------------------------------------------------------------------------- */

struct virtqueue *virtio_device_queue(struct virtio_device *device, uint32_t index)
{
    return index < device->class->nqueues ? &device->queues[index] : NULL;
}

/* 4.2.2.2: a queue is set up after the features are settled, and not while it is ready. */
struct virtqueue *virtio_device_queue_to_configure(struct virtio_device *device, uint32_t index)
{
    struct virtqueue *queue = virtio_device_queue(device, index);

    if (queue && device->state.status & VIRTIO_FEATURES_OK && !queue->state.ready)
        return queue;
    virtio_device_bad_access(device);
    return NULL;
}

static void virtio_device_stop_queue(struct virtio_device *device, unsigned index)
{
    struct virtqueue *queue = &device->queues[index];

    device->resetting = true;
    if (device->class->stop)
        device->class->stop(device->owner, index);
    device->resetting = false;
    virtqueue_reset(queue);
    queue->broken = device->needs_reset;
}

void virtio_device_set_queue_ready(struct virtio_device *device, uint32_t index, uint32_t value)
{
    struct virtqueue *queue = virtio_device_queue(device, index);

    if (value > 1 || !queue) {
        virtio_device_bad_access(device);
    } else if (!value) {
        if (queue->state.ready)
            virtio_device_stop_queue(device, index);
    } else if (virtio_device_queue_to_configure(device, index)) {
        queue->event_index = virtio_device_has_feature(device, VIRTIO_RING_F_EVENT_IDX);
        queue->indirect = virtio_device_has_feature(device, VIRTIO_RING_F_INDIRECT_DESC);
        if (virtqueue_enable(queue))
            virtio_device_bad_access(device); /* and it reads as not ready */
    }
}

/*
 * 2.1.2: no buffer is taken before DRIVER_OK; nor from a device that needs a reset. A driver
 * should not tell of one before that (3.1.1), but Linux's balloon does, and only once: so
 * DRIVER_OK makes up for it.
 */
void virtio_device_notify(struct virtio_device *device, uint32_t index)
{
    if (index >= device->class->nqueues || !device->queues[index].state.ready) {
        virtio_device_bad_access(device);
        return;
    }
    if (!(device->state.status & VIRTIO_DRIVER_OK)) {
        virtio_device_bad_access(device);
        device->state.early_notify |= 1u << index;
        return;
    }
    if (device->needs_reset)
        return;
    device->kicks++;
    device->class->notify(device->owner, index);
}

int virtio_device_restore(struct virtio_device *device, const struct virtio_device_state *state,
                          const struct virtqueue_state *queues)
{
    int err = 0;

    device->state = *state;
    for (unsigned i = 0; i < device->class->nqueues; i++) {
        struct virtqueue *queue = &device->queues[i];

        queue->state = queues[i];
        queue->event_index = virtio_device_has_feature(device, VIRTIO_RING_F_EVENT_IDX);
        queue->indirect = virtio_device_has_feature(device, VIRTIO_RING_F_INDIRECT_DESC);
        if (!queue->state.ready)
            continue;
        queue->state.ready = false;
        err = err ? err : virtqueue_enable(queue);
        virtio_device_set_pending(device, i);
    }
    if (err || state->status & VIRTIO_NEEDS_RESET)
        virtio_device_set_needs_reset(device, "its state was restored so");
    return err;
}

/* ---- Configuration space (2.5) ------------------------------------------------------------ */

static bool virtio_device_in_config(struct virtio_device *device, uint64_t offset, unsigned size)
{
    if (offset + size >= size && offset + size <= device->class->config_bytes)
        return true;
    virtio_device_bad_access(device);
    return false;
}

uint64_t virtio_device_read_config(struct virtio_device *device, uint64_t offset, unsigned size)
{
    if (!virtio_device_in_config(device, offset, size) || !device->class->config_read)
        return 0;
    return device->class->config_read(device->owner, (uint32_t)offset, size);
}

void virtio_device_write_config(struct virtio_device *device, uint64_t offset, unsigned size,
                                uint64_t value)
{
    if (virtio_device_in_config(device, offset, size) && device->class->config_write)
        device->class->config_write(device->owner, (uint32_t)offset, size, value);
}

/* ---- Work without the lock ------------------------------------------------------------------ */

/* Where it is no mistake if the queue does not work; with the lock. */
static void virtio_device_notify_if_up(struct virtio_device *device, unsigned queue)
{
    if (device->queues[queue].state.ready && !device->resetting && virtio_device_is_running(device))
        device->class->notify(device->owner, queue);
}

/*
 * What a device left for later (virtio_device_set_pending), with a chance for all others in
 * between: another vCPU that wants the lock, the world's pause, the end of the run.
 */
void virtio_device_after_write(struct virtio_device *device, struct vm_thread *self)
{
    while (atomic_load_explicit(&device->pending_queues, memory_order_relaxed)) {
        uint32_t queues;

        if (self && !vm_thread_park(self))
            return;
        dma_lock(device->dma);
        queues = atomic_exchange_explicit(&device->pending_queues, 0, memory_order_relaxed);
        for (; queues; queues &= queues - 1)
            virtio_device_notify_if_up(device, (unsigned)__builtin_ctz(queues));
        dma_unlock(device->dma);
    }
    if (device->class->deferred_work)
        device->class->deferred_work(device->owner, self);
}

void virtio_device_before_notify(struct virtio_device *device, struct vm_thread *self)
{
    if (device->dma->iommu)
        iommu_settle(device->dma->iommu, self);
}

/*
 * One that arrives when a reset has overtaken it is no mistake. While a queue is being
 * stopped it has to wait, as it may be for another one.
 */
void virtio_device_thread_notified(void *owner, unsigned queue, uint64_t count,
                                   struct vm_thread *self)
{
    struct virtio_device *device = owner;
    bool resetting = true;

    virtio_device_before_notify(device, self);
    while (resetting) {
        dma_lock(device->dma);
        resetting = device->resetting;
        if (!resetting && virtio_device_is_running(device) && device->queues[queue].state.ready) {
            device->kicks += count;
            device->class->notify(device->owner, queue);
        }
        dma_unlock(device->dma);
        if (resetting && (sched_yield() || !vm_thread_park(self)))
            return;
    }
    virtio_device_after_write(device, self);
}

void virtio_device_poll(struct virtio_device *device, struct vm_thread *self, unsigned queue)
{
    dma_lock(device->dma);
    virtio_device_notify_if_up(device, queue);
    dma_unlock(device->dma);
    virtio_device_after_write(device, self);
}

/* ---- Creation ---------------------------------------------------------------------------------
 */

void virtio_device_init(struct virtio_device *device, const struct virtio_class *class, void *owner,
                        struct dma *dma)
{
    *device = (struct virtio_device){ .class = class, .owner = owner, .dma = dma };
    device->queues = class->queues ? class->queues : device->inline_queues;
    for (unsigned i = 0; i < class->nqueues; i++)
        virtqueue_init(&device->queues[i], dma, class->queue_max);
}

void virtio_device_attach(struct virtio_device *device, const struct virtio_transport *transport,
                          void *transport_owner)
{
    dma_lock(device->dma);
    device->transport = transport;
    device->transport_owner = transport_owner;
    dma_unlock(device->dma);
}
