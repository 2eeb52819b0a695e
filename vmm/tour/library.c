#include "vmm/tour/library.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define SEGMENTS_MAX 16
#define DYNAMIC_MAX  64
#define BYTES_MAX    (LIBRARY_PAGES_MAX * ABI_PAGE_BYTES)

struct source {
    const struct guest_view *view;
    uint64_t root, base;
};

static int library_read_at(const struct source *from, uint64_t offset, void *to, size_t bytes)
{
    if (offset > BYTES_MAX || bytes > BYTES_MAX)
        return -EINVAL;
    return guest_read(from->view, from->root, from->base + offset, to, bytes);
}

/* Gives the pages with a byte in [start, start + bytes) this kind. */
static int library_mark(struct library *library, uint64_t start, uint64_t bytes,
                        enum library_page kind)
{
    if (start > BYTES_MAX || bytes > BYTES_MAX - start)
        return -EINVAL;
    for (uint64_t at = start / ABI_PAGE_BYTES; at * ABI_PAGE_BYTES < start + bytes; at++) {
        library->kind[at] = kind;
        if (library->npages <= at)
            library->npages = at + 1;
    }
    return 0;
}

static enum library_page library_kind_of(uint32_t flags)
{
    return flags & PF_X ? LIBRARY_TEXT : flags & PF_W ? LIBRARY_DATA : LIBRARY_CONSTANT;
}

/* The kinds of all pages, and the dynamic section's place. */
static int library_read_segments(const struct source *from, struct library *library,
                                 Elf64_Phdr *dynamic)
{
    Elf64_Phdr segment[SEGMENTS_MAX];
    Elf64_Ehdr elf;
    int err = library_read_at(from, 0, &elf, sizeof(elf));

    if (err)
        return err;
    if (memcmp(elf.e_ident, ELFMAG, SELFMAG) || elf.e_ident[EI_CLASS] != ELFCLASS64 ||
        elf.e_type != ET_DYN || elf.e_machine != EM_X86_64 || elf.e_phnum > SEGMENTS_MAX ||
        elf.e_phentsize != sizeof(*segment))
        return -EINVAL;
    err = library_read_at(from, elf.e_phoff, segment, elf.e_phnum * sizeof(*segment));
    for (unsigned i = 0; !err && i < elf.e_phnum; i++) {
        if (segment[i].p_type == PT_LOAD)
            err = library_mark(library, segment[i].p_vaddr, segment[i].p_filesz,
                               library_kind_of(segment[i].p_flags));
        if (segment[i].p_type == PT_DYNAMIC)
            *dynamic = segment[i];
    }
    /* Within what is writable; it comes behind the segments that are loaded. */
    for (unsigned i = 0; !err && i < elf.e_phnum; i++) {
        if (segment[i].p_type == PT_GNU_RELRO)
            err = library_mark(library, segment[i].p_vaddr, segment[i].p_filesz, LIBRARY_TABLE);
    }
    return err;
}

static int library_read_relocation(const struct source *from, uint64_t symbols,
                                   const Elf64_Rela *rela, struct library_relocation *relocation)
{
    uint64_t type = ELF64_R_TYPE(rela->r_info), index = ELF64_R_SYM(rela->r_info);
    Elf64_Sym symbol;
    int err;

    *relocation = (struct library_relocation){ .offset = rela->r_offset };
    relocation->value = (uint64_t)rela->r_addend;
    if (type == R_X86_64_RELATIVE)
        return 0;
    if (type != R_X86_64_64 && type != R_X86_64_GLOB_DAT && type != R_X86_64_JUMP_SLOT)
        return -EINVAL;
    err = library_read_at(from, symbols + index * sizeof(symbol), &symbol, sizeof(symbol));
    if (err)
        return err;
    relocation->imported = symbol.st_shndx == SHN_UNDEF;
    relocation->value = relocation->imported ? 0 : symbol.st_value;
    if (type == R_X86_64_64 && !relocation->imported)
        relocation->value += (uint64_t)rela->r_addend;
    return 0;
}

static int library_read_relocations(const struct source *from, uint64_t table, uint64_t bytes,
                                    uint64_t symbols, struct library *library)
{
    Elf64_Rela rela;

    for (uint64_t i = 0; i < bytes / sizeof(rela); i++) {
        int err = library->nrelocations == LIBRARY_RELOCATIONS_MAX ? -EINVAL : 0;

        if (!err)
            err = library_read_at(from, table + i * sizeof(rela), &rela, sizeof(rela));
        if (!err)
            err = library_read_relocation(from, symbols, &rela,
                                          &library->relocation[library->nrelocations++]);
        if (err)
            return err;
    }
    return 0;
}

int library_read(const struct guest_view *view, uint64_t root, uint64_t base,
                 struct library *library)
{
    const struct source from = { .view = view, .root = root, .base = base };
    /* By tag, those below 32: all that relocation takes. */
    uint64_t value[32] = { 0 };
    Elf64_Phdr dynamic = { 0 };
    Elf64_Dyn entry;
    int err;

    memset(library, 0, sizeof(*library));
    err = library_read_segments(&from, library, &dynamic);
    for (uint64_t i = 0; !err && i < DYNAMIC_MAX && i < dynamic.p_filesz / sizeof(entry); i++) {
        err = library_read_at(&from, dynamic.p_vaddr + i * sizeof(entry), &entry, sizeof(entry));
        if (!err && entry.d_tag == DT_NULL)
            break;
        if (!err && entry.d_tag > 0 && entry.d_tag < 32)
            value[entry.d_tag] = entry.d_un.d_val;
    }
    if (!err)
        err = library_read_relocations(&from, value[DT_RELA], value[DT_RELASZ], value[DT_SYMTAB],
                                       library);
    if (!err)
        err = library_read_relocations(&from, value[DT_JMPREL], value[DT_PLTRELSZ],
                                       value[DT_SYMTAB], library);
    return err;
}
