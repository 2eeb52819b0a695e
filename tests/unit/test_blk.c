/* devices/virtio/blk: requests of a driver, good and bad, over a store that may fail. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "devices/backend/delay.h"
#include "devices/backend/file.h"
#include "tests/unit/disk.h"
#include "tests/unit/suites.h"

#define BIT(n) (1ull << (n))

static struct disk disk;

static void setup(void)
{
    disk_memory(&disk);
    disk_create(&disk, false, NULL);
    disk_start(&disk, 0, 64);
}

static void teardown(void)
{
    disk_destroy(&disk);
    ck_assert_uint_eq(disk.store.destroyed, 1);
    memory_destroy(&disk.memory);
}

static void again_read_only(void)
{
    disk_destroy(&disk);
    disk_create(&disk, true, NULL);
    disk_start(&disk, 0, 64);
}

static const uint8_t *sector(unsigned n)
{
    return disk.store.sectors + n * BLOCK_SECTOR_BYTES;
}

static uint64_t config(uint32_t offset, unsigned size)
{
    return ring_register(&disk.blk->device, VIRTIO_MMIO_CONFIG + offset, size);
}

static bool needs_reset(void)
{
    return ring_status(&disk.blk->device) & VIRTIO_NEEDS_RESET;
}

START_TEST(test_configuration)
{
    uint64_t features = ring_features(&disk.blk->device);

    ck_assert(features & BIT(VIRTIO_BLK_F_FLUSH));
    ck_assert(features & BIT(VIRTIO_BLK_F_DISCARD));
    ck_assert(features & BIT(VIRTIO_BLK_F_WRITE_ZEROES));
    ck_assert(!(features & BIT(VIRTIO_BLK_F_RO)));
    ck_assert_uint_eq(config(0, 8), DISK_SECTORS);
    ck_assert_uint_eq(config(0, 4), DISK_SECTORS);
    ck_assert_uint_eq(config(4, 4), 0);
    ck_assert_uint_eq(config(1, 1), DISK_SECTORS >> 8);
    ck_assert_uint_eq(config(offsetof(struct virtio_blk_config, seg_max), 4),
                      VIRTIO_BLK_QUEUE_MAX - 2);
    ck_assert_uint_eq(config(offsetof(struct virtio_blk_config, blk_size), 4), 512);
    ck_assert_uint_eq(config(offsetof(struct virtio_blk_config, max_discard_seg), 4), 1);
    ck_assert_uint_eq(config(offsetof(struct virtio_blk_config, write_zeroes_may_unmap), 1), 1);
    ck_assert_uint_eq(config(VIRTIO_BLK_CONFIG_BYTES, 4), 0);

    again_read_only();
    features = ring_features(&disk.blk->device);
    ck_assert(features & BIT(VIRTIO_BLK_F_RO));
    ck_assert(!(features & (BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES))));
}
END_TEST

START_TEST(test_in_and_out)
{
    uint32_t written;

    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 7, DISK_DATA, 4096, &written), 0);
    ck_assert_uint_eq(written, 4097);
    ck_assert_int_eq(memcmp(disk.ram + DISK_DATA, sector(7), 4096), 0);
    ck_assert_uint_eq(disk.ram[DISK_DATA + 4096], 0);

    disk_fill(disk.ram + DISK_DATA, 1024, 9);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 250, DISK_DATA, 1024, &written), 0);
    ck_assert_uint_eq(written, 1);
    ck_assert_int_eq(memcmp(disk.ram + DISK_DATA, sector(250), 1024), 0);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, 0, 0, &written), 0);
    ck_assert_uint_eq(written, 1);
    ck_assert_uint_eq(disk.blk->counts.reads, 2);
    ck_assert_uint_eq(disk.blk->counts.read_bytes, 4096);
    ck_assert_uint_eq(disk.blk->counts.write_bytes, 1024);
}
END_TEST

/* No framing is assumed (2.7.4.1): header, data and status in pieces of any size. */
START_TEST(test_framing)
{
    static const uint32_t sizes[] = { 1, 2, 5, 16, 100, 512, 2000 };
    uint32_t piece = sizes[_i], in_bytes = 1024 + 1;
    uint64_t header = disk_header(&disk, 0, VIRTIO_BLK_T_IN, 3), at;
    struct ring_segment segments[VIRTIO_BLK_QUEUE_MAX];
    uint32_t head, written;
    unsigned n = 0;

    disk_start(&disk, 0, VIRTIO_BLK_QUEUE_MAX);
    if (piece < 16)
        in_bytes = 512 + 1; /* small pieces: few of them, the data in one */
    for (at = 0; at < 16; at += segments[n - 1].len)
        segments[n++] = (struct ring_segment){ header + at,
                                               piece < 16 - at ? piece : 16 - (uint32_t)at, false };
    if (piece < 16) {
        segments[n++] = (struct ring_segment){ DISK_DATA, 512 - 2, true };
        segments[n++] = (struct ring_segment){ DISK_DATA + 510, 3, true };
    } else {
        for (at = 0; at < in_bytes; at += segments[n - 1].len) {
            uint32_t left = in_bytes - (uint32_t)at;

            segments[n++] = (struct ring_segment){ DISK_DATA + at, piece < left ? piece : left,
                                                   true };
        }
    }
    memset(disk.ram + DISK_DATA, 0xee, 4096);
    ring_add(&disk.ring, segments, n);
    ring_kick(&disk.ring);
    ck_assert(ring_take(&disk.ring, &head, &written));
    ck_assert_uint_eq(written, in_bytes);
    ck_assert_int_eq(memcmp(disk.ram + DISK_DATA, sector(3), in_bytes - 1), 0);
    ck_assert_uint_eq(disk.ram[DISK_DATA + in_bytes - 1], VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(disk.ram[DISK_DATA + in_bytes], 0xee);
}
END_TEST

/* What a driver may ask for in vain: an answer, nothing moved, and the device goes on. */
static const struct {
    uint32_t type;
    uint64_t sector;
    uint32_t bytes;
    bool read_only;
    uint8_t status;
} refused[] = {
    { VIRTIO_BLK_T_IN, DISK_SECTORS, 512, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_IN, DISK_SECTORS - 1, 1024, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_IN, ~0ull, 512, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_IN, ~0ull >> 9, 512, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_OUT, DISK_SECTORS, 512, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_IN, 0, 511, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_OUT, 0, 513, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_OUT, 0, 512, true, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_DISCARD, 0, 16, true, VIRTIO_BLK_S_UNSUPP },
    { VIRTIO_BLK_T_WRITE_ZEROES, 0, 16, true, VIRTIO_BLK_S_UNSUPP },
    { VIRTIO_BLK_T_DISCARD, 0, 0, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_DISCARD, 0, 15, false, VIRTIO_BLK_S_IOERR },
    { VIRTIO_BLK_T_DISCARD, 0, 32, false, VIRTIO_BLK_S_IOERR },
    { 2, 0, 512, false, VIRTIO_BLK_S_UNSUPP },
    { 14, 0, 16, false, VIRTIO_BLK_S_UNSUPP },
    { ~0u, 0, 0, false, VIRTIO_BLK_S_UNSUPP },
};

START_TEST(test_refused)
{
    static uint8_t before[sizeof(disk.store.sectors)];
    uint32_t written;

    if (refused[_i].read_only)
        again_read_only();
    memcpy(before, disk.store.sectors, sizeof(before));
    memset(disk.ram + DISK_DATA, 0, 4096);
    ck_assert_uint_eq(disk_do(&disk, refused[_i].type, refused[_i].sector, DISK_DATA,
                              refused[_i].bytes, &written),
                      refused[_i].status);
    ck_assert_uint_eq(written, refused[_i].type == VIRTIO_BLK_T_IN ? 0 : 1);
    ck_assert_int_eq(memcmp(before, disk.store.sectors, sizeof(before)), 0);
    for (unsigned i = 0; i < 4096; i++)
        ck_assert_uint_eq(disk.ram[DISK_DATA + i], 0);
    ck_assert(!needs_reset());
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), 0);
}
END_TEST

static uint8_t clear_range(uint32_t type, uint64_t first, uint32_t count, uint32_t flags)
{
    struct virtio_blk_discard_write_zeroes range = { .sector = first,
                                                     .num_sectors = count,
                                                     .flags = flags };

    memcpy(disk.ram + DISK_DATA, &range, sizeof(range));
    return disk_do(&disk, type, 0, DISK_DATA, sizeof(range), NULL);
}

START_TEST(test_clear)
{
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 4, 2, 0), 0);
    ck_assert_uint_eq(sector(4)[0] | sector(5)[511], 0);
    ck_assert_uint_ne(sector(3)[511] | sector(6)[0], 0);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 8, 1, 1), 0);
    ck_assert_uint_eq(sector(8)[1], 0);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_DISCARD, 10, 1, 0), 0);
    ck_assert_uint_eq(sector(10)[1], 0xdd);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_DISCARD, 10, 0, 0), 0);
    /* 5.2.6.2: unmap means nothing to a discard; unknown flags are not supported. */
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_DISCARD, 11, 1, 1), VIRTIO_BLK_S_UNSUPP);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 11, 1, 2), VIRTIO_BLK_S_UNSUPP);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, DISK_SECTORS - 1, 2, 0),
                      VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, ~0ull, 2, 0), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_DISCARD, 0, ~0u, 0), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_ne(sector(11)[1], 0xdd);
    ck_assert_uint_ne(sector(11)[1], 0);

    /* Not negotiated: not there. */
    disk_start(&disk, BIT(VIRTIO_BLK_F_DISCARD), 64);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_DISCARD, 10, 1, 0), VIRTIO_BLK_S_UNSUPP);
}
END_TEST

START_TEST(test_id)
{
    uint32_t written;

    memset(disk.ram + DISK_DATA, 0xee, 64);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_GET_ID, 0, DISK_DATA, 20, &written), 0);
    ck_assert_uint_eq(written, 21);
    ck_assert_int_eq(memcmp(disk.ram + DISK_DATA, "an image with a long", 20), 0);
    ck_assert_uint_eq(disk.ram[DISK_DATA + 20], 0xee);
    /* Less room, more room. */
    memset(disk.ram + DISK_DATA, 0xee, 64);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_GET_ID, 0, DISK_DATA, 4, &written), 0);
    ck_assert_uint_eq(disk.ram[DISK_DATA + 4], 0xee);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_GET_ID, 0, DISK_DATA, 60, &written), 0);
    ck_assert_uint_eq(written, 20); /* the 21st byte was not written */
}
END_TEST

/* 5.2.5.1: who does not negotiate a write cache gets none. */
START_TEST(test_cache_mode)
{
    const uint32_t mode = offsetof(struct virtio_blk_config, wce);
    struct virtio_device *device = &disk.blk->device;

    ck_assert_uint_eq(config(mode, 1), 1);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 0, DISK_DATA, 512, NULL), 0);
    ck_assert(!disk.store.sync);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_FLUSH, 0, 0, 0, NULL), 0);
    ck_assert_uint_eq(disk.blk->counts.flushes, 1);
    ring_write(device, VIRTIO_MMIO_CONFIG + mode, 1, 0);
    ck_assert_uint_eq(config(mode, 1), 0);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 0, DISK_DATA, 512, NULL), 0);
    ck_assert(disk.store.sync);
    /* Nothing else in the configuration can be written. */
    ring_write(device, VIRTIO_MMIO_CONFIG, 4, 1);
    ring_write(device, VIRTIO_MMIO_CONFIG + mode - 3, 4, ~0u);
    ck_assert_uint_eq(config(0, 8), DISK_SECTORS);
    ck_assert_uint_eq(config(mode, 1), 0);

    disk_start(&disk, BIT(VIRTIO_BLK_F_CONFIG_WCE), 64);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 0, DISK_DATA, 512, NULL), 0);
    ck_assert(!disk.store.sync);
    disk_start(&disk, BIT(VIRTIO_BLK_F_CONFIG_WCE) | BIT(VIRTIO_BLK_F_FLUSH), 64);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 0, DISK_DATA, 512, NULL), 0);
    ck_assert(disk.store.sync);
}
END_TEST

START_TEST(test_store_fails)
{
    static const int errors[] = { -EIO, -ENOSPC, -EFBIG, -ECANCELED };
    uint32_t written;

    disk.store.fail = errors[_i];
    disk.store.fail_first = disk.store.fail_last = 20;
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 16, DISK_DATA, 4096, &written),
                      VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(written, 0);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 20, DISK_DATA, 512, &written),
                      VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(written, 1);
    ck_assert_uint_eq(clear_range(VIRTIO_BLK_T_WRITE_ZEROES, 16, 8, 0), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 21, DISK_DATA, 4096, &written), 0);
    ck_assert_uint_eq(written, 4097);
    ck_assert_uint_eq(disk.blk->counts.failed, 3);
    ck_assert(!needs_reset());
}
END_TEST

/* ring_take beside the store's thread. */
static bool came(uint32_t *head, uint32_t *written)
{
    bool is;

    dma_lock(&disk.dma);
    is = ring_take(&disk.ring, head, written);
    dma_unlock(&disk.dma);
    return is;
}

/* A real file that cannot grow: IOERR, and the device lives. */
START_TEST(test_file_fails)
{
    const struct rlimit limit = { .rlim_cur = 4096, .rlim_max = RLIM_INFINITY };
    char path[] = "/tmp/strata-unit-XXXXXX", error[200];
    const struct blk_config config = { .dma = &disk.dma, .path = path };
    struct ring_segment segments[3];
    int fd = mkstemp(path);

    ck_assert_int_eq(ftruncate(fd, 64 << 10), 0);
    close(fd);
    disk_destroy(&disk);
    ck_assert_int_eq(dma_create(&disk.dma, &disk.memory, NULL, 1), 0);
    ck_assert_int_eq(virtio_blk_create(&disk.blk, &config, error, sizeof(error)), 0);
    unlink(path);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    disk_start(&disk, 0, 64);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t header = disk_header(&disk, i, VIRTIO_BLK_T_OUT, i ? 0 : 64);
        uint32_t head, written;

        segments[0] = (struct ring_segment){ header, 16, false };
        segments[1] = (struct ring_segment){ DISK_DATA, 512, false };
        segments[2] = (struct ring_segment){ header + 16, 1, true };
        ring_add(&disk.ring, segments, 3);
        ring_kick(&disk.ring);
        while (!came(&head, &written))
            usleep(100);
        ck_assert_uint_eq(disk_status(&disk, i), i ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR);
    }
    disk_destroy(&disk);
    disk_create(&disk, false, NULL);
}
END_TEST

/*
 * A disk so slow that nothing comes by itself: a reset does not wait for it, leaves nothing
 * under way, and the device works again; nor does its end.
 */
START_TEST(test_slow)
{
    static const uint32_t types[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH,
                                      VIRTIO_BLK_T_DISCARD };
    char path[] = "/tmp/strata-unit-XXXXXX", error[200];
    const struct blk_config config = { .dma = &disk.dma, .path = path, .latency_ns = DELAY_NS_MAX };
    int fd = mkstemp(path);

    ck_assert_int_eq(ftruncate(fd, 64 << 10), 0);
    close(fd);
    disk_destroy(&disk);
    ck_assert_int_eq(dma_create(&disk.dma, &disk.memory, NULL, 1), 0);
    ck_assert_int_eq(virtio_blk_create(&disk.blk, &config, error, sizeof(error)), 0);
    unlink(path);
    for (unsigned round = 0; round < 3; round++) {
        disk_start(&disk, 0, 64);
        memset(disk.ram + DISK_DATA, 0, 16); /* of the DISCARD: nothing at 0 */
        disk.ram[DISK_DATA + 8] = 8;
        for (unsigned i = 0; i < 4; i++)
            disk_offer(&disk, i, types[i], 0, DISK_DATA, i == 2 ? 0 : i == 3 ? 16 : 512);
        ring_kick(&disk.ring);
        dma_lock(&disk.dma);
        ck_assert_uint_eq(disk.blk->under_way, 4);
        dma_unlock(&disk.dma);
        for (unsigned i = 0; i < 4; i++)
            ck_assert_uint_eq(disk_status(&disk, i), 0xff);
        if (round < 2) {
            ring_set_register(&disk.blk->device, VIRTIO_MMIO_STATUS, 0);
            ck_assert_uint_eq(disk.blk->under_way, 0);
        }
    }
    ck_assert_uint_eq(disk.blk->counts.shortest_ns, 0);
    disk_destroy(&disk);
    disk_create(&disk, false, NULL);
}
END_TEST

/* What took its time is told. */
START_TEST(test_latency)
{
    char path[] = "/tmp/strata-unit-XXXXXX", error[200];
    const struct blk_config config = { .dma = &disk.dma, .path = path, .latency_ns = 2000000 };
    int fd = mkstemp(path);
    uint32_t head, written;

    ck_assert_int_eq(ftruncate(fd, 64 << 10), 0);
    close(fd);
    disk_destroy(&disk);
    ck_assert_int_eq(dma_create(&disk.dma, &disk.memory, NULL, 1), 0);
    ck_assert_int_eq(virtio_blk_create(&disk.blk, &config, error, sizeof(error)), 0);
    unlink(path);
    disk_start(&disk, 0, 64);
    for (unsigned i = 0; i < 2; i++) {
        disk_offer(&disk, i, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);
        ring_kick(&disk.ring);
        while (!came(&head, &written))
            usleep(100);
        ck_assert_uint_eq(disk_status(&disk, i), VIRTIO_BLK_S_OK);
    }
    ck_assert_uint_ge(disk.blk->counts.shortest_ns, config.latency_ns);
    ck_assert_uint_ge(disk.blk->counts.longest_ns, disk.blk->counts.shortest_ns);
    disk_destroy(&disk);
    disk_create(&disk, false, NULL);
}
END_TEST

START_TEST(test_unreachable)
{
    uint64_t data[] = { DISK_RAM_BYTES, DISK_RAM_BYTES - 512, ~0ull - 1023, 1ull << 40 };

    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, data[i], 1024, NULL),
                          VIRTIO_BLK_S_IOERR);
        ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 0, data[i], 1024, NULL),
                          VIRTIO_BLK_S_IOERR);
    }
    ck_assert_uint_eq(disk.blk->counts.unreachable, 8);
    ck_assert_ptr_null(disk.dma.transfers);
    ck_assert(!needs_reset());
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 1024, NULL), 0);
}
END_TEST

/* The status byte cannot be reached: the request comes back all the same. */
START_TEST(test_unreachable_status)
{
    const struct ring_segment segments[] = { { disk_header(&disk, 0, VIRTIO_BLK_T_FLUSH, 0), 16,
                                               false },
                                             { DISK_RAM_BYTES + 4096, 1, true } };
    uint32_t head, written;

    ring_add(&disk.ring, segments, 2);
    ring_kick(&disk.ring);
    ck_assert(ring_take(&disk.ring, &head, &written));
    ck_assert(!needs_reset());
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 1024, NULL), 0);
}
END_TEST

START_TEST(test_no_status)
{
    const struct ring_segment segments[] = {
        { disk_header(&disk, 0, VIRTIO_BLK_T_OUT, 0), 16, false }, { DISK_DATA, 512, false }
    };
    uint32_t head, written;

    ring_add(&disk.ring, segments, 2);
    ring_kick(&disk.ring);
    ck_assert(needs_reset());
    ck_assert(!ring_take(&disk.ring, &head, &written));
    disk_start(&disk, 0, 64);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), 0);
}
END_TEST

/* A header that is not there whole can be answered: there is a status byte. */
START_TEST(test_short_header)
{
    uint64_t header = disk_header(&disk, 0, VIRTIO_BLK_T_IN, 0);
    const struct ring_segment segments[] = { { header, 15, false }, { header + 16, 1, true } };
    uint32_t head, written;

    ring_add(&disk.ring, segments, 2);
    ring_add(&disk.ring, segments + 1, 1);
    ring_kick(&disk.ring);
    ck_assert(ring_take(&disk.ring, &head, &written));
    ck_assert_uint_eq(disk_status(&disk, 0), VIRTIO_BLK_S_IOERR);
    ck_assert(ring_take(&disk.ring, &head, &written));
    ck_assert(!needs_reset());
}
END_TEST

/* One kick for many: one submission, and what comes back together is told once. */
START_TEST(test_batch)
{
    uint32_t head, written;

    for (unsigned i = 0; i < 20; i++)
        disk_offer(&disk, i, VIRTIO_BLK_T_IN, i, DISK_DATA + 512 * i, 512);
    ring_kick(&disk.ring);
    ck_assert_uint_eq(disk.store.most, 20);
    ck_assert_uint_eq(disk.blk->device.interrupts, 1);
    for (unsigned i = 0; i < 20; i++) {
        ck_assert(ring_take(&disk.ring, &head, &written));
        ck_assert_uint_eq(disk_status(&disk, i), 0);
    }
    ck_assert_int_eq(memcmp(disk.ram + DISK_DATA, sector(0), 20 * 512), 0);
}
END_TEST

/*
 * A driver that offers one chain over and over has at most as many under way as the
 * pool is large; the others get their turn when some come back.
 */
START_TEST(test_bounded)
{
    uint32_t head, written;
    uint16_t chain;
    unsigned back = 0;

    disk_start(&disk, 0, VIRTIO_BLK_QUEUE_MAX);
    disk.store.held = true;
    chain = disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);
    for (unsigned round = 0; round < 4; round++) {
        /* The index may be no more than a queue ahead of what was taken. */
        for (unsigned i = round ? 0 : 1; i < VIRTIO_BLK_QUEUE_MAX; i++)
            ring_offer(&disk.ring, chain);
        ring_kick(&disk.ring);
        ck_assert_uint_le(disk.blk->under_way, VIRTIO_BLK_QUEUE_MAX);
        if (round == 1) {
            disk.store.held = false;
            disk_release(&disk);
        }
        while (ring_take(&disk.ring, &head, &written))
            back++;
    }
    ck_assert_uint_eq(disk.store.most, VIRTIO_BLK_QUEUE_MAX);
    ck_assert_uint_eq(back, 4 * VIRTIO_BLK_QUEUE_MAX);
    ck_assert(!needs_reset());
}
END_TEST

struct slow {
    atomic_bool resetting;
    pthread_t thread;
};

static void *reset_now(void *arg)
{
    struct slow *slow = arg;

    atomic_store(&slow->resetting, true);
    ring_set_register(&disk.blk->device, VIRTIO_MMIO_STATUS, 0);
    atomic_store(&slow->resetting, false);
    return NULL;
}

/* A reset waits for what is under way, asks it to hurry, and gives nothing of it back. */
START_TEST(test_reset)
{
    struct slow slow = { 0 };
    uint32_t head, written;

    disk.store.held = true;
    disk_offer(&disk, 0, VIRTIO_BLK_T_OUT, 0, DISK_DATA, 512);
    disk_offer(&disk, 1, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    ring_kick(&disk.ring);
    ck_assert_uint_eq(disk.blk->under_way, 2);
    ck_assert_int_eq(pthread_create(&slow.thread, NULL, reset_now, &slow), 0);
    while (!atomic_load(&disk.store.cancels))
        usleep(100);
    usleep(10000);
    ck_assert(atomic_load(&slow.resetting));
    /* Another vCPU's kick meanwhile starts nothing. */
    disk_offer(&disk, 2, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    ring_kick(&disk.ring);
    ck_assert_uint_eq(disk.blk->under_way, 2);
    disk_release(&disk);
    pthread_join(slow.thread, NULL);
    ck_assert_uint_eq(disk.blk->under_way, 0);
    ck_assert_uint_eq(ring_status(&disk.blk->device), 0);
    ck_assert(!ring_take(&disk.ring, &head, &written));
    ck_assert_uint_eq(disk_status(&disk, 0), 0xff);
    disk.store.held = false;
    disk_start(&disk, 0, 64);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), 0);
}
END_TEST

static void see_transfers(void *seen, struct virtio_blk_completion *completion)
{
    (void)completion;
    *(void **)seen = disk.dma.transfers;
}

/* The transfer lasts as long as the request, and is over before the driver can know. */
START_TEST(test_transfer)
{
    void *seen = &seen;

    disk.store.held = true;
    disk.blk->before_push = see_transfers;
    disk.blk->hostile = malloc(sizeof(void *));
    disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);
    ring_kick(&disk.ring);
    ck_assert_ptr_nonnull(disk.dma.transfers);
    ck_assert_uint_eq(disk.dma.transfers->nranges, 1);
    ck_assert_uint_eq(disk.dma.transfers->ranges[0].iova, DISK_DATA);
    ck_assert_uint_eq(disk.dma.transfers->ranges[0].len, 512);
    ck_assert_int_eq(disk.dma.transfers->ranges[0].direction, DMA_WRITE);
    memcpy(disk.blk->hostile, &seen, sizeof(seen));
    disk_release(&disk);
    memcpy(&seen, disk.blk->hostile, sizeof(seen));
    ck_assert_ptr_null(seen);
    ck_assert_ptr_null(disk.dma.transfers);
}
END_TEST

/* ---- Behind an IOMMU ---- */

static void setup_iommu(void)
{
    disk_setup_iommu(&disk);
}

static void teardown_iommu(void)
{
    disk_teardown_iommu(&disk);
}

static uint64_t faults(void)
{
    struct iommu_counts counts;

    iommu_count(disk.iommu, &counts);
    return counts.faults;
}

START_TEST(test_permission)
{
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(faults(), 1);
    disk_map(&disk, DISK_DATA, 1, IOMMU_READ);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 0, DISK_DATA, 512, NULL), 0);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 1, DISK_DATA, 512, NULL), VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(faults(), 2);
    disk_map(&disk, DISK_DATA + DISK_PAGE, 1, IOMMU_WRITE);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 1, DISK_DATA + DISK_PAGE, 512, NULL), 0);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 1, DISK_DATA + DISK_PAGE, 512, NULL),
                      VIRTIO_BLK_S_IOERR);
    /* All or nothing: the part of a request that could be reached stays as it was. */
    memset(disk.ram + DISK_DATA + DISK_PAGE, 0x77, DISK_PAGE);
    ck_assert_uint_eq(
        disk_do(&disk, VIRTIO_BLK_T_IN, 1, DISK_DATA + DISK_PAGE, 2 * DISK_PAGE, NULL),
        VIRTIO_BLK_S_IOERR);
    for (unsigned i = 0; i < DISK_PAGE; i++)
        ck_assert_uint_eq(disk.ram[DISK_DATA + DISK_PAGE + i], 0x77);
    ck_assert(!needs_reset());
}
END_TEST

static void map_late(void *owner, struct vm_thread *self)
{
    (void)self;
    if (!(*(unsigned *)owner)++)
        disk_map(&disk, DISK_DATA, 1, IOMMU_WRITE);
}

/* What the guest asked of the IOMMU before it kicked is done before the request is looked at. */
START_TEST(test_settle)
{
    unsigned settled = 0;

    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), VIRTIO_BLK_S_IOERR);
    iommu_on_settle(disk.iommu, map_late, &settled);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), 0);
    ck_assert_uint_eq(settled, 1);
    iommu_on_settle(disk.iommu, NULL, NULL);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), 0);
    ck_assert_uint_eq(settled, 1);
}
END_TEST

/* Pages that lie anywhere for one range of the device's addresses. */
START_TEST(test_scattered)
{
    const uint64_t iova = 1ull << 30;
    static uint8_t all[16 * 4096];

    for (unsigned i = 0; i < 16; i++)
        ck_assert_int_eq(iommu_map(disk.iommu, DISK_DOMAIN, iova + i * DISK_PAGE,
                                   iova + (i + 1) * DISK_PAGE - 1,
                                   DISK_DATA + (i * 7 % 16) * DISK_PAGE, IOMMU_WRITE),
                         0);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 2, iova + 512, 15 * 4096, NULL), 0);
    for (unsigned i = 0; i < 16; i++)
        memcpy(all + i * DISK_PAGE, disk.ram + DISK_DATA + (i * 7 % 16) * DISK_PAGE, DISK_PAGE);
    ck_assert_int_eq(memcmp(all + 512, sector(2), 15 * 4096), 0);
}
END_TEST

static void *unmap_now(void *arg)
{
    atomic_bool *answered = arg;

    ck_assert_int_eq(iommu_unmap(disk.iommu, DISK_DOMAIN, DISK_DATA, DISK_DATA + DISK_PAGE - 1), 0);
    atomic_store(answered, true);
    return NULL;
}

/*
 * Memory is taken away under a request: the unmapping is not answered before the request
 * has ended, which it is asked to do soon, and nothing touches the memory afterwards.
 */
START_TEST(test_unmap)
{
    bool obeys = _i;
    atomic_bool answered = false;
    uint32_t head, written;
    pthread_t thread;

    disk_map(&disk, DISK_DATA, 1, IOMMU_WRITE);
    memset(disk.ram + DISK_DATA, 0x77, DISK_PAGE);
    disk.store.held = true;
    disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 4096);
    ring_kick(&disk.ring);
    ck_assert_int_eq(pthread_create(&thread, NULL, unmap_now, &answered), 0);
    while (!atomic_load(&disk.store.cancels))
        usleep(100);
    usleep(20000);
    ck_assert(!atomic_load(&answered));
    /* A store that could not be stopped any more reads it all; then it was in time. */
    if (!obeys)
        atomic_store(&disk.store.queued[0]->cancelled, false);
    disk_release(&disk);
    pthread_join(thread, NULL);
    ck_assert(ring_take(&disk.ring, &head, &written));
    ck_assert_uint_eq(disk_status(&disk, 0), obeys ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK);
    ck_assert_uint_eq(written, obeys ? 0 : 4097);
    ck_assert_uint_eq(disk.ram[DISK_DATA], obeys ? 0x77 : sector(0)[0]);

    /* From now on it is out of reach. */
    disk.store.held = false;
    memset(disk.ram + DISK_DATA, 0x55, DISK_PAGE);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 4096, NULL),
                      VIRTIO_BLK_S_IOERR);
    ck_assert_uint_eq(disk.ram[DISK_DATA], 0x55);
}
END_TEST

/* Unmapping what no request uses does not wait for one. */
START_TEST(test_unmap_other)
{
    uint32_t head, written;

    disk_map(&disk, DISK_DATA, 1, IOMMU_WRITE);
    disk_map(&disk, DISK_DATA + DISK_PAGE, 1, IOMMU_WRITE);
    disk.store.held = true;
    disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 4096);
    ring_kick(&disk.ring);
    ck_assert_int_eq(
        iommu_unmap(disk.iommu, DISK_DOMAIN, DISK_DATA + DISK_PAGE, DISK_DATA + 2 * DISK_PAGE - 1),
        0);
    ck_assert_uint_eq(disk.store.cancels, 0);
    disk_release(&disk);
    ck_assert(ring_take(&disk.ring, &head, &written));
    ck_assert_uint_eq(disk_status(&disk, 0), 0);
}
END_TEST

/* The status byte's page goes while the request is under way: that is lost, no more. */
START_TEST(test_unmap_status)
{
    uint64_t header = disk_header(&disk, 0, VIRTIO_BLK_T_FLUSH, 0);
    const struct ring_segment segments[] = { { header, 16, false }, { DISK_DATA, 1, true } };
    uint32_t head, written;

    disk_map(&disk, DISK_DATA, 1, IOMMU_WRITE);
    disk.ram[DISK_DATA] = 0x77;
    disk.store.held = true;
    ring_add(&disk.ring, segments, 2);
    ring_kick(&disk.ring);
    ck_assert_int_eq(iommu_unmap(disk.iommu, DISK_DOMAIN, DISK_DATA, DISK_DATA + DISK_PAGE - 1), 0);
    disk_release(&disk);
    ck_assert(ring_take(&disk.ring, &head, &written));
    ck_assert_uint_eq(disk.ram[DISK_DATA], 0x77);
    ck_assert_uint_eq(faults(), 1);
    ck_assert(!needs_reset());
}
END_TEST

/* The queue itself goes: no device can go on with that, until the reset. */
START_TEST(test_unmap_ring)
{
    disk.store.held = true;
    disk_offer(&disk, 0, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
    ring_kick(&disk.ring);
    ck_assert_int_eq(
        iommu_unmap(disk.iommu, DISK_DOMAIN, DISK_RING, DISK_RING + 15 * DISK_PAGE - 1), 0);
    disk_release(&disk);
    ck_assert(needs_reset());
    ck_assert_uint_eq(disk.blk->under_way, 0);
    disk.store.held = false;
    disk_map(&disk, DISK_RING, 16, IOMMU_READ | IOMMU_WRITE);
    disk_start(&disk, 0, 64);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), 0);
}
END_TEST

START_TEST(test_no_disk)
{
    struct virtio_blk *none;
    struct dma dma;
    const struct blk_config missing = { .dma = &dma, .path = "/tmp/strata-unit-missing" };
    char error[200];

    ck_assert_int_eq(dma_create(&dma, &disk.memory, NULL, 2), 0);
    ck_assert_int_eq(virtio_blk_create(&none, &missing, error, sizeof(error)), -ENOENT);
    ck_assert_str_eq(error, "/tmp/strata-unit-missing: No such file or directory");
    dma_destroy(&dma);
}
END_TEST

Suite *blk_suite(void)
{
    Suite *suite = suite_create("blk");
    TCase *tc = tcase_create("blk");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_configuration);
    tcase_add_test(tc, test_in_and_out);
    tcase_add_loop_test(tc, test_framing, 0, 7);
    tcase_add_loop_test(tc, test_refused, 0, sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tc, test_clear);
    tcase_add_test(tc, test_id);
    tcase_add_test(tc, test_cache_mode);
    tcase_add_loop_test(tc, test_store_fails, 0, 4);
    tcase_add_test(tc, test_file_fails);
    tcase_add_test(tc, test_slow);
    tcase_add_test(tc, test_latency);
    tcase_add_test(tc, test_unreachable);
    tcase_add_test(tc, test_unreachable_status);
    tcase_add_test(tc, test_no_status);
    tcase_add_test(tc, test_short_header);
    tcase_add_test(tc, test_batch);
    tcase_add_test(tc, test_bounded);
    tcase_add_test(tc, test_reset);
    tcase_add_test(tc, test_transfer);
    tcase_add_test(tc, test_no_disk);
    suite_add_tcase(suite, tc);

    tc = tcase_create("iommu");
    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup_iommu, teardown_iommu);
    tcase_add_test(tc, test_permission);
    tcase_add_test(tc, test_settle);
    tcase_add_test(tc, test_scattered);
    tcase_add_loop_test(tc, test_unmap, 0, 2);
    tcase_add_test(tc, test_unmap_other);
    tcase_add_test(tc, test_unmap_status);
    tcase_add_test(tc, test_unmap_ring);
    suite_add_tcase(suite, tc);
    return suite;
}
