/* vmm/inspect/disasm: one instruction in each mode, and bytes that are none. */
#include <check.h>
#include <errno.h>

#include "tests/unit/suites.h"
#include "vmm/inspect/disasm.h"

static const struct {
    const char *code;
    size_t bytes;
    unsigned bits;
    int length;
    const char *text;
} cases[] = {
    { "\x0f\x20\xd8", 3, 64, 3, "mov rax, cr3" },
    { "\x0f\x0b", 2, 64, 2, "ud2" },
    { "\xf3\x0f\xb8\xc0", 4, 32, 4, "popcnt eax, eax" },
    { "\xeb\xfe", 2, 64, 2, "jmp 0x1000" },
    { "\xb8\x01\x00", 3, 16, 3, "mov ax, 1" },
    { "\xb8\x01\x00", 3, 32, 0, "(bad)" },
    { "\xff\xff", 2, 64, 0, "(bad)" },
    { "", 0, 64, 0, "(bad)" },
};

START_TEST(test_one)
{
    char text[DISASM_TEXT_BYTES];

    ck_assert_int_eq(disasm_one((const uint8_t *)cases[_i].code, cases[_i].bytes, 0x1000,
                                cases[_i].bits, text, sizeof(text)),
                     cases[_i].length);
    ck_assert_str_eq(text, cases[_i].text);
}
END_TEST

START_TEST(test_mode)
{
    char text[DISASM_TEXT_BYTES];

    ck_assert_int_eq(disasm_one((const uint8_t *)"\x90", 1, 0, 8, text, sizeof(text)), -EINVAL);
}
END_TEST

Suite *disasm_suite(void)
{
    Suite *suite = suite_create("disasm");
    TCase *tc = tcase_create("disasm");

    tcase_set_timeout(tc, 10);
    tcase_add_loop_test(tc, test_one, 0, sizeof(cases) / sizeof(cases[0]));
    tcase_add_test(tc, test_mode);
    suite_add_tcase(suite, tc);
    return suite;
}
