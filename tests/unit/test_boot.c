/* vmm/boot: the structures that a PVH kernel is given, and what boot() refuses. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/bundled.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/pvh.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static uint32_t word(const struct memory *memory, uint64_t gpa)
{
    uint32_t value;

    memcpy(&value, memory_at(memory, gpa, sizeof(value)), sizeof(value));
    return value;
}

static uint64_t quad(const struct memory *memory, uint64_t gpa)
{
    return word(memory, gpa) | (uint64_t)word(memory, gpa + 4) << 32;
}

/* Offsets as in Xen's start_info.h, by number: the code under test has the structs. */
START_TEST(test_start_info)
{
    const struct pvh_info info = { .cmdline = "hello guest",
                                   .initrd = { .gpa = 0x5000000, .bytes = 777 },
                                   .fdt_bytes = 1234,
                                   .rsdp_gpa = 0xe0010 };
    uint64_t start = LAYOUT_START_INFO_GPA, modules, map;
    struct error error;
    struct memory memory;

    ck_assert_int_eq(memory_create(&memory, -1, 4 * GIB, MEMORY_4K), 0);
    ck_assert_int_eq(pvh_write(&memory, &info, &error), 0);
    ck_assert_uint_eq(word(&memory, start), 0x336ec578);
    ck_assert_uint_eq(word(&memory, start + 4), 1);
    ck_assert_uint_eq(word(&memory, start + 12), 2);
    modules = quad(&memory, start + 16);
    ck_assert_uint_eq(quad(&memory, modules), 0x5000000);
    ck_assert_uint_eq(quad(&memory, modules + 8), 777);
    ck_assert_uint_eq(quad(&memory, modules + 32), LAYOUT_FDT_GPA);
    ck_assert_uint_eq(quad(&memory, modules + 40), 1234);
    ck_assert_str_eq(memory_at(&memory, quad(&memory, start + 24), 12), "hello guest");
    ck_assert_uint_eq(quad(&memory, start + 32), 0xe0010);

    static const uint64_t expected[][3] = {
        { 0, LAYOUT_LOW_MEMORY_END, 1 },
        { LAYOUT_LOW_MEMORY_END, LAYOUT_HIGH_MEMORY_GPA - LAYOUT_LOW_MEMORY_END, 2 },
        { LAYOUT_HIGH_MEMORY_GPA, ABI_RAM_LOW_END - LAYOUT_HIGH_MEMORY_GPA, 1 },
        { ABI_RAM_HIGH_START, GIB, 1 },
    };

    map = quad(&memory, start + 40);
    ck_assert_uint_eq(word(&memory, start + 48), 4);
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(quad(&memory, map + 24 * i), expected[i][0]);
        ck_assert_uint_eq(quad(&memory, map + 24 * i + 8), expected[i][1]);
        ck_assert_uint_eq(word(&memory, map + 24 * i + 16), expected[i][2]);
    }
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_no_module_no_high_memory)
{
    struct pvh_info info = { .cmdline = "" };
    struct error error;
    struct memory memory;
    uint64_t modules;

    ck_assert_int_eq(memory_create(&memory, -1, 64 * MIB, MEMORY_4K), 0);
    ck_assert_int_eq(pvh_write(&memory, &info, &error), 0);
    ck_assert_uint_eq(word(&memory, LAYOUT_START_INFO_GPA + 12), 0);
    ck_assert_uint_eq(word(&memory, LAYOUT_START_INFO_GPA + 48), 3);
    /* A device tree comes behind the initrd's place, but for the bundled guest. */
    info.fdt_bytes = 99;
    ck_assert_int_eq(pvh_write(&memory, &info, &error), 0);
    ck_assert_uint_eq(word(&memory, LAYOUT_START_INFO_GPA + 12), 2);
    modules = quad(&memory, LAYOUT_START_INFO_GPA + 16);
    ck_assert_uint_eq(quad(&memory, modules), 0);
    ck_assert_uint_eq(quad(&memory, modules + 8), 0);
    ck_assert_uint_eq(quad(&memory, modules + 40), 99);
    info.fdt_first = true;
    ck_assert_int_eq(pvh_write(&memory, &info, &error), 0);
    ck_assert_uint_eq(word(&memory, LAYOUT_START_INFO_GPA + 12), 1);
    ck_assert_uint_eq(quad(&memory, modules), LAYOUT_FDT_GPA);
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_cmdline_length)
{
    static char cmdline[LAYOUT_STRINGS_BYTES + 1];
    struct pvh_info info = { .cmdline = cmdline, .cmdline_max = PVH_CMDLINE_MAX };
    char *text = cmdline;
    struct error error;
    struct memory memory;

    memset(cmdline, 'x', sizeof(cmdline) - 1);
    ck_assert_int_eq(memory_create(&memory, -1, 2 * MIB, MEMORY_4K), 0);
    text[PVH_CMDLINE_MAX + 1] = 0;
    ck_assert_int_eq(pvh_write(&memory, &info, &error), -E2BIG);
    ck_assert_ptr_nonnull(strstr(error.field, "boot_args"));
    text[PVH_CMDLINE_MAX] = 0;
    ck_assert_int_eq(pvh_write(&memory, &info, &error), 0);
    ck_assert_uint_eq(quad(&memory, LAYOUT_START_INFO_GPA + 24), LAYOUT_CMDLINE_GPA);
    /* A kernel that names no limit gets what there is room for. */
    info.cmdline_max = 0;
    memset(cmdline, 'x', sizeof(cmdline) - 1);
    ck_assert_int_eq(pvh_write(&memory, &info, &error), -E2BIG);
    info.cmdline = text + 1;
    ck_assert_int_eq(pvh_write(&memory, &info, &error), 0);
    ck_assert_uint_eq(quad(&memory, LAYOUT_START_INFO_GPA + 24), LAYOUT_STRINGS_GPA);
    ck_assert_uint_eq(strlen(memory_at(&memory, LAYOUT_STRINGS_GPA, LAYOUT_STRINGS_BYTES)),
                      LAYOUT_STRINGS_BYTES - 1);
    memory_destroy(&memory);
    info.cmdline = "";
    ck_assert_int_eq(memory_create(&memory, -1, LAYOUT_END_GPA - 4096, MEMORY_4K), 0);
    ck_assert_int_eq(pvh_write(&memory, &info, &error), -ENOSPC);
    memory_destroy(&memory);
}
END_TEST

START_TEST(test_bundled)
{
    struct error error;
    struct memory memory;
    struct elf_info info;

    ck_assert_int_eq(memory_create(&memory, -1, 64 * MIB, MEMORY_4K), 0);
    ck_assert_int_eq(elf_load(&memory, bundled_kernel,
                              (size_t)(bundled_kernel_end - bundled_kernel), &info, &error),
                     0);
    ck_assert_uint_ge(info.entry, LAYOUT_HIGH_MEMORY_GPA);
    memory_destroy(&memory);
}
END_TEST

/* Refused before a vCPU is needed. */
START_TEST(test_refused)
{
    struct boot_source source = { .kernel_path = NULL };
    struct vcpu vcpu = { .fd = -1 };
    struct vm vm = { .vcpus = &vcpu, .ncpus = 1 };
    struct error error;

    vcpu.vm = &vm;
    ck_assert_int_eq(memory_create(&vm.memory, -1, MIB, MEMORY_4K), 0);
    ck_assert_int_eq(boot(&vm, NULL, &source, &error), -ENOSPC);
    ck_assert_str_eq(error.field, BOOT_FIELD_MEMORY);
    memory_destroy(&vm.memory);
    ck_assert_int_eq(memory_create(&vm.memory, -1, 4 * MIB, MEMORY_4K), 0);
    source.kernel_path = "/nonexistent/kernel";
    ck_assert_int_eq(boot(&vm, NULL, &source, &error), -ENOENT);
    ck_assert_ptr_nonnull(strstr(error.text, "/nonexistent/kernel"));
    memory_destroy(&vm.memory);
}
END_TEST

Suite *boot_suite(void)
{
    Suite *suite = suite_create("boot");
    TCase *tc = tcase_create("boot");

    tcase_set_timeout(tc, 10);
    tcase_add_test(tc, test_start_info);
    tcase_add_test(tc, test_no_module_no_high_memory);
    tcase_add_test(tc, test_cmdline_length);
    tcase_add_test(tc, test_bundled);
    tcase_add_test(tc, test_refused);
    suite_add_tcase(suite, tc);
    return suite;
}
