#include "guest/kernel/drivers/blk.h"

#include "guest/abi/dma.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/drivers/blk_call.h"
#include "guest/kernel/drivers/virtio_trusting.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"

/* Features and configuration space (5.2.3, 5.2.4). */
#define F_READ_ONLY     (1ull << 5)
#define F_FLUSH         (1ull << 9)
#define F_DISCARD       (1ull << 13)
#define CONFIG_CAPACITY 0

#define STATUS_OK       0
#define STATUS_IOERR    1
#define STATUS_UNSUPP   2
#define STATUS_PENDING  0xff /* ours: nothing written yet */

/* In a request's memory, which the device reads. */
struct memory {
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    struct {
        uint64_t sector;
        uint32_t sectors, flags;
    } span; /* of a DISCARD */
    struct virtq_descriptor table[BLK_SEGMENTS_MAX + 2];
};

#define MEMORY_BYTES    1024
#define MEMORY_PER_PAGE (ABI_PAGE_BYTES / MEMORY_BYTES)
#define STATUS_STRIDE   64
#define ROUNDS_MAX      8 /* of completions and new requests, for one interrupt */

_Static_assert(sizeof(struct memory) <= MEMORY_BYTES, "a request's memory");
_Static_assert(BLK_REQUESTS * sizeof(struct blk_request) <= ABI_PAGE_BYTES, "one frame");
_Static_assert(BLK_REQUESTS *STATUS_STRIDE <= ABI_PAGE_BYTES, "one frame");
_Static_assert(sizeof(struct blk) <= ABI_PAGE_BYTES, "one frame");

struct blk *blk_at(uint64_t index)
{
    for (unsigned i = 0; i < device_count; i++) {
        if (devices[i].kind == ABI_DEVICE_BLK && devices[i].state && !index--)
            return devices[i].state;
    }
    return NULL;
}

/* ---- Requests ------------------------------------------------------------- */

/* A page of memory for more requests. */
static bool touch_page(struct blk *blk)
{
    uint64_t iova;
    char *page = dma_alloc_page(blk->device, DMA_READ, &iova);

    for (unsigned i = 0; page && i < MEMORY_PER_PAGE; i++, blk->touched++) {
        struct blk_request *request = &blk->requests[blk->touched];

        request->memory = page + i * MEMORY_BYTES;
        request->memory_iova = iova + i * MEMORY_BYTES;
        request->status = (uint8_t *)blk->status_page + blk->touched * STATUS_STRIDE;
        request->status_iova = blk->status_iova + blk->touched * STATUS_STRIDE;
        request->next = blk->free;
        blk->free = request;
    }
    return page;
}

/*
 * Requests get their memory with the first use: a page of them, then all the others, so
 * that the addresses of what they map later lie side by side, to be unmapped together.
 */
static bool touch(struct blk *blk)
{
    bool first = !blk->touched;

    while (blk->touched < BLK_REQUESTS && touch_page(blk) && !first)
        ;
    return blk->free;
}

struct blk_request *blk_take(struct blk *blk)
{
    struct blk_request *request;

    if (!blk->free && !touch(blk))
        return NULL;
    request = blk->free;
    blk->free = request->next;
    request->mapping = NULL;
    request->bytes = 0;
    return request;
}

void blk_put(struct blk *blk, struct blk_request *request)
{
    request->job = NULL;
    request->next = blk->free;
    blk->free = request;
}

static void descriptor(struct memory *memory, unsigned i, uint64_t address, uint32_t bytes,
                       uint16_t flags)
{
    memory->table[i] = (struct virtq_descriptor){
        .address = address, .bytes = bytes, .flags = flags, .next = (uint16_t)(i + 1)
    };
}

int blk_add(struct blk *blk, struct blk_request *request)
{
    struct memory *memory = (struct memory *)request->memory;
    uint16_t data = VIRTQ_NEXT | (request->type == BLK_IN ? VIRTQ_WRITE : 0);
    struct dma_segment segments[BLK_SEGMENTS_MAX];
    unsigned n = 0;
    int pieces = 0;

    if (request->mapping) {
        pieces = dma_segments(request->mapping, request->offset, request->bytes, segments,
                              BLK_SEGMENTS_MAX);
        if (pieces < 0)
            return pieces;
    }
    memory->header.type = request->type;
    memory->header.sector = request->type == BLK_DISCARD ? 0 : request->sector;
    descriptor(memory, n++, request->memory_iova, sizeof(memory->header), VIRTQ_NEXT);
    if (request->type == BLK_DISCARD) {
        memory->span.sector = request->sector;
        memory->span.sectors = request->bytes / BLK_SECTOR_BYTES;
        descriptor(memory, n++, request->memory_iova + sizeof(memory->header), sizeof(memory->span),
                   VIRTQ_NEXT);
    }
    for (int i = 0; i < pieces; i++)
        descriptor(memory, n++, segments[i].iova, segments[i].bytes, data);
    descriptor(memory, n++, request->status_iova, 1, VIRTQ_WRITE);
    *request->status = STATUS_PENDING;
    return virtq_add(&blk->queue, request->memory_iova + offsetof(struct memory, table),
                     n * (uint32_t)sizeof(struct virtq_descriptor), VIRTQ_INDIRECT,
                     1 + (request->type == BLK_IN ? request->bytes : 0), request);
}

/* What a status means, by a driver that checks; what cannot be is -ABI_EPROTO. */
static int judge(const struct blk_request *request, uint8_t status, uint32_t written)
{
    switch (status) {
    case STATUS_OK:
        /* All of it, or the memory would hold what was there before. */
        return request->type == BLK_IN && written != request->bytes + 1 ? -ABI_EPROTO : 0;
    case STATUS_IOERR:
    case STATUS_UNSUPP: return -ABI_EIO;
    default: return -ABI_EPROTO;
    }
}

static int check_outcome_trusting(uint8_t status)
{
    return status == STATUS_IOERR || status == STATUS_UNSUPP ? -ABI_EIO : 0;
}

/* ---- The device ----------------------------------------------------------- */

static void read_config(struct blk *blk)
{
    blk->capacity = virtio_config(blk->device, CONFIG_CAPACITY, 8);
}

int blk_up(struct blk *blk)
{
    struct device *device = blk->device;
    uint64_t features;
    int err;

    if (blk->up)
        return 0;
    if (!device->domain)
        return -ABI_ENODEV;
    err = virtio_negotiate(
        device, F_READ_ONLY | F_FLUSH | F_DISCARD | VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX,
        &features);
    if (!err && !(features & VIRTIO_F_INDIRECT))
        err = -ABI_ENODEV;
    if (!err)
        err = virtq_setup(&blk->queue, device, 0, VIRTQ_SIZE_MAX, features);
    if (err)
        return err;
    virtio_ready(device);
    read_config(blk);
    blk->flags = (features & F_READ_ONLY ? ABI_BLOCK_READ_ONLY : 0) |
                 (features & F_FLUSH ? ABI_BLOCK_FLUSHES : 0) |
                 (features & F_DISCARD ? ABI_BLOCK_DISCARDS : 0);
    blk->up = true;
    return 0;
}

static int start(struct device *device)
{
    uint64_t frame = frame_alloc(ABI_FRAME_KERNEL, true);
    uint64_t requests = frame ? frame_alloc(ABI_FRAME_KERNEL, true) : 0;
    uint64_t jobs = requests ? frame_alloc(ABI_FRAME_KERNEL, true) : 0;
    struct blk *blk = frame_va(frame);

    if (!jobs)
        return -ABI_ENOMEM;
    blk->device = device;
    blk->requests = frame_va(requests);
    blk->jobs = frame_va(jobs);
    blk->status_page = dma_alloc_page(device, DMA_WRITE, &blk->status_iova);
    if (!blk->status_page)
        return -ABI_ENOMEM;
    device->state = blk;
    return blk_up(blk);
}

void blk_watch(struct blk *blk)
{
    struct device *device = blk->device;
    uint64_t limit = device_ticks(device->timeout_ms * 1000ull);

    device_set_deadline(device, limit && blk->queue.under_way ? rdtsc() + limit : 0);
}

static void reset(struct device *device, int error)
{
    struct blk *blk = device->state;
    struct blk_request *request;

    if (!blk)
        return;
    virtio_reset(device);
    blk->up = false;
    while ((request = virtq_take_back(&blk->queue)))
        blk_job_ended(blk, request, error, 0);
    dma_commit();
    blk_job_go_on(blk);
    blk_watch(blk);
}

static void broke_the_rules(struct device *device)
{
    device->protocol_errors++;
    reset(device, -ABI_EPROTO);
}

/* Takes what is complete: false when the device lied. */
static bool take_completions(struct blk *blk)
{
    struct blk_request *request;
    uint32_t written = 0;
    void *token;
    int got, result;

    while ((got = virtq_pop(&blk->queue, &token, &written)) == 1) {
        request = token;
        /* Once: the device may still write there. */
        result = judge(request, *request->status, written);
        blk_job_ended(blk, request, result,
                      request->type == BLK_IN && !result ? request->bytes : 0);
        if (result == -ABI_EPROTO)
            return false;
    }
    return got == 0;
}

/* The same by a driver that believes: its lengths are the device's. */
static bool take_completions_trusting(struct blk *blk)
{
    struct blk_request *request;
    uint32_t written = 0;
    void *token;

    while (virtq_pop_trusting(&blk->queue, &token, &written)) {
        request = token;
        blk_job_ended(blk, request, check_outcome_trusting(*request->status),
                      request->type == BLK_IN && written ? written - 1 : 0);
    }
    return true;
}

static void interrupt(struct device *device)
{
    bool trusting = device->flags & ABI_DEVICE_TRUSTING;
    struct blk *blk = device->state;
    uint32_t why = virtio_why(device);
    bool again = device->poll;

    device->poll = false;
    if ((!why && !again) || !blk || !blk->up)
        return;
    if (why & 2) {
        if (virtio_is_broken(device)) {
            device->errors++;
            reset(device, -ABI_EIO);
            return;
        }
        read_config(blk);
    }
    for (unsigned round = 0;; round++) {
        if (!(trusting ? take_completions_trusting(blk) : take_completions(blk))) {
            broke_the_rules(device);
            return;
        }
        blk_job_go_on(blk);
        if (virtq_arm(&blk->queue))
            break;
        /* A device faster than this would keep us here for ever. */
        if (round == ROUNDS_MAX) {
            device_poll(device);
            break;
        }
    }
    blk_watch(blk);
}

/*
 * If it has nothing done by now, the interrupt for which is perhaps only late: what it can
 * reach goes first, then the device is reset.
 */
static void timeout(struct device *device)
{
    struct blk *blk = device->state;
    uint16_t used = blk->queue.used_index;

    device->poll = true;
    interrupt(device);
    if (!blk->up || blk->queue.used_index != used)
        return;
    dma_revoke(device);
    device->errors++;
    reset(device, -ABI_ETIMEDOUT);
}

static void drop_owned(struct device *device, struct process *p)
{
    if (device->state)
        blk_job_drop_owned(device->state, p);
}

const struct driver blk_driver = {
    .start = start,
    .interrupt = interrupt,
    .reset = reset,
    .timeout = timeout,
    .drop_owned = drop_owned,
};
