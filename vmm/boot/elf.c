#include "vmm/boot/elf.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/boot/layout.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18 /* xen/include/public/elfnote.h */
#define NOTES_BYTES_MAX          (64u << 10)
#define NOTE_NAME_BYTES_MAX      16
#define WANTED                   "give a 64-bit x86 ELF kernel with a PVH entry"

static int fail_read(const struct image *image, int err, const char *what, struct boot_error *error)
{
    if (err == -ENODATA)
        return boot_fail(error, err,
                         "%s: truncated: %s beyond the end of the file (%" PRIu64
                         " bytes); copy or build it again",
                         image->name, what, image->size);
    return boot_fail(error, err, "%s: cannot read %s: %s", image->name, what, strerror(-err));
}

static int read_header(const struct image *image, Elf64_Ehdr *header, struct boot_error *error)
{
    const unsigned char *ident = header->e_ident;
    int err;

    memset(header, 0, sizeof(*header));
    if (image->size < EI_NIDENT)
        return boot_fail(error, -ENOEXEC, "%s: too short for an ELF file; " WANTED, image->name);
    err = image_read(image, 0, header, EI_NIDENT);
    if (err)
        return fail_read(image, err, "ELF identification", error);
    if (memcmp(ident, ELFMAG, SELFMAG) != 0)
        return boot_fail(error, -ENOEXEC,
                         "%s: not an ELF file (no magic number); " WANTED ", for Linux its vmlinux",
                         image->name);
    if (ident[EI_CLASS] != ELFCLASS64)
        return boot_fail(error, -ENOEXEC, "%s: e_ident class is %u, not 64-bit; " WANTED,
                         image->name, ident[EI_CLASS]);
    if (ident[EI_DATA] != ELFDATA2LSB)
        return boot_fail(error, -ENOEXEC, "%s: e_ident data is %u, not little-endian; " WANTED,
                         image->name, ident[EI_DATA]);
    err = image_read(image, 0, header, sizeof(*header));
    if (err)
        return fail_read(image, err, "ELF header", error);
    if (header->e_machine != EM_X86_64)
        return boot_fail(error, -ENOEXEC, "%s: e_machine is %u, not %u (x86-64); " WANTED,
                         image->name, header->e_machine, EM_X86_64);
    if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
        return boot_fail(error, -ENOEXEC,
                         "%s: e_type is %u, not an executable; link the kernel "
                         "first",
                         image->name, header->e_type);
    if (header->e_phentsize != sizeof(Elf64_Phdr))
        return boot_fail(error, -ENOEXEC, "%s: e_phentsize is %u, not %zu; build it again",
                         image->name, header->e_phentsize, sizeof(Elf64_Phdr));
    if (!header->e_phnum || header->e_phnum > ELF_SEGMENTS_MAX)
        return boot_fail(error, -ENOEXEC,
                         "%s: e_phnum is %u, not 1 to %d; link the kernel with "
                         "program headers",
                         image->name, header->e_phnum, ELF_SEGMENTS_MAX);
    return 0;
}

/* Whether [a, a + a_len) and [b, b_end) have an address in common; neither wraps. */
static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_end)
{
    return a < b_end && b < a + a_len;
}

static int load_segment(struct memory *memory, const struct image *image, const Elf64_Phdr *phdr,
                        unsigned index, struct boot_error *error)
{
    void *to;
    int err;

    if (phdr->p_filesz > phdr->p_memsz)
        return boot_fail(error, -ENOEXEC,
                         "%s: segment %u: p_filesz 0x%" PRIx64 " is larger than p_memsz 0x%" PRIx64
                         "; build it again",
                         image->name, index, phdr->p_filesz, phdr->p_memsz);
    if (phdr->p_paddr + phdr->p_memsz < phdr->p_paddr)
        return boot_fail(error, -ENOEXEC,
                         "%s: segment %u: p_paddr 0x%" PRIx64 " + p_memsz 0x%" PRIx64
                         " wraps around; build it again",
                         image->name, index, phdr->p_paddr, phdr->p_memsz);
    if (phdr->p_offset > image->size || phdr->p_filesz > image->size - phdr->p_offset)
        return fail_read(image, -ENODATA, "a segment's p_offset and p_filesz", error);
    if (overlap(phdr->p_paddr, phdr->p_memsz, LAYOUT_START_INFO_GPA, LAYOUT_END_GPA))
        return boot_fail(
            error, -ENOSPC,
            "%s: segment %u: p_paddr 0x%" PRIx64
            " overlaps the boot structures at 0x%llx-0x%llx; link it at 1 MiB or above",
            image->name, index, phdr->p_paddr, LAYOUT_START_INFO_GPA, LAYOUT_END_GPA - 1);
    to = memory_at(memory, phdr->p_paddr, phdr->p_memsz);
    if (!to)
        return boot_fail(error, -ENOSPC,
                         "%s: segment %u: 0x%" PRIx64 "-0x%" PRIx64
                         " does not fit into RAM, which ends at 0x%" PRIx64
                         "; give more with --memory or link it lower",
                         image->name, index, phdr->p_paddr, phdr->p_paddr + phdr->p_memsz - 1,
                         memory_low_end(memory));
    err = phdr->p_filesz ? image_read(image, phdr->p_offset, to, phdr->p_filesz) : 0;
    return err ? fail_read(image, err, "a segment", error) : 0;
}

static uint64_t round_up(uint64_t value, uint64_t unit)
{
    return (value + unit - 1) / unit * unit;
}

/* Looks for the PVH note in one PT_NOTE segment. Sets *found; 0 or -errno with the text. */
static int scan_notes(const struct image *image, const Elf64_Phdr *phdr, bool *found,
                      uint64_t *entry, struct boot_error *error)
{
    /* 8-byte alignment pads differently (gABI, Note Section); Xen's notes have 4. */
    uint64_t unit = phdr->p_align == 8 ? 8 : 4;
    uint64_t at = 0, size = phdr->p_filesz;

    if (size > NOTES_BYTES_MAX)
        return boot_fail(error, -ENOEXEC,
                         "%s: a note segment's p_filesz 0x%" PRIx64
                         " is larger than 0x%x; build it again",
                         image->name, size, NOTES_BYTES_MAX);
    if (phdr->p_offset > image->size || size > image->size - phdr->p_offset)
        return fail_read(image, -ENODATA, "a note segment's p_offset and p_filesz", error);
    while (size - at >= sizeof(Elf64_Nhdr)) {
        char name[NOTE_NAME_BYTES_MAX] = { 0 };
        uint64_t name_at = at + sizeof(Elf64_Nhdr), desc_at, next;
        Elf64_Nhdr note;
        int err = image_read(image, phdr->p_offset + at, &note, sizeof(note));

        if (err)
            return fail_read(image, err, "a note", error);
        /* Sizes are 32 bits and positions below 64 KiB: the sums do not overflow. */
        desc_at = round_up(name_at + note.n_namesz, unit);
        next = round_up(desc_at + note.n_descsz, unit);
        if (desc_at + note.n_descsz > size)
            return boot_fail(error, -ENOEXEC,
                             "%s: a note is larger than its segment; build it "
                             "again",
                             image->name);
        if (note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.n_namesz == sizeof("Xen")) {
            err = image_read(image, phdr->p_offset + name_at, name, note.n_namesz);
            if (err)
                return fail_read(image, err, "a note", error);
            if (memcmp(name, "Xen", sizeof("Xen")) == 0) {
                if (note.n_descsz != 4 && note.n_descsz != 8)
                    return boot_fail(error, -ENOEXEC,
                                     "%s: the PVH note holds %u bytes, not 4 or "
                                     "8; build it again",
                                     image->name, note.n_descsz);
                *entry = 0;
                err = image_read(image, phdr->p_offset + desc_at, entry, note.n_descsz);
                if (err)
                    return fail_read(image, err, "the PVH note", error);
                *found = true;
                return 0;
            }
        }
        if (next >= size)
            break;
        at = next;
    }
    return 0;
}

static int check_entry(const struct image *image, const Elf64_Phdr *phdrs, unsigned count,
                       bool found, uint64_t entry, struct boot_error *error)
{
    if (!found)
        return boot_fail(error, -ENOEXEC,
                         "%s: no PVH entry (note XEN_ELFNOTE_PHYS32_ENTRY); build "
                         "the kernel with one, Linux with CONFIG_PVH=y",
                         image->name);
    for (unsigned i = 0; i < count; i++) {
        const Elf64_Phdr *phdr = &phdrs[i];

        if (phdr->p_type == PT_LOAD && entry <= UINT32_MAX && entry >= phdr->p_paddr &&
            entry - phdr->p_paddr < phdr->p_memsz)
            return 0;
    }
    return boot_fail(error, -ENOEXEC,
                     "%s: PVH entry 0x%" PRIx64
                     " lies in no segment below 4 GiB; link the kernel again",
                     image->name, entry);
}

int elf_load_image(struct memory *memory, const struct image *image, struct elf_info *out,
                   struct boot_error *error)
{
    Elf64_Phdr phdrs[ELF_SEGMENTS_MAX];
    Elf64_Ehdr header;
    bool found = false;
    uint64_t entry = 0;
    int err;

    *out = (struct elf_info){ .start = UINT64_MAX };
    err = read_header(image, &header, error);
    if (err)
        return err;
    err = image_read(image, header.e_phoff, phdrs, header.e_phnum * sizeof(phdrs[0]));
    if (err)
        return fail_read(image, err, "the program headers (e_phoff)", error);

    for (unsigned i = 0; i < header.e_phnum && !err && !found; i++) {
        if (phdrs[i].p_type == PT_NOTE)
            err = scan_notes(image, &phdrs[i], &found, &entry, error);
    }
    if (!err)
        err = check_entry(image, phdrs, header.e_phnum, found, entry, error);
    for (unsigned i = 0; i < header.e_phnum && !err; i++) {
        const Elf64_Phdr *phdr = &phdrs[i];

        if (phdr->p_type != PT_LOAD || !phdr->p_memsz)
            continue;
        err = load_segment(memory, image, phdr, i, error);
        if (phdr->p_paddr < out->start)
            out->start = phdr->p_paddr;
        if (phdr->p_paddr + phdr->p_memsz > out->end)
            out->end = phdr->p_paddr + phdr->p_memsz;
        out->segments++;
    }
    out->entry = (uint32_t)entry;
    return err;
}

int elf_load(struct memory *memory, const void *image, size_t bytes, struct elf_info *out,
             struct boot_error *error)
{
    struct image source = image_in_memory("kernel image", image, bytes);

    return elf_load_image(memory, &source, out, error);
}
