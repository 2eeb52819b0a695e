#include "devices/virtio/balloon.h"

#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "devices/core/device.h"
#include "devices/iommu/dma.h"

#define QUEUE_SIZE   128
#define PIECE_PAGES  64u /* page numbers read at once */
#define CONFIG_BYTES 8   /* num_pages, actual */
#define PFN_BYTES    ((uint64_t)1 << VIRTIO_BALLOON_PFN_SHIFT)

enum queue { INFLATE, DEFLATE, STATS, REPORTING };

_Static_assert(sizeof(struct virtio_balloon_stat) == 10, "packed (5.5.6.3)");

/*
 * Inflate and deflate are always there. The specification numbers the statistics queue 2 and
 * the reporting queue 4 (5.5.2); drivers in use (Linux) count only the queues that they have
 * negotiated. We offer no hints, whose queue 3 would be, so both ways can be understood.
 */
static enum queue queue_of(const struct virtio_balloon *balloon, unsigned index)
{
    if (index < STATS)
        return (enum queue)index;
    return index == STATS && virtio_device_has_feature(&balloon->device, VIRTIO_BALLOON_F_STATS_VQ)
               ? STATS
               : REPORTING;
}

static uint64_t discard(struct virtio_balloon *balloon, uint64_t gpa, uint64_t bytes)
{
    uint64_t pinned;
    int64_t given = dma_discard(balloon->device.dma, balloon->iommu, gpa, bytes, &pinned);

    balloon->counts.pinned_pages += pinned;
    if (given >= 0)
        return (uint64_t)given;
    balloon->counts.bad_ranges++;
    return 0;
}

/*
 * Free pages: the buffers themselves are what is given (5.5.6.7). When all of it was, all of
 * it has been written, with zeroes: then that is how many bytes the used element says.
 */
static uint32_t report(struct virtio_balloon *balloon)
{
    const struct virtqueue_chain *chain = &balloon->chain;
    uint64_t given = 0;

    /* What the device may only read it may not throw away either. */
    for (unsigned i = 0; i < chain->nwritable; i++) {
        const struct virtqueue_segment *segment = &chain->segments[chain->nreadable + i];

        given += discard(balloon, segment->iova, segment->len);
    }
    balloon->counts.reported_bytes += given;
    return given == chain->writable_bytes && given <= UINT32_MAX ? (uint32_t)given : 0;
}

/* Page numbers, of which neighbours, up or down, are given together. */
static void inflate(struct virtio_balloon *balloon, struct virtqueue *queue)
{
    uint32_t pfn[PIECE_PAGES];
    uint64_t first = 0, count = 0;
    unsigned done = 0;
    int64_t bytes;

    while (done < VIRTIO_BALLOON_PAGES_MAX &&
           (bytes = virtqueue_read(queue, &balloon->chain, done * sizeof(pfn[0]), pfn,
                                   sizeof(pfn))) >= (int64_t)sizeof(pfn[0])) {
        unsigned n = (unsigned)bytes / sizeof(pfn[0]);

        for (unsigned i = 0; i < n; i++) {
            if (count && pfn[i] == first + count) {
                count++;
            } else if (count && (uint64_t)pfn[i] + 1 == first) {
                first = pfn[i];
                count++;
            } else {
                if (count)
                    balloon->counts.inflated_bytes += discard(balloon, first * PFN_BYTES,
                                                              count * PFN_BYTES);
                first = pfn[i];
                count = 1;
            }
        }
        done += n;
    }
    if (count)
        balloon->counts.inflated_bytes += discard(balloon, first * PFN_BYTES, count * PFN_BYTES);
}

/* The buffer stays here until the host wants to know again (5.5.6.3). */
static int take_stats(struct virtio_balloon *balloon, struct virtqueue *queue)
{
    struct virtio_balloon_stat stat[VIRTIO_BALLOON_STATS];
    int64_t bytes = virtqueue_read(queue, &balloon->chain, 0, stat, sizeof(stat));
    int err = 0;

    /* A second one is more than a driver should offer: the first goes back. */
    if (balloon->state.stats_held)
        err = virtqueue_push(queue, balloon->state.stats_head, 0);
    balloon->state.stats_held = true;
    balloon->state.stats_head = balloon->chain.head;
    for (unsigned i = 0; bytes > 0 && i < (uint64_t)bytes / sizeof(stat[0]); i++) {
        if (stat[i].tag >= VIRTIO_BALLOON_STATS)
            continue;
        balloon->counts.stats[stat[i].tag] = stat[i].val;
        balloon->counts.stats_known |= 1ull << stat[i].tag;
    }
    balloon->counts.stats_updates++;
    return err;
}

/* One buffer; 0 or an error of virtqueue_push. */
static int carry_out(struct virtio_balloon *balloon, struct virtqueue *queue, unsigned index)
{
    uint32_t written = 0;

    switch (queue_of(balloon, index)) {
    case INFLATE: inflate(balloon, queue); break;
    case DEFLATE:
        /* Nothing to do for the pages: they are there when they are touched. */
        balloon->counts.deflated_pages += balloon->chain.readable_bytes / sizeof(uint32_t);
        break;
    case STATS: return take_stats(balloon, queue);
    case REPORTING: written = report(balloon); break;
    }
    return virtqueue_push(queue, balloon->chain.head, written);
}

static void notify(void *owner, unsigned index)
{
    struct virtio_balloon *balloon = owner;
    struct virtqueue *queue = &balloon->device.queues[index];
    unsigned turn = 0;
    int taken = 0;

    while (turn++ < VIRTIO_BALLOON_TURN && (taken = virtqueue_pop(queue, &balloon->chain)) > 0) {
        int err = carry_out(balloon, queue, index);

        if (err < 0) {
            taken = err;
            break;
        }
    }
    if (taken < 0)
        virtio_device_set_needs_reset(&balloon->device, queue->broken);
    else if (taken > 0)
        virtio_device_set_pending(&balloon->device, index);
    virtio_device_notify_used(&balloon->device, index);
}

static void reset(void *owner)
{
    struct virtio_balloon *balloon = owner;

    balloon->state.stats_held = false;
    balloon->state.actual_pages = 0;
}

static void stop(void *owner, unsigned index)
{
    struct virtio_balloon *balloon = owner;

    if (index == STATS)
        balloon->state.stats_held = false;
}

static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    const struct virtio_balloon *balloon = owner;
    const uint32_t config[] = { balloon->state.target_pages, balloon->state.actual_pages };
    uint64_t value = 0;

    _Static_assert(sizeof(config) == CONFIG_BYTES, "5.5.4");
    memcpy(&value, (const char *)config + offset, size);
    return value;
}

/* Of the configuration the driver may write `actual` alone (5.5.4). */
static void config_write(void *owner, uint32_t offset, unsigned size, uint64_t value)
{
    struct virtio_balloon *balloon = owner;

    if (offset == offsetof(struct virtio_balloon_config, actual) && size == sizeof(uint32_t))
        balloon->state.actual_pages = (uint32_t)value;
}

static const struct virtio_class balloon_class = {
    .name = "virtio-balloon",
    .device_id = VIRTIO_ID_BALLOON,
    .features = 1ull << VIRTIO_BALLOON_F_STATS_VQ | 1ull << VIRTIO_BALLOON_F_REPORTING,
    .nqueues = 5,
    .queue_max = QUEUE_SIZE,
    .config_bytes = CONFIG_BYTES,
    .notify = notify,
    .reset = reset,
    .stop = stop,
    .config_read = config_read,
    .config_write = config_write,
};

int virtio_balloon_create(struct virtio_balloon **created, const struct balloon_config *config)
{
    struct virtio_balloon *balloon = calloc(1, sizeof(*balloon));

    if (!balloon)
        return -ENOMEM;
    balloon->iommu = config->iommu;
    balloon->state.target_pages = config->target_pages;
    virtio_device_init(&balloon->device, &balloon_class, balloon, config->dma);
    vm_thread_init(&balloon->host, config->dma->vm, VM_THREAD_BACK, "balloon's host side");
    vm_thread_register(&balloon->host, -1);
    *created = balloon;
    return 0;
}

void virtio_balloon_destroy(struct virtio_balloon *balloon)
{
    vm_thread_unregister(&balloon->host);
    free(balloon);
}

void virtio_balloon_view(struct virtio_balloon *balloon, struct virtio_balloon_view *view)
{
    dma_lock(balloon->device.dma);
    *view = (struct virtio_balloon_view){
        .state = balloon->state,
        .counts = balloon->counts,
        .driven = virtio_device_is_running(&balloon->device),
        .tells_stats = virtio_device_has_feature(&balloon->device, VIRTIO_BALLOON_F_STATS_VQ),
    };
    dma_unlock(balloon->device.dma);
}

void virtio_balloon_set_target(struct virtio_balloon *balloon, uint32_t pages)
{
    vm_thread_enter(&balloon->host);
    dma_lock(balloon->device.dma);
    balloon->state.target_pages = pages;
    virtio_device_config_changed(&balloon->device);
    dma_unlock(balloon->device.dma);
    vm_thread_leave(&balloon->host);
}

int virtio_balloon_ask_stats(struct virtio_balloon *balloon)
{
    int err = -EAGAIN;

    vm_thread_enter(&balloon->host);
    dma_lock(balloon->device.dma);
    if (balloon->state.stats_held && !balloon->device.needs_reset) {
        balloon->state.stats_held = false;
        err = virtqueue_push(&balloon->device.queues[STATS], balloon->state.stats_head, 0);
        if (err)
            virtio_device_set_needs_reset(&balloon->device, balloon->device.queues[STATS].broken);
        else
            virtio_device_notify_used(&balloon->device, STATS);
    }
    dma_unlock(balloon->device.dma);
    vm_thread_leave(&balloon->host);
    return err;
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int balloon_create(struct device *device, const struct device_config *config,
                          const struct device_place *place)
{
    const struct balloon_config balloon_config = {
        .dma = place->dma,
        .iommu = place->iommu,
        .target_pages = (uint32_t)(config->bytes >> VIRTIO_BALLOON_PFN_SHIFT),
    };
    struct virtio_balloon *balloon;
    int err = virtio_balloon_create(&balloon, &balloon_config);

    if (err)
        return err;
    device->model = balloon;
    device->virtio = &balloon->device;
    return 0;
}

static void balloon_destroy(void *model)
{
    virtio_balloon_destroy(model);
}

static bool balloon_stats(void *model, struct device_stats *stats)
{
    static const char *const names[] = {
        [VIRTIO_BALLOON_S_SWAP_IN] = "swap_in_bytes",
        [VIRTIO_BALLOON_S_SWAP_OUT] = "swap_out_bytes",
        [VIRTIO_BALLOON_S_MAJFLT] = "major_faults",
        [VIRTIO_BALLOON_S_MINFLT] = "minor_faults",
        [VIRTIO_BALLOON_S_MEMFREE] = "free_memory_bytes",
        [VIRTIO_BALLOON_S_MEMTOT] = "total_memory_bytes",
        [VIRTIO_BALLOON_S_AVAIL] = "available_memory_bytes",
        [VIRTIO_BALLOON_S_CACHES] = "disk_caches_bytes",
        [VIRTIO_BALLOON_S_HTLB_PGALLOC] = "hugetlb_allocations",
        [VIRTIO_BALLOON_S_HTLB_PGFAIL] = "hugetlb_failures",
    };
    struct virtio_balloon_view view;

    virtio_balloon_view(model, &view);
    stats->number(stats, "target_pages", view.state.target_pages);
    stats->number(stats, "actual_pages", view.state.actual_pages);
    stats->number(stats, "reported_bytes", view.counts.reported_bytes);
    stats->number(stats, "inflated_bytes", view.counts.inflated_bytes);
    stats->number(stats, "pinned_pages", view.counts.pinned_pages);
    stats->number(stats, "bad_ranges", view.counts.bad_ranges);
    stats->number(stats, "stats_updates", view.counts.stats_updates);
    stats->group(stats, "stats");
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (view.counts.stats_known >> i & 1)
            stats->number(stats, names[i], view.counts.stats[i]);
    }
    stats->group(stats, NULL);
    return true;
}

const struct device_ops virtio_balloon_ops = {
    .name = "virtio-balloon",
    .stats_name = "balloon",
    .untranslated = true, /* see balloon.h */
    .create = balloon_create,
    .destroy = balloon_destroy,
    .stats = balloon_stats,
};
