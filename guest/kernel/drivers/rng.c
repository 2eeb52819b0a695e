#include "guest/kernel/drivers/rng.h"

#include "guest/abi/dma.h"
#include "guest/kernel/dma/dma.h"
#include "guest/kernel/drivers/virtio.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/space.h"

#define QUEUE_SIZE 4

/* One request at a time, into a page of the kernel's. */
struct rng {
    struct virtq queue;
    const char *page;
    uint64_t iova;
    enum { IDLE, RUNNING, DONE } phase;
    uint32_t pid; /* who asked */
    uint32_t bytes;
    int error;
    bool up;
};

_Static_assert(sizeof(struct rng) <= ABI_PAGE_BYTES, "one frame");

static struct device *source;

static int bring_up(struct device *device)
{
    struct rng *rng = device->state;
    uint64_t features;
    int err = virtio_negotiate(device, VIRTIO_F_EVENT_IDX, &features);

    if (!err)
        err = virtq_setup(&rng->queue, device, 0, QUEUE_SIZE, features);
    if (err)
        return err;
    virtio_ready(device);
    rng->up = true;
    return 0;
}

static int start(struct device *device)
{
    uint64_t frame = frame_alloc(ABI_FRAME_KERNEL, true);
    struct rng *rng = frame_va(frame);
    int err;

    if (!frame)
        return -ABI_ENOMEM;
    device->state = rng;
    rng->page = dma_alloc_page(device, DMA_WRITE, &rng->iova);
    err = rng->page ? bring_up(device) : -ABI_ENOMEM;
    if (!err && !source)
        source = device;
    return err;
}

static void end(struct rng *rng, int error)
{
    rng->phase = DONE;
    rng->error = error;
    process_wake(rng);
}

static void reset(struct device *device, int error)
{
    struct rng *rng = device->state;

    if (!rng)
        return;
    virtio_reset(device);
    while (virtq_take_back(&rng->queue))
        ;
    rng->up = false;
    if (rng->phase == RUNNING)
        end(rng, error);
}

static void interrupt(struct device *device)
{
    struct rng *rng = device->state;
    uint32_t bytes = 0;
    void *token;
    int got;

    if (!virtio_why(device) || !rng || !rng->up)
        return;
    do {
        while ((got = virtq_pop(&rng->queue, &token, &bytes)) == 1) {
            rng->bytes = bytes;
            end(rng, 0);
        }
    } while (!got && !virtq_arm(&rng->queue));
    if (got < 0 || virtio_is_broken(device)) {
        device->protocol_errors++;
        reset(device, -ABI_EPROTO);
    }
}

static void drop_owned(struct device *device, struct process *p)
{
    struct rng *rng = device->state;

    /* A request under way ends by itself, for nobody. */
    if (rng && rng->pid == p->pub.pid)
        rng->pid = 0;
    if (rng && rng->phase == DONE && !rng->pid) {
        rng->phase = IDLE;
        process_wake(rng);
    }
}

int64_t rng_call(struct process *p, uint64_t va, uint64_t bytes)
{
    struct rng *rng = source ? source->state : NULL;

    if (!rng)
        return -ABI_ENODEV;
    if (!bytes)
        return 0;
    if (rng->phase == DONE && !rng->pid)
        rng->phase = IDLE;
    if (rng->phase == IDLE) {
        if (bytes > ABI_PAGE_BYTES)
            bytes = ABI_PAGE_BYTES;
        if (!rng->up && (!source->domain || bring_up(source)))
            return -ABI_ENODEV;
        if (virtq_add(&rng->queue, rng->iova, (uint32_t)bytes, VIRTQ_WRITE, (uint32_t)bytes, rng))
            return -ABI_EIO;
        rng->phase = RUNNING;
        rng->pid = p->pub.pid;
        virtq_kick(&rng->queue);
    }
    if (rng->pid != p->pub.pid || rng->phase == RUNNING)
        return process_block(p, rng);
    rng->phase = IDLE;
    rng->pid = 0;
    process_wake(rng);
    if (rng->error)
        return rng->error;
    return space_write(p, va, rng->page, rng->bytes < bytes ? rng->bytes : bytes)
               ? -ABI_EFAULT
               : (int64_t)(rng->bytes < bytes ? rng->bytes : bytes);
}

const struct driver rng_driver = {
    .start = start, .interrupt = interrupt, .reset = reset, .drop_owned = drop_owned
};
