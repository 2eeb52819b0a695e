/*
 * A policy's file: source goes through dtc, which compiles it and also tells the line of
 * every node and property, so that what the reader finds wrong can be found by people.
 */
#include "vmm/dma/policy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/subprocess.h"
#include "vmm/dma/policy/tree.h"

#define OUTPUT_BYTES_MAX (1u << 20)
#define ERRORS_BYTES_MAX 4096
#define DTC_SECONDS      60 /* emulated hosts are slow; it takes milliseconds elsewhere */
#define SPAWN_NOT_FOUND  127

/* A run of dtc. */
struct source_run {
    struct subprocess_output *out, errors;
    int err;    /* 0, or -errno: it could not be run to its end */
    int status; /* as waitpid has it */
};

/* A place in the source; the file's name is not terminated. */
struct source_line {
    const char *file;
    size_t bytes;
    unsigned number;
};

/* Makes the error's text and returns err. */
static int source_say(struct policy_error *error, int err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int source_say(struct policy_error *error, int err, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return err;
}

/* Runs dtc and fills in what came of it. 0 or -errno: -ENOENT without a dtc. */
static int source_run_dtc(const char *path, const char *format, struct source_run *run)
{
    /* "--": whatever the name begins with. */
    const char *const plain[] = { "dtc", "-q", "-I", "dts", "-O", format, "--", path, NULL };
    const char *const lines[] = { "dtc", "-q", "-T", "-I", "dts", "-O", format, "--", path, NULL };

    return subprocess_capture(strcmp(format, "dts") ? plain : lines, run->out, &run->errors,
                              DTC_SECONDS * 1000, &run->status);
}

/* ---- What dtc objects to ---------------------------------------------------------- */

/* "[Error: ]FILE:LINE.COLUMN[-...][:] what" becomes "FILE:LINE: what". */
static int source_pass_on(struct policy_error *error, const char *path, char *text)
{
    const char *line = text, *at;
    size_t length = strlen(path);
    unsigned number;

    text[strcspn(text, "\n")] = 0;
    if (!*line)
        return source_say(error, -EINVAL, "%s: dtc cannot compile it; run dtc on it to see why",
                          path);
    if (!strncmp(line, "Error: ", 7))
        line += 7;
    /* An error may be in a file that this one includes. */
    at = strncmp(line, path, length) ? strchr(line, ':') : line + length;
    if (!at || sscanf(at, ":%u.", &number) != 1)
        return source_say(error, -EINVAL, "%s: %s; correct the source", path, line);
    length = (size_t)(at - line);
    at += strspn(at, ":0123456789.-");
    at += *at == ' ';
    return source_say(error, -EINVAL, "%.*s:%u: %s; %s", (int)length, line, number, at,
                      strcmp(at, "syntax error")
                          ? "correct the source"
                          : "look for a missing ; or } before it (a policy begins with /dts-v1/; "
                            "and has /include/, not #include)");
}

static int source_dtc_failed(struct policy_error *error, const char *path,
                             const struct source_run *run)
{
    if (run->err == -ENOENT || (!run->err && WIFEXITED(run->status) &&
                                WEXITSTATUS(run->status) == SPAWN_NOT_FOUND && !run->errors.bytes))
        return source_say(
            error, -ENOENT,
            "%s: there is no dtc to compile it; install device-tree-compiler, or give a .dtb",
            path);
    if (run->err == -ETIMEDOUT)
        return source_say(error, run->err, "%s: dtc did not end within %d s; make the file smaller",
                          path, DTC_SECONDS);
    if (run->err)
        return source_say(error, run->err, "%s: dtc cannot be run: %s", path, strerror(-run->err));
    if (!WIFEXITED(run->status) || WEXITSTATUS(run->status))
        return source_pass_on(error, path, run->errors.text);
    if (run->out->overflow)
        return source_say(error, -E2BIG, "%s: is too long; a policy has at most %u bytes", path,
                          OUTPUT_BYTES_MAX);
    return 0;
}

/*
 * Runs dtc on a .dts, without a shell and within a time: its output in `format` ("dtb" or
 * "dts", with annotations then). 0, or -errno and one line. The text is the caller's to
 * free in any case (NULL: none).
 */
static int source_compile(const char *path, const char *format, struct subprocess_output *out,
                          struct policy_error *error)
{
    char errors_text[ERRORS_BYTES_MAX + 1] = "";
    struct source_run run = {
        .out = out,
        .errors = { .text = errors_text, .max = ERRORS_BYTES_MAX },
    };

    *out = (struct subprocess_output){ .text = malloc(OUTPUT_BYTES_MAX + 1),
                                       .max = OUTPUT_BYTES_MAX };
    if (!out->text)
        return source_say(error, -ENOMEM, "%s: out of memory", path);
    run.err = source_run_dtc(path, format, &run);
    return source_dtc_failed(error, path, &run);
}

/* ---- Lines: annotated output has one node, property or end of node to a line --------- */

/* The place that an annotation names: the first FILE:LINE of the line's last comment. */
static bool source_annotation(const char *line, size_t length, struct source_line *place)
{
    const char *end = line + length, *at = end;

    while (at > line && strncmp(at - 1, " /* ", 4) != 0)
        at--;
    if (at == line)
        return false;
    at += 3;
    place->file = at;
    /* A file's name may hold spaces, commas and colons. */
    while (at < end && (at = memchr(at, ':', (size_t)(end - at)))) {
        size_t digits = strspn(++at, "0123456789");

        if (!digits || (at[digits] != ',' && strncmp(at + digits, " */", 3) != 0))
            continue;
        place->bytes = (size_t)(at - 1 - place->file);
        place->number = (unsigned)strtoul(at, NULL, 10);
        return place->number > 0;
    }
    return false;
}

/* Adds a node's name to the path that the lines above it have led to. */
static void source_path_enter(char *path, size_t bytes, const char *name, size_t length)
{
    size_t n = strlen(path);

    if (length == 1 && *name == '/')
        snprintf(path, bytes, "/");
    else
        snprintf(path + n, bytes - n, "%s%.*s", n > 1 ? "/" : "", (int)length, name);
}

static void source_path_leave(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        slash[slash == path] = 0;
}

/*
 * Finds a node, by its path, and a property (NULL: the node itself) in annotated output.
 * False if it is not there.
 */
static bool source_find_line(const char *text, const char *node, const char *property,
                             struct source_line *place)
{
    char path[1024] = "";
    bool found = false;

    for (const char *line = text, *next; *line; line = next) {
        size_t length = strcspn(line, "\n");
        const char *word = line + strspn(line, " \t");

        next = line + length + (line[length] != 0);
        if (word >= line + length)
            continue;
        if (!strncmp(word, "};", 2)) {
            if (!strcmp(path, node))
                return found;
            source_path_leave(path);
        } else {
            /* Labels stand before a node's name; no property's name has ": " in it. */
            for (size_t label; (label = strcspn(word, ": {=;\n")), !strncmp(word + label, ": ", 2);)
                word += label + 2;

            size_t name = strcspn(word, " =;\n");

            if (!strncmp(word + name, " {", 2)) {
                source_path_enter(path, sizeof(path), word, name);
                if (!strcmp(path, node))
                    found = source_annotation(line, length, place);
                if (found && !property)
                    return true;
            } else if (property && !strcmp(path, node) && strlen(property) == name &&
                       !strncmp(word, property, name)) {
                return source_annotation(line, length, place) || found;
            }
        }
    }
    return found;
}

static const char *source_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int source_complain(struct policy_error *error, int err, const char *path,
                           const char *annotated, const struct policy_complaint *complaint)
{
    struct source_line line;
    char place[256];

    snprintf(place, sizeof(place), "%s", path);
    if (annotated && complaint->node[0] &&
        source_find_line(annotated, complaint->node,
                         complaint->property[0] ? complaint->property : NULL, &line)) {
        const char *base = source_base_name(path);

        if (line.bytes == strlen(base) && !strncmp(line.file, base, line.bytes))
            snprintf(place, sizeof(place), "%s:%u", path, line.number);
        else if (line.file[0] != '/') /* dtc names it from where the policy is */
            snprintf(place, sizeof(place), "%.*s%.*s:%u", (int)(base - path), path, (int)line.bytes,
                     line.file, line.number);
        else
            snprintf(place, sizeof(place), "%.*s:%u", (int)line.bytes, line.file, line.number);
    }
    if (complaint->node[0] && complaint->property[0])
        return source_say(error, err, "%s: node %s: property \"%s\": %s", place, complaint->node,
                          complaint->property, complaint->text);
    if (complaint->node[0])
        return source_say(error, err, "%s: node %s: %s", place, complaint->node, complaint->text);
    return source_say(error, err, "%s: %s", place, complaint->text);
}

static void source_note_lines(struct policy *policy, const char *annotated,
                              const struct policy_nodes *nodes)
{
    for (unsigned i = 0; i < policy->guest.ndevices; i++) {
        struct source_line line;

        policy->device[i].line = source_find_line(annotated, nodes->device[i], NULL, &line)
                                     ? line.number
                                     : 0;
    }
}

/* ---- Files ------------------------------------------------------------------------ */

/* At most POLICY_BLOB_BYTES_MAX bytes of a file, and whether it is a blob. */
static int source_read_file(const char *path, char *blob, size_t *bytes, struct policy_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;
    ssize_t got;

    if (fd < 0)
        return source_say(error, -errno, "%s: %s; give a policy that can be read", path,
                          strerror(errno));
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return source_say(error, -EINVAL, "%s: is not a regular file; give a policy (.dts or .dtb)",
                          path);
    }
    for (*bytes = 0; *bytes <= POLICY_BLOB_BYTES_MAX; *bytes += (size_t)got) {
        got = read(fd, blob + *bytes, POLICY_BLOB_BYTES_MAX + 1 - *bytes);
        if (got < 0 && errno == EINTR)
            got = 0;
        else if (got <= 0)
            break;
    }
    close(fd);
    return got < 0 ? source_say(error, -EIO, "%s: cannot be read to its end", path) : 0;
}

static bool source_is_blob(const char *text, size_t bytes)
{
    return bytes >= 4 && fdt32_ld((const fdt32_t *)(const void *)text) == FDT_MAGIC;
}

/* What dtc would only call a syntax error, or take minutes for. */
static int source_check(const char *path, const char *text, size_t bytes,
                        struct policy_error *error)
{
    if (!bytes)
        return source_say(error, -EINVAL, "%s: is empty; give a policy (.dts or .dtb)", path);
    if (bytes > POLICY_BLOB_BYTES_MAX)
        return source_say(error, -E2BIG, "%s: is too long; a policy has at most %u bytes", path,
                          POLICY_BLOB_BYTES_MAX);
    if (bytes >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2) ||
                       !memcmp(text, "\xef\xbb", 2)))
        return source_say(error, -EINVAL,
                          "%s:1: begins with a byte order mark; save it as plain ASCII or UTF-8",
                          path);
    if (memchr(text, 0, bytes))
        return source_say(error, -EINVAL,
                          "%s: holds a zero byte; give text (.dts) or a blob (.dtb)", path);
    return 0;
}

static int source_load(struct policy *policy, const char *path, const char *text, size_t bytes,
                       struct policy_error *error)
{
    struct subprocess_output blob = { .text = NULL }, annotated = { .text = NULL };
    struct policy_complaint complaint;
    struct policy_nodes nodes;
    struct policy_error ignored;
    int err = source_check(path, text, bytes, error);

    if (!err)
        err = source_compile(path, "dtb", &blob, error);
    if (!err) {
        const struct policy_blob compiled = { blob.text, blob.bytes, path };
        bool lines = !source_compile(path, "dts", &annotated, &ignored);

        err = policy_read(policy, &compiled, &nodes, &complaint);
        if (err)
            source_complain(error, err, path, lines ? annotated.text : NULL, &complaint);
        else if (lines)
            source_note_lines(policy, annotated.text, &nodes);
    }
    free(blob.text);
    free(annotated.text);
    return err;
}

int policy_load(struct policy *policy, const char *path, struct policy_error *error)
{
    char *blob = malloc(POLICY_BLOB_BYTES_MAX + 1);
    size_t bytes = 0;
    int err;

    memset(policy, 0, sizeof(*policy));
    memset(error, 0, sizeof(*error));
    if (!blob)
        return source_say(error, -ENOMEM, "%s: out of memory", path);
    err = source_read_file(path, blob, &bytes, error);
    if (!err)
        err = source_is_blob(blob, bytes) ? policy_parse(policy, blob, bytes, path, error)
                                          : source_load(policy, path, blob, bytes, error);
    free(blob);
    return err;
}

int policy_parse(struct policy *policy, const void *blob, size_t bytes, const char *name,
                 struct policy_error *error)
{
    const struct policy_blob compiled = { blob, bytes, name };
    struct policy_complaint complaint;
    struct policy_nodes nodes;
    int err;

    memset(error, 0, sizeof(*error));
    err = policy_read(policy, &compiled, &nodes, &complaint);
    return err ? source_complain(error, err, name, NULL, &complaint) : 0;
}
