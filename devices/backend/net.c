#include "devices/backend/net.h"
#include "devices/backend/net_tap.h"
#include "devices/backend/net_user.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define IOVECS_MAX 1024 /* IOV_MAX */

_Static_assert(sizeof(struct virtio_net_hdr_v1) == NET_HEADER_BYTES, "5.1.6");

int net_open(struct net *net, const struct net_config *config, char *error, size_t error_bytes)
{
    *net = (struct net){ .fd = -1 };
    return config->tap ? net_tap_open(net, config->tap, error, error_bytes)
                       : net_user_open(net, config, error, error_bytes);
}

void net_close(struct net *net)
{
    if (net->fd >= 0)
        close(net->fd);
    net->fd = -1;
    /* It would see the end of its socket and leave, but might be stopped just now. */
    if (net->helper > 0 && kill(net->helper, SIGKILL) == 0)
        waitpid(net->helper, NULL, 0);
    net->helper = 0;
}

/* EBADFD: the interface of a tap was deleted; the others: the helper has ended. */
static int failure(void)
{
    switch (errno) {
    case EWOULDBLOCK:
    case EINTR:
    case ENOBUFS: return -EAGAIN;
    case EBADFD:
    case EPIPE:
    case ECONNRESET:
    case ENOTCONN: return -ENODEV;
    default: return errno ? -errno : -EIO;
    }
}

/* All but the header, which may lie in several pieces. */
static unsigned without_header(struct iovec *to, const struct iovec *iov, unsigned niov)
{
    size_t skip = NET_HEADER_BYTES;
    unsigned n = 0;

    for (unsigned i = 0; i < niov; i++) {
        size_t left_out = iov[i].iov_len < skip ? iov[i].iov_len : skip;

        skip -= left_out;
        if (iov[i].iov_len > left_out)
            to[n++] = (struct iovec){ (char *)iov[i].iov_base + left_out,
                                      iov[i].iov_len - left_out };
    }
    return n;
}

int net_send(const struct net *net, const struct iovec *iov, unsigned niov)
{
    struct iovec frame[IOVECS_MAX];
    struct msghdr message = { .msg_iov = frame };

    if (niov > IOVECS_MAX)
        return -EMSGSIZE;
    if (!net->header) {
        message.msg_iovlen = without_header(frame, iov, niov);
        return sendmsg(net->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? failure() : 0;
    }
    return writev(net->fd, iov, (int)niov) < 0 ? failure() : 0;
}

ssize_t net_receive(const struct net *net, uint8_t *frame, size_t bytes)
{
    ssize_t received;

    if (net->header) {
        received = read(net->fd, frame, bytes);
        if (received < 0)
            return failure();
    } else {
        memset(frame, 0, NET_HEADER_BYTES);
        received = recv(net->fd, frame + NET_HEADER_BYTES, bytes - NET_HEADER_BYTES, MSG_DONTWAIT);
        if (received < 0)
            return failure();
        if (!received) /* the end: the helper sends no empty frames */
            return -ENODEV;
        received += NET_HEADER_BYTES;
    }
    return received < (ssize_t)(NET_HEADER_BYTES + NET_FRAME_MIN) ? -EBADMSG : received;
}

int net_accept(const struct net *net, uint64_t features)
{
    static const unsigned offloads[][2] = {
        { VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM },
        { VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4 },
        { VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6 },
        { VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN },
    };
    unsigned long mask = 0;

    if (!net->header)
        return 0;
    for (unsigned i = 0; i < sizeof(offloads) / sizeof(offloads[0]); i++) {
        if (features & 1ull << offloads[i][0])
            mask |= offloads[i][1];
    }
    return ioctl(net->fd, TUNSETOFFLOAD, mask) ? -errno : 0;
}

static void hash(uint64_t *state, const char *text)
{
    for (; *text; text++)
        *state = (*state ^ (uint8_t)*text) * 0x100000001b3ull; /* FNV-1a */
}

void net_default_mac(const struct net_config *config, unsigned n, uint8_t mac[NET_MAC_BYTES])
{
    uint64_t state = 0xcbf29ce484222325ull;
    struct utsname host;

    /* On one bridge there may be interfaces of many hosts; on the helper's network is nobody. */
    if (config->tap && uname(&host) == 0)
        hash(&state, host.nodename);
    hash(&state, config->tap ? config->tap : "user");
    state = (state ^ n) * 0x100000001b3ull;
    memcpy(mac, &state, NET_MAC_BYTES);
    mac[0] = (uint8_t)((mac[0] & ~1u) | 2u); /* one address, locally administered */
}

void net_mac_text(const uint8_t mac[NET_MAC_BYTES], char text[NET_MAC_TEXT])
{
    snprintf(text, NET_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3],
             mac[4], mac[5]);
}
