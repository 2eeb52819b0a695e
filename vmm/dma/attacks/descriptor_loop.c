/* Cyclic next, nested indirect, an index beyond the table. */
#include <errno.h>

#include "devices/hostile/naive_queue.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/attacks/ring.h"

#define CHECKED_BYTES 16

static bool descriptor_loop_expect(const struct policy *policy, unsigned device, unsigned n,
                                   struct attack_plan *plan)
{
    static const char *const targets[] = { "cyclic next", "nested indirect", "index" };

    if (n >= sizeof(targets) / sizeof(targets[0]))
        return false;
    expect_effect(plan, targets[n], 0, 0,
                  rules_naive_queue(policy, device)
                      ? "naive queue: descriptors are believed"
                      : "chains are bounded by the queue's size and validated");
    plan->effect.succeeds = rules_naive_queue(policy, device);
    return true;
}

static void descriptor_loop_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    struct ring ring;
    int taken;

    if (!ring_make(harness, cell, &ring))
        return;
    for (unsigned i = 0; i < RING_SIZE; i++)
        ring.descriptor[i] = (struct vring_desc){ .addr = ring.data_iova,
                                                  .len = CHECKED_BYTES,
                                                  .flags = VRING_DESC_F_NEXT,
                                                  .next = (uint16_t)((i + 1) % RING_SIZE) };
    if (n == 1) {
        ring.descriptor[0] = (struct vring_desc){ .addr = ring.iova + RING_TABLE_AT,
                                                  .len = sizeof(struct vring_desc),
                                                  .flags = VRING_DESC_F_INDIRECT };
        ring.table[0] = ring.descriptor[0];
    } else if (n == 2) {
        ring.descriptor[0].next = RING_SIZE + 8;
    }
    if (rules_naive_queue(harness->policy, cell->device)) {
        const struct naive_queue_plan plan = { .queue = ring_state(&ring),
                                               .len_max = CHECKED_BYTES };
        struct naive_queue_walk walk;

        naive_queue_walk(harness->dma[cell->device], &plan, &walk);
        cell->observed.succeeds = walk.watchdog || walk.nested || walk.left_table;
    } else {
        struct virtqueue_chain chain;
        struct virtqueue queue;

        taken = ring_take(harness, cell->device, &ring, &queue, &chain);
        cell->observed.succeeds = taken > 0;
        harness_check(cell, taken == -EINVAL && queue.broken,
                      "the queue: expected it to be given up as broken, observed %d", taken);
    }
    ring_drop(harness, cell, &ring);
}

const struct attack attack_descriptor_loop = {
    .name = "descriptor-loop",
    .mechanism = "cyclic next, nested indirect, wild index",
    .stopped_by = "bound by the queue's size; reject nesting",
    .source = "virtio 1.2, 2.7.5",
    .expect = descriptor_loop_expect,
    .run = descriptor_loop_run,
};
