#include "tests/bench/harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_median(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

int bench_spawn(struct bench_child *child, const char *const argv[])
{
    return bench_spawn_stderr(child, argv, STDERR_FILENO);
}

int bench_spawn_stderr(struct bench_child *child, const char *const argv[], int err_fd)
{
    int in[2], out[2], ret;
    posix_spawn_file_actions_t actions;

    if (pipe2(in, O_CLOEXEC) < 0)
        return -errno;
    if (pipe2(out, O_CLOEXEC) < 0) {
        ret = -errno;
        goto close_in;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    if (err_fd != STDERR_FILENO)
        posix_spawn_file_actions_adddup2(&actions, err_fd, STDERR_FILENO);
    /* vfork and exec, the same for whatever is compared. */
    child->exec_ns = bench_now_ns();
    ret = -posix_spawn(&child->pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    if (ret < 0) {
        close(out[0]);
        goto close_in;
    }
    close(in[0]);
    child->in = in[1];
    child->out = out[0];
    return 0;

close_in:
    close(in[0]);
    close(in[1]);
    return ret;
}

ssize_t bench_read(struct bench_child *child, void *to, size_t bytes, int timeout_ms)
{
    struct pollfd pollfd = { .fd = child->out, .events = POLLIN };
    int ready = poll(&pollfd, 1, timeout_ms);
    ssize_t n;

    if (ready <= 0)
        return ready ? -errno : -ETIME;
    n = read(child->out, to, bytes);
    return n < 0 ? -errno : n;
}

int bench_end(struct bench_child *child)
{
    int status;

    close(child->in);
    close(child->out);
    for (unsigned ms = 0; ms < 1000; ms++) {
        if (waitpid(child->pid, &status, WNOHANG) == child->pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        usleep(1000);
    }
    kill(child->pid, SIGKILL);
    waitpid(child->pid, &status, 0);
    return -ETIME;
}

void bench_kill(struct bench_child *child)
{
    kill(child->pid, SIGKILL);
    close(child->in);
    close(child->out);
    waitpid(child->pid, NULL, 0);
}
