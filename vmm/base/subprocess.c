#include "vmm/base/subprocess.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/base/monotonic.h"

extern char **environ;

int subprocess_start(pid_t *pid, const char *const *argv, const char *const *envp, const int fds[3])
{
    posix_spawn_file_actions_t actions;
    int err = posix_spawn_file_actions_init(&actions);

    if (err)
        return -err;
    if (fds[0] < 0)
        err = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    for (int i = fds[0] < 0 ? 1 : 0; i < 3 && !err; i++)
        err = posix_spawn_file_actions_adddup2(&actions, fds[i], i);
    if (!err)
        err = posix_spawnp(pid, argv[0], &actions, NULL, (char **)(uintptr_t)argv,
                           (char **)(uintptr_t)envp);
    posix_spawn_file_actions_destroy(&actions);
    return -err;
}

int subprocess_wait(pid_t pid, int timeout_ms, int *status)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd end = { .fd = fd, .events = POLLIN };
    bool late = fd >= 0 && poll(&end, 1, timeout_ms) == 0;

    if (late)
        kill(pid, SIGKILL);
    if (fd >= 0)
        close(fd);
    while (waitpid(pid, status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return late ? -ETIMEDOUT : 0;
}

/* ---- With its output ----------------------------------------------------------------------- */

static void subprocess_read(struct subprocess_output *output)
{
    char drop[512];
    size_t room = output->max - output->bytes;
    ssize_t got = read(output->fd, room ? output->text + output->bytes : drop,
                       room ? room : sizeof(drop));

    if (got < 0 && errno == EINTR)
        return;
    if (got <= 0) {
        close(output->fd);
        output->fd = -1;
    } else if (room) {
        output->bytes += (size_t)got;
        output->text[output->bytes] = 0;
    } else {
        output->overflow = true;
    }
}

/* Until both have ended, or the time is over, or nothing more can be read: closes them. */
static void subprocess_read_all(struct subprocess_output *a, struct subprocess_output *b,
                                int64_t end_ms)
{
    while (a->fd >= 0 || b->fd >= 0) {
        struct pollfd fds[] = { { .fd = a->fd, .events = POLLIN },
                                { .fd = b->fd, .events = POLLIN } };
        int64_t left_ms = end_ms - monotonic_ms();

        if (left_ms <= 0 || (poll(fds, 2, (int)left_ms) < 0 && errno != EINTR))
            break;
        if (fds[0].revents)
            subprocess_read(a);
        if (fds[1].revents)
            subprocess_read(b);
    }
    if (a->fd >= 0)
        close(a->fd);
    if (b->fd >= 0)
        close(b->fd);
    a->fd = b->fd = -1;
}

int subprocess_capture(const char *const *argv, struct subprocess_output *out,
                       struct subprocess_output *errors, int timeout_ms, int *status)
{
    int64_t end_ms = monotonic_ms() + timeout_ms, left_ms;
    int out_pipe[2], errors_pipe[2], err;
    pid_t pid;

    out->bytes = errors->bytes = 0;
    out->text[0] = errors->text[0] = 0;
    if (pipe2(out_pipe, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(errors_pipe, O_CLOEXEC) < 0) {
        err = -errno;
        close(out_pipe[0]);
        close(out_pipe[1]);
        return err;
    }
    err = subprocess_start(&pid, argv, (const char *const *)environ,
                           (const int[]){ -1, out_pipe[1], errors_pipe[1] });
    close(out_pipe[1]);
    close(errors_pipe[1]);
    out->fd = out_pipe[0];
    errors->fd = errors_pipe[0];
    subprocess_read_all(out, errors, err ? 0 : end_ms);
    if (err)
        return err;
    left_ms = end_ms - monotonic_ms();
    return subprocess_wait(pid, left_ms > 0 ? (int)left_ms : 0, status);
}
