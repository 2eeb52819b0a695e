/* vmm/machine/memory: slots and the one way from guest-physical to a pointer. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* [address, address + len) in a machine of 64 MiB, and whether it is all there. */
static const struct {
    uint64_t gpa, len;
    int there;
} ranges[] = {
    { 0, 1, 1 },
    { 0, 64 * MIB, 1 },
    { 64 * MIB - 1, 1, 1 },
    { 0, 0, 0 },
    { 0x1000, 0, 0 },
    { 64 * MIB, 0, 0 },
    { 64 * MIB, 1, 0 },
    { 64 * MIB - 1, 2, 0 },
    { 0, 64 * MIB + 1, 0 },
    { 0x1000, UINT64_MAX, 0 },
    { 0x1000, UINT64_MAX - 0xfff, 0 },
    { UINT64_MAX, 1, 0 },
    { UINT64_MAX, 2, 0 },
    { UINT64_MAX - 0xfff, 0x1000, 0 },
    { 1ull << 63, 1ull << 63, 0 },
    { ABI_RAM_HIGH_START, 1, 0 },
};

START_TEST(test_range)
{
    struct memory memory;
    void *at;

    ck_assert_int_eq(memory_create(&memory, -1, 64 * MIB, MEMORY_4K), 0);
    at = memory_at(&memory, ranges[_i].gpa, ranges[_i].len);
    if (ranges[_i].there)
        ck_assert_ptr_eq(at, (char *)memory.slots[0].hva + ranges[_i].gpa);
    else
        ck_assert_ptr_null(at);
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_hole)
{
    struct memory memory;

    ck_assert_int_eq(memory_create(&memory, -1, 4 * GIB, MEMORY_4K), 0);
    ck_assert_uint_eq(memory.nslots, 2);
    ck_assert_uint_eq(memory_low_end(&memory), ABI_RAM_LOW_END);
    ck_assert_ptr_nonnull(memory_at(&memory, ABI_RAM_LOW_END - 8, 8));
    ck_assert_ptr_null(memory_at(&memory, ABI_RAM_LOW_END - 8, 9));
    ck_assert_ptr_null(memory_at(&memory, ABI_RAM_LOW_END, 1));
    ck_assert_ptr_null(memory_at(&memory, ABI_RAM_HIGH_START - 1, 1));
    ck_assert_ptr_null(memory_at(&memory, ABI_RAM_HIGH_START - 1, 2));
    ck_assert_ptr_nonnull(memory_at(&memory, ABI_RAM_HIGH_START, GIB));
    ck_assert_ptr_null(memory_at(&memory, ABI_RAM_HIGH_START, GIB + 1));
    /* Across the hole: both ends are there, the middle is not. */
    ck_assert_ptr_null(memory_at(&memory, ABI_RAM_LOW_END - 1, GIB + 2));
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_alignment)
{
    static const enum memory_backing backings[] = { MEMORY_4K, MEMORY_THP };
    struct memory memory;

    ck_assert_int_eq(memory_create(&memory, -1, 3 * GIB + 64 * MIB, backings[_i]), 0);
    for (unsigned i = 0; i < memory.nslots; i++)
        ck_assert_uint_eq((uintptr_t)memory.slots[i].hva % MEMORY_HUGE_BYTES,
                          memory.slots[i].gpa % MEMORY_HUGE_BYTES);
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_untouched)
{
    unsigned char resident[64];
    struct memory memory;

    ck_assert_int_eq(memory_create(&memory, -1, 64 * 4096, MEMORY_4K), 0);
    ck_assert_int_eq(mincore(memory.slots[0].hva, 64 * 4096, resident), 0);
    for (unsigned i = 0; i < 64; i++)
        ck_assert_uint_eq(resident[i] & 1, 0);
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_bad_sizes)
{
    static const struct {
        uint64_t bytes;
        enum memory_backing backing;
    } bad[] = {
        { 0, MEMORY_4K },          { 1, MEMORY_4K },
        { 4095, MEMORY_4K },       { 4097, MEMORY_THP },
        { 4096, MEMORY_HUGETLB },  { 3 * MIB, MEMORY_HUGETLB },
        { UINT64_MAX, MEMORY_4K }, { UINT64_MAX - 4095, MEMORY_4K },
        { 1ull << 63, MEMORY_4K }, { GIB + 2 * MIB, MEMORY_HUGETLB_1G },
    };
    struct memory memory;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(memory_create(&memory, -1, bad[i].bytes, bad[i].backing), -EINVAL);
        ck_assert_uint_eq(memory.nslots, 0);
    }
}
END_TEST

START_TEST(test_add)
{
    struct memory memory;
    void *page = aligned_alloc(4096, 8 * 4096);

    ck_assert_ptr_nonnull(page);
    ck_assert_int_eq(memory_create(&memory, -1, 16 * MIB, MEMORY_4K), 0);
    ck_assert_int_eq(memory_add(&memory, 16 * MIB, 0, page, 0), -EINVAL);
    ck_assert_int_eq(memory_add(&memory, 16 * MIB + 1, 4096, page, 0), -EINVAL);
    ck_assert_int_eq(memory_add(&memory, 16 * MIB, 4095, page, 0), -EINVAL);
    ck_assert_int_eq(memory_add(&memory, 16 * MIB, 4096, (char *)page + 8, 0), -EINVAL);
    ck_assert_int_eq(memory_add(&memory, UINT64_MAX - 4095, 8192, page, 0), -EINVAL);
    ck_assert_int_eq(memory_add(&memory, 0, 4096, page, 0), -EEXIST);
    ck_assert_int_eq(memory_add(&memory, 16 * MIB - 4096, 8192, page, 0), -EEXIST);
    ck_assert_int_eq(memory_add(&memory, 16 * MIB, 8192, page, 0), 0);
    ck_assert_int_eq(memory_add(&memory, 16 * MIB + 4096, 4096, page, 0), -EEXIST);
    ck_assert_ptr_eq(memory_at(&memory, 16 * MIB + 8, 8), (char *)page + 8);
    /* Neighbours in address are not neighbours in memory. */
    ck_assert_ptr_null(memory_at(&memory, 16 * MIB - 4, 8));
    memory_destroy(&memory);
    free(page);
}
END_TEST

START_TEST(test_too_many_slots)
{
    struct memory memory;
    void *page = aligned_alloc(4096, 4096);
    unsigned added = 0;
    int err;

    ck_assert_ptr_nonnull(page);
    ck_assert_int_eq(memory_create(&memory, -1, MIB, MEMORY_4K), 0);
    do
        err = memory_add(&memory, GIB + 8192ull * added, 4096, page, 0);
    while (!err && ++added < 2 * MEMORY_SLOTS_MAX);
    ck_assert_int_eq(err, -ENOSPC);
    ck_assert_uint_eq(memory.nslots, MEMORY_SLOTS_MAX);
    memory_destroy(&memory);
    free(page);
}
END_TEST

/* A file of 4 MiB, each page of which begins with its number. */
static int numbered_file(void)
{
    int fd = memfd_create("numbered", MFD_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 4 * MIB), 0);
    for (uint32_t i = 0; i < 4 * MIB / MEMORY_PAGE_BYTES; i++)
        ck_assert_int_eq(pwrite(fd, &i, sizeof(i), i * MEMORY_PAGE_BYTES), sizeof(i));
    return fd;
}

/* What the guest writes does not reach the file, and what is discarded reads as zero. */
START_TEST(test_private_file)
{
    struct memory_params params = { .bytes = 4 * MIB, .source = MEMORY_FILE };
    struct memory memory;
    uint32_t *ram, value;

    params.file_fd = numbered_file();
    ck_assert_int_eq(memory_create_from(&memory, -1, &params), 0);
    ck_assert_int_lt(memory.fd, 0);
    ram = memory_at(&memory, 0, 4 * MIB);
    ck_assert_uint_eq((uintptr_t)ram % MEMORY_HUGE_BYTES, 0);
    ck_assert_uint_eq(ram[5 * 1024], 5);
    ram[5 * 1024] = 77;
    ck_assert_int_eq(pread(params.file_fd, &value, 4, 5 * MEMORY_PAGE_BYTES), 4);
    ck_assert_uint_eq(value, 5);
    ck_assert_int_eq(memory_discard(&memory, 5 * MEMORY_PAGE_BYTES, 2 * MEMORY_PAGE_BYTES),
                     2 * MEMORY_PAGE_BYTES);
    ck_assert_uint_eq(ram[5 * 1024], 0);
    ck_assert_uint_eq(ram[6 * 1024], 0);
    ck_assert_uint_eq(ram[7 * 1024], 7);
    memory_destroy(&memory);
    /* A file that is too short, or huge pages, cannot be. */
    params.bytes = 6 * MIB;
    ck_assert_int_eq(memory_create_from(&memory, -1, &params), -EINVAL);
    params.bytes = 4 * MIB;
    params.backing = MEMORY_HUGETLB;
    ck_assert_int_eq(memory_create_from(&memory, -1, &params), -EINVAL);
    close(params.file_fd);
}
END_TEST

/* Another mapping of the memfd sees what the guest has, above the hole too. */
START_TEST(test_shared)
{
    const struct memory_params params = { .bytes = ABI_RAM_LOW_END + 4 * MIB,
                                          .source = MEMORY_SHARED };
    struct memory memory;
    uint32_t *ram, *other;

    ck_assert_int_eq(memory_create_from(&memory, -1, &params), 0);
    ram = memory_at(&memory, ABI_RAM_HIGH_START + MIB, MIB);
    ck_assert_ptr_nonnull(ram);
    other = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd,
                 (off_t)(ABI_RAM_LOW_END + MIB));
    ck_assert_ptr_ne(other, MAP_FAILED);
    ram[0] = 1;
    ck_assert_uint_eq(other[0], 1);
    other[1] = 2;
    ck_assert_uint_eq(ram[1], 2);
    ck_assert_int_eq(memory_discard(&memory, ABI_RAM_HIGH_START + MIB, MEMORY_PAGE_BYTES),
                     MEMORY_PAGE_BYTES);
    ck_assert_uint_eq(ram[0], 0);
    ck_assert_uint_eq(other[1], 0);
    munmap(other, MIB);
    memory_destroy(&memory);
    ck_assert_int_lt(memory.fd, 0);
}
END_TEST

Suite *memory_suite(void)
{
    Suite *suite = suite_create("memory");
    TCase *tc = tcase_create("memory");

    tcase_set_timeout(tc, 10);
    tcase_add_loop_test(tc, test_range, 0, sizeof(ranges) / sizeof(ranges[0]));
    tcase_add_test(tc, test_hole);
    tcase_add_loop_test(tc, test_alignment, 0, 2);
    tcase_add_test(tc, test_untouched);
    tcase_add_test(tc, test_bad_sizes);
    tcase_add_test(tc, test_add);
    tcase_add_test(tc, test_too_many_slots);
    tcase_add_test(tc, test_private_file);
    tcase_add_test(tc, test_shared);
    suite_add_tcase(suite, tc);
    return suite;
}
