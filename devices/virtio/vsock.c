#include "devices/virtio/vsock.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/core/device.h"
#include "devices/iommu/dma.h"
#include "devices/virtio/vsock_connection.h"

#define HEADER_BYTES    ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define BACKLOG         16 /* who may wait to be accepted */
#define ACCEPT_AGAIN_US 10000
#define POLLED_FIRST    2 /* the eventfd and the listener come before the connections */
#define F_STREAM        0 /* VIRTIO_VSOCK_F_STREAM (5.10.3) */

_Static_assert(sizeof(((struct sockaddr_un *)NULL)->sun_path) == VIRTIO_VSOCK_PATH_BYTES,
               "unix(7): so that the guest's sockets, PATH_PORT, can be reached");
_Static_assert(sizeof(struct virtio_vsock_hdr) == 44, "packed (5.10.6)");

static struct virtqueue *queue_of(struct virtio_vsock *vsock, unsigned index)
{
    return &vsock->device.queues[index];
}

static bool working(const struct virtio_vsock *vsock)
{
    return virtio_device_is_running(&vsock->device);
}

/* Wakes the thread if it waits for something else than it should. */
static void wake_if_stale(struct virtio_vsock *vsock)
{
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
        const struct vsock_connection *connection = &vsock->connections[i];

        if (vsock_interest(connection) & ~connection->polled) {
            vm_thread_wake(&vsock->thread);
            return;
        }
    }
}

/* ---- To the guest --------------------------------------------------------------------- */

/* Whose turn it is; NULL: nobody has anything to say. */
static struct vsock_connection *next_connection(struct virtio_vsock *vsock)
{
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
        unsigned at = (vsock->turn + i) % VIRTIO_VSOCK_CONNECTIONS;

        if (vsock_has_packet(&vsock->connections[at])) {
            vsock->turn = at + 1;
            return &vsock->connections[at];
        }
    }
    return NULL;
}

/* Makes the next packet in vsock->piece: false if there is none. */
static bool next_packet(struct virtio_vsock *vsock, uint32_t room,
                        struct vsock_connection **connection)
{
    *connection = NULL;
    if (vsock->state.nresets) {
        const struct vsock_reset *reset = &vsock->state.resets[--vsock->state.nresets];

        vsock_header(vsock, reset->host_port, reset->guest_port, VIRTIO_VSOCK_OP_RST)
            ->type = reset->type;
        return true;
    }
    while ((*connection = next_connection(vsock))) {
        if (vsock_next_packet(vsock, *connection, room))
            return true;
        if (!room)
            return false; /* it has data alone */
    }
    return false;
}

/* Sends one packet: 1; 0: there is none; -EAGAIN: no buffer for it; or an error of the queue. */
static int send_next(struct virtio_vsock *vsock)
{
    struct virtqueue *queue = queue_of(vsock, VIRTIO_VSOCK_RECEIVE);
    struct vsock_connection *connection;
    struct virtio_vsock_hdr header;
    int64_t written;
    int err;

    if (!vsock->state.nresets && !next_connection(vsock))
        return 0;
    err = virtqueue_pop(queue, &vsock->chain);
    if (err <= 0)
        return err ? err : -EAGAIN;
    if (vsock->chain.writable_bytes < HEADER_BYTES) {
        queue->broken = "a receive buffer without room for a header";
        return -EINVAL;
    }
    if (!next_packet(vsock,
                     vsock->chain.writable_bytes - HEADER_BYTES < VIRTIO_VSOCK_PIECE
                         ? (uint32_t)vsock->chain.writable_bytes - HEADER_BYTES
                         : VIRTIO_VSOCK_PIECE,
                     &connection)) {
        virtqueue_unpop(queue, 1);
        return 0;
    }
    memcpy(&header, vsock->piece, sizeof(header));
    written = virtqueue_write(queue, &vsock->chain, 0, vsock->piece, HEADER_BYTES + header.len);
    /* What may not be written is lost, and with data the stream is. */
    if (written < 0 && header.len)
        vsock_abort(connection);
    err = virtqueue_push(queue, vsock->chain.head, written > 0 ? (uint32_t)written : 0);
    return err ? err : 1;
}

/* True: there is more, go on soon. The driver need not kick but where it left us without buffers.
 */
static bool feed(struct virtio_vsock *vsock)
{
    struct virtqueue *queue = queue_of(vsock, VIRTIO_VSOCK_RECEIVE);
    unsigned turn = 0;
    int sent = 1;

    if (vsock->state.no_rx_buffers || !queue->state.ready)
        return false;
    virtqueue_want_kicks(queue, false);
    while (sent > 0 && turn++ < VIRTIO_VSOCK_TURN) {
        sent = send_next(vsock);
        if (sent != -EAGAIN)
            continue;
        virtqueue_want_kicks(queue, true);
        sent = send_next(vsock);
        if (sent > 0)
            virtqueue_want_kicks(queue, false);
    }
    vsock->state.no_rx_buffers = sent == -EAGAIN;
    if (sent < 0 && !vsock->state.no_rx_buffers)
        virtio_device_set_needs_reset(&vsock->device, queue->broken);
    virtio_device_notify_used(&vsock->device, VIRTIO_VSOCK_RECEIVE);
    return sent > 0;
}

/* ---- From the guest ------------------------------------------------------------------- */

/* The packet in vsock->chain. */
static void take_packet(struct virtio_vsock *vsock)
{
    struct virtio_vsock_hdr header;

    if (virtqueue_read(queue_of(vsock, VIRTIO_VSOCK_TRANSMIT), &vsock->chain, 0, &header,
                       sizeof(header)) != (int64_t)sizeof(header) ||
        header.src_cid != vsock->state.guest_cid || header.dst_cid != VSOCK_CID_HOST) {
        vsock->counts.bad_packets++;
        return;
    }
    if (header.type != VIRTIO_VSOCK_TYPE_STREAM) {
        vsock->counts.bad_packets++;
        /* 5.10.6.4: an unknown type is answered by an RST. */
        if (header.op != VIRTIO_VSOCK_OP_RST)
            vsock_owe_reset(vsock, &header);
        return;
    }
    vsock_take_packet(vsock, &header);
}

/* True: there may be more, go on soon. Each packet can cost an answer, for which there is room. */
static bool drain(struct virtio_vsock *vsock)
{
    struct virtqueue *queue = queue_of(vsock, VIRTIO_VSOCK_TRANSMIT);
    unsigned turn = 0;
    int taken = 1;

    while (taken > 0 && turn < VIRTIO_VSOCK_TURN && vsock->state.nresets < VIRTIO_VSOCK_RESETS) {
        taken = virtqueue_pop(queue, &vsock->chain);
        if (taken <= 0)
            break;
        turn++;
        take_packet(vsock);
        taken = virtqueue_push(queue, vsock->chain.head, 0);
        taken = taken ? taken : 1;
    }
    vsock->state.tx_blocked = vsock->state.nresets == VIRTIO_VSOCK_RESETS;
    if (taken < 0)
        virtio_device_set_needs_reset(&vsock->device, queue->broken);
    if (turn)
        virtio_device_notify_used(&vsock->device, VIRTIO_VSOCK_TRANSMIT);
    return taken > 0 && !vsock->state.tx_blocked;
}

/* ---- Events --------------------------------------------------------------------------- */

static void send_event(struct virtio_vsock *vsock)
{
    static const struct virtio_vsock_event event = { .id = VIRTIO_VSOCK_EVENT_TRANSPORT_RESET };
    struct virtqueue *queue = queue_of(vsock, VIRTIO_VSOCK_EVENT);
    int taken = vsock->state.reset_due ? virtqueue_pop(queue, &vsock->chain) : 0;

    if (taken > 0) {
        int64_t written = virtqueue_write(queue, &vsock->chain, 0, &event, sizeof(event));

        vsock->state.reset_due = written != sizeof(event);
        taken = virtqueue_push(queue, vsock->chain.head, written > 0 ? (uint32_t)written : 0);
    }
    if (taken < 0)
        virtio_device_set_needs_reset(&vsock->device, queue->broken);
    virtio_device_notify_used(&vsock->device, VIRTIO_VSOCK_EVENT);
}

static void forget_all(struct virtio_vsock *vsock)
{
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++)
        vsock_forget(&vsock->connections[i]);
    vsock->state.nresets = 0;
    vsock->state.no_rx_buffers = vsock->state.tx_blocked = false;
}

void virtio_vsock_transport_reset(struct virtio_vsock *vsock)
{
    dma_lock(vsock->device.dma);
    forget_all(vsock);
    vsock->state.reset_due = true;
    if (working(vsock))
        send_event(vsock);
    dma_unlock(vsock->device.dma);
}

/* ---- The thread ------------------------------------------------------------------------- */

/* Under the lock: all that there is to do now. True: there is more. */
static bool work(struct virtio_vsock *vsock)
{
    bool more = false;

    if (!working(vsock))
        return false;
    more = feed(vsock);
    /* Room in the table of resets: what waited for it goes on. */
    if (vsock->state.tx_blocked && vsock->state.nresets < VIRTIO_VSOCK_RESETS)
        more |= drain(vsock);
    return more;
}

/* Who is to be polled, and for what; their number. */
static nfds_t collect(struct virtio_vsock *vsock, struct pollfd *fds,
                      struct vsock_connection **polled, uint64_t *since)
{
    nfds_t n = POLLED_FIRST;

    fds[0] = (struct pollfd){ .fd = vsock->thread.wake_fd, .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = vsock->listener.fd, .events = POLLIN };
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
        struct vsock_connection *connection = &vsock->connections[i];

        connection->polled = vsock_interest(connection);
        if (!connection->polled)
            continue;
        fds[n] = (struct pollfd){ .fd = connection->fd,
                                  .events = (short)(connection->polled & ~POLLHUP) };
        polled[n] = connection;
        since[n++] = connection->since;
    }
    return n;
}

/* Looks at all sockets, waiting for one at most `timeout_ms`; false: it is over. */
static bool look(struct virtio_vsock *vsock, int timeout_ms)
{
    struct pollfd fds[POLLED_FIRST + VIRTIO_VSOCK_CONNECTIONS];
    struct vsock_connection *polled[POLLED_FIRST + VIRTIO_VSOCK_CONNECTIONS];
    uint64_t since[POLLED_FIRST + VIRTIO_VSOCK_CONNECTIONS];
    unsigned accepted = 0;
    bool going;
    nfds_t n;

    vm_thread_enter(&vsock->thread);
    dma_lock(vsock->device.dma);
    if (work(vsock))
        timeout_ms = 0;
    n = collect(vsock, fds, polled, since);
    going = !vsock->ending;
    dma_unlock(vsock->device.dma);
    vm_thread_leave(&vsock->thread);
    if (!going || poll(fds, n, timeout_ms) <= 0)
        return going;
    if (fds[0].revents)
        vm_thread_woken(&vsock->thread);
    vm_thread_enter(&vsock->thread);
    dma_lock(vsock->device.dma);
    for (nfds_t i = POLLED_FIRST; i < n; i++) {
        /* It may have become another one meanwhile. */
        if (fds[i].revents && polled[i]->since == since[i])
            vsock_ready(vsock, polled[i], fds[i].revents);
    }
    while (fds[1].revents && accepted < BACKLOG && vsock_accept(vsock))
        accepted++;
    dma_unlock(vsock->device.dma);
    vm_thread_leave(&vsock->thread);
    /* Out of file descriptors: it waits, and poll would return at once. */
    if (fds[1].revents && !accepted)
        usleep(ACCEPT_AGAIN_US);
    return true;
}

void virtio_vsock_turn(struct virtio_vsock *vsock)
{
    look(vsock, 0);
    dma_lock(vsock->device.dma);
    work(vsock);
    dma_unlock(vsock->device.dma);
}

static void thread(void *owner)
{
    while (look(owner, -1))
        ;
}

int virtio_vsock_start(struct virtio_vsock *vsock)
{
    return vm_thread_start(&vsock->thread, thread, vsock);
}

/* ---- The device --------------------------------------------------------------------------- */

static void notify(void *owner, unsigned queue)
{
    struct virtio_vsock *vsock = owner;

    if (queue == VIRTIO_VSOCK_EVENT) {
        send_event(vsock);
        return;
    }
    if (queue == VIRTIO_VSOCK_RECEIVE)
        vsock->state.no_rx_buffers = false;
    else if (drain(vsock))
        virtio_device_set_pending(&vsock->device, VIRTIO_VSOCK_TRANSMIT);
    if (work(vsock))
        virtio_device_set_pending(&vsock->device, VIRTIO_VSOCK_RECEIVE);
    wake_if_stale(vsock);
}

static void reset(void *owner)
{
    struct virtio_vsock *vsock = owner;

    forget_all(vsock);
    vsock->state.reset_due = false;
}

static void stop(void *owner, unsigned queue)
{
    struct virtio_vsock *vsock = owner;

    if (queue == VIRTIO_VSOCK_RECEIVE)
        vsock->state.no_rx_buffers = false;
}

static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    const struct virtio_vsock *vsock = owner;
    uint64_t value = 0;

    memcpy(&value, (const char *)&vsock->state.guest_cid + offset, size);
    return value;
}

static const struct virtio_class vsock_class = {
    .name = "virtio-vsock",
    .device_id = VIRTIO_ID_VSOCK,
    .features = 1ull << F_STREAM,
    .nqueues = 3,
    .queue_max = VIRTIO_VSOCK_QUEUE_MAX,
    .config_bytes = sizeof(struct virtio_vsock_config),
    .notify = notify,
    .reset = reset,
    .stop = stop,
    .config_read = config_read,
};

int virtio_vsock_create(struct virtio_vsock **created, const struct vsock_config *config,
                        char *error, size_t error_bytes)
{
    struct virtio_vsock *vsock = calloc(1, sizeof(*vsock));
    char why[256] = "no memory";
    int err = vsock ? 0 : -ENOMEM;

    if (!err && strlen(config->path) + sizeof("_4294967295") > VIRTIO_VSOCK_PATH_BYTES) {
        snprintf(why, sizeof(why), "the path is too long; give one of at most %zu characters",
                 VIRTIO_VSOCK_PATH_BYTES - sizeof("_4294967295"));
        err = -ENAMETOOLONG;
    }
    if (err)
        goto explain;
    vsock->state.guest_cid = config->guest_cid;
    vm_thread_init(&vsock->thread, config->vm, VM_THREAD_BACK, "virtio-vsock");
    strcpy(vsock->path, config->path);
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++)
        vsock->connections[i].fd = -1;
    err = unix_listen(&vsock->listener, vsock->path, BACKLOG, why, sizeof(why));
    if (err)
        goto explain;
    virtio_device_init(&vsock->device, &vsock_class, vsock, config->dma);
    *created = vsock;
    return 0;

explain:
    snprintf(error, error_bytes, "--vsock: %s", why);
    free(vsock);
    return err;
}

struct virtio_vsock_counts virtio_vsock_count(struct virtio_vsock *vsock, unsigned *open)
{
    struct virtio_vsock_counts counts;

    dma_lock(vsock->device.dma);
    counts = vsock->counts;
    *open = 0;
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++)
        *open += vsock->connections[i].state == VSOCK_CONNECTED;
    dma_unlock(vsock->device.dma);
    return counts;
}

void virtio_vsock_destroy(struct virtio_vsock *vsock)
{
    dma_lock(vsock->device.dma);
    vsock->ending = true;
    vm_thread_wake(&vsock->thread);
    dma_unlock(vsock->device.dma);
    vm_thread_end(&vsock->thread);
    forget_all(vsock);
    unix_listener_close(&vsock->listener);
    free(vsock);
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int vsock_create(struct device *device, const struct device_config *config,
                        const struct device_place *place)
{
    const struct vsock_config vsock_config = {
        .vm = place->vm, .dma = place->dma, .guest_cid = config->guest_cid, .path = config->path
    };
    struct virtio_vsock *vsock;
    int err = virtio_vsock_create(&vsock, &vsock_config, place->error, place->error_bytes);

    if (err)
        return err;
    err = virtio_vsock_start(vsock);
    if (err) {
        virtio_vsock_destroy(vsock);
        return err;
    }
    device->model = vsock;
    device->virtio = &vsock->device;
    return 0;
}

static void vsock_destroy(void *model)
{
    virtio_vsock_destroy(model);
}

static bool vsock_stats(void *model, struct device_stats *stats)
{
    struct virtio_vsock *vsock = model;
    unsigned open;
    struct virtio_vsock_counts counts = virtio_vsock_count(vsock, &open);

    stats->number(stats, "guest_cid", vsock->state.guest_cid);
    stats->text(stats, "uds_path", vsock->path);
    stats->number(stats, "open", open);
    stats->number(stats, "from_guest", counts.from_guest);
    stats->number(stats, "to_guest", counts.to_guest);
    stats->number(stats, "refused", counts.refused);
    stats->number(stats, "received_bytes", counts.received_bytes);
    stats->number(stats, "sent_bytes", counts.sent_bytes);
    stats->number(stats, "bad_packets", counts.bad_packets);
    return true;
}

const struct device_ops virtio_vsock_ops = {
    .name = "virtio-vsock",
    .stats_name = "vsock",
    .create = vsock_create,
    .destroy = vsock_destroy,
    .stats = vsock_stats,
};
