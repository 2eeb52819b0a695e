#include "devices/hostile/naive_queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "devices/iommu/dma_request.h"

#define CHUNK_BYTES 4096
/* What a walk really moves at most: a loop would move forever. Lengths count all the same. */
#define DATA_BYTES_MAX (1ull << 20)

struct table {
    uint64_t iova;
    uint64_t descriptors;
    bool indirect;
};

struct walker {
    struct dma *dma;
    const struct naive_queue_plan *plan;
    struct naive_queue_walk *walk;
};

static int reach(struct walker *walker, uint64_t iova, void *data, uint64_t len,
                 enum dma_direction direction, uint64_t *done)
{
    const struct dma_request request = {
        .iova = iova, .len = len, .direction = direction, .data = data
    };
    struct dma_outcome outcome;

    dma_perform(walker->dma, &request, &outcome);
    if (outcome.error)
        walker->walk->error = outcome.error;
    *done += outcome.done;
    return outcome.error;
}

static int fetch(struct walker *walker, uint64_t iova, void *to, uint64_t len)
{
    uint64_t done = 0;

    return reach(walker, iova, to, len, DMA_READ, &done);
}

/* Moves a descriptor's data: what it says now, not what it said when it was checked. */
static void move(struct walker *walker, const struct vring_desc *descriptor)
{
    bool writable = descriptor->flags & VRING_DESC_F_WRITE;
    uint64_t room = DATA_BYTES_MAX - walker->walk->done_bytes;
    uint64_t len = descriptor->len < room ? descriptor->len : room;
    uint8_t data[CHUNK_BYTES];

    memset(data, walker->plan->fill, sizeof(data));
    for (uint64_t at = 0; at < len; at += sizeof(data)) {
        uint64_t piece = len - at < sizeof(data) ? len - at : sizeof(data);

        if (reach(walker, descriptor->addr + at, data, piece, writable ? DMA_WRITE : DMA_READ,
                  &walker->walk->done_bytes))
            return;
    }
}

/* One descriptor, read twice: 0, or why the walk cannot go on. */
static int visit(struct walker *walker, const struct table *table, uint64_t index,
                 struct vring_desc *descriptor)
{
    const struct naive_queue_plan *plan = walker->plan;
    struct naive_queue_walk *walk = walker->walk;
    struct vring_desc checked;
    int err;

    walk->left_table |= index >= table->descriptors;
    err = fetch(walker, table->iova + index * sizeof(checked), &checked, sizeof(checked));
    if (err)
        return err;
    if (checked.len > plan->len_max && !(checked.flags & VRING_DESC_F_INDIRECT))
        return -EINVAL;
    if (plan->between)
        plan->between(plan->owner, walk->steps);
    err = fetch(walker, table->iova + index * sizeof(*descriptor), descriptor, sizeof(*descriptor));
    if (err)
        return err;
    walk->steps++;
    walk->changed |= memcmp(&checked, descriptor, sizeof(checked)) != 0;
    if (!(descriptor->flags & VRING_DESC_F_INDIRECT)) {
        walk->checked_bytes += checked.len;
        walk->used_bytes += descriptor->len;
        move(walker, descriptor);
    }
    return 0;
}

void naive_queue_walk(struct dma *dma, const struct naive_queue_plan *plan,
                      struct naive_queue_walk *walk)
{
    const struct virtqueue_state *queue = &plan->queue;
    struct walker walker = { .dma = dma, .plan = plan, .walk = walk };
    struct table table = { .iova = queue->descriptors, .descriptors = queue->size };
    struct vring_desc descriptor;
    uint16_t head;
    uint64_t index;

    *walk = (struct naive_queue_walk){ 0 };
    if (!queue->size)
        return;
    if (fetch(&walker, queue->driver + 4 + 2ull * (queue->next_available % queue->size), &head,
              sizeof(head)))
        return;
    index = head;
    while (visit(&walker, &table, index, &descriptor) == 0) {
        if (walk->steps == NAIVE_QUEUE_WATCHDOG) {
            walk->watchdog = true;
            return;
        }
        if (descriptor.flags & VRING_DESC_F_INDIRECT) {
            walk->nested |= table.indirect;
            table = (struct table){ .iova = descriptor.addr,
                                    .descriptors = descriptor.len / sizeof(descriptor),
                                    .indirect = true };
            index = 0;
        } else if (descriptor.flags & VRING_DESC_F_NEXT) {
            index = descriptor.next;
        } else {
            return;
        }
    }
}
