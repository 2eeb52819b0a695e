/*
 * virtio-net (virtio 1.2, 5.1): a receive, a transmit and a control queue before a backend
 * that moves one frame at a time (devices/backend/net.h).
 *
 * All work is done with the lock of the dma handle held and never waits: frames to send on the
 * thread that was notified, straight from guest memory; received frames on the device's own
 * thread, which also goes on with what the backend had no room for. So nothing is in flight
 * without the lock, and a reset or an UNMAP has nothing to wait for.
 */
#ifndef STRATA_VIRTIO_NET_H
#define STRATA_VIRTIO_NET_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/net.h"
#include "devices/core/virtio_device.h"
#include "vmm/machine/vm_thread.h"

#define VIRTIO_NET_RECEIVE   0 /* queues (5.1.2) */
#define VIRTIO_NET_TRANSMIT  1
#define VIRTIO_NET_CONTROL   2
#define VIRTIO_NET_QUEUE_MAX 256
/* Frames moved, or commands carried out, before others get their turn. */
#define VIRTIO_NET_TURN 64u
/* Buffers that one frame may be spread over; drivers need at most 43 or so. */
#define VIRTIO_NET_MERGE_MAX 64u
/* Entries of the table of addresses that are received; with more, all of their kind are. */
#define VIRTIO_NET_MACS_MAX 32u
#define VIRTIO_NET_PIECES   (VIRTIO_NET_QUEUE_MAX + NET_FRAME_MAX / 4096 + 2)

/* What the guest can see or has set. */
struct virtio_net_state {
    uint8_t mac[NET_MAC_BYTES];
    bool link;
    bool promiscuous, all_multicast; /* of VIRTIO_NET_F_CTRL_RX */
    bool overflow[2];                /* more single addresses, more groups, than the table holds */
    uint8_t nmacs;
    uint8_t macs[VIRTIO_NET_MACS_MAX][NET_MAC_BYTES]; /* received beside `mac` */
    bool no_rx_buffers;             /* a frame waits for receive buffers, or would */
    bool tx_blocked;                /* `sending` waits for room in the backend */
    struct virtqueue_chain sending; /* taken from the queue, not given back */
};

/* A frame that was received and not delivered: to be saved with the state. */
struct virtio_net_frame {
    uint32_t bytes; /* 0: there is none */
    uint8_t data[NET_HEADER_BYTES + NET_FRAME_MAX];
};

struct virtio_net_counts {
    uint64_t received, received_bytes, sent, sent_bytes; /* frames; without their headers */
    uint64_t filtered;       /* received, but not for the addresses that the driver wants */
    uint64_t receive_failed; /* did not fit into the driver's buffers, or may not be written */
    uint64_t send_failed;    /* no frame, may not be read, or refused by the backend */
    uint64_t stalls;         /* the backend had no room */
};

struct virtio_net {
    struct virtio_device device;
    struct virtio_class class;
    struct virtio_net_state state;
    struct virtio_net_counts counts;
    struct net net; /* owned */
    uint8_t mac[NET_MAC_BYTES];

    struct vm_thread thread;
    /* The rest is under the lock of the dma handle. */
    bool ending;
    struct virtqueue_chain first, more;
    struct iovec pieces[VIRTIO_NET_PIECES];
    struct virtio_net_frame frame;
};

struct net_device_config {
    struct vm *vm; /* whose pauses its thread obeys; NULL: tests */
    struct dma *dma;
    const struct net_config *net; /* what it is connected to, and its address */
};

/*
 * A network device with its backend and its thread. All that the configuration says outlives
 * it. 0; or -errno and one line for the user.
 */
int virtio_net_create(struct virtio_net **net, const struct net_device_config *config, char *error,
                      size_t error_bytes);

/* The same over an open backend, which it owns on success, and without a thread. 0 or -ENOMEM. */
int virtio_net_create_on(struct virtio_net **net, struct vm *vm, struct dma *dma,
                         const struct net *backend, const uint8_t mac[NET_MAC_BYTES]);

/* Starts the thread: 0 or -errno. */
int virtio_net_start(struct virtio_net *net);

/* What the thread does when the backend has frames, or room again. Without the lock. */
void virtio_net_turn(struct virtio_net *net, bool room);

/* Without the lock. *link: whether the backend is still there. */
struct virtio_net_counts virtio_net_count(struct virtio_net *net, bool *link);

/* After the VM has ended. */
void virtio_net_destroy(struct virtio_net *net);

#endif
