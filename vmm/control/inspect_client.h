/*
 * The client's end of the control socket.
 */
#ifndef STRATA_CONTROL_INSPECT_CLIENT_H
#define STRATA_CONTROL_INSPECT_CLIENT_H

#include <jansson.h>
#include <stddef.h>

#include "vmm/control/inspect_request.h"

#define CLIENT_ERROR_BYTES 320

struct inspect_reply {
    json_t *json;  /* owned */
    char *payload; /* what came behind it, owned; NULL: nothing */
    size_t payload_bytes;
};

/* A connection: a file descriptor, or -errno and one line that says what to do. -ENOENT,
 * -ENOTSOCK: the path is wrong; -ECONNREFUSED: the VM is gone. */
int inspect_connect(const char *path, char error[CLIENT_ERROR_BYTES]);

/*
 * Asks and waits. 0; -ECONNRESET the VM ended meanwhile, -EPROTO the answer is an error
 * or none, -ETIMEDOUT; each with one line.
 */
int inspect_ask(int fd, const struct inspect_request *request, struct inspect_reply *reply,
                char error[CLIENT_ERROR_BYTES]);

/* Both, on a connection for this one question. */
int inspect_look(const char *path, const struct inspect_request *request,
                 struct inspect_reply *reply, char error[CLIENT_ERROR_BYTES]);

void inspect_reply_free(struct inspect_reply *reply);

#endif
