#include "devices/virtio/blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/delay.h"
#include "devices/core/device.h"
#include "devices/iommu/dma_transfer.h"
#include "vmm/base/monotonic.h"

#define QUEUE      0
#define ROUNDS_MAX 8 /* over the queue, before somebody else gets the lock */
/* Of one DISCARD or WRITE_ZEROES: 2 GiB, so that one request does not keep the host long. */
#define SPAN_SECTORS_MAX (1u << 22)
/* Where a discard may give space back: the host's pages and blocks. */
#define DISCARD_ALIGNMENT_SECTORS 8

struct blk_request {
    struct virtio_blk *blk;
    struct blk_request *next;
    struct virtqueue_chain chain;
    struct virtio_blk_outhdr header;
    struct block_request io;
    struct dma_transfer transfer; /* dma is set while it goes on */
    uint64_t submitted_ns;        /* of a disk with a latency */
    struct dma_range data[VIRTQUEUE_SIZE_MAX];
    unsigned ndata;
    uint64_t data_bytes;
    struct iovec iov[BLOCK_IOVECS_MAX];
};

/* ---- Requests: a pool as large as the queue, used only as far as it is needed ---- */

static struct blk_request *take_request(struct virtio_blk *blk)
{
    struct blk_request *request = blk->unused;

    if (request) {
        blk->unused = request->next;
    } else if (blk->used_requests < VIRTIO_BLK_QUEUE_MAX) {
        request = &blk->requests[blk->used_requests++];
        request->blk = blk;
    }
    return request;
}

static void drop_request(struct blk_request *request)
{
    request->next = request->blk->unused;
    request->blk->unused = request;
}

static bool has_request(const struct virtio_blk *blk)
{
    return blk->unused || blk->used_requests < VIRTIO_BLK_QUEUE_MAX;
}

static struct virtqueue *queue_of(struct virtio_blk *blk)
{
    return &blk->device.queues[QUEUE];
}

/* ---- Giving requests back ---- */

/* The status is the last byte of the writable part, wherever segments are split (2.7.4.1). */
static uint64_t status_iova(const struct virtqueue_chain *chain)
{
    const struct virtqueue_segment *last = &chain
                                                ->segments[chain->nreadable + chain->nwritable - 1];

    return last->iova + last->len - 1;
}

static void count(struct virtio_blk *blk, const struct blk_request *request, uint8_t status)
{
    struct virtio_blk_counts *counts = &blk->counts;

    counts->failed += status != VIRTIO_BLK_S_OK;
    switch (request->header.type) {
    case VIRTIO_BLK_T_IN:
        counts->reads++;
        counts->read_bytes += request->io.transfer;
        break;
    case VIRTIO_BLK_T_OUT:
        counts->writes++;
        counts->write_bytes += request->io.transfer;
        break;
    case VIRTIO_BLK_T_FLUSH: counts->flushes++; break;
    default: counts->others++; break;
    }
}

/*
 * Ends a request: `moved` bytes of its writable part, from the first on, were written.
 * The status goes through the dma handle like everything else, and is lost where the driver
 * has taken its memory away by now: the request comes back all the same.
 */
static void complete(struct blk_request *request, uint8_t status, uint64_t moved)
{
    struct virtio_blk *blk = request->blk;
    const struct virtqueue_chain *chain = &request->chain;
    bool all = moved == chain->writable_bytes - 1;
    struct virtio_blk_completion completion = {
        .head = chain->head,
        .status = status,
        .written = (uint32_t)moved + all, /* up to the first byte that is not (2.7.8.2) */
        .status_iova = status_iova(chain),
        .header = &request->header,
        .data = request->data,
        .ndata = request->ndata,
    };

    if (blk->resetting)
        goto drop;
    count(blk, request, status);
    if (blk->before_push)
        blk->before_push(blk->hostile, &completion);
    if (!completion.taken) {
        (void)dma_write(blk->dma, completion.status_iova, &completion.status, 1);
        if (virtqueue_push(queue_of(blk), completion.head, completion.written))
            virtio_device_set_needs_reset(&blk->device, queue_of(blk)->broken);
    }
    blk->used = true;
drop:
    drop_request(request);
}

static void tell_driver(struct virtio_blk *blk)
{
    if (blk->used)
        virtio_device_notify_used(&blk->device, QUEUE);
    blk->used = false;
}

/* ---- Requests that the store carries out ---- */

static void count_time(struct virtio_blk *blk, const struct blk_request *request)
{
    struct virtio_blk_counts *counts = &blk->counts;
    uint64_t took = monotonic_ns() - request->submitted_ns;

    if (!counts->shortest_ns || took < counts->shortest_ns)
        counts->shortest_ns = took;
    if (took > counts->longest_ns)
        counts->longest_ns = took;
}

static void submit(struct blk_request *request, enum block_op op)
{
    struct virtio_blk *blk = request->blk;

    if (blk->latency_ns)
        request->submitted_ns = monotonic_ns();
    request->io.op = op;
    blk->under_way++;
    block_submit(blk->block, &request->io);
}

static void store_done(void *owner, struct block_request *io)
{
    struct virtio_blk *blk = owner;
    struct blk_request *request = (struct blk_request *)((char *)io -
                                                         offsetof(struct blk_request, io));
    bool to_guest = io->op == BLOCK_READ;

    /* What was cancelled comes back at once. */
    if (blk->latency_ns && !atomic_load(&io->cancelled))
        count_time(blk, request);
    if (request->transfer.dma)
        dma_transfer_end(&request->transfer);
    request->transfer.dma = NULL;
    complete(request, io->result ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK,
             to_guest ? io->transfer : 0);
    if (--blk->under_way == 0)
        pthread_cond_broadcast(&blk->ended);
}

/* Somebody takes the memory away and waits for us. */
static void cancel(struct dma_transfer *transfer)
{
    struct blk_request *request = (struct blk_request *)((char *)transfer -
                                                         offsetof(struct blk_request, transfer));

    block_cancel(request->blk->block, &request->io);
}

/*
 * The data segments: `bytes` of the chain's readable or writable part from byte `skip` of
 * it on, which reach to its end or to the status.
 */
static void find_data(struct blk_request *request, bool writable, uint64_t skip, uint64_t bytes)
{
    const struct virtqueue_chain *chain = &request->chain;
    unsigned i = writable ? chain->nreadable : 0;
    unsigned end = i + (writable ? chain->nwritable : chain->nreadable);

    request->data_bytes = bytes;
    for (; i < end && bytes; i++) {
        const struct virtqueue_segment *segment = &chain->segments[i];
        uint64_t from = skip < segment->len ? skip : segment->len;
        uint64_t len = segment->len - from < bytes ? segment->len - from : bytes;

        skip -= from;
        bytes -= len;
        if (len)
            request->data[request->ndata++] = (struct dma_range){ .iova = segment->iova + from,
                                                                  .len = len,
                                                                  .direction = writable
                                                                                   ? DMA_WRITE
                                                                                   : DMA_READ };
    }
}

static bool inside(const struct virtio_blk *blk, uint64_t sector, uint64_t sectors)
{
    return sector <= blk->block->sectors && sectors <= blk->block->sectors - sector;
}

/* IN and OUT. What is refused here has had no effect at all (5.2.6.2). */
static void transfer_data(struct blk_request *request, bool to_guest)
{
    struct virtio_blk *blk = request->blk;
    const struct virtqueue_chain *chain = &request->chain;
    uint64_t sector = request->header.sector;
    int pieces;

    if (to_guest)
        find_data(request, true, 0, chain->writable_bytes - 1);
    else
        find_data(request, false, sizeof(request->header),
                  chain->readable_bytes - sizeof(request->header));
    if (request->data_bytes % BLOCK_SECTOR_BYTES ||
        !inside(blk, sector, request->data_bytes / BLOCK_SECTOR_BYTES) ||
        (!to_guest && blk->block->read_only)) {
        complete(request, VIRTIO_BLK_S_IOERR, 0);
        return;
    }
    if (!request->data_bytes) {
        complete(request, VIRTIO_BLK_S_OK, 0);
        return;
    }
    pieces = dma_transfer_begin(blk->dma, &request->transfer, request->data, request->ndata,
                                request->iov, BLOCK_IOVECS_MAX);
    if (pieces < 0) {
        request->transfer.dma = NULL;
        blk->counts.unreachable++;
        complete(request, VIRTIO_BLK_S_IOERR, 0);
        return;
    }
    request->io.offset = sector * BLOCK_SECTOR_BYTES;
    request->io.bytes = request->data_bytes;
    request->io.iov = request->iov;
    request->io.niov = (unsigned)pieces;
    request->io.sync = !(virtio_device_has_feature(&blk->device, VIRTIO_BLK_F_CONFIG_WCE)
                             ? blk->state.writeback
                             : virtio_device_has_feature(&blk->device, VIRTIO_BLK_F_FLUSH));
    submit(request, to_guest ? BLOCK_READ : BLOCK_WRITE);
}

/* DISCARD and WRITE_ZEROES, of one range: that is all the configuration offers. */
static void clear_range(struct blk_request *request, bool zero)
{
    struct virtio_blk *blk = request->blk;
    const struct virtqueue_chain *chain = &request->chain;
    struct virtio_blk_discard_write_zeroes range;
    uint8_t status = VIRTIO_BLK_S_OK;
    bool unmap;

    if (!virtio_device_has_feature(&blk->device,
                                   zero ? VIRTIO_BLK_F_WRITE_ZEROES : VIRTIO_BLK_F_DISCARD)) {
        complete(request, VIRTIO_BLK_S_UNSUPP, 0);
        return;
    }
    if (chain->readable_bytes != sizeof(request->header) + sizeof(range) ||
        virtqueue_read(queue_of(blk), chain, sizeof(request->header), &range, sizeof(range)) !=
            (int64_t)sizeof(range)) {
        complete(request, VIRTIO_BLK_S_IOERR, 0);
        return;
    }
    unmap = range.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
    if (range.flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP || (unmap && !zero))
        status = VIRTIO_BLK_S_UNSUPP;
    else if (range.num_sectors > SPAN_SECTORS_MAX ||
             !inside(blk, range.sector, range.num_sectors) || blk->block->read_only)
        status = VIRTIO_BLK_S_IOERR;
    if (status != VIRTIO_BLK_S_OK || !range.num_sectors) {
        complete(request, status, 0);
        return;
    }
    request->io.offset = range.sector * BLOCK_SECTOR_BYTES;
    request->io.bytes = range.num_sectors * BLOCK_SECTOR_BYTES;
    request->io.unmap = unmap;
    submit(request, zero ? BLOCK_ZERO : BLOCK_DISCARD);
}

static void tell_id(struct blk_request *request)
{
    struct virtio_blk *blk = request->blk;
    uint64_t room = request->chain.writable_bytes - 1;
    size_t len = room < sizeof(blk->id) ? (size_t)room : sizeof(blk->id);
    int64_t n = virtqueue_write(queue_of(blk), &request->chain, 0, blk->id, len);

    if (n == (int64_t)len)
        complete(request, VIRTIO_BLK_S_OK, len);
    else
        complete(request, VIRTIO_BLK_S_IOERR, 0);
}

/* ---- Taking requests from the queue ---- */

static void start(struct blk_request *request)
{
    struct virtio_blk *blk = request->blk;
    struct virtio_blk_outhdr *header = &request->header;

    request->ndata = 0;
    request->data_bytes = 0;
    request->io.bytes = request->io.transfer = request->io.offset = 0;
    request->io.sync = request->io.unmap = false;
    request->io.iov = NULL;
    request->io.niov = 0;
    atomic_store(&request->io.cancelled, false);
    request->transfer.dma = NULL;
    request->transfer.cancel = cancel;
    *header = (struct virtio_blk_outhdr){ .type = ~0u };

    if (!request->chain.writable_bytes) {
        virtio_device_set_needs_reset(&blk->device, "a request has no room for its status");
        drop_request(request);
        return;
    }
    if (virtqueue_read(queue_of(blk), &request->chain, 0, header, sizeof(*header)) !=
        (int64_t)sizeof(*header)) {
        complete(request, VIRTIO_BLK_S_IOERR, 0);
        return;
    }
    switch (header->type) {
    case VIRTIO_BLK_T_IN: transfer_data(request, true); break;
    case VIRTIO_BLK_T_OUT: transfer_data(request, false); break;
    case VIRTIO_BLK_T_FLUSH: submit(request, BLOCK_FLUSH); break;
    case VIRTIO_BLK_T_GET_ID: tell_id(request); break;
    case VIRTIO_BLK_T_DISCARD: clear_range(request, false); break;
    case VIRTIO_BLK_T_WRITE_ZEROES: clear_range(request, true); break;
    default: complete(request, VIRTIO_BLK_S_UNSUPP, 0); break;
    }
}

/* Starts the next request of the queue: false if there is none, or no room for it. */
static bool start_next(struct virtio_blk *blk)
{
    struct blk_request *request = blk->resetting ? NULL : take_request(blk);
    int ret;

    if (!request)
        return false;
    ret = virtqueue_pop(queue_of(blk), &request->chain);
    if (ret <= 0) {
        drop_request(request);
        if (ret < 0)
            virtio_device_set_needs_reset(&blk->device, queue_of(blk)->broken);
        return false;
    }
    start(request);
    return true;
}

/*
 * Takes all there is, starts it in one go, tells the driver once; while that lasts, it
 * need not kick. True: the driver adds as fast as we take, go on soon. False: it has
 * stopped adding, or all requests are under way and the next completion goes on.
 */
static bool process_queue(struct virtio_blk *blk)
{
    unsigned round = 0;

    do {
        virtqueue_want_kicks(queue_of(blk), false);
        while (start_next(blk))
            ;
        block_kick(blk->block);
        tell_driver(blk);
        if (!has_request(blk) || blk->resetting)
            return false;
        if (++round == ROUNDS_MAX)
            return true;
        virtqueue_want_kicks(queue_of(blk), true);
    } while (start_next(blk));
    return false;
}

static void notify(void *owner, unsigned queue)
{
    struct virtio_blk *blk = owner;

    if (process_queue(blk))
        virtio_device_set_pending(&blk->device, queue);
}

/* ---- The store's thread ---- */

static void store_enter(void *owner)
{
    struct virtio_blk *blk = owner;

    dma_lock(blk->dma);
    blk->no_requests = !has_request(blk);
}

static void store_leave(void *owner)
{
    struct virtio_blk *blk = owner;

    while (blk->no_requests && has_request(blk) && process_queue(blk)) {
        dma_unlock(blk->dma);
        dma_lock(blk->dma);
    }
    tell_driver(blk);
    dma_unlock(blk->dma);
}

/* ---- Requests under way are state ---- */

void virtio_blk_save_requests(const struct virtio_blk *blk, struct virtio_blk_requests *requests)
{
    bool unused[VIRTIO_BLK_QUEUE_MAX] = { false };

    for (const struct blk_request *request = blk->unused; request; request = request->next)
        unused[request - blk->requests] = true;
    requests->count = 0;
    for (unsigned i = 0; i < blk->used_requests; i++) {
        if (!unused[i])
            requests->heads[requests->count++] = blk->requests[i].chain.head;
    }
}

/* What a request has done already it does again: its data are the same until it is given back. */
int virtio_blk_restore_requests(struct virtio_blk *blk, const struct virtio_blk_requests *requests)
{
    int err = 0;

    for (unsigned i = 0; i < requests->count && !err; i++) {
        struct blk_request *request = i < VIRTIO_BLK_QUEUE_MAX ? take_request(blk) : NULL;

        err = request ? virtqueue_take(queue_of(blk), requests->heads[i], &request->chain)
                      : -EINVAL;
        if (!err)
            start(request);
        else if (request)
            drop_request(request);
    }
    block_kick(blk->block);
    tell_driver(blk);
    if (err)
        virtio_device_set_needs_reset(&blk->device, "its state was restored so");
    return err ? -EINVAL : 0;
}

/* ---- Reset, configuration space ---- */

/* Requests under way may still write memory: they end, and are nobody's any more. */
static void end_requests(struct virtio_blk *blk)
{
    blk->resetting++;
    for (unsigned i = 0; blk->under_way && i < blk->used_requests; i++)
        block_cancel(blk->block, &blk->requests[i].io);
    while (blk->under_way)
        pthread_cond_wait(&blk->ended, &blk->dma->lock);
    blk->resetting--;
    blk->resets++;
    blk->used = false;
}

static void reset(void *owner)
{
    struct virtio_blk *blk = owner;

    end_requests(blk);
    blk->state.writeback = 1;
}

static void stop(void *owner, unsigned queue)
{
    (void)queue;
    end_requests(owner);
}

static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    const struct virtio_blk *blk = owner;
    bool writes = !blk->block->read_only;
    const struct virtio_blk_config config = {
        .capacity = blk->state.capacity,
        .seg_max = VIRTIO_BLK_SEGMENTS_MAX,
        .blk_size = BLOCK_SECTOR_BYTES,
        .wce = blk->state.writeback,
        .max_discard_sectors = writes ? SPAN_SECTORS_MAX : 0,
        .max_discard_seg = writes,
        .discard_sector_alignment = DISCARD_ALIGNMENT_SECTORS,
        .max_write_zeroes_sectors = writes ? SPAN_SECTORS_MAX : 0,
        .max_write_zeroes_seg = writes,
        .write_zeroes_may_unmap = writes,
    };
    uint64_t value = 0;

    if (size <= sizeof(value) && offset <= sizeof(config) && size <= sizeof(config) - offset)
        memcpy(&value, (const char *)&config + offset, size);
    return value;
}

/* Only the cache mode can be written (5.2.5). */
static void config_write(void *owner, uint32_t offset, unsigned size, uint64_t value)
{
    struct virtio_blk *blk = owner;

    if (offset == offsetof(struct virtio_blk_config, wce) && size == 1 &&
        virtio_device_has_feature(&blk->device, VIRTIO_BLK_F_CONFIG_WCE))
        blk->state.writeback = value & 1;
}

static const struct virtio_class class_of_all = {
    .name = "virtio-blk",
    .device_id = 2,
    .features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
                1ull << VIRTIO_BLK_F_FLUSH | 1ull << VIRTIO_BLK_F_CONFIG_WCE,
    .nqueues = 1,
    .queue_max = VIRTIO_BLK_QUEUE_MAX,
    .config_bytes = VIRTIO_BLK_CONFIG_BYTES,
    .notify = notify,
    .reset = reset,
    .stop = stop,
    .config_read = config_read,
    .config_write = config_write,
};

/* ---- Creation ---- */

int virtio_blk_create_on(struct virtio_blk **created, struct dma *dma, struct block *block,
                         const char *id)
{
    struct virtio_blk *blk = calloc(1, sizeof(*blk));

    if (!blk)
        return -ENOMEM;
    /* Large enough to be mapped, so what is never used costs nothing. */
    blk->requests = calloc(VIRTIO_BLK_QUEUE_MAX, sizeof(*blk->requests));
    if (!blk->requests) {
        free(blk);
        return -ENOMEM;
    }
    blk->dma = dma;
    blk->block = block;
    blk->state = (struct virtio_blk_state){ .capacity = block->sectors, .writeback = 1 };
    blk->class = class_of_all;
    blk->class.features |= block->read_only
                               ? 1ull << VIRTIO_BLK_F_RO
                               : 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
    memcpy(blk->id, id, strnlen(id, sizeof(blk->id)));
    pthread_cond_init(&blk->ended, NULL);
    block->user = (struct block_user){
        .owner = blk, .enter = store_enter, .done = store_done, .leave = store_leave
    };
    virtio_device_init(&blk->device, &blk->class, blk, dma);
    *created = blk;
    return 0;
}

int virtio_blk_create(struct virtio_blk **blk, const struct blk_config *config, char *error,
                      size_t error_bytes)
{
    const struct file_options options = { .read_only = config->read_only,
                                          .depth = VIRTIO_BLK_QUEUE_MAX,
                                          .vm = config->vm };
    const char *slash = strrchr(config->path, '/');
    struct file_info info;
    struct block *block;
    int err = file_open(&block, config->path, &options, error, error_bytes);

    if (err)
        return err;
    file_info(block, &info);
    if (config->latency_ns)
        err = delay_create(&block, config->vm, block, config->latency_ns);
    if (!err)
        err = virtio_blk_create_on(blk, config->dma, block, slash ? slash + 1 : config->path);
    if (err) {
        snprintf(error, error_bytes, "virtio-blk for %s: %s", config->path, strerror(-err));
        block_destroy(block);
        return err;
    }
    (*blk)->file = info;
    (*blk)->latency_ns = config->latency_ns;
    return 0;
}

void virtio_blk_destroy(struct virtio_blk *blk)
{
    /* What comes back from now on is nobody's. */
    dma_lock(blk->dma);
    blk->resetting++;
    dma_unlock(blk->dma);
    block_destroy(blk->block);
    pthread_cond_destroy(&blk->ended);
    free(blk->hostile);
    free(blk->requests);
    free(blk);
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int blk_create(struct device *device, const struct device_config *config,
                      const struct device_place *place)
{
    const struct blk_config blk_config = { .vm = place->vm,
                                           .dma = place->dma,
                                           .path = config->path,
                                           .read_only = config->read_only,
                                           .latency_ns = config->latency_ns };
    struct virtio_blk *blk;
    int err = virtio_blk_create(&blk, &blk_config, place->error, place->error_bytes);

    if (err)
        return err;
    device->model = blk;
    device->virtio = &blk->device;
    return 0;
}

static void blk_destroy(void *model)
{
    virtio_blk_destroy(model);
}

static bool blk_stats(void *model, struct device_stats *stats)
{
    const struct virtio_blk *blk = model;
    const struct virtio_blk_counts *counts = &blk->counts;

    stats->number(stats, "sectors", blk->block->sectors);
    stats->number(stats, "unused_bytes", blk->file.unused_bytes);
    stats->flag(stats, "io_uring", blk->file.uring);
    stats->text(stats, "lack", blk->file.why_not);
    stats->number(stats, "reads", counts->reads);
    stats->number(stats, "read_bytes", counts->read_bytes);
    stats->number(stats, "writes", counts->writes);
    stats->number(stats, "write_bytes", counts->write_bytes);
    stats->number(stats, "flushes", counts->flushes);
    stats->number(stats, "failed", counts->failed);
    stats->number(stats, "unreachable", counts->unreachable);
    stats->number(stats, "latency_ns", blk->latency_ns);
    stats->number(stats, "shortest_ns", counts->shortest_ns);
    stats->number(stats, "longest_ns", counts->longest_ns);
    return true;
}

const struct device_ops virtio_blk_ops = {
    .name = "virtio-blk",
    .stats_name = "disk",
    .worth_a_thread = true,
    .create = blk_create,
    .destroy = blk_destroy,
    .stats = blk_stats,
};
