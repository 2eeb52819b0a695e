/*
 * The host's end of a network device: a descriptor that moves one Ethernet frame with each
 * read and write and never blocks. Either a tap interface of the host, or a helper program
 * with a TCP/IP stack of its own (vmm/usernet), which needs no privilege and sees nothing
 * of the guest but its frames.
 */
#ifndef STRATA_BACKEND_NET_H
#define STRATA_BACKEND_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NET_FORWARDS_MAX 16
#define NET_MAC_BYTES    6
#define NET_MAC_TEXT     18 /* bytes of "02:00:00:00:00:01" */

/*
 * Before each frame lies a struct virtio_net_hdr_v1 (virtio 1.2, 5.1.6), all zero but for
 * num_buffers where the backend leaves nothing to the other side.
 */
#define NET_HEADER_BYTES 12u
#define NET_FRAME_MIN    14u                /* Ethernet's own header */
#define NET_FRAME_MAX    (14u + 4 + 65535u) /* that, a VLAN's, and the longest IP packet */

/* What a network device is connected to. */
struct net_config {
    const char *tap; /* name of an interface; NULL: the helper's network */
    uint8_t mac[NET_MAC_BYTES];
    /*
     * Of the helper's network: "tcp:ADDRESS:PORT:GUESTPORT", or udp. Connections to that port
     * of the host go to the guest.
     */
    const char *forwards[NET_FORWARDS_MAX];
    unsigned nforwards;
};

struct net {
    int fd;
    bool header; /* frames have the header outside as well, and may leave work to each other */
    uint16_t mtu;
    pid_t helper; /* 0: none */
};

/* 0, or -errno and one line for the user. */
int net_open(struct net *net, const struct net_config *config, char *error, size_t error_bytes);
void net_close(struct net *net);

/*
 * Sends what is in `iov`, the header first: 0; -EAGAIN: there is no room now, poll for
 * POLLOUT; -ENODEV: nobody is at the other end any more; else that frame is lost.
 */
int net_send(const struct net *net, const struct iovec *iov, unsigned niov);

/*
 * Receives a frame with its header: the bytes; -EAGAIN: there is none; -ENODEV: as above;
 * else something came that is no frame.
 */
ssize_t net_receive(const struct net *net, uint8_t *frame, size_t bytes);

/*
 * What the guest takes in frames that it receives: a mask of (1 << VIRTIO_NET_F_GUEST_…).
 * Where `header` is false nothing happens. 0 or -errno.
 */
int net_accept(const struct net *net, uint64_t features);

/* A locally administered address, the same on each start on this host for the n-th device. */
void net_default_mac(const struct net_config *config, unsigned n, uint8_t mac[NET_MAC_BYTES]);

/* An address as people write it. */
void net_mac_text(const uint8_t mac[NET_MAC_BYTES], char text[NET_MAC_TEXT]);

#endif
