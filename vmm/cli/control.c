#include "vmm/cli/control.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_MODE        0600
#define ACCEPT_AGAIN_US    10000
#define THREAD_STACK_BYTES (512ul << 10)

static uint64_t now_ms(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* ---- Making the socket ---------------------------------------------------- */

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
static int remove_stale(const struct sockaddr_un *address, char *error)
{
    const char *path = address->sun_path;
    struct stat status;
    int listens;

    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode)) {
        snprintf(error, CONTROL_ERROR_BYTES, "%s exists and is no socket; give another path", path);
        return -EEXIST;
    }
    listens = somebody_listens(address);
    if (listens < 0)
        return listens;
    if (listens) {
        snprintf(error, CONTROL_ERROR_BYTES,
                 "another process listens at %s; give another path, or end that one", path);
        return -EADDRINUSE;
    }
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_and_listen(struct control *control, const struct sockaddr_un *address)
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
    if (listen(fd, CONTROL_CLIENTS_MAX) < 0 || lstat(address->sun_path, &status) < 0) {
        err = -errno;
        unlink(address->sun_path);
        goto close_socket;
    }
    control->listen_fd = fd;
    control->dev = status.st_dev;
    control->ino = status.st_ino;
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

int control_open(struct control *control, const char *path, char error[CONTROL_ERROR_BYTES])
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int directory, err;

    *control = (struct control){ .path = path, .listen_fd = -1, .stop_fd = -1 };
    control->limit_ms = CONTROL_LIMIT_MS;
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control->client[i].fd = -1;
    error[0] = 0;
    if (!*path || strlen(path) >= sizeof(address.sun_path)) {
        snprintf(error, CONTROL_ERROR_BYTES, "a socket's path has 1 to %zu characters",
                 sizeof(address.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    strcpy(address.sun_path, path);
    directory = lock_directory(path);
    err = directory < 0 ? directory : remove_stale(&address, error);
    if (!err)
        err = bind_and_listen(control, &address);
    if (directory >= 0)
        close(directory);
    if (err && !error[0])
        snprintf(error, CONTROL_ERROR_BYTES, "%s: %s; give a path where a file can be made", path,
                 strerror(-err));
    return err;
}

/* ---- Serving -------------------------------------------------------------- */

static void stage(struct control_client *client)
{
    client->since_ms = now_ms();
}

static void hang_up(struct control_client *client)
{
    close(client->fd);
    free(client->answer.bytes);
    *client = (struct control_client){ .fd = -1 };
}

/* Sends as much as goes; the rest when there is room. */
static void send_answer(struct control_client *client)
{
    while (client->sent < client->answer.n) {
        ssize_t n = send(client->fd, client->answer.bytes + client->sent,
                         client->answer.n - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            hang_up(client);
            return;
        }
        client->sent += (size_t)n;
    }
    free(client->answer.bytes);
    client->answer = (struct control_answer){ 0 };
    client->sent = 0;
    stage(client);
    if (client->hang_up)
        hang_up(client);
}

static void answer_with(struct control_client *client, const char *text)
{
    client->answer.bytes = strdup(text);
    client->answer.n = client->answer.bytes ? strlen(text) : 0;
    client->hang_up = true;
}

/* If a whole line is there: computes its answer and starts to send it. */
static void take_line(struct control *control, struct control_client *client)
{
    const char *end = memchr(client->line, '\n', client->have);
    size_t n;

    if (!end && client->have < sizeof(client->line))
        return;
    if (!end) {
        answer_with(client, control->too_long);
    } else {
        n = (size_t)(end - client->line);
        control->callback(control->owner, client->line, n, &client->answer);
        client->have -= n + 1;
        memmove(client->line, end + 1, client->have);
    }
    stage(client);
    if (!client->answer.bytes)
        hang_up(client);
    else
        send_answer(client);
}

static void receive(struct control_client *client)
{
    ssize_t n = recv(client->fd, client->line + client->have, sizeof(client->line) - client->have,
                     MSG_DONTWAIT);

    if (n > 0)
        client->have += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        hang_up(client);
}

static void admit(struct control *control)
{
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        /* Out of file descriptors: it waits in the queue, and poll would return at once. */
        usleep(ACCEPT_AGAIN_US);
        return;
    }
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->client[i].fd >= 0)
            continue;
        control->client[i].fd = fd;
        stage(&control->client[i]);
        return;
    }
    /* It fits a new socket's buffer; a client that does not take it has had its chance. */
    send(fd, control->busy, strlen(control->busy), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static void attend(struct control *control, struct control_client *client, short events)
{
    if (client->answer.bytes) {
        if (events)
            send_answer(client);
    } else if (events) {
        receive(client);
    }
    /* Lines that came together are answered one after the other. */
    while (client->fd >= 0 && !client->answer.bytes && client->have &&
           (client->have == sizeof(client->line) || memchr(client->line, '\n', client->have)) &&
           !atomic_load(&control->stopping))
        take_line(control, client);
    if (client->fd >= 0 && now_ms() - client->since_ms >= control->limit_ms)
        hang_up(client);
}

static void *serve(void *arg)
{
    struct control *control = arg;

    while (!atomic_load(&control->stopping)) {
        struct pollfd fds[2 + CONTROL_CLIENTS_MAX] = {
            { .fd = control->stop_fd, .events = POLLIN },
            { .fd = control->listen_fd, .events = POLLIN },
        };
        bool any = false;

        for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
            const struct control_client *client = &control->client[i];

            fds[2 + i].fd = client->fd;
            fds[2 + i].events = client->answer.bytes ? POLLOUT : POLLIN;
            any |= client->fd >= 0;
        }
        /* With nobody there, nothing has a time limit. */
        if (poll(fds, 2 + CONTROL_CLIENTS_MAX, any ? 1000 : -1) < 0)
            continue;
        for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
            if (fds[2 + i].fd >= 0)
                attend(control, &control->client[i], fds[2 + i].revents);
        }
        if (fds[1].revents)
            admit(control);
    }
    return NULL;
}

int control_start(struct control *control, control_callback *callback, void *owner)
{
    pthread_attr_t attr;
    int err;

    control->callback = callback;
    control->owner = owner;
    control->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (control->stop_fd < 0)
        return -errno;
    err = pthread_attr_init(&attr);
    if (err)
        return -err;
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    err = pthread_create(&control->thread, &attr, serve, control);
    pthread_attr_destroy(&attr);
    control->running = !err;
    return -err;
}

void control_close(struct control *control)
{
    struct stat status;
    uint64_t one = 1;

    atomic_store(&control->stopping, true);
    /* Cannot fail: the counter is far from its limit. */
    if (control->running && write(control->stop_fd, &one, sizeof(one)) == sizeof(one))
        pthread_join(control->thread, NULL);
    control->running = false;
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->client[i].fd >= 0)
            hang_up(&control->client[i]);
    }
    if (control->stop_fd >= 0)
        close(control->stop_fd);
    if (control->listen_fd < 0)
        return;
    close(control->listen_fd);
    if (lstat(control->path, &status) == 0 && status.st_dev == control->dev &&
        status.st_ino == control->ino)
        unlink(control->path);
    control->listen_fd = control->stop_fd = -1;
}
