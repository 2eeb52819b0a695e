/* vmm/boot/kernel, foreign, initrd: what a file is taken for, and what goes with it. */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/boot/kernel.h"
#include "vmm/boot/layout.h"
#include "vmm/launch/config_kernel.h"

#define MIB       (1ull << 20)
#define RAM_BYTES (16 * MIB)

static struct memory memory;
static char path[] = "/tmp/strata-unit-XXXXXX";
static struct boot_source config;
static struct error error;

static void setup(void)
{
    int fd;

    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    strcpy(strrchr(path, '-') + 1, "XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    config = (struct boot_source){ .kernel_path = path };
    error.text[0] = 0;
}

static void teardown(void)
{
    unlink(path);
    memory_destroy(&memory);
}

/* The file is `bytes` at `at`, in 4096 of them. */
static void write_file(size_t at, const void *bytes, size_t count)
{
    char content[4096] = { 0 };
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    memcpy(content + at, bytes, count);
    ck_assert_uint_eq(fwrite(content, 1, sizeof(content), file), sizeof(content));
    fclose(file);
}

static const struct {
    size_t at;
    const char *magic;
    size_t bytes;
    const char *text;
} foreign[] = {
    { 0, "\x1f\x8b\x08", 3, "compressed with gzip; unpack it" },
    { 0,
      "\xfd"
      "7zXZ",
      6, "compressed with xz" },
    { 0, "\x28\xb5\x2f\xfd", 4, "compressed with zstd" },
    { 0, "\x02\x21\x4c\x18", 4, "compressed with lz4" },
    { 0, "\x04\x22\x4d\x18", 4, "compressed with lz4" },
    { 0, "BZh9", 4, "compressed with bzip2" },
    { 0, "\x89LZO", 4, "compressed with lzo" },
    { 0, "\x5d\0\0\x80", 4, "compressed with lzma" },
    { 0, "MZ", 2, "an EFI program (PE) without the Linux boot protocol" },
    { 0, "MZ\0\0zimg", 8, "zboot" },
    { 0, "\x27\x05\x19\x56", 4, "uImage" },
    { 0, "\xd0\x0d\xfe\xed", 4, "FIT image" },
    { 0, "ANDROID!", 8, "Android" },
    { 0x38, "ARM\x64", 4, "64-bit Arm" },
    { 0x38, "RSC\x05", 4, "RISC-V" },
    { 0x30, "RISCV", 5, "RISC-V" },
    { 0x24, "\x18\x28\x6f\x01", 4, "32-bit Arm" },
    { 0, "070701", 6, "give it as the initrd" },
    { 0, "QFI\xfb", 4, "qcow2" },
    { 0, "#!/bin/sh\n", 10, "a script" },
    { 0x1fe, "\x55\xaa", 2, "plain code for 0x7c00" },
    { 0, "!<arch>\n", 8, "dpkg-deb -x" },
    { 0, "\xed\xab\xee\xdb", 4, "rpm2cpio" },
    { 0x438, "\x53\xef", 2, "ext4); give it as a disk" },
    { 0, "what?", 5, "it starts with 77 68 61 74" },
    { 0,
      "\x7f"
      "ELF\x02\x01\x01",
      7, "e_machine is 0 (another machine)" },
};

START_TEST(test_foreign)
{
    struct kernel kernel;

    write_file(foreign[_i].at, foreign[_i].magic, foreign[_i].bytes);
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), -ENOEXEC);
    ck_assert_msg(strstr(error.text, foreign[_i].text), "\"%s\" lacks \"%s\"", error.text,
                  foreign[_i].text);
    ck_assert_msg(strchr(error.text, ';'), "no remedy in \"%s\"", error.text);
    ck_assert_msg(strncmp(error.text, path, strlen(path)) == 0, "no file in \"%s\"", error.text);
}
END_TEST

/* A file of any length is looked at without reading beyond it. */
START_TEST(test_short)
{
    struct kernel kernel;

    write_file(0,
               "\x7f"
               "ELF",
               4);
    ck_assert_int_eq(truncate(path, _i), 0);
    ck_assert_int_ne(kernel_open(&kernel, &config, &error), 0);
    ck_assert(error.text[0]);
}
END_TEST

START_TEST(test_formats)
{
    const uint32_t multiboot[] = { 0x1badb002, 0, -0x1badb002u };
    const uint32_t multiboot_2[] = { 0xe85250d6, 0, 16, -(0xe85250d6u + 16) };
    Elf64_Ehdr elf = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB },
                       .e_type = ET_EXEC,
                       .e_machine = EM_X86_64,
                       .e_phoff = sizeof(Elf64_Ehdr),
                       .e_phentsize = sizeof(Elf64_Phdr),
                       .e_phnum = 1 };
    const char *module = path;
    struct {
        Elf64_Ehdr elf;
        Elf64_Phdr phdr;
        uint32_t header[4];
    } file = { .elf = elf };
    struct kernel kernel;

    write_file(0x100, multiboot, sizeof(multiboot));
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), 0);
    ck_assert_int_eq(kernel.format, KERNEL_MULTIBOOT);
    ck_assert(!kernel.is_linux && !kernel.is_elf);
    /* It has no addresses. */
    ck_assert_int_eq(kernel_load(&kernel, &memory, &error), -ENOEXEC);
    kernel_close(&kernel);
    config.initrd_path = path;
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "as a module"));
    config.initrd_path = NULL;

    memcpy(file.header, multiboot, sizeof(multiboot));
    write_file(0, &file, sizeof(file));
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), 0);
    ck_assert_int_eq(kernel.format, KERNEL_MULTIBOOT);
    ck_assert(kernel.is_elf);
    kernel_close(&kernel);
    memcpy(file.header, multiboot_2, sizeof(multiboot_2));
    write_file(0, &file, sizeof(file));
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(error.text, "Multiboot 2"));
    file.header[0] = 0;
    write_file(0, &file, sizeof(file));
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(error.text, "neither a PVH entry"));

    /* The bundled guest is PVH, and no Linux. */
    config = (struct boot_source){ .nmodules = 0 };
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), 0);
    ck_assert_int_eq(kernel.format, KERNEL_PVH);
    ck_assert(!kernel.is_linux);
    kernel_close(&kernel);
    config.modules = &module;
    config.nmodules = 1;
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "an initrd"));
}
END_TEST

static int load_flat(unsigned bits, uint64_t gpa, uint64_t entry)
{
    struct kernel kernel;
    int err;

    config.flat = (struct boot_flat){ .bits = bits, .gpa = gpa, .entry = entry };
    ck_assert_int_eq(kernel_open(&kernel, &config, &error), 0);
    ck_assert_int_eq(kernel.format, KERNEL_FLAT);
    err = kernel_load(&kernel, &memory, &error);
    kernel_close(&kernel);
    return err;
}

START_TEST(test_flat)
{
    write_file(0, "\xf4", 1);
    ck_assert_int_eq(load_flat(32, 0x7c00, 0x7c00), 0);
    ck_assert_uint_eq(*(uint8_t *)memory_at(&memory, 0x7c00, 1), 0xf4);
    ck_assert_int_eq(load_flat(16, 0x7c00, 0x8bff), 0);
    ck_assert_int_eq(load_flat(16, 0x7c00, 0x8c00), -EINVAL);
    ck_assert_int_eq(load_flat(16, 0x7c00, 0x7bff), -EINVAL);
    ck_assert_int_eq(load_flat(16, MIB, MIB), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "16-bit"));
    ck_assert_int_eq(load_flat(16, MIB - 4096, MIB - 1), -ENOSPC); /* the MP table */
    ck_assert_int_eq(load_flat(32, LAYOUT_START_INFO_GPA - 4096, LAYOUT_START_INFO_GPA - 1), 0);
    ck_assert_int_eq(load_flat(32, LAYOUT_START_INFO_GPA - 4095, LAYOUT_START_INFO_GPA), -ENOSPC);
    ck_assert_int_eq(load_flat(32, LAYOUT_END_GPA, LAYOUT_END_GPA), 0);
    ck_assert_int_eq(load_flat(64, RAM_BYTES - 4096, RAM_BYTES - 1), 0);
    ck_assert_int_eq(load_flat(64, RAM_BYTES - 4095, RAM_BYTES - 1), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error.field, "flat"));
    /* 64-bit code starts with 4 GiB mapped, whatever RAM there is beyond. */
    ck_assert_int_eq(load_flat(64, 1ull << 32, 1ull << 32), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "beyond the first 4 GiB"));
    ck_assert_int_eq(load_flat(64, UINT64_MAX - 10, UINT64_MAX), -EINVAL);
    ck_assert_int_eq(load_flat(32, 1ull << 32, 1ull << 32), -EINVAL);
}
END_TEST

START_TEST(test_initrd)
{
    struct initrd_room room = { .start = 2 * MIB + 1, .end = 8 * MIB, .limit = "initrd_addr_max" };
    struct initrd initrd;

    write_file(0, "here", 5);
    ck_assert_int_eq(truncate(path, 5001), 0);
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), 0);
    ck_assert_uint_eq(initrd.gpa, 8 * MIB - 8192);
    ck_assert_uint_eq(initrd.bytes, 5001);
    ck_assert_str_eq(memory_at(&memory, initrd.gpa, 5), "here");
    ck_assert_int_eq(initrd_load_module(&memory, path, &room, &initrd, &error), 0);
    ck_assert_uint_eq(initrd.gpa, 2 * MIB + 4096);
    /* RAM ends before the limit does. */
    room.end = UINT64_MAX;
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), 0);
    ck_assert_uint_eq(initrd.gpa, RAM_BYTES - 8192);

    /* As large as the room is enough; one byte more is not. */
    room = (struct initrd_room){ .start = 2 * MIB, .end = 2 * MIB + 8192, .limit = "the limit" };
    ck_assert_int_eq(truncate(path, 8192), 0);
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), 0);
    ck_assert_uint_eq(initrd.gpa, 2 * MIB);
    ck_assert_int_eq(truncate(path, 8193), 0);
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error.text, "the limit 0x202000; take a smaller one"));
    room.end = UINT64_MAX;
    ck_assert_int_eq(truncate(path, RAM_BYTES), 0);
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(error.field, "mem_size"));
    ck_assert_int_eq(truncate(path, 1), 0);
    room.start = UINT64_MAX - 10;
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), -ENOSPC);
    room = (struct initrd_room){ .start = 0, .end = 1, .limit = "initrd_addr_max" };
    ck_assert_int_eq(truncate(path, 2), 0);
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), -ENOSPC);

    ck_assert_int_eq(truncate(path, 0), 0);
    ck_assert_int_eq(initrd_load(&memory, path, &room, &initrd, &error), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(error.text, "is empty"));
    /* sysfs says a page, and has less: as if somebody had cut the file meanwhile. */
    room.end = 8 * MIB;
    ck_assert_int_eq(initrd_load(&memory, "/sys/devices/system/cpu/online", &room, &initrd, &error),
                     -ENODATA);
    ck_assert_ptr_nonnull(strstr(error.text, "got shorter than 4096 bytes while it was read"));
    ck_assert_int_eq(initrd_load(&memory, "/nonexistent", &room, &initrd, &error), -ENOENT);
    ck_assert_int_eq(initrd_load(&memory, "/tmp", &room, &initrd, &error), -EINVAL);
}
END_TEST

/* Linux gets huge pages, unless somebody says what it gets or a balloon is to give them back. */
START_TEST(test_pages)
{
    const struct setup_header header = { .setup_sects = 1,
                                         .boot_flag = 0xaa55,
                                         .jump = 0x66eb,
                                         .header = 0x53726448,
                                         .version = 0x20f,
                                         .loadflags = LOADED_HIGH,
                                         .xloadflags = XLF_KERNEL_64,
                                         .syssize = 0xc0,
                                         .cmdline_size = 2047,
                                         .init_size = 1 << 20 };
    const uint32_t multiboot[] = { 0x1badb002, 0, -0x1badb002u };
    struct vm_config vm;
    struct config_kernel found;

    write_file(0x1f1, &header, sizeof(header));
    config_init(&vm);
    vm.kernel_path = path;
    ck_assert_int_eq(config_resolve(&vm, &found, &error), 0);
    ck_assert(found.is_linux);
    ck_assert_int_eq(vm.huge_pages, MEMORY_THP);
    ck_assert_uint_eq(vm.debug_exit_port, 0);

    config_init(&vm);
    vm.kernel_path = path;
    vm.huge_pages = MEMORY_4K;
    ck_assert_int_eq(config_resolve(&vm, &found, &error), 0);
    ck_assert_int_eq(vm.huge_pages, MEMORY_4K);

    config_init(&vm);
    vm.kernel_path = path;
    vm.devices[1].kind = DEVICE_BALLOON;
    vm.ndevices = 2;
    ck_assert_int_eq(config_resolve(&vm, &found, &error), 0);
    ck_assert_int_eq(vm.huge_pages, MEMORY_4K);

    write_file(0x100, multiboot, sizeof(multiboot));
    config_init(&vm);
    vm.kernel_path = path;
    ck_assert_int_eq(config_resolve(&vm, &found, &error), 0);
    ck_assert_int_eq(vm.huge_pages, MEMORY_4K);
    ck_assert_uint_eq(vm.debug_exit_port, 0xf4);
}
END_TEST

Suite *kernel_suite(void)
{
    Suite *suite = suite_create("kernel");
    TCase *tc = tcase_create("kernel");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, test_foreign, 0, sizeof(foreign) / sizeof(foreign[0]));
    tcase_add_loop_test(tc, test_short, 1, 70);
    tcase_add_test(tc, test_formats);
    tcase_add_test(tc, test_pages);
    tcase_add_test(tc, test_flat);
    tcase_add_test(tc, test_initrd);
    suite_add_tcase(suite, tc);
    return suite;
}
