/* devices/virtio/balloon, over RAM that can be given back; and memory_discard below it. */
#include <check.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/virtio/balloon.h"
#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES (1ull << 20)
#define PAGE      4096ull
#define DATA      0x40000ull /* page 64 */
#define PFNS      0x10000ull
#define OUTSIDE   (RAM_BYTES + PAGE)
#define SIZE      16
#define DOMAIN    1
#define ENDPOINT  7
#define FEATURES                                                      \
    (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_BALLOON_F_STATS_VQ | \
     1ull << VIRTIO_BALLOON_F_REPORTING)

enum { INFLATE, DEFLATE, STATS, REPORT, REPORT_AS_SPECIFIED, QUEUES };

static struct memory memory;
static struct dma dma, other;
static struct iommu *iommu;
static struct virtio_balloon *balloon;
static struct ring ring[QUEUES];
static uint8_t *ram;
static uint32_t head, written;

static void setup(void)
{
    const struct iommu_config config = { 0 };

    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(iommu_create(&iommu, &memory, &config), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    ck_assert_int_eq(dma_create(&other, &memory, iommu, ENDPOINT), 0);
    ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, false), 0);
    ck_assert_int_eq(
        virtio_balloon_create(&balloon, &(struct balloon_config){ .dma = &dma, .iommu = iommu }),
        0);
    ram = memory_at(&memory, 0, RAM_BYTES);
    memset(ram, 0x5a, RAM_BYTES);
    ck_assert(ring_negotiate(&balloon->device, FEATURES));
    for (unsigned i = 0; i < QUEUES; i++)
        ring_setup(&ring[i], &balloon->device, i, ram, (i + 1) * PAGE, SIZE);
    ring_driver_ok(&balloon->device);
}

static void teardown(void)
{
    virtio_balloon_destroy(balloon);
    dma_destroy(&other);
    dma_destroy(&dma);
    iommu_destroy(iommu);
    memory_destroy(&memory);
}

/* Of `n` pages from DATA on, a bit for each that the host has nothing behind any more. */
static uint64_t gone(unsigned n)
{
    unsigned char in[64];
    uint64_t bits = 0;

    ck_assert_int_eq(mincore(ram + DATA, n * PAGE, in), 0);
    for (unsigned i = 0; i < n; i++)
        bits |= (uint64_t) !(in[i] & 1) << i;
    return bits;
}

static void send(unsigned queue, const struct ring_segment *segments, unsigned n)
{
    ring_add(&ring[queue], segments, n);
    ring_kick(&ring[queue]);
    ck_assert(ring_take(&ring[queue], &head, &written));
}

static void send_one(unsigned queue, uint64_t gpa, uint32_t len, bool writable)
{
    send(queue, &(struct ring_segment){ gpa, len, writable }, 1);
}

/* What was reported is gone and zero, all else as it was; and so the used element says. */
START_TEST(test_report)
{
    const struct ring_segment two[] = { { DATA, 2 * PAGE, true }, { DATA + 4 * PAGE, PAGE, true } };

    send(_i ? REPORT_AS_SPECIFIED : REPORT, two, 2);
    ck_assert_uint_eq(written, 3 * PAGE);
    ck_assert_uint_eq(gone(8), 0x13);
    ck_assert_uint_eq(balloon->counts.reported_bytes, 3 * PAGE);
    ck_assert_uint_eq(ram[DATA] | ram[DATA + 2 * PAGE - 1] | ram[DATA + 4 * PAGE], 0);
    ck_assert_uint_eq(ram[DATA - 1], 0x5a);
    ck_assert_uint_eq(ram[DATA + 2 * PAGE], 0x5a);
}
END_TEST

/* Parts of pages, memory that is only to be read, what is no RAM: nothing is written, it says. */
START_TEST(test_report_refused)
{
    static const struct {
        struct ring_segment segment;
        uint64_t gone, bad;
    } cases[] = {
        { { DATA + 1, PAGE, true }, 0, 0 },
        { { DATA + 1, 2 * PAGE, true }, 2, 0 },
        { { DATA + PAGE, 2 * PAGE - 1, true }, 2, 0 },
        { { DATA, PAGE, false }, 0, 0 },
        { { OUTSIDE, PAGE, true }, 0, 1 },
        { { RAM_BYTES - PAGE, 2 * PAGE, true }, 0, 1 },
        { { ~0ull - 2 * PAGE, PAGE, true }, 0, 1 },
    };

    send(REPORT, &cases[_i].segment, 1);
    ck_assert_uint_eq(written, 0);
    ck_assert_uint_eq(gone(4), cases[_i].gone);
    ck_assert_uint_eq(balloon->counts.bad_ranges, cases[_i].bad);
    ck_assert_ptr_null(balloon->device.needs_reset);
}
END_TEST

/* A page that a device has mapped stays, whoever reports or gives it. */
START_TEST(test_pinned)
{
    uint32_t pfn[] = { DATA / PAGE, DATA / PAGE + 1, DATA / PAGE + 2 };

    ck_assert_int_eq(iommu_map(iommu, DOMAIN, 0x1000, 0x1fff, DATA + PAGE, IOMMU_WRITE), 0);
    if (_i) {
        memcpy(ram + PFNS, pfn, sizeof(pfn));
        send_one(INFLATE, PFNS, sizeof(pfn), false);
        ck_assert_uint_eq(balloon->counts.inflated_bytes, 2 * PAGE);
    } else {
        send_one(REPORT, DATA, 3 * PAGE, true);
        ck_assert_uint_eq(balloon->counts.reported_bytes, 2 * PAGE);
    }
    ck_assert_uint_eq(written, 0);
    ck_assert_uint_eq(gone(4), 5);
    ck_assert_uint_eq(ram[DATA + PAGE], 0x5a);
    ck_assert_uint_eq(balloon->counts.pinned_pages, 1);

    /* Not mapped any more: it goes. */
    ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, 0x1000, 0x1fff), 0);
    send_one(REPORT, DATA + PAGE, PAGE, true);
    ck_assert_uint_eq(written, PAGE);
    ck_assert_uint_eq(gone(4) & 2, 2);
}
END_TEST

START_TEST(test_inflate)
{
    const uint32_t first = DATA / PAGE;
    const uint32_t pfn[] = { first + 1, first + 2,  first + 6, first + 5,
                             first + 4, 0xffffffff, first + 9 };

    memcpy(ram + PFNS, pfn, sizeof(pfn));
    send_one(INFLATE, PFNS, sizeof(pfn), false);
    ck_assert_uint_eq(gone(12), 0x276);
    ck_assert_uint_eq(balloon->counts.inflated_bytes, 6 * PAGE);
    ck_assert_uint_eq(balloon->counts.bad_ranges, 1);
    send_one(DEFLATE, PFNS, sizeof(pfn), false);
    ck_assert_uint_eq(balloon->counts.deflated_pages, 7);
    ck_assert_uint_eq(gone(12), 0x276);
}
END_TEST

/* However many numbers a buffer holds, or claims to: so many are looked at. */
START_TEST(test_inflate_bounded)
{
    for (unsigned i = 0; i < 2 * VIRTIO_BALLOON_PAGES_MAX; i++)
        memcpy(ram + PFNS + 4ull * i, &(uint32_t){ 0xff000000 + 2 * i }, 4);
    send_one(INFLATE, PFNS, 8 * VIRTIO_BALLOON_PAGES_MAX, false);
    ck_assert_uint_eq(balloon->counts.bad_ranges, VIRTIO_BALLOON_PAGES_MAX);
    send_one(INFLATE, PFNS, 3, false);
    send_one(INFLATE, OUTSIDE, 64, false);
    ck_assert_uint_eq(balloon->counts.bad_ranges, VIRTIO_BALLOON_PAGES_MAX);
}
END_TEST

static void put_stat(unsigned at, uint16_t tag, uint64_t value)
{
    memcpy(ram + PFNS + 10ull * at, &tag, 2);
    memcpy(ram + PFNS + 10ull * at + 2, &value, 8);
}

/* The buffer stays with the device until it asks again. */
START_TEST(test_stats)
{
    struct virtio_balloon_view view;

    ck_assert_int_eq(virtio_balloon_ask_stats(balloon), -EAGAIN);
    put_stat(0, VIRTIO_BALLOON_S_MEMFREE, 1234);
    put_stat(1, 999, 1);
    put_stat(2, VIRTIO_BALLOON_S_MEMTOT, 5678);
    ring_add(&ring[STATS], &(struct ring_segment){ PFNS, 30, false }, 1);
    ring_kick(&ring[STATS]);
    ck_assert(!ring_take(&ring[STATS], &head, &written));
    ck_assert_uint_eq(balloon->counts.stats[VIRTIO_BALLOON_S_MEMFREE], 1234);
    ck_assert_uint_eq(balloon->counts.stats[VIRTIO_BALLOON_S_MEMTOT], 5678);
    ck_assert_uint_eq(balloon->counts.stats_known,
                      1ull << VIRTIO_BALLOON_S_MEMFREE | 1ull << VIRTIO_BALLOON_S_MEMTOT);
    ck_assert_uint_eq(balloon->counts.stats_updates, 1);
    ck_assert_int_eq(virtio_balloon_ask_stats(balloon), 0);
    ck_assert(ring_take(&ring[STATS], &head, &written));
    ck_assert_int_eq(virtio_balloon_ask_stats(balloon), -EAGAIN);
    put_stat(0, VIRTIO_BALLOON_S_MEMFREE, 4321);
    /* Two at once: the first comes back. */
    ring_add(&ring[STATS], &(struct ring_segment){ PFNS, 10, false }, 1);
    ring_add(&ring[STATS], &(struct ring_segment){ PFNS, 10, false }, 1);
    ring_kick(&ring[STATS]);
    ck_assert(ring_take(&ring[STATS], &head, &written));
    ck_assert(!ring_take(&ring[STATS], &head, &written));
    ck_assert_uint_eq(balloon->counts.stats[VIRTIO_BALLOON_S_MEMFREE], 4321);

    virtio_balloon_view(balloon, &view);
    ck_assert(view.driven && view.tells_stats);
    ck_assert_uint_eq(view.counts.stats[VIRTIO_BALLOON_S_MEMFREE], 4321);

    /* After a reset there is no buffer to give back. */
    ck_assert(ring_negotiate(&balloon->device, FEATURES));
    virtio_balloon_view(balloon, &view);
    ck_assert(!view.driven && view.tells_stats);
    ck_assert_int_eq(virtio_balloon_ask_stats(balloon), -EAGAIN);
}
END_TEST

/* A driver that wants no statistics counts its queues without that one. */
START_TEST(test_no_stats)
{
    ck_assert(ring_negotiate(&balloon->device, FEATURES & ~(1ull << VIRTIO_BALLOON_F_STATS_VQ)));
    ring_setup(&ring[STATS], &balloon->device, STATS, ram, PAGE, SIZE);
    ring_driver_ok(&balloon->device);
    send_one(STATS, DATA, PAGE, true);
    ck_assert_uint_eq(written, PAGE);
    ck_assert_uint_eq(gone(1), 1);
}
END_TEST

static uint32_t config(uint32_t offset)
{
    return (uint32_t)ring_register(&balloon->device, VIRTIO_MMIO_CONFIG + offset, 4);
}

START_TEST(test_config)
{
    uint64_t interrupts = balloon->device.interrupts;

    ck_assert_uint_eq(ring_register(&balloon->device, VIRTIO_MMIO_DEVICE_ID, 4), 5);
    ck_assert_uint_eq(config(0), 0);
    virtio_balloon_set_target(balloon, 77);
    ck_assert_uint_eq(config(0), 77);
    ck_assert_uint_eq(balloon->device.interrupts, interrupts + 1);
    ring_set_register(&balloon->device, VIRTIO_MMIO_CONFIG, 5);
    ck_assert_uint_eq(config(0), 77);
    ring_set_register(&balloon->device, VIRTIO_MMIO_CONFIG + 4, 70);
    ck_assert_uint_eq(config(4), 70);
    ck_assert_uint_eq(balloon->state.actual_pages, 70);
    /* The balloon is the driver's; what the host wants is not. */
    ck_assert(ring_negotiate(&balloon->device, FEATURES));
    ck_assert_uint_eq(config(0), 77);
    ck_assert_uint_eq(config(4), 0);
}
END_TEST

START_TEST(test_broken)
{
    ring_add(&ring[REPORT], &(struct ring_segment){ DATA, PAGE, true }, 1);
    ring_descriptor(&ring[REPORT], 0)->flags |= VRING_DESC_F_NEXT;
    ring_descriptor(&ring[REPORT], 0)->next = 0;
    ring_kick(&ring[REPORT]);
    ck_assert(ring_status(&balloon->device) & VIRTIO_NEEDS_RESET);
    ck_assert_uint_eq(gone(1), 0);
}
END_TEST

/* A guest may give away the rings themselves: it harms nobody else. */
START_TEST(test_report_rings)
{
    send_one(REPORT, PAGE, 2 * PAGE, true);
    ck_assert_uint_eq(balloon->counts.reported_bytes, 2 * PAGE);
    ring_add(&ring[REPORT], &(struct ring_segment){ 0, RAM_BYTES, true }, 1);
    ring_kick(&ring[REPORT]);
    ck_assert_uint_eq(balloon->counts.reported_bytes, 2 * PAGE + RAM_BYTES);
}
END_TEST

START_TEST(test_discard)
{
    struct memory borrowed;
    void *page = aligned_alloc(PAGE, PAGE);

    ck_assert_int_eq(memory_discard(&memory, DATA, 2 * PAGE), 2 * PAGE);
    ck_assert_uint_eq(gone(3), 3);
    ck_assert_int_eq(memory_discard(&memory, DATA + 2 * PAGE + 1, PAGE - 1), 0);
    ck_assert_uint_eq(gone(3), 3);
    ck_assert_int_eq(memory_discard(&memory, DATA, 0), -EFAULT);
    ck_assert_int_eq(memory_discard(&memory, RAM_BYTES, PAGE), -EFAULT);
    ck_assert_int_eq(memory_discard(&memory, DATA, RAM_BYTES), -EFAULT);

    /* Memory that somebody else lent is not ours to give. */
    ck_assert_int_eq(memory_create(&borrowed, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(memory_add(&borrowed, 1ull << 33, PAGE, page, 0), 0);
    ck_assert_int_eq(memory_discard(&borrowed, 1ull << 33, PAGE), -EFAULT);
    memory_destroy(&borrowed);
    free(page);
}
END_TEST

Suite *balloon_suite(void)
{
    Suite *suite = suite_create("balloon");
    TCase *tcase = tcase_create("balloon");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, test_report, 0, 2);
    tcase_add_loop_test(tcase, test_report_refused, 0, 7);
    tcase_add_loop_test(tcase, test_pinned, 0, 2);
    tcase_add_test(tcase, test_inflate);
    tcase_add_test(tcase, test_inflate_bounded);
    tcase_add_test(tcase, test_stats);
    tcase_add_test(tcase, test_no_stats);
    tcase_add_test(tcase, test_config);
    tcase_add_test(tcase, test_broken);
    tcase_add_test(tcase, test_report_rings);
    tcase_add_test(tcase, test_discard);
    suite_add_tcase(suite, tcase);
    return suite;
}
