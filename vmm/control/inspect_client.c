#include "vmm/control/inspect_client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_SECONDS  60
#define READ_BYTES      65536
#define REPLY_BYTES_MAX (256ul << 20)

static int inspect_client_explain(char *error, int err, const char *path)
{
    switch (err) {
    case -ENOENT:
        snprintf(error, CLIENT_ERROR_BYTES,
                 "%s: no such socket; strata run --control makes one, and removes it at its end",
                 path);
        break;
    case -ENAMETOOLONG:
        snprintf(error, CLIENT_ERROR_BYTES, "%.40s...: a socket's path has 107 characters at most",
                 path);
        break;
    case -ENOTSOCK: snprintf(error, CLIENT_ERROR_BYTES, "%s: not a socket", path); break;
    case -ECONNREFUSED:
        snprintf(error, CLIENT_ERROR_BYTES, "%s: nobody listens there: the VM is gone", path);
        break;
    case -EACCES:
        snprintf(error, CLIENT_ERROR_BYTES,
                 "%s: no permission; only the user who started the VM may look at it", path);
        break;
    default: snprintf(error, CLIENT_ERROR_BYTES, "%s: %s", path, strerror(-err)); break;
    }
    return err;
}

int inspect_connect(const char *path, char error[CLIENT_ERROR_BYTES])
{
    const struct timeval limit = { .tv_sec = ANSWER_SECONDS };
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat status;
    int fd, err;

    if (strlen(path) >= sizeof(address.sun_path))
        return inspect_client_explain(error, -ENAMETOOLONG, path);
    strcpy(address.sun_path, path);
    if (stat(path, &status) < 0)
        return inspect_client_explain(error, -errno, path);
    /* connect says no more than that no process listens. */
    if (!S_ISSOCK(status.st_mode))
        return inspect_client_explain(error, -ENOTSOCK, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return inspect_client_explain(error, -errno, path);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        err = -errno;
        close(fd);
        return inspect_client_explain(error, err, path);
    }
    return fd;
}

static void inspect_client_send_line(int fd, const char *line)
{
    size_t left = strlen(line);

    while (left) {
        ssize_t n = send(fd, line, left, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        /* A server that hung up may have said why before; reading tells. */
        if (n <= 0)
            return;
        line += n;
        left -= (size_t)n;
    }
}

struct received {
    char *bytes;
    size_t n, room;
};

/* More bytes: 0, or -errno; -ECONNRESET at the end. */
static int inspect_client_receive(int fd, struct received *r)
{
    ssize_t n;

    if (r->room - r->n < READ_BYTES) {
        char *grown;

        if (r->room >= REPLY_BYTES_MAX)
            return -EPROTO;
        r->room = r->room ? 2 * r->room : 2 * READ_BYTES;
        grown = realloc(r->bytes, r->room);
        if (!grown)
            return -ENOMEM;
        r->bytes = grown;
    }
    do
        n = recv(fd, r->bytes + r->n, r->room - r->n, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (n == 0)
        return -ECONNRESET;
    r->n += (size_t)n;
    return 0;
}

static int inspect_client_read_reply(int fd, struct received *r, struct inspect_reply *reply)
{
    const char *end = NULL;
    json_int_t bytes;
    size_t line;
    int err = 0;

    for (size_t seen = 0; !err && !end; seen = r->n) {
        err = inspect_client_receive(fd, r);
        end = err ? NULL : memchr(r->bytes + seen, '\n', r->n - seen);
    }
    if (err)
        return err;
    line = (size_t)(end - r->bytes) + 1;
    reply->json = json_loadb(r->bytes, line - 1, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(reply->json))
        return -EPROTO;
    bytes = json_integer_value(json_object_get(reply->json, "payload_bytes"));
    if (bytes <= 0 || bytes > (json_int_t)REPLY_BYTES_MAX)
        return bytes ? -EPROTO : 0;
    while (!err && r->n < line + (size_t)bytes)
        err = inspect_client_receive(fd, r);
    if (err)
        return err;
    reply->payload = malloc((size_t)bytes);
    if (!reply->payload)
        return -ENOMEM;
    memcpy(reply->payload, r->bytes + line, (size_t)bytes);
    reply->payload_bytes = (size_t)bytes;
    return 0;
}

/* Of this schema and version. */
static bool inspect_client_is_reply(const struct inspect_reply *reply)
{
    const char *schema = json_string_value(json_object_get(reply->json, "schema"));

    return schema && !strcmp(schema, INSPECT_REPLY_SCHEMA) &&
           json_integer_value(json_object_get(reply->json, "version")) == INSPECT_VERSION;
}

int inspect_ask(int fd, const struct inspect_request *request, struct inspect_reply *reply,
                char error[CLIENT_ERROR_BYTES])
{
    char *line = inspect_request_line(request);
    struct received received = { 0 };
    const char *said;
    int err;

    *reply = (struct inspect_reply){ 0 };
    if (!line)
        return inspect_client_explain(error, -ENOMEM, "request");
    inspect_client_send_line(fd, line);
    free(line);
    err = inspect_client_read_reply(fd, &received, reply);
    free(received.bytes);
    said = json_string_value(json_object_get(reply->json, "error"));
    if (!err && said) {
        snprintf(error, CLIENT_ERROR_BYTES, "%s", said);
        return -EPROTO;
    }
    if (!err && !inspect_client_is_reply(reply))
        err = -EPROTO;
    if (err == -ECONNRESET || err == -EPIPE)
        snprintf(error, CLIENT_ERROR_BYTES, "the VM has ended");
    else if (err == -EPROTO)
        snprintf(error, CLIENT_ERROR_BYTES,
                 "what answers there is no strata, or not of this version");
    else if (err == -ETIMEDOUT)
        snprintf(error, CLIENT_ERROR_BYTES,
                 "no answer for %d s: is the process that runs the VM stopped?", ANSWER_SECONDS);
    else if (err)
        inspect_client_explain(error, err, "no answer");
    return err == -EPIPE ? -ECONNRESET : err;
}

int inspect_look(const char *path, const struct inspect_request *request,
                 struct inspect_reply *reply, char error[CLIENT_ERROR_BYTES])
{
    int fd = inspect_connect(path, error), err;

    *reply = (struct inspect_reply){ 0 };
    if (fd < 0)
        return fd;
    err = inspect_ask(fd, request, reply, error);
    close(fd);
    return err;
}

void inspect_reply_free(struct inspect_reply *reply)
{
    json_decref(reply->json);
    free(reply->payload);
    *reply = (struct inspect_reply){ 0 };
}
