/* A shared library read from guest memory: a sound one, and what a hostile guest may put there. */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/machine/guest_memory.h"
#include "vmm/machine/memory.h"
#include "vmm/tour/library.h"

/* The first frames hold tables; the library's pages follow, mapped at BASE. */
enum { PML4_FRAME, PDPT_FRAME, PD_FRAME, PT_FRAME, LIBRARY_FRAME, NFRAMES = 16 };

#define BASE  0x7f8000000000ull
#define PAGES 5 /* headers, text, table, two of data */

static uint8_t *ram;
static struct memory memory;
static struct guest_view view;
static Elf64_Ehdr *elf;
static Elf64_Phdr *segment;
static Elf64_Sym *symbol;
static Elf64_Rela *rela;
static Elf64_Dyn *dynamic;

static void *at(uint64_t offset)
{
    return ram + LIBRARY_FRAME * ABI_PAGE_BYTES + offset;
}

static uint64_t *entry(unsigned frame, unsigned shift)
{
    return (uint64_t *)(ram + frame * ABI_PAGE_BYTES) + (BASE >> shift & 511);
}

static void setup(void)
{
    ram = aligned_alloc(ABI_PAGE_BYTES, NFRAMES * ABI_PAGE_BYTES);
    ck_assert_ptr_nonnull(ram);
    memset(ram, 0, NFRAMES * ABI_PAGE_BYTES);
    memory = (struct memory){ .vm_fd = -1, .bytes = NFRAMES * ABI_PAGE_BYTES, .nslots = 1 };
    memory.slots[0] = (struct memory_slot){ .bytes = memory.bytes, .hva = ram };
    *entry(PML4_FRAME, 39) = PDPT_FRAME * ABI_PAGE_BYTES | PAGING_P | PAGING_U;
    *entry(PDPT_FRAME, 30) = PD_FRAME * ABI_PAGE_BYTES | PAGING_P | PAGING_U;
    *entry(PD_FRAME, 21) = PT_FRAME * ABI_PAGE_BYTES | PAGING_P | PAGING_U;
    for (unsigned i = 0; i < PAGES; i++)
        entry(PT_FRAME, 12)[i] = (LIBRARY_FRAME + i) * ABI_PAGE_BYTES | PAGING_P | PAGING_U;
    elf = at(0);
    segment = at(0x100);
    symbol = at(0x400);
    rela = at(0x600);
    dynamic = at(0x2000);
    *elf = (Elf64_Ehdr){ .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64 },
                         .e_type = ET_DYN,
                         .e_machine = EM_X86_64,
                         .e_phoff = 0x100,
                         .e_phentsize = sizeof(*segment),
                         .e_phnum = 5 };
    segment[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R, .p_filesz = 0x900 };
    segment[1] = (Elf64_Phdr){
        .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = 0x1000, .p_filesz = 0x800
    };
    segment[2] = (Elf64_Phdr){
        .p_type = PT_LOAD, .p_flags = PF_R | PF_W, .p_vaddr = 0x2000, .p_filesz = 0x3000
    };
    segment[3] = (Elf64_Phdr){ .p_type = PT_GNU_RELRO, .p_vaddr = 0x2000, .p_filesz = 0x1000 };
    segment[4] = (Elf64_Phdr){ .p_type = PT_DYNAMIC, .p_vaddr = 0x2000, .p_filesz = 0x100 };
    dynamic[0] = (Elf64_Dyn){ DT_SYMTAB, { 0x400 } };
    dynamic[1] = (Elf64_Dyn){ DT_RELA, { 0x600 } };
    dynamic[2] = (Elf64_Dyn){ DT_RELASZ, { 2 * sizeof(*rela) } };
    dynamic[3] = (Elf64_Dyn){ DT_JMPREL, { 0x600 + 2 * sizeof(*rela) } };
    dynamic[4] = (Elf64_Dyn){ DT_PLTRELSZ, { sizeof(*rela) } };
    symbol[1] = (Elf64_Sym){ .st_shndx = 1, .st_value = 0x1230 };
    rela[0] = (Elf64_Rela){ 0x2800, ELF64_R_INFO(0, R_X86_64_RELATIVE), 0x3000 };
    rela[1] = (Elf64_Rela){ 0x2808, ELF64_R_INFO(1, R_X86_64_64), 8 };
    rela[2] = (Elf64_Rela){ 0x2810, ELF64_R_INFO(2, R_X86_64_JUMP_SLOT), 0 };
    view = (struct guest_view){ .memory = &memory, .reader = guest_memory_reader(&memory) };
}

static void teardown(void)
{
    free(ram);
}

static int read_it(struct library *library)
{
    return library_read(&view, PML4_FRAME * ABI_PAGE_BYTES, BASE, library);
}

START_TEST(sound)
{
    static const enum library_page kinds[PAGES] = { LIBRARY_CONSTANT, LIBRARY_TEXT, LIBRARY_TABLE,
                                                    LIBRARY_DATA, LIBRARY_DATA };
    struct library library;

    ck_assert_int_eq(read_it(&library), 0);
    ck_assert_uint_eq(library.npages, PAGES);
    ck_assert_mem_eq(library.kind, kinds, sizeof(kinds));
    ck_assert_uint_eq(library.nrelocations, 3);
    ck_assert_uint_eq(library.relocation[0].value, 0x3000);
    ck_assert_uint_eq(library.relocation[1].offset, 0x2808);
    ck_assert_uint_eq(library.relocation[1].value, 0x1238);
    ck_assert(!library.relocation[1].imported);
    ck_assert(library.relocation[2].imported);
}
END_TEST

static void bad_magic(void)
{
    elf->e_ident[0] = 0;
}
static void an_executable(void)
{
    elf->e_type = ET_EXEC;
}
static void many_segments(void)
{
    elf->e_phnum = 0xffff;
}
static void headers_far_away(void)
{
    elf->e_phoff = UINT64_MAX - 8;
}
static void segment_too_long(void)
{
    segment[1].p_filesz = UINT64_MAX;
}
static void segment_far_away(void)
{
    segment[2].p_vaddr = UINT64_MAX - 0xfff;
}
static void endless_relocations(void)
{
    dynamic[2].d_un.d_val = UINT64_MAX;
}
static void copy_relocation(void)
{
    rela[1].r_info = ELF64_R_INFO(1, R_X86_64_COPY);
}
static void symbol_far_away(void)
{
    rela[1].r_info = ELF64_R_INFO(UINT32_MAX, R_X86_64_64);
}

static void (*const hostile[])(void) = {
    bad_magic,        an_executable,       many_segments,   headers_far_away, segment_too_long,
    segment_far_away, endless_relocations, copy_relocation, symbol_far_away,
};

START_TEST(refused)
{
    struct library library;

    hostile[_i]();
    ck_assert_int_eq(read_it(&library), -EINVAL);
    ck_assert_uint_le(library.npages, LIBRARY_PAGES_MAX);
    ck_assert_uint_le(library.nrelocations, LIBRARY_RELOCATIONS_MAX);
}
END_TEST

START_TEST(not_mapped)
{
    struct library library;

    entry(PT_FRAME, 12)[2] = 0;
    ck_assert_int_eq(read_it(&library), -EFAULT);
}
END_TEST

Suite *library_suite(void)
{
    Suite *suite = suite_create("library");
    TCase *tcase = tcase_create("guest memory");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, sound);
    tcase_add_loop_test(tcase, refused, 0, sizeof(hostile) / sizeof(hostile[0]));
    tcase_add_test(tcase, not_mapped);
    suite_add_tcase(suite, tcase);
    return suite;
}
