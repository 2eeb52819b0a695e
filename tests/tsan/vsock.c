/*
 * virtio-vsock's thread against everything that goes on beside it, under ThreadSanitizer: a
 * driver that connects, sends, shuts, resets connections and the device, and people on the
 * host who connect, write, read and go.
 *
 * vsock [ROUNDS]: TAP; status 1 if nothing went through, ThreadSanitizer's own (66) for a race.
 */
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"
#include "tests/unit/ring.h"
#include "vmm/machine/memory.h"

#define PAGE   4096ull
#define RAM    (1ull << 20)
#define SIZE   16
#define CID    3u
#define PORT   80u
#define HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define SENT   (16 * PAGE)
#define BUFFER (64 * PAGE)

static struct memory memory;
static struct dma dma;
static struct virtio_vsock *vsock;
static struct ring receive, transmit;
static struct unix_listener host;
static char directory[] = "/tmp/strata-tsan-XXXXXX", path[48], path80[56];
static atomic_bool stop;
static uint8_t *ram;

static void must(int ret, const char *what)
{
    if (ret)
        errx(2, "%s: %s", what, strerror(-ret));
}

/* Who listens at the port, and who connects to the guest. */
static void *people(void *unused)
{
    int fds[4] = { -1, -1, -1, -1 };
    unsigned turn = 0;
    char bytes[512] = "";

    (void)unused;
    while (!atomic_load(&stop)) {
        int *fd = &fds[turn++ % 4];

        if (*fd >= 0 && turn % 32 < 4) {
            close(*fd);
            *fd = -1;
        }
        if (*fd < 0) {
            *fd = turn % 2 ? unix_accept(&host) : unix_connect(path);
            if (*fd >= 0 && !(turn % 2))
                (void)!send(*fd, "CONNECT 7\n", 10, MSG_NOSIGNAL);
        } else {
            (void)!send(*fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
            while (recv(*fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                ;
        }
        sched_yield();
    }
    for (unsigned i = 0; i < 4; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    return NULL;
}

static void *onlooker(void *unused)
{
    unsigned open;

    (void)unused;
    while (!atomic_load(&stop)) {
        virtio_vsock_count(vsock, &open);
        ring_status(&vsock->device);
        sched_yield();
    }
    return NULL;
}

static void negotiate(void)
{
    if (!ring_negotiate(&vsock->device, 1ull << VIRTIO_F_VERSION_1))
        errx(2, "features");
    ring_setup(&receive, &vsock->device, VIRTIO_VSOCK_RECEIVE, ram, PAGE, SIZE);
    ring_setup(&transmit, &vsock->device, VIRTIO_VSOCK_TRANSMIT, ram, 2 * PAGE, SIZE);
    ring_driver_ok(&vsock->device);
    dma_lock(&dma); /* see send_packet: from here on the thread reads the rings */
    for (unsigned i = 0; i < SIZE - 1; i++)
        ring_add(&receive, &(struct ring_segment){ BUFFER + i * PAGE, PAGE, true }, 1);
    dma_unlock(&dma);
    ring_kick(&receive);
}

static void send_packet(uint16_t op, uint32_t guest_port, uint32_t host_port, uint32_t len,
                        uint32_t flags)
{
    const struct virtio_vsock_hdr header = { .src_cid = CID,
                                             .dst_cid = VSOCK_CID_HOST,
                                             .src_port = guest_port,
                                             .dst_port = host_port,
                                             .len = len,
                                             .type = VIRTIO_VSOCK_TYPE_STREAM,
                                             .op = op,
                                             .flags = flags,
                                             .buf_alloc = 1u << 30 };
    uint32_t head, written;

    /* The rings' own order is by fences, which ThreadSanitizer does not know. */
    dma_lock(&dma);
    memcpy(ram + SENT, &header, sizeof(header));
    ring_add(&transmit, &(struct ring_segment){ SENT, HEADER + len, false }, 1);
    dma_unlock(&dma);
    ring_kick(&transmit);
    dma_lock(&dma);
    while (ring_take(&transmit, &head, &written))
        ;
    dma_unlock(&dma);
}

/* What came: answered, and the buffers offered again. */
static void take_packets(void)
{
    struct virtio_vsock_hdr header;
    uint32_t head, written;
    bool any;

    do {
        dma_lock(&dma);
        any = ring_take(&receive, &head, &written);
        if (any) {
            memcpy(&header, ram + BUFFER + head * PAGE, sizeof(header));
            ring_add(&receive, &(struct ring_segment){ BUFFER + receive.free * PAGE, PAGE, true },
                     1);
        }
        dma_unlock(&dma);
        if (any && header.op == VIRTIO_VSOCK_OP_REQUEST)
            send_packet(VIRTIO_VSOCK_OP_RESPONSE, header.dst_port, header.src_port, 0, 0);
        if (any && header.op == VIRTIO_VSOCK_OP_SHUTDOWN)
            send_packet(VIRTIO_VSOCK_OP_RST, header.dst_port, header.src_port, 0, 0);
    } while (any);
    ring_kick(&receive);
}

static void drive(unsigned round)
{
    uint32_t port = 1000 + round / 8;

    switch (round % 8) {
    case 0: send_packet(VIRTIO_VSOCK_OP_REQUEST, port, PORT, 0, 0); break;
    case 7:
        if (round / 8 % 3)
            send_packet(VIRTIO_VSOCK_OP_SHUTDOWN, port, PORT, 0, 3);
        else
            send_packet(VIRTIO_VSOCK_OP_RST, port, PORT, 0, 0);
        break;
    default: send_packet(VIRTIO_VSOCK_OP_RW, port, PORT, 500, 0); break;
    }
    take_packets();
    if (round % 256 == 255)
        negotiate();
    if (round % 300 == 299)
        virtio_vsock_transport_reset(vsock);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 4000, open;
    struct virtio_vsock_counts counts;
    pthread_t threads[2];
    char error[256];
    bool through;

    must(memory_create(&memory, -1, RAM, MEMORY_4K), "memory");
    must(dma_create(&dma, &memory, NULL, 0), "dma handle");
    ram = memory_at(&memory, 0, RAM);
    if (!mkdtemp(directory))
        err(2, "mkdtemp");
    snprintf(path, sizeof(path), "%s/v", directory);
    snprintf(path80, sizeof(path80), "%s_%u", path, PORT);
    must(unix_listen(&host, path80, 16, error, sizeof(error)), "listen");
    must(virtio_vsock_create(&vsock,
                             &(struct vsock_config){ .dma = &dma, .guest_cid = CID, .path = path },
                             error, sizeof(error)),
         error);
    must(virtio_vsock_start(vsock), "thread");
    negotiate();
    must(-pthread_create(&threads[0], NULL, people, NULL), "thread");
    must(-pthread_create(&threads[1], NULL, onlooker, NULL), "thread");
    for (unsigned i = 0; i < rounds; i++)
        drive(i);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    counts = virtio_vsock_count(vsock, &open);
    virtio_vsock_destroy(vsock);
    unix_listener_close(&host);
    rmdir(directory);
    /* Connections came about both ways, and data went there, or nothing has been tested. */
    through = counts.from_guest && counts.to_guest && counts.received_bytes && counts.sent_bytes;
    printf(
        "%s 1 - vsock: %llu connections of the guest, %llu of the host, %llu refused; %llu bytes "
        "received, %llu sent\n",
        through ? "ok" : "not ok", (unsigned long long)counts.from_guest,
        (unsigned long long)counts.to_guest, (unsigned long long)counts.refused,
        (unsigned long long)counts.received_bytes, (unsigned long long)counts.sent_bytes);
    return !through;
}
