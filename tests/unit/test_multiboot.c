/* vmm/boot/multiboot: finding the header, loading by its fields or as ELF, multiboot_info. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/multiboot.h"
#include "vmm/boot/multiboot_info.h"

#define MIB        (1ull << 20)
#define RAM_BYTES  (16 * MIB)
#define FILE_BYTES 0x3000
#define LOAD       0x200000u
#define AT         0x40u /* of the header, in the file */

static struct memory memory;
static uint32_t file[FILE_BYTES / 4];
static size_t file_bytes;
static uint32_t *header; /* magic, flags, checksum, five address fields */

enum { FLAGS = 1, CHECKSUM, HEADER_ADDR, LOAD_ADDR, LOAD_END, BSS_END, ENTRY };

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    for (size_t i = 0; i < FILE_BYTES / 4; i++)
        file[i] = (uint32_t)i;
    file_bytes = FILE_BYTES;
    header = &file[AT / 4];
    header[0] = 0x1badb002;
    header[FLAGS] = 0x10003;
    header[CHECKSUM] = -(header[0] + header[FLAGS]);
    header[HEADER_ADDR] = LOAD + AT;
    header[LOAD_ADDR] = LOAD;
    header[LOAD_END] = LOAD + 0x2000;
    header[BSS_END] = LOAD + 0x5000;
    header[ENTRY] = LOAD + 0x100;
}

static void teardown(void)
{
    memory_destroy(&memory);
}

static int find_and_load(struct multiboot_kernel *kernel, struct error *error)
{
    struct image image = image_in_memory("kernel", file, file_bytes);
    struct multiboot found;
    int what;

    error->text[0] = 0;
    header[CHECKSUM] = -(header[0] + header[FLAGS]);
    what = multiboot_find(&image, &found, error);
    if (what != MULTIBOOT_1)
        return what < 0 ? what : 1;
    return multiboot_load(&memory, &image, &found, NULL, kernel, error);
}

START_TEST(test_fields)
{
    struct multiboot_kernel kernel;
    struct error error;

    ck_assert_int_eq(find_and_load(&kernel, &error), 0);
    ck_assert_uint_eq(kernel.entry, LOAD + 0x100);
    ck_assert_uint_eq(kernel.start, LOAD);
    ck_assert_uint_eq(kernel.end, LOAD + 0x5000);
    ck_assert_int_eq(memcmp(memory_at(&memory, LOAD, 0x2000), file, 0x2000), 0);
    ck_assert_uint_eq(*(uint32_t *)memory_at(&memory, LOAD + 0x2000, 4), 0);
    /* Without an end, all of the file; without bss, no more. */
    header[LOAD_END] = header[BSS_END] = 0;
    ck_assert_int_eq(find_and_load(&kernel, &error), 0);
    ck_assert_uint_eq(kernel.end, LOAD + FILE_BYTES);
    /* What lies before load_addr stays in the file. */
    header[LOAD_ADDR] = LOAD + AT;
    ck_assert_int_eq(find_and_load(&kernel, &error), 0);
    ck_assert_uint_eq(*(uint32_t *)memory_at(&memory, LOAD + AT, 4), 0x1badb002);
    ck_assert_uint_eq(kernel.end, LOAD + FILE_BYTES);
    /* GRUB's way to say "from the start of the file". */
    header[LOAD_ADDR] = UINT32_MAX;
    header[HEADER_ADDR] = LOAD + 0x100000 + AT;
    header[ENTRY] = LOAD + 0x100000;
    ck_assert_int_eq(find_and_load(&kernel, &error), 0);
    ck_assert_uint_eq(kernel.start, LOAD + 0x100000);
}
END_TEST

/* Within 8 KiB, on words, with a right checksum, and all of it. */
START_TEST(test_search)
{
    struct image image = image_in_memory("kernel", file, file_bytes);
    struct multiboot_kernel kernel;
    struct error error;
    struct multiboot found;
    uint32_t copy[8];

    memcpy(copy, header, sizeof(copy));
    header[0] = 0;
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_NONE);
    memcpy(&file[8192 / 4 - 8], copy, sizeof(copy));
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_1);
    ck_assert_uint_eq(found.at, 8192 - 32);
    ck_assert_uint_eq(found.entry_addr, LOAD + 0x100);
    memset(&file[8192 / 4 - 8], 0, sizeof(copy));
    memcpy(&file[8192 / 4 - 7], copy, sizeof(copy));
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_NONE);
    /* Without address fields it is short enough. */
    file[8192 / 4 - 6] = 3;
    file[8192 / 4 - 5] = -(0x1badb002u + 3);
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_1);
    memset(&file[8192 / 4 - 7], 0, sizeof(copy));
    memcpy(&file[8192 / 4], copy, sizeof(copy));
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_NONE);
    memcpy((char *)file + AT + 2, copy, sizeof(copy));
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_NONE);
    memcpy(header, copy, sizeof(copy));
    header[CHECKSUM]++;
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_NONE);
    /* A file that ends within the header has none. */
    image.size = AT + 8;
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_NONE);
    image.size = 0;
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_NONE);
    /* Multiboot 2 is told apart, and gives way to 1. */
    file[4] = 0xe85250d6;
    file[5] = 0;
    file[6] = 24;
    file[7] = -(file[4] + file[6]);
    image.size = FILE_BYTES;
    ck_assert_int_eq(multiboot_find(&image, &found, &error), MULTIBOOT_2);
    ck_assert_int_eq(find_and_load(&kernel, &error), 0);
}
END_TEST

static void wants_video(void)
{
    header[FLAGS] |= 4;
}
static void wants_unknown(void)
{
    header[FLAGS] |= 0x8000;
}
static void no_fields(void)
{
    header[FLAGS] = 3;
}
static void header_below_load(void)
{
    header[HEADER_ADDR] = LOAD - 1;
}
static void load_before_file(void)
{
    header[LOAD_ADDR] = LOAD - 4;
}
static void load_end_below(void)
{
    header[LOAD_END] = LOAD;
}
static void load_end_beyond(void)
{
    header[LOAD_END] = LOAD + FILE_BYTES + 1;
}
static void bss_end_below(void)
{
    header[BSS_END] = LOAD + 0x1fff;
}
static void entry_below(void)
{
    header[ENTRY] = LOAD - 1;
}
static void entry_behind(void)
{
    header[ENTRY] = LOAD + 0x5000;
}
static void bss_huge(void)
{
    header[BSS_END] = UINT32_MAX;
}
static void move(uint32_t load)
{
    for (unsigned i = HEADER_ADDR; i <= ENTRY; i++)
        header[i] += load - LOAD;
}
static void beyond_ram(void)
{
    move((uint32_t)RAM_BYTES - 0x4fff);
}
static void at_the_end_of_addresses(void)
{
    move(UINT32_MAX - 0x5000);
}
static void on_boot_structures(void)
{
    move(LAYOUT_START_INFO_GPA - 0x4fff);
}
static void on_tables(void)
{
    move(LAYOUT_ACPI_GPA);
}
static void start_below_zero(void)
{
    header[LOAD_ADDR] = UINT32_MAX;
    header[HEADER_ADDR] = AT - 4;
}

static const struct {
    void (*break_it)(void);
    int result;
    const char *text;
} broken[] = {
    { wants_video, -ENOEXEC, "video mode" },
    { wants_unknown, -ENOEXEC, "features 0x8000" },
    { no_fields, -ENOEXEC, "not ELF" },
    { header_below_load, -ENOEXEC, "header_addr is below load_addr" },
    { load_before_file, -ENOEXEC, "before the start of the file" },
    { load_end_below, -ENOEXEC, "load_end_addr is not above" },
    { load_end_beyond, -ENODATA, "load_end_addr" },
    { bss_end_below, -ENOEXEC, "bss_end_addr" },
    { entry_below, -ENOEXEC, "entry_addr" },
    { entry_behind, -ENOEXEC, "entry_addr" },
    { bss_huge, -ENOSPC, "does not fit into RAM" },
    { beyond_ram, -ENOSPC, "give more memory" },
    { at_the_end_of_addresses, -ENOSPC, "does not fit into RAM" },
    { on_boot_structures, -ENOSPC, "the boot structures" },
    { on_tables, -ENOSPC, "the ACPI tables" },
    { start_below_zero, -ENOEXEC, "lower than its place in the file" },
};

START_TEST(test_broken)
{
    struct multiboot_kernel kernel;
    struct error error = { .code = 0 };

    broken[_i].break_it();
    ck_assert_int_eq(find_and_load(&kernel, &error), broken[_i].result);
    ck_assert_msg(strstr(error.text, broken[_i].text), "\"%s\" lacks \"%s\"", error.text,
                  broken[_i].text);
    ck_assert_msg(strchr(error.text, ';'), "no remedy in \"%s\"", error.text);
}
END_TEST

static uint32_t word(uint64_t gpa)
{
    uint32_t value;

    memcpy(&value, memory_at(&memory, gpa, 4), 4);
    return value;
}

static const char *string(uint64_t gpa)
{
    return memory_at(&memory, gpa, 1);
}

/* A file that a module can be; the path stays valid until the next. */
static const char *module_file(const char *text, size_t bytes, const char *arguments)
{
    static char names[2][64];
    static unsigned turn;
    char *name = names[turn++ % 2];
    int fd;

    strcpy(name, "/tmp/strata-unit-XXXXXX");
    fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, bytes), (ssize_t)bytes);
    close(fd);
    strcat(name, arguments);
    return name;
}

/* Offsets as in the specification, 3.3: the code under test has the structs. */
START_TEST(test_info)
{
    const struct multiboot_kernel kernel = { .entry = LOAD, .start = LOAD, .end = LOAD + 0x1001 };
    const char *modules[] = { module_file("first", 5, ""), module_file("second!", 7, " a=b c") };
    const struct multiboot_info boot_info = {
        .kernel_path = "mykernel", .cmdline = "hello there", .modules = modules, .nmodules = 2
    };
    const uint64_t info = LAYOUT_START_INFO_GPA;
    struct error error;
    struct vcpu_entry entry;
    uint64_t at;

    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), 0);
    ck_assert_uint_eq(entry.rip, LOAD);
    ck_assert_uint_eq(entry.rax, 0x2badb002);
    ck_assert_uint_eq(entry.rbx, info);
    ck_assert_uint_eq(word(info), 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    ck_assert_uint_eq(word(info + 4), 639);
    ck_assert_uint_eq(word(info + 8), (RAM_BYTES - MIB) / 1024);
    ck_assert_str_eq(string(word(info + 16)), "mykernel hello there");
    ck_assert_uint_eq(word(info + 20), 2);
    at = word(info + 24);
    ck_assert_uint_eq(word(at), LOAD + 0x2000);
    ck_assert_uint_eq(word(at + 4), LOAD + 0x2005);
    ck_assert_str_eq(string(word(at + 8)), modules[0]);
    ck_assert_int_eq(memcmp(string(word(at)), "first", 6), 0);
    ck_assert_uint_eq(word(at + 16), LOAD + 0x3000);
    ck_assert_uint_eq(word(at + 20), LOAD + 0x3007);
    ck_assert_str_eq(string(word(at + 24)), modules[1]);
    ck_assert_uint_eq(word(info + 44), 3 * 24);
    at = word(info + 48);
    ck_assert_uint_eq(word(at), 20);
    ck_assert_uint_eq(word(at + 12), LAYOUT_LOW_MEMORY_END);
    ck_assert_uint_eq(word(at + 20), 1);
    ck_assert_uint_eq(word(at + 24 + 20), 2);
    ck_assert_uint_eq(word(at + 48 + 4), MIB);
    ck_assert_str_eq(string(word(info + 64)), "strata");
    /* What a BIOS leaves: the port of COM1, no EBDA, base memory. */
    ck_assert_uint_eq(word(0x400), 0x3f8);
    ck_assert_uint_eq(word(0x40e) & 0xffff, 0);
    ck_assert_uint_eq(word(0x413) & 0xffff, 639);
    for (unsigned i = 0; i < 2; i++) {
        *strchrnul(modules[i], ' ') = 0;
        unlink(modules[i]);
    }
}
END_TEST

START_TEST(test_info_refused)
{
    static char long_text[LAYOUT_STRINGS_BYTES], long_path[5000] = "/";
    struct multiboot_kernel kernel = { .entry = LOAD, .start = LOAD, .end = RAM_BYTES - 4096 };
    const char *modules[MULTIBOOT_MODULES_MAX + 1] = { module_file("12345", 5, "") };
    struct multiboot_info boot_info = {
        .kernel_path = "k", .cmdline = long_text, .modules = modules, .nmodules = 1
    };
    struct error error;
    struct vcpu_entry entry;

    /* "strata", "k TEXT", and the module's path, a zero behind each: to the byte. */
    memset(long_text, 'x', LAYOUT_STRINGS_BYTES - 7 - 2 - 1 - strlen(modules[0]) - 1);
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), 0);
    strcat(long_text, "x");
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), -E2BIG);
    ck_assert_ptr_nonnull(strstr(error.field, "modules"));
    memset(long_text, 'x', sizeof(long_text) - 1);
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), -E2BIG);
    ck_assert_ptr_nonnull(strstr(error.field, "boot_args"));
    boot_info.cmdline = "";

    /* One page is left for modules. */
    boot_info.nmodules = 2;
    modules[1] = modules[0];
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error.text, "module of 5 bytes does not fit"));
    kernel.end = RAM_BYTES;
    boot_info.nmodules = 1;
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), -ENOSPC);
    kernel.end = LOAD;
    boot_info.nmodules = MULTIBOOT_MODULES_MAX + 1;
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), -E2BIG);
    unlink(modules[0]);
    boot_info.nmodules = 1;
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), -ENOENT);
    modules[0] = " x";
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error), -EINVAL);
    modules[0] = long_path;
    memset(long_path, 'y', sizeof(long_path) - 1);
    ck_assert_int_eq(multiboot_info_write(&memory, &kernel, &boot_info, &entry, &error),
                     -ENAMETOOLONG);
}
END_TEST

Suite *multiboot_suite(void)
{
    Suite *suite = suite_create("multiboot");
    TCase *tc = tcase_create("multiboot");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_fields);
    tcase_add_test(tc, test_search);
    tcase_add_loop_test(tc, test_broken, 0, sizeof(broken) / sizeof(broken[0]));
    tcase_add_test(tc, test_info);
    tcase_add_test(tc, test_info_refused);
    suite_add_tcase(suite, tc);
    return suite;
}
