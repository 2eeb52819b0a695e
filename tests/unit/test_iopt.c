/* devices/iommu/iopt: leaves, mappings' ends, what is freed when. */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "devices/iommu/iommu.h"
#include "devices/iommu/iopt.h"
#include "tests/unit/suites.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define ALL (1ull << 12 | 1ull << 21 | 1ull << 30)
#define RW  (IOMMU_READ | IOMMU_WRITE)

static struct iopt_budget budget;
static struct iopt iopt;

static void setup(uint64_t last, uint64_t sizes)
{
    budget = (struct iopt_budget){ .tables_max = 1000 };
    ck_assert_int_eq(iopt_create(&iopt, last, sizes, &budget), 0);
    ck_assert_uint_eq(budget.tables, 1);
}

static void teardown(void)
{
    iopt_destroy(&iopt);
    ck_assert_uint_eq(budget.tables, 0);
}

static void unmap(uint64_t first, uint64_t last)
{
    iopt_unmap(&iopt, first, last);
    iopt_clear(&iopt, first, last, NULL, NULL);
    iopt_free_unlinked(&iopt);
}

/* Leaves by size, and whether they are one mapping after another. */
struct leaves {
    unsigned small, large, huge, starts, ends;
    uint64_t next, gpa;
};

static void count(void *owner, const struct iopt_leaf *leaf)
{
    struct leaves *leaves = owner;

    leaves->small += leaf->bytes == 4 * KIB;
    leaves->large += leaf->bytes == 2 * MIB;
    leaves->huge += leaf->bytes == GIB;
    leaves->starts += leaf->starts;
    leaves->ends += leaf->ends;
    if (!leaf->starts) {
        ck_assert_uint_eq(leaf->first, leaves->next);
        ck_assert_uint_eq(leaf->gpa, leaves->gpa);
    }
    leaves->next = leaf->first + leaf->bytes;
    leaves->gpa = leaf->gpa + leaf->bytes;
}

static const struct {
    uint64_t first, bytes, gpa, sizes;
    unsigned small, large, huge;
} sizes[] = {
    { 0, 4 * KIB, 0, ALL, 1, 0, 0 },
    { 0, 2 * MIB, 0, ALL, 0, 1, 0 },
    { 0, 2 * MIB, 4 * KIB, ALL, 512, 0, 0 },
    { 4 * KIB, 2 * MIB, 4 * KIB, ALL, 512, 0, 0 },
    { 4 * KIB, 4 * MIB - 4 * KIB, 4 * KIB, ALL, 511, 1, 0 },
    { 0, GIB, GIB, ALL, 0, 0, 1 },
    { 0, GIB, 2 * MIB, ALL, 0, 512, 0 },
    { 0, GIB, GIB, 1ull << 12 | 1ull << 21, 0, 512, 0 },
    { 0, GIB, GIB, 1ull << 12 | 1ull << 30, 0, 0, 1 },
    { 0, 4 * MIB, 0, 1ull << 12, 1024, 0, 0 },
    { GIB - 4 * KIB, GIB + 8 * KIB, GIB - 4 * KIB, ALL, 2, 0, 1 },
    { GIB - 2 * MIB, GIB + 4 * MIB, GIB - 2 * MIB, ALL, 0, 2, 1 },
    { (1ull << 48) - 2 * MIB, 2 * MIB, 0, ALL, 0, 1, 0 },
};

START_TEST(test_sizes)
{
    uint64_t first = sizes[_i].first, last = first + sizes[_i].bytes - 1;
    struct leaves leaves = { 0 };
    struct iopt_leaf leaf;

    setup((1ull << 48) - 1, sizes[_i].sizes);
    ck_assert_int_eq(iopt_map(&iopt, first, last, sizes[_i].gpa, RW), 0);
    ck_assert_uint_eq(iopt.mappings, 1);
    iopt_each(&iopt, 0, iopt.last, count, &leaves);
    ck_assert_uint_eq(leaves.small, sizes[_i].small);
    ck_assert_uint_eq(leaves.large, sizes[_i].large);
    ck_assert_uint_eq(leaves.huge, sizes[_i].huge);
    ck_assert_uint_eq(leaves.starts, 1);
    ck_assert_uint_eq(leaves.ends, 1);
    ck_assert_uint_eq(leaves.next, last + 1);

    /* The ends lead where they should, the neighbours nowhere. */
    ck_assert(iopt_walk(&iopt, first, &leaf) && leaf.starts && leaf.prot == RW);
    ck_assert_uint_eq(leaf.gpa + (first - leaf.first), sizes[_i].gpa);
    ck_assert(iopt_walk(&iopt, last, &leaf) && leaf.ends);
    ck_assert_uint_eq(leaf.gpa + (last - leaf.first), sizes[_i].gpa + sizes[_i].bytes - 1);
    ck_assert(!iopt_walk(&iopt, last + 1, &leaf));
    ck_assert(first == 0 || !iopt_walk(&iopt, first - 1, &leaf));

    unmap(first, last);
    ck_assert(!iopt_any(&iopt, 0, iopt.last));
    ck_assert_uint_eq(iopt.mappings, 0);
    ck_assert_uint_eq(budget.tables, 1);
    teardown();
}
END_TEST

static const struct {
    uint64_t last;
    unsigned tables; /* for one page at the end */
} ranges[] = {
    { 0xfff, 1 },      { 2 * MIB - 1, 1 },      { 2 * MIB, 2 },
    { GIB - 1, 2 },    { 512 * GIB - 1, 3 },    { (1ull << 48) - 1, 4 },
    { 1ull << 48, 5 }, { (1ull << 57) - 1, 5 }, { UINT64_MAX, 6 },
};

START_TEST(test_levels)
{
    uint64_t last = ranges[_i].last | 0xfff;
    struct iopt_leaf leaf;

    setup(last, ALL);
    ck_assert_int_eq(iopt_map(&iopt, last - 0xfff, last, 5 * MIB, IOMMU_READ), 0);
    ck_assert_uint_eq(budget.tables, ranges[_i].tables);
    ck_assert(iopt_walk(&iopt, last, &leaf));
    ck_assert_uint_eq(leaf.first, last - 0xfff);
    ck_assert_uint_eq(leaf.gpa, 5 * MIB);
    ck_assert_uint_eq(leaf.prot, IOMMU_READ);
    /* Beyond the end nothing aliases what is inside. */
    ck_assert(last == UINT64_MAX || !iopt_walk(&iopt, last + 1, &leaf));
    ck_assert(last == UINT64_MAX || !iopt_walk(&iopt, UINT64_MAX, &leaf));
    /* All of it at once: more empty space than could be looped over. */
    ck_assert(!iopt_splits(&iopt, 0, last));
    unmap(0, last);
    ck_assert_uint_eq(budget.tables, 1);
    teardown();
}
END_TEST

START_TEST(test_splits)
{
    /* [4K, 6M + 4K) is one mapping with a large leaf inside; [8M, 8M + 8K) are two. */
    static const struct {
        uint64_t first, last;
        bool splits;
    } cases[] = {
        { 0, UINT64_MAX >> 16, false },
        { 4 * KIB, 6 * MIB + 4 * KIB - 1, false },
        { 0, 6 * MIB + 4 * KIB - 1, false },
        { 0, 4 * KIB - 1, false },
        { 0, 4 * KIB, true },
        { 0, 8 * KIB - 1, true },
        { 8 * KIB, 7 * MIB, true },
        { 4 * KIB + 1, 7 * MIB, true },
        { 2 * MIB, 4 * MIB - 1, true },
        { 2 * MIB, 7 * MIB, true },
        { 3 * MIB, 3 * MIB, true },
        { 0, 6 * MIB - 1, true },
        { 0, 6 * MIB + 4 * KIB - 2, true },
        { 6 * MIB + 4 * KIB, 8 * MIB - 1, false },
        { 8 * MIB, 8 * MIB + 4 * KIB - 1, false },
        { 8 * MIB + 4 * KIB, 8 * MIB + 8 * KIB - 1, false },
        { 8 * MIB + 8, 8 * MIB + 8 * KIB - 1, true },
        { 8 * MIB, 8 * MIB + 4 * KIB, true },
    };

    setup((1ull << 48) - 1, ALL);
    ck_assert_int_eq(iopt_map(&iopt, 4 * KIB, 6 * MIB + 4 * KIB - 1, 4 * KIB, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 8 * MIB, 8 * MIB + 4 * KIB - 1, 0, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 8 * MIB + 4 * KIB, 8 * MIB + 8 * KIB - 1, 4 * KIB, RW), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_msg(iopt_splits(&iopt, cases[i].first, cases[i].last) == cases[i].splits,
                      "case %zu", i);
    teardown();
}
END_TEST

/* How much is one piece: mappings that touch are, but not past a hole, other prot, a table. */
START_TEST(test_runs)
{
    static const struct {
        uint64_t iova, last, first, bytes;
    } cases[] = {
        { 0, 0, 0, 4 * KIB },
        { 0, 4 * KIB - 1, 0, 4 * KIB },
        { 0, 4 * KIB, 0, 8 * KIB },
        { 4 * KIB + 5, GIB, 4 * KIB, 12 * KIB }, /* the mapping of 0, and the next */
        { 8 * KIB, GIB, 8 * KIB, 8 * KIB },
        { 16 * KIB, GIB, 16 * KIB, 4 * KIB }, /* READ alone */
        { 20 * KIB, GIB, 20 * KIB, 4 * KIB }, /* its target is somewhere else */
        { 24 * KIB, GIB, 24 * KIB, 4 * KIB }, /* then a hole */
        { 2 * MIB - 4 * KIB, GIB, 2 * MIB - 4 * KIB, 4 * KIB },
        { 2 * MIB, GIB, 2 * MIB, 4 * KIB },
        { 4 * MIB + 5, 6 * MIB - 1, 4 * MIB, 2 * MIB },
        { 4 * MIB + 5, GIB, 4 * MIB, 4 * MIB }, /* of leaves of 2M, up to those of 4K */
        { UINT64_MAX - 8 * KIB + 1, UINT64_MAX, UINT64_MAX - 8 * KIB + 1, 8 * KIB },
    };
    struct iopt_leaf leaf;
    uint64_t bytes;

    setup(UINT64_MAX, ALL);
    ck_assert_int_eq(iopt_map(&iopt, 0, 8 * KIB - 1, 4 * KIB, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 8 * KIB, 16 * KIB - 1, 12 * KIB, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 16 * KIB, 20 * KIB - 1, 20 * KIB, IOMMU_READ), 0);
    ck_assert_int_eq(iopt_map(&iopt, 20 * KIB, 24 * KIB - 1, 24 * KIB, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 24 * KIB, 28 * KIB - 1, 0, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 2 * MIB - 4 * KIB, 2 * MIB + 4 * KIB - 1, 64 * KIB, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 4 * MIB, 8 * MIB + 4 * KIB - 1, 4 * MIB, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, UINT64_MAX - 8 * KIB + 1, UINT64_MAX, 0, RW), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert(iopt_walk_run(&iopt, cases[i].iova, cases[i].last, &leaf, &bytes));
        ck_assert_msg(leaf.first == cases[i].first && bytes == cases[i].bytes,
                      "case %zu: %#" PRIx64 ", %#" PRIx64 " bytes", i, leaf.first, bytes);
    }
    ck_assert(!iopt_walk_run(&iopt, 28 * KIB, GIB, &leaf, &bytes));
    /* What is revoked ends a run at once. */
    iopt_unmap(&iopt, 8 * KIB, 16 * KIB - 1);
    ck_assert(iopt_walk_run(&iopt, 0, GIB, &leaf, &bytes));
    ck_assert_uint_eq(bytes, 8 * KIB);
    iopt_clear(&iopt, 8 * KIB, 16 * KIB - 1, NULL, NULL);
    teardown();
}
END_TEST

/* What is revoked cannot be walked to, but is still known until it is swept. */
START_TEST(test_steps)
{
    struct leaves leaves = { 0 };
    struct iopt_leaf leaf;

    setup((1ull << 48) - 1, ALL);
    ck_assert_int_eq(iopt_map(&iopt, GIB, GIB + 8 * KIB - 1, 4 * MIB, RW), 0);
    ck_assert_int_eq(iopt_map(&iopt, 2 * GIB, 2 * GIB + 4 * KIB - 1, 0, RW), 0);
    ck_assert_uint_eq(budget.tables, 6);

    iopt_unmap(&iopt, GIB, GIB + 8 * KIB - 1);
    ck_assert(!iopt_walk(&iopt, GIB, &leaf));
    ck_assert(!iopt_any(&iopt, GIB, GIB + 8 * KIB - 1));
    ck_assert_uint_eq(iopt.mappings, 1);
    ck_assert(!iopt_has_unlinked(&iopt));

    iopt_clear(&iopt, GIB, GIB + 8 * KIB - 1, count, &leaves);
    ck_assert_uint_eq(leaves.small, 2);
    ck_assert_uint_eq(leaves.gpa, 4 * MIB + 8 * KIB);
    ck_assert(iopt_has_unlinked(&iopt));
    ck_assert_uint_eq(budget.tables, 6); /* somebody may still walk through them */

    iopt_free_unlinked(&iopt);
    ck_assert(!iopt_has_unlinked(&iopt));
    ck_assert_uint_eq(budget.tables, 4);
    ck_assert(iopt_walk(&iopt, 2 * GIB, &leaf));
    /* Its place can be used again. */
    ck_assert_int_eq(iopt_map(&iopt, GIB, GIB + 2 * MIB - 1, 0, RW), 0);
    ck_assert(iopt_walk(&iopt, GIB + MIB, &leaf) && leaf.bytes == 2 * MIB);
    teardown();
}
END_TEST

START_TEST(test_budget)
{
    setup((1ull << 48) - 1, 1ull << 12);
    budget.tables_max = 5;
    /* Needs three tables to get there and four with leaves. */
    ck_assert_int_eq(iopt_map(&iopt, 0, 8 * MIB - 1, 0, RW), -ENOMEM);
    ck_assert_uint_eq(budget.tables, 5);
    unmap(0, 8 * MIB - 1);
    ck_assert_uint_eq(budget.tables, 1);
    ck_assert_uint_eq(iopt.mappings, 0);
    ck_assert(!iopt_any(&iopt, 0, iopt.last));
    ck_assert_int_eq(iopt_map(&iopt, 0, 4 * MIB - 1, 0, RW), 0);

    /* Of which a second tree has its share. */
    struct iopt other;
    ck_assert_int_eq(iopt_create(&other, 0xfff, ALL, &budget), -ENOMEM);
    teardown();
}
END_TEST

Suite *iopt_suite(void)
{
    Suite *suite = suite_create("iopt");
    TCase *tc = tcase_create("iopt");

    tcase_set_timeout(tc, 20);
    tcase_add_loop_test(tc, test_sizes, 0, sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_loop_test(tc, test_levels, 0, sizeof(ranges) / sizeof(ranges[0]));
    tcase_add_test(tc, test_splits);
    tcase_add_test(tc, test_runs);
    tcase_add_test(tc, test_steps);
    tcase_add_test(tc, test_budget);
    suite_add_tcase(suite, tc);
    return suite;
}
