/*
 * libFuzzer: broken and hostile bzImages, and initrds of any size. The input is four bytes
 * of the initrd's size, then the image, loaded into a small memory. Whatever it holds, the
 * loader must stay inside file and memory; what it loads must be clear of the boot
 * structures, of each other, and below initrd_addr_max.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/boot/bzimage.h"
#include "vmm/boot/layout.h"

#define MEMORY_BYTES (4ull << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file of so many bytes, by a path. */
static const char *initrd_path(uint32_t bytes)
{
    static char path[64];
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("initrd", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, bytes))
        abort();
    return path;
}

static int load(struct memory *memory, const struct image *image, uint32_t initrd_bytes,
                struct error *error)
{
    struct bzimage_info info = { .cmdline = "fuzz", .rsdp_gpa = LAYOUT_ACPI_GPA };
    struct initrd_room room = { .limit = "initrd_addr_max" };
    struct vcpu_entry entry;
    struct bzimage bzimage;
    uint64_t end;
    int err = bzimage_open(image, &bzimage, error);

    if (!err)
        err = bzimage_load(memory, image, &bzimage, &info.start, &end, error);
    if (err)
        return err;
    if (info.start < LAYOUT_HIGH_MEMORY_GPA || info.start >= end || end > MEMORY_BYTES ||
        bzimage.payload_bytes > end - info.start)
        abort();
    room.start = end;
    room.end = bzimage_initrd_end(&bzimage);
    err = initrd_load(memory, initrd_path(initrd_bytes), &room, &info.initrd, error);
    if (err)
        return err;
    if (info.initrd.gpa < end || info.initrd.gpa + info.initrd.bytes > MEMORY_BYTES ||
        info.initrd.gpa + info.initrd.bytes > room.end || info.initrd.bytes != initrd_bytes)
        abort();
    err = bzimage_write(memory, image, &bzimage, &info, &entry, error);
    if (!err && (entry.rip < info.start || entry.rip >= info.start + bzimage.payload_bytes))
        abort();
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory memory = { .vm_fd = -1, .bytes = MEMORY_BYTES, .nslots = 1 };
    struct error error = { .text = "" };
    struct image image;
    uint32_t initrd_bytes;
    void *ram;
    int err;

    if (size < sizeof(initrd_bytes))
        return 0;
    memcpy(&initrd_bytes, data, sizeof(initrd_bytes));
    image = image_in_memory("kernel", data + sizeof(initrd_bytes), size - sizeof(initrd_bytes));
    /* Untouched pages of it cost nothing: calloc of this size is a fresh mapping. */
    ram = calloc(1, MEMORY_BYTES);
    if (!ram)
        abort();
    memory.slots[0] = (struct memory_slot){ .bytes = MEMORY_BYTES, .hva = ram };
    bzimage_recognise(&image);
    err = load(&memory, &image, initrd_bytes, &error);
    if (err > 0 || (err < 0) != (error.text[0] != 0))
        abort();
    free(ram);
    return 0;
}
