/* devices/iommu/dma: pieces, copies, windows, transfers. */
#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "devices/iommu/dma.h"
#include "devices/iommu/dma_transfer.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define PAGE     4096ull
#define MIB      (1ull << 20)
#define RAM      (8 * MIB)
#define RW       (IOMMU_READ | IOMMU_WRITE)
#define ENDPOINT 3
#define DOMAIN   1
#define IOVA     0x100000ull

static struct memory memory;
static struct iommu *iommu;
static struct dma dma;
static char *ram;

static void setup(bool with_iommu)
{
    static const struct iommu_config config;

    ck_assert_int_eq(memory_create(&memory, -1, RAM, MEMORY_4K), 0);
    ram = memory_at(&memory, 0, RAM);
    iommu = NULL;
    if (with_iommu)
        ck_assert_int_eq(iommu_create(&iommu, &memory, &config), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, iommu, ENDPOINT), 0);
    if (with_iommu)
        ck_assert_int_eq(iommu_attach(iommu, ENDPOINT, DOMAIN, false), 0);
}

static void teardown(void)
{
    dma_destroy(&dma);
    if (iommu)
        iommu_destroy(iommu);
    memory_destroy(&memory);
}

static void map(uint64_t iova, uint64_t pages, uint64_t gpa)
{
    ck_assert_int_eq(iommu_map(iommu, DOMAIN, iova, iova + pages * PAGE - 1, gpa, RW), 0);
}

static void unmap(uint64_t iova, uint64_t pages)
{
    ck_assert_int_eq(iommu_unmap(iommu, DOMAIN, iova, iova + pages * PAGE - 1), 0);
}

START_TEST(test_untranslated)
{
    struct iovec piece[2];

    setup(false);
    dma_lock(&dma);
    ck_assert_int_eq(dma_translate(&dma, 0, RAM, DMA_WRITE, piece, 1), 1);
    ck_assert_ptr_eq(piece[0].iov_base, ram);
    ck_assert_uint_eq(piece[0].iov_len, RAM);
    ck_assert_int_eq(dma_translate(&dma, RAM - 1, 1, DMA_READ, piece, 1), 1);
    ck_assert_int_eq(dma_translate(&dma, RAM - 1, 2, DMA_READ, piece, 1), -EFAULT);
    ck_assert_int_eq(dma_translate(&dma, RAM, 1, DMA_READ, piece, 1), -EFAULT);
    ck_assert_int_eq(dma_translate(&dma, 0, 0, DMA_READ, piece, 1), -EINVAL);
    ck_assert_int_eq(dma_translate(&dma, UINT64_MAX, 2, DMA_READ, piece, 1), -EINVAL);
    ck_assert_int_eq(dma_translate(&dma, UINT64_MAX, 1, DMA_READ, piece, 1), -EFAULT);
    ck_assert_int_eq(dma_translate(&dma, 1, UINT64_MAX, DMA_READ, piece, 1), -EFAULT);
    ck_assert_int_eq(dma_translate(&dma, 2, UINT64_MAX, DMA_READ, piece, 1), -EINVAL);
    ck_assert_int_eq(dma_translate(&dma, 0, 1, DMA_READ, piece, 0), -E2BIG);
    ck_assert_uint_eq(dma.faults, 4);
    dma_unlock(&dma);
    teardown();
}
END_TEST

/* Neighbours in address that are none in host memory, and the other way round. */
START_TEST(test_pieces)
{
    struct iovec piece[4];
    void *more = aligned_alloc(PAGE, 4 * PAGE);

    setup(true);
    ck_assert_ptr_nonnull(more);
    ck_assert_int_eq(memory_add(&memory, RAM, 4 * PAGE, more, 0), 0);
    map(IOVA, 1, 0);
    map(IOVA + PAGE, 1, PAGE);
    map(IOVA + 2 * PAGE, 1, 8 * PAGE);
    map(IOVA + 3 * PAGE, 2, RAM - PAGE);
    dma_lock(&dma);
    ck_assert_int_eq(dma_translate(&dma, IOVA + 8, 2 * PAGE - 8, DMA_READ, piece, 4), 1);
    ck_assert_ptr_eq(piece[0].iov_base, ram + 8);
    ck_assert_uint_eq(piece[0].iov_len, 2 * PAGE - 8);
    ck_assert_int_eq(dma_translate(&dma, IOVA + 8, 5 * PAGE - 16, DMA_READ, piece, 4), 4);
    ck_assert_ptr_eq(piece[1].iov_base, ram + 8 * PAGE);
    ck_assert_uint_eq(piece[1].iov_len, PAGE);
    ck_assert_ptr_eq(piece[2].iov_base, ram + RAM - PAGE);
    ck_assert_ptr_eq(piece[3].iov_base, more);
    ck_assert_uint_eq(piece[3].iov_len, PAGE - 8);
    ck_assert_int_eq(dma_translate(&dma, IOVA + 8, 5 * PAGE - 16, DMA_READ, piece, 3), -E2BIG);
    /* The same from the IOTLB. */
    ck_assert_int_eq(dma_translate(&dma, IOVA, 3 * PAGE, DMA_WRITE, piece, 4), 2);
    ck_assert_int_eq(dma_translate(&dma, IOVA, 6 * PAGE, DMA_WRITE, piece, 4), -EFAULT);
    ck_assert_int_eq(dma_translate(&dma, IOVA, 0, DMA_WRITE, piece, 4), -EINVAL);
    ck_assert_int_eq(dma_translate(&dma, UINT64_MAX - 7, 9, DMA_WRITE, piece, 4), -EINVAL);
    dma_unlock(&dma);
    teardown();
    free(more);
}
END_TEST

/* A leaf of 2M is one entry of the IOTLB in whatever slot, and none survives an unmap. */
START_TEST(test_large_leaf)
{
    struct iommu_counts counts;
    struct iovec piece;

    setup(true);
    map(4 * MIB, 512, 2 * MIB);
    dma_lock(&dma);
    for (uint64_t at = 0; at < 2 * MIB; at += 16 * PAGE)
        ck_assert_int_eq(dma_translate(&dma, 4 * MIB + at, 2 * MIB - at, DMA_READ, &piece, 1), 1);
    dma_unlock(&dma);
    unmap(4 * MIB, 512);
    dma_lock(&dma);
    for (uint64_t at = 0; at < 2 * MIB; at += PAGE)
        ck_assert_int_eq(dma_translate(&dma, 4 * MIB + at, 1, DMA_READ, &piece, 1), -EFAULT);
    dma_unlock(&dma);

    map(4 * MIB, 512, 2 * MIB);
    iommu_count(iommu, &counts);
    dma_lock(&dma);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(dma_translate(&dma, 4 * MIB + PAGE - 4, MIB, DMA_READ, &piece, 1), 1);
    dma_unlock(&dma);
    ck_assert_ptr_eq(piece.iov_base, ram + 2 * MIB + PAGE - 4);
    uint64_t misses = counts.tlb_misses, hits = counts.tlb_hits;
    iommu_count(iommu, &counts);
    ck_assert_uint_eq(counts.tlb_misses - misses, 1);
    ck_assert_uint_eq(counts.tlb_hits - hits, 9);
    teardown();
}
END_TEST

/* A buffer of many pages is found at once; but each of them counts. */
START_TEST(test_run)
{
    struct iommu_counts before, after;
    struct iommu_fault fault;
    struct iovec piece[4];

    setup(true);
    map(IOVA, 100, MIB);
    map(IOVA + 100 * PAGE, 1, MIB + 100 * PAGE);
    map(IOVA + 101 * PAGE, 100, MIB + 101 * PAGE);
    iommu_count(iommu, &before);
    dma_lock(&dma);
    ck_assert_int_eq(dma_translate(&dma, IOVA + 8, 200 * PAGE, DMA_WRITE, piece, 4), 1);
    ck_assert_ptr_eq(piece[0].iov_base, ram + MIB + 8);
    ck_assert_uint_eq(piece[0].iov_len, 200 * PAGE);
    dma_unlock(&dma);
    iommu_count(iommu, &after);
    ck_assert_uint_eq(after.tlb_misses - before.tlb_misses, 1);
    ck_assert_uint_eq(after.tlb_hits, before.tlb_hits);

    /* One in the middle is somewhere else, */
    unmap(IOVA + 100 * PAGE, 1);
    map(IOVA + 100 * PAGE, 1, 7 * PAGE);
    dma_lock(&dma);
    ck_assert_int_eq(dma_translate(&dma, IOVA + 8, 200 * PAGE, DMA_WRITE, piece, 4), 3);
    ck_assert_uint_eq(piece[0].iov_len, 100 * PAGE - 8);
    ck_assert_ptr_eq(piece[1].iov_base, ram + 7 * PAGE);
    ck_assert_uint_eq(piece[1].iov_len, PAGE);
    ck_assert_ptr_eq(piece[2].iov_base, ram + MIB + 101 * PAGE);
    ck_assert_int_eq(dma_translate(&dma, IOVA, 202 * PAGE, DMA_WRITE, piece, 4), -EFAULT);
    dma_unlock(&dma);
    ck_assert(iommu_next_fault(iommu, &fault));
    ck_assert_uint_eq(fault.iova, IOVA + 201 * PAGE);

    /* may only be read, */
    unmap(IOVA + 100 * PAGE, 1);
    ck_assert_int_eq(iommu_map(iommu, DOMAIN, IOVA + 100 * PAGE, IOVA + 101 * PAGE - 1,
                               MIB + 100 * PAGE, IOMMU_READ),
                     0);
    dma_lock(&dma);
    ck_assert_int_eq(dma_translate(&dma, IOVA, 201 * PAGE, DMA_WRITE, piece, 4), -EFAULT);
    ck_assert_int_eq(dma_translate(&dma, IOVA, 201 * PAGE, DMA_READ, piece, 4), 1);
    dma_unlock(&dma);
    ck_assert(iommu_next_fault(iommu, &fault));
    ck_assert_uint_eq(fault.iova, IOVA + 100 * PAGE);

    /* is not there: nothing that was found before helps. */
    unmap(IOVA + 100 * PAGE, 1);
    dma_lock(&dma);
    ck_assert_int_eq(dma_translate(&dma, IOVA, 201 * PAGE, DMA_READ, piece, 4), -EFAULT);
    dma_unlock(&dma);
    unmap(IOVA, 201);
    dma_lock(&dma);
    for (unsigned i = 0; i < 201; i++)
        ck_assert_int_eq(dma_translate(&dma, IOVA + i * PAGE, 1, DMA_READ, piece, 4), -EFAULT);
    dma_unlock(&dma);
    teardown();
}
END_TEST

START_TEST(test_copy)
{
    static char data[40 * PAGE], back[40 * PAGE];

    setup(true);
    /* Backwards, so that each page is a piece. */
    for (unsigned i = 0; i < 40; i++)
        map(IOVA + i * PAGE, 1, (100 - i) * PAGE);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 + i / 251);
    dma_lock(&dma);
    ck_assert_int_eq(dma_write(&dma, IOVA, data, sizeof(data)), 0);
    ck_assert_mem_eq(ram + 61 * PAGE, data + 39 * PAGE, PAGE);
    ck_assert_int_eq(dma_read(&dma, IOVA, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, data, sizeof(data));
    ck_assert_int_eq(dma_read(&dma, IOVA + PAGE - 3, back, 6), 0);
    ck_assert_mem_eq(back, data + PAGE - 3, 6);
    ck_assert_int_eq(dma_write(&dma, IOVA, data, 0), 0);

    /* All or nothing: the last byte cannot be reached. */
    memset(back, 1, sizeof(back));
    ck_assert_int_eq(dma_write(&dma, IOVA + 1, back, sizeof(back)), -EFAULT);
    ck_assert_int_eq(dma_write(&dma, IOVA + 39 * PAGE + 1, back, PAGE), -EFAULT);
    ck_assert_mem_eq(ram + 61 * PAGE, data + 39 * PAGE, PAGE);
    ck_assert_int_eq(dma_read(&dma, IOVA + 1, back, sizeof(back)), -EFAULT);
    ck_assert_int_eq(back[0], 1);
    dma_unlock(&dma);
    teardown();
}
END_TEST

START_TEST(test_window)
{
    struct dma_window window = { 0 }, other = { 0 };
    uint64_t generation;
    bool fault = true;

    setup(true);
    map(IOVA, 1, 0);
    map(IOVA + PAGE, 1, 4 * PAGE);
    map(2 * IOVA, 1, PAGE);
    dma_lock(&dma);
    ck_assert_ptr_eq(dma_window(&dma, &window, IOVA, 64, DMA_WRITE, &fault), ram);
    ck_assert(!fault);
    ck_assert_ptr_eq(dma_window(&dma, &window, IOVA, 64, DMA_WRITE, NULL), ram);
    ck_assert_ptr_eq(dma_window(&dma, &window, IOVA + 8, 64, DMA_WRITE, NULL), ram + 8);
    /* More than one piece is no fault. */
    ck_assert_ptr_null(dma_window(&dma, &window, IOVA + 8, PAGE, DMA_WRITE, &fault));
    ck_assert(!fault);
    ck_assert_ptr_eq(dma_window(&dma, &window, IOVA, 64, DMA_WRITE, NULL), ram);
    generation = dma.generation;
    dma_unlock(&dma);

    /* What is revoked is under no window: they stay good. */
    unmap(2 * IOVA, 1);
    dma_lock(&dma);
    ck_assert_uint_eq(dma.generation, generation);
    ck_assert(dma_window_good(&dma, &window));
    dma_unlock(&dma);

    /* It lies between two windows: both are translated anew, to the same. */
    map(3 * IOVA, 1, 3 * PAGE);
    map(2 * IOVA, 1, PAGE);
    dma_lock(&dma);
    ck_assert_ptr_eq(dma_window(&dma, &other, 3 * IOVA, 64, DMA_READ, &fault), ram + 3 * PAGE);
    dma_unlock(&dma);
    unmap(2 * IOVA, 1);
    dma_lock(&dma);
    ck_assert(!dma_window_good(&dma, &window) && !dma_window_good(&dma, &other));
    ck_assert_ptr_eq(dma_window(&dma, &window, IOVA, 64, DMA_WRITE, &fault), ram);
    dma_unlock(&dma);

    unmap(IOVA, 1);
    map(IOVA, 1, 2 * PAGE);
    dma_lock(&dma);
    ck_assert_ptr_eq(dma_window(&dma, &window, IOVA, 64, DMA_WRITE, &fault), ram + 2 * PAGE);
    dma_unlock(&dma);

    unmap(IOVA, 1);
    dma_lock(&dma);
    ck_assert_ptr_null(dma_window(&dma, &window, IOVA, 64, DMA_WRITE, &fault));
    ck_assert(fault);
    ck_assert_ptr_null(dma_window(&dma, &window, IOVA, 64, DMA_WRITE, &fault));
    ck_assert(fault);
    dma_unlock(&dma);
    teardown();
}
END_TEST

static unsigned unlocked;

static void note_unlocked(void *owner)
{
    ck_assert_ptr_eq(owner, &unlocked);
    unlocked++;
}

START_TEST(test_unlocked)
{
    setup(true);
    dma.unlocked = note_unlocked;
    dma.unlocked_owner = &unlocked;
    unlocked = 0;
    dma_lock(&dma);
    ck_assert(!dma_trylock(&dma));
    ck_assert_uint_eq(unlocked, 0);
    dma_unlock(&dma);
    ck_assert_uint_eq(unlocked, 1);
    /* The IOMMU takes the lock too, but that is not the device at work. */
    map(IOVA, 1, 0);
    unmap(IOVA, 1);
    ck_assert_uint_eq(unlocked, 1);
    teardown();
}
END_TEST

/* A transfer in flight, and somebody who revokes what it uses. */
static struct flight {
    struct dma_transfer transfer;
    struct dma_range range[2];
    struct iovec piece[4];
    atomic_bool cancelled, returned;
    int (*revoke)(void);
} flight;

static void note_cancel(struct dma_transfer *transfer)
{
    ck_assert_ptr_eq(transfer, &flight.transfer);
    atomic_store(&flight.cancelled, true);
}

static void begin(uint64_t iova)
{
    memset(&flight, 0, sizeof(flight));
    flight.transfer.cancel = note_cancel;
    flight.range[0] = (struct dma_range){ iova, 512, DMA_READ };
    flight.range[1] = (struct dma_range){ iova + PAGE, PAGE, DMA_WRITE };
    dma_lock(&dma);
    ck_assert_int_eq(dma_transfer_begin(&dma, &flight.transfer, flight.range, 2, flight.piece, 4),
                     2);
    dma_unlock(&dma);
}

static void *revoker(void *unused)
{
    (void)unused;
    ck_assert_int_eq(flight.revoke(), 0);
    atomic_store(&flight.returned, true);
    return NULL;
}

static int revoke_first(void)
{
    return iommu_unmap(iommu, DOMAIN, IOVA, IOVA + PAGE - 1);
}

static int revoke_second(void)
{
    return iommu_unmap(iommu, DOMAIN, IOVA + PAGE, IOVA + 2 * PAGE - 1);
}

static int revoke_all(void)
{
    return iommu_unmap(iommu, DOMAIN, 0, UINT64_MAX);
}

static int revoke_by_detach(void)
{
    return iommu_detach(iommu, ENDPOINT, DOMAIN);
}

static int revoke_by_move(void)
{
    return iommu_attach(iommu, ENDPOINT, 9, true);
}

static int revoke_by_reset(void)
{
    iommu_reset(iommu, false);
    return 0;
}

static int (*const revocations[])(void) = { revoke_first,     revoke_second,  revoke_all,
                                            revoke_by_detach, revoke_by_move, revoke_by_reset };

START_TEST(test_drain)
{
    pthread_t thread;
    bool early;

    setup(true);
    map(IOVA, 1, 0);
    map(IOVA + PAGE, 1, PAGE);
    begin(IOVA);
    flight.revoke = revocations[_i];
    ck_assert_int_eq(pthread_create(&thread, NULL, revoker, NULL), 0);
    while (!atomic_load(&flight.cancelled) && !atomic_load(&flight.returned))
        ;
    /* However long it takes: the pages stay the transfer's, and pinned. */
    early = atomic_load(&flight.returned);
    ck_assert_msg(!early, "it did not wait for the transfer");
    ck_assert(iommu_pinned(iommu, _i == 1 ? PAGE : 0, 1));
    memset(flight.piece[1].iov_base, 7, PAGE);
    dma_transfer_end(&flight.transfer);
    pthread_join(thread, NULL);
    ck_assert(!iommu_pinned(iommu, _i == 1 ? PAGE : 0, 1));
    teardown();
}
END_TEST

/* Nobody waits for a transfer that lies elsewhere, or is in a domain of others. */
START_TEST(test_no_drain)
{
    struct dma second;

    setup(true);
    map(IOVA, 1, 0);
    map(IOVA + PAGE, 1, PAGE);
    map(IOVA + 2 * PAGE, 1, 2 * PAGE);
    begin(IOVA);
    unmap(IOVA + 2 * PAGE, 1);
    ck_assert_int_eq(dma_create(&second, &memory, iommu, 9), 0);
    ck_assert_int_eq(iommu_attach(iommu, 9, 2, false), 0);
    ck_assert_int_eq(iommu_map(iommu, 2, IOVA, IOVA + PAGE - 1, 0, RW), 0);
    ck_assert_int_eq(iommu_unmap(iommu, 2, IOVA, IOVA + PAGE - 1), 0);
    ck_assert_int_eq(iommu_detach(iommu, 9, 2), 0);
    ck_assert(!atomic_load(&flight.cancelled));
    dma_transfer_end(&flight.transfer);
    dma_destroy(&second);
    teardown();
}
END_TEST

/* A transfer that cannot begin as a whole has not begun. */
START_TEST(test_transfer_refused)
{
    struct dma_transfer transfer = { 0 };
    struct dma_range range[] = { { IOVA, 8, DMA_READ }, { IOVA + PAGE, 8, DMA_WRITE } };
    struct iovec piece[2];

    setup(true);
    map(IOVA, 1, 0);
    dma_lock(&dma);
    ck_assert_int_eq(dma_transfer_begin(&dma, &transfer, range, 2, piece, 2), -EFAULT);
    range[1].iova = IOVA + 16;
    ck_assert_int_eq(dma_transfer_begin(&dma, &transfer, range, 2, piece, 1), -E2BIG);
    range[1].len = 0;
    ck_assert_int_eq(dma_transfer_begin(&dma, &transfer, range, 2, piece, 2), -EINVAL);
    dma_unlock(&dma);
    unmap(IOVA, 1); /* would wait for it */
    teardown();
}
END_TEST

Suite *dma_suite(void)
{
    Suite *suite = suite_create("dma");
    TCase *tc = tcase_create("dma");

    tcase_set_timeout(tc, 10);
    tcase_add_test(tc, test_untranslated);
    tcase_add_test(tc, test_pieces);
    tcase_add_test(tc, test_large_leaf);
    tcase_add_test(tc, test_run);
    tcase_add_test(tc, test_copy);
    tcase_add_test(tc, test_window);
    tcase_add_test(tc, test_unlocked);
    tcase_add_loop_test(tc, test_drain, 0, sizeof(revocations) / sizeof(revocations[0]));
    tcase_add_test(tc, test_no_drain);
    tcase_add_test(tc, test_transfer_refused);
    suite_add_tcase(suite, tc);
    return suite;
}
