#include "devices/backend/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_MODE 0600

/* False: too long, or none. */
static bool fill_address(struct sockaddr_un *address, const char *path)
{
    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (!*path || strlen(path) >= sizeof(address->sun_path))
        return false;
    strcpy(address->sun_path, path);
    return true;
}

/* Whether anybody listens at this path: 1, 0, or -errno if there is no telling. */
static int somebody_listens(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), listens;

    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        listens = 1;
    else
        listens = errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
    close(fd);
    return listens;
}

/* Clears the path of a socket that nobody listens on. */
static int remove_stale(const struct sockaddr_un *address, char *error, size_t error_bytes)
{
    const char *path = address->sun_path;
    struct stat status;
    int listens;

    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode)) {
        snprintf(error, error_bytes, "%s exists and is no socket; give another path", path);
        return -EEXIST;
    }
    listens = somebody_listens(address);
    if (listens < 0)
        return listens;
    if (listens) {
        snprintf(error, error_bytes,
                 "another process listens at %s; give another path, or end that one", path);
        return -EADDRINUSE;
    }
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_and_listen(struct unix_listener *listener, const struct sockaddr_un *address,
                           int backlog)
{
    struct stat status;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err;

    if (fd < 0)
        return -errno;
    /* bind takes the file's mode from the socket's: it is never wider, not for a moment. */
    if (fchmod(fd, SOCKET_MODE) < 0 ||
        bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0) {
        err = -errno;
        goto close_socket;
    }
    if (listen(fd, backlog) < 0 || lstat(address->sun_path, &status) < 0) {
        err = -errno;
        unlink(address->sun_path);
        goto close_socket;
    }
    listener->fd = fd;
    listener->dev = status.st_dev;
    listener->ino = status.st_ino;
    return 0;

close_socket:
    close(fd);
    return err;
}

/* The directory, locked, so that two stratas do not clear away each other's socket. */
static int lock_directory(const char *path)
{
    char copy[PATH_MAX];
    int fd;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    flock(fd, LOCK_EX);
    return fd;
}

int unix_listen(struct unix_listener *listener, const char *path, int backlog, char *error,
                size_t error_bytes)
{
    struct sockaddr_un address;
    int directory, err;

    *listener = (struct unix_listener){ .path = path, .fd = -1 };
    error[0] = 0;
    if (!fill_address(&address, path)) {
        snprintf(error, error_bytes, "a socket's path has 1 to %zu characters",
                 sizeof(address.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    directory = lock_directory(path);
    err = directory < 0 ? directory : remove_stale(&address, error, error_bytes);
    if (!err)
        err = bind_and_listen(listener, &address, backlog);
    if (directory >= 0)
        close(directory);
    if (err && !error[0])
        snprintf(error, error_bytes, "%s: %s; %s", path, strerror(-err),
                 err == -EMFILE || err == -ENFILE ? "give it more file descriptors (ulimit -n)"
                                                  : "give a path where a file can be made");
    return err;
}

void unix_listener_close(struct unix_listener *listener)
{
    struct stat status;

    if (listener->fd < 0)
        return;
    close(listener->fd);
    listener->fd = -1;
    if (lstat(listener->path, &status) == 0 && status.st_dev == listener->dev &&
        status.st_ino == listener->ino)
        unlink(listener->path);
}

int unix_accept(const struct unix_listener *listener)
{
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

int unix_connect(const char *path)
{
    struct sockaddr_un address;
    int fd, err;

    if (!fill_address(&address, path))
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    err = -errno;
    close(fd);
    return err;
}
