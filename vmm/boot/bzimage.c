#include "vmm/boot/bzimage.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "vmm/boot/layout.h"
#include "vmm/boot/long_mode.h"
#include "vmm/boot/memory_map.h"

#define HEADER_AT         0x1f1u /* in the file, and in boot_params */
#define HEADER_MAGIC_AT   0x202u
#define HEADER_MAGIC      "HdrS"
#define BOOT_FLAG         0xaa55u
#define VERSION_MIN       0x20cu
#define SECTOR_BYTES      512u
#define SETUP_SECTS_NONE  4u /* what 0 means, for history's sake */
#define ENTRY_64          0x200u
#define LOADER_UNKNOWN    0xffu
#define VIDEO_MODE_NORMAL 0xffffu

_Static_assert(offsetof(struct boot_params, hdr) == HEADER_AT, "boot.rst, the real-mode header");
_Static_assert(sizeof(struct boot_params) == 0x1000, "zero-page.rst");
_Static_assert(LAYOUT_START_INFO_GPA + sizeof(struct boot_params) <= LAYOUT_FDT_GPA, "room");

bool bzimage_recognise(const struct image *image)
{
    char magic[4];

    return image_read(image, HEADER_MAGIC_AT, magic, sizeof(magic)) == 0 &&
           memcmp(magic, HEADER_MAGIC, sizeof(magic)) == 0;
}

/* As much of the header as the file's kernel has: its jump instruction is just behind it. */
static int bzimage_read_header(const struct image *image, struct setup_header *header,
                               struct error *error)
{
    uint8_t jump = 0;
    uint64_t bytes;
    int err = image_read(image, HEADER_MAGIC_AT - 1, &jump, 1);

    memset(header, 0, sizeof(*header));
    bytes = HEADER_MAGIC_AT + jump - HEADER_AT;
    if (bytes > sizeof(*header))
        bytes = sizeof(*header);
    if (!err)
        err = image_read(image, HEADER_AT, header, bytes);
    return err ? image_fail(image, err, "the setup header", error) : 0;
}

static int bzimage_check_header(const struct image *image, const struct setup_header *header,
                                struct error *error)
{
    if (header->boot_flag != BOOT_FLAG)
        return error_set(error, -ENOEXEC,
                         "%s: boot_flag is 0x%x, not 0x%x: a broken bzImage; build it again",
                         image->name, header->boot_flag, BOOT_FLAG);
    if (header->version < VERSION_MIN)
        return error_set(error, -ENOEXEC,
                         "%s: a bzImage of boot protocol %u.%02u, older than 2.12 (Linux 3.8); "
                         "give a newer one",
                         image->name, header->version >> 8, header->version & 0xff);
    if (!(header->loadflags & LOADED_HIGH))
        return error_set(error, -ENOEXEC,
                         "%s: a zImage (loadflags lacks LOADED_HIGH); build a bzImage",
                         image->name);
    if (!(header->xloadflags & XLF_KERNEL_64))
        return error_set(error, -ENOEXEC,
                         "%s: a bzImage of a 32-bit kernel (xloadflags lacks XLF_KERNEL_64); give "
                         "one for x86-64, or a vmlinux with CONFIG_PVH=y",
                         image->name);
    if (header->relocatable_kernel &&
        (!header->kernel_alignment || header->kernel_alignment & (header->kernel_alignment - 1)))
        return error_set(error, -ENOEXEC,
                         "%s: kernel_alignment 0x%x is not a power of two; build it again",
                         image->name, header->kernel_alignment);
    if (!header->cmdline_size || !header->init_size)
        return error_set(error, -ENOEXEC, "%s: %s is 0; build it again", image->name,
                         header->init_size ? "cmdline_size" : "init_size");
    return 0;
}

int bzimage_open(const struct image *image, struct bzimage *bzimage, struct error *error)
{
    struct setup_header *header = &bzimage->header;
    uint64_t sectors, wanted;
    int err = bzimage_read_header(image, header, error);

    if (!err)
        err = bzimage_check_header(image, header, error);
    if (err)
        return err;
    sectors = header->setup_sects ? header->setup_sects : SETUP_SECTS_NONE;
    bzimage->payload_at = (sectors + 1) * SECTOR_BYTES;
    /* In paragraphs of 16 bytes, the last of which need not be whole. */
    wanted = (uint64_t)header->syssize * 16;
    if (wanted <= ENTRY_64)
        return error_set(error, -ENOEXEC,
                         "%s: syssize is %u, too little for a kernel; build it again", image->name,
                         header->syssize);
    if (bzimage->payload_at > image->size || wanted - 15 > image->size - bzimage->payload_at)
        return image_fail(image, -ENODATA, "the kernel (setup_sects and syssize)", error);
    bzimage->payload_bytes = wanted < image->size - bzimage->payload_at
                                 ? wanted
                                 : image->size - bzimage->payload_at;
    return 0;
}

/* Where the kernel goes. Nothing overflows: what is added has been seen to be in RAM. */
static int bzimage_place(const struct memory *memory, const struct image *image,
                         const struct bzimage *bzimage, uint64_t *start, uint64_t *end,
                         struct error *error)
{
    const struct setup_header *header = &bzimage->header;
    uint64_t low_end = memory_low_end(memory);
    uint64_t needed = header->init_size > bzimage->payload_bytes ? header->init_size
                                                                 : bzimage->payload_bytes;
    uint64_t wanted = header->pref_address ? header->pref_address : LAYOUT_HIGH_MEMORY_GPA;
    uint64_t mask = (uint64_t)header->kernel_alignment - 1;

    /*
     * One that is relocatable would only move itself to pref_address from below; one that
     * is not does so from 1 MiB. Either decompresses itself from there on.
     */
    if (wanted < low_end && header->relocatable_kernel)
        wanted = (wanted + mask) & ~mask;
    if (wanted < LAYOUT_HIGH_MEMORY_GPA)
        return error_set(error, -ENOEXEC,
                         "%s: pref_address 0x%" PRIx64 " is below 1 MiB; build it again",
                         image->name, wanted);
    if (wanted > low_end || needed > low_end - wanted)
        return error_field(error, -ENOSPC, BOOT_FIELD_MEMORY,
                           "%s: the kernel needs %" PRIu64 " bytes (init_size) from 0x%" PRIx64
                           " (pref_address), but RAM ends at 0x%" PRIx64 "; give more memory",
                           image->name, needed, wanted, low_end);
    *start = header->relocatable_kernel ? wanted : LAYOUT_HIGH_MEMORY_GPA;
    *end = wanted + needed;
    return 0;
}

int bzimage_load(struct memory *memory, const struct image *image, const struct bzimage *bzimage,
                 uint64_t *start, uint64_t *end, struct error *error)
{
    int err = bzimage_place(memory, image, bzimage, start, end, error);
    void *to;

    if (err)
        return err;
    to = memory_at(memory, *start, bzimage->payload_bytes);
    err = to ? image_read(image, bzimage->payload_at, to, bzimage->payload_bytes) : -EFAULT;
    return err ? image_fail(image, err, "the kernel", error) : 0;
}

uint64_t bzimage_initrd_end(const struct bzimage *bzimage)
{
    return (uint64_t)bzimage->header.initrd_addr_max + 1;
}

static int bzimage_write_cmdline(struct memory *memory, const struct image *image,
                                 const struct setup_header *header, const char *cmdline,
                                 struct error *error)
{
    size_t bytes = strlen(cmdline) + 1;
    uint64_t max = LAYOUT_STRINGS_BYTES - 1;
    bool kernels = header->cmdline_size < max;

    if (kernels)
        max = header->cmdline_size;
    if (bytes - 1 > max)
        return error_field(error, -E2BIG, BOOT_FIELD_BOOT_ARGS,
                           "%s: boot arguments are %zu bytes long; the limit is %" PRIu64
                           "%s; shorten them",
                           image->name, bytes - 1, max, kernels ? " (cmdline_size)" : "");
    memcpy(memory_at(memory, LAYOUT_STRINGS_GPA, LAYOUT_STRINGS_BYTES), cmdline, bytes);
    return 0;
}

int bzimage_write(struct memory *memory, const struct image *image, const struct bzimage *bzimage,
                  const struct bzimage_info *info, struct vcpu_entry *entry, struct error *error)
{
    struct boot_params *params = memory_at(memory, LAYOUT_START_INFO_GPA, sizeof(*params));
    struct memory_range ranges[MEMORY_MAP_MAX];
    int err = bzimage_write_cmdline(memory, image, &bzimage->header, info->cmdline, error);

    if (err)
        return err;
    params->hdr = bzimage->header;
    params->hdr.type_of_loader = LOADER_UNKNOWN;
    params->hdr.vid_mode = VIDEO_MODE_NORMAL;
    params->hdr.code32_start = (uint32_t)info->start;
    params->hdr.cmd_line_ptr = LAYOUT_STRINGS_GPA;
    params->hdr.ramdisk_image = (uint32_t)info->initrd.gpa;
    params->hdr.ramdisk_size = (uint32_t)info->initrd.bytes;
    params->acpi_rsdp_addr = info->rsdp_gpa;
    params->e820_entries = (uint8_t)memory_map(memory, ranges);
    for (unsigned i = 0; i < params->e820_entries; i++)
        params->e820_table[i] = (struct boot_e820_entry){ .addr = ranges[i].gpa,
                                                          .size = ranges[i].bytes,
                                                          .type = ranges[i].type };
    *entry = (struct vcpu_entry){ .rip = info->start + ENTRY_64, .rsi = LAYOUT_START_INFO_GPA };
    long_mode_write(memory, memory_low_end(memory), entry);
    return 0;
}
