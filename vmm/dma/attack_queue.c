/* Attacks through virtqueues, from either side, and on what drives bounce copies. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "devices/hostile/blk.h"
#include "devices/hostile/naive_queue.h"
#include "vmm/dma/attack_run.h"
#include "vmm/machine/memory.h"

#define BOTH (RULES_READ | RULES_WRITE)

/* The ring's page: descriptors, the available and the used ring, an indirect table. */
#define QUEUE_SIZE    16
#define AVAILABLE_AT  0x200u
#define USED_AT       0x400u
#define TABLE_AT      0x600u
#define CHECKED_BYTES 16
#define EDITED_BYTES  (CHECKED_BYTES + ATTACK_TOCTOU_BYTES)

#define SECTOR_BYTES  512
#define SECTOR_AT     0x200u /* of its page: neighbours on both sides */
#define LIE_MS        3000 /* for a driver that will wait for ever; one that should not gets longer */

/* ---- A queue in the guest's memory, as a hostile driver fills it -------------------------- */

struct ring {
    uint64_t iova, data_iova;
    struct vring_desc *descriptor; /* where the device sees them */
    struct vring_desc *table;
    uint16_t *available;
    uint8_t *data;
};

static bool make_ring(struct lab *lab, struct lab_cell *cell, struct ring *ring)
{
    unsigned page = lab->first_use + LAB_PAGE_RING, data = lab->first_use + LAB_PAGE_DATA;
    struct abi_lab_command commands[] = {
        lab_map_command(lab, cell->device, page, BOTH),
        lab_map_command(lab, cell->device, data, BOTH),
    };
    uint8_t *host;

    if (lab_call(lab, commands, 2))
        return false;
    *ring = (struct ring){ .iova = commands[0].dma.iova, .data_iova = commands[1].dma.iova };
    host = lab_host(lab, cell->device, ring->iova, TABLE_AT + 0x100);
    ring->data = lab_host(lab, cell->device, ring->data_iova, ATTACK_PAGE_BYTES / 2);
    if (!lab_check(cell, !commands[0].result && !commands[1].result && host && ring->data,
                   "map a queue: expected 0 and 0, observed %lld and %lld",
                   (long long)commands[0].result, (long long)commands[1].result))
        return false;
    memset(host, 0, TABLE_AT + 0x100);
    ring->descriptor = (struct vring_desc *)host;
    ring->available = (uint16_t *)(host + AVAILABLE_AT);
    ring->table = (struct vring_desc *)(host + TABLE_AT);
    ring->available[1] = 1;
    return true;
}

static void drop_ring(struct lab *lab, struct lab_cell *cell, const struct ring *ring)
{
    struct abi_lab_command commands[] = {
        lab_command(cell->device, ABI_DMA_UNMAP),
        lab_command(cell->device, ABI_DMA_UNMAP),
        lab_command(cell->device, ABI_DMA_FLUSH),
    };

    commands[0].dma.iova = ring->iova;
    commands[1].dma.iova = ring->data_iova;
    lab_call(lab, commands, 3);
    lab_restore(lab_page(lab, LAB_PAGE_RING));
    lab_restore(lab_page(lab, LAB_PAGE_DATA));
}

static struct virtqueue_state state_of(const struct ring *ring)
{
    return (struct virtqueue_state){ .size = QUEUE_SIZE,
                                     .ready = true,
                                     .descriptors = ring->iova,
                                     .driver = ring->iova + AVAILABLE_AT,
                                     .device = ring->iova + USED_AT };
}

static bool is_naive(const struct lab *lab, unsigned device)
{
    return rules_device(lab->policy, device)->flags & ABI_DEVICE_NAIVE_QUEUE;
}

/* Takes the chain as strata's devices do: what virtqueue_pop said. */
static int take(struct lab *lab, unsigned device, const struct ring *ring, struct virtqueue *queue,
                struct virtqueue_chain *chain)
{
    int result;

    dma_lock(lab->door[device]);
    virtqueue_init(queue, lab->door[device], QUEUE_SIZE);
    queue->state = state_of(ring);
    queue->indirect = true;
    result = virtqueue_enable(queue);
    queue->state.ready = true;
    if (!result)
        result = virtqueue_pop(queue, chain);
    dma_unlock(lab->door[device]);
    return result;
}

void run_descriptor_loop(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct ring ring;
    int taken;

    if (!make_ring(lab, cell, &ring))
        return;
    for (unsigned i = 0; i < QUEUE_SIZE; i++)
        ring.descriptor[i] = (struct vring_desc){ .addr = ring.data_iova,
                                                  .len = CHECKED_BYTES,
                                                  .flags = VRING_DESC_F_NEXT,
                                                  .next = (uint16_t)((i + 1) % QUEUE_SIZE) };
    if (n == 1) {
        ring.descriptor[0] = (struct vring_desc){ .addr = ring.iova + TABLE_AT,
                                                  .len = sizeof(struct vring_desc),
                                                  .flags = VRING_DESC_F_INDIRECT };
        ring.table[0] = ring.descriptor[0];
    } else if (n == 2) {
        ring.descriptor[0].next = QUEUE_SIZE + 8;
    }
    if (is_naive(lab, cell->device)) {
        const struct naive_queue_plan plan = { .queue = state_of(&ring), .len_max = CHECKED_BYTES };
        struct naive_queue_walk walk;

        naive_queue_walk(lab->door[cell->device], &plan, &walk);
        cell->observed.succeeds = walk.watchdog || walk.nested || walk.left_table;
    } else {
        struct virtqueue_chain chain;
        struct virtqueue queue;

        taken = take(lab, cell->device, &ring, &queue, &chain);
        cell->observed.succeeds = taken > 0;
        lab_check(cell, taken == -EINVAL && queue.broken,
                  "the queue: expected it to be given up as broken, observed %d", taken);
    }
    drop_ring(lab, cell, &ring);
}

static void edit(void *owner, uint64_t step)
{
    struct ring *ring = owner;

    (void)step;
    ring->descriptor[0].len = EDITED_BYTES;
}

void run_descriptor_toctou(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    uint8_t before[EDITED_BYTES], fill[EDITED_BYTES];
    struct ring ring;

    (void)n;
    if (!make_ring(lab, cell, &ring))
        return;
    ring.descriptor[0] = (struct vring_desc){ .addr = ring.data_iova,
                                              .len = CHECKED_BYTES,
                                              .flags = VRING_DESC_F_WRITE };
    memcpy(before, ring.data, sizeof(before));
    for (unsigned i = 0; i < sizeof(fill); i++)
        fill[i] = 0x5a;
    memset(ring.data, 0xa5, sizeof(before));
    if (is_naive(lab, cell->device)) {
        const struct naive_queue_plan plan = { .queue = state_of(&ring),
                                               .len_max = CHECKED_BYTES,
                                               .fill = fill[0],
                                               .between = edit,
                                               .owner = &ring };
        struct naive_queue_walk walk;

        naive_queue_walk(lab->door[cell->device], &plan, &walk);
    } else {
        struct virtqueue_chain chain;
        struct virtqueue queue;
        int taken = take(lab, cell->device, &ring, &queue, &chain);

        lab_check(cell, taken == 1, "a sound chain: expected 1, observed %d", taken);
        edit(&ring, 0);
        dma_lock(lab->door[cell->device]);
        if (taken == 1)
            virtqueue_write(&queue, &chain, 0, fill, sizeof(fill));
        dma_unlock(lab->door[cell->device]);
    }
    lab_check(cell, !memcmp(ring.data, fill, CHECKED_BYTES),
              "what was checked: expected it to be written, observed that it was not");
    for (unsigned i = CHECKED_BYTES; i < EDITED_BYTES; i++)
        cell->observed.write_bytes += ring.data[i] != 0xa5;
    lab_conclude(cell);
    memcpy(ring.data, before, sizeof(before));
    drop_ring(lab, cell, &ring);
}

/* ---- used-ring ------------------------------------------------------------------------------- */

/* Which disk of the guest's this device is. */
static uint32_t disk_of(const struct lab *lab, unsigned device)
{
    uint32_t disk = 0;

    for (unsigned other = 0; other < device; other++)
        disk += rules_device(lab->policy, other)->kind == ABI_DEVICE_BLK;
    return disk;
}

static struct abi_lab_command read_command(struct lab *lab, unsigned device)
{
    return (struct abi_lab_command){
        .op = ABI_LAB_BLOCK,
        .operation = ABI_BLOCK_READ,
        .block.device = disk_of(lab, device),
        .block.va = lab_page(lab, LAB_PAGE_BLOCK)->va + SECTOR_AT,
        .block.bytes = SECTOR_BYTES,
    };
}

/* An honest read gets what is on the disk, which is zeroes. */
static void read_honestly(struct lab *lab, struct lab_cell *cell, const char *when)
{
    struct abi_lab_command command = read_command(lab, cell->device);
    struct lab_page *page = lab_page(lab, LAB_PAGE_BLOCK);
    uint8_t zeroes[SECTOR_BYTES] = { 0 };

    lab_restore(page);
    if (lab_call(lab, &command, 1))
        return;
    lab_check(cell,
              command.result == SECTOR_BYTES &&
                  !memcmp(page->host + SECTOR_AT, zeroes, sizeof(zeroes)),
              "an honest read %s: expected %d and the sector, observed %lld", when, SECTOR_BYTES,
              (long long)command.result);
    lab_restore(page);
}

void run_used_ring(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct virtio_blk *blk = board_blk(lab->board, cell->device);
    const bool twice = attack_lies[n].mode == HOSTILE_BLK_ID_TWICE;
    const struct hostile_blk_plan lie = { .mode = (enum hostile_blk)attack_lies[n].mode,
                                          .skip = twice,
                                          .acts = 1 };
    const struct hostile_blk_plan honest = { .mode = HOSTILE_BLK_HONEST };
    struct abi_lab_command command = read_command(lab, cell->device);
    struct hostile_blk_outcome outcome;
    uint64_t errors_before;
    int err;

    if (!lab_check(cell, blk != NULL, "expected a disk, observed none"))
        return;
    read_honestly(lab, cell, "before");
    /* Something to be twice: requests that are under way together. */
    if (twice) {
        command.operation = ABI_BLOCK_MANY;
        command.block.va = lab_page(lab, LAB_PAGE_BLOCK)->va;
        command.block.count = 2;
        command.block.depth = 2;
        command.block.step = 1;
    }
    command.block.protocol_errors = 0;
    {
        struct abi_lab_command info = command;

        info.operation = ABI_BLOCK_INFO;
        if (lab_call(lab, &info, 1))
            return;
        errors_before = info.block.protocol_errors;
    }
    if (virtio_blk_turn_hostile(blk, &lie))
        return;
    err = lab_guest_post(&lab->guest, &command, 1);
    if (!err)
        err = lab_guest_collect(&lab->guest, &command, 1,
                                cell->expected.succeeds ? LIE_MS : LAB_CALL_MS);
    hostile_blk_outcome(blk, &outcome);
    virtio_blk_turn_hostile(blk, &honest);
    if (err == -ETIMEDOUT) {
        /* Deceived, and it waits for a completion that went to somebody else: let it go. */
        dma_lock(lab->door[cell->device]);
        virtio_broken(&blk->device, "the lab ends a wait");
        dma_unlock(lab->door[cell->device]);
        lab_guest_collect(&lab->guest, &command, 1, LAB_CALL_MS);
        cell->observed.succeeds = true;
    } else if (!err) {
        cell->observed.succeeds = outcome.acts && command.result != -ABI_EPROTO &&
                                  command.block.protocol_errors == errors_before;
    }
    lab_check(cell, outcome.acts > 0, "expected the device to lie, observed that it did not");
    lab_settle(lab);
    read_honestly(lab, cell, "after");
}

/* ---- bounce-metadata ------------------------------------------------------------------------- */

/* From where on the device has the pool. */
static bool pool_at(struct lab *lab, unsigned device, uint64_t *iova)
{
    uint64_t gpa = lab->region_gpa[rules_device(lab->policy, device)->pool];

    *iova = gpa;
    return gpa && (rules_untranslated(lab->policy, device) || lab_iova_of(lab, device, gpa, iova));
}

void run_bounce_metadata(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    struct lab_page *page = lab_page(lab, LAB_PAGE_SCRATCH);
    struct lab_page *secret = lab_page(lab, LAB_PAGE_SECRET);
    struct abi_lab_command map = lab_map_command(lab, cell->device, (unsigned)(page - lab->arena),
                                                 BOTH);
    struct abi_bounce_slot forged = { .gpa = secret->gpa,
                                      .bytes = ABI_BOUNCE_BYTES,
                                      .in_use = BOTH + 4 };
    struct dma_request request = { .len = sizeof(forged), .direction = DMA_WRITE, .data = &forged };
    struct dma_outcome outcome;
    uint64_t pool = 0, slot;
    uint8_t before[sizeof(forged)] = { 0 }, *host;

    (void)n;
    if (lab_call(lab, &map, 1))
        return;
    if (!lab_check(cell, !map.result && pool_at(lab, cell->device, &pool) && map.dma.iova >= pool,
                   "map a buffer: expected it in the pool, observed result %lld, address 0x%llx",
                   (long long)map.result, (unsigned long long)map.dma.iova))
        return;
    slot = (map.dma.iova - pool) / ABI_BOUNCE_BYTES;
    request.iova = pool + slot * sizeof(forged);
    host = lab_host(lab, cell->device, request.iova, sizeof(forged));
    if (host)
        memcpy(before, host, sizeof(before));
    dma_perform(lab->door[cell->device], &request, &outcome);
    lab_check(cell, outcome.done == sizeof(forged),
              "write into the pool: expected %zu bytes done, observed %llu", sizeof(forged),
              (unsigned long long)outcome.done);
    lab_dma(lab, cell->device, ABI_DMA_UNMAP, &(struct abi_dma){ .iova = map.dma.iova });
    cell->observed.succeeds = memcmp(secret->host, secret->truth, ATTACK_PAGE_BYTES) != 0;
    /* Where it was no book-keeping, it was somebody's data. */
    if (host && !cell->observed.succeeds)
        memcpy(host, before, sizeof(before));
    lab_restore(secret);
    lab_restore(page);
}
