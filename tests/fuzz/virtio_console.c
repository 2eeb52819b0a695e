/*
 * libFuzzer: a driver of a console with ports that breaks every rule, its rings, messages and
 * buffers anywhere in RAM, and people on the host who come and go. Whatever it does: bounded
 * work, nothing outside RAM, and a device that a reset brings back.
 */
#include <linux/virtio_mmio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/memory.h"

#define PAGE          4096u
#define RAM_BYTES     (16u * PAGE)
#define OPS_MAX       48u
#define PORTS         2u /* beside the console */
#define QUEUES        (2u * PORTS + 4)
#define CLIENTS       4u
#define TRANSMITS_MAX 4u /* each may send many times all of memory */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of an input; then what memory holds from address 0 on. */
struct plan {
    uint8_t features; /* bit 0 and 1: the ring's, 2: knows no ports, 3: there is no console */
    uint8_t size_log2[QUEUES];
    uint8_t base[QUEUES]; /* of the rings, in units of 256 bytes */
    uint8_t ops[OPS_MAX]; /* a queue to kick, or what else there is to do */
};

static struct memory memory;
static struct dma dma;
static struct virtio_console *console;
static struct console sink;
static int clients[CLIENTS];
static unsigned transmits;
static char directory[] = "/tmp/strata-fuzz-XXXXXX", paths[PORTS][64];
static const struct console_port_config configs[PORTS] = { { "one", paths[0] },
                                                           { "two", paths[1] } };
static struct console_config config = {
    .dma = &dma, .out = &sink, .input_ready_fd = -1, .ports = configs, .nports = PORTS
};
static uint8_t *ram;

static void clean(void)
{
    rmdir(directory);
}

static void open_world(void)
{
    if (memory_create(&memory, -1, RAM_BYTES, MEMORY_4K) || dma_create(&dma, &memory, NULL, 0) ||
        !mkdtemp(directory))
        abort();
    for (unsigned i = 0; i < PORTS; i++)
        snprintf(paths[i], sizeof(paths[i]), "%s/%u", directory, i);
    atexit(clean);
    ram = memory_at(&memory, 0, RAM_BYTES);
}

/* Somebody on the host: comes, says something, reads, shuts, goes. */
static void client(uint8_t op)
{
    static uint8_t bytes[100000];
    int *fd = &clients[op / 8 % CLIENTS];

    switch (op / 32 % 8) {
    case 0:
    case 1:
    case 2:
        if (*fd < 0)
            *fd = unix_connect(paths[op / 8 % PORTS]);
        break;
    case 3:
    case 4:
        if (*fd >= 0)
            (void)!send(*fd, bytes, op & 128 ? sizeof(bytes) : 7, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case 5:
        while (*fd >= 0 && recv(*fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
        break;
    case 6:
        if (*fd >= 0)
            shutdown(*fd, SHUT_WR);
        break;
    default:
        if (*fd >= 0)
            close(*fd);
        *fd = -1;
        break;
    }
    console_ports_turn(console);
}

static void kick(unsigned queue)
{
    if (queue == VIRTIO_CONSOLE_TRANSMIT && transmits++ >= TRANSMITS_MAX)
        return;
    ring_set_register(&console->device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

static void do_one(uint8_t op)
{
    struct virtio_device *device = &console->device;

    switch (op % 8) {
    case 0:
    case 1: client(op); break;
    case 2:
        switch (op / 8 % 4) {
        case 0: console_ports_turn(console); break;
        case 1: virtio_console_resize(console, op, op / 2); break;
        case 2: virtio_console_input(console, &op, 1); break;
        default: ring_register(device, VIRTIO_MMIO_CONFIG + op / 32 * 2, 1u << op % 4); break;
        }
        break;
    case 3:
        ring_set_register(device, VIRTIO_MMIO_QUEUE_SEL, op / 8 % QUEUES);
        ring_set_register(device, VIRTIO_MMIO_QUEUE_READY, op / 128);
        if (op == 0xfb)
            ring_set_register(device, VIRTIO_MMIO_STATUS, 0);
        break;
    default: kick(op / 8 % QUEUES); break;
    }
    for (unsigned i = 0; i < console->ports->count; i++) {
        const struct console_port_state *port = &console->ports->state->port[i];

        CHECK(port->first <= port->end && port->end <= sizeof(port->input));
        CHECK(!port->sending || port->sent <= port->output.readable_bytes);
        CHECK(!port->guest_open || port->ready);
        CHECK(port->there || !port->send);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan plan;
    char error[256];

    if (size < sizeof(plan) || size - sizeof(plan) > RAM_BYTES)
        return -1;
    if (!ram)
        open_world();
    memcpy(&plan, data, sizeof(plan));
    memset(ram, 0, RAM_BYTES);
    console_init(&sink, -1);
    transmits = 0;
    config.ports_only = plan.features & 8;
    if (virtio_console_create(&console, &config, error, sizeof(error)))
        abort();
    memset(clients, 0xff, sizeof(clients));
    CHECK(ring_negotiate(&console->device, 1ull << VIRTIO_F_VERSION_1 |
                                               (uint64_t)(plan.features & 3) << 28 |
                                               (plan.features & 4 ? 1 : 3)));
    fuzz_rings(&console->device, ram, QUEUES, plan.base, plan.size_log2, 7);
    memcpy(ram, data + sizeof(plan), size - sizeof(plan));
    for (unsigned i = 0; i < OPS_MAX; i++)
        do_one(plan.ops[i]);
    ring_set_register(&console->device, VIRTIO_MMIO_STATUS, 0);
    for (unsigned i = 0; i < console->ports->count; i++) {
        const struct console_port_state *port = &console->ports->state->port[i];

        CHECK(!port->ready && !port->guest_open && !port->sending && !port->send);
    }
    CHECK(!console->device.needs_reset);
    for (unsigned i = 0; i < CLIENTS; i++) {
        if (clients[i] >= 0)
            close(clients[i]);
    }
    virtio_console_destroy(console);
    return 0;
}
