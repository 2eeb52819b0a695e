/*
 * vm_pause under load: while it lasts, guest memory and what a device shows of itself do not
 * change by a byte, however much the host's side pushes; and where one thread is left running,
 * that is noticed. No guest runs: the driver is a thread that stands still as a vCPU does.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>
#include <linux/virtio_iommu.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/delay.h"
#include "devices/backend/file.h"
#include "devices/core/board.h"
#include "devices/hostile/blk.h"
#include "devices/hostile/probe.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"
#include "devices/virtio/iommu.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vsock.h"
#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vm.h"

#define PAGE       4096ull
#define RAM        (1ull << 20)
#define SIZE       32
#define HEADERS    (16 * PAGE)
#define BUFFERS    (32 * PAGE)
#define FILE_BYTES (4ull << 20)
#define LATENCY_NS 2000000ull
#define PAUSES     40
#define CONTROLS   2000 /* pauses, of which one must notice the thread that runs */
#define PAUSE_US   3000
#define QUEUES     6u
#define DEVICE_MAX 65536u

/* Which thread the pause does not know of. */
enum left { NONE_LEFT, DEVICE_LEFT };

struct load {
    const char *name;
    void (*create)(enum left left);
    void (*drive)(void); /* the driver, inside */
    void (*push)(void);  /* the host's side, any time */
    /* What the device shows of itself, into `to`: how many bytes. */
    size_t (*look)(uint8_t *to);
    uint64_t (*done)(void); /* how much has gone through */
    void (*destroy)(void);
};

static struct vm vm;
static struct memory memory;
static struct dma dma;
static uint8_t *ram;
static struct ring ring[QUEUES];
static struct vm_thread driver;
static struct vm_thread host; /* the pushing thread, where it calls into a device */
static const struct load *load;
static atomic_bool stop;
static uint64_t through;
static char directory[64], path[96];

static void ignore_signal(int number)
{
    (void)number;
}

/* A VM without KVM: what pausing needs of one. */
static void open_vm(void)
{
    const struct sigaction exit_signal = { .sa_handler = ignore_signal };
    pthread_condattr_t attr;

    sigaction(VM_EXIT_SIGNAL, &exit_signal, NULL);
    vm = (struct vm){ .fd = -1, .end_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    pthread_mutex_init(&vm.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&vm.changed, &attr);
    ck_assert_int_eq(memory_create(&memory, -1, RAM, MEMORY_4K), 0);
    ram = memory_at(&memory, 0, RAM);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    strcpy(directory, "/tmp/strata-pause-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/s", directory);
}

static void offer(unsigned queue, uint64_t gpa, uint32_t len)
{
    ring_add(&ring[queue], &(struct ring_segment){ gpa, len, true }, 1);
}

/* Offers again what came back of a queue of receive buffers. */
static void refill(unsigned queue)
{
    uint32_t head, written;
    bool any = false;

    while (ring_take(&ring[queue], &head, &written)) {
        offer(queue, BUFFERS + ((uint64_t)queue * SIZE + ring[queue].free) * 512, 512);
        through++;
        any = true;
    }
    if (any)
        ring_kick(&ring[queue]);
}

static void set_up(struct virtio_device *device, uint64_t features, unsigned queues)
{
    ck_assert(ring_negotiate(device, 1ull << VIRTIO_F_VERSION_1 | features));
    for (unsigned i = 0; i < queues; i++)
        ring_setup(&ring[i], device, i, ram, (i + 1) * PAGE, SIZE);
    ring_driver_ok(device);
}

static void fill_up(unsigned queue)
{
    for (unsigned i = 0; i < SIZE - 1; i++)
        offer(queue, BUFFERS + ((uint64_t)queue * SIZE + i) * 512, 512);
    ring_kick(&ring[queue]);
}

static size_t look_at(uint8_t *to, size_t at, const void *what, size_t bytes)
{
    memcpy(to + at, what, bytes);
    return at + bytes;
}

static uint64_t count_through(void)
{
    return through;
}

static void register_host(enum left left)
{
    vm_thread_init(&host, left ? NULL : &vm, VM_THREAD_BACK, "the host's side");
    vm_thread_register(&host, -1);
}

static void push_nothing(void)
{
}

/* ---- Random numbers, which have neither a thread nor a host's side ------------------------------
 */

static struct virtio_rng *rng;

static void create_rng(enum left left)
{
    (void)left;
    ck_assert_int_eq(virtio_rng_create(&rng, &(struct rng_config){ .dma = &dma }), 0);
    set_up(&rng->device, 0, 1);
    fill_up(0);
}

static void drive_rng(void)
{
    refill(0);
}

static size_t look_at_rng(uint8_t *to)
{
    return look_at(to, 0, rng, sizeof(*rng));
}

static void destroy_rng(void)
{
    virtio_rng_destroy(rng);
}

/* ---- A balloon: the driver inflates, the host changes its mind and asks for statistics ---------
 */

static struct virtio_balloon *balloon;

static void create_balloon(enum left left)
{
    dma.vm = left ? NULL : &vm;
    ck_assert_int_eq(virtio_balloon_create(&balloon, &(struct balloon_config){ .dma = &dma }), 0);
    set_up(&balloon->device, 1ull << VIRTIO_BALLOON_F_STATS_VQ, 3);
}

/* Read by the device: page numbers beyond all rings and buffers, or statistics. */
static void send_balloon(unsigned queue, const void *bytes, uint32_t len)
{
    uint64_t at = HEADERS + queue * 64;

    memcpy(ram + at, bytes, len);
    ring_add(&ring[queue], &(struct ring_segment){ at, len, false }, 1);
    ring_kick(&ring[queue]);
}

static void drive_balloon(void)
{
    const struct virtio_balloon_stat stat = { .tag = VIRTIO_BALLOON_S_MEMFREE, .val = through };
    const uint32_t pfn = 200 + through % 50;
    uint32_t head, written;

    memset(ram + pfn * PAGE, 0x5a, PAGE);
    send_balloon(0, &pfn, sizeof(pfn));
    ck_assert(ring_take(&ring[0], &head, &written));
    if (ring_take(&ring[2], &head, &written) || !ring[2].next_available)
        send_balloon(2, &stat, sizeof(stat));
    through++;
}

static void push_balloon(void)
{
    static uint32_t pages;

    virtio_balloon_set_target(balloon, ++pages);
    virtio_balloon_ask_stats(balloon);
}

static size_t look_at_balloon(uint8_t *to)
{
    return look_at(to, 0, balloon, offsetof(struct virtio_balloon, host));
}

static void destroy_balloon(void)
{
    virtio_balloon_destroy(balloon);
}

/* ---- virtio-iommu: the driver maps and unmaps; a device's thread makes faults -------------------
 */

static struct iommu *iommu;
static struct dma endpoint;
static struct virtio_iommu *viommu;

#define ENDPOINT 7
#define IOVA     0x40000000ull

static void send_viommu(const void *request, uint32_t len)
{
    uint64_t at = HEADERS + ring[0].free * 64ull;
    uint32_t head, written;

    memcpy(ram + at, request, len);
    ring_add(
        &ring[0],
        (struct ring_segment[]){ { at, len, false }, { BUFFERS + ring[0].free * 512ull, 4, true } },
        2);
    ring_kick(&ring[0]);
    ck_assert(ring_take(&ring[0], &head, &written));
    ck_assert_uint_eq(ram[BUFFERS + head * 512ull], VIRTIO_IOMMU_S_OK);
}

static void create_viommu(enum left left)
{
    const struct virtio_iommu_req_attach attach = { .head.type = VIRTIO_IOMMU_T_ATTACH,
                                                    .domain = 1,
                                                    .endpoint = ENDPOINT };

    register_host(left);
    ck_assert_int_eq(iommu_create(&iommu, &memory, &(struct iommu_config){ 0 }), 0);
    ck_assert_int_eq(dma_create(&endpoint, &memory, iommu, ENDPOINT), 0);
    ck_assert_int_eq(
        virtio_iommu_create(&viommu, &(struct viommu_config){ .dma = &dma, .iommu = iommu }), 0);
    set_up(&viommu->device, 1ull << VIRTIO_IOMMU_F_MAP_UNMAP, 2);
    send_viommu(&attach, offsetof(struct virtio_iommu_req_attach, tail));
    fill_up(VIRTIO_IOMMU_EVENTS);
}

static void drive_viommu(void)
{
    const struct virtio_iommu_req_map map = { .head.type = VIRTIO_IOMMU_T_MAP,
                                              .domain = 1,
                                              .virt_start = IOVA,
                                              .virt_end = IOVA + PAGE - 1,
                                              .phys_start = BUFFERS,
                                              .flags = VIRTIO_IOMMU_MAP_F_READ };
    const struct virtio_iommu_req_unmap unmap = { .head.type = VIRTIO_IOMMU_T_UNMAP,
                                                  .domain = 1,
                                                  .virt_start = IOVA,
                                                  .virt_end = IOVA + PAGE - 1 };

    refill(VIRTIO_IOMMU_EVENTS);
    send_viommu(&map, offsetof(struct virtio_iommu_req_map, tail));
    send_viommu(&unmap, offsetof(struct virtio_iommu_req_unmap, tail));
}

/* As a device's thread does it. */
static void push_viommu(void)
{
    uint64_t value = 0;

    vm_thread_enter(&host);
    dma_lock(&endpoint);
    (void)!dma_write(&endpoint, IOVA, &value, sizeof(value));
    dma_unlock(&endpoint);
    vm_thread_leave(&host);
}

static size_t look_at_viommu(uint8_t *to)
{
    return look_at(to, 0, viommu, sizeof(*viommu));
}

static void destroy_viommu(void)
{
    vm_thread_unregister(&host);
    virtio_iommu_destroy(viommu);
    dma_destroy(&endpoint);
    iommu_destroy(iommu);
}

/* ---- The DMA probe: the driver has it copy, the host has it attack ------------------------------
 */

static struct probe probe;

static void create_probe(enum left left)
{
    register_host(left);
    ck_assert_int_eq(probe_create(&probe, NULL, &dma, 0, 0), 0);
}

static void write_probe(uint64_t offset, uint64_t value)
{
    probe.region.write(&probe, NULL, offset, 8, value);
    if (probe.region.after_write)
        probe.region.after_write(&probe, NULL);
}

static void drive_probe(void)
{
    write_probe(ABI_PROBE_DMA_SOURCE, BUFFERS + through % 64 * 512);
    write_probe(ABI_PROBE_DMA_TARGET, ABI_PROBE_BUFFER);
    write_probe(ABI_PROBE_DMA_COUNT, 512);
    write_probe(ABI_PROBE_DMA_COMMAND, ABI_PROBE_DMA_START);
    through++;
}

static void push_probe(void)
{
    static uint8_t fill;

    vm_thread_enter(&host);
    dma_lock(&dma);
    probe.state.address = BUFFERS;
    probe.state.length = 64ull * 512;
    probe.state.value = ++fill;
    dma_unlock(&dma);
    probe_attack(&probe, ABI_PROBE_FILL);
    vm_thread_leave(&host);
}

static size_t look_at_probe(uint8_t *to)
{
    return look_at(to, 0, &probe, sizeof(probe));
}

static void destroy_probe(void)
{
    vm_thread_unregister(&host);
}

/* ---- Disks ---------------------------------------------------------------------------------- */

static struct virtio_blk *blk;
static int image;
static unsigned turn;

static void create_disk_on(struct vm *of_file, struct vm *of_delay, uint64_t latency_ns,
                           bool without_uring)
{
    const struct file_options options = { .depth = VIRTIO_BLK_QUEUE_MAX,
                                          .without_uring = without_uring,
                                          .vm = of_file };
    struct block *block;
    char error[256];

    image = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(image, 0);
    ck_assert_int_eq(ftruncate(image, FILE_BYTES), 0);
    ck_assert_msg(file_open(&block, path, &options, error, sizeof(error)) == 0, "%s", error);
    if (latency_ns)
        ck_assert_int_eq(delay_create(&block, of_delay, block, latency_ns), 0);
    ck_assert_int_eq(virtio_blk_create_on(&blk, &dma, block, "pause"), 0);
    set_up(&blk->device, 0, 1);
}

static void create_disk(enum left left)
{
    create_disk_on(left ? NULL : &vm, &vm, 0, false);
}

static void create_disk_of_calls(enum left left)
{
    create_disk_on(left ? NULL : &vm, &vm, 0, true);
}

static void create_slow_disk(enum left left)
{
    create_disk_on(&vm, left ? NULL : &vm, LATENCY_NS, false);
}

/* Reads, and every fourth time a write or a flush, ten at a time. */
static void drive_disk(void)
{
    uint32_t head, written;

    while (ring_take(&ring[0], &head, &written))
        through++;
    while ((uint16_t)(ring[0].next_available - ring[0].next_used) < SIZE / 3) {
        uint64_t header = HEADERS + ring[0].free * 32ull, data = BUFFERS + ring[0].free * PAGE;
        struct virtio_blk_outhdr request = { .sector = turn * 8 % (FILE_BYTES / 512) };
        struct ring_segment segments[] = { { header, sizeof(request), false },
                                           { data, PAGE, true },
                                           { header + sizeof(request), 1, true } };

        request.type = turn % 4   ? VIRTIO_BLK_T_IN
                       : turn % 8 ? VIRTIO_BLK_T_OUT
                                  : VIRTIO_BLK_T_FLUSH;
        segments[1].writable = turn++ % 4;
        memcpy(ram + header, &request, sizeof(request));
        if (request.type == VIRTIO_BLK_T_FLUSH)
            segments[1] = segments[2];
        ring_add(&ring[0], segments, request.type == VIRTIO_BLK_T_FLUSH ? 2 : 3);
    }
    ring_kick(&ring[0]);
}

/* What is not in the page cache cannot be read at once. */
static void push_disk(void)
{
    posix_fadvise(image, 0, 0, POSIX_FADV_DONTNEED);
}

static size_t look_at_disk(uint8_t *to)
{
    return look_at(to, 0, blk, sizeof(*blk));
}

static void destroy_disk(void)
{
    virtio_blk_destroy(blk);
    close(image);
    unlink(path);
}

/* ---- A hostile disk: what requests were about is written again by the host
 * ----------------------- */

static void create_hostile_disk(enum left left)
{
    const struct hostile_blk_plan plan = { .mode = HOSTILE_BLK_REPLAY, .fill = 0x5a };

    register_host(left);
    create_disk_on(&vm, &vm, 0, false);
    ck_assert_int_eq(virtio_blk_turn_hostile(blk, &plan), 0);
}

static void push_hostile_disk(void)
{
    struct dma_outcome outcome;

    vm_thread_enter(&host);
    (void)hostile_blk_replay(blk, &outcome);
    vm_thread_leave(&host);
}

static size_t look_at_hostile_disk(uint8_t *to)
{
    struct hostile_blk_outcome outcome;

    memset(&outcome, 0, sizeof(outcome));
    hostile_blk_outcome(blk, &outcome);
    return look_at(to, look_at_disk(to), &outcome, sizeof(outcome));
}

static void destroy_hostile_disk(void)
{
    destroy_disk();
    vm_thread_unregister(&host);
}

/* ---- Networks ------------------------------------------------------------------------------- */

static struct virtio_net *net;
static int cable;

static void create_net(enum left left)
{
    static const uint8_t mac[NET_MAC_BYTES] = { 2, 0, 0, 0, 0, 1 };
    struct net backend = { .mtu = 1500 };
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    backend.fd = ends[0];
    cable = ends[1];
    ck_assert_int_eq(virtio_net_create_on(&net, left ? NULL : &vm, &dma, &backend, mac), 0);
    ck_assert_int_eq(virtio_net_start(net), 0);
    set_up(&net->device, 1ull << VIRTIO_NET_F_MRG_RXBUF, 2);
    fill_up(VIRTIO_NET_RECEIVE);
}

static void drive_net(void)
{
    uint32_t head, written;

    refill(VIRTIO_NET_RECEIVE);
    while (ring_take(&ring[1], &head, &written))
        ;
    while ((uint16_t)(ring[1].next_available - ring[1].next_used) < SIZE - 1)
        ring_add(&ring[1], &(struct ring_segment){ HEADERS, 100, false }, 1);
    ring_kick(&ring[1]);
}

static void push_net(void)
{
    uint8_t frame[300] = { 2, 0, 0, 0, 0, 1 };

    for (unsigned i = 0; i < 4; i++)
        (void)!send(cable, frame, sizeof(frame), MSG_DONTWAIT);
    /* Seldom: so its thread waits for room, too. */
    (void)!recv(cable, frame, sizeof(frame), MSG_DONTWAIT);
}

static size_t look_at_net(uint8_t *to)
{
    size_t bytes = look_at(to, 0, &net->device, sizeof(net->device));

    bytes = look_at(to, bytes, &net->state, sizeof(net->state));
    bytes = look_at(to, bytes, &net->frame, offsetof(struct virtio_net_frame, data) + 512);
    return look_at(to, bytes, &net->counts, sizeof(net->counts));
}

static void destroy_net(void)
{
    virtio_net_destroy(net);
    close(cable);
}

/* ---- Sockets -------------------------------------------------------------------------------- */

static struct virtio_vsock *vsock;

static void create_vsock(enum left left)
{
    const struct vsock_config config = {
        .vm = left ? NULL : &vm, .dma = &dma, .guest_cid = 3, .path = path
    };
    char error[256];

    ck_assert_msg(virtio_vsock_create(&vsock, &config, error, sizeof(error)) == 0, "%s", error);
    ck_assert_int_eq(virtio_vsock_start(vsock), 0);
    set_up(&vsock->device, 0, 3);
    fill_up(VIRTIO_VSOCK_RECEIVE);
}

static void drive_vsock(void)
{
    refill(VIRTIO_VSOCK_RECEIVE);
}

/* Clients who come, ask for a port and go: requests, and resets of them. */
static void push_vsock(void)
{
    static const char hello[] = "CONNECT 1024\n";
    int fd = unix_connect(path);

    if (fd < 0)
        return;
    (void)!send(fd, hello, sizeof(hello) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    usleep(200);
    close(fd);
}

static size_t look_at_vsock(uint8_t *to)
{
    size_t bytes = look_at(to, 0, &vsock->device, sizeof(vsock->device));

    return look_at(to, bytes, &vsock->counts, sizeof(vsock->counts));
}

static void destroy_vsock(void)
{
    virtio_vsock_destroy(vsock);
}

/* ---- A console: the driver writes and reads, the host types -------------------------------------
 */

static struct virtio_console *console;
static struct console out;

static void create_console(enum left left)
{
    const struct console_config config = { .dma = &dma, .out = &out, .input_ready_fd = -1 };
    char error[256];

    register_host(left);
    console_init(&out, -1);
    ck_assert_msg(virtio_console_create(&console, &config, error, sizeof(error)) == 0, "%s", error);
    set_up(&console->device, 0, 2);
    fill_up(VIRTIO_CONSOLE_RECEIVE);
}

static void drive_console(void)
{
    struct ring *transmit = &ring[VIRTIO_CONSOLE_TRANSMIT];
    uint32_t head, written;

    refill(VIRTIO_CONSOLE_RECEIVE);
    while (ring_take(transmit, &head, &written))
        ;
    while ((uint16_t)(transmit->next_available - transmit->next_used) < SIZE - 1)
        ring_add(transmit, &(struct ring_segment){ HEADERS, 100, false }, 1);
    ring_kick(transmit);
}

/* As the board does it: what is typed while the VM is paused is not taken. */
static void push_console(void)
{
    static const uint8_t bytes[700];

    if (vm_thread_try_enter(&host)) {
        (void)!virtio_console_input(console, bytes, sizeof(bytes));
        vm_thread_leave(&host);
    }
}

static size_t look_at_console(uint8_t *to)
{
    size_t bytes = look_at(to, 0, &console->device, sizeof(console->device));

    bytes = look_at(to, bytes, &console->state, sizeof(console->state));
    return look_at(to, bytes, &out, sizeof(out));
}

static void destroy_console(void)
{
    virtio_console_destroy(console);
    vm_thread_unregister(&host);
}

/* ---- Console ports -------------------------------------------------------------------------- */

static int client;

static void tell_port(uint32_t id, uint16_t event)
{
    const struct virtio_console_control message = { id, event, 1 };

    memcpy(ram + HEADERS, &message, sizeof(message));
    ring_add(&ring[3], &(struct ring_segment){ HEADERS, sizeof(message), false }, 1);
    ring_kick(&ring[3]);
}

static void create_ports(enum left left)
{
    static struct console_port_config port = { .name = "port" };
    const struct console_config config = { .vm = left ? NULL : &vm,
                                           .dma = &dma,
                                           .out = &out,
                                           .input_ready_fd = -1,
                                           .ports = &port,
                                           .nports = 1 };
    char error[256];

    port.path = path;
    console_init(&out, -1);
    ck_assert_msg(virtio_console_create(&console, &config, error, sizeof(error)) == 0, "%s", error);
    ck_assert_int_eq(console_ports_start(console), 0);
    set_up(&console->device, 1ull << VIRTIO_CONSOLE_F_MULTIPORT, QUEUES);
    for (unsigned queue = 0; queue < QUEUES; queue += 2)
        fill_up(queue);
    tell_port(0, VIRTIO_CONSOLE_DEVICE_READY);
    tell_port(1, VIRTIO_CONSOLE_PORT_READY);
    tell_port(1, VIRTIO_CONSOLE_PORT_OPEN);
    client = unix_connect(path);
    ck_assert_int_ge(client, 0);
}

static void drive_ports(void)
{
    refill(2);
    refill(4);
}

static void push_ports(void)
{
    static const char bytes[700];

    (void)!send(client, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static size_t look_at_ports(uint8_t *to)
{
    size_t bytes = look_at(to, 0, &console->device, sizeof(console->device));

    bytes = look_at(to, bytes, &console->ports->state->port[1], sizeof(struct console_port_state));
    return look_at(to, bytes, &console->ports->port[1].counts, sizeof(struct console_port_counts));
}

static void destroy_ports(void)
{
    close(client);
    virtio_console_destroy(console);
}

/* ---- All of them ---------------------------------------------------------------------------- */

static const struct load loads[] = {
    { "rng", create_rng, drive_rng, push_nothing, look_at_rng, count_through, destroy_rng },
    { "disk", create_disk, drive_disk, push_disk, look_at_disk, count_through, destroy_disk },
    { "disk of system calls", create_disk_of_calls, drive_disk, push_disk, look_at_disk,
      count_through, destroy_disk },
    { "slow disk", create_slow_disk, drive_disk, push_disk, look_at_disk, count_through,
      destroy_disk },
    { "hostile disk", create_hostile_disk, drive_disk, push_hostile_disk, look_at_hostile_disk,
      count_through, destroy_hostile_disk },
    { "balloon", create_balloon, drive_balloon, push_balloon, look_at_balloon, count_through,
      destroy_balloon },
    { "virtio-iommu", create_viommu, drive_viommu, push_viommu, look_at_viommu, count_through,
      destroy_viommu },
    { "probe", create_probe, drive_probe, push_probe, look_at_probe, count_through, destroy_probe },
    { "console", create_console, drive_console, push_console, look_at_console, count_through,
      destroy_console },
    { "net", create_net, drive_net, push_net, look_at_net, count_through, destroy_net },
    { "vsock", create_vsock, drive_vsock, push_vsock, look_at_vsock, count_through, destroy_vsock },
    { "console ports", create_ports, drive_ports, push_ports, look_at_ports, count_through,
      destroy_ports },
};

#define LOADS      ((int)(sizeof(loads) / sizeof(loads[0])))
#define FIRST_LEFT 3 /* a fast disk may have nothing under way when the pause begins */

static void driver_body(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        vm_thread_enter(&driver);
        load->drive();
        vm_thread_leave(&driver);
        usleep(100);
    }
}

static void *push_body(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        load->push();
        usleep(300);
    }
    return NULL;
}

/* Whether one pause has seen something change. */
static bool pause_once(void)
{
    static uint8_t before[RAM], seen[2][DEVICE_MAX];
    size_t bytes;
    bool changed;

    vm_pause(&vm, NULL);
    memcpy(before, ram, RAM);
    bytes = load->look(seen[0]);
    usleep(PAUSE_US);
    changed = load->look(seen[1]) != bytes || memcmp(seen[0], seen[1], bytes) != 0 ||
              memcmp(before, ram, RAM) != 0;
    vm_resume(&vm, NULL);
    return changed;
}

/* How many of so many pauses saw a change, the first such being enough if `first`. */
static unsigned run_load(enum left left, unsigned pauses, bool first)
{
    unsigned changed = 0;
    pthread_t pusher;
    uint64_t done = 0;

    open_vm();
    load->create(left);
    vm_thread_init(&driver, &vm, VM_THREAD_FRONT, "driver");
    ck_assert_int_eq(vm_thread_start(&driver, driver_body, NULL), 0);
    ck_assert_int_eq(pthread_create(&pusher, NULL, push_body, NULL), 0);
    for (unsigned i = 0; i < pauses && !(first && changed); i++) {
        changed += pause_once();
        /* Each pause comes under load. */
        for (unsigned ms = 0; ms < 2000 && !left; ms++) {
            vm_pause(&vm, NULL);
            if (load->done() > done)
                ms = 2000;
            vm_resume(&vm, NULL);
            usleep(500);
        }
        vm_pause(&vm, NULL);
        ck_assert_msg(left || load->done() > done, "%s: nothing goes through", load->name);
        done = load->done();
        vm_resume(&vm, NULL);
        usleep(500);
    }
    atomic_store(&stop, true);
    pthread_join(pusher, NULL);
    vm_thread_end(&driver);
    load->destroy();
    ck_assert_ptr_null(vm.threads);
    dma_destroy(&dma);
    memory_destroy(&memory);
    rmdir(directory);
    return changed;
}

START_TEST(test_nothing_changes)
{
    load = &loads[_i];
    ck_assert_msg(run_load(NONE_LEFT, PAUSES, false) == 0, "%s: changed while paused", load->name);
}
END_TEST

START_TEST(test_a_thread_that_is_left_is_noticed)
{
    load = &loads[_i];
    ck_assert_msg(run_load(DEVICE_LEFT, CONTROLS, true) > 0, "%s: its thread is not noticed",
                  load->name);
}
END_TEST

/* A thread that does not come to its park point is named, and all goes on. */
START_TEST(test_stuck_is_named)
{
    char stuck[VM_THREAD_NAME_BYTES];
    struct vm_thread busy;

    open_vm();
    vm_thread_init(&busy, &vm, VM_THREAD_BACK, "the busy one");
    vm_thread_register(&busy, -1);
    ck_assert(vm_thread_enter(&busy));
    ck_assert_int_eq(vm_pause_within(&vm, 50, stuck), -ETIMEDOUT);
    ck_assert_str_eq(stuck, "the busy one");
    vm_thread_leave(&busy);
    ck_assert_int_eq(vm_pause_within(&vm, 50, stuck), 0);
    ck_assert_str_eq(stuck, "");
    vm_resume(&vm, NULL);
    /* With the kernel at work for it, it counts as busy, too. */
    vm_thread_set_in_flight(&busy, true);
    ck_assert_int_eq(vm_pause_within(&vm, 50, stuck), -ETIMEDOUT);
    ck_assert_str_eq(stuck, "the busy one");
    vm_thread_unregister(&busy);
    rmdir(directory);
}
END_TEST

static struct board board;
static atomic_uint step; /* of the two threads below */

static void await_step(unsigned wanted)
{
    while (atomic_load(&step) < wanted)
        usleep(100);
}

static void *pause_and_resume(void *unused)
{
    (void)unused;
    vm_pause(&vm, NULL);
    atomic_store(&step, 1);
    await_step(2);
    vm_resume(&vm, NULL);
    return NULL;
}

/* What is typed meanwhile is not taken; the event loop does not wait, and is told when to again. */
START_TEST(test_input_is_refused)
{
    int ready = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const struct board_config config = { .console_out_fd = -1, .console_input_ready_fd = ready };
    eventfd_t told;
    pthread_t pauser;

    open_vm();
    bus_init(&vm.pio, 0xffff);
    bus_init(&vm.mmio, ~0ull);
    ck_assert_int_eq(board_create(&board, &vm, &config), 0);
    /* The second time nothing is typed. */
    for (unsigned i = 0; i < 2; i++) {
        atomic_store(&step, 0);
        ck_assert_int_eq(pthread_create(&pauser, NULL, pause_and_resume, NULL), 0);
        await_step(1);
        if (!i)
            ck_assert_uint_eq(board_input(&board, (const uint8_t *)"b", 1), 0);
        ck_assert_int_lt(eventfd_read(ready, &told), 0);
        atomic_store(&step, 2);
        pthread_join(pauser, NULL);
        ck_assert_int_eq(eventfd_read(ready, &told), i ? -1 : 0);
    }
    board_destroy(&board);
    ck_assert_ptr_null(vm.threads);
    rmdir(directory);
}
END_TEST

Suite *pause_suite(void)
{
    Suite *suite = suite_create("pause");
    TCase *tcase = tcase_create("pause");

    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_nothing_changes, 0, LOADS);
    tcase_add_loop_test(tcase, test_a_thread_that_is_left_is_noticed, FIRST_LEFT, LOADS);
    tcase_add_test(tcase, test_stuck_is_named);
    tcase_add_test(tcase, test_input_is_refused);
    suite_add_tcase(suite, tcase);
    return suite;
}
