/* A disk returns a false id, length or index. */
#include <errno.h>
#include <string.h>

#include "devices/core/board.h"
#include "devices/hostile/blk.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/attacks/expect.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/setup.h"

#define SECTOR_BYTES 512
#define SECTOR_AT    0x200u /* of its page: neighbours on both sides */
#define LIE_MS       3000 /* for a driver that will wait for ever; one that should not gets longer */

/* What the disk lies about, one target each. */
static const struct used_ring_lie {
    const char *name;
    enum hostile_blk mode;
} used_ring_lies[] = {
    { "id never issued", HOSTILE_BLK_ID_NEVER_ISSUED },
    { "id out of range", HOSTILE_BLK_ID_OUT_OF_RANGE },
    { "id twice", HOSTILE_BLK_ID_TWICE },
    { "length", HOSTILE_BLK_LENGTH },
    { "index jump", HOSTILE_BLK_INDEX_JUMP },
};

static bool used_ring_expect(const struct policy *policy, unsigned device, unsigned n,
                             struct attack_plan *plan)
{
    const struct abi_policy_device *d = rules_device(policy, device);
    bool trusting = d->flags & ABI_DEVICE_TRUSTING;

    if (d->kind != ABI_DEVICE_BLK) {
        expect_none(plan, "used ring", "the device has none");
        return n == 0;
    }
    if (n >= sizeof(used_ring_lies) / sizeof(used_ring_lies[0]))
        return false;
    expect_effect(plan, used_ring_lies[n].name, 0, 0,
                  trusting ? "trusting: the driver believes what comes back"
                           : "the driver keeps its own record of what is under way");
    plan->effect.succeeds = trusting;
    return true;
}

/* Which disk of the guest's this device is. */
static uint32_t used_ring_disk(const struct harness *harness, unsigned device)
{
    uint32_t disk = 0;

    for (unsigned other = 0; other < device; other++)
        disk += rules_device(harness->policy, other)->kind == ABI_DEVICE_BLK;
    return disk;
}

static struct abi_harness_command used_ring_read_command(struct harness *harness, unsigned device)
{
    return (struct abi_harness_command){
        .op = ABI_HARNESS_BLOCK,
        .operation = ABI_BLOCK_READ,
        .block.device = used_ring_disk(harness, device),
        .block.va = harness_page(harness, HARNESS_PAGE_BLOCK)->va + SECTOR_AT,
        .block.bytes = SECTOR_BYTES,
    };
}

/* An honest read gets what is on the disk, which is zeroes. */
static void used_ring_read_honestly(struct harness *harness, struct matrix_cell *cell,
                                    const char *when)
{
    struct abi_harness_command command = used_ring_read_command(harness, cell->device);
    struct harness_page *page = harness_page(harness, HARNESS_PAGE_BLOCK);
    uint8_t zeroes[SECTOR_BYTES] = { 0 };

    harness_restore(page);
    if (harness_call(harness, &command, 1))
        return;
    harness_check(cell,
                  command.result == SECTOR_BYTES &&
                      !memcmp(page->host + SECTOR_AT, zeroes, sizeof(zeroes)),
                  "an honest read %s: expected %d and the sector, observed %lld", when,
                  SECTOR_BYTES, (long long)command.result);
    harness_restore(page);
}

static void used_ring_run(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    struct virtio_blk *blk = board_model(harness->board, cell->device, &virtio_blk_ops);
    const bool twice = used_ring_lies[n].mode == HOSTILE_BLK_ID_TWICE;
    const struct hostile_blk_plan lie = { .mode = used_ring_lies[n].mode,
                                          .skip = twice,
                                          .acts = 1 };
    const struct hostile_blk_plan honest = { .mode = HOSTILE_BLK_HONEST };
    struct abi_harness_command command = used_ring_read_command(harness, cell->device);
    struct hostile_blk_outcome outcome;
    uint64_t errors_before;
    int err;

    if (!harness_check(cell, blk != NULL, "expected a disk, observed none"))
        return;
    used_ring_read_honestly(harness, cell, "before");
    /* Something to be twice: requests that are under way together. */
    if (twice) {
        command.operation = ABI_BLOCK_MANY;
        command.block.va = harness_page(harness, HARNESS_PAGE_BLOCK)->va;
        command.block.count = 2;
        command.block.depth = 2;
        command.block.step = 1;
    }
    command.block.protocol_errors = 0;
    {
        struct abi_harness_command info = command;

        info.operation = ABI_BLOCK_INFO;
        if (harness_call(harness, &info, 1))
            return;
        errors_before = info.block.protocol_errors;
    }
    if (virtio_blk_turn_hostile(blk, &lie))
        return;
    err = harness_guest_post(&harness->guest, &command, 1);
    if (!err)
        err = harness_guest_collect(&harness->guest, &command, 1,
                                    cell->expected.succeeds ? LIE_MS : HARNESS_CALL_MS);
    hostile_blk_outcome(blk, &outcome);
    virtio_blk_turn_hostile(blk, &honest);
    if (err == -ETIMEDOUT) {
        /* Deceived, and it waits for a completion that went to another request: let it go. */
        dma_lock(harness->dma[cell->device]);
        virtio_device_set_needs_reset(&blk->device, "the test harness ends a wait");
        dma_unlock(harness->dma[cell->device]);
        harness_guest_collect(&harness->guest, &command, 1, HARNESS_CALL_MS);
        cell->observed.succeeds = true;
    } else if (!err) {
        cell->observed.succeeds = outcome.acts && command.result != -ABI_EPROTO &&
                                  command.block.protocol_errors == errors_before;
    }
    harness_check(cell, outcome.acts > 0, "expected the device to lie, observed that it did not");
    harness_settle(harness);
    used_ring_read_honestly(harness, cell, "after");
}

const struct attack attack_used_ring = {
    .name = "used-ring",
    .mechanism = "the device returns a false id, length or index",
    .stopped_by = "the driver keeps shadow metadata",
    .source = "VIA, ACSAC'21",
    .expect = used_ring_expect,
    .run = used_ring_run,
};
