/* vmm/inspect/translate: GVA → GPA → slot → HVA → frame, in RAM without a VM. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/suites.h"
#include "vmm/inspect/translate.h"
#include "vmm/machine/guest_memory.h"
#include "vmm/machine/memory.h"

#define MIB (1ull << 20)
#define GVA 0xffffffff80200000ull
#define PWU (PAGING_P | PAGING_W | PAGING_U)

static struct memory memory;

static uint64_t *entry_at(uint64_t table, unsigned index)
{
    uint64_t *entry = memory_at(&memory, table + 8 * index, 8);

    ck_assert_ptr_nonnull(entry);
    return entry;
}

/* Tables at 0x1000 to 0x4000: two pages at GVA with one frame, then one with no RAM. */
static void setup_backing(enum memory_backing backing)
{
    ck_assert_int_eq(memory_create(&memory, -1, 8 * MIB, backing), 0);
    *entry_at(0x1000, 511) = 0x2000 | PWU;
    *entry_at(0x2000, 510) = 0x3000 | PWU;
    *entry_at(0x3000, 1) = 0x4000 | PWU;
    *entry_at(0x4000, 0) = 0x201000 | PWU;
    *entry_at(0x4000, 1) = 0x201000 | PAGING_P | PAGING_U | PAGING_NX;
    *entry_at(0x4000, 2) = 0x40000000 | PWU;
}

static void setup(void)
{
    setup_backing(MEMORY_4K);
}

static void teardown(void)
{
    memory_destroy(&memory);
}

START_TEST(test_reader)
{
    struct paging_reader reader = guest_memory_reader(&memory);
    uint64_t entry = 0;

    ck_assert_int_eq(reader.read(reader.owner, 0x1000 + 8 * 511, &entry), 0);
    ck_assert_uint_eq(entry, 0x2000 | PWU);
    ck_assert_int_eq(reader.read(reader.owner, 8 * MIB - 8, &entry), 0);
    ck_assert_int_eq(reader.read(reader.owner, 8 * MIB, &entry), -EFAULT);
    ck_assert_int_eq(reader.read(reader.owner, 0xfee00000, &entry), -EFAULT);
    ck_assert_int_eq(reader.read(reader.owner, UINT64_MAX - 7, &entry), -EFAULT);
}
END_TEST

START_TEST(test_layers)
{
    struct translation one, two;
    char *byte = memory_at(&memory, 0x201abc, 1);

    ck_assert_int_eq(translate_gva(&paging_x86_4level, &memory, NULL, 0x1000, GVA + 0xabc, &one),
                     0);
    ck_assert(one.mapped);
    ck_assert_uint_eq(one.gpa, 0x201abc);
    ck_assert_ptr_eq(one.hva, byte);
    ck_assert_ptr_nonnull(one.slot);
    ck_assert_uint_eq(one.slot->gpa, 0);
    ck_assert_uint_eq(one.slot->bytes, 8 * MIB);
    ck_assert(one.walk.leaf.writable && !one.walk.leaf.nx);

    /* The other mapping of that frame comes to the same byte, with other rights. */
    ck_assert_int_eq(translate_gva(&paging_x86_4level, &memory, NULL, 0x1000, GVA + 0x1abc, &two),
                     0);
    ck_assert_ptr_eq(two.hva, byte);
    ck_assert(!two.walk.leaf.writable && two.walk.leaf.nx);

    ck_assert_int_eq(translate_gpa(&memory, NULL, 0x201abc, &two), 0);
    ck_assert_ptr_eq(two.hva, byte);
    ck_assert_uint_eq(two.walk.nsteps, 0);
}
END_TEST

START_TEST(test_dead_ends)
{
    struct translation t;

    /* Mapped, but to no RAM: the GPA is known, nothing below it. */
    ck_assert_int_eq(translate_gva(&paging_x86_4level, &memory, NULL, 0x1000, GVA + 0x2005, &t),
                     -ENXIO);
    ck_assert(t.mapped);
    ck_assert_uint_eq(t.gpa, 0x40000005);
    ck_assert_ptr_null(t.slot);
    ck_assert_ptr_null(t.hva);

    ck_assert_int_eq(translate_gva(&paging_x86_4level, &memory, NULL, 0x1000, GVA + 0x3000, &t),
                     -EFAULT);
    ck_assert(!t.mapped);
    ck_assert_int_eq(t.walk.status, PAGING_NOT_PRESENT);
    ck_assert_uint_eq(t.walk.level, 1);

    ck_assert_int_eq(translate_gpa(&memory, NULL, 8 * MIB, &t), -ENXIO);
    ck_assert_int_eq(translate_gpa(&memory, NULL, UINT64_MAX, &t), -ENXIO);
}
END_TEST

static void note(const char *what, const char *why)
{
    printf("# SKIP translate: %s: %s\n", what, why);
    fflush(stdout);
}

/* The host's layer: absent until touched, then one frame, then absent again. */
START_TEST(test_host_page)
{
    struct host_pages pages;
    struct translation one, two;
    char *byte = memory_at(&memory, 0x201000, 1);

    host_pages_open(&pages);
    translate_gpa(&memory, &pages, 0x201000, &one);
    if (pages.pagemap < 0) {
        ck_assert_ptr_nonnull(one.host.pfn_unknown);
        note("host frames", one.host.pfn_unknown);
        return;
    }
    ck_assert(!one.host.present);
    ck_assert_uint_eq(one.host.pfn, 0);
    ck_assert_ptr_nonnull(one.host.pfn_unknown);
    ck_assert_ptr_nonnull(one.host.size_unknown);

    *byte = 1;
    translate_gva(&paging_x86_4level, &memory, &pages, 0x1000, GVA, &one);
    translate_gva(&paging_x86_4level, &memory, &pages, 0x1000, GVA + 0x1800, &two);
    ck_assert(one.host.present && !one.host.swapped);
    ck_assert_uint_eq(one.host.pfn, two.host.pfn);
    ck_assert_int_eq(one.host.pfn == 0, one.host.pfn_unknown != NULL);
    ck_assert_int_eq(one.host.bytes == 0, one.host.size_unknown != NULL);
    if (one.host.pfn_unknown)
        note("host frame number", one.host.pfn_unknown);
    if (one.host.size_unknown)
        note("host page size", one.host.size_unknown);
    else
        ck_assert_uint_eq(one.host.bytes, 4096);

    ck_assert_int_eq(madvise(byte, 4096, MADV_DONTNEED), 0);
    translate_gpa(&memory, &pages, 0x201000, &one);
    ck_assert(!one.host.present);
    host_pages_close(&pages);
    host_pages_close(&pages); /* harmless */
}
END_TEST

/* Where the host gives a huge page, frames follow one another as the bytes do. */
START_TEST(test_huge_page)
{
    struct host_pages pages;
    struct translation first, later;

    setup_backing(MEMORY_THP);
    host_pages_open(&pages);
    memset(memory_at(&memory, 4 * MIB, 2 * MIB), 1, 2 * MIB);
    translate_gpa(&memory, &pages, 4 * MIB, &first);
    translate_gpa(&memory, &pages, 4 * MIB + 511 * 4096, &later);
    if (first.host.bytes != MEMORY_HUGE_BYTES) {
        note("huge page", first.host.size_unknown ? first.host.size_unknown : "the host gave none");
    } else {
        ck_assert_uint_eq(first.host.pfn % 512, 0);
        ck_assert_uint_eq(later.host.pfn, first.host.pfn + 511);
        ck_assert_uint_eq(later.host.bytes, MEMORY_HUGE_BYTES);
    }
    host_pages_close(&pages);
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_no_permission)
{
    struct host_pages closed = { .pagemap = -EACCES, .kpageflags = -EACCES };
    struct host_pages open;
    struct translation t;

    ck_assert_int_eq(translate_gpa(&memory, &closed, 0x1000, &t), 0);
    ck_assert_ptr_nonnull(t.hva);
    ck_assert_ptr_nonnull(t.host.pfn_unknown);
    ck_assert_ptr_nonnull(t.host.size_unknown);
    ck_assert_uint_eq(t.host.pfn | t.host.bytes, 0);

    /* The frame number, but not the size. */
    host_pages_open(&open);
    closed.pagemap = open.pagemap;
    translate_gpa(&memory, &closed, 0x1000, &t);
    ck_assert_ptr_nonnull(t.host.size_unknown);
    ck_assert_uint_eq(t.host.bytes, 0);
    host_pages_close(&open);
}
END_TEST

Suite *translate_suite(void)
{
    Suite *suite = suite_create("translate");
    TCase *tc = tcase_create("layers");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_reader);
    tcase_add_test(tc, test_layers);
    tcase_add_test(tc, test_dead_ends);
    tcase_add_test(tc, test_host_page);
    tcase_add_test(tc, test_no_permission);
    suite_add_tcase(suite, tc);

    tc = tcase_create("huge page");
    tcase_set_timeout(tc, 10);
    tcase_add_test(tc, test_huge_page);
    suite_add_tcase(suite, tc);
    return suite;
}
