/*
 * A virtio-blk for tests, on no bus, over a store that the test commands: it fails where
 * it is told to, and holds requests back until it is told to go on.
 */
#ifndef STRATA_TESTS_DISK_H
#define STRATA_TESTS_DISK_H

#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "devices/virtio/blk.h"
#include "tests/unit/ring.h"
#include "vmm/machine/memory.h"

#define DISK_SECTORS   256
#define DISK_RAM_BYTES (4ull << 20)
#define DISK_RING      0x1000ull /* the queue */
#define DISK_HEADERS   0x8000ull /* headers and status bytes of requests */
#define DISK_DATA      0x10000ull
#define DISK_PAGE      4096ull
#define DISK_DOMAIN    5 /* of the IOMMU's, for a disk behind one */

struct disk_store {
    struct block block;
    uint8_t sectors[DISK_SECTORS * BLOCK_SECTOR_BYTES];
    uint64_t fail_first, fail_last; /* sectors on which `fail` happens */
    int fail;                       /* 0 or -errno */
    bool held;                      /* requests stay until disk_release */
    bool sync;                      /* of the last write */
    unsigned nqueued, most, kicks, destroyed;
    struct block_request *queued[1024];
    atomic_uint cancels;
};

struct disk {
    struct disk_store store;
    struct memory memory;
    uint8_t *ram;
    struct iommu *iommu; /* NULL: none */
    struct dma dma;
    struct virtio_blk *blk;
    struct ring ring;
};

static inline void disk_carry_out(struct disk_store *store, struct block_request *request)
{
    uint64_t first = request->offset / BLOCK_SECTOR_BYTES;
    uint64_t last = (request->offset + request->bytes - 1) / BLOCK_SECTOR_BYTES;
    uint8_t *at = store->sectors + request->offset;

    request->result = 0;
    request->transfer = 0;
    if (atomic_load(&request->cancelled)) {
        request->result = -ECANCELED;
        return;
    }
    if (store->fail && first <= store->fail_last && store->fail_first <= last) {
        request->result = store->fail;
        return;
    }
    if (request->op == BLOCK_WRITE)
        store->sync = request->sync;
    if (request->op == BLOCK_ZERO || request->op == BLOCK_DISCARD)
        memset(at, request->op == BLOCK_ZERO ? 0 : 0xdd, request->bytes);
    for (unsigned i = 0; i < request->niov; i++) {
        if (request->op == BLOCK_READ)
            memcpy(request->iov[i].iov_base, at, request->iov[i].iov_len);
        else
            memcpy(at, request->iov[i].iov_base, request->iov[i].iov_len);
        at += request->iov[i].iov_len;
        request->transfer += request->iov[i].iov_len;
    }
}

static inline void disk_submit(struct block *block, struct block_request *request)
{
    struct disk_store *store = (struct disk_store *)block;

    ck_assert_uint_lt(store->nqueued, 1024);
    store->queued[store->nqueued++] = request;
    if (store->nqueued > store->most)
        store->most = store->nqueued;
}

static inline void disk_complete(struct disk_store *store)
{
    unsigned n = store->nqueued;
    struct block_request *requests[1024];

    memcpy(requests, store->queued, n * sizeof(requests[0]));
    store->nqueued = 0;
    for (unsigned i = 0; i < n; i++) {
        disk_carry_out(store, requests[i]);
        store->block.user.done(store->block.user.owner, requests[i]);
    }
}

static inline void disk_kick(struct block *block)
{
    struct disk_store *store = (struct disk_store *)block;

    store->kicks++;
    if (!store->held)
        disk_complete(store);
}

static inline void disk_cancel(struct block *block, struct block_request *request)
{
    struct disk_store *store = (struct disk_store *)block;

    atomic_store(&request->cancelled, true);
    atomic_fetch_add(&store->cancels, 1);
}

/* What is held is carried out, as on the store's thread. */
static inline void disk_release(struct disk *disk)
{
    const struct block_user *user = &disk->store.block.user;

    user->enter(user->owner);
    disk_complete(&disk->store);
    user->leave(user->owner);
}

static inline void disk_destroy_store(struct block *block)
{
    struct disk_store *store = (struct disk_store *)block;
    const struct block_user *user = &block->user;

    user->enter(user->owner);
    disk_complete(store);
    user->leave(user->owner);
    store->destroyed++;
}

static inline void disk_fill(uint8_t *bytes, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(i * 13 + i / 509 + seed);
}

/* Negotiates and sets the queue up (`size` 1 to VIRTIO_BLK_QUEUE_MAX). */
static inline void disk_start(struct disk *disk, uint64_t without, uint16_t size)
{
    struct virtio_device *device = &disk->blk->device;

    ck_assert(ring_negotiate(device, ring_features(device) & ~without));
    ring_setup(&disk->ring, device, 0, disk->ram, DISK_RING, size);
    ring_driver_ok(device);
}

/* `iommu` NULL: not translated; else as endpoint 1. The ring is not set up yet. */
static inline void disk_create(struct disk *disk, bool read_only, struct iommu *iommu)
{
    static const struct block_ops ops = { disk_submit, disk_kick, disk_cancel, disk_destroy_store };
    struct disk_store *store = &disk->store;

    *store = (struct disk_store){
        .block = { .ops = &ops, .sectors = DISK_SECTORS, .read_only = read_only }
    };
    disk_fill(store->sectors, sizeof(store->sectors), 1);
    ck_assert_int_eq(dma_create(&disk->dma, &disk->memory, iommu, 1), 0);
    ck_assert_int_eq(
        virtio_blk_create_on(&disk->blk, &disk->dma, &store->block, "an image with a long name"),
        0);
}

static inline void disk_memory(struct disk *disk)
{
    ck_assert_int_eq(memory_create(&disk->memory, -1, DISK_RAM_BYTES, MEMORY_4K), 0);
    disk->ram = memory_at(&disk->memory, 0, DISK_RAM_BYTES);
}

static inline void disk_destroy(struct disk *disk)
{
    virtio_blk_destroy(disk->blk);
    dma_destroy(&disk->dma);
}

/* Pages of memory, mapped for the device one to one. */
static inline void disk_map(struct disk *disk, uint64_t first, uint64_t pages, uint32_t rights)
{
    ck_assert_int_eq(
        iommu_map(disk->iommu, DISK_DOMAIN, first, first + pages * DISK_PAGE - 1, first, rights),
        0);
}

/* A disk behind an IOMMU, started: its ring and headers are mapped, data is not. */
static inline void disk_setup_iommu(struct disk *disk)
{
    const struct iommu_config plain = { 0 };

    disk_memory(disk);
    ck_assert_int_eq(iommu_create(&disk->iommu, &disk->memory, &plain), 0);
    disk_create(disk, false, disk->iommu);
    ck_assert_int_eq(iommu_attach(disk->iommu, 1, DISK_DOMAIN, false), 0);
    disk_map(disk, DISK_RING, 15, IOMMU_READ | IOMMU_WRITE);
    disk_start(disk, 0, 64);
}

static inline void disk_teardown_iommu(struct disk *disk)
{
    disk_destroy(disk);
    iommu_destroy(disk->iommu);
    memory_destroy(&disk->memory);
}

/* Puts a request's header at slot `n` of DISK_HEADERS; its status byte lies behind it. */
static inline uint64_t disk_header(struct disk *disk, unsigned n, uint32_t type, uint64_t sector)
{
    uint64_t at = DISK_HEADERS + 32ull * n;
    struct virtio_blk_outhdr header = { .type = type, .sector = sector };

    memcpy(disk->ram + at, &header, sizeof(header));
    disk->ram[at + 16] = 0xff;
    return at;
}

static inline uint8_t disk_status(const struct disk *disk, unsigned n)
{
    return disk->ram[DISK_HEADERS + 32ull * n + 16];
}

/* Offers one request with one data segment (bytes 0: none), in slot n; no kick. */
static inline uint16_t disk_offer(struct disk *disk, unsigned n, uint32_t type, uint64_t sector,
                                  uint64_t data, uint32_t bytes)
{
    uint64_t header = disk_header(disk, n, type, sector);
    bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
    const struct ring_segment segments[] = { { header, 16, false },
                                             { data, bytes, in },
                                             { header + 16, 1, true } };
    const struct ring_segment bare[] = { segments[0], segments[2] };

    return bytes ? ring_add(&disk->ring, segments, 3) : ring_add(&disk->ring, bare, 2);
}

/* The same in slot 0, kicked and taken: its status; 0xff where none came. */
static inline uint8_t disk_do(struct disk *disk, uint32_t type, uint64_t sector, uint64_t data,
                              uint32_t bytes, uint32_t *written)
{
    uint16_t head = disk_offer(disk, 0, type, sector, data, bytes);
    uint32_t got, len = 0;

    ring_kick(&disk->ring);
    if (!ring_take(&disk->ring, &got, &len))
        return 0xff;
    ck_assert_uint_eq(got, head);
    if (written)
        *written = len;
    return disk_status(disk, 0);
}

#endif
