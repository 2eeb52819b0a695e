#include "vmm/boot/elf.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/layout.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18 /* xen/include/public/elfnote.h */
#define NOTES_BYTES_MAX          (64u << 10)
#define NOTE_NAME_BYTES_MAX      16
#define WANTED                   "give an x86 ELF kernel with a PVH entry or a Multiboot header"

/* Machines that people have kernels for, and may mix up. */
static const char *elf_machine_name(unsigned machine)
{
    switch (machine) {
    case EM_386: return "x86 of 32 bits";
    case EM_X86_64: return "x86-64";
    case EM_ARM: return "Arm of 32 bits";
    case EM_AARCH64: return "Arm of 64 bits";
    case EM_RISCV: return "RISC-V";
    case EM_PPC64: return "POWER";
    case EM_S390: return "S/390";
    case EM_MIPS: return "MIPS";
    default: return "another machine";
    }
}

/* The header of either class, in the form of 64 bits. */
static int elf_read_header(const struct image *image, Elf64_Ehdr *header, bool *is_64,
                           struct error *error)
{
    const unsigned char *ident = header->e_ident;
    Elf32_Ehdr small;
    unsigned machine;
    int err;

    memset(header, 0, sizeof(*header));
    if (image->size < EI_NIDENT)
        return error_set(error, -ENOEXEC, "%s: too short for an ELF file; " WANTED, image->name);
    err = image_read(image, 0, header, EI_NIDENT);
    if (err)
        return image_fail(image, err, "ELF identification", error);
    if (memcmp(ident, ELFMAG, SELFMAG) != 0)
        return error_set(error, -ENOEXEC, "%s: not an ELF file (no magic number); " WANTED,
                         image->name);
    if (ident[EI_CLASS] != ELFCLASS64 && ident[EI_CLASS] != ELFCLASS32)
        return error_set(error, -ENOEXEC,
                         "%s: e_ident class is %u, neither 32-bit nor 64-bit; " WANTED, image->name,
                         ident[EI_CLASS]);
    if (ident[EI_DATA] != ELFDATA2LSB)
        return error_set(error, -ENOEXEC, "%s: e_ident data is %u, not little-endian; " WANTED,
                         image->name, ident[EI_DATA]);
    *is_64 = ident[EI_CLASS] == ELFCLASS64;
    err = *is_64 ? image_read(image, 0, header, sizeof(*header))
                 : image_read(image, 0, &small, sizeof(small));
    if (err)
        return image_fail(image, err, "ELF header", error);
    if (!*is_64) {
        header->e_type = small.e_type;
        header->e_machine = small.e_machine;
        header->e_entry = small.e_entry;
        header->e_phoff = small.e_phoff;
        header->e_phentsize = small.e_phentsize;
        header->e_phnum = small.e_phnum;
    }
    machine = *is_64 ? EM_X86_64 : EM_386;
    if (header->e_machine != machine)
        return error_set(error, -ENOEXEC, "%s: e_machine is %u (%s), not %u (%s); " WANTED,
                         image->name, header->e_machine, elf_machine_name(header->e_machine),
                         machine, elf_machine_name(machine));
    return 0;
}

static int elf_check_header(const struct image *image, const Elf64_Ehdr *header, bool is_64,
                            struct error *error)
{
    size_t entry_bytes = is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return error_set(error, -ENOEXEC,
                         "%s: e_type is %u, not an executable; link the kernel "
                         "first",
                         image->name, header->e_type);
    if (header->e_phentsize != entry_bytes)
        return error_set(error, -ENOEXEC, "%s: e_phentsize is %u, not %zu; build it again",
                         image->name, header->e_phentsize, entry_bytes);
    if (!header->e_phnum || header->e_phnum > ELF_SEGMENTS_MAX)
        return error_set(error, -ENOEXEC,
                         "%s: e_phnum is %u, not 1 to %d; link the kernel with "
                         "program headers",
                         image->name, header->e_phnum, ELF_SEGMENTS_MAX);
    return 0;
}

static int elf_read_phdrs(const struct image *image, const Elf64_Ehdr *header, bool is_64,
                          struct elf *elf, struct error *error)
{
    Elf32_Phdr small[ELF_SEGMENTS_MAX];
    int err;

    elf->nphdrs = header->e_phnum;
    err = is_64
              ? image_read(image, header->e_phoff, elf->phdrs, elf->nphdrs * sizeof(elf->phdrs[0]))
              : image_read(image, header->e_phoff, small, elf->nphdrs * sizeof(small[0]));
    if (err)
        return image_fail(image, err, "the program headers (e_phoff)", error);
    for (unsigned i = 0; i < elf->nphdrs && !is_64; i++)
        elf->phdrs[i] = (Elf64_Phdr){ .p_type = small[i].p_type,
                                      .p_offset = small[i].p_offset,
                                      .p_vaddr = small[i].p_vaddr,
                                      .p_paddr = small[i].p_paddr,
                                      .p_filesz = small[i].p_filesz,
                                      .p_memsz = small[i].p_memsz,
                                      .p_align = small[i].p_align };
    return 0;
}

static int elf_load_segment(struct memory *memory, const struct image *image,
                            const Elf64_Phdr *phdr, unsigned index, struct error *error)
{
    const struct layout_area *taken;
    void *to;
    int err;

    if (phdr->p_filesz > phdr->p_memsz)
        return error_set(error, -ENOEXEC,
                         "%s: segment %u: p_filesz 0x%" PRIx64 " is larger than p_memsz 0x%" PRIx64
                         "; build it again",
                         image->name, index, phdr->p_filesz, phdr->p_memsz);
    if (phdr->p_paddr + phdr->p_memsz < phdr->p_paddr)
        return error_set(error, -ENOEXEC,
                         "%s: segment %u: p_paddr 0x%" PRIx64 " + p_memsz 0x%" PRIx64
                         " wraps around; build it again",
                         image->name, index, phdr->p_paddr, phdr->p_memsz);
    if (phdr->p_offset > image->size || phdr->p_filesz > image->size - phdr->p_offset)
        return image_fail(image, -ENODATA, "a segment's p_offset and p_filesz", error);
    taken = layout_taken(phdr->p_paddr, phdr->p_paddr + phdr->p_memsz);
    if (taken)
        return error_set(error, -ENOSPC,
                         "%s: segment %u: p_paddr 0x%" PRIx64 " overlaps %s at 0x%" PRIx64
                         "-0x%" PRIx64 "; link it at 1 MiB or above",
                         image->name, index, phdr->p_paddr, taken->what, taken->start,
                         taken->end - 1);
    to = memory_at(memory, phdr->p_paddr, phdr->p_memsz);
    if (!to)
        return error_field(error, -ENOSPC, BOOT_FIELD_MEMORY,
                           "%s: segment %u: 0x%" PRIx64 "-0x%" PRIx64
                           " does not fit into RAM, which ends at 0x%" PRIx64
                           "; give more memory or link it lower",
                           image->name, index, phdr->p_paddr, phdr->p_paddr + phdr->p_memsz - 1,
                           memory_low_end(memory));
    err = phdr->p_filesz ? image_read(image, phdr->p_offset, to, phdr->p_filesz) : 0;
    return err ? image_fail(image, err, "a segment", error) : 0;
}

static uint64_t elf_round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* A note and the beginning of its name, as they lie in the file. */
struct note {
    Elf64_Nhdr header;
    char name[NOTE_NAME_BYTES_MAX];
};

/* Looks at one note whose name and descriptor are inside its segment. */
static int elf_look_at_note(const struct image *image, const struct note *whole, uint64_t desc_at,
                            struct elf *elf, struct error *error)
{
    const Elf64_Nhdr *note = &whole->header;
    const char *name = whole->name;
    int err;

    if (note->n_namesz > sizeof(whole->name))
        return 0;
    if (note->n_namesz == sizeof("Linux") && memcmp(name, "Linux", sizeof("Linux")) == 0)
        elf->is_linux = true;
    if (elf->has_pvh || note->n_type != XEN_ELFNOTE_PHYS32_ENTRY ||
        note->n_namesz != sizeof("Xen") || memcmp(name, "Xen", sizeof("Xen")) != 0)
        return 0;
    if (note->n_descsz != 4 && note->n_descsz != 8)
        return error_set(error, -ENOEXEC,
                         "%s: the PVH note holds %u bytes, not 4 or "
                         "8; build it again",
                         image->name, note->n_descsz);
    err = image_read(image, desc_at, &elf->pvh_entry, note->n_descsz);
    if (err)
        return image_fail(image, err, "the PVH note", error);
    elf->has_pvh = true;
    return 0;
}

/* Looks at all notes of one PT_NOTE segment. 0 or -errno with the text. */
static int elf_scan_notes(const struct image *image, const Elf64_Phdr *phdr, struct elf *elf,
                          struct error *error)
{
    /* 8-byte alignment pads differently (gABI, Note Section); Xen's notes have 4. */
    uint64_t unit = phdr->p_align == 8 ? 8 : 4;
    uint64_t at = 0, size = phdr->p_filesz;

    if (size > NOTES_BYTES_MAX)
        return error_set(error, -ENOEXEC,
                         "%s: a note segment's p_filesz 0x%" PRIx64
                         " is larger than 0x%x; build it again",
                         image->name, size, NOTES_BYTES_MAX);
    if (phdr->p_offset > image->size || size > image->size - phdr->p_offset)
        return image_fail(image, -ENODATA, "a note segment's p_offset and p_filesz", error);
    while (at < size && size - at >= sizeof(Elf64_Nhdr)) {
        struct note note = { .name = "" };
        uint64_t desc_at, left = size - at;
        int err = image_read(image, phdr->p_offset + at, &note,
                             left < sizeof(note) ? left : sizeof(note));

        if (err)
            return image_fail(image, err, "a note", error);
        /* Sizes are 32 bits and positions below 64 KiB: the sums do not overflow. */
        desc_at = elf_round_up(at + sizeof(note.header) + note.header.n_namesz, unit);
        if (desc_at + note.header.n_descsz > size)
            return error_set(error, -ENOEXEC,
                             "%s: a note is larger than its segment; build it "
                             "again",
                             image->name);
        err = elf_look_at_note(image, &note, phdr->p_offset + desc_at, elf, error);
        if (err)
            return err;
        at = elf_round_up(desc_at + note.header.n_descsz, unit);
    }
    return 0;
}

int elf_open(const struct image *image, struct elf *elf, struct error *error)
{
    Elf64_Ehdr header;
    bool is_64 = false;
    int err;

    /* phdrs are good up to nphdrs. */
    memset(elf, 0, offsetof(struct elf, phdrs));
    err = elf_read_header(image, &header, &is_64, error);
    if (!err)
        err = elf_check_header(image, &header, is_64, error);
    if (!err)
        err = elf_read_phdrs(image, &header, is_64, elf, error);
    elf->e_entry = header.e_entry;
    for (unsigned i = 0; !err && i < elf->nphdrs; i++) {
        if (elf->phdrs[i].p_type == PT_NOTE)
            err = elf_scan_notes(image, &elf->phdrs[i], elf, error);
    }
    return err;
}

/* Whether a segment is loaded to this address, which a 32-bit entry can be. */
static bool elf_is_loaded(const struct elf *elf, uint64_t gpa)
{
    for (unsigned i = 0; i < elf->nphdrs; i++) {
        const Elf64_Phdr *phdr = &elf->phdrs[i];

        if (phdr->p_type == PT_LOAD && gpa <= UINT32_MAX && gpa >= phdr->p_paddr &&
            gpa - phdr->p_paddr < phdr->p_memsz)
            return true;
    }
    return false;
}

int elf_pvh_entry(const struct image *image, const struct elf *elf, uint32_t *entry,
                  struct error *error)
{
    if (!elf->has_pvh)
        return error_set(
            error, -ENOEXEC,
            "%s: an ELF kernel with neither a PVH entry (note XEN_ELFNOTE_PHYS32_ENTRY) nor a "
            "Multiboot header in its first 8 KiB; build it with one, Linux with CONFIG_PVH=y",
            image->name);
    if (!elf_is_loaded(elf, elf->pvh_entry))
        return error_set(error, -ENOEXEC,
                         "%s: PVH entry 0x%" PRIx64
                         " lies in no segment below 4 GiB; link the kernel again",
                         image->name, elf->pvh_entry);
    *entry = (uint32_t)elf->pvh_entry;
    return 0;
}

int elf_plain_entry(const struct image *image, const struct elf *elf, uint32_t *entry,
                    struct error *error)
{
    uint64_t gpa = elf->e_entry;

    for (unsigned i = 0; i < elf->nphdrs; i++) {
        const Elf64_Phdr *phdr = &elf->phdrs[i];

        if (phdr->p_type == PT_LOAD && elf->e_entry >= phdr->p_vaddr &&
            elf->e_entry - phdr->p_vaddr < phdr->p_memsz) {
            gpa = elf->e_entry - phdr->p_vaddr + phdr->p_paddr;
            break;
        }
    }
    if (!elf_is_loaded(elf, gpa))
        return error_set(error, -ENOEXEC,
                         "%s: e_entry 0x%" PRIx64
                         " lies in no segment below 4 GiB; link the kernel again",
                         image->name, elf->e_entry);
    *entry = (uint32_t)gpa;
    return 0;
}

int elf_load_segments(struct memory *memory, const struct image *image, const struct elf *elf,
                      struct elf_info *out, struct error *error)
{
    int err = 0;

    *out = (struct elf_info){ .start = UINT64_MAX };
    for (unsigned i = 0; i < elf->nphdrs && !err; i++) {
        const Elf64_Phdr *phdr = &elf->phdrs[i];

        if (phdr->p_type != PT_LOAD || !phdr->p_memsz)
            continue;
        err = elf_load_segment(memory, image, phdr, i, error);
        if (phdr->p_paddr < out->start)
            out->start = phdr->p_paddr;
        if (phdr->p_paddr + phdr->p_memsz > out->end)
            out->end = phdr->p_paddr + phdr->p_memsz;
        out->segments++;
    }
    return err;
}

int elf_load_image(struct memory *memory, const struct image *image, struct elf_info *out,
                   struct error *error)
{
    struct elf elf;
    uint32_t entry = 0;
    int err = elf_open(image, &elf, error);

    *out = (struct elf_info){ .start = UINT64_MAX };
    if (!err)
        err = elf_pvh_entry(image, &elf, &entry, error);
    if (!err)
        err = elf_load_segments(memory, image, &elf, out, error);
    out->entry = entry;
    return err;
}

int elf_load(struct memory *memory, const void *image, size_t bytes, struct elf_info *out,
             struct error *error)
{
    struct image source = image_in_memory("kernel image", image, bytes);

    return elf_load_image(memory, &source, out, error);
}
