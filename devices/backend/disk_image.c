#include "devices/backend/disk_image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "devices/backend/block.h"

/* What it is and how large: 0, or -errno for what is no disk, *why where there is more to say. */
static int measure(struct disk_image *image, const char **why)
{
    struct statfs fs;
    struct stat st;

    if (fstat(image->fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode)) {
        *why = "is a directory, not a disk image";
        return -EISDIR;
    }
    image->is_device = S_ISBLK(st.st_mode);
    image->in_memory = fstatfs(image->fd, &fs) == 0 &&
                       (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
    if (!image->is_device && !S_ISREG(st.st_mode)) {
        *why = "is neither a file nor a block device";
        return -EINVAL;
    }
    image->bytes = (uint64_t)st.st_size;
    if (image->is_device && ioctl(image->fd, BLKGETSIZE64, &image->bytes) < 0)
        return -errno;
    if (image->bytes < BLOCK_SECTOR_BYTES) {
        *why = "is smaller than one sector (512 bytes); truncate -s SIZE makes an empty disk";
        return -EINVAL;
    }
    return 0;
}

/* Of the open file, so that it ends with it, and two of one process exclude each other too. */
static int lock(const struct disk_image *image, bool read_only, const char **why)
{
    struct flock all = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(image->fd, F_OFD_SETLK, &all) == 0)
        return 0;
    if (errno != EAGAIN && errno != EACCES)
        return -errno;
    *why = read_only ? "is being written by another machine or is another disk of this one; copy it"
                     : "is in use by another machine or is another disk of this one; copy it, or "
                       "let all of them only read it (,ro)";
    return -EBUSY;
}

static int open_it(struct disk_image *image, const char *path, bool read_only, const char **why)
{
    /* O_NONBLOCK only so that opening a pipe does not hang: it would make reads fail. */
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY;
    int err;

    image->fd = open(path, flags | O_NONBLOCK);
    if (image->fd < 0) {
        err = -errno;
        if (err == -EISDIR)
            *why = "is a directory, not a disk image";
        else if (!read_only && (err == -EACCES || err == -EROFS || err == -EPERM))
            *why = "may not be written; a read-only disk (,ro) needs no more than reading";
        return err;
    }
    err = measure(image, why);
    if (!err && fcntl(image->fd, F_SETFL, flags) < 0)
        err = -errno;
    if (!err)
        err = lock(image, read_only, why);
    if (err)
        close(image->fd);
    return err;
}

int disk_image_open(struct disk_image *image, const char *path, bool read_only, char *error,
                    size_t error_bytes)
{
    const char *why = NULL;
    int err = open_it(image, path, read_only, &why);

    if (err && why)
        snprintf(error, error_bytes, "%s %s", path, why);
    else if (err)
        snprintf(error, error_bytes, "%s: %s", path, strerror(-err));
    return err;
}

void disk_image_close(struct disk_image *image)
{
    close(image->fd); /* and with it the lock */
}
