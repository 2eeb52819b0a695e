#include "vmm/boot/initrd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "vmm/boot/image.h"
#include "vmm/boot/source.h"

/* What is loaded, and to which end of its room. */
struct initrd_kind {
    const char *what;
    bool at_end;
};

static const struct initrd_kind initrd_kind = { .what = "initrd", .at_end = true };
static const struct initrd_kind module_kind = { .what = "module", .at_end = false };

static uint64_t initrd_page_up(uint64_t gpa)
{
    return (gpa + MEMORY_PAGE_BYTES - 1) & ~(MEMORY_PAGE_BYTES - 1);
}

static int initrd_place(const struct memory *memory, const struct image *image,
                        const struct initrd_kind *kind, const struct initrd_room *room,
                        uint64_t *gpa, struct error *error)
{
    uint64_t low_end = memory_low_end(memory);
    uint64_t end = room->end < low_end ? room->end : low_end;
    uint64_t start = initrd_page_up(room->start);

    if (start < room->start || start > end || image->size > end - start)
        return error_field(error, -ENOSPC, end < low_end ? "" : BOOT_FIELD_MEMORY,
                           "%s: the %s of %" PRIu64 " bytes does not fit between the kernel's end "
                           "0x%" PRIx64 " and %s 0x%" PRIx64 "; %s",
                           image->name, kind->what, image->size, room->start,
                           end < low_end ? room->limit : "the end of low memory", end,
                           end < low_end ? "take a smaller one" : "give more memory");
    /* The room is at least a page at a page's address: rounding down stays inside. */
    *gpa = kind->at_end ? (end - image->size) & ~(MEMORY_PAGE_BYTES - 1) : start;
    return 0;
}

static int initrd_load_kind(struct memory *memory, const char *path, const struct initrd_kind *kind,
                            const struct initrd_room *room, struct initrd *out, struct error *error)
{
    struct image image;
    void *to;
    int err = image_open(&image, path, kind->what, error);

    if (err)
        return err;
    err = initrd_place(memory, &image, kind, room, &out->gpa, error);
    if (err)
        goto close_image;
    out->bytes = image.size;
    to = memory_at(memory, out->gpa, image.size);
    err = to ? image_read(&image, 0, to, image.size) : -EFAULT;
    if (err == -ENODATA)
        error_set(error, err,
                  "%s: the %s got shorter than %" PRIu64 " bytes while it was read; start again "
                  "when it is complete",
                  path, kind->what, image.size);
    else if (err)
        error_set(error, err, "%s: cannot read the %s: %s; see to the file or its disk", path,
                  kind->what, strerror(-err));

close_image:
    image_close(&image);
    return err;
}

int initrd_load(struct memory *memory, const char *path, const struct initrd_room *room,
                struct initrd *out, struct error *error)
{
    return initrd_load_kind(memory, path, &initrd_kind, room, out, error);
}

int initrd_load_module(struct memory *memory, const char *path, const struct initrd_room *room,
                       struct initrd *out, struct error *error)
{
    return initrd_load_kind(memory, path, &module_kind, room, out, error);
}
