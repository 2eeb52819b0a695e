/*
 * libFuzzer: a driver of the vsock device that breaks every rule, its rings and buffers
 * anywhere in RAM, and people on the host who come and go. Whatever it does: bounded work,
 * nothing outside RAM, credit kept, and a device that a reset brings back.
 */
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/memory.h"

#define PAGE      4096u
#define RAM_BYTES (64u * PAGE)
#define OPS_MAX   48u
#define QUEUES    3u
#define PEERS     4u
#define CID       3u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of an input; then what memory holds from address 0 on. */
struct plan {
    uint8_t features;
    uint8_t size_log2[QUEUES];
    uint8_t base[QUEUES]; /* of the rings, in units of 256 bytes */
    uint8_t ops[OPS_MAX]; /* a queue to kick, or what else there is to do */
};

static struct memory memory;
static struct dma dma;
static struct virtio_vsock *vsock;
static struct unix_listener host; /* port 80 */
static int peers[PEERS];
static char directory[] = "/tmp/strata-fuzz-XXXXXX", path[48], path80[56];
static uint8_t *ram;

static void clean(void)
{
    unix_listener_close(&host);
    unlink(path);
    rmdir(directory);
}

static void open_world(void)
{
    char error[256];

    if (memory_create(&memory, -1, RAM_BYTES, MEMORY_4K) || dma_create(&dma, &memory, NULL, 0) ||
        !mkdtemp(directory))
        abort();
    snprintf(path, sizeof(path), "%s/v", directory);
    snprintf(path80, sizeof(path80), "%s_80", path);
    if (unix_listen(&host, path80, 16, error, sizeof(error)))
        abort();
    atexit(clean);
    ram = memory_at(&memory, 0, RAM_BYTES);
}

/* Somebody on the host: comes, says something, reads, shuts, goes. */
static void peer(uint8_t op)
{
    static const char *const lines[] = { "CONNECT 5\n", "CONNECT 5\nab", "x\n", "CONN" };
    static uint8_t bytes[100000];
    int *fd = &peers[op / 16 % PEERS];

    switch (op / 64) {
    case 0:
        if (*fd < 0)
            *fd = op & 1 ? unix_accept(&host) : unix_connect(path);
        if (*fd >= 0 && !(op & 1))
            (void)!send(*fd, lines[op / 16 % 4], strlen(lines[op / 16 % 4]), MSG_NOSIGNAL);
        break;
    case 1:
        if (*fd >= 0)
            (void)!send(*fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 2:
        while (*fd >= 0 && recv(*fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
        break;
    default:
        if (*fd >= 0 && op & 1)
            shutdown(*fd, SHUT_WR);
        else if (*fd >= 0)
            close(*fd);
        *fd = op & 1 ? *fd : -1;
        break;
    }
    virtio_vsock_turn(vsock);
}

static void do_one(uint8_t op)
{
    struct virtio_device *device = &vsock->device;

    switch (op % 16) {
    case 3:
    case 4:
    case 5:
    case 6:
    case 7: peer(op); break;
    case 8: virtio_vsock_turn(vsock); break;
    case 9: virtio_vsock_transport_reset(vsock); break;
    case 10: ring_set_register(device, VIRTIO_MMIO_CONFIG + op / 16, op); break;
    case 11: ring_register(device, VIRTIO_MMIO_CONFIG + op / 16, 1u << op / 64); break;
    case 12:
        ring_set_register(device, VIRTIO_MMIO_QUEUE_SEL, op / 16 % QUEUES);
        ring_set_register(device, VIRTIO_MMIO_QUEUE_READY, 0);
        break;
    case 13:
        if (op == 0xdd)
            ring_set_register(device, VIRTIO_MMIO_STATUS, 0);
        break;
    default: ring_set_register(device, VIRTIO_MMIO_QUEUE_NOTIFY, op % 16 % QUEUES); break;
    }
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++)
        CHECK(vsock->connections[i].waiting <= VIRTIO_VSOCK_BUFFER);
    CHECK(vsock->state.nresets <= VIRTIO_VSOCK_RESETS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan plan;
    char error[256];
    unsigned open;

    if (size < sizeof(plan) || size - sizeof(plan) > RAM_BYTES)
        return -1;
    if (!ram)
        open_world();
    memcpy(&plan, data, sizeof(plan));
    memset(ram, 0, RAM_BYTES);
    if (virtio_vsock_create(&vsock,
                            &(struct vsock_config){ .dma = &dma, .guest_cid = CID, .path = path },
                            error, sizeof(error)))
        abort();
    memset(peers, 0xff, sizeof(peers));
    CHECK(ring_negotiate(&vsock->device, 1ull << VIRTIO_F_VERSION_1 |
                                             (uint64_t)(plan.features & 3) << 28 |
                                             (plan.features >> 2 & 1)));
    fuzz_rings(&vsock->device, ram, QUEUES, plan.base, plan.size_log2, 8);
    memcpy(ram, data + sizeof(plan), size - sizeof(plan));
    for (unsigned i = 0; i < OPS_MAX; i++)
        do_one(plan.ops[i]);
    ring_set_register(&vsock->device, VIRTIO_MMIO_STATUS, 0);
    virtio_vsock_count(vsock, &open);
    CHECK(!open && !vsock->state.nresets && !vsock->state.no_rx_buffers &&
          !vsock->state.tx_blocked && !vsock->device.needs_reset);
    virtio_vsock_destroy(vsock);
    for (int fd; (fd = unix_accept(&host)) >= 0;)
        close(fd);
    for (unsigned i = 0; i < PEERS; i++) {
        if (peers[i] >= 0)
            close(peers[i]);
    }
    return 0;
}
