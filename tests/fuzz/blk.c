/*
 * libFuzzer: requests to virtio-blk from a driver that may do anything. The input is a
 * script of register writes and memory; requests are made plausible where it says so,
 * because a fuzzer would hardly find a chain by itself. The disk is a small array.
 */
#include <errno.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/blk.h"
#include "tests/unit/ring.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES (64ull << 10)
#define SECTORS   32
#define QUEUE     16
#define TABLE     0x0000
#define AVAILABLE 0x1000
#define USED      0x2000
#define DATA      0x3000
#define STEPS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct store {
    struct block block;
    uint8_t sectors[SECTORS * BLOCK_SECTOR_BYTES];
    unsigned n;
    struct block_request *queued[VIRTIO_BLK_QUEUE_MAX];
    bool held;
};

static void submit(struct block *block, struct block_request *request)
{
    struct store *store = (struct store *)block;

    /* What the contract promises to a store, whatever the driver asked for. */
    if (request->offset + request->bytes > sizeof(store->sectors) ||
        store->n == VIRTIO_BLK_QUEUE_MAX || request->niov > BLOCK_IOVECS_MAX)
        abort();
    store->queued[store->n++] = request;
}

static void finish_all(struct store *store)
{
    unsigned n = store->n;
    struct block_request *requests[VIRTIO_BLK_QUEUE_MAX];

    memcpy(requests, store->queued, n * sizeof(requests[0]));
    store->n = 0;
    for (unsigned i = 0; i < n; i++) {
        struct block_request *request = requests[i];
        uint8_t *at = store->sectors + request->offset;

        request->transfer = 0;
        request->result = request->offset == 5 * BLOCK_SECTOR_BYTES ? -EIO : 0;
        for (unsigned j = 0; j < request->niov && !request->result; j++) {
            if (request->op == BLOCK_READ)
                memcpy(request->iov[j].iov_base, at, request->iov[j].iov_len);
            else
                memcpy(at, request->iov[j].iov_base, request->iov[j].iov_len);
            at += request->iov[j].iov_len;
            request->transfer += request->iov[j].iov_len;
        }
        if (!request->result && request->op <= BLOCK_WRITE && request->transfer != request->bytes)
            abort();
        store->block.user.done(store->block.user.owner, request);
    }
}

static void kick(struct block *block)
{
    struct store *store = (struct store *)block;

    if (!store->held)
        finish_all(store);
}

static void cancel(struct block *block, struct block_request *request)
{
    (void)block;
    atomic_store(&request->cancelled, true);
}

static void release(struct block *block)
{
    struct store *store = (struct store *)block;

    block->user.enter(block->user.owner);
    finish_all(store);
    block->user.leave(block->user.owner);
}

static const struct block_ops ops = { submit, kick, cancel, release };

/* ---- The script ---- */

struct script {
    const uint8_t *at;
    size_t left;
};

static uint32_t take(struct script *script, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes && script->left; i++, script->left--)
        value |= (uint32_t)*script->at++ << 8 * i;
    return value;
}

static void start(struct virtio_device *device, uint8_t *ram, uint32_t without)
{
    uint64_t features = (device->class->features & ~(uint64_t)without) | 1ull << 32 | 3ull << 28;

    memset(ram + AVAILABLE, 0, 4);
    memset(ram + USED, 0, 4);
    ring_set_register(device, VIRTIO_MMIO_STATUS, 0);
    ring_set_register(device, VIRTIO_MMIO_STATUS, 3);
    for (unsigned i = 0; i < 2; i++) {
        ring_set_register(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
        ring_set_register(device, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * i));
    }
    ring_set_register(device, VIRTIO_MMIO_STATUS, 11);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_NUM, QUEUE);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_DESC_LOW, TABLE);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAILABLE);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_USED_LOW, USED);
    ring_set_register(device, VIRTIO_MMIO_QUEUE_READY, 1);
    ring_set_register(device, VIRTIO_MMIO_STATUS, 15);
}

/* A request in up to QUEUE pieces, from what the script says; its chain is made available. */
static void offer(struct script *script, uint8_t *ram)
{
    struct vring_desc *table = (struct vring_desc *)(void *)(ram + TABLE);
    struct vring_avail *available = (struct vring_avail *)(void *)(ram + AVAILABLE);
    struct virtio_blk_outhdr header = { .type = take(script, 1) % 16, .sector = take(script, 1) };
    unsigned n = 1 + take(script, 1) % 6, head = take(script, 1) % QUEUE;

    memcpy(ram + DATA, &header, sizeof(header));
    for (unsigned i = 0; i < n; i++) {
        uint32_t bits = take(script, 1), at = i ? take(script, 2) : DATA;
        uint32_t len = bits & 0x40 ? take(script, 4) : (bits & 0x20 ? 512 : 16);
        uint16_t flags = (uint16_t)((i + 1 < n ? VRING_DESC_F_NEXT : 0) | (bits & 7));

        if (i == 0 && !(bits & 0x80))
            len = sizeof(header), flags = (uint16_t)(flags & ~2u);
        table[(head + i) % QUEUE] = (struct vring_desc){
            .addr = at, .len = len, .flags = flags, .next = (uint16_t)((head + i + 1) % QUEUE)
        };
    }
    available->ring[available->idx % QUEUE] = (uint16_t)head;
    available->idx++;
}

/* A reset waits for what is held, so it is let go before one can come. */
static void let_go(struct store *store)
{
    store->held = false;
    release(&store->block);
}

static void step(struct script *script, struct virtio_blk *blk, struct store *store, uint8_t *ram)
{
    struct virtio_device *device = &blk->device;
    uint32_t where;
    unsigned size;

    switch (take(script, 1) % 10) {
    case 0:
    case 1:
    case 2: offer(script, ram); break;
    case 3:
    case 4: ring_set_register(device, VIRTIO_MMIO_QUEUE_NOTIFY, 0); break;
    case 5:
        where = take(script, 2);
        for (unsigned i = 0; i < 8; i++)
            ram[(where + i) % RAM_BYTES] = (uint8_t)take(script, 1);
        break;
    case 6:
        let_go(store);
        where = take(script, 2) % VIRTIO_MMIO_BYTES;
        size = 1u << take(script, 1) % 4;
        ring_write(device, where, size, take(script, 4));
        ring_register(device, where, 4);
        break;
    case 7: store->held = take(script, 1) & 1; break;
    case 8: release(&store->block); break;
    case 9:
        let_go(store);
        start(device, ram, take(script, 2));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t ram[RAM_BYTES] __attribute__((aligned(4096)));
    struct memory memory = { .vm_fd = -1, .bytes = RAM_BYTES };
    struct store store = { .block = { .ops = &ops, .sectors = SECTORS } };
    struct script script = { data, size };
    struct virtio_blk *blk;
    struct dma dma;

    if (size < 4)
        return -1;
    store.block.read_only = take(&script, 1) & 1;
    memset(ram, 0, sizeof(ram));
    memory.slots[memory.nslots++] = (struct memory_slot){ .bytes = RAM_BYTES, .hva = ram };
    if (dma_create(&dma, &memory, NULL, 1) ||
        virtio_blk_create_on(&blk, &dma, &store.block, "fuzz"))
        abort();
    start(&blk->device, ram, take(&script, 2));
    for (unsigned i = 0; i < STEPS_MAX && script.left; i++)
        step(&script, blk, &store, ram);
    virtio_blk_destroy(blk);
    if (dma.transfers)
        abort();
    dma_destroy(&dma);
    return 0;
}
