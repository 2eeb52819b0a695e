/*
 * An image to load from, of a kernel or what goes with it: a file that is read piece by
 * piece, or memory.
 */
#ifndef STRATA_BOOT_IMAGE_H
#define STRATA_BOOT_IMAGE_H

#include <stdint.h>

#include "vmm/base/error.h"

#define IMAGE_HEAD_BYTES 512

struct image {
    const char *name;     /* for error messages */
    const uint8_t *bytes; /* NULL: read from fd */
    int fd;
    uint64_t size;
    /* A file's first bytes: most of what is looked at lies there, and is read at once. */
    unsigned head_bytes;
    uint8_t head[IMAGE_HEAD_BYTES];
};

/*
 * Opens a file: a regular, readable, non-empty one, else -errno and a text that calls it
 * `what` ("kernel", ...). `path` must outlive the image. image_close for both kinds.
 */
int image_open(struct image *image, const char *path, const char *what, struct error *error);
void image_close(struct image *image);

/* An image in memory that stays the caller's. */
struct image image_in_memory(const char *name, const void *bytes, uint64_t size);

/*
 * Copies [offset, offset + len) of the image to `to`. -ENODATA when it ends before,
 * also when a file shrank meanwhile; -errno when reading fails.
 */
int image_read(const struct image *image, uint64_t offset, void *to, uint64_t len);

/* The text for what image_read returned (not 0) when it was to read `what`; returns it. */
int image_fail(const struct image *image, int err, const char *what, struct error *error);

#endif
