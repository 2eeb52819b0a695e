#include "vmm/boot/initrd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/boot/image.h"

static uint64_t page_up(uint64_t gpa)
{
    return (gpa + MEMORY_PAGE_BYTES - 1) & ~(MEMORY_PAGE_BYTES - 1);
}

static int place(const struct memory *memory, const struct image *image, const char *what,
                 const struct initrd_room *room, bool at_end, uint64_t *gpa,
                 struct boot_error *error)
{
    uint64_t low_end = memory_low_end(memory);
    uint64_t end = room->end < low_end ? room->end : low_end;
    uint64_t start = page_up(room->start);

    if (start < room->start || start > end || image->size > end - start)
        return boot_fail(error, -ENOSPC,
                         "%s: the %s of %" PRIu64 " bytes does not fit between the kernel's end "
                         "0x%" PRIx64 " and %s 0x%" PRIx64 "; %s",
                         image->name, what, image->size, room->start,
                         end < low_end ? room->limit : "the end of low memory", end,
                         end < low_end ? "take a smaller one" : "give more with --memory");
    /* The room is at least a page at a page's address: rounding down stays inside. */
    *gpa = at_end ? (end - image->size) & ~(MEMORY_PAGE_BYTES - 1) : start;
    return 0;
}

static int load(struct memory *memory, const char *path, const char *what,
                const struct initrd_room *room, bool at_end, struct initrd *out,
                struct boot_error *error)
{
    struct image image;
    void *to;
    int err = image_open(&image, path, what, error);

    if (err)
        return err;
    err = place(memory, &image, what, room, at_end, &out->gpa, error);
    if (err)
        goto close_image;
    out->bytes = image.size;
    to = memory_at(memory, out->gpa, image.size);
    err = to ? image_read(&image, 0, to, image.size) : -EFAULT;
    if (err == -ENODATA)
        boot_fail(error, err,
                  "%s: the %s got shorter than %" PRIu64 " bytes while it was read; start again "
                  "when it is complete",
                  path, what, image.size);
    else if (err)
        boot_fail(error, err, "%s: cannot read the %s: %s; see to the file or its disk", path, what,
                  strerror(-err));

close_image:
    image_close(&image);
    return err;
}

int initrd_load(struct memory *memory, const char *path, const struct initrd_room *room,
                struct initrd *out, struct boot_error *error)
{
    return load(memory, path, "initrd", room, true, out, error);
}

int initrd_load_module(struct memory *memory, const char *path, const struct initrd_room *room,
                       struct initrd *out, struct boot_error *error)
{
    return load(memory, path, "module", room, false, out, error);
}
