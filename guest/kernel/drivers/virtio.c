#include "guest/kernel/drivers/virtio.h"

#include "guest/abi/dma.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/frame.h"

/* Registers (virtio 1.2, 4.2.2). */
#define MAGIC_VALUE         0x000
#define VERSION             0x004
#define DEVICE_ID           0x008
#define DEVICE_FEATURES     0x010
#define DEVICE_FEATURES_SEL 0x014
#define DRIVER_FEATURES     0x020
#define DRIVER_FEATURES_SEL 0x024
#define QUEUE_SEL           0x030
#define QUEUE_NUM_MAX       0x034
#define QUEUE_NUM           0x038
#define QUEUE_READY         0x044
#define QUEUE_NOTIFY        0x050
#define INTERRUPT_STATUS    0x060
#define INTERRUPT_ACK       0x064
#define STATUS              0x070
#define QUEUE_DESC          0x080
#define QUEUE_DRIVER        0x090
#define QUEUE_DEVICE        0x0a0
#define CONFIG_GENERATION   0x0fc
#define MAGIC               0x74726976

#define STATUS_ACKNOWLEDGE  1u
#define STATUS_DRIVER       2u
#define STATUS_DRIVER_OK    4u
#define STATUS_FEATURES_OK  8u
#define STATUS_NEEDS_RESET  64u
#define STATUS_FAILED       128u

#define RESET_MS            2000

/* Bit 0 of a ring's flags, without event indices (2.7.6, 2.7.8): no notifications. */
#define QUIET 1

/* ---- Transport ------------------------------------------------------------ */

uint32_t virtio_identify(const struct device *device)
{
    if (device_read32(device, MAGIC_VALUE) != MAGIC || device_read32(device, VERSION) != 2)
        return 0;
    return device_read32(device, DEVICE_ID);
}

void virtio_reset(struct device *device)
{
    uint64_t limit = rdtsc() + device_ticks(RESET_MS * 1000);

    device_write32(device, STATUS, 0);
    /* 4.2.3.1: it is done when it reads 0. */
    while (device_read32(device, STATUS) != 0) {
        if (rdtsc() > limit) {
            device->errors++;
            return;
        }
        host_yield();
    }
}

static uint64_t offered(struct device *device)
{
    uint64_t low;

    device_write32(device, DEVICE_FEATURES_SEL, 0);
    low = device_read32(device, DEVICE_FEATURES);
    device_write32(device, DEVICE_FEATURES_SEL, 1);
    return (uint64_t)device_read32(device, DEVICE_FEATURES) << 32 | low;
}

int virtio_negotiate(struct device *device, uint64_t wanted, uint64_t *features)
{
    const uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    uint64_t need = VIRTIO_F_VERSION_1, have;

    /* 3.1.1, in its order. */
    virtio_reset(device);
    device_write32(device, STATUS, STATUS_ACKNOWLEDGE);
    device_write32(device, STATUS, status);
    have = offered(device);
    if (device->mode != ABI_DMA_OFF)
        need |= VIRTIO_F_ACCESS_PLATFORM;
    *features = have & (wanted | VIRTIO_F_VERSION_1 | VIRTIO_F_ACCESS_PLATFORM);
    if ((*features & need) == need) {
        device_write32(device, DRIVER_FEATURES_SEL, 0);
        device_write32(device, DRIVER_FEATURES, (uint32_t)*features);
        device_write32(device, DRIVER_FEATURES_SEL, 1);
        device_write32(device, DRIVER_FEATURES, (uint32_t)(*features >> 32));
        device_write32(device, STATUS, status | STATUS_FEATURES_OK);
        if (device_read32(device, STATUS) & STATUS_FEATURES_OK)
            return 0;
    }
    device_write32(device, STATUS, status | STATUS_FAILED);
    return -ABI_ENODEV;
}

void virtio_ready(struct device *device)
{
    device_write32(device, STATUS,
                   STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

uint32_t virtio_why(struct device *device)
{
    uint32_t why = device_read32(device, INTERRUPT_STATUS);

    if (why)
        device_write32(device, INTERRUPT_ACK, why);
    return why;
}

bool virtio_is_broken(struct device *device)
{
    return device_read32(device, STATUS) & STATUS_NEEDS_RESET;
}

uint64_t virtio_config(const struct device *device, uint32_t offset, unsigned bytes)
{
    uint32_t before, tries = 0;
    uint64_t value;

    if (bytes <= 4)
        return device_read(device, VIRTIO_CONFIG + offset, bytes);
    /* 4.2.2.2: 64-bit fields in two halves; 2.5.1: again if they changed meanwhile. */
    do {
        before = device_read32(device, CONFIG_GENERATION);
        value = device_read32(device, VIRTIO_CONFIG + offset + 4);
        value = value << 32 | device_read32(device, VIRTIO_CONFIG + offset);
    } while (device_read32(device, CONFIG_GENERATION) != before && ++tries < 16);
    return value;
}

/* ---- Queues --------------------------------------------------------------- */

static void write64(struct device *device, uint32_t at, uint64_t value)
{
    device_write32(device, at, (uint32_t)value);
    device_write32(device, at + 4, (uint32_t)(value >> 32));
}

/* Places on the ring pages, for any size up to the maximum. */
#define AVAILABLE_AT (VIRTQ_SIZE_MAX * sizeof(struct virtq_descriptor))

static volatile uint16_t *used_event(struct virtq *q)
{
    return &q->available[2 + q->size];
}

static volatile uint16_t *available_event(struct virtq *q)
{
    return &q->used[2 + q->size * sizeof(struct virtq_used_element) / sizeof(uint16_t)];
}

static volatile struct virtq_used_element *used_ring(struct virtq *q)
{
    return (volatile struct virtq_used_element *)&q->used[2];
}

int virtq_setup(struct virtq *q, struct device *device, uint16_t number, uint16_t size,
                uint64_t features)
{
    uint32_t max;

    if (!q->descriptors) {
        char *page = dma_alloc_page(device, DMA_READ, &q->read_page);
        uint16_t *used = page ? dma_alloc_page(device, DMA_WRITE, &q->write_page) : NULL;

        if (!used)
            return -ABI_ENOMEM;
        q->descriptors = (volatile struct virtq_descriptor *)page;
        q->available = (volatile uint16_t *)(page + AVAILABLE_AT);
        q->used = used;
    }
    device_write32(device, QUEUE_SEL, number);
    max = device_read32(device, QUEUE_NUM_MAX);
    if (size > VIRTQ_SIZE_MAX)
        size = VIRTQ_SIZE_MAX;
    while (size > max)
        size /= 2;
    if (!size || device_read32(device, QUEUE_READY))
        return -ABI_ENODEV;
    q->device = device;
    q->number = number;
    q->size = size;
    q->event_index = features & VIRTIO_F_EVENT_IDX;
    q->available_index = q->kicked_index = q->used_index = q->under_way = 0;
    q->nfree = size;
    for (uint16_t i = 0; i < size; i++) {
        q->free[i] = i;
        q->request[i].token = NULL;
    }
    q->available[0] = q->available[1] = *used_event(q) = 0;
    q->used[0] = q->used[1] = *available_event(q) = 0;
    device_write32(device, QUEUE_NUM, size);
    write64(device, QUEUE_DESC, q->read_page);
    write64(device, QUEUE_DRIVER, q->read_page + AVAILABLE_AT);
    write64(device, QUEUE_DEVICE, q->write_page);
    device_write32(device, QUEUE_READY, 1);
    return 0;
}

int virtq_add(struct virtq *q, uint64_t address, uint32_t bytes, uint16_t flags, uint32_t writable,
              void *token)
{
    uint16_t id;

    if (!q->nfree)
        return -ABI_EBUSY;
    id = q->free[--q->nfree];
    q->request[id] = (struct virtq_request){ .token = token, .writable = writable };
    q->descriptors[id].address = address;
    q->descriptors[id].bytes = bytes;
    q->descriptors[id].flags = flags;
    q->available[2 + q->available_index % q->size] = id;
    q->available_index++;
    q->under_way++;
    return 0;
}

bool virtq_will_notify(struct virtq *q)
{
    return q->event_index ? *available_event(q) == q->kicked_index : !(q->used[0] & QUIET);
}

void virtq_kick(struct virtq *q)
{
    uint16_t before = q->kicked_index, now = q->available_index;
    bool notify;

    if (before == now)
        return;
    /* Pairs with the device's read of the index: descriptors are seen before it (2.7.13.3). */
    __atomic_store_n(&q->available[1], now, __ATOMIC_RELEASE);
    /* The index is seen before we look whether to notify (2.7.13.4). */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (q->event_index)
        notify = (uint16_t)(now - *available_event(q) - 1) < (uint16_t)(now - before);
    else
        notify = !(q->used[0] & QUIET);
    q->kicked_index = now;
    if (notify)
        device_write32(q->device, QUEUE_NOTIFY, q->number);
}

static void give_back(struct virtq *q, uint16_t id)
{
    q->request[id].token = NULL;
    q->free[q->nfree++] = id;
    q->under_way--;
}

int virtq_pop(struct virtq *q, void **token, uint32_t *bytes)
{
    /* Pairs with the device's release of the index: elements are seen after it. */
    uint16_t there = __atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE) - q->used_index;
    volatile struct virtq_used_element *element = &used_ring(q)[q->used_index % q->size];
    uint32_t id, written;

    if (!there)
        return 0;
    /* Each is read once: the device may write there at any time. */
    id = element->id;
    written = element->bytes;
    if (there > q->under_way || id >= q->size || !q->request[id].token ||
        written > q->request[id].writable)
        return -ABI_EPROTO;
    *token = q->request[id].token;
    *bytes = written;
    q->used_index++;
    give_back(q, (uint16_t)id);
    return 1;
}

bool virtq_arm(struct virtq *q)
{
    if (q->event_index) {
        *used_event(q) = q->used_index;
        /* The device sees this before we look, or we see what it did (2.7.7.1). */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    return q->used[1] == q->used_index;
}

void virtq_quiet(struct virtq *q)
{
    q->available[0] = QUIET;
}

void *virtq_take_back(struct virtq *q)
{
    for (uint16_t id = 0; id < q->size; id++) {
        void *token = q->request[id].token;

        if (!token)
            continue;
        give_back(q, id);
        return token;
    }
    return NULL;
}
