#include "vmm/boot/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int image_open(struct image *image, const char *path, const char *what, struct error *error)
{
    struct stat status;
    ssize_t head;
    int err;

    image->name = path;
    image->bytes = NULL;
    image->head_bytes = 0;
    /* O_NONBLOCK: a FIFO is to be refused, not waited for. */
    image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (image->fd < 0)
        return error_set(error, -errno, "%s: %s; the %s must be a file that can be read", path,
                         strerror(errno), what);
    if (fstat(image->fd, &status) < 0) {
        err = error_set(error, -errno, "%s: %s", path, strerror(errno));
        goto close_file;
    }
    if (!S_ISREG(status.st_mode)) {
        err = error_set(error, -EINVAL, "%s: is a %s; the %s must be a regular file", path,
                        S_ISDIR(status.st_mode)    ? "directory"
                        : S_ISFIFO(status.st_mode) ? "FIFO"
                                                   : "special file",
                        what);
        goto close_file;
    }
    if (!status.st_size) {
        err = error_set(error, -ENOEXEC, "%s: is empty; the %s must have something in it", path,
                        what);
        goto close_file;
    }
    image->size = (uint64_t)status.st_size;
    /* What goes wrong here is told of by the read that wants the bytes. */
    head = pread(image->fd, image->head, sizeof(image->head), 0);
    image->head_bytes = head > 0 ? (unsigned)head : 0;
    return 0;

close_file:
    image_close(image);
    return err;
}

void image_close(struct image *image)
{
    if (image->fd >= 0)
        close(image->fd);
    image->fd = -1;
}

struct image image_in_memory(const char *name, const void *bytes, uint64_t size)
{
    return (struct image){ .name = name, .bytes = bytes, .fd = -1, .size = size };
}

int image_read(const struct image *image, uint64_t offset, void *to, uint64_t len)
{
    if (offset > image->size || len > image->size - offset)
        return -ENODATA;
    if (image->bytes) {
        memcpy(to, image->bytes + offset, len);
        return 0;
    }
    if (offset < image->head_bytes && len <= image->head_bytes - offset) {
        memcpy(to, image->head + offset, len);
        return 0;
    }
    while (len) {
        ssize_t count = pread(image->fd, to, len, (off_t)offset);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        if (!count)
            return -ENODATA;
        to = (char *)to + count;
        offset += (uint64_t)count;
        len -= (uint64_t)count;
    }
    return 0;
}

int image_fail(const struct image *image, int err, const char *what, struct error *error)
{
    if (err == -ENODATA)
        return error_set(error, err,
                         "%s: truncated: %s beyond the end of the file (%" PRIu64
                         " bytes); copy or build it again",
                         image->name, what, image->size);
    return error_set(error, err, "%s: cannot read %s: %s", image->name, what, strerror(-err));
}
