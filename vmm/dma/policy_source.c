#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/dma/policy_dtc.h"
#include "vmm/dma/policy_reader.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int complain(struct policy_error *error, int err, const char *path, const char *annotated,
                    const struct policy_complaint *complaint)
{
    char place[256];
    const char *file;
    unsigned line;
    size_t bytes;

    snprintf(place, sizeof(place), "%s", path);
    if (annotated && complaint->node[0] &&
        policy_find_line(annotated, complaint->node,
                         complaint->property[0] ? complaint->property : NULL, &file, &bytes,
                         &line)) {
        const char *base = base_name(path);

        if (bytes == strlen(base) && !strncmp(file, base, bytes))
            snprintf(place, sizeof(place), "%s:%u", path, line);
        else if (file[0] != '/') /* dtc names it from where the policy is */
            snprintf(place, sizeof(place), "%.*s%.*s:%u", (int)(base - path), path, (int)bytes,
                     file, line);
        else
            snprintf(place, sizeof(place), "%.*s:%u", (int)bytes, file, line);
    }
    if (complaint->node[0] && complaint->property[0])
        return policy_say(error, err, "%s: node %s: property \"%s\": %s", place, complaint->node,
                          complaint->property, complaint->text);
    if (complaint->node[0])
        return policy_say(error, err, "%s: node %s: %s", place, complaint->node, complaint->text);
    return policy_say(error, err, "%s: %s", place, complaint->text);
}

static void note_lines(struct policy *policy, const char *annotated,
                       const struct policy_nodes *nodes)
{
    for (unsigned i = 0; i < policy->guest.ndevices; i++) {
        const char *file;
        size_t bytes;

        if (!policy_find_line(annotated, nodes->device[i], NULL, &file, &bytes,
                              &policy->device[i].line))
            policy->device[i].line = 0;
    }
}

/* ---- Files ------------------------------------------------------------------------ */

/* At most POLICY_BLOB_BYTES_MAX bytes of a file, and whether it is a blob. */
static int read_file(const char *path, char *blob, size_t *bytes, struct policy_error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat status;
    ssize_t got;

    if (fd < 0)
        return policy_say(error, -errno, "%s: %s; give a policy that can be read", path,
                          strerror(errno));
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return policy_say(error, -EINVAL, "%s: is not a regular file; give a policy (.dts or .dtb)",
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
    return got < 0 ? policy_say(error, -EIO, "%s: cannot be read to its end", path) : 0;
}

static bool is_blob(const char *text, size_t bytes)
{
    return bytes >= 4 && fdt32_ld((const fdt32_t *)(const void *)text) == FDT_MAGIC;
}

/* What dtc would only call a syntax error, or take minutes for. */
static int check_source(const char *path, const char *text, size_t bytes,
                        struct policy_error *error)
{
    if (!bytes)
        return policy_say(error, -EINVAL, "%s: is empty; give a policy (.dts or .dtb)", path);
    if (bytes > POLICY_BLOB_BYTES_MAX)
        return policy_say(error, -E2BIG, "%s: is too long; a policy has at most %u bytes", path,
                          POLICY_BLOB_BYTES_MAX);
    if (bytes >= 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "\xfe\xff", 2) ||
                       !memcmp(text, "\xef\xbb", 2)))
        return policy_say(error, -EINVAL,
                          "%s:1: begins with a byte order mark; save it as plain ASCII or UTF-8",
                          path);
    if (memchr(text, 0, bytes))
        return policy_say(error, -EINVAL,
                          "%s: holds a zero byte; give text (.dts) or a blob (.dtb)", path);
    return 0;
}

static int load_source(struct policy *policy, const char *path, const char *text, size_t bytes,
                       struct policy_error *error)
{
    struct policy_output blob = { .text = NULL }, annotated = { .text = NULL };
    struct policy_complaint complaint;
    struct policy_nodes nodes;
    struct policy_error ignored;
    int err = check_source(path, text, bytes, error);

    if (!err)
        err = policy_compile(path, "dtb", &blob, error);
    if (!err) {
        bool lines = !policy_compile(path, "dts", &annotated, &ignored);

        err = policy_read(policy, blob.text, blob.bytes, path, &nodes, &complaint);
        if (err)
            complain(error, err, path, lines ? annotated.text : NULL, &complaint);
        else if (lines)
            note_lines(policy, annotated.text, &nodes);
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
        return policy_say(error, -ENOMEM, "%s: out of memory", path);
    err = read_file(path, blob, &bytes, error);
    if (!err)
        err = is_blob(blob, bytes) ? policy_parse(policy, blob, bytes, path, error)
                                   : load_source(policy, path, blob, bytes, error);
    free(blob);
    return err;
}

int policy_parse(struct policy *policy, const void *blob, size_t bytes, const char *name,
                 struct policy_error *error)
{
    struct policy_complaint complaint;
    struct policy_nodes nodes;
    int err;

    memset(error, 0, sizeof(*error));
    err = policy_read(policy, blob, bytes, name, &nodes, &complaint);
    return err ? complain(error, err, name, NULL, &complaint) : 0;
}
