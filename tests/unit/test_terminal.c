/* vmm/monitor/terminal: escapes among the keys, wherever reads have split them. */
#include <check.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/monitor/terminal.h"

static const struct {
    const char *keys, *kept;
    enum terminal_order order;
} cases[] = {
    { "", "", TERMINAL_NOTHING },
    { "x", "x", TERMINAL_NOTHING },
    { "\001x", "", TERMINAL_END },
    { "ab\001xcd", "abcd", TERMINAL_END },
    { "\001h", "", TERMINAL_HELP },
    { "\001\001", "\001", TERMINAL_NOTHING },
    { "\001\001x", "\001x", TERMINAL_NOTHING },
    { "\001a\001a", "\001\001", TERMINAL_NOTHING },
    { "\001qx", "x", TERMINAL_NOTHING },
    { "q\001", "q", TERMINAL_NOTHING },
    { "\001\001\001x", "\001", TERMINAL_END },
};

START_TEST(test_filter)
{
    size_t length = strlen(cases[_i].keys);

    for (size_t split = 0; split <= length; split++) {
        struct terminal_escape escape = { 0 };
        uint8_t keys[2][16];
        size_t counts[2] = { split, length - split };
        enum terminal_order order;

        memcpy(keys[0], cases[_i].keys, split);
        memcpy(keys[1], cases[_i].keys + split, length - split);
        order = terminal_filter(&escape, keys[0], &counts[0]);
        if (order == TERMINAL_NOTHING)
            order = terminal_filter(&escape, keys[1], &counts[1]);
        else
            (void)terminal_filter(&escape, keys[1], &counts[1]);
        ck_assert_int_eq(order, cases[_i].order);
        memcpy(keys[0] + counts[0], keys[1], counts[1]);
        ck_assert_uint_eq(counts[0] + counts[1], strlen(cases[_i].kept));
        ck_assert_mem_eq(keys[0], cases[_i].kept, strlen(cases[_i].kept));
    }
}
END_TEST

Suite *terminal_suite(void)
{
    Suite *suite = suite_create("terminal");
    TCase *tcase = tcase_create("terminal");

    tcase_add_loop_test(tcase, test_filter, 0, sizeof(cases) / sizeof(cases[0]));
    suite_add_tcase(suite, tcase);
    return suite;
}
