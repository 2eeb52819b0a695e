/* vmm/inspect/disasm: one instruction in each mode, and bytes that are none. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/inspect/cpu.h"
#include "vmm/inspect/disasm.h"
#include "vmm/machine/vm.h"

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

#define CODE_GPA 0x7ff0ull /* its last bytes are on another page */

/* Code around rip without paging, in RAM without a VM: forwards, and back to a boundary. */
START_TEST(test_around)
{
    static const uint8_t code[] = "\x90\x90\xb8\x44\x33\x22\x11\xfa\x90\xf3\x90\x0f\x0b\x0f\x0b"
                                  "\x90\xb8\x01\x00\x00\x00\xeb\xfe";
    struct kvm_sregs sregs = { .cs = { .db = 1 } };
    struct kvm_regs regs = { .rip = CODE_GPA + 11 };
    struct cpu_instruction list[CPU_INSTRUCTIONS];
    struct vm vm = { 0 };
    struct vcpu vcpu = { .vm = &vm };
    unsigned at, count;

    ck_assert_int_eq(memory_create(&vm.memory, -1, 1 << 20, MEMORY_4K), 0);
    memcpy(memory_at(&vm.memory, CODE_GPA, sizeof(code)), code, sizeof(code));
    count = cpu_disassemble(&vcpu, &regs, &sregs, list, &at);
    ck_assert_uint_eq(at, CPU_INSTRUCTIONS_BEFORE);
    ck_assert_uint_eq(count, CPU_INSTRUCTIONS);
    ck_assert_str_eq(list[at - 4].text, "mov eax, 0x11223344");
    ck_assert_str_eq(list[at - 3].text, "cli");
    ck_assert_str_eq(list[at - 1].text, "pause");
    ck_assert_str_eq(list[at].text, "ud2");
    ck_assert_uint_eq(list[at].rip, regs.rip);
    ck_assert_uint_eq(list[at].length, 2);
    ck_assert_str_eq(list[at + 3].text, "mov eax, 1");

    /* At the start of memory there is nothing before, beyond its end nothing at all. */
    regs.rip = 0;
    ck_assert_uint_gt(cpu_disassemble(&vcpu, &regs, &sregs, list, &at), 0);
    ck_assert_uint_eq(at, 0);
    regs.rip = 1 << 20;
    ck_assert_uint_eq(cpu_disassemble(&vcpu, &regs, &sregs, list, &at), 0);
    regs.rip = (1 << 20) - 1;
    ck_assert_uint_gt(cpu_disassemble(&vcpu, &regs, &sregs, list, &at), 0);
    /* A code segment with a base; 16 bits. */
    sregs.cs = (struct kvm_segment){ .base = CODE_GPA };
    regs.rip = 11;
    ck_assert_uint_gt(cpu_disassemble(&vcpu, &regs, &sregs, list, &at), 0);
    ck_assert_str_eq(list[at].text, "ud2");
    ck_assert_uint_eq(list[at].rip, 11);
    memory_destroy(&vm.memory);
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
    tcase_add_test(tc, test_around);
    tcase_add_test(tc, test_mode);
    suite_add_tcase(suite, tc);
    return suite;
}
