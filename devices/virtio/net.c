#include "devices/virtio/net.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/core/device.h"
#include "devices/iommu/dma.h"
#include "devices/virtio/net_control.h"

#define FEATURE(name) (1ull << VIRTIO_NET_F_##name)
/* What a backend with headers allows: checksums and segments left to the other side. */
#define OFFLOADS                                                                     \
    (FEATURE(CSUM) | FEATURE(GUEST_CSUM) | FEATURE(HOST_TSO4) | FEATURE(HOST_TSO6) | \
     FEATURE(HOST_ECN) | FEATURE(GUEST_TSO4) | FEATURE(GUEST_TSO6) | FEATURE(GUEST_ECN))
#define CONFIG_BYTES offsetof(struct virtio_net_config, speed) /* up to and with mtu */

static struct virtqueue *queue_of(struct virtio_net *net, unsigned index)
{
    return &net->device.queues[index];
}

/* The other end has gone: the cable is out, for good. */
static void unplug(struct virtio_net *net)
{
    if (!net->state.link)
        return;
    net->state.link = false;
    virtio_device_config_changed(&net->device);
}

static bool working(const struct virtio_net *net)
{
    return virtio_device_is_running(&net->device);
}

/* ---- Transmit ------------------------------------------------------------------------- */

/* The frame of net->state.sending, from guest memory to the backend: as net_send, or -EFAULT, …. */
static int send_frame(struct virtio_net *net)
{
    const struct virtqueue_chain *chain = &net->state.sending;
    unsigned n = 0;

    if (chain->readable_bytes < NET_HEADER_BYTES + NET_FRAME_MIN ||
        chain->readable_bytes > NET_HEADER_BYTES + NET_FRAME_MAX)
        return -EMSGSIZE;
    for (unsigned i = 0; i < chain->nreadable; i++) {
        const struct virtqueue_segment *segment = &chain->segments[i];
        int pieces = dma_translate(net->device.dma, segment->iova, segment->len, DMA_READ,
                                   net->pieces + n, VIRTIO_NET_PIECES - n);

        if (pieces < 0)
            return pieces;
        n += (unsigned)pieces;
    }
    return net->state.link ? net_send(&net->net, net->pieces, n) : -ENODEV;
}

/* Sends the next frame: 1; 0 if there is none, or no room for it; or an error of the queue. */
static int send_next(struct virtio_net *net)
{
    struct virtqueue *queue = queue_of(net, VIRTIO_NET_TRANSMIT);
    int err = net->state.tx_blocked ? 1 : virtqueue_pop(queue, &net->state.sending);

    if (err <= 0)
        return err;
    net->state.tx_blocked = false;
    err = send_frame(net);
    if (err == -EAGAIN) {
        net->state.tx_blocked = true;
        net->counts.stalls++;
        vm_thread_wake(&net->thread);
        return 0;
    }
    if (err == -ENODEV)
        unplug(net);
    if (err) {
        net->counts.send_failed++;
    } else {
        net->counts.sent++;
        net->counts.sent_bytes += net->state.sending.readable_bytes - NET_HEADER_BYTES;
    }
    err = virtqueue_push(queue, net->state.sending.head, 0);
    return err ? err : 1;
}

/* True: there may be more, go on soon. The driver need not kick while this lasts. */
static bool transmit(struct virtio_net *net)
{
    struct virtqueue *queue = queue_of(net, VIRTIO_NET_TRANSMIT);
    unsigned turn = 0;
    int taken = 1;

    virtqueue_want_kicks(queue, false);
    while (taken > 0 && turn++ < VIRTIO_NET_TURN) {
        taken = send_next(net);
        if (taken || net->state.tx_blocked)
            continue;
        /* Kicks are wanted again; what came just before is not forgotten. */
        virtqueue_want_kicks(queue, true);
        taken = send_next(net);
        if (taken > 0)
            virtqueue_want_kicks(queue, false);
    }
    if (taken < 0)
        virtio_device_set_needs_reset(&net->device, queue->broken);
    virtio_device_notify_used(&net->device, VIRTIO_NET_TRANSMIT);
    return taken > 0;
}

/* ---- Receive -------------------------------------------------------------------------- */

/* The chains that a frame goes into. */
struct delivery {
    struct virtqueue_used used[VIRTIO_NET_MERGE_MAX];
    uint16_t count;
    uint32_t done; /* bytes of the frame, header included */
    bool fault;    /* a buffer may not be written */
};

/*
 * Copies the next part of the frame into the chain just taken. What may not be written comes
 * back empty; drivers take that for a frame that was lost.
 */
static void fill(struct virtio_net *net, struct delivery *delivery,
                 const struct virtqueue_chain *chain)
{
    struct virtqueue_used *used = &delivery->used[delivery->count++];
    int64_t written = virtqueue_write(queue_of(net, VIRTIO_NET_RECEIVE), chain, 0,
                                      net->frame.data + delivery->done,
                                      net->frame.bytes - delivery->done);

    *used = (struct virtqueue_used){ .head = chain->head };
    if (written < 0) {
        delivery->fault = true;
        return;
    }
    used->written = (uint32_t)written;
    delivery->done += (uint32_t)written;
}

/* 5.1.6.4: num_buffers is always there, at the end of the header. */
static void write_num_buffers(struct virtio_net *net, struct delivery *delivery)
{
    const uint16_t count = delivery->count;

    if (virtqueue_write(queue_of(net, VIRTIO_NET_RECEIVE), &net->first,
                        offsetof(struct virtio_net_hdr_v1, num_buffers), &count,
                        sizeof(count)) != sizeof(count))
        delivery->fault = true;
}

/* Takes as many buffers as the frame needs: 1, all filled, or there is a fault; 0: there are
 * not enough, which all stay in the queue; or an error of the queue. */
static int gather(struct virtio_net *net, struct delivery *delivery)
{
    struct virtqueue *queue = queue_of(net, VIRTIO_NET_RECEIVE);
    unsigned most = virtio_device_has_feature(&net->device, VIRTIO_NET_F_MRG_RXBUF)
                        ? VIRTIO_NET_MERGE_MAX
                        : 1;

    while (delivery->done < net->frame.bytes && !delivery->fault && delivery->count < most) {
        struct virtqueue_chain *chain = delivery->count ? &net->more : &net->first;
        int taken = virtqueue_pop(queue, chain);

        if (taken <= 0) {
            /* A full ring of buffers is all that there will ever be. */
            if (!taken && delivery->count == queue->state.size)
                return 1;
            if (!taken)
                virtqueue_unpop(queue, delivery->count);
            return taken;
        }
        /* 5.1.6.3.1: each receive buffer has room for the header at least. */
        if (chain->writable_bytes < NET_HEADER_BYTES) {
            queue->broken = "a receive buffer without room for a header";
            return -EINVAL;
        }
        fill(net, delivery, chain);
    }
    return 1;
}

/* The frame that waits goes to the driver, or is lost: as gather. */
static int deliver(struct virtio_net *net)
{
    struct virtqueue *queue = queue_of(net, VIRTIO_NET_RECEIVE);
    struct delivery delivery = { .count = 0 };
    int taken = gather(net, &delivery);

    if (taken <= 0)
        return taken;
    if (delivery.done == net->frame.bytes && !delivery.fault)
        write_num_buffers(net, &delivery);
    if (delivery.fault) {
        net->counts.receive_failed++;
        for (unsigned i = 0; i < delivery.count; i++)
            delivery.used[i].written = 0;
    } else if (delivery.done < net->frame.bytes) {
        /* Too small for it, all together: the next frame may do with them. */
        net->counts.receive_failed++;
        virtqueue_unpop(queue, delivery.count);
        delivery.count = 0;
    } else {
        net->counts.received++;
        net->counts.received_bytes += net->frame.bytes - NET_HEADER_BYTES;
    }
    net->frame.bytes = 0;
    taken = delivery.count ? virtqueue_push_all(queue, delivery.used, delivery.count) : 0;
    return taken ? taken : 1;
}

/* Takes the next frame from the backend that the driver wants: false if there is none. */
static bool fetch(struct virtio_net *net)
{
    ssize_t bytes = net->state.link
                        ? net_receive(&net->net, net->frame.data, sizeof(net->frame.data))
                        : -EAGAIN;

    if (bytes == -ENODEV)
        unplug(net);
    if (bytes == -EAGAIN || bytes == -ENODEV)
        return false;
    if (bytes < 0)
        net->counts.receive_failed++;
    else if (!virtio_net_wanted(net, net->frame.data + NET_HEADER_BYTES))
        net->counts.filtered++;
    else
        net->frame.bytes = (uint32_t)bytes;
    return true;
}

/* Moves what there is, a turn of it; the driver kicks this queue only when it had no buffers. */
static void receive(struct virtio_net *net)
{
    struct virtqueue *queue = queue_of(net, VIRTIO_NET_RECEIVE);
    unsigned turn = 0;
    int taken = 1;

    if (!queue->state.ready)
        return;
    virtqueue_want_kicks(queue, false);
    while (taken > 0 && turn++ < VIRTIO_NET_TURN && (net->frame.bytes || fetch(net))) {
        if (!net->frame.bytes)
            continue;
        taken = deliver(net);
        if (taken)
            continue;
        virtqueue_want_kicks(queue, true);
        taken = deliver(net);
        if (taken > 0)
            virtqueue_want_kicks(queue, false);
    }
    net->state.no_rx_buffers = !taken;
    if (taken < 0)
        virtio_device_set_needs_reset(&net->device, queue->broken);
    virtio_device_notify_used(&net->device, VIRTIO_NET_RECEIVE);
}

/* ---- The thread ------------------------------------------------------------------------- */

void virtio_net_turn(struct virtio_net *net, bool room)
{
    bool more;

    dma_lock(net->device.dma);
    more = net->state.tx_blocked && room;
    if (working(net) && !net->state.no_rx_buffers)
        receive(net);
    while (more) {
        more = working(net) && transmit(net);
        dma_unlock(net->device.dma);
        dma_lock(net->device.dma);
    }
    dma_unlock(net->device.dma);
}

/* What to wait for, under the lock; false: for nothing more, it is over. */
static bool ask(struct virtio_net *net, struct pollfd *frames)
{
    bool going;

    dma_lock(net->device.dma);
    going = !net->ending;
    /* A backend that is gone would be ready for ever. */
    frames->fd = net->state.link ? net->net.fd : -1;
    frames->events = 0;
    if (working(net))
        frames->events = (short)((net->state.no_rx_buffers ? 0 : POLLIN) |
                                 (net->state.tx_blocked ? POLLOUT : 0));
    if (!frames->events)
        frames->fd = -1;
    dma_unlock(net->device.dma);
    return going;
}

static void work(void *owner)
{
    struct virtio_net *net = owner;
    struct pollfd fds[2] = { { .fd = net->thread.wake_fd, .events = POLLIN } };

    while (ask(net, &fds[1])) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[0].revents)
            vm_thread_woken(&net->thread);
        /* Woken, it may hold a frame already; an error is found out by receiving. */
        vm_thread_enter(&net->thread);
        virtio_net_turn(net, fds[1].fd >= 0 && fds[1].revents & ~POLLIN);
        vm_thread_leave(&net->thread);
    }
}

int virtio_net_start(struct virtio_net *net)
{
    return vm_thread_start(&net->thread, work, net);
}

/* ---- The device --------------------------------------------------------------------------- */

static void control(struct virtio_net *net)
{
    struct virtqueue *queue = queue_of(net, VIRTIO_NET_CONTROL);
    unsigned turn = 0;
    int taken = 0;

    while (turn++ < VIRTIO_NET_TURN && (taken = virtqueue_pop(queue, &net->more)) > 0) {
        uint32_t written = virtio_net_control(net, &net->more);

        taken = virtqueue_push(queue, net->more.head, written);
        if (taken < 0)
            break;
        taken = 1;
    }
    if (taken < 0)
        virtio_device_set_needs_reset(&net->device, queue->broken);
    else if (taken > 0)
        virtio_device_set_pending(&net->device, VIRTIO_NET_CONTROL);
    virtio_device_notify_used(&net->device, VIRTIO_NET_CONTROL);
}

static void notify(void *owner, unsigned queue)
{
    struct virtio_net *net = owner;

    switch (queue) {
    case VIRTIO_NET_RECEIVE:
        net->state.no_rx_buffers = false;
        vm_thread_wake(&net->thread);
        break;
    case VIRTIO_NET_TRANSMIT:
        /* While sending is blocked, the thread goes on when there is room. */
        if (!net->state.tx_blocked && transmit(net))
            virtio_device_set_pending(&net->device, queue);
        break;
    default: control(net); break;
    }
}

static void start(void *owner, uint64_t features)
{
    struct virtio_net *net = owner;

    if (net_accept(&net->net, features) == -EBADFD)
        unplug(net);
    vm_thread_wake(&net->thread);
}

static void stop(void *owner, unsigned queue)
{
    struct virtio_net *net = owner;

    if (queue == VIRTIO_NET_TRANSMIT) {
        net->state.tx_blocked = false;
    } else if (queue == VIRTIO_NET_RECEIVE) {
        net->state.no_rx_buffers = false;
        net->frame.bytes = 0;
    }
}

static void reset(void *owner)
{
    struct virtio_net *net = owner;

    stop(net, VIRTIO_NET_TRANSMIT);
    stop(net, VIRTIO_NET_RECEIVE);
    virtio_net_control_reset(net);
    (void)net_accept(&net->net, 0);
}

static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    const struct virtio_net *net = owner;
    struct virtio_net_config config = {
        .status = net->state.link ? VIRTIO_NET_S_LINK_UP : 0,
        .max_virtqueue_pairs = 1,
        .mtu = net->net.mtu,
    };
    uint64_t value = 0;

    memcpy(config.mac, net->state.mac, sizeof(config.mac));
    memcpy(&value, (const char *)&config + offset, size);
    return value;
}

static const struct virtio_class class_of_all = {
    .name = "virtio-net",
    .device_id = 1,
    .features = FEATURE(MAC) | FEATURE(MTU) | FEATURE(STATUS) | FEATURE(MRG_RXBUF) |
                FEATURE(CTRL_VQ) | FEATURE(CTRL_RX) | FEATURE(CTRL_MAC_ADDR),
    .nqueues = 3,
    .queue_max = VIRTIO_NET_QUEUE_MAX,
    .config_bytes = CONFIG_BYTES,
    .notify = notify,
    .reset = reset,
    .stop = stop,
    .start = start,
    .config_read = config_read,
};

int virtio_net_create_on(struct virtio_net **created, struct vm *vm, struct dma *dma,
                         const struct net *backend, const uint8_t mac[NET_MAC_BYTES])
{
    struct virtio_net *net = calloc(1, sizeof(*net));

    if (!net)
        return -ENOMEM;
    net->net = *backend;
    vm_thread_init(&net->thread, vm, VM_THREAD_BACK, "virtio-net");
    memcpy(net->mac, mac, NET_MAC_BYTES);
    net->state.link = true;
    virtio_net_control_reset(net);
    net->class = class_of_all;
    if (backend->header)
        net->class.features |= OFFLOADS;
    virtio_device_init(&net->device, &net->class, net, dma);
    *created = net;
    return 0;
}

int virtio_net_create(struct virtio_net **created, const struct net_device_config *config,
                      char *error, size_t error_bytes)
{
    struct net backend;
    int err = net_open(&backend, config->net, error, error_bytes);

    if (err)
        return err;
    err = virtio_net_create_on(created, config->vm, config->dma, &backend, config->net->mac);
    if (err) {
        net_close(&backend);
    } else {
        err = virtio_net_start(*created);
        if (err)
            virtio_net_destroy(*created);
    }
    if (err)
        snprintf(error, error_bytes, "--net: %s", strerror(-err));
    return err;
}

struct virtio_net_counts virtio_net_count(struct virtio_net *net, bool *link)
{
    struct virtio_net_counts counts;

    dma_lock(net->device.dma);
    counts = net->counts;
    *link = net->state.link;
    dma_unlock(net->device.dma);
    return counts;
}

void virtio_net_destroy(struct virtio_net *net)
{
    dma_lock(net->device.dma);
    net->ending = true;
    vm_thread_wake(&net->thread);
    dma_unlock(net->device.dma);
    vm_thread_end(&net->thread);
    net_close(&net->net);
    free(net);
}

/* ---- As a device of a board ---------------------------------------------------------------- */

static int net_create(struct device *device, const struct device_config *config,
                      const struct device_place *place)
{
    const struct net_device_config net_config = { .vm = place->vm,
                                                  .dma = place->dma,
                                                  .net = config->net };
    struct virtio_net *net;
    int err = virtio_net_create(&net, &net_config, place->error, place->error_bytes);

    if (err)
        return err;
    device->model = net;
    device->virtio = &net->device;
    return 0;
}

static void net_destroy(void *model)
{
    virtio_net_destroy(model);
}

static bool net_stats(void *model, struct device_stats *stats)
{
    struct virtio_net *net = model;
    bool link;
    struct virtio_net_counts counts = virtio_net_count(net, &link);
    char mac[NET_MAC_TEXT];

    net_mac_text(net->mac, mac);
    stats->text(stats, "guest_mac", mac);
    stats->flag(stats, "link", link);
    stats->number(stats, "mtu", net->net.mtu);
    stats->number(stats, "received_frames", counts.received);
    stats->number(stats, "received_bytes", counts.received_bytes);
    stats->number(stats, "sent_frames", counts.sent);
    stats->number(stats, "sent_bytes", counts.sent_bytes);
    stats->number(stats, "filtered_frames", counts.filtered);
    stats->number(stats, "receive_failed", counts.receive_failed);
    stats->number(stats, "send_failed", counts.send_failed);
    stats->number(stats, "stalls", counts.stalls);
    return true;
}

const struct device_ops virtio_net_ops = {
    .name = "virtio-net",
    .stats_name = "net",
    .worth_a_thread = true,
    .create = net_create,
    .destroy = net_destroy,
    .stats = net_stats,
};
