#include "vmm/machine/stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Descriptors are of one size, which the header tells; names are zero-terminated in it. */
#define DESCRIPTORS_BYTES_MAX (1u << 20)

static int read_at(int fd, void *to, size_t bytes, off_t offset)
{
    ssize_t n = pread(fd, to, bytes, offset);

    if (n < 0)
        return -errno;
    return (size_t)n == bytes ? 0 : -EIO;
}

static int pick(int stats, const struct kvm_stats_header *header, const char *descriptors,
                size_t size, const char *name, uint64_t *value)
{
    for (uint32_t i = 0; i < header->num_desc; i++) {
        struct kvm_stats_desc desc;
        const char *at = descriptors + i * size;

        memcpy(&desc, at, sizeof(desc));
        if (!strncmp(at + sizeof(desc), name, header->name_size))
            return read_at(stats, value, sizeof(*value), (off_t)header->data_offset + desc.offset);
    }
    *value = UINT64_MAX;
    return 0;
}

int stats_read(int fd, const char *const *names, uint64_t *values, size_t n)
{
    int stats = ioctl(fd, KVM_GET_STATS_FD, NULL), err;
    struct kvm_stats_header header;
    char *descriptors;
    size_t size;

    if (stats < 0)
        return -errno;
    err = read_at(stats, &header, sizeof(header), 0);
    if (err)
        goto close_stats;
    size = sizeof(struct kvm_stats_desc) + header.name_size;
    err = -EIO;
    if (!header.num_desc || size > DESCRIPTORS_BYTES_MAX / header.num_desc)
        goto close_stats;
    err = -ENOMEM;
    descriptors = malloc(header.num_desc * size);
    if (!descriptors)
        goto close_stats;
    err = read_at(stats, descriptors, header.num_desc * size, header.desc_offset);
    for (size_t i = 0; i < n && !err; i++)
        err = pick(stats, &header, descriptors, size, names[i], &values[i]);
    free(descriptors);

close_stats:
    close(stats);
    return err;
}
