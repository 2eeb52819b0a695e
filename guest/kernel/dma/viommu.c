#include "guest/kernel/dma/viommu.h"

#include "guest/abi/dma.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/dma/dma_attach.h"
#include "guest/kernel/dma/viommu_batch.h"
#include "guest/kernel/drivers/virtio.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"

/* Features and configuration space (5.13.3, 5.13.4). */
#define F_INPUT_RANGE      (1ull << 0)
#define F_DOMAIN_RANGE     (1ull << 1)
#define F_MAP_UNMAP        (1ull << 2)
#define F_PROBE            (1ull << 4)
#define F_MMIO             (1ull << 5)
#define F_BYPASS_CONFIG    (1ull << 6)
#define CONFIG_INPUT_FIRST 8
#define CONFIG_INPUT_LAST  16
#define CONFIG_PROBE_BYTES 32
#define CONFIG_BYPASS      36

/* Requests (5.13.6). */
#define ATTACH_F_BYPASS 1
#define PROBE_HEAD      72 /* bytes before the properties */
#define TAIL_BYTES      4
#define PROPERTY_TYPE   0xfff
#define PROPERTY_RESV   1
#define STATUS(tail)    ((uint8_t)(tail))

struct property {
    uint16_t type, bytes;
    uint8_t subtype, reserved[3];
    uint64_t first, last;
} __attribute__((packed));

struct event {
    uint8_t reason, reserved[3];
    uint32_t flags, endpoint, reserved2;
    uint64_t address;
};
#define EVENT_BYTES     24
#define EVENT_F_ADDRESS 0x100

#define EVENTS          32
#define WAIT_MS         2000
#define LOG             128 /* faults kept */

struct viommu {
    struct device *device;
    struct virtq requests, events;
    struct event *event; /* behind the batch's own requests, on the same page */
    uint64_t event_gpa;
    bool alive;
    uint64_t first, last;
    uint32_t probe_bytes;
    struct viommu_fault *log;
    uint32_t logged, taken;
};

static struct viommu *unit;
struct viommu_batch viommu_batch;

_Static_assert(sizeof(struct viommu) <= ABI_PAGE_BYTES, "one frame");
_Static_assert(LOG * sizeof(struct viommu_fault) <= ABI_PAGE_BYTES, "one frame");
_Static_assert(offsetof(struct viommu_request, map.flags) + sizeof(uint32_t) == VIOMMU_MAP_BYTES,
               "a request as the device reads it");
_Static_assert(VIOMMU_REQUESTS * sizeof(struct viommu_request) + EVENTS * sizeof(struct event) <=
                   ABI_PAGE_BYTES,
               "buffers on one page");

bool viommu_present(void)
{
    return unit && unit->alive;
}

void viommu_input(uint64_t *first, uint64_t *last)
{
    *first = unit->first;
    *last = unit->last;
}

/* ---- Requests ------------------------------------------------------------- */

/* Descriptors 2i and 2i + 1 are request i, always at the same place. */
static void prepare(struct virtq *q)
{
    for (uint16_t i = 0; i < q->size / 2; i++) {
        q->descriptors[2 * i].flags = VIRTQ_NEXT;
        q->descriptors[2 * i].next = 2 * i + 1;
        q->descriptors[2 * i + 1].address = (uint64_t)&viommu_batch.tail[i] - KERNEL_OFFSET;
        q->descriptors[2 * i + 1].bytes = TAIL_BYTES;
        q->descriptors[2 * i + 1].flags = VIRTQ_WRITE;
    }
    for (uint16_t i = 0; i < q->size; i++)
        q->available[2 + i] = (uint16_t)(2 * viommu_slot(i));
    memset(viommu_batch.tail, 0xff, sizeof(viommu_batch.tail));
    virtq_quiet(q);
}

/* Waits until all is used up to `end`: false if the device is dead. */
static bool wait(struct virtq *q, uint16_t end)
{
    uint64_t limit = 0;

    /* Some of it may have been posted; anyhow there is something new. */
    q->available_index = end;
    q->kicked_index = (uint16_t)(end - 1);
    virtq_kick(q);
    /* Mostly the device has answered before the notification returns. */
    for (unsigned tries = 1; __atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE) != end; tries++) {
        cpu_relax();
        if (tries % 64)
            continue;
        host_yield();
        if (!limit)
            limit = rdtsc() + device_ticks(WAIT_MS * 1000);
        else if (rdtsc() > limit) {
            unit->alive = false;
            viommu_batch.index = NULL;
            printk("iommu: does not answer\n");
            return false;
        }
    }
    return true;
}

/* Runs what was collected; where it was posted, it may have been answered already. */
static inline bool run(struct virtq *q)
{
    uint16_t end = (uint16_t)viommu_batch.next;

    viommu_ran(viommu_collected());
    return __atomic_load_n(&q->used[1], __ATOMIC_ACQUIRE) == end || wait(q, end);
}

/* What a slot's request came to; the slot is free again. */
static uint32_t take_tail(uint64_t slot)
{
    uint32_t tail = viommu_batch.tail[slot];

    viommu_batch.tail[slot] = VIOMMU_UNANSWERED;
    return tail;
}

static void refused(const struct viommu_request *request)
{
    viommu_batch.error = -ABI_EIO;
    unit->device->errors++;
    if (request->failed)
        *request->failed = true;
}

void viommu_make_room(void)
{
    struct viommu_batch *batch = &viommu_batch;
    uint32_t i = batch->ran;
    bool ran;

    if (!viommu_collected())
        return;
    ran = unit->alive && run(&unit->requests);
    viommu_ran(viommu_collected());
    for (; i != batch->next; i++) {
        if (STATUS(take_tail(viommu_slot(i))) || !ran)
            refused(viommu_added(viommu_slot(i)));
    }
}

int viommu_run(void)
{
    int failed;

    if (!unit)
        return 0;
    viommu_make_room();
    failed = viommu_batch.error;
    viommu_batch.error = 0;
    return failed;
}

/* Runs a request that was collected by itself: its status. */
static int finish(void)
{
    bool ran = run(&unit->requests);
    uint32_t tail = take_tail(viommu_slot(viommu_batch.next - 1));

    return ran && tail != VIOMMU_UNANSWERED ? STATUS(tail) : -ABI_EIO;
}

static int attach_or_detach(enum viommu_type type, uint32_t domain, uint32_t endpoint,
                            uint32_t flags)
{
    struct viommu_request *request;

    if (!viommu_present())
        return -ABI_ENODEV;
    viommu_make_room();
    request = viommu_collect(type, domain, VIOMMU_ATTACH_BYTES, NULL);
    request->attach.endpoint = endpoint;
    request->attach.flags = flags;
    request->attach.reserved = 0;
    return finish();
}

int viommu_attach_now(uint32_t domain, uint32_t endpoint, bool bypass)
{
    return attach_or_detach(VIOMMU_ATTACH, domain, endpoint, bypass ? ATTACH_F_BYPASS : 0);
}

int viommu_detach_now(uint32_t domain, uint32_t endpoint)
{
    return attach_or_detach(VIOMMU_DETACH, domain, endpoint, 0);
}

int viommu_map_now(uint32_t domain, uint64_t first, uint64_t last, uint64_t gpa, uint32_t rights)
{
    if (!viommu_present())
        return -ABI_ENODEV;
    viommu_make_room();
    viommu_map(domain, first, last, gpa, rights, NULL);
    return finish();
}

int viommu_unmap_now(uint32_t domain, uint64_t first, uint64_t last)
{
    if (!viommu_present())
        return -ABI_ENODEV;
    viommu_make_room();
    viommu_unmap(domain, first, last, NULL);
    return finish();
}

/* ---- PROBE (5.13.6.7) ----------------------------------------------------- */

void viommu_reserved(uint32_t endpoint, void (*reserve)(void *owner, uint64_t first, uint64_t last),
                     void *owner)
{
    uint32_t bytes = unit ? unit->probe_bytes : 0;
    uint64_t frame;
    struct virtq *q;
    uint8_t *page;
    uint64_t i;

    if (!viommu_present() || !bytes || PROBE_HEAD + bytes + TAIL_BYTES > ABI_PAGE_BYTES)
        return;
    frame = frame_alloc(ABI_FRAME_KERNEL, true);
    if (!frame)
        return;
    page = frame_va(frame);
    viommu_make_room();
    q = &unit->requests;
    page[0] = VIOMMU_PROBE;
    *(uint32_t *)(page + 4) = endpoint;
    page[PROBE_HEAD + bytes] = STATUS(VIOMMU_UNANSWERED);
    i = viommu_slot(viommu_batch.next++);
    q->descriptors[2 * i].address = frame << PAGE_SHIFT;
    q->descriptors[2 * i].bytes = PROBE_HEAD;
    q->descriptors[2 * i + 1].address = (frame << PAGE_SHIFT) + PROBE_HEAD;
    q->descriptors[2 * i + 1].bytes = bytes + TAIL_BYTES;
    if (run(q) && page[PROBE_HEAD + bytes] == 0) {
        for (uint32_t at = 0; at + 4 <= bytes;) {
            const struct property *p = (const struct property *)(page + PROBE_HEAD + at);
            uint32_t type = p->type & PROPERTY_TYPE;

            if (!type)
                break;
            if (type == PROPERTY_RESV && at + sizeof(*p) <= bytes)
                reserve(owner, p->first, p->last);
            at += 4 + p->bytes;
        }
    }
    prepare(q);
    /* A device that did not answer may yet write to it. */
    if (unit->alive)
        frame_put(frame, false);
}

/* ---- Faults (5.13.6.9) --------------------------------------------------- */

static void post_event(uint16_t i)
{
    struct virtq *q = &unit->events;

    virtq_add(q, unit->event_gpa + i * sizeof(struct event), EVENT_BYTES, VIRTQ_WRITE, EVENT_BYTES,
              &unit->event[i]);
}

static void act(const struct viommu_fault *fault)
{
    for (unsigned i = 0; i < device_count; i++) {
        struct device *device = &devices[i];

        if (device->mode == ABI_DMA_OFF || device->endpoint != fault->endpoint)
            continue;
        device->errors++;
        if (device->fault_action == ABI_FAULT_REPORT)
            return;
        if (device->fault_action == ABI_FAULT_RESET && device->driver && device->driver->reset)
            device->driver->reset(device, -ABI_EIO);
        dma_detach(device);
        return;
    }
}

static void drain(void)
{
    struct virtq *q = &unit->events;
    unsigned taken = 0;
    uint32_t bytes;
    void *token;

    while (taken++ < EVENTS && virtq_pop(q, &token, &bytes) == 1) {
        const struct event event = *(const struct event *)token;
        struct viommu_fault *fault = &unit->log[unit->logged % LOG];

        post_event((uint16_t)((struct event *)token - unit->event));
        if (bytes < EVENT_BYTES)
            continue;
        /* The oldest make room for the newest. */
        if (unit->logged++ - unit->taken >= LOG)
            unit->taken++;
        *fault = (struct viommu_fault){
            .reason = event.reason,
            .rights = event.flags & (DMA_READ | DMA_WRITE),
            .endpoint = event.endpoint,
            .address = event.flags & EVENT_F_ADDRESS ? event.address : 0,
        };
        act(fault);
    }
    virtq_kick(q);
}

bool viommu_next_fault(struct viommu_fault *fault)
{
    if (!viommu_present())
        return false;
    drain();
    if (unit->taken == unit->logged)
        return false;
    *fault = unit->log[unit->taken++ % LOG];
    return true;
}

static void interrupt(struct device *device)
{
    if (!virtio_why(device) || !unit)
        return;
    drain();
}

/* ---- Start ---------------------------------------------------------------- */

static int start(struct device *device)
{
    const uint64_t wanted = F_INPUT_RANGE | F_DOMAIN_RANGE | F_MAP_UNMAP | F_PROBE | F_MMIO |
                            F_BYPASS_CONFIG;
    uint64_t frame, buffers, log, features;
    struct viommu *u;
    int err;

    if (unit)
        return -ABI_EBUSY;
    err = virtio_negotiate(device, wanted, &features);
    if (err)
        return err;
    /* Before anything else: until a device is attached, it reaches nothing. */
    if (features & F_BYPASS_CONFIG)
        device_write(device, VIRTIO_CONFIG + CONFIG_BYPASS, 1, 0);
    if (!(features & F_MAP_UNMAP))
        return -ABI_ENODEV;
    frame = frame_alloc(ABI_FRAME_KERNEL, true);
    buffers = frame ? frame_alloc(ABI_FRAME_KERNEL, true) : 0;
    log = buffers ? frame_alloc(ABI_FRAME_KERNEL, false) : 0;
    if (!log)
        return -ABI_ENOMEM;
    u = frame_va(frame);
    u->log = frame_va(log);
    u->device = device;
    viommu_batch.own = frame_va(buffers);
    u->event = (struct event *)(viommu_batch.own + VIOMMU_REQUESTS);
    u->event_gpa = (uint64_t)u->event - DIRECT_MAP;
    u->last = UINT64_MAX;
    if (features & F_INPUT_RANGE) {
        u->first = virtio_config(device, CONFIG_INPUT_FIRST, 8);
        u->last = virtio_config(device, CONFIG_INPUT_LAST, 8);
    }
    if (features & F_PROBE)
        u->probe_bytes = (uint32_t)virtio_config(device, CONFIG_PROBE_BYTES, 4);
    err = virtq_setup(&u->requests, device, 0, VIRTQ_SIZE_MAX, features);
    if (!err)
        err = virtq_setup(&u->events, device, 1, EVENTS, features);
    if (err)
        return err;
    viommu_batch.descriptors = (volatile struct virtq_descriptor(*)[2])u->requests.descriptors;
    viommu_batch.mask = u->requests.size / 2u - 1;
    viommu_batch.full = viommu_batch.mask + 1;
    viommu_batch.answered = &u->requests.used[1];
    viommu_batch.index = device->prompt ? &u->requests.available[1] : NULL;
    virtio_ready(device);
    prepare(&u->requests);
    u->alive = true;
    unit = u;
    for (uint16_t i = 0; i < u->events.size; i++)
        post_event(i);
    virtq_kick(&u->events);
    return 0;
}

const struct driver viommu_driver = { .start = start, .interrupt = interrupt };
