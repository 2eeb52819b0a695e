#include "devices/virtio/iommu.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_iommu.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/device.h"

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

/* 5.13.6.9: why an access was refused, in the device's words. */
static uint8_t reason_of(enum iommu_fault_code code)
{
    switch (code) {
    case IOMMU_FAULT_NO_DOMAIN:
    case IOMMU_FAULT_REQUESTER: return VIRTIO_IOMMU_FAULT_R_DOMAIN;
    case IOMMU_FAULT_ADDRESS_WIDTH:
    case IOMMU_FAULT_NOT_MAPPED:
    case IOMMU_FAULT_PERMISSION:
    case IOMMU_FAULT_TARGET:
    case IOMMU_FAULT_MESSAGE: return VIRTIO_IOMMU_FAULT_R_MAPPING;
    default: return VIRTIO_IOMMU_FAULT_R_UNKNOWN;
    }
}

/* 5.13.6.5, 5.13.6.9: flags of a mapping and what it allows, flags of a fault and the access. */
static uint32_t prot_of(uint32_t flags)
{
    return (flags & VIRTIO_IOMMU_MAP_F_READ ? IOMMU_READ : 0) |
           (flags & VIRTIO_IOMMU_MAP_F_WRITE ? IOMMU_WRITE : 0) |
           (flags & VIRTIO_IOMMU_MAP_F_MMIO ? IOMMU_MMIO : 0);
}

static uint32_t fault_flags_of(uint32_t access)
{
    return (access & IOMMU_READ ? VIRTIO_IOMMU_FAULT_F_READ : 0) |
           (access & IOMMU_WRITE ? VIRTIO_IOMMU_FAULT_F_WRITE : 0);
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
static int attach(struct virtio_iommu *viommu, const union request *request, uint8_t *properties)
{
    const struct virtio_iommu_req_attach *req = &request->attach;
    uint32_t known = 0;

    (void)properties;
    if (virtio_device_has_feature(&viommu->device, VIRTIO_IOMMU_F_BYPASS_CONFIG))
        known |= VIRTIO_IOMMU_ATTACH_F_BYPASS;
    if (!all_zero(req->reserved, sizeof(req->reserved)) || req->flags & ~known)
        return -EINVAL;
    return iommu_attach(viommu->iommu, req->endpoint, req->domain,
                        req->flags & VIRTIO_IOMMU_ATTACH_F_BYPASS);
}

/* 5.13.6.4: reserved bytes are not looked at. */
static int detach(struct virtio_iommu *viommu, const union request *request, uint8_t *properties)
{
    (void)properties;
    return iommu_detach(viommu->iommu, request->detach.endpoint, request->detach.domain);
}

/* 5.13.6.5 */
static int map(struct virtio_iommu *viommu, const union request *request, uint8_t *properties)
{
    const struct virtio_iommu_req_map *req = &request->map;
    uint32_t known = VIRTIO_IOMMU_MAP_F_READ | VIRTIO_IOMMU_MAP_F_WRITE;

    (void)properties;
    if (virtio_device_has_feature(&viommu->device, VIRTIO_IOMMU_F_MMIO))
        known |= VIRTIO_IOMMU_MAP_F_MMIO;
    if (req->flags & ~known)
        return -EINVAL;
    return iommu_map(viommu->iommu, req->domain, req->virt_start, req->virt_end, req->phys_start,
                     prot_of(req->flags));
}

/* 5.13.6.6. What the reserved bytes may mean one day must not be guessed at today. */
static int unmap(struct virtio_iommu *viommu, const union request *request, uint8_t *properties)
{
    const struct virtio_iommu_req_unmap *req = &request->unmap;

    (void)properties;
    if (!all_zero(req->reserved, sizeof(req->reserved)))
        return -EINVAL;
    return iommu_unmap(viommu->iommu, req->domain, req->virt_start, req->virt_end);
}

/* 5.13.6.7, 5.13.6.8: one RESV_MEM property for each reserved region, zeroes after the last. */
static int probe(struct virtio_iommu *viommu, const union request *request, uint8_t *properties)
{
    struct iommu_reserved reserved[IOMMU_RESERVED_MAX];
    int n = iommu_reserved(viommu->iommu, request->probe.endpoint, reserved);

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
    int (*perform)(struct virtio_iommu *viommu, const union request *request, uint8_t *properties);
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
 * Performs the request of viommu->chain, whatever its framing (2.7.4.1). The number of
 * bytes written; -EFAULT: the chain points to where no memory is.
 *
 * The status comes after the properties. Of a PROBE too short for all of them it is in
 * the last bytes there are, and no property is written (5.13.6.7). Where even a status has
 * no room, and for a type nobody knows, nothing is written (5.13.6).
 */
static int64_t answer(struct virtio_iommu *viommu, struct virtqueue *queue)
{
    const struct virtqueue_chain *chain = &viommu->chain;
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
        viommu->counts.unanswered++;
        return 0;
    }
    room = requests[request.head.type].properties;
    if (room > chain->writable_bytes - TAIL_BYTES)
        room = chain->writable_bytes - TAIL_BYTES;
    if (room)
        memset(bytes, 0, room);
    if (!virtio_device_has_feature(&viommu->device, requests[request.head.type].feature)) {
        err = -EOPNOTSUPP;
    } else if (len < requests[request.head.type].readable ||
               room < requests[request.head.type].properties) {
        err = -EINVAL;
    } else {
        viommu->counts.careless += careless(&request);
        err = requests[request.head.type].perform(viommu, &request, bytes);
    }
    tail.status = status_of(err);
    memcpy(bytes + room, &tail, TAIL_BYTES);
    viommu->counts.answered[tail.status]++;
    if (virtqueue_write(queue, chain, 0, bytes, room + TAIL_BYTES) != (int64_t)(room + TAIL_BYTES))
        return -EFAULT;
    return (int64_t)(room + TAIL_BYTES);
}

static void break_queue(struct virtio_iommu *viommu, const struct virtqueue *queue,
                        const char *otherwise)
{
    virtio_device_set_needs_reset(&viommu->device, queue->broken ? queue->broken : otherwise);
}

/* Hands back what was answered, all at once: a driver waits for the last in any case. */
static void hand_back(struct virtio_iommu *viommu, const struct virtqueue_used *used,
                      unsigned count)
{
    struct virtqueue *queue = &viommu->device.queues[VIRTIO_IOMMU_REQUESTS];

    if (!count)
        return;
    if (virtqueue_push_all(queue, used, (uint16_t)count) < 0)
        break_queue(viommu, queue, "used ring of requests");
    else
        virtio_device_notify_used(&viommu->device, VIRTIO_IOMMU_REQUESTS);
}

static void serve(struct virtio_iommu *viommu)
{
    struct virtqueue *queue = &viommu->device.queues[VIRTIO_IOMMU_REQUESTS];
    struct virtqueue_used used[BATCH];
    const char *broken = NULL;
    unsigned n = 0;

    while (n < BATCH) {
        int more = virtqueue_pop(queue, &viommu->chain);
        int64_t written;

        if (more < 0)
            broken = "request queue";
        if (more <= 0)
            break;
        written = answer(viommu, queue);
        if (written < 0) {
            broken = "a request outside of memory";
            break;
        }
        used[n++] = (struct virtqueue_used){ viommu->chain.head, (uint32_t)written };
    }
    hand_back(viommu, used, n);
    if (broken)
        break_queue(viommu, queue, broken);
    else if (n == BATCH)
        virtio_device_set_pending(&viommu->device, VIRTIO_IOMMU_REQUESTS);
}

/*
 * 5.13.6.9: hands over fault records as long as there are buffers; the rest stay with the
 * IOMMU, which keeps some and counts those it drops. A buffer too short for a record goes
 * back empty.
 */
static void deliver(struct virtio_iommu *viommu)
{
    struct virtqueue *queue = &viommu->device.queues[VIRTIO_IOMMU_EVENTS];

    for (unsigned n = 0; n < BATCH; n++) {
        struct virtio_iommu_fault record;
        uint32_t written = 0;
        int more;

        if (!viommu->state.has_fault)
            viommu->state.has_fault = iommu_next_fault(viommu->iommu, &viommu->state.fault);
        if (!viommu->state.has_fault)
            return;
        more = virtqueue_pop(queue, &viommu->chain);
        if (more < 0)
            break_queue(viommu, queue, "event queue");
        if (more <= 0)
            return;
        if (viommu->chain.writable_bytes < sizeof(record)) {
            viommu->counts.short_buffers++;
        } else {
            record = (struct virtio_iommu_fault){
                .reason = reason_of(viommu->state.fault.code),
                .flags = fault_flags_of(viommu->state.fault.access) | VIRTIO_IOMMU_FAULT_F_ADDRESS,
                .endpoint = viommu->state.fault.endpoint,
                .address = viommu->state.fault.iova,
            };
            written = sizeof(record);
            if (virtqueue_write(queue, &viommu->chain, 0, &record, written) != written) {
                break_queue(viommu, queue, "an event buffer outside of memory");
                return;
            }
            viommu->state.has_fault = false;
            viommu->counts.events++;
        }
        if (virtqueue_push(queue, viommu->chain.head, written) < 0) {
            break_queue(viommu, queue, "used ring of events");
            return;
        }
        virtio_device_notify_used(&viommu->device, VIRTIO_IOMMU_EVENTS);
    }
    virtio_device_set_pending(&viommu->device, VIRTIO_IOMMU_EVENTS);
}

/*
 * Delivers what is due if the lock is free; if it is not, its holder comes by here when
 * it has given it up. The fences pair with each other: either this thread sees the lock
 * free, or the holder sees events_due.
 */
static void look(void *owner)
{
    struct virtio_iommu *viommu = owner;
    struct dma *dma = viommu->device.dma;

    for (;;) {
        atomic_thread_fence(memory_order_seq_cst);
        if (!atomic_load(&viommu->events_due) || !dma_trylock(dma))
            return;
        atomic_store(&viommu->events_due, false);
        if (viommu->device.state.status & VIRTIO_DRIVER_OK)
            deliver(viommu);
        /* Not dma_unlock, which would come by here again, one call deeper each time. */
        pthread_mutex_unlock(&dma->lock);
    }
}

static void wake(void *owner)
{
    struct virtio_iommu *viommu = owner;

    atomic_store(&viommu->events_due, true);
    look(viommu);
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
    struct virtio_iommu *viommu = owner;

    virtio_device_poll(&viommu->device, self, VIRTIO_IOMMU_REQUESTS);
}

static void start(void *owner, uint64_t features)
{
    (void)features;
    deliver(owner);
}

/* 5.13.5: nothing is attached any more; `bypass` stays as it was (5.13.4.2). */
static void reset(void *owner)
{
    struct virtio_iommu *viommu = owner;

    viommu->state.has_fault = false;
    iommu_reset(viommu->iommu, false);
}

static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    const struct virtio_iommu *viommu = owner;
    const struct iommu_config *unit = iommu_config(viommu->iommu);
    const struct virtio_iommu_config config = {
        .page_size_mask = unit->page_size_mask,
        .input_range = { .start = unit->input.first, .end = unit->input.last },
        .domain_range = { .start = (uint32_t)unit->domains.first,
                          .end = (uint32_t)unit->domains.last },
        .probe_size = PROBE_BYTES,
        .bypass = iommu_bypass(viommu->iommu),
    };
    uint64_t value = 0;

    memcpy(&value, (const uint8_t *)&config + offset, size);
    return value;
}

/* 5.13.4: only `bypass`, by one byte as 4.2.2.2 has it, and only to 0 or 1. */
static void config_write(void *owner, uint32_t offset, unsigned size, uint64_t value)
{
    struct virtio_iommu *viommu = owner;

    if (offset != offsetof(struct virtio_iommu_config, bypass) || size != 1 || value > 1 ||
        !virtio_device_has_feature(&viommu->device, VIRTIO_IOMMU_F_BYPASS_CONFIG)) {
        viommu->device.bad_accesses++;
        return;
    }
    iommu_set_bypass(viommu->iommu, value);
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

int virtio_iommu_create(struct virtio_iommu **created, const struct viommu_config *config)
{
    struct virtio_iommu *viommu = calloc(1, sizeof(*viommu));

    if (!viommu)
        return -ENOMEM;
    viommu->iommu = config->iommu;
    virtio_device_init(&viommu->device, &class, viommu, config->dma);
    config->dma->unlocked = look;
    config->dma->unlocked_owner = viommu;
    iommu_on_fault(viommu->iommu, wake, viommu);
    iommu_on_settle(viommu->iommu, settle, viommu);
    *created = viommu;
    return 0;
}

void virtio_iommu_destroy(struct virtio_iommu *viommu)
{
    iommu_on_fault(viommu->iommu, NULL, NULL);
    iommu_on_settle(viommu->iommu, NULL, NULL);
    viommu->device.dma->unlocked = NULL;
    free(viommu);
}

void virtio_iommu_count(struct virtio_iommu *viommu, struct virtio_iommu_counts *counts)
{
    dma_lock(viommu->device.dma);
    *counts = viommu->counts;
    dma_unlock(viommu->device.dma);
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int iommu_device_create(struct device *device, const struct device_config *config,
                               const struct device_place *place)
{
    const struct viommu_config viommu_config = { .dma = place->dma, .iommu = place->iommu };
    struct virtio_iommu *viommu;
    int err = virtio_iommu_create(&viommu, &viommu_config);

    (void)config;
    if (err)
        return err;
    device->model = viommu;
    device->virtio = &viommu->device;
    return 0;
}

static void iommu_device_destroy(void *model)
{
    virtio_iommu_destroy(model);
}

static bool iommu_device_describe(const void *model, struct device_node *node)
{
    (void)model;
    node->is_iommu = true;
    return true;
}

/* What the guest's driver did: `refused` and the two after it mean mistakes. */
static bool iommu_device_stats(void *model, struct device_stats *stats)
{
    struct virtio_iommu_counts counts;
    uint64_t refused = 0;

    virtio_iommu_count(model, &counts);
    for (unsigned i = 1; i < VIRTIO_IOMMU_STATUSES; i++)
        refused += counts.answered[i];
    stats->number(stats, "requests", counts.answered[0]);
    stats->number(stats, "refused", refused);
    stats->number(stats, "unanswered", counts.unanswered);
    stats->number(stats, "careless", counts.careless);
    stats->number(stats, "events", counts.events);
    stats->number(stats, "short_event_buffers", counts.short_buffers);
    return true;
}

const struct device_ops virtio_iommu_ops = {
    .name = "virtio-iommu",
    .stats_name = "driver",
    .untranslated = true,
    .create = iommu_device_create,
    .destroy = iommu_device_destroy,
    .describe = iommu_device_describe,
    .stats = iommu_device_stats,
};
