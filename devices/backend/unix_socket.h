/*
 * Unix stream sockets with a path: one that listens, for its owner alone, and connections.
 * All descriptors are non-blocking.
 */
#ifndef STRATA_BACKEND_UNIX_SOCKET_H
#define STRATA_BACKEND_UNIX_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

struct unix_listener {
    const char *path; /* not owned */
    dev_t dev;        /* of the socket file, so that only ours is removed */
    ino_t ino;
    int fd; /* < 0: there is none */
};

/*
 * Makes the socket file with mode 0600 and listens. A socket that nobody listens on any
 * more is replaced, anything else at that path stays. `path` stays good until the listener
 * is closed. 0, or -errno with one line in `error`: -EADDRINUSE another process listens
 * there, -EEXIST it is no socket, ...
 */
int unix_listen(struct unix_listener *listener, const char *path, int backlog, char *error,
                size_t error_bytes);

/* Also removes the socket file. */
void unix_listener_close(struct unix_listener *listener);

/* The next connection, or -errno: -EAGAIN there is none. */
int unix_accept(const struct unix_listener *listener);

/* A connection to who listens at this path, or -errno; -EAGAIN: too many wait there. */
int unix_connect(const char *path);

#endif
