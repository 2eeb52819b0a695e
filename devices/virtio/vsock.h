/*
 * virtio-vsock (virtio 1.2, 5.10), stream sockets between the guest and Unix sockets:
 *
 * - Who connects to PATH on the host and sends "CONNECT PORT\n" is connected to the guest's
 *   PORT, and gets "OK HOSTPORT\n" first when somebody listens there; else the end.
 * - The guest's connection to PORT of CID 2 becomes one to the socket PATH_PORT.
 *
 * All work is done with the lock of the dma handle held and never waits: packets of the guest on
 * the thread that was notified, what comes from the sockets on the device's own thread. Data
 * is copied, so nothing is in flight without the lock.
 *
 * What each side may have under way is bounded by credit (5.10.6.3); connections, and answers
 * that wait for a receive buffer, by tables. A guest that overdraws its credit loses that
 * connection, and no more.
 */
#ifndef STRATA_VIRTIO_VSOCK_H
#define STRATA_VIRTIO_VSOCK_H

#include <linux/virtio_vsock.h>
#include <stdbool.h>
#include <stdint.h>

#include "devices/backend/unix_socket.h"
#include "devices/core/virtio_device.h"
#include "devices/virtio/vsock_connection.h"
#include "vmm/machine/vm_thread.h"

#define VIRTIO_VSOCK_RECEIVE     0 /* queues (5.10.2) */
#define VIRTIO_VSOCK_TRANSMIT    1
#define VIRTIO_VSOCK_EVENT       2
#define VIRTIO_VSOCK_QUEUE_MAX   128
#define VIRTIO_VSOCK_CONNECTIONS 128
#define VIRTIO_VSOCK_RESETS      64
#define VIRTIO_VSOCK_BUFFER      65536u /* credit that the guest gets for each connection */
#define VIRTIO_VSOCK_PIECE       16384u /* of data in one packet to the guest, at most */
#define VIRTIO_VSOCK_LINE        32u    /* "CONNECT 4294967295\n" and some more */
#define VIRTIO_VSOCK_PATH_BYTES  108    /* of sockaddr_un, with room for _PORT */
#define VIRTIO_VSOCK_TURN        64u    /* packets, before others get their turn */

#define VSOCK_CID_HOST           2ull
#define VSOCK_CID_FIRST          3u /* that a guest may have (5.10.4) */
#define VSOCK_CID_LAST           0xfffffffeu

enum vsock_state {
    VSOCK_FREE,
    VSOCK_ASKED,      /* the host's: connected, has not said to which port */
    VSOCK_REQUESTED,  /* the host's: REQUEST is or was sent to the guest */
    VSOCK_CONNECTED,  /* data goes to and fro */
    VSOCK_DISCONNECT, /* the host's end is gone; the guest has not agreed yet */
    VSOCK_RESET,      /* over: an RST is all that there is left to say */
};

/* Packets that a connection has to send to the guest, by bit. */
enum {
    VSOCK_SEND_REQUEST = 1,
    VSOCK_SEND_RESPONSE = 2,
    VSOCK_SEND_CREDIT = 4,
    VSOCK_SEND_CREDIT_REQUEST = 8,
    VSOCK_SEND_SHUTDOWN = 16,
    VSOCK_SEND_RESET = 32,
};

struct vsock_connection {
    enum vsock_state state;
    int fd; /* < 0: closed */
    uint32_t host_port, guest_port;
    unsigned send;          /* VSOCK_SEND_… */
    uint32_t host_shutdown; /* VIRTIO_VSOCK_SHUTDOWN_… of each end */
    uint32_t guest_shutdown;
    bool readable;  /* the socket may have something */
    bool hung_up;   /* nobody is at its other end, but something may be left to read */
    bool asked;     /* for credit, and not got any yet */
    short polled;   /* what the thread looks for; see vsock_interest */
    uint64_t since; /* the order in which they began: no two the same */
    char line[VIRTIO_VSOCK_LINE]; /* ASKED: so far */
    unsigned line_bytes;

    /* Data to the guest: its room, and what went there and was taken from there. */
    uint32_t peer_buf_alloc, peer_fwd_cnt, sent;
    /* Data from the guest that the socket has not taken: a ring of VIRTIO_VSOCK_BUFFER bytes. */
    uint8_t *buffer; /* NULL: none was needed yet */
    uint32_t first, waiting;
    uint32_t fwd_cnt, fwd_told; /* taken by the socket; as the guest knows */
};

struct virtio_vsock_counts {
    uint64_t from_guest, to_guest; /* connections that came about */
    uint64_t refused;              /* by either side, or for want of room */
    uint64_t received_bytes, sent_bytes;
    uint64_t bad_packets; /* of the guest: too short, another's address, beyond its credit */
};

/* An RST for a connection that there is not. */
struct vsock_reset {
    uint32_t host_port, guest_port;
    uint16_t type;
};

/*
 * What the guest can see or has set. Connections are none of it: they end at sockets of this
 * host, and a machine that comes back elsewhere has lost them (virtio_vsock_transport_reset).
 */
struct virtio_vsock_state {
    uint64_t guest_cid;
    bool no_rx_buffers; /* there is something to send, and no receive buffer */
    bool tx_blocked;    /* packets of the guest wait: the table of resets is full */
    bool reset_due;     /* of the transport (5.10.6.7): no event buffer so far */
    uint32_t next_port;
    unsigned nresets;
    struct vsock_reset resets[VIRTIO_VSOCK_RESETS];
};

struct virtio_vsock {
    struct virtio_device device;
    struct virtio_vsock_state state;
    char path[VIRTIO_VSOCK_PATH_BYTES];
    struct unix_listener listener;
    struct virtio_vsock_counts counts;

    struct vm_thread thread;
    /* The rest is under the lock of the dma handle. */
    bool ending;
    uint64_t begun;
    unsigned turn; /* the connection to look at first */
    struct vsock_connection connections[VIRTIO_VSOCK_CONNECTIONS];
    struct virtqueue_chain chain;
    uint8_t piece[sizeof(struct virtio_vsock_hdr) + VIRTIO_VSOCK_PIECE];
};

struct vsock_config {
    struct vm *vm;   /* whose pauses its thread obeys; NULL: tests */
    struct dma *dma; /* outlives the device */
    uint64_t guest_cid;
    const char *path; /* where the device listens (unix_listen) */
};

/* 0; or -errno and one line for the user. */
int virtio_vsock_create(struct virtio_vsock **vsock, const struct vsock_config *config, char *error,
                        size_t error_bytes);

/* Starts the thread: 0 or -errno. */
int virtio_vsock_start(struct virtio_vsock *vsock);

/* What the thread does, once, without waiting: looks at every socket. Without the lock. */
void virtio_vsock_turn(struct virtio_vsock *vsock);

/*
 * The machine is not the one that it was (a snapshot came back): all connections are gone,
 * and the driver is told. Without the lock.
 */
void virtio_vsock_transport_reset(struct virtio_vsock *vsock);

/* Without the lock. *open: connections that there are now. */
struct virtio_vsock_counts virtio_vsock_count(struct virtio_vsock *vsock, unsigned *open);

/* After the VM has ended; removes the socket file. */
void virtio_vsock_destroy(struct virtio_vsock *vsock);

#endif
