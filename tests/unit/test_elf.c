/* vmm/boot/elf: a small good kernel, and every way it can be broken. */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/suites.h"
#include "vmm/boot/elf.h"
#include "vmm/boot/layout.h"

#define MIB        (1ull << 20)
#define RAM_BYTES  (16 * MIB)
#define LOAD_GPA   (1 * MIB)
#define CODE       "\x90\x90\x0f\x0b"
#define CODE_BYTES 4
#define BSS_BYTES  0x3000

enum { LOAD, NOTE, STACK, NSEGMENTS };

/* A whole kernel file. */
struct kernel {
    Elf64_Ehdr header;
    Elf64_Phdr phdr[NSEGMENTS];
    struct {
        Elf64_Nhdr head;
        char name[4];
        uint32_t entry;
    } note;
    char code[CODE_BYTES];
};

static struct memory memory;
static struct kernel kernel;
static size_t kernel_bytes;

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    kernel_bytes = sizeof(kernel);
    kernel = (struct kernel){
        .header = { .e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
                                 EV_CURRENT },
                    .e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_version = EV_CURRENT,
                    .e_phoff = offsetof(struct kernel, phdr),
                    .e_ehsize = sizeof(Elf64_Ehdr),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = NSEGMENTS },
        .phdr = { [LOAD] = { .p_type = PT_LOAD,
                             .p_offset = offsetof(struct kernel, code),
                             .p_vaddr = 0xffffffff80100000,
                             .p_paddr = LOAD_GPA,
                             .p_filesz = CODE_BYTES,
                             .p_memsz = BSS_BYTES },
                  [NOTE] = { .p_type = PT_NOTE,
                             .p_offset = offsetof(struct kernel, note),
                             .p_filesz = sizeof(kernel.note),
                             .p_align = 4 },
                  [STACK] = { .p_type = PT_GNU_STACK, .p_paddr = UINT64_MAX } },
        .note = { .head = { .n_namesz = 4, .n_descsz = 4, .n_type = 18 },
                  .name = "Xen",
                  .entry = LOAD_GPA + 1 },
        .code = CODE,
    };
}

static void teardown(void)
{
    memory_destroy(&memory);
}

START_TEST(test_good)
{
    struct error error;
    struct elf_info info;
    unsigned char *loaded = memory_at(&memory, LOAD_GPA, BSS_BYTES);

    ck_assert_int_eq(elf_load(&memory, &kernel, kernel_bytes, &info, &error), 0);
    ck_assert_uint_eq(info.entry, LOAD_GPA + 1);
    ck_assert_uint_eq(info.start, LOAD_GPA);
    ck_assert_uint_eq(info.end, LOAD_GPA + BSS_BYTES);
    ck_assert_uint_eq(info.segments, 1);
    ck_assert_int_eq(memcmp(loaded, CODE, CODE_BYTES), 0);
    for (unsigned i = CODE_BYTES; i < BSS_BYTES; i++)
        ck_assert_uint_eq(loaded[i], 0);
}
END_TEST

/* The same from a file. */
START_TEST(test_file)
{
    char path[] = "/tmp/strata-unit-XXXXXX";
    int fd = mkstemp(path);
    struct error error;
    struct elf_info info;
    struct image image;

    ck_assert_int_ge(fd, 0);
    /* Its segment is not in what is read of the file when it is opened. */
    kernel.phdr[LOAD].p_offset = 3 * IMAGE_HEAD_BYTES;
    ck_assert_int_eq(write(fd, &kernel, kernel_bytes), (ssize_t)kernel_bytes);
    ck_assert_int_eq(ftruncate(fd, 5 * IMAGE_HEAD_BYTES), 0);
    close(fd);
    ck_assert_int_eq(image_open(&image, path, "kernel", &error), 0);
    ck_assert_int_eq(elf_load_image(&memory, &image, &info, &error), 0);
    ck_assert_uint_eq(info.entry, LOAD_GPA + 1);
    /* It shrinks while it is open. */
    ck_assert_int_eq(truncate(path, 3 * IMAGE_HEAD_BYTES), 0);
    ck_assert_int_eq(elf_load_image(&memory, &image, &info, &error), -ENODATA);
    image_close(&image);
    unlink(path);
}
END_TEST

/* Notes of others come first, and the entry may be 64 bits wide. */
START_TEST(test_notes)
{
    static struct {
        struct kernel kernel;
        struct {
            Elf64_Nhdr head;
            char name[8]; /* "Linux" padded */
            uint32_t version;
            Elf64_Nhdr xen_other;
            char xen_name[4];
            char text[4]; /* three bytes, padded */
            Elf64_Nhdr pvh;
            char pvh_name[4];
            uint32_t entry_low, entry_high;
        } notes;
    } big;
    struct image image = image_in_memory("kernel", &big, sizeof(big));
    struct error error;
    struct elf_info info;
    struct elf elf;

    big.kernel = kernel;
    big.notes.head = (Elf64_Nhdr){ .n_namesz = 6, .n_descsz = 4, .n_type = 18 };
    memcpy(big.notes.name, "Linux", 6);
    big.notes.xen_other = (Elf64_Nhdr){ .n_namesz = 4, .n_descsz = 3, .n_type = 6 };
    memcpy(big.notes.xen_name, "Xen", 4);
    big.notes.pvh = (Elf64_Nhdr){ .n_namesz = 4, .n_descsz = 8, .n_type = 18 };
    memcpy(big.notes.pvh_name, "Xen", 4);
    big.notes.entry_low = LOAD_GPA + 2;
    big.kernel.phdr[NOTE].p_offset = sizeof(struct kernel);
    big.kernel.phdr[NOTE].p_filesz = sizeof(big.notes);
    ck_assert_int_eq(elf_load(&memory, &big, sizeof(big), &info, &error), 0);
    ck_assert_uint_eq(info.entry, LOAD_GPA + 2);
    ck_assert_int_eq(elf_open(&image, &elf, &error), 0);
    ck_assert(elf.is_linux);
    big.notes.entry_high = 1;
    ck_assert_int_eq(elf_load(&memory, &big, sizeof(big), &info, &error), -ENOEXEC);
}
END_TEST

/* A kernel of 32 bits is read into the form of 64. */
START_TEST(test_32_bits)
{
    static struct {
        Elf32_Ehdr header;
        Elf32_Phdr phdr[2];
        char note[20];
        char code[CODE_BYTES];
    } small;
    struct error error;
    struct elf_info info;

    memcpy(&small.header, &kernel.header, EI_NIDENT);
    small.header.e_ident[EI_CLASS] = ELFCLASS32;
    small.header.e_type = ET_EXEC;
    small.header.e_machine = EM_386;
    small.header.e_phoff = sizeof(Elf32_Ehdr);
    small.header.e_phentsize = sizeof(Elf32_Phdr);
    small.header.e_phnum = 2;
    small.phdr[0] = (Elf32_Phdr){ .p_type = PT_LOAD,
                                  .p_offset = offsetof(__typeof__(small), code),
                                  .p_vaddr = 0xc0100000,
                                  .p_paddr = LOAD_GPA,
                                  .p_filesz = CODE_BYTES,
                                  .p_memsz = BSS_BYTES };
    small.phdr[1] = (Elf32_Phdr){ .p_type = PT_NOTE,
                                  .p_offset = offsetof(__typeof__(small), note),
                                  .p_filesz = sizeof(small.note) };
    memcpy(small.note, &kernel.note, sizeof(small.note));
    memcpy(small.code, CODE, CODE_BYTES);
    ck_assert_int_eq(elf_load(&memory, &small, sizeof(small), &info, &error), 0);
    ck_assert_uint_eq(info.entry, LOAD_GPA + 1);
    ck_assert_uint_eq(info.end, LOAD_GPA + BSS_BYTES);
    ck_assert_int_eq(memcmp(memory_at(&memory, LOAD_GPA, CODE_BYTES), CODE, CODE_BYTES), 0);
    small.header.e_machine = EM_X86_64;
    ck_assert_int_eq(elf_load(&memory, &small, sizeof(small), &info, &error), -ENOEXEC);
}
END_TEST

/* e_entry: an address of a segment's p_vaddr, or a physical one that no segment has there. */
START_TEST(test_plain_entry)
{
    struct image image = image_in_memory("kernel", &kernel, sizeof(kernel));
    struct error error;
    struct elf elf;
    uint32_t entry;

    kernel.header.e_entry = kernel.phdr[LOAD].p_vaddr + 2;
    ck_assert_int_eq(elf_open(&image, &elf, &error), 0);
    ck_assert(elf.has_pvh && !elf.is_linux);
    ck_assert_int_eq(elf_plain_entry(&image, &elf, &entry, &error), 0);
    ck_assert_uint_eq(entry, LOAD_GPA + 2);
    elf.e_entry = LOAD_GPA + 3;
    ck_assert_int_eq(elf_plain_entry(&image, &elf, &entry, &error), 0);
    ck_assert_uint_eq(entry, LOAD_GPA + 3);
    elf.e_entry = LOAD_GPA + BSS_BYTES;
    ck_assert_int_eq(elf_plain_entry(&image, &elf, &entry, &error), -ENOEXEC);
    elf.e_entry = UINT64_MAX;
    ck_assert_int_eq(elf_plain_entry(&image, &elf, &entry, &error), -ENOEXEC);
}
END_TEST

static void no_magic(void)
{
    kernel.header.e_ident[0] = 'x';
}
static void class_32(void)
{
    kernel.header.e_ident[EI_CLASS] = ELFCLASS32;
}
static void class_other(void)
{
    kernel.header.e_ident[EI_CLASS] = 3;
}
static void big_endian(void)
{
    kernel.header.e_ident[EI_DATA] = ELFDATA2MSB;
}
static void other_machine(void)
{
    kernel.header.e_machine = EM_AARCH64;
}
static void object_file(void)
{
    kernel.header.e_type = ET_REL;
}
static void core_file(void)
{
    kernel.header.e_type = ET_CORE;
}
static void odd_phentsize(void)
{
    kernel.header.e_phentsize = 32;
}
static void no_phdrs(void)
{
    kernel.header.e_phnum = 0;
}
static void many_phdrs(void)
{
    kernel.header.e_phnum = ELF_SEGMENTS_MAX + 1;
}
static void phdrs_beyond(void)
{
    kernel.header.e_phoff = sizeof(kernel) - 8;
}
static void phdrs_wrap(void)
{
    kernel.header.e_phoff = UINT64_MAX - 8;
}
static void empty(void)
{
    kernel_bytes = 0;
}
static void ident_only(void)
{
    kernel_bytes = EI_NIDENT;
}
static void half_header(void)
{
    kernel_bytes = sizeof(Elf64_Ehdr) - 1;
}
static void half_phdrs(void)
{
    kernel_bytes = offsetof(struct kernel, phdr[1]);
}
static void half_note(void)
{
    kernel_bytes = offsetof(struct kernel, note) + 4;
}
static void half_code(void)
{
    kernel_bytes = sizeof(kernel) - 1;
}
static void offset_wraps(void)
{
    kernel.phdr[LOAD].p_offset = UINT64_MAX - 1;
}
static void filesz_huge(void)
{
    kernel.phdr[LOAD].p_filesz = BSS_BYTES;
}
static void filesz_over_memsz(void)
{
    kernel.phdr[LOAD].p_memsz = CODE_BYTES - 1;
}
static void paddr_wraps(void)
{
    /* Another segment holds the entry, or that would be what is wrong. */
    kernel.phdr[STACK] = kernel.phdr[LOAD];
    kernel.phdr[STACK].p_paddr = UINT64_MAX - 0xfff;
}
static void beyond_ram(void)
{
    kernel.phdr[STACK] = kernel.phdr[LOAD];
    kernel.phdr[STACK].p_paddr = RAM_BYTES;
}
static void over_the_end(void)
{
    kernel.phdr[LOAD].p_memsz = RAM_BYTES - LOAD_GPA + 1;
}
static void memsz_huge(void)
{
    kernel.phdr[LOAD].p_memsz = UINT64_MAX - LOAD_GPA;
}
static void on_start_info(void)
{
    kernel.phdr[STACK] = kernel.phdr[LOAD];
    kernel.phdr[STACK].p_paddr = LAYOUT_START_INFO_GPA - BSS_BYTES + 1;
}
static void on_fdt(void)
{
    kernel.phdr[STACK] = kernel.phdr[LOAD];
    kernel.phdr[STACK].p_paddr = LAYOUT_END_GPA - 1;
}
static void no_note(void)
{
    kernel.phdr[NOTE].p_type = PT_NULL;
}
static void other_note(void)
{
    kernel.note.head.n_type = 17;
}
static void other_owner(void)
{
    memcpy(kernel.note.name, "GNU", 4);
}
static void note_descsz(void)
{
    kernel.note.head.n_descsz = 2;
}
static void note_too_large(void)
{
    kernel.note.head.n_descsz = 8;
}
static void note_sizes_huge(void)
{
    kernel.note.head.n_namesz = UINT32_MAX;
    kernel.note.head.n_descsz = UINT32_MAX;
}
static void note_segment_huge(void)
{
    kernel.phdr[NOTE].p_filesz = MIB;
}
static void note_segment_wraps(void)
{
    kernel.phdr[NOTE].p_offset = UINT64_MAX - 7;
}
static void entry_outside(void)
{
    kernel.note.entry = LOAD_GPA + BSS_BYTES;
}
static void entry_below(void)
{
    kernel.note.entry = LOAD_GPA - 1;
}

static const struct {
    void (*break_it)(void);
    int result;
    const char *text; /* must be part of the message */
} broken[] = {
    { no_magic, -ENOEXEC, "not an ELF file" },
    { class_32, -ENOEXEC, "e_machine is 62 (x86-64), not 3 (x86 of 32 bits)" },
    { class_other, -ENOEXEC, "class is 3" },
    { big_endian, -ENOEXEC, "data is 2" },
    { other_machine, -ENOEXEC, "e_machine is 183 (Arm of 64 bits)" },
    { object_file, -ENOEXEC, "e_type is 1" },
    { core_file, -ENOEXEC, "e_type is 4" },
    { odd_phentsize, -ENOEXEC, "e_phentsize is 32" },
    { no_phdrs, -ENOEXEC, "e_phnum is 0" },
    { many_phdrs, -ENOEXEC, "e_phnum is 65" },
    { phdrs_beyond, -ENODATA, "program headers (e_phoff)" },
    { phdrs_wrap, -ENODATA, "program headers (e_phoff)" },
    { empty, -ENOEXEC, "too short" },
    { ident_only, -ENODATA, "truncated: ELF header" },
    { half_header, -ENODATA, "truncated: ELF header" },
    { half_phdrs, -ENODATA, "truncated: the program headers" },
    { half_note, -ENODATA, "truncated: a note segment" },
    { half_code, -ENODATA, "truncated: a segment" },
    { offset_wraps, -ENODATA, "p_offset" },
    { filesz_huge, -ENODATA, "p_filesz" },
    { filesz_over_memsz, -ENOEXEC, "larger than p_memsz" },
    { paddr_wraps, -ENOEXEC, "wraps around" },
    { beyond_ram, -ENOSPC, "does not fit into RAM" },
    { over_the_end, -ENOSPC, "give more memory" },
    { memsz_huge, -ENOSPC, "does not fit into RAM" },
    { on_start_info, -ENOSPC, "overlaps the boot structures" },
    { on_fdt, -ENOSPC, "overlaps the boot structures" },
    { no_note, -ENOEXEC, "neither a PVH entry" },
    { other_note, -ENOEXEC, "neither a PVH entry" },
    { other_owner, -ENOEXEC, "neither a PVH entry" },
    { note_descsz, -ENOEXEC, "holds 2 bytes" },
    { note_too_large, -ENOEXEC, "larger than its segment" },
    { note_sizes_huge, -ENOEXEC, "larger than its segment" },
    { note_segment_huge, -ENOEXEC, "larger than 0x10000" },
    { note_segment_wraps, -ENODATA, "note segment" },
    { entry_outside, -ENOEXEC, "lies in no segment" },
    { entry_below, -ENOEXEC, "lies in no segment" },
};

START_TEST(test_broken)
{
    struct error error = { .code = 0 };
    struct elf_info info;

    broken[_i].break_it();
    ck_assert_int_eq(elf_load(&memory, &kernel, kernel_bytes, &info, &error), broken[_i].result);
    ck_assert_msg(strstr(error.text, broken[_i].text), "\"%s\" lacks \"%s\"", error.text,
                  broken[_i].text);
    ck_assert_msg(strchr(error.text, ';'), "no remedy in \"%s\"", error.text);
    ck_assert_msg(!strchr(error.text, '\n'), "more than a line: \"%s\"", error.text);
}
END_TEST

/* What is no regular file with content is refused before anything is read. */
START_TEST(test_not_a_file)
{
    char directory[] = "/tmp/strata-unit-XXXXXX", path[64];
    struct error error;
    struct image image;
    FILE *file;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(image_open(&image, directory, "kernel", &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "is a directory"));
    ck_assert_int_eq(image_open(&image, "/dev/null", "kernel", &error), -EINVAL);
    snprintf(path, sizeof(path), "%s/x", directory);
    ck_assert_int_eq(image_open(&image, path, "kernel", &error), -ENOENT);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(image_open(&image, path, "kernel", &error), -EINVAL);
    ck_assert_ptr_nonnull(strstr(error.text, "FIFO"));
    unlink(path);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fclose(file);
    ck_assert_int_eq(image_open(&image, path, "kernel", &error), -ENOEXEC);
    ck_assert_ptr_nonnull(strstr(error.text, "is empty"));
    unlink(path);
    rmdir(directory);
}
END_TEST

Suite *elf_suite(void)
{
    Suite *suite = suite_create("elf");
    TCase *tc = tcase_create("elf");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_good);
    tcase_add_test(tc, test_file);
    tcase_add_test(tc, test_notes);
    tcase_add_test(tc, test_32_bits);
    tcase_add_test(tc, test_plain_entry);
    tcase_add_loop_test(tc, test_broken, 0, sizeof(broken) / sizeof(broken[0]));
    tcase_add_test(tc, test_not_a_file);
    suite_add_tcase(suite, tc);
    return suite;
}
