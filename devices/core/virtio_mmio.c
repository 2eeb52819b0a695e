#include "devices/core/virtio_mmio.h"

#include <linux/virtio_mmio.h>

#include "devices/core/io_thread.h"
#include "vmm/machine/vm.h"

/* Registers (4.2.2, table 4.1) are linux/virtio_mmio.h's; this one it does not know. */
#define VIRTIO_MMIO_QUEUE_RESET 0x0c0

#define MAGIC_VALUE             0x74726976u /* "virt" */
#define VERSION_VALUE           2u
#define VENDOR_VALUE            0x41525453u /* "STRA" */

/* ---- For the device (struct virtio_transport) ----------------------------------------- */

/* 4.2.3.4: the interrupt is a level, which is there as long as a reason is. */
static void virtio_mmio_update_line(struct virtio_mmio *mmio)
{
    irq_source_set(&mmio->irq, mmio->state.interrupt_status != 0);
}

static void virtio_mmio_queue_interrupt(void *transport, unsigned queue)
{
    struct virtio_mmio *mmio = transport;

    (void)queue; /* one reason for all of them */
    mmio->state.interrupt_status |= VIRTIO_INTERRUPT_USED;
    virtio_mmio_update_line(mmio);
}

static void virtio_mmio_config_interrupt(void *transport)
{
    struct virtio_mmio *mmio = transport;

    mmio->state.interrupt_status |= VIRTIO_INTERRUPT_CONFIG;
    virtio_mmio_update_line(mmio);
}

static void virtio_mmio_reset(void *transport)
{
    struct virtio_mmio *mmio = transport;

    mmio->state = (struct virtio_mmio_state){ 0 };
    virtio_mmio_update_line(mmio);
}

static int virtio_mmio_watch_queue(void *transport, struct io_thread *io, unsigned queue)
{
    struct virtio_mmio *mmio = transport;

    return io_thread_watch(io, mmio->region.base + VIRTIO_MMIO_QUEUE_NOTIFY, queue,
                           virtio_device_thread_notified, mmio->device);
}

static const struct virtio_transport virtio_mmio_transport = {
    .queue_interrupt = virtio_mmio_queue_interrupt,
    .config_interrupt = virtio_mmio_config_interrupt,
    .reset = virtio_mmio_reset,
    .watch_queue = virtio_mmio_watch_queue,
};

/* ---- Registers (4.2.2) -------------------------------------------------------------------- */

static uint32_t virtio_mmio_read_register(struct virtio_mmio *mmio, uint64_t offset)
{
    const struct virtio_mmio_state *state = &mmio->state;
    struct virtio_device *device = mmio->device;
    const struct virtqueue *queue = virtio_device_queue(device, state->queue_sel);

    switch (offset) {
    case VIRTIO_MMIO_MAGIC_VALUE: return MAGIC_VALUE;
    case VIRTIO_MMIO_VERSION: return VERSION_VALUE;
    case VIRTIO_MMIO_DEVICE_ID: return device->class->device_id;
    case VIRTIO_MMIO_VENDOR_ID: return VENDOR_VALUE;
    case VIRTIO_MMIO_DEVICE_FEATURES:
        return state->device_features_sel < 2
                   ? (uint32_t)(virtio_device_features(device) >> 32 * state->device_features_sel)
                   : 0;
    case VIRTIO_MMIO_QUEUE_NUM_MAX: return queue ? queue->size_max : 0;
    case VIRTIO_MMIO_QUEUE_READY: return queue && queue->state.ready;
    case VIRTIO_MMIO_INTERRUPT_STATUS: return state->interrupt_status;
    case VIRTIO_MMIO_STATUS: return device->state.status;
    /* 4.2.2.1: a shared memory region that does not exist has length and base -1. */
    case VIRTIO_MMIO_SHM_LEN_LOW:
    case VIRTIO_MMIO_SHM_LEN_HIGH:
    case VIRTIO_MMIO_SHM_BASE_LOW:
    case VIRTIO_MMIO_SHM_BASE_HIGH: return ~0u;
    case VIRTIO_MMIO_QUEUE_RESET: return 0; /* RING_RESET is not offered */
    case VIRTIO_MMIO_CONFIG_GENERATION: return device->state.config_generation;
    default: virtio_device_bad_access(device); return 0;
    }
}

static void virtio_mmio_write_features(struct virtio_mmio *mmio, uint32_t value)
{
    uint64_t features = mmio->device->state.driver_features;
    unsigned shift = 32 * (mmio->state.driver_features_sel & 1);

    /* Bits from 64 on: there are none. */
    if (mmio->state.driver_features_sel > 1) {
        if (value || mmio->device->state.status & VIRTIO_FEATURES_OK)
            virtio_device_bad_access(mmio->device);
        return;
    }
    features = (features & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
    virtio_device_set_driver_features(mmio->device, features);
}

static void virtio_mmio_write_size(struct virtio_mmio *mmio, uint32_t value)
{
    struct virtqueue *queue = virtio_device_queue_to_configure(mmio->device, mmio->state.queue_sel);

    /* A size that cannot be fails in virtqueue_enable, where the driver sees it. */
    if (queue)
        queue->state.size = value <= queue->size_max ? (uint16_t)value : 0;
}

/* One half of an address of the selected queue. */
static void virtio_mmio_write_address(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtqueue *queue = virtio_device_queue_to_configure(mmio->device, mmio->state.queue_sel);
    uint64_t *address;

    if (!queue)
        return;
    switch (offset & ~4ull) {
    case VIRTIO_MMIO_QUEUE_DESC_LOW: address = &queue->state.descriptors; break;
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW: address = &queue->state.driver; break;
    default: address = &queue->state.device; break;
    }
    if (offset & 4)
        *address = (uint32_t)*address | (uint64_t)value << 32;
    else
        *address = (*address & ~0xffffffffull) | value;
}

static void virtio_mmio_write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
    struct virtio_mmio_state *state = &mmio->state;
    struct virtio_device *device = mmio->device;

    switch (offset) {
    case VIRTIO_MMIO_DEVICE_FEATURES_SEL: state->device_features_sel = value; break;
    case VIRTIO_MMIO_DRIVER_FEATURES: virtio_mmio_write_features(mmio, value); break;
    case VIRTIO_MMIO_DRIVER_FEATURES_SEL: state->driver_features_sel = value; break;
    case VIRTIO_MMIO_QUEUE_SEL: state->queue_sel = value; break;
    case VIRTIO_MMIO_QUEUE_NUM: virtio_mmio_write_size(mmio, value); break;
    case VIRTIO_MMIO_QUEUE_READY:
        virtio_device_set_queue_ready(device, state->queue_sel, value);
        break;
    case VIRTIO_MMIO_QUEUE_NOTIFY: virtio_device_notify(device, value); break;
    case VIRTIO_MMIO_INTERRUPT_ACK:
        state->interrupt_status &= ~value;
        virtio_mmio_update_line(mmio);
        break;
    case VIRTIO_MMIO_STATUS: virtio_device_write_status(device, value); break;
    case VIRTIO_MMIO_QUEUE_DESC_LOW:
    case VIRTIO_MMIO_QUEUE_DESC_HIGH:
    case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
    case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
    case VIRTIO_MMIO_QUEUE_USED_LOW:
    case VIRTIO_MMIO_QUEUE_USED_HIGH: virtio_mmio_write_address(mmio, offset, value); break;
    case VIRTIO_MMIO_SHM_SEL: break;     /* there are no shared memory regions */
    case VIRTIO_MMIO_QUEUE_RESET: break; /* RING_RESET is not offered */
    default: virtio_device_bad_access(device); break;
    }
}

/* ---- Bus ------------------------------------------------------------------------------------ */

/* 4.2.2.2: registers take aligned accesses of 32 bits; anything else reads 0, writes nothing. */
static bool virtio_mmio_is_register(uint64_t offset, unsigned size)
{
    return offset < VIRTIO_MMIO_CONFIG && size == 4 && offset % 4 == 0;
}

static uint64_t virtio_mmio_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct virtio_mmio *mmio = owner;
    uint64_t value = 0;

    (void)vcpu;
    dma_lock(mmio->device->dma);
    if (virtio_mmio_is_register(offset, size))
        value = virtio_mmio_read_register(mmio, offset);
    else if (offset >= VIRTIO_MMIO_CONFIG)
        value = virtio_device_read_config(mmio->device, offset - VIRTIO_MMIO_CONFIG, size);
    else
        virtio_device_bad_access(mmio->device);
    dma_unlock(mmio->device->dma);
    return value;
}

/* NULL: tests. */
static struct vm_thread *virtio_mmio_thread(struct vcpu *vcpu)
{
    return vcpu ? &vcpu->thread : NULL;
}

static void virtio_mmio_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                              uint64_t value)
{
    struct virtio_mmio *mmio = owner;
    struct virtio_device *device = mmio->device;

    if (offset == VIRTIO_MMIO_QUEUE_NOTIFY)
        virtio_device_before_notify(device, virtio_mmio_thread(vcpu));
    dma_lock(device->dma);
    if (device->resetting) /* by another vCPU */
        virtio_device_bad_access(device);
    else if (virtio_mmio_is_register(offset, size))
        virtio_mmio_write_register(mmio, offset, (uint32_t)value);
    else if (offset >= VIRTIO_MMIO_CONFIG)
        virtio_device_write_config(device, offset - VIRTIO_MMIO_CONFIG, size, value);
    else
        virtio_device_bad_access(device);
    dma_unlock(device->dma);
}

static void virtio_mmio_after_write(void *owner, struct vcpu *vcpu)
{
    struct virtio_mmio *mmio = owner;

    virtio_device_after_write(mmio->device, virtio_mmio_thread(vcpu));
}

int virtio_mmio_create(struct virtio_mmio *mmio, struct virtio_device *device, struct vm *vm,
                       uint64_t base, unsigned gsi)
{
    *mmio = (struct virtio_mmio){
        .device = device,
        .irq = { .vm = vm, .gsi = gsi },
        .region = { .base = base,
                    .len = VIRTIO_MMIO_BYTES,
                    .owner = mmio,
                    .read = virtio_mmio_read,
                    .write = virtio_mmio_write,
                    .after_write = virtio_mmio_after_write },
    };
    virtio_device_attach(device, &virtio_mmio_transport, mmio);
    return vm ? bus_add(&vm->mmio, &mmio->region) : 0;
}

void virtio_mmio_restore(struct virtio_mmio *mmio, const struct virtio_mmio_state *state)
{
    mmio->state = *state;
    virtio_mmio_update_line(mmio);
}
