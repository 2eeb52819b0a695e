/*
 * The control socket of a running VM: a Unix stream socket that only its owner may
 * connect to, served by a thread of its own. A client sends a line and gets an answer,
 * as often as it likes; several clients at once are served in turn.
 *
 * Clients are not trusted to be quick or sane. A line has a greatest length, each stage
 * (sending a line, taking the answer, being idle) a time limit, and no answer is computed
 * while one is still to be taken; so no client holds more than one answer's memory, and
 * a client that stands still only holds its own place.
 */
#ifndef STRATA_CONTROL_CONTROL_H
#define STRATA_CONTROL_CONTROL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/unix_socket.h"

#define CONTROL_LINE_BYTES  4096 /* with its newline */
#define CONTROL_CLIENTS_MAX 8
#define CONTROL_LIMIT_MS    30000 /* for each stage */
#define CONTROL_ERROR_BYTES 256

/* An answer as it goes over the wire; bytes is malloc'ed, NULL: hang up. */
struct control_answer {
    char *bytes;
    size_t n;
};

/* Called on the control thread with one line, without its newline. */
typedef void control_callback(void *owner, const char *line, size_t n,
                              struct control_answer *answer);

struct control_client {
    int fd; /* < 0: a free place */
    uint64_t since_ms;
    char line[CONTROL_LINE_BYTES];
    size_t have;
    struct control_answer answer; /* bytes NULL: none under way */
    size_t sent;
    bool hang_up; /* after the answer */
};

struct control {
    struct unix_listener socket;
    int stop_fd; /* eventfd */
    atomic_bool stopping;
    bool running;
    pthread_t thread;
    control_callback *callback;
    void *owner;
    const char *busy;     /* answer for one client too many */
    const char *too_long; /* and for a line that does not end */
    uint64_t limit_ms;
    struct control_client client[CONTROL_CLIENTS_MAX];
};

/* Makes the socket file and listens (unix_listen, whose results it has). Requests are not answered
 * yet. */
int control_open(struct control *control, const char *path, char error[CONTROL_ERROR_BYTES]);

/* Starts the thread. `callback`, `owner` and `path` stay good until control_close. 0 or -errno. */
int control_start(struct control *control, control_callback *callback, void *owner);

/* Stops the thread, hangs up on everybody, removes the socket file. */
void control_close(struct control *control);

#endif
