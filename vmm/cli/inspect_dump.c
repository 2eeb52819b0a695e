#include "vmm/cli/inspect_dump.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/base/write_all.h"
#include "vmm/report/json.h"

struct dump {
    struct inspect_request request; /* the next piece */
    const char *path;
    int file;  /* -1: not yet opened */
    bool made; /* there was no such file */
    uint64_t pause_ns, longest_ns;
    unsigned pieces;
};

static int open_file(struct dump *dump)
{
    dump->file = open(dump->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    dump->made = dump->file >= 0;
    if (dump->file < 0 && errno == EEXIST)
        dump->file = open(dump->path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    return dump->file < 0 ? -errno : 0;
}

/* The file is made when the first piece has come. */
static int keep(struct dump *dump, const struct inspect_reply *reply)
{
    uint64_t paused = (uint64_t)json_integer_value(json_object_get(reply->json, "pause_ns"));
    int err = dump->file < 0 ? open_file(dump) : 0;

    if (!err)
        err = write_all(dump->file, reply->payload, reply->payload_bytes);
    if (err)
        return err;
    dump->request.offset += reply->payload_bytes;
    dump->pieces++;
    dump->pause_ns += paused;
    dump->longest_ns = paused > dump->longest_ns ? paused : dump->longest_ns;
    return 0;
}

/* Each on a connection of its own: who takes them may be slower than the VM waits. */
static int take_piece(struct dump *dump, const char *socket, char error[CLIENT_ERROR_BYTES])
{
    struct inspect_reply reply;
    int err = inspect_look(socket, &dump->request, &reply, error);

    if (!err && (!reply.payload_bytes ||
                 reply.payload_bytes > dump->request.bytes - dump->request.offset)) {
        snprintf(error, CLIENT_ERROR_BYTES, "what answers there is no strata");
        err = -EPROTO;
    }
    if (err && dump->pieces) {
        if (err == -ENOENT || err == -ECONNREFUSED)
            snprintf(error, CLIENT_ERROR_BYTES, "the VM has ended");
        err = -EIO;
    }
    if (!err) {
        err = keep(dump, &reply);
        if (err) {
            snprintf(error, CLIENT_ERROR_BYTES, "%s: %s", dump->path, strerror(-err));
            err = -EIO;
        }
    }
    inspect_reply_free(&reply);
    return err;
}

/* Closes the file, with which an error may come; one that is not whole goes. */
static int end_file(struct dump *dump, int err, char error[CLIENT_ERROR_BYTES])
{
    size_t used;

    if (dump->file > STDERR_FILENO && close(dump->file) < 0 && !err) {
        snprintf(error, CLIENT_ERROR_BYTES, "%s: %s", dump->path, strerror(errno));
        err = -EIO;
    }
    if (err && dump->made)
        unlink(dump->path);
    used = err ? strlen(error) : 0;
    if (err && dump->request.offset)
        snprintf(error + used, CLIENT_ERROR_BYTES - used,
                 ", after %" PRIu64 " of %" PRIu64 " bytes", dump->request.offset,
                 dump->request.bytes);
    return err;
}

static json_t *describe(const struct dump *dump)
{
    json_t *json = json_result(INSPECT_REPLY_SCHEMA, INSPECT_VERSION);

    json_object_set_new(json, "command", json_string("dump"));
    json_object_set_new(json, "bytes", json_integer((json_int_t)dump->request.bytes));
    json_object_set_new(json, "pieces", json_integer(dump->pieces));
    json_object_set_new(json, "pause_ns", json_integer((json_int_t)dump->pause_ns));
    json_object_set_new(json, "longest_pause_ns", json_integer((json_int_t)dump->longest_ns));
    return json;
}

int inspect_dump(const char *socket, const struct inspect_request *request, const char *path,
                 struct output_file *json, char error[CLIENT_ERROR_BYTES])
{
    bool to_stdout = !strcmp(path, "-");
    struct dump dump = { .request = *request,
                         .path = to_stdout ? "standard output" : path,
                         .file = to_stdout ? STDOUT_FILENO : -1 };
    FILE *report = to_stdout || json->fd == STDOUT_FILENO ? stderr : stdout;
    const char *json_path = json->path;
    json_t *result;
    int err = 0;

    while (!err && dump.request.offset < dump.request.bytes)
        err = take_piece(&dump, socket, error);
    err = end_file(&dump, err, error);
    if (err)
        return err;
    fprintf(report,
            "%" PRIu64 " bytes from gpa 0x%" PRIx64 " on, in %u piece%s of one moment each\n",
            dump.request.bytes, dump.request.gpa, dump.pieces, dump.pieces == 1 ? "" : "s");
    fprintf(report, "guest paused for %.3f ms, %.3f ms at most at a time\n",
            (double)dump.pause_ns / 1e6, (double)dump.longest_ns / 1e6);
    result = describe(&dump);
    err = json_write(json, result);
    json_decref(result);
    if (err)
        snprintf(error, CLIENT_ERROR_BYTES, "--json %s: %s", json_path, strerror(-err));
    return err ? -EIO : 0;
}
