#include "vmm/base/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/base/write_all.h"

#define DEFAULT_MODE 0666 /* the umask does the rest */

/* An unnamed file in the target's directory: gone by itself if the process is. */
static int open_beside(const char *target)
{
    char *copy = strdup(target);
    int fd;

    if (!copy)
        return -ENOMEM;
    fd = open(dirname(copy), O_TMPFILE | O_WRONLY | O_CLOEXEC, DEFAULT_MODE);
    if (fd < 0)
        fd = -errno;
    free(copy);
    return fd;
}

/* Whether a file can be made next to the target at all; none is left behind. */
static int try_named(const char *target)
{
    char *name;
    int fd, err = 0;

    if (asprintf(&name, "%s.XXXXXX", target) < 0)
        return -ENOMEM;
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        err = -errno;
    } else {
        unlink(name);
        close(fd);
    }
    free(name);
    return err;
}

int output_file_open(struct output_file *output, const char *path)
{
    struct stat status;
    int err;

    *output = (struct output_file){ .path = path, .fd = -1, .mode = DEFAULT_MODE };
    if (!path)
        return 0;
    if (strcmp(path, "-") == 0) {
        output->fd = STDOUT_FILENO;
        output->direct = true;
        return 0;
    }
    if (!*path)
        return -ENOENT;
    if (path[strlen(path) - 1] == '/' || (stat(path, &status) == 0 && S_ISDIR(status.st_mode)))
        return -EISDIR;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        output->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        output->direct = true;
        return output->fd < 0 ? -errno : 0;
    }
    if (stat(path, &status) == 0) {
        output->mode = status.st_mode & 07777;
        if (access(path, W_OK) < 0)
            return -errno;
        output->target = realpath(path, NULL);
    } else {
        output->target = strdup(path);
    }
    if (!output->target)
        return -errno;
    output->fd = open_beside(output->target);
    if (output->fd >= 0)
        return 0;
    err = output->fd;
    output->fd = -1;
    /* Not every file system has unnamed files: then a named one, at the very end. */
    if (err == -EOPNOTSUPP || err == -EISDIR)
        err = try_named(output->target);
    if (!err)
        return 0;
    output_file_close(output);
    return err;
}

/* Where a path leads; "-" to stdout. */
static bool find_file(const char *path, struct stat *status)
{
    return (strcmp(path, "-") == 0 ? fstat(STDOUT_FILENO, status) : stat(path, status)) == 0;
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Of files that are not there yet: the same name in the same folder. */
static bool same_name(const char *a, const char *b)
{
    char *folder_a = strdup(a), *folder_b = strdup(b), *copy_a = strdup(a), *copy_b = strdup(b);
    struct stat status_a, status_b;
    bool same = folder_a && folder_b && copy_a && copy_b &&
                stat(dirname(folder_a), &status_a) == 0 &&
                stat(dirname(folder_b), &status_b) == 0 && same_inode(&status_a, &status_b) &&
                strcmp(basename(copy_a), basename(copy_b)) == 0;

    free(folder_a);
    free(folder_b);
    free(copy_a);
    free(copy_b);
    return same;
}

bool output_file_same(const char *a, const char *b)
{
    struct stat status_a, status_b;
    bool has_a, has_b;

    if (!a || !b)
        return false;
    if (strcmp(a, b) == 0)
        return true;
    has_a = find_file(a, &status_a);
    has_b = find_file(b, &status_b);
    /* A device or a pipe keeps nothing that could be lost. */
    if (has_a && has_b)
        return S_ISREG(status_a.st_mode) && same_inode(&status_a, &status_b);
    return !has_a && !has_b && same_name(a, b);
}

/* Gives the unnamed file the name `name`. */
static int link_fd(int fd, const char *name)
{
    char self[64];

    snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    /* Without /proc, with the privilege that this way wants. */
    if (errno == ENOENT && linkat(fd, "", AT_FDCWD, name, AT_EMPTY_PATH) == 0)
        return 0;
    return -errno;
}

/* Writes the text under a temporary name or links the unnamed file there, then renames. */
static int replace_target(struct output_file *output, const char *text, size_t bytes)
{
    char *name;
    int err;

    if (asprintf(&name, "%s.%ld~", output->target, (long)getpid()) < 0)
        return -ENOMEM;
    if (output->fd >= 0) {
        err = link_fd(output->fd, name);
    } else {
        output->fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, output->mode);
        err = output->fd < 0 ? -errno : write_all(output->fd, text, bytes);
    }
    if (!err && rename(name, output->target) < 0)
        err = -errno;
    if (err && err != -EEXIST)
        unlink(name);
    free(name);
    return err;
}

int output_file_write(struct output_file *output, const char *text, size_t bytes)
{
    int err;

    if (!output->path)
        return 0;
    if (output->direct) {
        if (output->fd == STDOUT_FILENO)
            fflush(stdout);
        err = write_all(output->fd, text, bytes);
    } else if (output->fd >= 0) {
        err = write_all(output->fd, text, bytes);
        if (!err && output->mode != DEFAULT_MODE && fchmod(output->fd, output->mode) < 0)
            err = -errno;
        if (!err)
            err = link_fd(output->fd, output->target);
        if (err == -EEXIST)
            err = replace_target(output, text, bytes);
    } else {
        err = replace_target(output, text, bytes);
    }
    /* close tells of errors that write did not (network file systems). */
    if (output->fd > STDERR_FILENO && close(output->fd) < 0 && !err)
        err = -errno;
    output->fd = -1;
    output_file_close(output);
    return err;
}

void output_file_close(struct output_file *output)
{
    if (output->fd > STDERR_FILENO)
        close(output->fd);
    output->fd = -1;
    free(output->target);
    output->target = NULL;
    output->path = NULL;
}
