/*
 * virtio-net's thread against everything that goes on beside it, under ThreadSanitizer: a
 * driver that offers buffers, kicks, resets and takes its memory away, and a peer that sends
 * and reads, or is gone. When iommu_unmap has returned, a page is the driver's alone: it
 * writes it without any lock and looks whether that stays.
 *
 * net [ROUNDS]: TAP; status 1 if bytes changed, ThreadSanitizer's own (66) for a race. With
 * an IOMMU that does not invalidate (make tsan) it must fail: tests/tsan/run.sh.
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

#include "devices/iommu/iommu.h"
#include "devices/virtio/net.h"
#include "tests/unit/ring.h"
#include "vmm/machine/memory.h"

#define PAGE     4096ull
#define RAM      (1ull << 20)
#define DATA     (16 * PAGE) /* two pages, for receiving and for sending */
#define SIZE     16
#define DOMAIN   1u
#define ENDPOINT 1u
#define RW       (IOMMU_READ | IOMMU_WRITE)
#define CANARY   0x5a
#define FRAME    600u

static struct memory memory;
static struct iommu *iommu;
static struct dma dma;
static struct virtio_net *net;
static struct ring receive, transmit;
static atomic_bool stop;
static atomic_ulong frames_in, frames_out;
static unsigned long changed;
static int wire;
static uint8_t *ram;

static void must(int ret, const char *what)
{
    if (ret)
        errx(2, "%s: %s", what, strerror(-ret));
}

static void *peer(void *unused)
{
    uint8_t frame[FRAME] = { 2, 0, 0, 0, 0, 1 };

    (void)unused;
    while (!atomic_load(&stop)) {
        if (send(wire, frame, sizeof(frame), MSG_DONTWAIT) > 0)
            atomic_fetch_add(&frames_in, 1);
        while (recv(wire, frame, sizeof(frame), MSG_DONTWAIT) > 0)
            atomic_fetch_add(&frames_out, 1);
        frame[0] = 2;
        sched_yield();
    }
    return NULL;
}

/* Somebody who only looks. */
static void *onlooker(void *unused)
{
    bool link;

    (void)unused;
    while (!atomic_load(&stop)) {
        virtio_net_count(net, &link);
        ring_status(&net->device);
        sched_yield();
    }
    return NULL;
}

static void negotiate(void)
{
    if (!ring_negotiate(&net->device, 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_NET_F_MRG_RXBUF |
                                          1ull << VIRTIO_F_ACCESS_PLATFORM))
        errx(2, "features");
    ring_setup(&receive, &net->device, VIRTIO_NET_RECEIVE, ram, PAGE, SIZE);
    ring_setup(&transmit, &net->device, VIRTIO_NET_TRANSMIT, ram, 2 * PAGE, SIZE);
    ring_driver_ok(&net->device);
}

static void drive(unsigned round)
{
    uint32_t head, written;

    if (round % 16 == 0)
        negotiate();
    /* The rings' own order is by fences, which ThreadSanitizer does not know. */
    dma_lock(&dma);
    for (unsigned i = 0; i < 4; i++) {
        ring_add(&receive, &(struct ring_segment){ DATA, 256, true }, 1);
        ring_add(&transmit, &(struct ring_segment){ DATA + PAGE, FRAME, false }, 1);
    }
    dma_unlock(&dma);
    ring_kick(&receive);
    ring_kick(&transmit);
    dma_lock(&dma);
    while (ring_take(&receive, &head, &written) || ring_take(&transmit, &head, &written))
        ;
    dma_unlock(&dma);
    /* The pages are the driver's again, with buffers in them that are still on offer. */
    must(iommu_unmap(iommu, DOMAIN, DATA, DATA + 2 * PAGE - 1), "unmap");
    memset(ram + DATA, CANARY, 2 * PAGE);
    sched_yield();
    for (unsigned i = 0; i < 2 * PAGE; i++)
        changed += ram[DATA + i] != CANARY;
    must(iommu_map(iommu, DOMAIN, DATA, DATA + 2 * PAGE - 1, DATA, RW), "map");
}

int main(int argc, char **argv)
{
    static const struct iommu_config config = { .faults_max = 8 };
    static const uint8_t mac[NET_MAC_BYTES] = { 2, 0, 0, 0, 0, 1 };
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;
    struct net backend = { .mtu = 1500 };
    struct virtio_net_counts counts;
    pthread_t threads[2];
    int ends[2];
    bool link;

    must(memory_create(&memory, -1, RAM, MEMORY_4K), "memory");
    must(iommu_create(&iommu, &memory, &config), "iommu");
    must(dma_create(&dma, &memory, iommu, ENDPOINT), "dma handle");
    must(iommu_attach(iommu, ENDPOINT, DOMAIN, false), "attach");
    must(iommu_map(iommu, DOMAIN, 0, DATA - 1, 0, RW), "map");
    must(iommu_map(iommu, DOMAIN, DATA, DATA + 2 * PAGE - 1, DATA, RW), "map");
    ram = memory_at(&memory, 0, RAM);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends))
        err(2, "socketpair");
    backend.fd = ends[0];
    wire = ends[1];
    must(virtio_net_create_on(&net, NULL, &dma, &backend, mac), "net");
    /* The device has its transport before any thread asks for it. */
    ring_mmio(&net->device);
    must(virtio_net_start(net), "thread");
    must(-pthread_create(&threads[0], NULL, peer, NULL), "thread");
    must(-pthread_create(&threads[1], NULL, onlooker, NULL), "thread");
    for (unsigned i = 0; i < rounds; i++)
        drive(i);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    close(wire);
    negotiate();
    counts = virtio_net_count(net, &link);
    virtio_net_destroy(net);
    /* Frames did go both ways, or nothing has been tested. */
    printf("%s 1 - net: %lu bytes changed after an unmap; %llu frames received, %llu sent, %llu "
           "refused\n",
           changed || !counts.received || !counts.sent ? "not ok" : "ok", changed,
           (unsigned long long)counts.received, (unsigned long long)counts.sent,
           (unsigned long long)(counts.receive_failed + counts.send_failed));
    return changed || !counts.received || !counts.sent;
}
