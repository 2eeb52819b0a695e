#include "vmm/inspect/symbols.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* How far behind a symbol without a size an address still belongs to it. */
#define REACH_BYTES 4096

static bool symbols_inside(size_t bytes, uint64_t offset, uint64_t count)
{
    return offset <= bytes && count <= bytes - offset;
}

/* Section n of the image, copied because nothing says that it is aligned. */
static bool symbols_section(const struct symbols *s, const Elf64_Ehdr *header, unsigned n,
                            Elf64_Shdr *out)
{
    uint64_t at = header->e_shoff + (uint64_t)n * sizeof(*out);

    if (n >= header->e_shnum || at < header->e_shoff ||
        !symbols_inside(s->image_bytes, at, sizeof(*out)))
        return false;
    memcpy(out, s->image + at, sizeof(*out));
    return true;
}

int symbols_open(struct symbols *symbols, const void *image, size_t bytes)
{
    struct symbols s = { .image = image, .image_bytes = bytes };
    Elf64_Shdr table, names;
    Elf64_Ehdr header;

    *symbols = (struct symbols){ 0 };
    if (bytes < sizeof(header))
        return -ENOENT;
    memcpy(&header, image, sizeof(header));
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_shentsize != sizeof(Elf64_Shdr))
        return -ENOENT;
    for (unsigned i = 0; symbols_section(&s, &header, i, &table); i++) {
        if (table.sh_type != SHT_SYMTAB || !symbols_section(&s, &header, table.sh_link, &names))
            continue;
        if (!symbols_inside(bytes, table.sh_offset, table.sh_size) ||
            !symbols_inside(bytes, names.sh_offset, names.sh_size) || !names.sh_size ||
            s.image[names.sh_offset + names.sh_size - 1])
            continue;
        s.table = table.sh_offset;
        s.n = table.sh_size / sizeof(Elf64_Sym);
        s.names = names.sh_offset;
        s.names_bytes = names.sh_size;
        *symbols = s;
        return 0;
    }
    return -ENOENT;
}

/* Symbol i's name; NULL if it is neither function nor variable (or a label of assembler code). */
static const char *symbol(const struct symbols *s, size_t i, Elf64_Sym *out)
{
    unsigned type;

    memcpy(out, s->image + s->table + i * sizeof(*out), sizeof(*out));
    type = ELF64_ST_TYPE(out->st_info);
    if ((type != STT_FUNC && type != STT_OBJECT && type != STT_NOTYPE) ||
        out->st_shndx == SHN_UNDEF || out->st_shndx == SHN_ABS || out->st_name >= s->names_bytes)
        return NULL;
    /* The string table ends with a zero, so every name in it does. */
    return (const char *)s->image + s->names + out->st_name;
}

int symbols_find(const struct symbols *symbols, const char *name, uint64_t *va)
{
    for (size_t i = 0; i < symbols->n; i++) {
        Elf64_Sym entry;
        const char *found = symbol(symbols, i, &entry);

        if (found && *name && !strcmp(found, name)) {
            *va = entry.st_value;
            return 0;
        }
    }
    return -ENOENT;
}

const char *symbols_at(const struct symbols *symbols, uint64_t va, uint64_t *offset)
{
    const char *best = NULL;
    Elf64_Sym chosen = { 0 };

    for (size_t i = 0; i < symbols->n; i++) {
        Elf64_Sym entry;
        const char *name = symbol(symbols, i, &entry);

        if (!name || !*name || entry.st_value > va)
            continue;
        /* The nearest; of several at one place, one with a size. */
        if (!best || entry.st_value > chosen.st_value ||
            (entry.st_value == chosen.st_value && entry.st_size > chosen.st_size)) {
            best = name;
            chosen = entry;
        }
    }
    if (!best || va - chosen.st_value >= (chosen.st_size ? chosen.st_size : REACH_BYTES))
        return NULL;
    *offset = va - chosen.st_value;
    return best;
}
