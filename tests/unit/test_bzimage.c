/* vmm/boot/bzimage: a small good kernel, what it is handed, and every way to refuse one. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/long_mode.h"

#define MIB           (1ull << 20)
#define GIB           (1ull << 30)
#define RAM_BYTES     (64 * MIB)
#define SETUP_SECTS   2
#define PAYLOAD_AT    ((SETUP_SECTS + 1) * 512)
#define PAYLOAD_BYTES 0x1000
#define PREF_ADDRESS  (16 * MIB)
#define INIT_SIZE     (8 * MIB)
#define CMDLINE_SIZE  40

static struct memory memory;
static uint8_t file[PAYLOAD_AT + PAYLOAD_BYTES];
static size_t file_bytes;
static struct setup_header *header;

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    memset(file, 0xee, sizeof(file));
    for (size_t i = 0; i < PAYLOAD_BYTES; i++)
        file[PAYLOAD_AT + i] = (uint8_t)(i * 7);
    file_bytes = sizeof(file);
    header = (struct setup_header *)(file + 0x1f1);
    *header = (struct setup_header){ .setup_sects = SETUP_SECTS,
                                     .syssize = PAYLOAD_BYTES / 16,
                                     .boot_flag = 0xaa55,
                                     .jump = (sizeof(*header) - 0x11) << 8 | 0xeb,
                                     .version = 0x20f,
                                     .loadflags = LOADED_HIGH,
                                     .initrd_addr_max = 0x7fffffff,
                                     .kernel_alignment = 0x200000,
                                     .relocatable_kernel = 1,
                                     .xloadflags = XLF_KERNEL_64,
                                     .cmdline_size = CMDLINE_SIZE,
                                     .pref_address = PREF_ADDRESS,
                                     .init_size = INIT_SIZE };
    memcpy(&header->header, "HdrS", 4);
}

static void teardown(void)
{
    memory_destroy(&memory);
}

struct result {
    struct bzimage bzimage;
    struct vcpu_entry entry;
    uint64_t start, end;
    struct error error;
};

static int load_and_write(struct result *result, const char *cmdline)
{
    struct image image = image_in_memory("vmlinuz", file, file_bytes);
    struct bzimage_info info = { .cmdline = cmdline,
                                 .initrd = { .gpa = 0x3000000, .bytes = 4321 },
                                 .rsdp_gpa = 0xe0000 };
    int err = bzimage_open(&image, &result->bzimage, &result->error);

    if (!err)
        err = bzimage_load(&memory, &image, &result->bzimage, &result->start, &result->end,
                           &result->error);
    info.start = result->start;
    return err ? err
               : bzimage_write(&memory, &image, &result->bzimage, &info, &result->entry,
                               &result->error);
}

static uint64_t number(uint64_t gpa, unsigned bytes)
{
    uint64_t value = 0;

    memcpy(&value, memory_at(&memory, gpa, bytes), bytes);
    return value;
}

/* Offsets as in zero-page.rst, by number: the code under test has the struct. */
START_TEST(test_good)
{
    const uint64_t zero_page = LAYOUT_START_INFO_GPA;
    struct image image = image_in_memory("vmlinuz", file, file_bytes);
    struct result result;

    ck_assert(bzimage_recognise(&image));
    ck_assert_int_eq(load_and_write(&result, "root=/dev/vda"), 0);
    ck_assert_uint_eq(result.start, PREF_ADDRESS);
    ck_assert_uint_eq(result.end, PREF_ADDRESS + INIT_SIZE);
    ck_assert_int_eq(
        memcmp(memory_at(&memory, PREF_ADDRESS, PAYLOAD_BYTES), file + PAYLOAD_AT, PAYLOAD_BYTES),
        0);
    ck_assert_uint_eq(bzimage_initrd_end(&result.bzimage), 0x80000000);

    ck_assert_uint_eq(result.entry.rip, PREF_ADDRESS + 0x200);
    ck_assert_uint_eq(result.entry.rsi, zero_page);
    ck_assert_uint_eq(number(zero_page + 0x70, 8), 0xe0000);
    ck_assert_uint_eq(number(zero_page + 0x1ef, 1), 0); /* the sentinel is not copied */
    ck_assert_uint_eq(number(zero_page + 0x202, 4), 0x53726448);
    ck_assert_uint_eq(number(zero_page + 0x210, 1), 0xff);
    ck_assert_uint_eq(number(zero_page + 0x218, 4), 0x3000000);
    ck_assert_uint_eq(number(zero_page + 0x21c, 4), 4321);
    ck_assert_str_eq(memory_at(&memory, number(zero_page + 0x228, 4), 14), "root=/dev/vda");
    ck_assert_uint_eq(number(zero_page + 0x1e8, 1), 3);
    ck_assert_uint_eq(number(zero_page + 0x2d0, 8), 0);
    ck_assert_uint_eq(number(zero_page + 0x2d8, 8), LAYOUT_LOW_MEMORY_END);
    ck_assert_uint_eq(number(zero_page + 0x2e0, 4), 1);
    ck_assert_uint_eq(number(zero_page + 0x2e4 + 16, 4), 2);
    ck_assert_uint_eq(number(zero_page + 0x2f8, 8), MIB);
    ck_assert_uint_eq(number(zero_page + 0x300, 8), RAM_BYTES - MIB);
}
END_TEST

/* The header ends where its jump says; what lies behind is not the kernel's word. */
START_TEST(test_short_header)
{
    struct result result;

    header->jump = (0x264 - 0x202) << 8 | 0xeb; /* as of 2.12, without what came after init_size */
    header->kernel_info_offset = 0xabcdef;
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    ck_assert_uint_eq(result.bzimage.header.init_size, INIT_SIZE);
    ck_assert_uint_eq(result.bzimage.header.kernel_info_offset, 0);
    ck_assert_uint_eq(number(LAYOUT_START_INFO_GPA + 0x268, 4), 0);
    /* One that ends before what is needed lacks it. */
    header->jump = (0x236 - 0x202) << 8 | 0xeb;
    ck_assert_int_eq(load_and_write(&result, ""), -ENOEXEC);
    /* And one that claims more than there is room for is cut. */
    header->jump = 0xffeb;
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    ck_assert_uint_eq(number(LAYOUT_START_INFO_GPA + 0x290, 4), 0);
}
END_TEST

START_TEST(test_not_relocatable)
{
    struct result result;

    header->relocatable_kernel = 0;
    header->kernel_alignment = 0;
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    ck_assert_uint_eq(result.start, MIB);
    ck_assert_uint_eq(result.end, PREF_ADDRESS + INIT_SIZE);
    ck_assert_uint_eq(result.entry.rip, MIB + 0x200);
}
END_TEST

START_TEST(test_alignment)
{
    struct result result;

    header->pref_address = PREF_ADDRESS + 0x1000;
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    ck_assert_uint_eq(result.start, PREF_ADDRESS + 0x200000);
    header->pref_address = 0;
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    ck_assert_uint_eq(result.start, 0x200000);
}
END_TEST

/* Exactly as much memory as it needs is enough. */
START_TEST(test_just_fits)
{
    struct result result;

    header->init_size = (uint32_t)(RAM_BYTES - PREF_ADDRESS);
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    header->init_size++;
    ck_assert_int_eq(load_and_write(&result, ""), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(result.error.field, "mem_size"));
    /* A payload larger than init_size counts. */
    header->init_size = 1;
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    ck_assert_uint_eq(result.end, PREF_ADDRESS + PAYLOAD_BYTES);
    /* The last of syssize's paragraphs may be cut short. */
    file_bytes -= 15;
    ck_assert_int_eq(load_and_write(&result, ""), 0);
    ck_assert_uint_eq(result.bzimage.payload_bytes, PAYLOAD_BYTES - 15);
}
END_TEST

START_TEST(test_cmdline)
{
    char text[CMDLINE_SIZE + 2];
    static char long_text[LAYOUT_STRINGS_BYTES + 1];
    struct result result;

    memset(text, 'x', sizeof(text));
    text[CMDLINE_SIZE + 1] = 0;
    ck_assert_int_eq(load_and_write(&result, text), -E2BIG);
    ck_assert_ptr_nonnull(strstr(result.error.text, "the limit is 40 (cmdline_size)"));
    ck_assert_int_eq(load_and_write(&result, text + 1), 0);
    header->cmdline_size = UINT32_MAX;
    memset(long_text, 'x', sizeof(long_text) - 1);
    ck_assert_int_eq(load_and_write(&result, long_text), -E2BIG);
    ck_assert_ptr_nonnull(strstr(result.error.text, "the limit is 65535;"));
    ck_assert_int_eq(load_and_write(&result, long_text + 1), 0);
}
END_TEST

/* The identity map, as a walk finds it, and descriptors that fit the selectors. */
START_TEST(test_long_mode)
{
    struct vcpu_entry entry = { .rip = 0 };
    uint64_t directory;

    long_mode_write(&memory, GIB + 1, &entry);
    ck_assert_uint_eq(entry.cr3, LAYOUT_TABLES_GPA);
    ck_assert_uint_eq(number(entry.cr3, 8), (LAYOUT_TABLES_GPA + 0x1000) | 3);
    ck_assert_uint_eq(number(entry.cr3 + 8, 8), 0);
    for (uint64_t gib = 0; gib < 2; gib++) {
        directory = number(LAYOUT_TABLES_GPA + 0x1000 + 8 * gib, 8);
        ck_assert_uint_eq(directory & 0xfff, 3);
        for (uint64_t i = 0; i < 512; i++)
            ck_assert_uint_eq(number((directory & ~0xfffull) + 8 * i, 8),
                              (gib * GIB + i * 0x200000) | 0x83);
    }
    ck_assert_uint_eq(number(LAYOUT_TABLES_GPA + 0x1000 + 16, 8), 0);
    ck_assert_uint_eq(entry.gdt_bytes, 32);
    ck_assert_uint_eq(number(entry.gdt + 0x10, 8), 0x00af9b000000ffff);
    ck_assert_uint_eq(number(entry.gdt + 0x18, 8), 0x00cf93000000ffff);
    long_mode_write(&memory, UINT64_MAX / 2, &entry);
    ck_assert_uint_eq(number(LAYOUT_TABLES_GPA + 0x5ff8, 8), (4 * GIB - 0x200000) | 0x83);
}
END_TEST

static void old_version(void)
{
    header->version = 0x20b;
}
static void no_boot_flag(void)
{
    header->boot_flag = 0;
}
static void loaded_low(void)
{
    header->loadflags = 0;
}
static void only_32_bits(void)
{
    header->xloadflags = XLF_CAN_BE_LOADED_ABOVE_4G;
}
static void alignment_zero(void)
{
    header->kernel_alignment = 0;
}
static void alignment_odd(void)
{
    header->kernel_alignment = 0x300000;
}
static void no_cmdline(void)
{
    header->cmdline_size = 0;
}
static void no_init_size(void)
{
    header->init_size = 0;
}
static void no_syssize(void)
{
    header->syssize = 0x20;
}
static void syssize_huge(void)
{
    header->syssize = UINT32_MAX;
}
static void setup_sects_beyond(void)
{
    header->setup_sects = 255;
}
static void setup_sects_zero(void)
{
    header->setup_sects = 0; /* means 4: two sectors more than there are */
}
static void cut_in_header(void)
{
    file_bytes = 0x240;
}
static void cut_in_payload(void)
{
    file_bytes -= 16;
}
static void pref_beyond_ram(void)
{
    header->pref_address = RAM_BYTES + 1;
}
static void pref_wraps(void)
{
    header->pref_address = UINT64_MAX - 0xfff;
}
static void pref_rounds_beyond(void)
{
    header->pref_address = RAM_BYTES - 1;
    header->kernel_alignment = 0x80000000;
}
static void pref_low(void)
{
    header->pref_address = 0x10000;
    header->relocatable_kernel = 0;
}
static void init_size_huge(void)
{
    header->init_size = UINT32_MAX;
}

static const struct {
    void (*break_it)(void);
    int result;
    const char *text;
} broken[] = {
    { old_version, -ENOEXEC, "boot protocol 2.11, older than 2.12" },
    { no_boot_flag, -ENOEXEC, "boot_flag is 0x0" },
    { loaded_low, -ENOEXEC, "LOADED_HIGH" },
    { only_32_bits, -ENOEXEC, "32-bit kernel" },
    { alignment_zero, -ENOEXEC, "kernel_alignment 0x0" },
    { alignment_odd, -ENOEXEC, "kernel_alignment 0x300000" },
    { no_cmdline, -ENOEXEC, "cmdline_size is 0" },
    { no_init_size, -ENOEXEC, "init_size is 0" },
    { no_syssize, -ENOEXEC, "syssize is 32" },
    { syssize_huge, -ENODATA, "syssize" },
    { setup_sects_beyond, -ENODATA, "setup_sects" },
    { setup_sects_zero, -ENODATA, "setup_sects" },
    { cut_in_header, -ENODATA, "the setup header" },
    { cut_in_payload, -ENODATA, "truncated" },
    { pref_beyond_ram, -ENOSPC, "pref_address" },
    { pref_wraps, -ENOSPC, "pref_address" },
    { pref_rounds_beyond, -ENOSPC, "from 0x80000000" },
    { pref_low, -ENOEXEC, "below 1 MiB" },
    { init_size_huge, -ENOSPC, "init_size" },
};

START_TEST(test_broken)
{
    struct result result = { .error = { .code = 0 } };

    broken[_i].break_it();
    ck_assert_int_eq(load_and_write(&result, ""), broken[_i].result);
    ck_assert_msg(strstr(result.error.text, broken[_i].text), "\"%s\" lacks \"%s\"",
                  result.error.text, broken[_i].text);
    ck_assert_msg(strchr(result.error.text, ';'), "no remedy in \"%s\"", result.error.text);
}
END_TEST

/* The file gets shorter between the header's being checked and the kernel's being read. */
START_TEST(test_vanishes)
{
    char path[] = "/tmp/strata-unit-XXXXXX";
    int fd = mkstemp(path);
    struct bzimage bzimage;
    struct error error;
    struct image image;
    uint64_t start, end;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, file, sizeof(file)), (ssize_t)sizeof(file));
    ck_assert_int_eq(image_open(&image, path, "kernel", &error), 0);
    ck_assert_int_eq(bzimage_open(&image, &bzimage, &error), 0);
    ck_assert_int_eq(bzimage_load(&memory, &image, &bzimage, &start, &end, &error), 0);
    ck_assert_int_eq(ftruncate(fd, PAYLOAD_AT + 5), 0);
    ck_assert_int_eq(bzimage_load(&memory, &image, &bzimage, &start, &end, &error), -ENODATA);
    image_close(&image);
    close(fd);
    unlink(path);
}
END_TEST

Suite *bzimage_suite(void)
{
    Suite *suite = suite_create("bzimage");
    TCase *tc = tcase_create("bzimage");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_good);
    tcase_add_test(tc, test_short_header);
    tcase_add_test(tc, test_not_relocatable);
    tcase_add_test(tc, test_alignment);
    tcase_add_test(tc, test_just_fits);
    tcase_add_test(tc, test_cmdline);
    tcase_add_test(tc, test_long_mode);
    tcase_add_loop_test(tc, test_broken, 0, sizeof(broken) / sizeof(broken[0]));
    tcase_add_test(tc, test_vanishes);
    suite_add_tcase(suite, tc);
    return suite;
}
