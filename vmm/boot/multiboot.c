#include "vmm/boot/multiboot.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "vmm/boot/layout.h"

#define HEADER_MAGIC    0x1badb002u
#define HEADER_2_MAGIC  0xe85250d6u
#define HEADER_WORDS    3 /* magic, flags, checksum */
#define HAS_ADDRESSES   (1u << 16)
#define NEEDS_MASK      0xffffu /* what a loader must understand and provide */
#define NEEDS_KNOWN     0x3u    /* modules on pages, memory information: always so */
#define NEEDS_VIDEO     0x4u
#define FROM_FILE_START 0xffffffff /* load_addr: GRUB's "from the start of the file" */
#define ADDRESS_FIELDS  5

/* Whether the words are a header of Multiboot 2: its length and checksum fit too. */
static bool multiboot_is_header_2(const uint32_t *words, size_t count)
{
    return count >= 4 && words[0] == HEADER_2_MAGIC &&
           words[0] + words[1] + words[2] + words[3] == 0;
}

int multiboot_find(const struct image *image, struct multiboot *header, struct error *error)
{
    uint32_t words[MULTIBOOT_SEARCH_BYTES / sizeof(uint32_t)];
    uint64_t bytes = image->size < sizeof(words) ? image->size : sizeof(words);
    size_t count = bytes / sizeof(words[0]);
    int found = MULTIBOOT_NONE;
    int err = image_read(image, 0, words, count * sizeof(words[0]));

    if (err)
        return error_set(error, err, "%s: cannot read its start: %s; see to the file", image->name,
                         strerror(-err));
    for (size_t i = 0; i + HEADER_WORDS <= count; i++) {
        if (multiboot_is_header_2(&words[i], count - i))
            found = MULTIBOOT_2;
        if (words[i] != HEADER_MAGIC || words[i] + words[i + 1] + words[i + 2] != 0)
            continue;
        *header = (struct multiboot){ .at = (uint32_t)(i * sizeof(words[0])),
                                      .flags = words[i + 1] };
        if (header->flags & HAS_ADDRESSES) {
            /* Cut off by the end of the 8 KiB it is no header. */
            if (i + HEADER_WORDS + ADDRESS_FIELDS > count)
                continue;
            memcpy(&header->header_addr, &words[i + HEADER_WORDS],
                   ADDRESS_FIELDS * sizeof(words[0]));
        }
        return MULTIBOOT_1;
    }
    return found;
}

static int multiboot_fail_fields(const struct image *image, const char *what, uint64_t value,
                                 struct error *error)
{
    return error_set(error, -ENOEXEC,
                     "%s: Multiboot header: %s (0x%" PRIx64 "); build the kernel again",
                     image->name, what, value);
}

/* By the address fields (specification, 3.1.3). All sums are of 32-bit values, in 64 bits. */
static int multiboot_load_by_fields(struct memory *memory, const struct image *image,
                                    const struct multiboot *header, struct multiboot_kernel *kernel,
                                    struct error *error)
{
    bool from_start = header->load_addr == FROM_FILE_START;
    uint64_t load = from_start ? (uint64_t)header->header_addr - header->at : header->load_addr;
    uint64_t before = (uint64_t)header->header_addr - load; /* bytes from load to header */
    const struct layout_area *taken;
    uint64_t from, bytes;
    void *to;
    int err;

    if (from_start && header->header_addr < header->at)
        return multiboot_fail_fields(image, "header_addr is lower than its place in the file",
                                     header->header_addr, error);
    if (header->header_addr < load)
        return multiboot_fail_fields(image, "header_addr is below load_addr", header->header_addr,
                                     error);
    if (before > header->at)
        return multiboot_fail_fields(image, "load_addr lies before the start of the file", load,
                                     error);
    from = header->at - before;
    if (header->load_end_addr && header->load_end_addr <= load)
        return multiboot_fail_fields(image, "load_end_addr is not above load_addr",
                                     header->load_end_addr, error);
    bytes = header->load_end_addr ? header->load_end_addr - load : image->size - from;
    if (bytes > image->size - from)
        return error_set(error, -ENODATA,
                         "%s: truncated: load_end_addr 0x%x is beyond the end of the file (%" PRIu64
                         " bytes); copy or build it again",
                         image->name, header->load_end_addr, image->size);
    *kernel = (struct multiboot_kernel){ .entry = header->entry_addr,
                                         .start = load,
                                         .end = load + bytes };
    if (header->bss_end_addr && header->bss_end_addr < kernel->end)
        return multiboot_fail_fields(image, "bss_end_addr is below load_end_addr",
                                     header->bss_end_addr, error);
    if (header->bss_end_addr)
        kernel->end = header->bss_end_addr;
    if (kernel->entry < kernel->start || kernel->entry >= kernel->end)
        return multiboot_fail_fields(image, "entry_addr is not in the kernel", kernel->entry,
                                     error);
    taken = layout_taken(kernel->start, kernel->end);
    if (taken)
        return error_set(error, -ENOSPC,
                         "%s: load_addr 0x%" PRIx64 " overlaps %s at 0x%" PRIx64 "-0x%" PRIx64
                         "; link it at 1 MiB or above",
                         image->name, load, taken->what, taken->start, taken->end - 1);
    to = memory_at(memory, load, kernel->end - load);
    if (!to)
        return error_field(error, -ENOSPC, BOOT_FIELD_MEMORY,
                           "%s: 0x%" PRIx64 "-0x%" PRIx64
                           " does not fit into RAM, which ends at 0x%" PRIx64
                           "; give more memory or link it lower",
                           image->name, load, kernel->end - 1, memory_low_end(memory));
    err = image_read(image, from, to, bytes);
    return err ? error_set(error, err, "%s: cannot read the kernel: %s; see to the file",
                           image->name, strerror(-err))
               : 0;
}

int multiboot_load(struct memory *memory, const struct image *image, const struct multiboot *header,
                   const struct elf *elf, struct multiboot_kernel *kernel, struct error *error)
{
    uint32_t needs = header->flags & NEEDS_MASK;
    struct elf_info info;
    int err;

    if (needs & NEEDS_VIDEO)
        return error_set(error, -ENOEXEC,
                         "%s: the Multiboot header asks for a video mode (flags bit 2), and there "
                         "is no display; build the kernel without",
                         image->name);
    if (needs & ~NEEDS_KNOWN)
        return error_set(error, -ENOEXEC,
                         "%s: the Multiboot header asks for features 0x%x that no loader has; "
                         "build the kernel again",
                         image->name, needs & ~NEEDS_KNOWN);
    if (header->flags & HAS_ADDRESSES)
        return multiboot_load_by_fields(memory, image, header, kernel, error);
    if (!elf)
        return error_set(error, -ENOEXEC,
                         "%s: a Multiboot header without addresses (flags bit 16) in a file that "
                         "is not ELF; build an ELF kernel, or with the address fields",
                         image->name);
    *kernel = (struct multiboot_kernel){ .entry = 0 };
    err = elf_plain_entry(image, elf, &kernel->entry, error);
    if (!err)
        err = elf_load_segments(memory, image, elf, &info, error);
    if (err)
        return err;
    kernel->start = info.start;
    kernel->end = info.end;
    return 0;
}
