/*
 * The thread of a virtio-console's ports against everything that goes on beside it, under
 * ThreadSanitizer: a driver that opens and closes ports, sends, receives, stops queues and
 * resets the device, people on the host who come, write, read and go, and a terminal whose
 * size changes.
 *
 * console [ROUNDS [careless]]: TAP; status 1 if nothing went through, ThreadSanitizer's own (66)
 * for a race. careless: somebody looks at the counts without the lock, which must be noticed.
 */
#include <err.h>
#include <linux/virtio_console.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"
#include "tests/unit/ring.h"
#include "vmm/machine/memory.h"

#define PAGE   4096ull
#define RAM    (1ull << 20)
#define SIZE   16
#define QUEUES 6u /* port 0, control, port 1 */
#define SENT   (16 * PAGE)
#define BUFFER (64 * PAGE)

enum { RX0, TX0, CONTROL_RX, CONTROL_TX, RX1, TX1 };

static struct memory memory;
static struct dma dma;
static struct virtio_console *console;
static struct console out;
static struct ring ring[QUEUES];
static char directory[] = "/tmp/strata-tsan-XXXXXX", path[64];
static atomic_bool stop;
static bool careless;
static atomic_ullong heard, seen;
static uint8_t *ram;

static void must(int ret, const char *what)
{
    if (ret)
        errx(2, "%s: %s", what, strerror(-ret));
}

/*
 * The clients of the port. Every other one stays until it has heard something: on a quiet
 * machine a client can connect, write all it has and leave before the port's thread wakes once.
 */
static void *people(void *unused)
{
    unsigned long long heard_before = 0;
    unsigned turn = 0, clients = 0;
    char bytes[512] = "";
    int fd = -1;

    (void)unused;
    while (!atomic_load(&stop)) {
        if (fd < 0) {
            fd = unix_connect(path);
            clients += fd >= 0;
            heard_before = atomic_load(&heard);
        } else if (turn++ % 64 == 63 && (clients % 2 || atomic_load(&heard) > heard_before)) {
            close(fd);
            fd = -1;
        } else {
            ssize_t count;

            (void)!send(fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
            while ((count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
                atomic_fetch_add(&heard, (unsigned long long)count);
        }
        sched_yield();
    }
    if (fd >= 0)
        close(fd);
    return NULL;
}

static void *onlooker(void *unused)
{
    struct console_port_counts counts;
    uint16_t turn = 0;

    (void)unused;
    while (!atomic_load(&stop)) {
        if (careless)
            counts = console->ports->port[1].counts;
        else
            console_ports_count(console, 1, &counts);
        atomic_fetch_add(&seen, counts.connections);
        virtio_console_input(console, (const uint8_t *)"x", 1);
        virtio_console_resize(console, turn++ % 2 ? 80 : 90, 25);
        ring_status(&console->device);
        sched_yield();
    }
    return NULL;
}

/* The rings' own order is by fences, which ThreadSanitizer does not know: all of it is locked. */
static void add(unsigned queue, uint64_t iova, uint32_t len, bool writable)
{
    dma_lock(&dma);
    ring_add(&ring[queue], &(struct ring_segment){ iova, len, writable }, 1);
    dma_unlock(&dma);
}

static unsigned take_all(unsigned queue)
{
    uint32_t head, written;
    unsigned n = 0;

    dma_lock(&dma);
    while (ring_take(&ring[queue], &head, &written))
        n++;
    dma_unlock(&dma);
    return n;
}

static void tell(uint32_t id, uint16_t event, uint16_t value)
{
    const struct virtio_console_control message = { id, event, value };

    dma_lock(&dma);
    memcpy(ram + SENT, &message, sizeof(message));
    dma_unlock(&dma);
    add(CONTROL_TX, SENT, sizeof(message), false);
    ring_kick(&ring[CONTROL_TX]);
    take_all(CONTROL_TX);
}

static void negotiate(void)
{
    if (!ring_negotiate(&console->device, 1ull << VIRTIO_F_VERSION_1 | 3))
        errx(2, "features");
    for (unsigned i = 0; i < QUEUES; i++)
        ring_setup(&ring[i], &console->device, i, ram, (i + 1) * PAGE, SIZE);
    ring_driver_ok(&console->device);
    for (unsigned i = 0; i < SIZE - 1; i++) {
        add(CONTROL_RX, BUFFER + i * PAGE, 256, true);
        add(RX0, BUFFER + i * PAGE + 256, 256, true);
        add(RX1, BUFFER + i * PAGE + 512, 512, true);
    }
    tell(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    for (uint32_t id = 0; id < 2; id++) {
        tell(id, VIRTIO_CONSOLE_PORT_READY, 1);
        tell(id, VIRTIO_CONSOLE_PORT_OPEN, 1);
    }
}

static void drive(unsigned round)
{
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        bool receives = queue % 2 == 0;

        for (unsigned n = take_all(queue); receives && n; n--)
            add(queue, BUFFER + ring[queue].free * PAGE + queue * 128, 256, true);
        if (receives)
            ring_kick(&ring[queue]);
    }
    /* Nobody may be there to take it: at most so many. */
    dma_lock(&dma);
    bool room = (uint16_t)(ring[TX1].next_available - ring[TX1].next_used) < SIZE - 1;
    dma_unlock(&dma);
    if (room)
        add(TX1, SENT + PAGE, 500, false);
    ring_kick(&ring[TX1]);
    if (round % 16 == 7)
        tell(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    if (round % 16 == 9)
        tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    if (round % 100 == 99) {
        ring_set_register(&console->device, VIRTIO_MMIO_QUEUE_SEL, TX1);
        ring_set_register(&console->device, VIRTIO_MMIO_QUEUE_READY, 0);
    }
    if (round % 100 == 99 || round % 256 == 255)
        negotiate();
    sched_yield();
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 4000;
    const struct console_port_config config = { "port", path };
    const struct console_config device_config = {
        .dma = &dma, .out = &out, .input_ready_fd = -1, .ports = &config, .nports = 1
    };
    struct console_port_counts counts;
    pthread_t threads[2];
    char error[256];
    bool through;

    careless = argc > 2 && !strcmp(argv[2], "careless");
    must(memory_create(&memory, -1, RAM, MEMORY_4K), "memory");
    must(dma_create(&dma, &memory, NULL, 0), "dma handle");
    ram = memory_at(&memory, 0, RAM);
    if (!mkdtemp(directory))
        err(2, "mkdtemp");
    snprintf(path, sizeof(path), "%s/p", directory);
    console_init(&out, -1);
    must(virtio_console_create(&console, &device_config, error, sizeof(error)), error);
    must(console_ports_start(console), "thread");
    negotiate();
    must(-pthread_create(&threads[0], NULL, people, NULL), "thread");
    must(-pthread_create(&threads[1], NULL, onlooker, NULL), "thread");
    for (unsigned i = 0; i < rounds; i++)
        drive(i);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    console_ports_count(console, 1, &counts);
    virtio_console_destroy(console);
    rmdir(directory);
    /* Data went both ways, for several clients, or nothing has been tested. */
    through = counts.connections > 1 && counts.sent_bytes && counts.received_bytes &&
              atomic_load(&heard);
    printf("%s 1 - console: %llu connections, %llu bytes to the guest, %llu from it\n",
           through ? "ok" : "not ok", (unsigned long long)counts.connections,
           (unsigned long long)counts.sent_bytes, (unsigned long long)counts.received_bytes);
    return !through;
}
