/* Page-table memory: what arithmetic says, and what walking finds. */
#include <check.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/measure/backing.h"
#include "vmm/measure/chains.h"
#include "vmm/measure/table_memory.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define GIB (1ull << 30)
#define P4K 4096ull
#define P2M (2 * MIB)

START_TEST(limits)
{
    ck_assert_uint_eq(table_memory_limit(P4K), 2 * MIB + 4 * KIB);
    ck_assert_uint_eq(table_memory_limit(P2M), 4 * KIB);
    ck_assert_uint_eq(table_memory_limit(GIB), 8);
}
END_TEST

START_TEST(least)
{
    /* Aligned to all that it fills: its tables, and one of each level above. */
    ck_assert_uint_eq(table_memory_least(4 * GIB, GIB, P4K), 512 + 1 + 1);
    ck_assert_uint_eq(table_memory_least(4 * GIB, GIB, P2M), 1 + 1);
    ck_assert_uint_eq(table_memory_least(4 * GIB, GIB, GIB), 1);
    ck_assert_uint_eq(table_memory_least(4 * GIB, P4K, P4K), 3);
    /* Across the ends of tables. */
    ck_assert_uint_eq(table_memory_least(4 * GIB - P4K, 2 * P4K, P4K), 2 + 2 + 1);
    ck_assert_uint_eq(table_memory_least(512 * GIB - P4K, 2 * P4K, P4K), 2 + 2 + 2);
    ck_assert_uint_eq(table_memory_least(4 * GIB + P4K, 2 * MIB, P4K), 2 + 1 + 1);
}
END_TEST

START_TEST(names)
{
    for (unsigned i = 0; i < BACKINGS; i++)
        ck_assert_ptr_nonnull(backing_name(i));
}
END_TEST

START_TEST(shapes)
{
    struct measure_host host = { .interprets = true };
    struct session_params params;
    uint64_t bytes = 256 * MIB;
    const char *why = NULL;

    ck_assert(backing_params(&host, MEMORY_4K, &params, &bytes, &why));
    ck_assert_uint_eq(bytes, 256 * MIB);
    ck_assert_uint_ge(params.memory_bytes, 2 * bytes);
    ck_assert_uint_lt(params.memory_bytes, GIB);
    host.interprets = false;
    ck_assert(backing_params(&host, MEMORY_4K, &params, &bytes, &why));
    ck_assert_uint_ge(params.memory_bytes, 2 * GIB + 2 * bytes);
    /* As far as what is reserved goes, if anything; else why not. */
    for (unsigned i = MEMORY_HUGETLB; i < BACKINGS; i++) {
        uint64_t available = backing_available(i, &why);

        bytes = 256 * MIB;
        if (backing_params(&host, i, &params, &bytes, &why)) {
            ck_assert_uint_le(params.memory_bytes, available);
            ck_assert_uint_eq(params.memory_bytes % memory_page_bytes(i), 0);
            ck_assert_uint_lt(2 * bytes, params.memory_bytes);
        } else {
            ck_assert_ptr_nonnull(why);
        }
    }
}
END_TEST

/* What the walk of a range finds is what arithmetic says it takes; no more when it is there twice.
 */
START_TEST(of_a_guest)
{
    const struct session_params params = { .memory_bytes = 64 * MIB, .cpus = 1 };
    static struct session session;
    struct chain_place place = { .session = &session };
    struct table_memory before, after;
    struct table_count count;
    struct kvm_host host;
    char error[256];

    ck_assert_int_eq(kvm_open(&host), 0);
    ck_assert_msg(session_open(&session, &host, &params, error, sizeof(error)) == 0, "%s", error);
    table_memory_read(&session, &before);
    for (unsigned page = ABI_PAGE_4K; page <= ABI_PAGE_2M; page++) {
        uint64_t va, page_bytes = page == ABI_PAGE_4K ? P4K : P2M;

        ck_assert_int_eq(chain_map(&place, page, 4 * MIB, &va), 0);
        ck_assert_int_eq(table_memory_count(&session, va, 4 * MIB, &count), 0);
        ck_assert_uint_eq(count.tables, table_memory_least(va, 4 * MIB, page_bytes));
        /* A leaf for each page, and an entry for each table but those of the root. */
        ck_assert_uint_eq(count.entries, 4 * MIB / page_bytes + count.tables - 1);
        ck_assert_int_eq(table_memory_count(&session, va, 4096, &count), 0);
        ck_assert_uint_eq(count.tables, page == ABI_PAGE_4K ? 3 : 2);
    }
    table_memory_read(&session, &after);
    ck_assert_uint_ge(after.process_bytes, before.process_bytes);
    ck_assert_uint_gt(after.process_bytes, 0);
    if (after.pages_4k != UINT64_MAX)
        ck_assert_uint_ge(after.pages_4k, before.pages_4k + 2 * 1024);
    ck_assert_int_eq(after.second_known, table_memory_source() <= TABLES_OF_HOST);
    session_close(&session);
    kvm_close(&host);
}
END_TEST

Suite *tables_suite(void)
{
    Suite *suite = suite_create("tables");
    TCase *plain = tcase_create("plain"), *guest = tcase_create("guest");

    tcase_add_test(plain, limits);
    tcase_add_test(plain, least);
    tcase_add_test(plain, names);
    tcase_add_test(plain, shapes);
    suite_add_tcase(suite, plain);
    tcase_set_tags(guest, NEEDS_KVM);
    tcase_set_timeout(guest, 60);
    tcase_add_test(guest, of_a_guest);
    suite_add_tcase(suite, guest);
    return suite;
}
