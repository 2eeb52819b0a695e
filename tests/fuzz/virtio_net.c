/*
 * libFuzzer: a driver of the network device that breaks every rule, its rings and buffers
 * anywhere in RAM, and frames of any length from outside. Whatever it does: bounded work,
 * nothing outside RAM, and a device that a reset brings back.
 */
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/net.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/memory.h"

#define PAGE      4096u
#define RAM_BYTES (64u * PAGE)
#define OPS_MAX   48u
#define QUEUES    3u
#define HEADER    NET_HEADER_BYTES

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of an input; then what memory holds from address 0 on. */
struct plan {
    uint8_t features; /* of the device's own */
    uint8_t size_log2[QUEUES];
    uint8_t base[QUEUES]; /* of the rings, in units of 256 bytes */
    uint8_t ops[OPS_MAX]; /* a queue to kick, or what else there is to do */
};

static struct memory memory;
static struct dma dma;
static struct virtio_net *net;
static uint8_t *ram;
static int wire;

static void open_world(void)
{
    if (memory_create(&memory, -1, RAM_BYTES, MEMORY_4K) || dma_create(&dma, &memory, NULL, 0))
        abort();
    ram = memory_at(&memory, 0, RAM_BYTES);
}

static void open_net(bool header)
{
    static const uint8_t mac[NET_MAC_BYTES] = { 2 };
    struct net backend = { .mtu = 1500, .header = header };
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends))
        abort();
    backend.fd = ends[0];
    wire = ends[1];
    if (virtio_net_create_on(&net, NULL, &dma, &backend, mac))
        abort();
}

/* From outside: everything in, everything out. */
static void put(uint8_t op)
{
    static uint8_t frame[HEADER + NET_FRAME_MAX];

    memset(frame, op & 64 ? 0xff : 2, NET_MAC_BYTES);
    (void)!send(wire, frame, op & 32 ? 1u << op / 16 : op * 16u, MSG_DONTWAIT);
}

static void drain(void)
{
    static uint8_t frame[2 * NET_FRAME_MAX];
    ssize_t len;

    while ((len = recv(wire, frame, sizeof(frame), MSG_DONTWAIT)) > 0)
        CHECK(len >= NET_FRAME_MIN && len <= HEADER + NET_FRAME_MAX);
}

static void do_one(uint8_t op)
{
    struct virtio_device *device = &net->device;

    switch (op % 16) {
    case 4:
    case 5:
    case 6: put(op); break;
    case 7: virtio_net_turn(net, op & 16); break;
    case 8: virtio_net_turn(net, true); break;
    case 9: drain(); break;
    case 10: ring_set_register(device, VIRTIO_MMIO_CONFIG + op / 16, op); break;
    case 11: ring_register(device, VIRTIO_MMIO_CONFIG + op / 16, 1u << op / 64); break;
    case 12:
        ring_set_register(device, VIRTIO_MMIO_QUEUE_SEL, op / 16 % QUEUES);
        ring_set_register(device, VIRTIO_MMIO_QUEUE_READY, 0);
        break;
    case 13: ring_set_register(device, VIRTIO_MMIO_STATUS, 0); break;
    case 14:
        if (op == 0xee)
            shutdown(wire, SHUT_RDWR);
        break;
    default: ring_set_register(device, VIRTIO_MMIO_QUEUE_NOTIFY, op % 16 % QUEUES); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan plan;

    if (size < sizeof(plan) || size - sizeof(plan) > RAM_BYTES)
        return -1;
    if (!ram)
        open_world();
    memcpy(&plan, data, sizeof(plan));
    memset(ram, 0, RAM_BYTES);
    open_net(plan.features & 1);
    CHECK(ring_negotiate(&net->device,
                         1ull << VIRTIO_F_VERSION_1 | (uint64_t)(plan.features >> 1 & 3) << 28 |
                             (plan.features & 8 ? 1ull << VIRTIO_NET_F_MRG_RXBUF : 0) |
                             (plan.features & 16 ? 3ull << VIRTIO_NET_F_CTRL_VQ : 0) |
                             (plan.features & 32 ? 1ull << 23 : 0)));
    fuzz_rings(&net->device, ram, QUEUES, plan.base, plan.size_log2, 9);
    memcpy(ram, data + sizeof(plan), size - sizeof(plan));
    for (unsigned i = 0; i < OPS_MAX; i++)
        do_one(plan.ops[i]);
    /* Whatever happened, a driver that starts anew finds it as it was. */
    ring_set_register(&net->device, VIRTIO_MMIO_STATUS, 0);
    CHECK(!net->state.tx_blocked && !net->state.no_rx_buffers && !net->frame.bytes &&
          !net->device.needs_reset);
    virtio_net_destroy(net);
    close(wire);
    return 0;
}
