#include "devices/core/virtio_mmio.h"

#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sched.h>

#include "devices/core/io_thread.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/vm.h"

/* Registers (4.2.2, table 4.1) are linux/virtio_mmio.h's; this one it does not know. */
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0

#define MAGIC_VALUE             0x74726976u /* "virt" */
#define VERSION_VALUE           2u
#define VENDOR_VALUE            0x41525453u /* "STRA" */

#define FEATURE(bit)            (1ull << (bit))
#define STATUS_DRIVERS \
    (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK | VIRTIO_FEATURES_OK | VIRTIO_FAILED)

static uint64_t offered(const struct virtio_mmio *device)
{
    uint64_t features = device->class->features | FEATURE(VIRTIO_F_VERSION_1) |
                        FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | FEATURE(VIRTIO_RING_F_EVENT_IDX);

    /* 6.1: a device whose accesses are translated says so. */
    return device->dma->iommu ? features | FEATURE(VIRTIO_F_ACCESS_PLATFORM) : features;
}

/* 6.2: a device may refuse a driver without VERSION_1, and one that ignores the IOMMU. */
static uint64_t required(const struct virtio_mmio *device)
{
    return (FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_F_ACCESS_PLATFORM)) & offered(device);
}

bool virtio_has(const struct virtio_mmio *device, unsigned feature_bit)
{
    return device->state.status & VIRTIO_FEATURES_OK &&
           device->state.driver_features & FEATURE(feature_bit);
}

/* ---- Interrupts (4.2.3.4: level) ------------------------------------------------- */

/* KVM hears of the line only when it changes: a call costs microseconds. */
static void update_line(struct virtio_mmio *device)
{
    bool level = device->state.interrupt_status != 0;

    if (level == device->line)
        return;
    device->line = level;
    if (device->vm)
        irq_line(device->vm, device->gsi, level);
}

/* 2.1.2: nothing is sent before DRIVER_OK. */
static void interrupt(struct virtio_mmio *device, uint32_t why)
{
    if (!(device->state.status & VIRTIO_DRIVER_OK))
        return;
    device->interrupts++;
    device->state.interrupt_status |= why;
    update_line(device);
}

void virtio_used(struct virtio_mmio *device, unsigned index)
{
    struct virtqueue *queue = &device->queues[index];

    if (virtqueue_should_notify(queue))
        interrupt(device, VIRTIO_INTERRUPT_USED);
    else if (queue->broken)
        virtio_broken(device, queue->broken);
}

void virtio_config_changed(struct virtio_mmio *device)
{
    /* 2.5: what is read after the change has another generation. */
    device->state.config_generation++;
    interrupt(device, VIRTIO_INTERRUPT_CONFIG);
}

void virtio_broken(struct virtio_mmio *device, const char *why)
{
    if (device->broken)
        return;
    device->broken = device->broken_last = why;
    for (unsigned i = 0; i < device->class->nqueues; i++) {
        if (!device->queues[i].broken)
            device->queues[i].broken = why;
    }
    /* 2.1.2: set NEEDS_RESET, and send a configuration change if DRIVER_OK is set. */
    device->state.status |= VIRTIO_NEEDS_RESET;
    device->needed_resets++;
    interrupt(device, VIRTIO_INTERRUPT_CONFIG);
}

void virtio_again(struct virtio_mmio *device, unsigned queue)
{
    atomic_fetch_or_explicit(&device->again, 1u << queue, memory_order_relaxed);
}

/* ---- Status (2.1, 3.1.1) ----------------------------------------------------------- */

static void reset(struct virtio_mmio *device)
{
    uint32_t generation = device->state.config_generation;

    /* The lock may be given up meanwhile: no interrupt comes any more, registers stand still. */
    device->state.status &= ~VIRTIO_DRIVER_OK;
    device->held = true;
    if (device->class->reset)
        device->class->reset(device->owner);
    device->held = false;
    for (unsigned i = 0; i < device->class->nqueues; i++)
        virtqueue_reset(&device->queues[i]);
    device->state = (struct virtio_state){ .config_generation = generation };
    device->broken = NULL;
    atomic_store_explicit(&device->again, 0, memory_order_relaxed);
    update_line(device);
}

static bool acceptable(const struct virtio_mmio *device)
{
    uint64_t features = device->state.driver_features;

    return !(features & ~offered(device)) && (features & required(device)) == required(device);
}

static bool bad(struct virtio_mmio *device)
{
    device->bad_accesses++;
    return false;
}

static void thread_notified(void *owner, unsigned queue, uint64_t count, struct vm_thread *self);

/* What cannot be had costs nothing but the exits: the same write then comes by the bus. */
static void listen_in_thread(struct virtio_mmio *device)
{
    int err = 0;

    for (unsigned i = 0; i < device->class->nqueues && !err; i++)
        err = io_thread_watch(device->io, device->region.base + VIRTIO_MMIO_QUEUE_NOTIFY, i,
                              thread_notified, device);
    device->listening = true;
}

static void write_status(struct virtio_mmio *device, uint32_t value)
{
    struct virtio_state *state = &device->state;
    uint32_t before = state->status, added = value & STATUS_DRIVERS & ~before;

    /* 2.1.1: a driver clears no bit but by a reset; NEEDS_RESET is not its to set. */
    if (before & ~value & STATUS_DRIVERS || value & ~(STATUS_DRIVERS | VIRTIO_NEEDS_RESET))
        bad(device);
    state->status |= added & ~(VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
    if (added & VIRTIO_FEATURES_OK) {
        /* 2.2.2: FEATURES_OK stays clear for features that the device cannot work with. */
        if (state->status & VIRTIO_DRIVER && acceptable(device))
            state->status |= VIRTIO_FEATURES_OK;
        else
            bad(device);
    }
    if (!(added & VIRTIO_DRIVER_OK))
        return;
    /* 3.1.1: only after the features are settled. */
    if (!(state->status & VIRTIO_FEATURES_OK)) {
        bad(device);
        return;
    }
    state->status |= VIRTIO_DRIVER_OK;
    if (device->io && !device->listening)
        listen_in_thread(device);
    if (device->class->start)
        device->class->start(device->owner, state->driver_features);
    atomic_fetch_or_explicit(&device->again, state->early, memory_order_relaxed);
    state->early = 0;
    if (device->broken)
        interrupt(device, VIRTIO_INTERRUPT_CONFIG); /* 2.1.2: broken before */
}

/* ---- Queues ----------------------------------------------------------------------------- */

/* NULL: no such queue. */
static struct virtqueue *selected(struct virtio_mmio *device)
{
    uint32_t queue = device->state.queue_sel;

    return queue < device->class->nqueues ? &device->queues[queue] : NULL;
}

/* 4.2.2.2: a queue is set up after the features are settled, and not while it is ready. */
static struct virtqueue *configurable(struct virtio_mmio *device)
{
    struct virtqueue *queue = selected(device);

    if (queue && device->state.status & VIRTIO_FEATURES_OK && !queue->state.ready)
        return queue;
    bad(device);
    return NULL;
}

static void set_half(struct virtio_mmio *device, uint64_t *address, bool high, uint32_t value)
{
    if (!configurable(device))
        return;
    if (high)
        *address = (uint32_t)*address | (uint64_t)value << 32;
    else
        *address = (*address & ~0xffffffffull) | value;
}

static void write_size(struct virtio_mmio *device, uint32_t value)
{
    struct virtqueue *queue = configurable(device);

    /* A size that cannot be fails in virtqueue_enable, where the driver sees it. */
    if (queue)
        queue->state.size = value <= queue->size_max ? (uint16_t)value : 0;
}

static void stop_queue(struct virtio_mmio *device, unsigned index)
{
    struct virtqueue *queue = &device->queues[index];

    device->held = true;
    if (device->class->stop)
        device->class->stop(device->owner, index);
    device->held = false;
    virtqueue_reset(queue);
    queue->broken = device->broken;
}

static void write_ready(struct virtio_mmio *device, uint32_t value)
{
    struct virtqueue *queue = selected(device);

    if (value > 1 || !queue) {
        bad(device);
    } else if (!value) {
        if (queue->state.ready)
            stop_queue(device, device->state.queue_sel);
    } else if (configurable(device)) {
        queue->event_index = virtio_has(device, VIRTIO_RING_F_EVENT_IDX);
        queue->indirect = virtio_has(device, VIRTIO_RING_F_INDIRECT_DESC);
        if (virtqueue_enable(queue))
            bad(device); /* and it reads as not ready */
    }
}

/*
 * 2.1.2: no buffer is taken before DRIVER_OK; nor from a device that needs a reset. A driver
 * should not tell of one before that (3.1.1), but Linux's balloon does, and only once: so
 * DRIVER_OK makes up for it.
 */
static void notify(struct virtio_mmio *device, uint32_t queue)
{
    if (queue >= device->class->nqueues || !device->queues[queue].state.ready) {
        bad(device);
        return;
    }
    if (!(device->state.status & VIRTIO_DRIVER_OK)) {
        bad(device);
        device->state.early |= 1u << queue;
        return;
    }
    if (device->broken)
        return;
    device->kicks++;
    device->class->notify(device->owner, queue);
}

/* ---- Registers (4.2.2) -------------------------------------------------------------------- */

static uint32_t read_register(struct virtio_mmio *device, uint64_t offset)
{
    const struct virtio_state *state = &device->state;
    const struct virtqueue *queue = selected(device);

    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE: return MAGIC_VALUE;
    case VIRTIO_MMIO_VERSION: return VERSION_VALUE;
    case VIRTIO_MMIO_DEVICE_ID: return device->class->device_id;
    case VIRTIO_MMIO_VENDOR_ID: return VENDOR_VALUE;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return state->device_features_sel < 2
                   ? (uint32_t)(offered(device) >> 32 * state->device_features_sel)
                   : 0;
    case VIRTIO_MMIO_QUEUE_NUM_MAX: return queue ? queue->size_max : 0;
    case VIRTIO_MMIO_QUEUE_READY: return queue && queue->state.ready;
    case VIRTIO_MMIO_INTERRUPT_STATUS: return state->interrupt_status;
    case VIRTIO_MMIO_STATUS: return state->status;
    /* 4.2.2.1: a shared memory region that does not exist has length and base -1. */
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH: return ~0u;
    case VIRTIO_MMIO_QUEUE_RESET: return 0; /* RING_RESET is not offered */
    case VIRTIO_MMIO_CONFIG_GENERATION: return state->config_generation;
    default: bad(device); return 0;
    }
}

static void write_driver_features(struct virtio_mmio *device, uint32_t value)
{
    struct virtio_state *state = &device->state;
    unsigned shift = 32 * (state->driver_features_sel & 1);

    /* 3.1.1: no features after FEATURES_OK. */
    if (state->status & VIRTIO_FEATURES_OK) {
        bad(device);
        return;
    }
    if (state->driver_features_sel > 1) {
        if (value)
            bad(device); /* bits from 64 on: there are none */
        return;
    }
    state->driver_features = (state->driver_features & ~(0xffffffffull << shift)) | (uint64_t)value
                                                                                        << shift;
}

static void write_register(struct virtio_mmio *device, uint64_t offset, uint32_t value)
{
    struct virtio_state *state = &device->state;
    struct virtqueue none = { 0 }, *queue = selected(device);
    struct virtqueue_state *addresses = queue ? &queue->state : &none.state;

    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL: state->device_features_sel = value; break;
    case VIRTIO_MMIO_DRIVER_FEATURES: write_driver_features(device, value); break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL: state->driver_features_sel = value; break;
    case VIRTIO_MMIO_QUEUE_SEL: state->queue_sel = value; break;
    case VIRTIO_MMIO_QUEUE_NUM: write_size(device, value); break;
    case VIRTIO_MMIO_QUEUE_READY: write_ready(device, value); break;
    case VIRTIO_MMIO_QUEUE_NOTIFY: notify(device, value); break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        state->interrupt_status &= ~value;
        update_line(device);
        break;
    case VIRTIO_MMIO_STATUS:
        if (value)
            write_status(device, value);
        else
            reset(device);
        break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
        set_half(device, &addresses->descriptors, offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
        set_half(device, &addresses->driver, offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
        break;
    case VIRTIO_MMIO_QUEUE_USED_LOW:
    case VIRTIO_MMIO_QUEUE_USED_HIGH:
        set_half(device, &addresses->device, offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
        break;
    case VIRTIO_MMIO_SHM_SEL: break;     /* there are no shared memory regions */
    case VIRTIO_MMIO_QUEUE_RESET: break; /* RING_RESET is not offered */
    default: bad(device); break;
    }
}

/* ---- Bus ------------------------------------------------------------------------------------ */

static bool in_config(struct virtio_mmio *device, uint64_t offset, unsigned size)
{
    return (offset >= VIRTIO_MMIO_CONFIG &&
            offset - VIRTIO_MMIO_CONFIG + size <= device->class->config_bytes) ||
           bad(device);
}

/* 4.2.2.2: registers take aligned accesses of 32 bits; anything else reads 0, writes nothing. */
static bool is_register(uint64_t offset, unsigned size)
{
    return offset < VIRTIO_MMIO_CONFIG && size == 4 && offset % 4 == 0;
}

static uint64_t mmio_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct virtio_mmio *device = owner;
    uint64_t value = 0;

    (void)vcpu;
    dma_lock(device->dma);
    if (is_register(offset, size))
        value = read_register(device, offset);
    else if (in_config(device, offset, size) && device->class->config_read)
        value = device->class->config_read(device->owner, (uint32_t)(offset - VIRTIO_MMIO_CONFIG),
                                           size);
    dma_unlock(device->dma);
    return value;
}

/* NULL: tests. */
static struct vm_thread *thread_of(struct vcpu *vcpu)
{
    return vcpu ? &vcpu->thread : NULL;
}

static void mmio_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                       uint64_t value)
{
    struct virtio_mmio *device = owner;

    if (offset == VIRTIO_MMIO_QUEUE_NOTIFY && device->dma->iommu)
        iommu_settle(device->dma->iommu, thread_of(vcpu));
    dma_lock(device->dma);
    if (device->held)
        bad(device); /* while another vCPU resets it */
    else if (is_register(offset, size))
        write_register(device, offset, (uint32_t)value);
    else if (in_config(device, offset, size) && device->class->config_write)
        device->class->config_write(device->owner, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), size,
                                    value);
    dma_unlock(device->dma);
}

/* Where nobody is to blame if the queue does not work; with the lock. */
static void notify_if_up(struct virtio_mmio *device, unsigned queue)
{
    if (device->queues[queue].state.ready && !device->held && !device->broken &&
        device->state.status & VIRTIO_DRIVER_OK)
        device->class->notify(device->owner, queue);
}

/*
 * What a device left for later (virtio_again), with a chance for everybody else in
 * between: another vCPU that wants the lock, the world's pause, the end of the run.
 */
static void do_deferred(struct virtio_mmio *device, struct vm_thread *self)
{
    while (atomic_load_explicit(&device->again, memory_order_relaxed)) {
        uint32_t queues;

        if (self && !vm_thread_park(self))
            return;
        dma_lock(device->dma);
        queues = atomic_exchange_explicit(&device->again, 0, memory_order_relaxed);
        for (; queues; queues &= queues - 1)
            notify_if_up(device, (unsigned)__builtin_ctz(queues));
        dma_unlock(device->dma);
    }
    if (device->class->settle)
        device->class->settle(device->owner, self);
}

static void mmio_settle(void *owner, struct vcpu *vcpu)
{
    do_deferred(owner, thread_of(vcpu));
}

/*
 * A notification that made no exit, on the I/O thread. One that arrives when a reset has
 * overtaken it is nobody's mistake. While a queue is being stopped it has to wait, as it may
 * be for another one.
 */
static void thread_notified(void *owner, unsigned queue, uint64_t count, struct vm_thread *self)
{
    struct virtio_mmio *device = owner;
    bool held = true;

    if (device->dma->iommu)
        iommu_settle(device->dma->iommu, self);
    while (held) {
        dma_lock(device->dma);
        held = device->held;
        if (!held && device->state.status & VIRTIO_DRIVER_OK && !device->broken &&
            device->queues[queue].state.ready) {
            device->kicks += count;
            device->class->notify(device->owner, queue);
        }
        dma_unlock(device->dma);
        if (held && (sched_yield() || !vm_thread_park(self)))
            return;
    }
    do_deferred(device, self);
}

void virtio_poll(struct virtio_mmio *device, struct vm_thread *self, unsigned queue)
{
    dma_lock(device->dma);
    notify_if_up(device, queue);
    dma_unlock(device->dma);
    do_deferred(device, self);
}

int virtio_mmio_create(struct virtio_mmio *device, const struct virtio_class *class, void *owner,
                       struct vm *vm, struct dma *dma, uint64_t base, unsigned gsi)
{
    *device = (struct virtio_mmio){
        .class = class,
        .owner = owner,
        .vm = vm,
        .dma = dma,
        .gsi = gsi,
        .region = { .base = base,
                    .len = VIRTIO_MMIO_BYTES,
                    .owner = device,
                    .read = mmio_read,
                    .write = mmio_write,
                    .settle = mmio_settle },
    };
    device->queues = class->queues ? class->queues : device->few;
    for (unsigned i = 0; i < class->nqueues; i++)
        virtqueue_init(&device->queues[i], dma, class->queue_max);
    return vm ? bus_add(&vm->mmio, &device->region) : 0;
}
