/*
 * A disk image, or block device, as the host has it: opened, measured and locked.
 */
#ifndef STRATA_BACKEND_DISK_IMAGE_H
#define STRATA_BACKEND_DISK_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk_image {
    int fd;
    bool is_device;
    bool in_memory; /* of the host: no access waits for a disk */
    uint64_t bytes; /* at least a sector */
};

/* As file_open (file.h) has it: 0, or -errno and one line. */
int disk_image_open(struct disk_image *image, const char *path, bool read_only, char *error,
                    size_t error_bytes);
void disk_image_close(struct disk_image *image);

#endif
