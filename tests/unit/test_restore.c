/*
 * A device in the middle of its work, at rest: its state goes to a second device of its class
 * over a copy of the guest's memory, and the driver goes on with that one as if nothing had
 * been. In each case a state with one field spoiled makes a difference (the control), and a
 * queue that cannot be is refused.
 */
#include <check.h>
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_console.h>
#include <linux/virtio_iommu.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/backend/unix_socket.h"
#include "devices/hostile/probe.h"
#include "devices/hostile/probe_command.h"
#include "devices/iommu/iommu_state.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"
#include "devices/virtio/iommu.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"
#include "tests/unit/disk.h"
#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define PAGE       4096ull
#define RAM        (1ull << 20)
#define SIZE       16
#define QUEUES     6u
#define SENT       (16 * PAGE) /* what the driver sends */
#define BUFFERS    (32 * PAGE) /* 512 bytes each */
#define OUTPUT     (RAM / 2)   /* to the end, what a port sends, several times over */
#define OUTPUTS    8u
#define VERSION_1  (1ull << VIRTIO_F_VERSION_1)
#define IOVA       0x40000000ull
#define ENDPOINT   7
#define EVENT_SIZE sizeof(struct virtio_iommu_fault)

struct restore_case {
    const char *name;
    uint64_t features;
    unsigned queues;
    struct virtio_device *(*create)(void);
    void (*work)(void); /* of the driver, up to the middle */
    /* With the lock: the model's own state, to `saved` and from there; NULL: it has none. */
    void (*save)(void);
    void (*load)(void);
    void (*spoil)(void);   /* one field of what was saved */
    bool (*goes_on)(void); /* whether all comes out as it would have */
    void (*destroy)(void);
};

static struct memory memory;
static struct dma dma;
static uint8_t *ram;
static struct ring ring[QUEUES];
static uint32_t head, written;
static char directory[64], path[96], error[256];

static struct {
    uint8_t ram[RAM];
    struct virtio_device_state device;
    struct virtqueue_state queues[QUEUES];
    struct virtio_mmio_state mmio;
    /* Of the model: one of these. */
    struct virtio_blk_state blk;
    struct virtio_blk_requests requests;
    struct virtio_balloon_state balloon;
    struct virtio_console_state console;
    struct console_ports_state *ports;
    struct virtio_net_state net;
    struct virtio_net_frame frame;
    struct virtio_vsock_state vsock;
    struct virtio_iommu_state viommu;
    struct iommu_saved iommu;
} saved;

static uint64_t buffer(unsigned queue, unsigned descriptor)
{
    return BUFFERS + ((uint64_t)queue * SIZE + descriptor) * 512;
}

static void offer(unsigned queue, uint32_t len)
{
    ring_add(&ring[queue], &(struct ring_segment){ buffer(queue, ring[queue].free), len, true }, 1);
}

/* No kick. */
static void put(unsigned queue, const void *bytes, uint32_t len)
{
    const uint64_t at = SENT + ring[queue].free * 256ull;

    memcpy(ram + at, bytes, len);
    ring_add(&ring[queue], &(struct ring_segment){ at, len, false }, 1);
}

/* The next buffer that came back of a queue, and whether it holds these bytes. */
static bool got(unsigned queue, const void *bytes, uint32_t len)
{
    return ring_take(&ring[queue], &head, &written) && written == len &&
           !memcmp(ram + buffer(queue, head), bytes, len);
}

static void find_path(void)
{
    if (*directory)
        return;
    strcpy(directory, "/tmp/strata-restore-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/s", directory);
}

static int connect_client(void)
{
    int fd = unix_connect(path);

    ck_assert_int_ge(fd, 0);
    return fd;
}

/* ---- Random numbers: a buffer that nobody has looked at ---------------------------------------
 */

static struct virtio_rng *rng;

static struct virtio_device *create_rng(void)
{
    ck_assert_int_eq(virtio_rng_create(&rng, &(struct rng_config){ .dma = &dma }), 0);
    return &rng->device;
}

static void work_rng(void)
{
    for (unsigned i = 0; i < 2; i++) {
        offer(0, 64);
        ring_kick(&ring[0]);
        ck_assert(ring_take(&ring[0], &head, &written));
    }
    offer(0, 100);
}

static void spoil_rng(void)
{
    saved.queues[0].next_available = 0;
}

static bool rng_goes_on(void)
{
    return ring_take(&ring[0], &head, &written) && head == 2 && written == 100 &&
           !ring_take(&ring[0], &head, &written);
}

static void destroy_rng(void)
{
    virtio_rng_destroy(rng);
}

/* ---- A disk: one request is done, the next nobody has looked at ---------------------------------
 */

static struct disk disk;

static struct virtio_device *create_disk(void)
{
    static const struct block_ops ops = { disk_submit, disk_kick, disk_cancel, disk_destroy_store };

    disk.ram = ram;
    disk.store.block = (struct block){ .ops = &ops, .sectors = DISK_SECTORS };
    ck_assert_int_eq(virtio_blk_create_on(&disk.blk, &dma, &disk.store.block, "restore"), 0);
    return &disk.blk->device;
}

static void work_disk(void)
{
    disk.ring = ring[0];
    disk_fill(ram + BUFFERS, 512, 3);
    ck_assert_uint_eq(disk_do(&disk, VIRTIO_BLK_T_OUT, 5, BUFFERS, 512, NULL), VIRTIO_BLK_S_OK);
    disk_offer(&disk, 1, VIRTIO_BLK_T_IN, 5, BUFFERS + 512, 512);
    ring[0] = disk.ring;
}

static void save_disk(void)
{
    saved.blk = disk.blk->state;
}

static void load_disk(void)
{
    disk.blk->state = saved.blk;
}

static void spoil_disk(void)
{
    saved.queues[0].next_used = 0;
}

static bool disk_goes_on(void)
{
    return ring_take(&ring[0], &head, &written) && head == 3 && written == 513 &&
           !disk_status(&disk, 1) && !memcmp(ram + BUFFERS, ram + BUFFERS + 512, 512);
}

/* The same while the store, as a pause may, holds two requests: the second device begins anew. */
static void work_held_disk(void)
{
    disk.ring = ring[0];
    disk.store.held = true;
    disk_fill(disk.store.sectors, sizeof(disk.store.sectors), 9);
    for (unsigned i = 0; i < 2; i++)
        disk_offer(&disk, i, VIRTIO_BLK_T_IN, i, BUFFERS + i * 512, 512);
    ring_kick(&disk.ring);
    ck_assert_uint_eq(disk.blk->under_way, 2);
    ring[0] = disk.ring;
}

static void save_held_disk(void)
{
    save_disk();
    virtio_blk_save_requests(disk.blk, &saved.requests);
    ck_assert_uint_eq(saved.requests.count, 2);
    disk.store.held = false;
}

static void spoil_held_disk(void)
{
    saved.requests.count = 1;
}

static bool held_disk_goes_on(void)
{
    bool right = true;

    dma_lock(&dma);
    ck_assert_int_eq(virtio_blk_restore_requests(disk.blk, &saved.requests), 0);
    dma_unlock(&dma);
    for (unsigned i = 0; i < 2; i++)
        right &= ring_take(&ring[0], &head, &written) && !disk_status(&disk, i);
    return right && !memcmp(ram + BUFFERS, disk.store.sectors, 1024);
}

static void destroy_disk(void)
{
    virtio_blk_destroy(disk.blk);
}

/* ---- A balloon: it holds the buffer of statistics
 * ------------------------------------------------ */

static struct virtio_balloon *balloon;

static struct virtio_device *create_balloon(void)
{
    ck_assert_int_eq(virtio_balloon_create(&balloon, &(struct balloon_config){ .dma = &dma }), 0);
    return &balloon->device;
}

static void work_balloon(void)
{
    const struct virtio_balloon_stat stat = { .tag = VIRTIO_BALLOON_S_MEMFREE, .val = 1 };

    virtio_balloon_set_target(balloon, 17);
    put(2, &stat, sizeof(stat));
    ring_kick(&ring[2]);
    ck_assert(!ring_take(&ring[2], &head, &written));
}

static void save_balloon(void)
{
    saved.balloon = balloon->state;
}

static void load_balloon(void)
{
    balloon->state = saved.balloon;
}

static void spoil_balloon(void)
{
    saved.balloon.stats_held = false;
}

static bool balloon_goes_on(void)
{
    ck_assert_uint_eq(ring_register(&balloon->device, VIRTIO_MMIO_CONFIG, 4), 17);
    return !virtio_balloon_ask_stats(balloon) && ring_take(&ring[2], &head, &written) && !head;
}

static void destroy_balloon(void)
{
    virtio_balloon_destroy(balloon);
}

/* ---- A console: half of what was typed is delivered, half of the output is written -------------
 */

static struct virtio_console *console;
static struct console out;

static struct virtio_device *create_console(void)
{
    const struct console_config config = { .dma = &dma, .out = &out, .input_ready_fd = -1 };

    console_init(&out, -1);
    ck_assert_int_eq(virtio_console_create(&console, &config, error, sizeof(error)), 0);
    return &console->device;
}

static void work_console(void)
{
    struct virtio_console_state *state = &console->state;

    virtio_console_resize(console, 80, 25);
    offer(VIRTIO_CONSOLE_RECEIVE, 4);
    ring_kick(&ring[VIRTIO_CONSOLE_RECEIVE]);
    ck_assert_int_eq(virtio_console_input(console, (const uint8_t *)"typed", 5), 4);
    ck_assert(got(VIRTIO_CONSOLE_RECEIVE, "type", 4));
    /* As a thread leaves it that was parked after four bytes. */
    put(VIRTIO_CONSOLE_TRANSMIT, "0123456789", 10);
    dma_lock(&dma);
    ck_assert_int_eq(
        virtqueue_pop(&console->device.queues[VIRTIO_CONSOLE_TRANSMIT], &state->output), 1);
    state->sending = true;
    state->sent = 4;
    dma_unlock(&dma);
}

static void save_console(void)
{
    saved.console = console->state;
}

static void load_console(void)
{
    console->state = saved.console;
}

static void spoil_console(void)
{
    saved.console.sent = 0;
}

static bool console_goes_on(void)
{
    char tail[CONSOLE_TAIL_BYTES];

    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG, 2), 80);
    offer(VIRTIO_CONSOLE_RECEIVE, 4);
    ring_kick(&ring[VIRTIO_CONSOLE_RECEIVE]);
    ck_assert_int_eq(virtio_console_input(console, (const uint8_t *)"d", 1), 1);
    ck_assert(got(VIRTIO_CONSOLE_RECEIVE, "d", 1));
    return ring_take(&ring[VIRTIO_CONSOLE_TRANSMIT], &head, &written) &&
           console_tail(&out, tail) == 6 && !memcmp(tail, "456789", 6);
}

static void destroy_console(void)
{
    virtio_console_destroy(console);
}

/* ---- Ports: input waits for a buffer, output for room in the socket
 * ------------------------------ */

static int client;
static size_t received;

static struct virtio_device *create_ports(void)
{
    const struct console_port_config port = { .name = "port", .path = path };
    const struct console_config config = {
        .dma = &dma, .out = &out, .input_ready_fd = -1, .ports = &port, .nports = 1
    };

    find_path();
    console_init(&out, -1);
    ck_assert_int_eq(virtio_console_create(&console, &config, error, sizeof(error)), 0);
    return &console->device;
}

static void tell_port(uint32_t id, uint16_t event)
{
    const struct virtio_console_control message = { id, event, 1 };

    put(VIRTIO_CONSOLE_CONTROL_TRANSMIT, &message, sizeof(message));
    ring_kick(&ring[VIRTIO_CONSOLE_CONTROL_TRANSMIT]);
}

/* Whether the last thing that the driver was told is that the port's other end is so. */
static bool was_told(uint16_t open)
{
    struct virtio_console_control message = { 0 };

    while (ring_take(&ring[VIRTIO_CONSOLE_CONTROL_RECEIVE], &head, &written))
        memcpy(&message, ram + buffer(VIRTIO_CONSOLE_CONTROL_RECEIVE, head), sizeof(message));
    return message.id == 1 && message.event == VIRTIO_CONSOLE_PORT_OPEN && message.value == open;
}

/* Until there is nothing more now: each byte is the next one. */
static void read_output(void)
{
    static uint8_t bytes[1 << 16];
    ssize_t count = 1;

    while (count > 0) {
        count = recv(client, bytes, sizeof(bytes), MSG_DONTWAIT);
        for (ssize_t i = 0; i < count; i++, received++)
            ck_assert_msg(bytes[i] == ram[OUTPUT + received % (RAM - OUTPUT)],
                          "byte %zu is another", received);
        console_ports_turn(console);
    }
}

static void work_ports(void)
{
    struct ring_segment all[OUTPUTS];

    for (unsigned i = 0; i < 8; i++)
        offer(VIRTIO_CONSOLE_CONTROL_RECEIVE, 512);
    tell_port(0, VIRTIO_CONSOLE_DEVICE_READY);
    tell_port(1, VIRTIO_CONSOLE_PORT_READY);
    tell_port(1, VIRTIO_CONSOLE_PORT_OPEN);
    client = connect_client();
    console_ports_turn(console);
    ck_assert_int_eq(send(client, "hello", 5, 0), 5);
    console_ports_turn(console);
    ck_assert(was_told(1));
    for (unsigned i = 0; i < OUTPUTS; i++)
        all[i] = (struct ring_segment){ OUTPUT, RAM - OUTPUT, false };
    for (uint64_t i = OUTPUT; i < RAM; i++)
        ram[i] = (uint8_t)(i / 251);
    ring_add(&ring[5], all, OUTPUTS);
    ring_kick(&ring[5]);
    ck_assert(console->ports->port[1].tx_blocked);
}

static void save_ports(void)
{
    const struct console_ports_state *state = console->ports->state;
    size_t bytes = sizeof(*state) + state->count * sizeof(state->port[0]);
    uint8_t sink[4096];
    ssize_t count;

    saved.ports = malloc(bytes);
    ck_assert_ptr_nonnull(saved.ports);
    memcpy(saved.ports, state, bytes);
    /* What is in the socket is the client's, who then finds its end. */
    while ((count = recv(client, sink, sizeof(sink), MSG_DONTWAIT)) > 0)
        received += (size_t)count;
    close(client);
}

static void load_ports(void)
{
    saved.ports->port[1].end += CONSOLE_PORT_INPUT;
    ck_assert_int_eq(console_ports_restore(console, saved.ports), -EINVAL);
    saved.ports->port[1].end -= CONSOLE_PORT_INPUT;
    saved.ports->count++;
    ck_assert_int_eq(console_ports_restore(console, saved.ports), -EINVAL);
    saved.ports->count--;
    ck_assert_int_eq(console_ports_restore(console, saved.ports), 0);
    free(saved.ports);
}

static void spoil_ports(void)
{
    saved.ports->port[1].first = saved.ports->port[1].end;
}

/* Input comes first, then the end of who sent it; the next client has the rest of the output. */
static bool ports_go_on(void)
{
    bool told_early = was_told(0), right;

    console_ports_turn(console);
    told_early |= was_told(0);
    offer(4, 512);
    ring_kick(&ring[4]);
    right = got(4, "hello", 5) && !told_early;
    console_ports_turn(console);
    right &= was_told(0);
    client = connect_client();
    console_ports_turn(console);
    right &= was_told(1);
    read_output();
    ck_assert_uint_eq(received, OUTPUTS * (RAM - OUTPUT));
    ck_assert(ring_take(&ring[5], &head, &written));
    close(client);
    return right;
}

/* ---- A network: a frame waits for a buffer ----------------------------------------------------
 */

static struct virtio_net *net;
static int cable;

static struct virtio_device *create_net(void)
{
    static const uint8_t mac[NET_MAC_BYTES] = { 2, 0, 0, 0, 0, 1 };
    struct net backend = { .mtu = 1500 };
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    backend.fd = ends[0];
    cable = ends[1];
    ck_assert_int_eq(virtio_net_create_on(&net, NULL, &dma, &backend, mac), 0);
    return &net->device;
}

static void work_net(void)
{
    char frame[100] = "\2\0\0\0\0\1 a frame";

    ck_assert_int_eq(send(cable, frame, sizeof(frame), 0), sizeof(frame));
    virtio_net_turn(net, false);
    ck_assert_uint_eq(net->frame.bytes, NET_HEADER_BYTES + sizeof(frame));
}

static void save_net(void)
{
    saved.net = net->state;
    saved.frame = net->frame;
}

static void load_net(void)
{
    net->state = saved.net;
    net->frame = saved.frame;
}

static void spoil_net(void)
{
    saved.frame.bytes = 0;
}

static bool net_goes_on(void)
{
    offer(VIRTIO_NET_RECEIVE, 512);
    ring_kick(&ring[VIRTIO_NET_RECEIVE]);
    virtio_net_turn(net, false);
    return ring_take(&ring[VIRTIO_NET_RECEIVE], &head, &written) &&
           written == NET_HEADER_BYTES + 100 &&
           !strcmp((char *)ram + buffer(0, head) + NET_HEADER_BYTES + 6, " a frame");
}

static void destroy_net(void)
{
    virtio_net_destroy(net);
    close(cable);
}

/* ---- Sockets: a connection, which is lost
 * --------------------------------------------------------- */

static struct virtio_vsock *vsock;
static struct virtio_vsock_hdr packet;

static struct virtio_device *create_vsock(void)
{
    const struct vsock_config config = { .dma = &dma, .guest_cid = 3, .path = path };

    find_path();
    ck_assert_int_eq(virtio_vsock_create(&vsock, &config, error, sizeof(error)), 0);
    return &vsock->device;
}

/* The next packet to the guest has this operation. */
static bool packet_is(uint16_t op)
{
    if (!ring_take(&ring[VIRTIO_VSOCK_RECEIVE], &head, &written))
        return false;
    memcpy(&packet, ram + buffer(VIRTIO_VSOCK_RECEIVE, head), sizeof(packet));
    return packet.op == op;
}

/* Of the guest, on the connection of the last packet. */
static void reply(uint16_t op)
{
    const struct virtio_vsock_hdr header = { .src_cid = 3,
                                             .dst_cid = VSOCK_CID_HOST,
                                             .src_port = packet.dst_port,
                                             .dst_port = packet.src_port,
                                             .type = VIRTIO_VSOCK_TYPE_STREAM,
                                             .op = op,
                                             .buf_alloc = 4096 };

    put(VIRTIO_VSOCK_TRANSMIT, &header, sizeof(header));
    ring_kick(&ring[VIRTIO_VSOCK_TRANSMIT]);
}

static void work_vsock(void)
{
    for (unsigned i = 0; i < 4; i++)
        offer(VIRTIO_VSOCK_RECEIVE, 512);
    ring_kick(&ring[VIRTIO_VSOCK_RECEIVE]);
    client = connect_client();
    ck_assert_int_eq(send(client, "CONNECT 1024\n", 13, 0), 13);
    for (unsigned i = 0; i < 3; i++)
        virtio_vsock_turn(vsock);
    ck_assert(packet_is(VIRTIO_VSOCK_OP_REQUEST));
    reply(VIRTIO_VSOCK_OP_RESPONSE);
    ck_assert_uint_eq(vsock->connections[0].state, VSOCK_CONNECTED);
}

static void save_vsock(void)
{
    saved.vsock = vsock->state;
    close(client);
}

static void load_vsock(void)
{
    vsock->state = saved.vsock;
}

static void spoil_vsock(void)
{
    saved.vsock.guest_cid = 4;
}

static bool vsock_goes_on(void)
{
    virtio_vsock_transport_reset(vsock);
    offer(VIRTIO_VSOCK_EVENT, 512);
    ring_kick(&ring[VIRTIO_VSOCK_EVENT]);
    ck_assert(ring_take(&ring[VIRTIO_VSOCK_EVENT], &head, &written));
    ck_assert_uint_eq(written, sizeof(struct virtio_vsock_event));
    ck_assert_uint_eq(ram[buffer(VIRTIO_VSOCK_EVENT, head)], VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
    reply(VIRTIO_VSOCK_OP_CREDIT_UPDATE);
    return packet_is(VIRTIO_VSOCK_OP_RST);
}

static void destroy_vsock(void)
{
    virtio_vsock_destroy(vsock);
}

/* ---- The IOMMU: a domain with a page, and a fault that waits for a buffer -----------------------
 */

static struct iommu *iommu;
static struct dma endpoint;
static struct virtio_iommu *viommu;

static struct virtio_device *create_viommu(void)
{
    ck_assert_int_eq(iommu_create(&iommu, &memory, &(struct iommu_config){ 0 }), 0);
    ck_assert_int_eq(dma_create(&endpoint, &memory, iommu, ENDPOINT), 0);
    ck_assert_int_eq(
        virtio_iommu_create(&viommu, &(struct viommu_config){ .dma = &dma, .iommu = iommu }), 0);
    return &viommu->device;
}

static void request(const void *bytes, uint32_t len)
{
    const uint64_t at = SENT + ring[0].free * 256ull;

    memcpy(ram + at, bytes, len);
    ring_add(&ring[0],
             (struct ring_segment[]){ { at, len, false },
                                      { buffer(0, ring[0].free), sizeof(uint32_t), true } },
             2);
    ring_kick(&ring[0]);
    ck_assert(ring_take(&ring[0], &head, &written));
    ck_assert_uint_eq(ram[buffer(0, head)], VIRTIO_IOMMU_S_OK);
}

static int write_through(uint64_t iova, uint64_t value)
{
    int err;

    dma_lock(&endpoint);
    err = dma_write(&endpoint, iova, &value, sizeof(value));
    dma_unlock(&endpoint);
    return err;
}

static void work_viommu(void)
{
    const struct virtio_iommu_req_attach attach = { .head.type = VIRTIO_IOMMU_T_ATTACH,
                                                    .domain = 1,
                                                    .endpoint = ENDPOINT };
    const struct virtio_iommu_req_map map = { .head.type = VIRTIO_IOMMU_T_MAP,
                                              .domain = 1,
                                              .virt_start = IOVA,
                                              .virt_end = IOVA + PAGE - 1,
                                              .phys_start = OUTPUT,
                                              .flags = VIRTIO_IOMMU_MAP_F_WRITE };

    request(&attach, offsetof(struct virtio_iommu_req_attach, tail));
    request(&map, offsetof(struct virtio_iommu_req_map, tail));
    ck_assert_int_ne(write_through(IOVA + PAGE, 1), 0);
    ck_assert(viommu->state.has_fault);
}

static void save_viommu(void)
{
    saved.viommu = viommu->state;
    ck_assert_int_eq(iommu_save(iommu, &saved.iommu), 0);
}

static void load_viommu(void)
{
    viommu->state = saved.viommu;
    ck_assert_int_eq(iommu_load(iommu, &saved.iommu), 0);
    iommu_saved_free(&saved.iommu);
}

static void spoil_viommu(void)
{
    saved.viommu.has_fault = false;
}

static bool viommu_goes_on(void)
{
    struct virtio_iommu_fault fault;
    uint64_t value = 0x1234;

    ck_assert_int_eq(write_through(IOVA, value), 0);
    ck_assert_mem_eq(ram + OUTPUT, &value, sizeof(value));
    offer(1, EVENT_SIZE);
    ring_kick(&ring[1]);
    if (!ring_take(&ring[1], &head, &written) || written != EVENT_SIZE)
        return false;
    memcpy(&fault, ram + buffer(1, head), sizeof(fault));
    return fault.address == IOVA + PAGE && fault.endpoint == ENDPOINT &&
           fault.reason == VIRTIO_IOMMU_FAULT_R_MAPPING;
}

static void destroy_viommu(void)
{
    virtio_iommu_destroy(viommu);
    dma_destroy(&endpoint);
    iommu_destroy(iommu);
}

/* ---- All of them ---------------------------------------------------------------------------- */

static const struct restore_case cases[] = {
    { "rng", VERSION_1, 1, create_rng, work_rng, NULL, NULL, spoil_rng, rng_goes_on, destroy_rng },
    { "disk", VERSION_1, 1, create_disk, work_disk, save_disk, load_disk, spoil_disk, disk_goes_on,
      destroy_disk },
    { "disk that holds", VERSION_1, 1, create_disk, work_held_disk, save_held_disk, load_disk,
      spoil_held_disk, held_disk_goes_on, destroy_disk },
    { "balloon", VERSION_1 | 1ull << VIRTIO_BALLOON_F_STATS_VQ, 5, create_balloon, work_balloon,
      save_balloon, load_balloon, spoil_balloon, balloon_goes_on, destroy_balloon },
    { "console", VERSION_1, 2, create_console, work_console, save_console, load_console,
      spoil_console, console_goes_on, destroy_console },
    { "ports", VERSION_1 | 1ull << VIRTIO_CONSOLE_F_MULTIPORT, 6, create_ports, work_ports,
      save_ports, load_ports, spoil_ports, ports_go_on, destroy_console },
    { "net", VERSION_1, 3, create_net, work_net, save_net, load_net, spoil_net, net_goes_on,
      destroy_net },
    { "vsock", VERSION_1, 3, create_vsock, work_vsock, save_vsock, load_vsock, spoil_vsock,
      vsock_goes_on, destroy_vsock },
    { "iommu", VERSION_1 | 1ull << VIRTIO_IOMMU_F_MAP_UNMAP, 2, create_viommu, work_viommu,
      save_viommu, load_viommu, spoil_viommu, viommu_goes_on, destroy_viommu },
};

#define CASES ((int)(sizeof(cases) / sizeof(cases[0])))

static void open_memory(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    ram = memory_at(&memory, 0, RAM);
}

static void close_memory(void)
{
    dma_destroy(&dma);
    memory_destroy(&memory);
}

static void end(const struct restore_case *c)
{
    c->destroy();
    close_memory();
    if (*directory)
        ck_assert_int_eq(rmdir(directory), 0);
}

static void set_up(const struct restore_case *c, struct virtio_device *device)
{
    ck_assert(ring_negotiate(device, c->features));
    for (unsigned i = 0; i < c->queues; i++)
        ring_setup(&ring[i], device, i, ram, (i + 1) * PAGE, SIZE);
    ring_driver_ok(device);
}

static void save(const struct restore_case *c, struct virtio_device *device)
{
    dma_lock(&dma);
    saved.device = device->state;
    for (unsigned i = 0; i < c->queues; i++)
        saved.queues[i] = device->queues[i].state;
    saved.mmio = ring_mmio(device)->state;
    if (c->save)
        c->save();
    dma_unlock(&dma);
    memcpy(saved.ram, ram, RAM);
}

static void load(const struct restore_case *c, struct virtio_device *device)
{
    struct virtio_mmio *mmio = ring_mmio(device);

    memcpy(ram, saved.ram, RAM);
    dma_lock(&dma);
    if (c->load)
        c->load();
    ck_assert_int_eq(virtio_device_restore(device, &saved.device, saved.queues), 0);
    virtio_mmio_restore(mmio, &saved.mmio);
    dma_unlock(&dma);
    for (unsigned i = 0; i < c->queues; i++) {
        ring[i].device = device;
        ring[i].ram = ram;
    }
    virtio_device_after_write(device, NULL);
}

/* Odd _i: the control. */
START_TEST(test_goes_on)
{
    const struct restore_case *c = &cases[_i / 2];
    struct virtio_device *device;
    bool spoiled = _i % 2;

    open_memory();
    device = c->create();
    set_up(c, device);
    c->work();
    save(c, device);
    c->destroy();
    close_memory();

    open_memory();
    device = c->create();
    if (spoiled)
        c->spoil();
    load(c, device);
    ck_assert_msg(c->goes_on() == !spoiled, "%s: %s", c->name,
                  spoiled ? "a spoiled field makes no difference" : "does not go on as it was");
    ck_assert_ptr_null(device->needs_reset);
    end(c);
}
END_TEST

/* A queue that cannot be: the device needs a reset, and works after it. */
START_TEST(test_refused)
{
    const struct restore_case *c = &cases[_i];
    const struct virtqueue_state queues[QUEUES] = { { .size = 3, .ready = true } };
    const struct virtio_device_state state = { 0 };
    struct virtio_device *device;

    open_memory();
    device = c->create();
    ring_mmio(device);
    dma_lock(&dma);
    ck_assert_int_eq(virtio_device_restore(device, &state, queues), -EINVAL);
    dma_unlock(&dma);
    ck_assert(ring_status(device) & VIRTIO_NEEDS_RESET);
    set_up(c, device);
    ck_assert_ptr_null(device->needs_reset);
    end(c);
}
END_TEST

/* Requests that cannot be: too many, or no descriptor. */
START_TEST(test_requests_refused)
{
    static const struct virtio_blk_requests bad[] = {
        { 1, { SIZE } },
        { VIRTIO_BLK_QUEUE_MAX + 1, { 0 } },
    };
    struct virtio_device *device;

    open_memory();
    device = create_disk();
    set_up(&cases[1], device);
    /* So that a request at descriptor 0 is one. */
    disk.ring = ring[0];
    disk_offer(&disk, 0, VIRTIO_BLK_T_IN, 0, BUFFERS, 512);
    dma_lock(&dma);
    ck_assert_int_eq(virtio_blk_restore_requests(disk.blk, &bad[_i]), -EINVAL);
    dma_unlock(&dma);
    ck_assert_ptr_nonnull(device->needs_reset);
    destroy_disk();
    close_memory();
}
END_TEST

/* ---- The DMA probe, which is no virtio device ------------------------------------------------ */

static void probe_put(struct probe *probe, uint64_t offset, unsigned size, uint64_t value)
{
    probe->region.write(probe, NULL, offset, size, value);
}

static void probe_dma(struct probe *probe, uint64_t source, uint64_t target, uint64_t command)
{
    probe_put(probe, ABI_PROBE_DMA_SOURCE, 8, source);
    probe_put(probe, ABI_PROBE_DMA_TARGET, 8, target);
    probe_put(probe, ABI_PROBE_DMA_COUNT, 8, 512);
    probe_put(probe, ABI_PROBE_DMA_COMMAND, 8, command);
    if (probe->region.after_write)
        probe->region.after_write(probe, NULL);
}

/*
 * It withholds a completion, and has bytes in its buffer. Control (_i = 1): one of them is
 * spoiled; (_i = 2): nothing is withheld, and no interrupt comes.
 */
START_TEST(test_probe_goes_on)
{
    static struct probe_state state;
    struct probe probe;

    open_memory();
    ck_assert_int_eq(probe_create(&probe, NULL, &dma, 0, 0), 0);
    disk_fill(ram + BUFFERS, 512, 1);
    probe_attack(&probe, ABI_PROBE_WITHHOLD);
    probe_dma(&probe, BUFFERS, ABI_PROBE_BUFFER, ABI_PROBE_DMA_START | ABI_PROBE_DMA_IRQ);
    ck_assert(probe.state.withheld && !probe.irq.level);
    state = probe.state;
    state.buffer[7] ^= _i == 1;
    state.withheld &= _i != 2;

    ck_assert_int_eq(probe_create(&probe, NULL, &dma, 0, 0), 0);
    dma_lock(&dma);
    probe.state = state;
    probe_set_line(&probe);
    dma_unlock(&dma);
    probe_attack(&probe, ABI_PROBE_RELEASE);
    ck_assert(probe.irq.level == (_i != 2));
    probe.state.dma_command = 0;
    probe_dma(&probe, ABI_PROBE_BUFFER, BUFFERS + 512, ABI_PROBE_DMA_START | ABI_PROBE_DMA_TO_RAM);
    ck_assert(!memcmp(ram + BUFFERS, ram + BUFFERS + 512, 512) == (_i != 1));
    close_memory();
}
END_TEST

Suite *restore_suite(void)
{
    Suite *suite = suite_create("restore");
    TCase *tcase = tcase_create("restore");

    tcase_set_timeout(tcase, 30);
    tcase_add_loop_test(tcase, test_goes_on, 0, 2 * CASES);
    tcase_add_loop_test(tcase, test_refused, 0, CASES);
    tcase_add_loop_test(tcase, test_requests_refused, 0, 2);
    tcase_add_loop_test(tcase, test_probe_goes_on, 0, 3);
    suite_add_tcase(suite, tcase);
    return suite;
}
