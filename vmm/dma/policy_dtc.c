#include "vmm/dma/policy_dtc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/machine/monotonic.h"

#define OUTPUT_BYTES_MAX (1u << 20)
#define ERRORS_BYTES_MAX 4096
#define DTC_SECONDS      60 /* emulated hosts are slow; it takes milliseconds elsewhere */
#define SPAWN_NOT_FOUND  127

extern char **environ;

int policy_say(struct policy_error *error, int err, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return err;
}

static void sink_read(struct policy_output *sink)
{
    char drop[512];
    size_t room = sink->max - sink->bytes;
    ssize_t got = read(sink->fd, room ? sink->text + sink->bytes : drop,
                       room ? room : sizeof(drop));

    if (got < 0 && errno == EINTR)
        return;
    if (got <= 0) {
        close(sink->fd);
        sink->fd = -1;
    } else if (room) {
        sink->bytes += (size_t)got;
    } else {
        sink->overflow = true;
    }
}

/* Until both have ended: 0, or -ETIMEDOUT. */
static int sinks_read(struct policy_output *a, struct policy_output *b)
{
    int64_t end = monotonic_ms() + DTC_SECONDS * 1000;

    while (a->fd >= 0 || b->fd >= 0) {
        struct pollfd fds[] = { { .fd = a->fd, .events = POLLIN },
                                { .fd = b->fd, .events = POLLIN } };
        int64_t left = end - monotonic_ms();

        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(fds, 2, (int)left) < 0 && errno != EINTR)
            return -errno;
        if (fds[0].revents)
            sink_read(a);
        if (fds[1].revents)
            sink_read(b);
    }
    return 0;
}

static int spawn_dtc(const char *const *argv, int out, int errors, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    int err = posix_spawn_file_actions_init(&actions);

    if (err)
        return -err;
    err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!err)
        err = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (!err)
        err = posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
    if (!err)
        err = posix_spawnp(pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return -err;
}

/* Runs dtc; *status as waitpid has it. 0 or -errno: -ENOENT without a dtc. */
static int run_dtc(const char *path, const char *format, struct policy_output *out,
                   struct policy_output *errors, int *status)
{
    /* "--": whatever the name begins with. */
    const char *const plain[] = { "dtc", "-q", "-I", "dts", "-O", format, "--", path, NULL };
    const char *const lines[] = { "dtc", "-q", "-T", "-I", "dts", "-O", format, "--", path, NULL };
    int opipe[2], epipe[2], err;
    pid_t pid;

    if (pipe2(opipe, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(epipe, O_CLOEXEC) < 0) {
        err = -errno;
        goto close_out;
    }
    err = spawn_dtc(strcmp(format, "dts") ? plain : lines, opipe[1], epipe[1], &pid);
    if (err)
        goto close_errors;
    close(opipe[1]);
    close(epipe[1]);
    out->fd = opipe[0];
    errors->fd = epipe[0];
    err = sinks_read(out, errors);
    if (err)
        kill(pid, SIGKILL);
    while (waitpid(pid, status, 0) < 0) {
        if (errno != EINTR) {
            err = -errno;
            break;
        }
    }
    if (out->fd >= 0)
        close(out->fd);
    if (errors->fd >= 0)
        close(errors->fd);
    return err;

close_errors:
    close(epipe[0]);
    close(epipe[1]);
close_out:
    close(opipe[0]);
    close(opipe[1]);
    return err;
}

/* ---- What dtc objects to ---------------------------------------------------------- */

/* "[Error: ]FILE:LINE.COLUMN[-...][:] what" becomes "FILE:LINE: what". */
static int pass_on(struct policy_error *error, const char *path, char *text)
{
    const char *line = text, *at;
    size_t length = strlen(path);
    unsigned number;

    text[strcspn(text, "\n")] = 0;
    if (!*line)
        return policy_say(error, -EINVAL, "%s: dtc cannot compile it; run dtc on it to see why",
                          path);
    if (!strncmp(line, "Error: ", 7))
        line += 7;
    /* An error may be in a file that this one includes. */
    at = strncmp(line, path, length) ? strchr(line, ':') : line + length;
    if (!at || sscanf(at, ":%u.", &number) != 1)
        return policy_say(error, -EINVAL, "%s: %s; correct the source", path, line);
    length = (size_t)(at - line);
    at += strspn(at, ":0123456789.-");
    at += *at == ' ';
    return policy_say(error, -EINVAL, "%.*s:%u: %s; %s", (int)length, line, number, at,
                      strcmp(at, "syntax error")
                          ? "correct the source"
                          : "look for a missing ; or } before it (a policy begins with /dts-v1/; "
                            "and has /include/, not #include)");
}

static int dtc_failed(struct policy_error *error, const char *path, int err, int status,
                      const struct policy_output *out, const struct policy_output *errors)
{
    if (err == -ENOENT ||
        (!err && WIFEXITED(status) && WEXITSTATUS(status) == SPAWN_NOT_FOUND && !errors->bytes))
        return policy_say(
            error, -ENOENT,
            "%s: there is no dtc to compile it; install device-tree-compiler, or give a .dtb",
            path);
    if (err == -ETIMEDOUT)
        return policy_say(error, err, "%s: dtc did not end within %d s; make the file smaller",
                          path, DTC_SECONDS);
    if (err)
        return policy_say(error, err, "%s: dtc cannot be run: %s", path, strerror(-err));
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return pass_on(error, path, errors->text);
    if (out->overflow)
        return policy_say(error, -E2BIG, "%s: is too long; a policy has at most %u bytes", path,
                          OUTPUT_BYTES_MAX);
    return 0;
}

/* The output of dtc in *out, whose text is the caller's, zero-terminated. */
int policy_compile(const char *path, const char *format, struct policy_output *out,
                   struct policy_error *error)
{
    char errors_text[ERRORS_BYTES_MAX + 1] = "";
    struct policy_output errors = { .fd = -1, .text = errors_text, .max = ERRORS_BYTES_MAX };
    int err, status = 0;

    *out = (struct policy_output){ .fd = -1,
                                   .text = malloc(OUTPUT_BYTES_MAX + 1),
                                   .max = OUTPUT_BYTES_MAX };
    if (!out->text)
        return policy_say(error, -ENOMEM, "%s: out of memory", path);
    err = run_dtc(path, format, out, &errors, &status);
    out->text[out->bytes] = 0;
    return dtc_failed(error, path, err, status, out, &errors);
}
