#include "guest/dynamic/loader.h"

#include "guest/abi/elf.h"
#include "guest/lib/lib.h"

#define LINKED_MAX 4
/* Libraries go to another place in each process: here, and so far apart. */
#define BASE  0x100000000000
#define APART 0x40000000

static struct linked linked[LINKED_MAX];
static unsigned nlinked;

/* The program's own dynamic section; ld knows where it is. */
extern const struct elf_dynamic _DYNAMIC[];

#define fail(...)                       \
    do {                                \
        printf("loader: " __VA_ARGS__); \
        exit(126);                      \
    } while (0)

/* The value of a tag, 0 if it is not there. */
static uint64_t tag(const struct linked *in, uint64_t wanted)
{
    for (const struct elf_dynamic *at = in->dynamic; at->tag != DT_NULL; at++) {
        if (at->tag == wanted)
            return at->value;
    }
    return 0;
}

/* What an address of a dynamic section points to. */
static const void *inside(const struct linked *in, uint64_t address)
{
    return (const void *)(in->base + address);
}

/* ---- Mapping -------------------------------------------------------------- */

static uint64_t page_up(uint64_t va)
{
    return (va + PAGE - 1) & ~(PAGE - 1);
}

static uint32_t prot_of(uint32_t flags)
{
    return (flags & PF_R ? ABI_PROT_READ : 0) | (flags & PF_W ? ABI_PROT_WRITE : 0) |
           (flags & PF_X ? ABI_PROT_EXEC : 0);
}

static void map_segment(struct linked *library, const struct elf_segment *s)
{
    uint64_t skew = s->va % PAGE, va = library->base + s->va - skew;
    uint64_t end = page_up(va + skew + s->memsz);
    uint64_t zero = s->filesz ? page_up(va + skew + s->filesz) : va;

    if (s->offset % PAGE != skew || s->filesz > s->memsz)
        fail("%s: segment at 0x%lx cannot be mapped\n", library->name, s->va);
    if (s->filesz && syscall(SYS_MAP_FILE, library->name, s->offset - skew, skew + s->filesz,
                             prot_of(s->flags), va) != (int64_t)va)
        fail("%s: no room at 0x%lx\n", library->name, va);
    if (end > zero && !map((void *)zero, end - zero, prot_of(s->flags), ABI_MAP_FIXED, 0))
        fail("%s: no room at 0x%lx\n", library->name, zero);
    if (s->va + s->memsz > library->bytes)
        library->bytes = s->va + s->memsz;
    if (s->va + s->filesz > library->filled)
        library->filled = s->va + s->filesz;
}

static void map_library(struct linked *library, const char *name)
{
    int64_t headers = syscall(SYS_MAP_FILE, name, 0, PAGE, ABI_PROT_READ, 0);
    const struct elf_segment *segment;
    const struct elf_header *elf;

    library->name = name;
    library->base = BASE + APART * ((uint64_t)syscall(SYS_GETPID) * LINKED_MAX + nlinked);
    if (headers <= 0)
        fail("%s: there is no such library\n", name);
    elf = (const struct elf_header *)headers;
    if (memcmp(elf->ident, ELF_IDENT, ELF_IDENT_BYTES) || elf->type != ET_DYN ||
        elf->machine != EM_X86_64 || elf->phentsize != sizeof(*segment) ||
        elf->phoff + elf->phnum * sizeof(*segment) > PAGE)
        fail("%s: this is no shared library for x86-64\n", name);
    segment = (const struct elf_segment *)((const char *)elf + elf->phoff);
    for (unsigned i = 0; i < elf->phnum; i++) {
        if (segment[i].type == PT_LOAD && segment[i].memsz)
            map_segment(library, &segment[i]);
        if (segment[i].type == PT_DYNAMIC)
            library->dynamic = inside(library, segment[i].va);
    }
    unmap((void *)headers, PAGE);
    if (!library->dynamic)
        fail("%s: no dynamic section\n", name);
}

/* All libraries that `in` needs and that are not there yet. */
static void map_needed(const struct linked *in)
{
    const char *strings = inside(in, tag(in, DT_STRTAB));

    for (const struct elf_dynamic *at = in->dynamic; at->tag != DT_NULL; at++) {
        const char *name = strings + at->value;
        unsigned i = 1;

        if (at->tag != DT_NEEDED)
            continue;
        while (i < nlinked && strcmp(linked[i].name, name))
            i++;
        if (i < nlinked)
            continue;
        if (nlinked == LINKED_MAX)
            fail("%s: more than %d libraries\n", name, LINKED_MAX - 1);
        map_library(&linked[nlinked], name);
        nlinked++;
    }
}

/* ---- Symbols -------------------------------------------------------------- */

/* The hash of the gABI's symbol tables. */
static uint32_t hash_of(const char *name)
{
    uint32_t hash = 0;

    while (*name) {
        hash = (hash << 4) + (uint8_t)*name++;
        hash = (hash ^ (hash >> 28 << 4)) & 0xfffffff;
    }
    return hash;
}

/* The definition of a name in one of the linked; NULL if it has none. */
static const struct elf_symbol *defined(const struct linked *in, const char *name)
{
    /* nbucket, nchain, the buckets, the chains. */
    const uint32_t *table = inside(in, tag(in, DT_HASH));
    const struct elf_symbol *symbols = inside(in, tag(in, DT_SYMTAB));
    const char *strings = inside(in, tag(in, DT_STRTAB));

    if (!tag(in, DT_HASH) || !table[0])
        return NULL;
    for (uint32_t i = table[2 + hash_of(name) % table[0]]; i; i = table[2 + table[0] + i]) {
        if (symbols[i].section && !strcmp(strings + symbols[i].name, name))
            return &symbols[i];
    }
    return NULL;
}

/* The address that a symbol of `in` stands for: the first definition counts. */
static uint64_t resolve(const struct linked *in, uint64_t index)
{
    const struct elf_symbol *wanted = (const struct elf_symbol *)inside(in, tag(in, DT_SYMTAB)) +
                                      index;
    const char *name = (const char *)inside(in, tag(in, DT_STRTAB)) + wanted->name;

    for (unsigned i = 0; i < nlinked; i++) {
        const struct elf_symbol *found = defined(&linked[i], name);

        if (found)
            return linked[i].base + found->value;
    }
    if (wanted->info >> 4 != STB_WEAK)
        fail("%s: nobody has '%s'\n", in->name, name);
    return 0;
}

/* ---- Relocation ----------------------------------------------------------- */

/* The write that ends the sharing of a page, if it is the first to it. */
static __attribute__((noinline)) void store(uint64_t *slot, uint64_t value)
{
    *slot = value;
}

static void relocate(const struct linked *in, uint64_t address, uint64_t bytes)
{
    const struct elf_rela *r = inside(in, address);

    for (const struct elf_rela *end = r + bytes / sizeof(*r); r < end; r++) {
        uint64_t *slot = (uint64_t *)(in->base + r->offset);

        switch ((uint32_t)r->info) {
        case R_X86_64_NONE: break;
        case R_X86_64_RELATIVE: store(slot, in->base + r->addend); break;
        case R_X86_64_64: store(slot, resolve(in, r->info >> 32) + r->addend); break;
        case R_X86_64_GLOB_DAT:
        case R_X86_64_JUMP_SLOT: store(slot, resolve(in, r->info >> 32)); break;
        case R_X86_64_COPY:
            fail("%s: R_X86_64_COPY at 0x%lx: compile it with -fPIC\n", in->name, r->offset);
        default: fail("%s: relocation type %u at 0x%lx\n", in->name, (uint32_t)r->info, r->offset);
        }
    }
}

/* What only relocation writes is read-only from now on. */
static void seal(const struct linked *library)
{
    const struct elf_header *elf = inside(library, 0);
    const struct elf_segment *segment = inside(library, elf->phoff);

    for (unsigned i = 0; i < elf->phnum; i++) {
        uint64_t first = library->base + segment[i].va, end = first + segment[i].memsz;

        first &= ~(PAGE - 1);
        if (segment[i].type == PT_GNU_RELRO && end % PAGE == 0 &&
            protect((void *)first, end - first, ABI_PROT_READ))
            fail("%s: its table cannot be made read-only\n", library->name);
    }
}

void loader_run(int argc, char **argv)
{
    linked[0] = (struct linked){ .name = argv[0], .dynamic = _DYNAMIC };
    nlinked = 1;
    for (unsigned i = 0; i < nlinked; i++)
        map_needed(&linked[i]);
    if (loader_mapped)
        loader_mapped(argc, argv, linked, nlinked);
    for (unsigned i = 0; i < nlinked; i++) {
        relocate(&linked[i], tag(&linked[i], DT_RELA), tag(&linked[i], DT_RELASZ));
        relocate(&linked[i], tag(&linked[i], DT_JMPREL), tag(&linked[i], DT_PLTRELSZ));
    }
    for (unsigned i = 1; i < nlinked; i++)
        seal(&linked[i]);
}
