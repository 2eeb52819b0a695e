#include "vmm/control/control.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/base/monotonic.h"

#define ACCEPT_AGAIN_US    10000
#define THREAD_STACK_BYTES (512ul << 10)

int control_open(struct control *control, const char *path, char error[CONTROL_ERROR_BYTES])
{
    *control = (struct control){ .stop_fd = -1, .limit_ms = CONTROL_LIMIT_MS };
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control->client[i].fd = -1;
    return unix_listen(&control->socket, path, CONTROL_CLIENTS_MAX, error, CONTROL_ERROR_BYTES);
}

/* ---- Serving -------------------------------------------------------------- */

static void control_stage(struct control_client *client)
{
    client->since_ms = monotonic_ms();
}

static void control_hang_up(struct control_client *client)
{
    close(client->fd);
    free(client->answer.bytes);
    *client = (struct control_client){ .fd = -1 };
}

/* Sends as much as goes; the rest when there is room. */
static void control_send_answer(struct control_client *client)
{
    while (client->sent < client->answer.n) {
        ssize_t n = send(client->fd, client->answer.bytes + client->sent,
                         client->answer.n - client->sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            control_hang_up(client);
            return;
        }
        client->sent += (size_t)n;
    }
    free(client->answer.bytes);
    client->answer = (struct control_answer){ 0 };
    client->sent = 0;
    control_stage(client);
    if (client->hang_up)
        control_hang_up(client);
}

static void control_answer_with(struct control_client *client, const char *text)
{
    client->answer.bytes = strdup(text);
    client->answer.n = client->answer.bytes ? strlen(text) : 0;
    client->hang_up = true;
}

/* If a whole line is there: computes its answer and starts to send it. */
static void control_take_line(struct control *control, struct control_client *client)
{
    const char *end = memchr(client->line, '\n', client->have);
    size_t n;

    if (!end && client->have < sizeof(client->line))
        return;
    if (!end) {
        control_answer_with(client, control->too_long);
    } else {
        n = (size_t)(end - client->line);
        control->callback(control->owner, client->line, n, &client->answer);
        client->have -= n + 1;
        memmove(client->line, end + 1, client->have);
    }
    control_stage(client);
    if (!client->answer.bytes)
        control_hang_up(client);
    else
        control_send_answer(client);
}

static void control_receive(struct control_client *client)
{
    ssize_t n = recv(client->fd, client->line + client->have, sizeof(client->line) - client->have,
                     MSG_DONTWAIT);

    if (n > 0)
        client->have += (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        control_hang_up(client);
}

static void control_admit(struct control *control)
{
    int fd = unix_accept(&control->socket);

    if (fd < 0) {
        /* Out of file descriptors: it waits in the queue, and poll would return at once. */
        usleep(ACCEPT_AGAIN_US);
        return;
    }
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->client[i].fd >= 0)
            continue;
        control->client[i].fd = fd;
        control_stage(&control->client[i]);
        return;
    }
    /* It fits a new socket's buffer; a client that does not take it has had its chance. */
    send(fd, control->busy, strlen(control->busy), MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
}

static void control_attend(struct control *control, struct control_client *client, short events)
{
    if (client->answer.bytes) {
        if (events)
            control_send_answer(client);
    } else if (events) {
        control_receive(client);
    }
    /* Lines that came together are answered one after the other. */
    while (client->fd >= 0 && !client->answer.bytes && client->have &&
           (client->have == sizeof(client->line) || memchr(client->line, '\n', client->have)) &&
           !atomic_load(&control->stopping))
        control_take_line(control, client);
    if (client->fd >= 0 && monotonic_ms() - client->since_ms >= control->limit_ms)
        control_hang_up(client);
}

static void *control_serve(void *arg)
{
    struct control *control = arg;

    while (!atomic_load(&control->stopping)) {
        struct pollfd fds[2 + CONTROL_CLIENTS_MAX] = {
            { .fd = control->stop_fd, .events = POLLIN },
            { .fd = control->socket.fd, .events = POLLIN },
        };
        bool any = false;

        for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
            const struct control_client *client = &control->client[i];

            fds[2 + i].fd = client->fd;
            fds[2 + i].events = client->answer.bytes ? POLLOUT : POLLIN;
            any |= client->fd >= 0;
        }
        /* Without a client nothing has a time limit. */
        if (poll(fds, 2 + CONTROL_CLIENTS_MAX, any ? 1000 : -1) < 0)
            continue;
        for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
            if (fds[2 + i].fd >= 0)
                control_attend(control, &control->client[i], fds[2 + i].revents);
        }
        if (fds[1].revents)
            control_admit(control);
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
    /* No vm_thread: it pauses the VM, and touches the guest only then, or by calls that wait. */
    err = pthread_create(&control->thread, &attr, control_serve, control);
    pthread_attr_destroy(&attr);
    control->running = !err;
    return -err;
}

void control_close(struct control *control)
{
    uint64_t one = 1;

    atomic_store(&control->stopping, true);
    /* Cannot fail: the counter is far from its limit. */
    if (control->running && write(control->stop_fd, &one, sizeof(one)) == sizeof(one))
        pthread_join(control->thread, NULL);
    control->running = false;
    for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->client[i].fd >= 0)
            control_hang_up(&control->client[i]);
    }
    if (control->stop_fd >= 0)
        close(control->stop_fd);
    control->stop_fd = -1;
    unix_listener_close(&control->socket);
}
