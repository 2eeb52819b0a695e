#include "devices/virtio/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/random.h>

#include "devices/core/device.h"

/* getrandom(2): up to 256 bytes come whole, and no signal interrupts them. */
#define PIECE_BYTES 256u

#define QUEUE_SIZE  64

/* Fills the chain in work: the bytes that got there, fewer where memory may not be written. */
static uint32_t fill(struct virtio_rng *rng)
{
    uint64_t wanted = rng->chain.writable_bytes;
    uint8_t piece[PIECE_BYTES];
    uint32_t done = 0;

    if (wanted > VIRTIO_RNG_FILL_MAX)
        wanted = VIRTIO_RNG_FILL_MAX;
    while (done < wanted) {
        size_t len = wanted - done < sizeof(piece) ? wanted - done : sizeof(piece);

        if (getrandom(piece, len, 0) != (ssize_t)len ||
            virtqueue_write(&rng->device.queues[0], &rng->chain, done, piece, len) != (int64_t)len)
            break;
        done += (uint32_t)len;
    }
    return done;
}

static void notify(void *owner, unsigned index)
{
    struct virtio_rng *rng = owner;
    struct virtqueue *queue = &rng->device.queues[index];
    unsigned turn = 0;
    int taken = 0;

    while (turn++ < VIRTIO_RNG_TURN && (taken = virtqueue_pop(queue, &rng->chain)) > 0) {
        uint32_t done = fill(rng);

        rng->bytes += done;
        taken = virtqueue_push(queue, rng->chain.head, done);
        if (taken < 0)
            break;
        taken = 1;
    }
    if (taken < 0)
        virtio_device_set_needs_reset(&rng->device, queue->broken);
    else if (taken > 0)
        virtio_device_set_pending(&rng->device, index);
    virtio_device_notify_used(&rng->device, index);
}

static const struct virtio_class rng_class = {
    .name = "virtio-rng",
    .device_id = VIRTIO_ID_RNG,
    .nqueues = 1,
    .queue_max = QUEUE_SIZE,
    .notify = notify,
};

int virtio_rng_create(struct virtio_rng **created, const struct rng_config *config)
{
    struct virtio_rng *rng = calloc(1, sizeof(*rng));

    if (!rng)
        return -ENOMEM;
    virtio_device_init(&rng->device, &rng_class, rng, config->dma);
    *created = rng;
    return 0;
}

void virtio_rng_destroy(struct virtio_rng *rng)
{
    free(rng);
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int rng_create(struct device *device, const struct device_config *config,
                      const struct device_place *place)
{
    const struct rng_config rng_config = { .dma = place->dma };
    struct virtio_rng *rng;
    int err = virtio_rng_create(&rng, &rng_config);

    (void)config;
    if (err)
        return err;
    device->model = rng;
    device->virtio = &rng->device;
    return 0;
}

static void rng_destroy(void *model)
{
    virtio_rng_destroy(model);
}

const struct device_ops virtio_rng_ops = {
    .name = "virtio-rng",
    .create = rng_create,
    .destroy = rng_destroy,
};
