/* The helper with a TCP/IP stack, build/strata-net, on the other end of a pair of sockets. */
#include "devices/backend/net_user.h"

#include <errno.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/net.h"

#define HELPER    "strata-net"
#define MTU       1500
#define ANSWER_MS 30000 /* an emulated machine may be slow */

/* Beside this program; 0 or -errno. */
static int find_helper(char *path, size_t path_bytes)
{
    char self[4096 - sizeof(HELPER)];
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    char *slash;

    if (len < 0)
        return -errno;
    self[len] = 0;
    slash = strrchr(self, '/');
    if (!slash)
        return -ENOENT;
    slash[1] = 0;
    snprintf(path, path_bytes, "%s%s", self, HELPER);
    return access(path, X_OK) ? -errno : 0;
}

/* The helper's end of the pair becomes its standard input. It keeps our signal mask, so that
 * Ctrl-C on a terminal is for us alone. */
static int start_helper(struct net *net, const char *path, int end, const struct net_config *config)
{
    const char *argv[NET_FORWARDS_MAX + 2] = { HELPER };
    posix_spawn_file_actions_t actions;
    int err;

    for (unsigned i = 0; i < config->nforwards; i++)
        argv[1 + i] = config->forwards[i];
    err = posix_spawn_file_actions_init(&actions);
    if (err)
        return -err;
    err = posix_spawn_file_actions_adddup2(&actions, end, STDIN_FILENO);
    if (!err)
        err = posix_spawn(&net->helper, path, &actions, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return -err;
}

/* Its first message: "ok", or what is wrong, in one line. 0 or -errno. */
static int hear_helper(const struct net *net, char *answer, size_t answer_bytes)
{
    struct pollfd readable = { .fd = net->fd, .events = POLLIN };
    ssize_t len;
    int ready;

    do {
        ready = poll(&readable, 1, ANSWER_MS);
    } while (ready < 0 && errno == EINTR);
    if (ready <= 0)
        return ready ? -errno : -ETIMEDOUT;
    len = recv(net->fd, answer, answer_bytes - 1, MSG_DONTWAIT);
    if (len < 0)
        return -errno;
    if (!len)
        return -EPIPE;
    answer[len] = 0;
    return strcmp(answer, "ok") ? -EINVAL : 0;
}

int net_user_open(struct net *net, const struct net_config *config, char *error, size_t error_bytes)
{
    char path[4096] = HELPER, answer[200] = "";
    int ends[2] = { -1, -1 }, err;

    err = find_helper(path, sizeof(path));
    if (err) {
        snprintf(error, error_bytes,
                 "--net user: the helper %.200s: %s; install libslirp-dev and build it with make",
                 path, strerror(-err));
        return err;
    }
    /* Each send is one frame, and who reads sees when the other end is gone. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        err = -errno;
    net->fd = ends[0];
    net->mtu = MTU;
    if (!err)
        err = start_helper(net, path, ends[1], config);
    if (ends[1] >= 0)
        close(ends[1]);
    if (!err)
        err = hear_helper(net, answer, sizeof(answer));
    if (!err)
        return 0;
    snprintf(error, error_bytes, "--net user: %s%s",
             err == -EINVAL && *answer ? "" : "the helper could not be started: ",
             err == -EINVAL && *answer ? answer
             : err == -EPIPE           ? "it ended at once"
                                       : strerror(-err));
    net_close(net);
    return err;
}
