/*
 * strata-net: a network for one virtual machine, made of this process's own sockets by
 * libslirp; so it needs no privilege. strata starts it for --net user, with a socket as
 * standard input: each message is an Ethernet frame, but for the first, to strata, which
 * says "ok" or what is wrong. It ends with strata.
 *
 *   strata-net [PROTOCOL:[ADDRESS:]PORT:GUESTPORT…]   ports of the host to be the guest's
 *
 * The guest is 10.0.2.15 (by DHCP), the host 10.0.2.2, the name server 10.0.2.3; fec0::/64.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/net.h"
#include "vmm/usernet/forward.h"

#define GUEST_FD  STDIN_FILENO
#define FDS_MAX   4096
#define TIMERS    8
#define FRAMES    64    /* taken from the guest before sockets have their turn */
#define NOBODY    65534 /* user and group */
#define NS_PER_MS 1000000

struct timer {
    SlirpTimerCb call; /* NULL: free */
    void *owner;
    int64_t at_ms; /* < 0: not set */
};

struct network {
    Slirp *slirp;
    struct pollfd fds[FDS_MAX]; /* the first is the guest's */
    unsigned nfds;
    struct timer timers[TIMERS];
    uint8_t frame[NET_FRAME_MAX];
};

/* ---- What libslirp asks for ---- */

/* Where the guest does not keep up, frames are lost, as on a wire; TCP sends them again. */
static ssize_t send_packet(const void *frame, size_t len, void *owner)
{
    (void)owner;
    (void)!send(GUEST_FD, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    return (ssize_t)len;
}

static void guest_error(const char *message, void *owner)
{
    (void)message; /* a guest could fill any log */
    (void)owner;
}

static int64_t clock_get_ns(void *owner)
{
    struct timespec now;

    (void)owner;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void *timer_new(SlirpTimerCb call, void *timer_owner, void *owner)
{
    struct network *network = owner;

    for (unsigned i = 0; i < TIMERS; i++) {
        if (network->timers[i].call)
            continue;
        network->timers[i] = (struct timer){ call, timer_owner, -1 };
        return &network->timers[i];
    }
    return NULL;
}

static void timer_free(void *timer, void *owner)
{
    (void)owner;
    if (timer)
        ((struct timer *)timer)->call = NULL;
}

static void timer_mod(void *timer, int64_t at_ms, void *owner)
{
    (void)owner;
    if (timer)
        ((struct timer *)timer)->at_ms = at_ms;
}

static void ignore_fd(int fd, void *owner)
{
    (void)fd;
    (void)owner;
}

static void ignore(void *owner)
{
    (void)owner;
}

static int add_poll(int fd, int events, void *owner)
{
    struct network *network = owner;

    if (network->nfds == FDS_MAX)
        return -1;
    network->fds[network->nfds] = (struct pollfd){
        .fd = fd,
        .events = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) |
                          (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                          (events & SLIRP_POLL_PRI ? POLLPRI : 0)),
    };
    return (int)network->nfds++;
}

static int get_revents(int index, void *owner)
{
    const struct network *network = owner;
    short events = index < 0 ? 0 : network->fds[index].revents;

    return (events & POLLIN ? SLIRP_POLL_IN : 0) | (events & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (events & POLLPRI ? SLIRP_POLL_PRI : 0) | (events & POLLERR ? SLIRP_POLL_ERR : 0) |
           (events & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static const struct SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = ignore_fd,
    .unregister_poll_fd = ignore_fd,
    .notify = ignore,
};

/* ---- One turn ---- */

/* False: strata has ended. */
static bool take_frames(struct network *network)
{
    for (unsigned i = 0; i < FRAMES; i++) {
        ssize_t len = recv(GUEST_FD, network->frame, sizeof(network->frame), MSG_DONTWAIT);

        if (!len)
            return false;
        if (len < 0)
            return errno == EAGAIN || errno == EINTR;
        slirp_input(network->slirp, network->frame, (int)len);
    }
    return true;
}

static void run_timers(struct network *network)
{
    int64_t now_ms = clock_get_ns(network) / NS_PER_MS;

    for (unsigned i = 0; i < TIMERS; i++) {
        struct timer *timer = &network->timers[i];

        if (!timer->call || timer->at_ms < 0 || timer->at_ms > now_ms)
            continue;
        timer->at_ms = -1;
        timer->call(timer->owner);
    }
}

static int until_timer(const struct network *network, uint32_t timeout_ms)
{
    int64_t now_ms = clock_get_ns(NULL) / NS_PER_MS, wait = timeout_ms;

    for (unsigned i = 0; i < TIMERS; i++) {
        const struct timer *timer = &network->timers[i];

        if (timer->call && timer->at_ms >= 0 && timer->at_ms - now_ms < wait)
            wait = timer->at_ms > now_ms ? timer->at_ms - now_ms : 0;
    }
    return wait > INT32_MAX ? -1 : (int)wait;
}

/*
 * Sockets are read only while the guest takes frames: what it cannot take waits at the
 * sender, as far as TCP goes. Its own frames, with its acknowledgements, always come in.
 */
static bool turn(struct network *network)
{
    struct pollfd room = { .fd = GUEST_FD, .events = POLLOUT };
    bool may_send = poll(&room, 1, 0) > 0;
    uint32_t timeout_ms = UINT32_MAX;
    int ready;

    network->fds[0] = (struct pollfd){ .fd = GUEST_FD,
                                       .events = (short)(POLLIN | (may_send ? 0 : POLLOUT)) };
    network->nfds = 1;
    slirp_pollfds_fill(network->slirp, &timeout_ms, add_poll, network);
    ready = poll(network->fds, may_send ? network->nfds : 1, until_timer(network, timeout_ms));
    if (ready < 0 && errno != EINTR)
        return false;
    if (may_send)
        slirp_pollfds_poll(network->slirp, ready < 0, get_revents, network);
    run_timers(network);
    return ready <= 0 || !network->fds[0].revents || take_frames(network);
}

/* ---- Start ---- */

static void answer(const char *text)
{
    (void)!send(GUEST_FD, text, strlen(text), MSG_NOSIGNAL);
}

/* Nothing but sockets is needed from here on, and no more rights than anybody has. */
static void drop_rights(void)
{
    if (getuid() == 0 && (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY)))
        fprintf(stderr, "strata-net: stays root: %s\n", strerror(errno));
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* Its socket ends with strata too; this also where it does not look at it for long. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static Slirp *create(struct network *network)
{
    SlirpConfig config = { .version = 1, .in_enabled = true, .in6_enabled = true };

    config.vnetwork.s_addr = htonl(0x0a000200);
    config.vnetmask.s_addr = htonl(0xffffff00);
    config.vhost.s_addr = htonl(0x0a000202);
    config.vdhcp_start.s_addr = htonl(0x0a00020f);
    config.vnameserver.s_addr = htonl(0x0a000203);
    config.vprefix_len = 64;
    inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
    inet_pton(AF_INET6, "fec0::2", &config.vhost6);
    inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
    return slirp_new(&config, &callbacks, network);
}

int main(int argc, char **argv)
{
    static struct network network;
    char error[200];
    int type = 0;
    socklen_t len = sizeof(type);

    if (getsockopt(GUEST_FD, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_SEQPACKET) {
        fprintf(stderr, "strata-net: this is the network of strata run --net user, which starts "
                        "it; see man strata\n");
        return 2;
    }
    network.slirp = create(&network);
    if (!network.slirp) {
        answer("libslirp gave no network");
        return 1;
    }
    for (int i = 1; i < argc; i++) {
        if (forward_add(network.slirp, argv[i], error, sizeof(error))) {
            answer(error);
            return 1;
        }
    }
    drop_rights();
    answer("ok");
    while (turn(&network))
        ;
    slirp_cleanup(network.slirp);
    return 0;
}
