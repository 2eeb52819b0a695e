/*
 * devices/hostile/{blk,naive_queue}: that each attack really happens, and what the dma handle
 * lets through of it. Expectations are from the driver's side of the ring.
 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "devices/hostile/blk.h"
#include "devices/hostile/naive_queue.h"
#include "tests/unit/disk.h"
#include "tests/unit/suites.h"

#define SECRET (DISK_DATA + 4 * DISK_PAGE) /* memory that no request is about */

static struct disk disk;

static void setup(void)
{
    disk_setup_iommu(&disk);
    disk_map(&disk, DISK_DATA, 1, IOMMU_READ | IOMMU_WRITE);
}

static void teardown(void)
{
    disk_teardown_iommu(&disk);
}

static void turn(struct hostile_blk_plan plan)
{
    ck_assert_int_eq(virtio_blk_turn_hostile(disk.blk, &plan), 0);
}

static struct hostile_blk_outcome outcome(void)
{
    struct hostile_blk_outcome now;

    hostile_blk_outcome(disk.blk, &now);
    return now;
}

static uint8_t read_sector(void)
{
    return disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL);
}

/* Offers a read, and takes what comes back without believing it. */
static uint16_t read_back(uint32_t *id, uint32_t *len)
{
    uint16_t head = disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);

    ring_kick(&disk.ring);
    ck_assert(ring_take(&disk.ring, id, len));
    return head;
}

static uint16_t used_index(void)
{
    return ((const struct vring_used *)(const void *)(disk.ram + disk.ring.used))->idx;
}

START_TEST(test_used_id)
{
    uint32_t id, len, first;
    uint16_t head;

    ck_assert_uint_eq(read_back(&id, &len), id);
    first = id;
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_ID_NEVER_ISSUED });
    head = read_back(&id, &len);
    ck_assert_uint_ne(id, head);
    ck_assert_uint_lt(id, 64);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_ID_OUT_OF_RANGE });
    read_back(&id, &len);
    ck_assert_uint_ge(id, 64);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_ID_TWICE, .acts = 1 });
    first = read_back(&id, &len);
    ck_assert_uint_eq(id, first);
    ck_assert_uint_eq(outcome().acts, 0); /* there was none before it */
    ck_assert_uint_ne(read_back(&id, &len), first);
    ck_assert_uint_eq(id, first);
    ck_assert_uint_eq(outcome().acts, 1);
    /* One act was ordered. */
    ck_assert_uint_eq(read_back(&id, &len), id);
    ck_assert_uint_eq(outcome().completions, 3);
}
END_TEST

START_TEST(test_used_length_index_status)
{
    uint32_t id, len;
    uint16_t before;

    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_LENGTH, .skip = 1 });
    read_back(&id, &len);
    ck_assert_uint_eq(len, 513);
    read_back(&id, &len);
    ck_assert_uint_gt(len, 513);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_STATUS });
    ck_assert_uint_gt(read_sector(), VIRTIO_BLK_S_UNSUPP);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_HONEST });
    ck_assert_uint_eq(read_sector(), 0);
    before = used_index();
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_INDEX_JUMP });
    read_back(&id, &len);
    ck_assert_uint_gt((uint16_t)(used_index() - before), 64);
}
END_TEST

/* Without a mapping for it the write stops at the dma handle; with one it is there. */
START_TEST(test_outside)
{
    struct hostile_blk_plan plan = { .mode = HOSTILE_BLK_WRITE_OUTSIDE,
                                     .bytes = DISK_PAGE,
                                     .fill = 0xbb };
    uint64_t end = DISK_DATA + DISK_PAGE;

    turn(plan);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, DISK_PAGE, NULL), 0);
    ck_assert_uint_eq(outcome().acts, 1);
    ck_assert_uint_eq(outcome().tried_bytes, DISK_PAGE);
    ck_assert_uint_eq(outcome().done_bytes, 0);
    ck_assert_uint_eq(outcome().faults, 1);
    ck_assert_uint_eq(disk.ram[end], 0);
    disk_map(&disk, end, 1, IOMMU_WRITE);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, DISK_PAGE, NULL), 0);
    ck_assert_uint_eq(outcome().done_bytes, DISK_PAGE);
    ck_assert_uint_eq(disk.ram[end], 0xbb);
    ck_assert_uint_eq(disk.ram[end + DISK_PAGE - 1], 0xbb);
    /* What shares the last page with the buffer lies open whatever is mapped beyond. */
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512, NULL), 0);
    ck_assert_uint_eq(disk.ram[DISK_DATA + 512], 0xbb);
}
END_TEST

START_TEST(test_anywhere)
{
    turn((struct hostile_blk_plan){
        .mode = HOSTILE_BLK_WRITE_ANYWHERE, .address = SECRET, .fill = 0xbb });
    ck_assert_uint_eq(read_sector(), 0);
    ck_assert_uint_eq(outcome().faults, 1);
    ck_assert_int_eq(outcome().last.error, -EFAULT);
    ck_assert_uint_eq(disk.ram[SECRET], 0);
    disk_map(&disk, SECRET, 1, IOMMU_READ);
    ck_assert_uint_eq(read_sector(), 0);
    ck_assert_uint_eq(disk.ram[SECRET], 0);
    ck_assert_int_eq(iommu_unmap(disk.iommu, DISK_DOMAIN, SECRET, SECRET + DISK_PAGE - 1), 0);
    disk_map(&disk, SECRET, 1, IOMMU_WRITE);
    ck_assert_uint_eq(read_sector(), 0);
    ck_assert_uint_eq(disk.ram[SECRET + 63], 0xbb);
    ck_assert_uint_eq(disk.ram[SECRET + 64], 0);
}
END_TEST

START_TEST(test_replay)
{
    struct dma_outcome dma;

    ck_assert_int_eq(hostile_blk_replay(disk.blk, &dma), -ENOENT);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_REPLAY, .fill = 0xbb });
    ck_assert_int_eq(hostile_blk_replay(disk.blk, &dma), -ENOENT);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, 0, DISK_DATA, DISK_PAGE, NULL), 0);
    memset(disk.ram + DISK_DATA, 0x11, DISK_PAGE);
    ck_assert_int_eq(hostile_blk_replay(disk.blk, &dma), 0);
    ck_assert_uint_eq(dma.done, DISK_PAGE);
    ck_assert_uint_eq(disk.ram[DISK_DATA + DISK_PAGE - 1], 0xbb);
    ck_assert_int_eq(iommu_unmap(disk.iommu, DISK_DOMAIN, DISK_DATA, DISK_DATA + DISK_PAGE - 1), 0);
    memset(disk.ram + DISK_DATA, 0x11, DISK_PAGE);
    ck_assert_int_eq(hostile_blk_replay(disk.blk, &dma), 0);
    ck_assert_uint_eq(dma.done, 0);
    ck_assert(dma.faulted);
    ck_assert_uint_eq(dma.fault.iova, DISK_DATA);
    ck_assert_uint_eq(dma.fault.endpoint, 1);
    ck_assert_uint_eq(disk.ram[DISK_DATA], 0x11);
    ck_assert_uint_eq(outcome().faults, 1);
}
END_TEST

START_TEST(test_withhold)
{
    uint32_t id, len;

    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_WITHHOLD, .acts = 2 });
    for (unsigned i = 0; i < 3; i++)
        disk_offer(&disk, i, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);
    ring_kick(&disk.ring);
    ck_assert_uint_eq(outcome().withheld, 2);
    ck_assert(ring_take(&disk.ring, &id, &len));
    ck_assert(!ring_take(&disk.ring, &id, &len));
    ck_assert_uint_eq(disk_status(&disk, 0), 0xff);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_HONEST });
    ck_assert(ring_take(&disk.ring, &id, &len));
    ck_assert(ring_take(&disk.ring, &id, &len));
    ck_assert_uint_eq(disk_status(&disk, 1), 0);

    /* A driver that resets the device is owed nothing any more. */
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_WITHHOLD });
    disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);
    ring_kick(&disk.ring);
    ck_assert_uint_eq(outcome().withheld, 1);
    disk_start(&disk, 0, 64);
    ck_assert_uint_eq(outcome().withheld, 0);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_HONEST });
    ck_assert(!ring_take(&disk.ring, &id, &len));
    ck_assert_uint_eq(read_sector(), 0);
}
END_TEST

START_TEST(test_capacity)
{
    struct virtio_device *device = &disk.blk->device;
    uint64_t generation = ring_register(device, VIRTIO_MMIO_CONFIG_GENERATION, 4);

    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_CAPACITY });
    ck_assert_uint_gt(ring_register(device, VIRTIO_MMIO_CONFIG, 8), DISK_SECTORS);
    ck_assert_uint_ne(ring_register(device, VIRTIO_MMIO_CONFIG_GENERATION, 4), generation);
    ck_assert(ring_register(device, VIRTIO_MMIO_INTERRUPT_STATUS, 4) & VIRTIO_INTERRUPT_CONFIG);
    /* It lies about its size, but has no more sectors than before. */
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_IN, DISK_SECTORS, DISK_DATA, 512, NULL),
                      VIRTIO_BLK_S_IOERR);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_HONEST });
    ck_assert_uint_eq(ring_register(device, VIRTIO_MMIO_CONFIG, 8), DISK_SECTORS);
}
END_TEST

START_TEST(test_no_such_mode)
{
    const struct hostile_blk_plan plan = { .mode = HOSTILE_BLK_MODES };

    ck_assert_int_eq(virtio_blk_turn_hostile(disk.blk, &plan), -EINVAL);
    turn((struct hostile_blk_plan){ .mode = HOSTILE_BLK_HONEST });
    ck_assert_ptr_null(disk.blk->hostile);
}
END_TEST

/* ---- The naive walker, beside the queue that checks ---- */

static void set_descriptor(unsigned n, uint64_t iova, uint32_t len, uint16_t flags, uint16_t next)
{
    *ring_descriptor(&disk.ring, (uint16_t)n) = (struct vring_desc){
        .addr = iova, .len = len, .flags = flags, .next = next
    };
}

static struct naive_queue_plan naive(void)
{
    return (struct naive_queue_plan){ .queue = disk.blk->device.queues[0].state,
                                      .len_max = DISK_PAGE,
                                      .fill = 0xcc };
}

static bool checked_queue_refuses(void)
{
    ring_kick(&disk.ring);
    return ring_status(&disk.blk->device) & VIRTIO_NEEDS_RESET;
}

START_TEST(test_naive_good)
{
    struct naive_queue_plan plan = naive();
    struct naive_queue_walk walk;

    disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);
    naive_queue_walk(&disk.dma, &plan, &walk);
    ck_assert_uint_eq(walk.steps, 3);
    ck_assert_uint_eq(walk.done_bytes, 16 + 512 + 1);
    ck_assert(!walk.watchdog && !walk.left_table && !walk.nested && !walk.changed);
    ck_assert_int_eq(walk.error, 0);
    ck_assert_uint_eq(disk.ram[DISK_DATA + 511], 0xcc);
    ck_assert(!checked_queue_refuses());
}
END_TEST

START_TEST(test_naive_loop)
{
    struct naive_queue_plan plan = naive();
    struct naive_queue_walk walk;

    set_descriptor(0, DISK_DATA, 64, VRING_DESC_F_NEXT, 1);
    set_descriptor(1, DISK_DATA, 64, VRING_DESC_F_NEXT, 0);
    ring_offer(&disk.ring, 0);
    naive_queue_walk(&disk.dma, &plan, &walk);
    ck_assert(walk.watchdog);
    ck_assert_uint_eq(walk.steps, NAIVE_QUEUE_WATCHDOG);
    ck_assert(checked_queue_refuses());
}
END_TEST

START_TEST(test_naive_outside)
{
    struct naive_queue_plan plan = naive();
    struct naive_queue_walk walk;

    /* Behind the table of 64 lie the rings: read as a descriptor all the same. */
    set_descriptor(0, DISK_DATA, 64, VRING_DESC_F_NEXT, 200);
    ring_offer(&disk.ring, 0);
    naive_queue_walk(&disk.dma, &plan, &walk);
    ck_assert(walk.left_table);
    ck_assert_uint_eq(walk.steps, 2);
    ck_assert(checked_queue_refuses());
}
END_TEST

START_TEST(test_naive_nested)
{
    struct naive_queue_plan plan = naive();
    struct naive_queue_walk walk;
    struct vring_desc inner = { .addr = DISK_DATA, .len = 16, .flags = VRING_DESC_F_INDIRECT };

    memcpy(disk.ram + DISK_DATA, &inner, sizeof(inner));
    set_descriptor(0, DISK_DATA, 16, VRING_DESC_F_INDIRECT, 0);
    ring_offer(&disk.ring, 0);
    naive_queue_walk(&disk.dma, &plan, &walk);
    ck_assert(walk.nested);
    ck_assert(walk.watchdog); /* the inner one points at itself */
    ck_assert(checked_queue_refuses());
}
END_TEST

static void grow(void *owner, uint64_t step)
{
    (void)owner;
    if (step == 1)
        ring_descriptor(&disk.ring, 1)->len = 0x10000;
}

START_TEST(test_naive_changed)
{
    struct naive_queue_plan plan = naive();
    struct naive_queue_walk walk;

    plan.between = grow;
    disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, DISK_DATA, 512);
    naive_queue_walk(&disk.dma, &plan, &walk);
    ck_assert(walk.changed);
    ck_assert_uint_eq(walk.checked_bytes, 16 + 512 + 1);
    ck_assert_uint_eq(walk.used_bytes, 16 + 0x10000 + 1);
    /* Beyond what it had checked, up to where the dma handle said no. */
    ck_assert_uint_eq(walk.done_bytes, 16 + DISK_PAGE + 1);
    ck_assert_uint_eq(disk.ram[DISK_DATA + DISK_PAGE - 1], 0xcc);
    ck_assert_int_eq(walk.error, -EFAULT);
}
END_TEST

Suite *hostile_suite(void)
{
    Suite *suite = suite_create("hostile");
    TCase *tc = tcase_create("blk");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_used_id);
    tcase_add_test(tc, test_used_length_index_status);
    tcase_add_test(tc, test_outside);
    tcase_add_test(tc, test_anywhere);
    tcase_add_test(tc, test_replay);
    tcase_add_test(tc, test_withhold);
    tcase_add_test(tc, test_capacity);
    tcase_add_test(tc, test_no_such_mode);
    suite_add_tcase(suite, tc);

    tc = tcase_create("naive");
    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_naive_good);
    tcase_add_test(tc, test_naive_loop);
    tcase_add_test(tc, test_naive_outside);
    tcase_add_test(tc, test_naive_nested);
    tcase_add_test(tc, test_naive_changed);
    suite_add_tcase(suite, tc);
    return suite;
}
