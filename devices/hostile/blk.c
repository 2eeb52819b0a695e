#include "devices/hostile/blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE         0
#define DEFAULT_BYTES 64
#define BYTES_MAX     4096
#define JUMP          1000 /* elements that nobody asked for */
#define BAD_STATUS    0x5a

struct withheld {
    struct virtio_blk_completion completion;
    uint64_t resets; /* the device's then: after a reset nothing is owed any more */
};

struct hostile_blk_state {
    struct virtio_blk *blk;
    struct hostile_blk_plan plan;
    struct hostile_blk_outcome outcome;
    bool completed; /* last_head means something */
    uint16_t last_head;
    unsigned nremembered;
    struct dma_range remembered[VIRTQUEUE_SIZE_MAX];
    unsigned nwithheld;
    struct withheld withheld[VIRTIO_BLK_QUEUE_MAX];
};

static struct virtqueue *queue_of(struct hostile_blk_state *hostile)
{
    return &hostile->blk->device.queues[QUEUE];
}

/* ---- Lies in the used ring, written by hand: virtqueue_push would not tell them ---- */

static void write_element(struct hostile_blk_state *hostile, uint32_t id, uint32_t len)
{
    const struct virtqueue_state *queue = &queue_of(hostile)->state;
    uint32_t element[2] = { id, len };

    if (queue->size)
        dma_write(hostile->blk->dma, queue->device + 4 + 8ull * (queue->next_used % queue->size),
                  element, sizeof(element));
}

/* Shows the driver `count` more used elements; all but the first are whatever lies there. */
static void write_index(struct hostile_blk_state *hostile, uint16_t count)
{
    struct virtqueue_state *queue = &queue_of(hostile)->state;

    queue->next_used = (uint16_t)(queue->next_used + count);
    dma_write(hostile->blk->dma, queue->device + 2, &queue->next_used, sizeof(queue->next_used));
}

static void write_status(struct hostile_blk_state *hostile,
                         const struct virtio_blk_completion *completion)
{
    dma_write(hostile->blk->dma, completion->status_iova, &completion->status, 1);
}

/* Gives the request back as another one. */
static void lie_about_id(struct hostile_blk_state *hostile,
                         struct virtio_blk_completion *completion, uint32_t id)
{
    write_status(hostile, completion);
    write_element(hostile, id, completion->written);
    write_index(hostile, 1);
    completion->taken = true;
}

/* A descriptor that heads no request under way: the driver uses low ones first. */
static uint32_t never_issued(struct hostile_blk_state *hostile, uint16_t head)
{
    uint16_t last = (uint16_t)(queue_of(hostile)->state.size - 1);

    return head == last ? last - 1u : last;
}

/* ---- Memory that no request gave the device ---- */

/*
 * Page by page, as on a bus. The completion came with the dma handle's lock held, so this cannot
 * be dma_perform; the dma handle is the same.
 */
static void write_memory(struct hostile_blk_state *hostile, uint64_t iova, uint64_t bytes)
{
    uint8_t data[BYTES_MAX];
    struct dma_outcome *last = &hostile->outcome.last;

    *last = (struct dma_outcome){ 0 };
    memset(data, hostile->plan.fill, sizeof(data));
    while (bytes) {
        uint64_t page = BYTES_MAX - iova % BYTES_MAX;
        size_t len = (size_t)(bytes < page ? bytes : page);

        hostile->outcome.tried_bytes += len;
        last->error = dma_write(hostile->blk->dma, iova, data, len);
        if (last->error) {
            last->faulted = last->error == -EFAULT;
            hostile->outcome.faults++;
        } else {
            last->target = DMA_RAM;
            last->done += len;
            hostile->outcome.done_bytes += len;
        }
        iova += len;
        bytes -= len;
    }
}

static void remember(struct hostile_blk_state *hostile,
                     const struct virtio_blk_completion *completion)
{
    hostile->nremembered = completion->ndata;
    memcpy(hostile->remembered, completion->data, completion->ndata * sizeof(*completion->data));
}

static void withhold(struct hostile_blk_state *hostile, struct virtio_blk_completion *completion)
{
    if (hostile->nwithheld == VIRTIO_BLK_QUEUE_MAX)
        return; /* more than a driver can have under way */
    hostile->withheld[hostile->nwithheld++] = (struct withheld){ *completion,
                                                                 hostile->blk->resets };
    completion->taken = true;
}

static void give_back_withheld(struct hostile_blk_state *hostile)
{
    bool any = false;

    for (unsigned i = 0; i < hostile->nwithheld; i++) {
        const struct withheld *withheld = &hostile->withheld[i];

        if (withheld->resets != hostile->blk->resets)
            continue;
        write_status(hostile, &withheld->completion);
        write_element(hostile, withheld->completion.head, withheld->completion.written);
        write_index(hostile, 1);
        any = true;
    }
    hostile->nwithheld = 0;
    if (any)
        virtio_device_notify_used(&hostile->blk->device, QUEUE);
}

/* ---- The one hook ---- */

static bool turn_has_come(struct hostile_blk_state *hostile,
                          const struct virtio_blk_completion *completion)
{
    const struct hostile_blk_plan *plan = &hostile->plan;
    uint64_t n = hostile->outcome.completions++;

    if (n < plan->skip || (plan->acts && hostile->outcome.acts >= plan->acts))
        return false;
    switch (plan->mode) {
    case HOSTILE_BLK_ID_TWICE: return hostile->completed;
    case HOSTILE_BLK_WRITE_OUTSIDE:
    case HOSTILE_BLK_REPLAY: return completion->ndata;
    default: return true;
    }
}

static void act(struct hostile_blk_state *hostile, struct virtio_blk_completion *completion)
{
    const struct hostile_blk_plan *plan = &hostile->plan;
    uint64_t bytes = plan->bytes ? plan->bytes : DEFAULT_BYTES;
    const struct dma_range *last;

    switch (plan->mode) {
    case HOSTILE_BLK_ID_NEVER_ISSUED:
        lie_about_id(hostile, completion, never_issued(hostile, completion->head));
        break;
    case HOSTILE_BLK_ID_OUT_OF_RANGE:
        lie_about_id(hostile, completion, 0x10000u + queue_of(hostile)->state.size);
        break;
    case HOSTILE_BLK_ID_TWICE: lie_about_id(hostile, completion, hostile->last_head); break;
    case HOSTILE_BLK_LENGTH: completion->written = 0x7fffffff; break;
    case HOSTILE_BLK_INDEX_JUMP:
        write_status(hostile, completion);
        write_element(hostile, completion->head, completion->written);
        write_index(hostile, JUMP);
        completion->taken = true;
        break;
    case HOSTILE_BLK_STATUS: completion->status = BAD_STATUS; break;
    case HOSTILE_BLK_WRITE_OUTSIDE:
        last = &completion->data[completion->ndata - 1];
        write_memory(hostile, last->iova + last->len, bytes);
        break;
    case HOSTILE_BLK_WRITE_ANYWHERE: write_memory(hostile, plan->address, bytes); break;
    case HOSTILE_BLK_REPLAY: remember(hostile, completion); break;
    case HOSTILE_BLK_WITHHOLD: withhold(hostile, completion); break;
    case HOSTILE_BLK_HONEST:
    case HOSTILE_BLK_CAPACITY:
    case HOSTILE_BLK_MODES: break;
    }
}

static void before_push(void *owner, struct virtio_blk_completion *completion)
{
    struct hostile_blk_state *hostile = owner;
    uint16_t head = completion->head;

    if (turn_has_come(hostile, completion)) {
        hostile->outcome.acts++;
        act(hostile, completion);
    }
    hostile->last_head = head;
    hostile->completed = true;
}

/* ---- What the host commands ---- */

static void set_capacity(struct hostile_blk_state *hostile, uint64_t sectors)
{
    if (hostile->blk->state.capacity == sectors)
        return;
    hostile->blk->state.capacity = sectors;
    virtio_device_config_changed(&hostile->blk->device);
}

int virtio_blk_turn_hostile(struct virtio_blk *blk, const struct hostile_blk_plan *plan)
{
    struct hostile_blk_state *hostile;
    int err = 0;

    if ((unsigned)plan->mode >= HOSTILE_BLK_MODES)
        return -EINVAL;
    dma_lock(blk->dma);
    hostile = blk->hostile;
    if (!hostile && plan->mode == HOSTILE_BLK_HONEST)
        goto unlock;
    if (!hostile) {
        hostile = calloc(1, sizeof(*hostile));
        if (!hostile) {
            err = -ENOMEM;
            goto unlock;
        }
        hostile->blk = blk;
        blk->hostile = hostile;
    }
    if (plan->mode != HOSTILE_BLK_WITHHOLD)
        give_back_withheld(hostile);
    hostile->plan = *plan;
    hostile->outcome = (struct hostile_blk_outcome){ 0 };
    hostile->completed = false;
    hostile->nremembered = 0;
    set_capacity(hostile, plan->mode == HOSTILE_BLK_CAPACITY ? blk->block->sectors * 16
                                                             : blk->block->sectors);
    hostile->outcome.acts = plan->mode == HOSTILE_BLK_CAPACITY;
    blk->before_push = plan->mode == HOSTILE_BLK_HONEST ? NULL : before_push;
unlock:
    dma_unlock(blk->dma);
    return err;
}

/* One range through the dma handle, as a bus would carry it, at most a page at a time. */
static void replay_range(struct virtio_blk *blk, const struct dma_range *range, uint8_t fill,
                         struct dma_outcome *outcome)
{
    uint8_t data[BYTES_MAX];

    memset(data, fill, sizeof(data));
    for (uint64_t at = 0; at < range->len && !outcome->error; at += sizeof(data)) {
        uint64_t left = range->len - at, done = outcome->done;
        const struct dma_request request = { .iova = range->iova + at,
                                             .len = left < sizeof(data) ? left : sizeof(data),
                                             .direction = DMA_WRITE,
                                             .data = data };

        dma_perform(blk->dma, &request, outcome);
        outcome->done += done;
    }
}

int hostile_blk_replay(struct virtio_blk *blk, struct dma_outcome *outcome)
{
    struct dma_range ranges[VIRTQUEUE_SIZE_MAX];
    struct hostile_blk_state *hostile;
    uint64_t tried = 0;
    unsigned n = 0;
    uint8_t fill = 0;

    *outcome = (struct dma_outcome){ 0 };
    dma_lock(blk->dma);
    hostile = blk->hostile;
    if (hostile) {
        n = hostile->nremembered;
        fill = hostile->plan.fill;
        memcpy(ranges, hostile->remembered, n * sizeof(*ranges));
    }
    dma_unlock(blk->dma);
    if (!n)
        return -ENOENT;
    for (unsigned i = 0; i < n && !outcome->error; i++) {
        replay_range(blk, &ranges[i], fill, outcome);
        tried += ranges[i].len;
    }
    dma_lock(blk->dma);
    hostile->outcome.tried_bytes += tried;
    hostile->outcome.done_bytes += outcome->done;
    hostile->outcome.faults += outcome->faulted;
    hostile->outcome.last = *outcome;
    dma_unlock(blk->dma);
    return 0;
}

void hostile_blk_outcome(struct virtio_blk *blk, struct hostile_blk_outcome *outcome)
{
    struct hostile_blk_state *hostile;

    *outcome = (struct hostile_blk_outcome){ 0 };
    dma_lock(blk->dma);
    hostile = blk->hostile;
    if (hostile) {
        *outcome = hostile->outcome;
        for (unsigned i = 0; i < hostile->nwithheld; i++)
            outcome->withheld += hostile->withheld[i].resets == blk->resets;
    }
    dma_unlock(blk->dma);
}
