#include "devices/virtio/iommu.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_iommu.h>
#include <stddef.h>
#include <string.h>

#define QUEUE_MAX    256
#define TAIL_BYTES   sizeof(struct virtio_iommu_req_tail)
#define PROBE_BYTES  (IOMMU_RESERVED_MAX * sizeof(struct virtio_iommu_probe_resv_mem))
#define ANSWER_BYTES (PROBE_BYTES + TAIL_BYTES)

/* Requests, or events, until others get their turn: each may wait for other devices. */
#define BATCH 32

union request {
    struct virtio_iommu_req_head head;
    struct virtio_iommu_req_attach attach;
    struct virtio_iommu_req_detach detach;
    struct virtio_iommu_req_map map;
    struct virtio_iommu_req_unmap unmap;
    struct virtio_iommu_req_probe probe;
};

/* 5.13.6: what went wrong, in the device's words. */
static uint8_t status_of(int err)
{
    switch (err) {
    case 0: return VIRTIO_IOMMU_S_OK;
    case -EINVAL: return VIRTIO_IOMMU_S_INVAL;
    case -ERANGE: return VIRTIO_IOMMU_S_RANGE;
    case -ENOENT: return VIRTIO_IOMMU_S_NOENT;
    case -EFAULT: return VIRTIO_IOMMU_S_FAULT;
    case -ENOMEM:
    case -ENOSPC: return VIRTIO_IOMMU_S_NOMEM;
    case -EOPNOTSUPP: return VIRTIO_IOMMU_S_UNSUPP;
    default: return VIRTIO_IOMMU_S_DEVERR;
    }
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
    while (len && !bytes[len - 1])
        len--;
    return !len;
}

/* 5.13.6.1, 5.13.6.4.1, 5.13.6.7.1: a driver leaves zero what the device ignores. */
static bool careless(const union request *request)
{
    return !all_zero(request->head.reserved, sizeof(request->head.reserved)) ||
           (request->head.type == VIRTIO_IOMMU_T_DETACH &&
            !all_zero(request->detach.reserved, sizeof(request->detach.reserved))) ||
           (request->head.type == VIRTIO_IOMMU_T_PROBE &&
            !all_zero(request->probe.reserved, sizeof(request->probe.reserved)));
}

/* 5.13.6.3. The BYPASS flag means something only to a driver that negotiated it. */
static int attach(struct virtio_iommu *device, const union request *request, uint8_t *properties)
{
    const struct virtio_iommu_req_attach *req = &request->attach;
    uint32_t known = 0;

    (void)properties;
    if (virtio_has(&device->mmio, VIRTIO_IOMMU_F_BYPASS_CONFIG))
        known |= VIRTIO_IOMMU_ATTACH_F_BYPASS;
    if (!all_zero(req->reserved, sizeof(req->reserved)) || req->flags & ~known)
        return -EINVAL;
    return iommu_attach(device->iommu, req->endpoint, req->domain,
                        req->flags & VIRTIO_IOMMU_ATTACH_F_BYPASS);
}

/* 5.13.6.4: reserved bytes are not looked at. */
static int detach(struct virtio_iommu *device, const union request *request, uint8_t *properties)
{
    (void)properties;
    return iommu_detach(device->iommu, request->detach.endpoint, request->detach.domain);
}

/* 5.13.6.5 */
static int map(struct virtio_iommu *device, const union request *request, uint8_t *properties)
{
    const struct virtio_iommu_req_map *req = &request->map;
    uint32_t known = VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE;

    (void)properties;
    if (virtio_has(&device->mmio, VIRTIO_IOMMU_F_MMIO))
        known |= VIRTIO_IOMMU_MAP_F_MMIO;
    if (req->flags & ~known)
        return -EINVAL;
    return iommu_map(device->iommu, req->domain, req->virt_start, req->virt_end, req->phys_start,
                     req->flags);
}

/* 5.13.6.6. What the reserved bytes may mean one day must not be guessed at today. */
static int unmap(struct virtio_iommu *device, const union request *request, uint8_t *properties)
{
    const struct virtio_iommu_req_unmap *req = &request->unmap;

    (void)properties;
    if (!all_zero(req->reserved, sizeof(req->reserved)))
        return -EINVAL;
    return iommu_unmap(device->iommu, req->domain, req->virt_start, req->virt_end);
}

/* 5.13.6.7, 5.13.6.8: one RESV_MEM property for each reserved region, zeroes after the last. */
static int probe(struct virtio_iommu *device, const union request *request, uint8_t *properties)
{
    struct iommu_reserved reserved[IOMMU_RESERVED_MAX];
    int n = iommu_reserved(device->iommu, request->probe.endpoint, reserved);

    for (int i = 0; i < n; i++) {
        struct virtio_iommu_probe_resv_mem property = {
            .head = { .type = VIRTIO_IOMMU_PROBE_T_RESV_MEM,
                      .length = sizeof(property) - sizeof(property.head) },
            .subtype = reserved[i].kind == IOMMU_RESERVED_MSI ? VIRTIO_IOMMU_RESV_MEM_T_MSI
                                                              : VIRTIO_IOMMU_RESV_MEM_T_RESERVED,
            .start = reserved[i].range.first,
            .end = reserved[i].range.last,
        };

        memcpy(properties + (size_t)i * sizeof(property), &property, sizeof(property));
    }
    return n < 0 ? n : 0;
}

static const struct {
    size_t readable; /* bytes of a request up to its writable part */
    size_t properties;
    unsigned feature; /* without it the request is not available */
    int (*perform)(struct virtio_iommu *device, const union request *request, uint8_t *properties);
} requests[] = {
    [VIRTIO_IOMMU_T_ATTACH] = { .readable = offsetof(struct virtio_iommu_req_attach, tail),
                                .feature = VIRTIO_F_VERSION_1,
                                .perform = attach },
    [VIRTIO_IOMMU_T_DETACH] = { .readable = offsetof(struct virtio_iommu_req_detach, tail),
                                .feature = VIRTIO_F_VERSION_1,
                                .perform = detach },
    [VIRTIO_IOMMU_T_MAP] = { .readable = offsetof(struct virtio_iommu_req_map, tail),
                             .feature = VIRTIO_IOMMU_F_MAP_UNMAP,
                             .perform = map },
    [VIRTIO_IOMMU_T_UNMAP] = { .readable = offsetof(struct virtio_iommu_req_unmap, tail),
                               .feature = VIRTIO_IOMMU_F_MAP_UNMAP,
                               .perform = unmap },
    [VIRTIO_IOMMU_T_PROBE] = { .readable = sizeof(struct virtio_iommu_req_probe),
                               .properties = PROBE_BYTES,
                               .feature = VIRTIO_IOMMU_F_PROBE,
                               .perform = probe },
};

#define REQUEST_TYPES (sizeof(requests) / sizeof(requests[0]))

/*
 * Performs the request of device->chain, whatever its framing (2.7.4.1). The number of
 * bytes written; -EFAULT: the chain points to where no memory is.
 *
 * The status comes after the properties. Of a PROBE too short for all of them it is in
 * the last bytes there are, and no property is written (5.13.6.7). Where even a status has
 * no room, and for a type nobody knows, nothing is written (5.13.6).
 */
static int64_t answer(struct virtio_iommu *device, struct virtqueue *queue)
{
    const struct virtqueue_chain *chain = &device->chain;
    struct virtio_iommu_req_tail tail = { 0 };
    union request request;
    uint8_t bytes[ANSWER_BYTES];
    size_t len, room;
    int err;

    len = chain->readable_bytes < sizeof(request) ? chain->readable_bytes : sizeof(request);
    if (virtqueue_read(queue, chain, 0, &request, len) != (int64_t)len)
        return -EFAULT;
    if (len < sizeof(request.head) || chain->writable_bytes < TAIL_BYTES ||
        request.head.type >= REQUEST_TYPES || !requests[request.head.type].perform) {
        device->counts.unanswered++;
        return 0;
    }
    room = requests[request.head.type].properties;
    if (room > chain->writable_bytes - TAIL_BYTES)
        room = chain->writable_bytes - TAIL_BYTES;
    if (room)
        memset(bytes, 0, room);
    if (!virtio_has(&device->mmio, requests[request.head.type].feature)) {
        err = -EOPNOTSUPP;
    } else if (len < requests[request.head.type].readable ||
               room < requests[request.head.type].properties) {
        err = -EINVAL;
    } else {
        device->counts.careless += careless(&request);
        err = requests[request.head.type].perform(device, &request, bytes);
    }
    tail.status = status_of(err);
    memcpy(bytes + room, &tail, TAIL_BYTES);
    device->counts.answered[tail.status]++;
    if (virtqueue_write(queue, chain, 0, bytes, room + TAIL_BYTES) != (int64_t)(room + TAIL_BYTES))
        return -EFAULT;
    return (int64_t)(room + TAIL_BYTES);
}

static void break_queue(struct virtio_iommu *device, const struct virtqueue *queue,
                        const char *otherwise)
{
    virtio_broken(&device->mmio, queue->broken ? queue->broken : otherwise);
}

/* Hands back what was answered, all at once: a driver waits for the last in any case. */
static void hand_back(struct virtio_iommu *device, const struct virtqueue_used *used,
                      unsigned count)
{
    struct virtqueue *queue = &device->mmio.queues[VIRTIO_IOMMU_REQUESTS];

    if (!count)
        return;
    if (virtqueue_push_all(queue, used, (uint16_t)count) < 0)
        break_queue(device, queue, "used ring of requests");
    else
        virtio_used(&device->mmio, VIRTIO_IOMMU_REQUESTS);
}

static void serve(struct virtio_iommu *device)
{
    struct virtqueue *queue = &device->mmio.queues[VIRTIO_IOMMU_REQUESTS];
    struct virtqueue_used used[BATCH];
    const char *broken = NULL;
    unsigned n = 0;

    while (n < BATCH) {
        int more = virtqueue_pop(queue, &device->chain);
        int64_t written;

        if (more < 0)
            broken = "request queue";
        if (more <= 0)
            break;
        written = answer(device, queue);
        if (written < 0) {
            broken = "a request outside of memory";
            break;
        }
        used[n++] = (struct virtqueue_used){ device->chain.head, (uint32_t)written };
    }
    hand_back(device, used, n);
    if (broken)
        break_queue(device, queue, broken);
    else if (n == BATCH)
        virtio_again(&device->mmio, VIRTIO_IOMMU_REQUESTS);
}

/*
 * 5.13.6.9: hands over fault records as long as there are buffers; the rest stay with the
 * IOMMU, which keeps some and counts those it drops. A buffer too short for a record goes
 * back empty.
 */
static void deliver(struct virtio_iommu *device)
{
    struct virtqueue *queue = &device->mmio.queues[VIRTIO_IOMMU_EVENTS];

    for (unsigned n = 0; n < BATCH; n++) {
        struct virtio_iommu_fault record;
        uint32_t written = 0;
        int more;

        if (!device->has_fault)
            device->has_fault = iommu_next_fault(device->iommu, &device->fault);
        if (!device->has_fault)
            return;
        more = virtqueue_pop(queue, &device->chain);
        if (more < 0)
            break_queue(device, queue, "event queue");
        if (more <= 0)
            return;
        if (device->chain.writable_bytes < sizeof(record)) {
            device->counts.short_buffers++;
        } else {
            /* READ and WRITE of an access are numbered as those of a record. */
            record = (struct virtio_iommu_fault){
                .reason = (uint8_t)device->fault.reason,
                .flags = device->fault.access | VIRTIO_IOMMU_FAULT_F_ADDRESS,
                .endpoint = device->fault.endpoint,
                .address = device->fault.iova,
            };
            written = sizeof(record);
            if (virtqueue_write(queue, &device->chain, 0, &record, written) != written) {
                break_queue(device, queue, "an event buffer outside of memory");
                return;
            }
            device->has_fault = false;
            device->counts.events++;
        }
        if (virtqueue_push(queue, device->chain.head, written) < 0) {
            break_queue(device, queue, "used ring of events");
            return;
        }
        virtio_used(&device->mmio, VIRTIO_IOMMU_EVENTS);
    }
    virtio_again(&device->mmio, VIRTIO_IOMMU_EVENTS);
}

/*
 * Delivers what is due if the lock is free; if it is not, its holder comes by here when
 * it has given it up. The fences pair with each other: either this thread sees the lock
 * free, or the holder sees events_due.
 */
static void look(void *owner)
{
    struct virtio_iommu *device = owner;
    struct dma *dma = device->mmio.dma;

    for (;;) {
        atomic_thread_fence(memory_order_seq_cst);
        if (!atomic_load(&device->events_due) || !dma_trylock(dma))
            return;
        atomic_store(&device->events_due, false);
        if (device->mmio.state.status & VIRTIO_DRIVER_OK)
            deliver(device);
        /* Not dma_unlock, which would come by here again, one call deeper each time. */
        pthread_mutex_unlock(&dma->lock);
    }
}

static void wake(void *owner)
{
    struct virtio_iommu *device = owner;

    atomic_store(&device->events_due, true);
    look(device);
}

static void notify(void *owner, unsigned queue)
{
    if (queue == VIRTIO_IOMMU_REQUESTS)
        serve(owner);
    else
        deliver(owner);
}

/*
 * Requests may be looked for at any time (2.7.13: a notification is a hint). This one
 * saves the guest the notification, an exit, for what it maps and at once hands to a device.
 */
static void settle(void *owner, struct vm_thread *self)
{
    struct virtio_iommu *device = owner;

    virtio_poll(&device->mmio, self, VIRTIO_IOMMU_REQUESTS);
}

static void start(void *owner, uint64_t features)
{
    (void)features;
    deliver(owner);
}

/* 5.13.5: nothing is attached any more; `bypass` stays as it was (5.13.4.2). */
static void reset(void *owner)
{
    struct virtio_iommu *device = owner;

    device->has_fault = false;
    iommu_reset(device->iommu, false);
}

static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    const struct virtio_iommu *device = owner;
    const struct iommu_config *unit = iommu_config(device->iommu);
    const struct virtio_iommu_config config = {
        .page_size_mask = unit->page_size_mask,
        .input_range = { .start = unit->input.first, .end = unit->input.last },
        .domain_range = { .start = (uint32_t)unit->domains.first,
                          .end = (uint32_t)unit->domains.last },
        .probe_size = PROBE_BYTES,
        .bypass = iommu_bypass(device->iommu),
    };
    uint64_t value = 0;

    memcpy(&value, (const uint8_t *)&config + offset, size);
    return value;
}

/* 5.13.4: only `bypass`, by one byte as 4.2.2.2 has it, and only to 0 or 1. */
static void config_write(void *owner, uint32_t offset, unsigned size, uint64_t value)
{
    struct virtio_iommu *device = owner;

    if (offset != offsetof(struct virtio_iommu_config, bypass) || size != 1 || value > 1 ||
        !virtio_has(&device->mmio, VIRTIO_IOMMU_F_BYPASS_CONFIG)) {
        device->mmio.bad_accesses++;
        return;
    }
    iommu_set_bypass(device->iommu, value);
}

/*
 * F_BYPASS is superseded by F_BYPASS_CONFIG, and new devices do not offer both (5.13.3):
 * a driver that knows neither finds an unattached endpoint denied.
 */
static const struct virtio_class class = {
    .name = "virtio-iommu",
    .device_id = VIRTIO_ID_IOMMU,
    .features = 1u << VIRTIO_IOMMU_F_INPUT_RANGE | 1u << VIRTIO_IOMMU_F_DOMAIN_RANGE |
                1u << VIRTIO_IOMMU_F_MAP_UNMAP | 1u << VIRTIO_IOMMU_F_PROBE |
                1u << VIRTIO_IOMMU_F_MMIO | 1u << VIRTIO_IOMMU_F_BYPASS_CONFIG,
    .nqueues = 2,
    .queue_max = QUEUE_MAX,
    .config_bytes = sizeof(struct virtio_iommu_config),
    .notify = notify,
    .reset = reset,
    .start = start,
    .config_read = config_read,
    .config_write = config_write,
};

int virtio_iommu_create(struct virtio_iommu *device, struct vm *vm, struct iommu *iommu,
                        struct dma *dma, uint64_t base, unsigned gsi)
{
    int err;

    *device = (struct virtio_iommu){ .iommu = iommu };
    err = virtio_mmio_create(&device->mmio, &class, device, vm, dma, base, gsi);
    if (err)
        return err;
    dma->unlocked = look;
    dma->unlocked_owner = device;
    iommu_on_fault(iommu, wake, device);
    iommu_on_settle(iommu, settle, device);
    return 0;
}

void virtio_iommu_destroy(struct virtio_iommu *device)
{
    iommu_on_fault(device->iommu, NULL, NULL);
    iommu_on_settle(device->iommu, NULL, NULL);
    device->mmio.dma->unlocked = NULL;
}

void virtio_iommu_count(struct virtio_iommu *device, struct virtio_iommu_counts *counts)
{
    dma_lock(device->mmio.dma);
    *counts = device->counts;
    dma_unlock(device->mmio.dma);
}
