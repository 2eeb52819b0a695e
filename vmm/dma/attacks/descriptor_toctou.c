/* A descriptor is edited after it has been checked. */
#include <string.h>

#include "devices/hostile/naive_queue.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/ring.h"

#define CHECKED_BYTES   16
#define UNCHECKED_BYTES 48
#define EDITED_BYTES    (CHECKED_BYTES + UNCHECKED_BYTES)

static bool descriptor_toctou_expect(const struct policy *policy, unsigned device, unsigned n,
                                     struct attack_plan *plan)
{
    if (n)
        return false;
    expect_effect(
        plan, "descriptor", rules_naive_queue(policy, device) ? RULES_WRITE : 0, UNCHECKED_BYTES,
        rules_naive_queue(policy, device) ? "naive queue: a descriptor is read twice"
                                          : "a descriptor is copied once and the copy validated");
    return true;
}

static void descriptor_toctou_edit(void *owner, uint64_t step)
{
    struct ring *ring = owner;

    (void)step;
    ring->descriptor[0].len = EDITED_BYTES;
}

static void descriptor_toctou_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    uint8_t before[EDITED_BYTES], fill[EDITED_BYTES];
    struct ring ring;

    (void)n;
    if (!ring_make(harness, cell, &ring))
        return;
    ring.descriptor[0] = (struct vring_desc){ .addr = ring.data_iova,
                                              .len = CHECKED_BYTES,
                                              .flags = VRING_DESC_F_WRITE };
    memcpy(before, ring.data, sizeof(before));
    for (unsigned i = 0; i < sizeof(fill); i++)
        fill[i] = 0x5a;
    memset(ring.data, 0xa5, sizeof(before));
    if (rules_naive_queue(harness->policy, cell->device)) {
        const struct naive_queue_plan plan = { .queue = ring_state(&ring),
                                               .len_max = CHECKED_BYTES,
                                               .fill = fill[0],
                                               .between = descriptor_toctou_edit,
                                               .owner = &ring };
        struct naive_queue_walk walk;

        naive_queue_walk(harness->dma[cell->device], &plan, &walk);
    } else {
        struct virtqueue_chain chain;
        struct virtqueue queue;
        int taken = ring_take(harness, cell->device, &ring, &queue, &chain);

        harness_check(cell, taken == 1, "a sound chain: expected 1, observed %d", taken);
        descriptor_toctou_edit(&ring, 0);
        dma_lock(harness->dma[cell->device]);
        if (taken == 1)
            virtqueue_write(&queue, &chain, 0, fill, sizeof(fill));
        dma_unlock(harness->dma[cell->device]);
    }
    harness_check(cell, !memcmp(ring.data, fill, CHECKED_BYTES),
                  "what was checked: expected it to be written, observed that it was not");
    for (unsigned i = CHECKED_BYTES; i < EDITED_BYTES; i++)
        cell->observed.write_bytes += ring.data[i] != 0xa5;
    harness_conclude(cell);
    memcpy(ring.data, before, sizeof(before));
    ring_drop(harness, cell, &ring);
}

const struct attack attack_descriptor_toctou = {
    .name = "descriptor-toctou",
    .mechanism = "a descriptor is edited after its check",
    .stopped_by = "copy once, then validate the copy",
    .source = "virtio 1.2, 2.7",
    .expect = descriptor_toctou_expect,
    .run = descriptor_toctou_run,
};
