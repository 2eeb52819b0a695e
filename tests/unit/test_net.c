/* devices/virtio/net: its rings, headers and filter, over a pair of sockets as backend. */
#include <check.h>
#include <errno.h>
#include <linux/virtio_ids.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/iommu/iommu.h"
#include "devices/virtio/net.h"
#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES  (1ull << 20)
#define RING(i)    (0x1000ull + (i)*0x1000ull)
#define DATA       0x10000ull
#define OUTSIDE    (RAM_BYTES + 0x1000)
#define SIZE       16
#define HEADER     NET_HEADER_BYTES
#define FEATURE(f) (1ull << VIRTIO_NET_F_##f)
#define BASIC      (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX)
#define FRAME      100u

static const uint8_t mac[NET_MAC_BYTES] = { 2, 0, 0, 0, 0, 1 };
static struct memory memory;
static struct dma dma;
static struct virtio_net *net;
static struct ring receive, transmit, control;
static int wire; /* our end of the backend */
static uint8_t *ram;
static uint32_t head, written;

static void create(bool header)
{
    struct net backend = { .header = header, .mtu = 1500 };
    int ends[2], room = 65536; /* less than all frames of a ring, whatever a host's default is */

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    ck_assert_int_eq(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    backend.fd = ends[0];
    wire = ends[1];
    ck_assert_int_eq(virtio_net_create_on(&net, NULL, &dma, &backend, mac), 0);
}

static void negotiate(uint64_t features)
{
    ck_assert(ring_negotiate(&net->device, BASIC | features));
    ring_setup(&receive, &net->device, VIRTIO_NET_RECEIVE, ram, RING(0), SIZE);
    ring_setup(&transmit, &net->device, VIRTIO_NET_TRANSMIT, ram, RING(1), SIZE);
    ring_setup(&control, &net->device, VIRTIO_NET_CONTROL, ram, RING(2), SIZE);
    ring_driver_ok(&net->device);
}

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    ram = memory_at(&memory, 0, RAM_BYTES);
    create(false);
    negotiate(0);
}

static void teardown(void)
{
    virtio_net_destroy(net);
    close(wire);
    dma_destroy(&dma);
    memory_destroy(&memory);
}

static void fill(uint8_t *bytes, unsigned len, uint8_t seed)
{
    for (unsigned i = 0; i < len; i++)
        bytes[i] = (uint8_t)(seed + i * 7);
}

/* A frame for the device, from outside. */
static void put(unsigned len, uint8_t seed)
{
    static uint8_t frame[NET_FRAME_MAX];

    fill(frame, len, seed);
    memcpy(frame, mac, sizeof(mac));
    ck_assert_int_eq(send(wire, frame, len, 0), len);
}

/* The frames' bytes as put sent them. */
static void expect_frame(const uint8_t *bytes, unsigned len, uint8_t seed)
{
    static uint8_t frame[NET_FRAME_MAX];

    fill(frame, len, seed);
    memcpy(frame, mac, sizeof(mac));
    ck_assert_mem_eq(bytes, frame, len);
}

static void offer(uint64_t iova, uint32_t len)
{
    ring_add(&receive, &(struct ring_segment){ iova, len, true }, 1);
}

/* ---- Configuration ---------------------------------------------------------------------- */

START_TEST(test_config)
{
    ck_assert_uint_eq(ring_register(&net->device, VIRTIO_MMIO_DEVICE_ID, 4), VIRTIO_ID_NET);
    for (unsigned i = 0; i < sizeof(mac); i++)
        ck_assert_uint_eq(ring_register(&net->device, VIRTIO_MMIO_CONFIG + i, 1), mac[i]);
    ck_assert_uint_eq(ring_register(&net->device, VIRTIO_MMIO_CONFIG + 6, 2), VIRTIO_NET_S_LINK_UP);
    ck_assert_uint_eq(ring_register(&net->device, VIRTIO_MMIO_CONFIG + 10, 2), 1500);
    ck_assert_uint_eq(ring_register(&net->device, VIRTIO_MMIO_CONFIG + 12, 4), 0);
    /* Checksums and segments are left to a backend that can take them, and to no other. */
    ck_assert(!(ring_features(&net->device) & (FEATURE(CSUM) | FEATURE(HOST_TSO4))));
    virtio_net_destroy(net);
    close(wire);
    create(true);
    ck_assert((ring_features(&net->device) & (FEATURE(CSUM) | FEATURE(HOST_TSO4))) ==
              (FEATURE(CSUM) | FEATURE(HOST_TSO4)));
}
END_TEST

START_TEST(test_default_mac)
{
    const struct net_config user = { .tap = NULL }, tap = { .tap = "tap0" };
    uint8_t a[NET_MAC_BYTES], b[NET_MAC_BYTES];

    net_default_mac(&user, 0, a);
    net_default_mac(&user, 0, b);
    ck_assert_mem_eq(a, b, sizeof(a));
    ck_assert_uint_eq(a[0] & 3, 2);
    net_default_mac(&user, 1, b);
    ck_assert_mem_ne(a, b, sizeof(a));
    net_default_mac(&tap, 0, b);
    ck_assert_mem_ne(a, b, sizeof(a));
}
END_TEST

/* ---- Transmit ------------------------------------------------------------------------------ */

static ssize_t sent(uint8_t *bytes, size_t max)
{
    return recv(wire, bytes, max, 0);
}

/* The header may lie anywhere: in a segment of its own, with data, in pieces. */
START_TEST(test_transmit)
{
    static const uint32_t cuts[][3] = {
        { HEADER, FRAME, 0 },
        { HEADER + FRAME, 0, 0 },
        { 5, 7, FRAME },
        { 5, 17, FRAME - 10 },
    };
    struct ring_segment segments[3];
    uint8_t bytes[2 * FRAME];
    unsigned n = 0;
    uint64_t at = 0;

    fill(ram + DATA + HEADER, FRAME, 3);
    for (; n < 3 && cuts[_i][n]; n++) {
        /* Apart in memory, too. */
        memmove(ram + DATA + 0x4000 + at + n * 0x1000, ram + DATA + at, cuts[_i][n]);
        segments[n] = (struct ring_segment){ DATA + 0x4000 + at + n * 0x1000, cuts[_i][n], false };
        at += cuts[_i][n];
    }
    ring_add(&transmit, segments, n);
    ring_kick(&transmit);
    ck_assert(ring_take(&transmit, &head, &written));
    ck_assert_uint_eq(written, 0);
    ck_assert_int_eq(sent(bytes, sizeof(bytes)), FRAME);
    ck_assert_mem_eq(bytes, ram + DATA + HEADER, FRAME);
    ck_assert_int_eq(sent(bytes, sizeof(bytes)), -1);
    ck_assert_uint_eq(net->counts.sent, 1);
    ck_assert_uint_eq(net->counts.sent_bytes, FRAME);
}
END_TEST

/* Behind a backend with headers, they go along. */
START_TEST(test_transmit_header)
{
    uint8_t bytes[2 * FRAME];

    virtio_net_destroy(net);
    close(wire);
    create(true);
    negotiate(FEATURE(CSUM));
    fill(ram + DATA, HEADER + FRAME, 9);
    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + FRAME, false }, 1);
    ring_kick(&transmit);
    ck_assert_int_eq(sent(bytes, sizeof(bytes)), HEADER + FRAME);
    ck_assert_mem_eq(bytes, ram + DATA, HEADER + FRAME);
}
END_TEST

/* What is no frame, or not in memory, is given back and not sent; the device lives. */
START_TEST(test_transmit_hostile)
{
    static const struct ring_segment bad[] = {
        { DATA, 1, false },
        { DATA, HEADER, false },
        { DATA, HEADER + NET_FRAME_MIN - 1, false },
        { DATA, HEADER + NET_FRAME_MAX + 1, false },
        { DATA, 0xffffffff, false },
        { DATA, HEADER + FRAME, true }, /* nothing to read */
        { OUTSIDE, HEADER + FRAME, false },
        { RAM_BYTES - 20, HEADER + FRAME, false },
    };
    uint8_t bytes[2 * FRAME];

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ring_add(&transmit, &bad[i], 1);
        ring_kick(&transmit);
        ck_assert(ring_take(&transmit, &head, &written));
        ck_assert_uint_eq(written, 0);
        ck_assert_uint_eq(net->counts.send_failed, i + 1);
        ck_assert_int_eq(sent(bytes, sizeof(bytes)), -1);
    }
    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + FRAME, false }, 1);
    ring_kick(&transmit);
    ck_assert_int_eq(sent(bytes, sizeof(bytes)), FRAME);
    ck_assert_ptr_null(net->device.needs_reset);
}
END_TEST

/* The longest frame goes through, and the longest chain. */
START_TEST(test_transmit_long)
{
    static uint8_t bytes[NET_FRAME_MAX];
    struct ring_segment many[SIZE];

    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + NET_FRAME_MAX, false }, 1);
    ring_kick(&transmit);
    ck_assert_int_eq(sent(bytes, sizeof(bytes)), NET_FRAME_MAX);
    for (unsigned i = 0; i < SIZE; i++)
        many[i] = (struct ring_segment){ DATA + i * 64, 3, false };
    ring_add(&transmit, many, SIZE);
    ring_kick(&transmit);
    ck_assert_int_eq(sent(bytes, sizeof(bytes)), SIZE * 3 - HEADER);
}
END_TEST

static unsigned fill_wire(void)
{
    unsigned n = 0;

    while (!net->state.tx_blocked) {
        ck_assert_uint_lt(n, 100000);
        ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + 1000, false }, 1);
        ring_kick(&transmit);
        n++;
        while (ring_take(&transmit, &head, &written))
            ;
    }
    return n;
}

/* A reader that takes nothing: the frame waits in the ring, the guest goes on, nothing is lost. */
START_TEST(test_stall)
{
    uint8_t bytes[1000];
    unsigned n = fill_wire();

    ck_assert_uint_eq(net->counts.sent, n - 1);
    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + 1000, false }, 1);
    ring_kick(&transmit); /* waits as well */
    virtio_net_turn(net, true);
    ck_assert(net->state.tx_blocked && !ring_take(&transmit, &head, &written));
    for (unsigned i = 0; i < n - 1; i++)
        ck_assert_int_eq(sent(bytes, sizeof(bytes)), 1000);
    virtio_net_turn(net, true);
    ck_assert(!net->state.tx_blocked);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(ring_take(&transmit, &head, &written));
        ck_assert_int_eq(sent(bytes, sizeof(bytes)), 1000);
    }
    ck_assert_uint_eq(net->counts.send_failed, 0);
}
END_TEST

/*
 * In the middle of traffic the state is taken, and another device goes on with it: no frame
 * is lost or sent twice. Control (_i = 1): without one field of it the frame that waited is.
 */
START_TEST(test_restore)
{
    struct virtio_device_state device;
    struct virtqueue_state queues[3];
    struct virtio_net_state state;
    uint8_t bytes[1000];
    unsigned n = fill_wire(), returned = 0, frames = 0;

    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + 1000, false }, 1);
    ring_kick(&transmit);
    memcpy(&state, &net->state, sizeof(state));
    memcpy(&device, &net->device.state, sizeof(device));
    for (unsigned i = 0; i < 3; i++)
        memcpy(&queues[i], &net->device.queues[i].state, sizeof(queues[i]));
    for (unsigned i = 0; i < n - 1; i++)
        ck_assert_int_eq(sent(bytes, sizeof(bytes)), 1000);
    virtio_net_destroy(net);
    close(wire);

    create(false);
    if (_i)
        state.tx_blocked = false;
    ring_mmio(&net->device);
    dma_lock(&dma);
    memcpy(&net->state, &state, sizeof(state));
    ck_assert_int_eq(virtio_device_restore(&net->device, &device, queues), 0);
    dma_unlock(&dma);
    virtio_net_turn(net, true);
    virtio_device_after_write(&net->device, NULL);
    while (ring_take(&transmit, &head, &written))
        returned++;
    while (sent(bytes, sizeof(bytes)) == 1000)
        frames++;
    ck_assert_uint_eq(frames, _i ? 1 : 2);
    ck_assert_uint_eq(returned, frames);
}
END_TEST

/* A state that cannot be: the device needs a reset, and works after it. */
START_TEST(test_restore_refused)
{
    struct virtio_device_state device = net->device.state;
    struct virtqueue_state queues[3] = { { .size = 3, .ready = true } };

    virtio_net_destroy(net);
    close(wire);
    create(false);
    ring_mmio(&net->device);
    ck_assert_int_eq(virtio_device_restore(&net->device, &device, queues), -EINVAL);
    ck_assert(ring_status(&net->device) & VIRTIO_NEEDS_RESET);
    negotiate(0);
    ck_assert_ptr_null(net->device.needs_reset);
}
END_TEST

/* A reset while a frame waits: it is nobody's, and the next driver starts anew. */
START_TEST(test_stall_reset)
{
    uint8_t bytes[1000];

    fill_wire();
    negotiate(0);
    ck_assert(!net->state.tx_blocked);
    while (sent(bytes, sizeof(bytes)) > 0)
        ;
    virtio_net_turn(net, true);
    ck_assert(!ring_take(&transmit, &head, &written));
    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + FRAME, false }, 1);
    ring_kick(&transmit);
    ck_assert_int_eq(sent(bytes, sizeof(bytes)), FRAME);
}
END_TEST

/* ---- Receive --------------------------------------------------------------------------------- */

START_TEST(test_receive)
{
    struct virtio_net_hdr_v1 header = { .num_buffers = 1 };

    memset(ram + DATA, 0xee, 4096);
    offer(DATA, 2048);
    put(FRAME, 1);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, HEADER + FRAME);
    ck_assert_mem_eq(ram + DATA, &header, HEADER);
    expect_frame(ram + DATA + HEADER, FRAME, 1);
    ck_assert_uint_eq(ram[DATA + HEADER + FRAME], 0xee);
    ck_assert_uint_eq(net->counts.received, 1);
    ck_assert_uint_eq(net->counts.received_bytes, FRAME);
}
END_TEST

/* Without buffers a frame waits, and the ones behind it stay outside; the next buffer fetches it.
 */
START_TEST(test_receive_no_rx_buffers)
{
    int bytes;

    put(FRAME, 1);
    put(FRAME, 2);
    put(FRAME, 3);
    virtio_net_turn(net, false);
    ck_assert(net->state.no_rx_buffers);
    offer(DATA, 2048);
    virtio_net_turn(net, false); /* not before the driver says so */
    ck_assert(!ring_take(&receive, &head, &written));
    ring_kick(&receive);
    ck_assert(!net->state.no_rx_buffers);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
    expect_frame(ram + DATA + HEADER, FRAME, 1);
    ck_assert(net->state.no_rx_buffers);
    ck_assert_int_eq(ioctl(wire, TIOCOUTQ, &bytes), 0);
    ck_assert_int_gt(bytes, 0);
    offer(DATA, 2048);
    offer(DATA + 2048, 2048);
    ring_kick(&receive);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written) && ring_take(&receive, &head, &written));
    expect_frame(ram + DATA + HEADER, FRAME, 2);
    expect_frame(ram + DATA + 2048 + HEADER, FRAME, 3);
}
END_TEST

/* Without mergeable buffers a frame that does not fit is lost, and its buffer is not. */
START_TEST(test_receive_long)
{
    offer(DATA, HEADER + FRAME);
    put(FRAME + 1, 1);
    put(FRAME, 2);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, HEADER + FRAME);
    expect_frame(ram + DATA + HEADER, FRAME, 2);
    ck_assert(!ring_take(&receive, &head, &written));
    ck_assert_uint_eq(net->counts.receive_failed, 1);
}
END_TEST

/* Several buffers for one frame, with their number in its header. */
START_TEST(test_merge)
{
    uint8_t frame[1000];
    unsigned at = 0;

    negotiate(FEATURE(MRG_RXBUF));
    for (unsigned i = 0; i < 6; i++)
        offer(DATA + i * 0x1000, 300);
    put(sizeof(frame), 5);
    virtio_net_turn(net, false);
    for (unsigned i = 0; i < 4; i++) {
        unsigned skip = i ? 0 : HEADER;

        ck_assert(ring_take(&receive, &head, &written));
        ck_assert_uint_eq(written, i < 3 ? 300 : HEADER + 1000 - 900);
        memcpy(frame + at, ram + DATA + i * 0x1000 + skip, written - skip);
        at += written - skip;
    }
    ck_assert(!ring_take(&receive, &head, &written));
    expect_frame(frame, sizeof(frame), 5);
    ck_assert_uint_eq(((struct virtio_net_hdr_v1 *)(void *)(ram + DATA))->num_buffers, 4);
    put(FRAME, 6);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
    expect_frame(ram + DATA + 4 * 0x1000 + HEADER, FRAME, 6);
}
END_TEST

/* Too few for the frame: none is used until there are enough, and the driver is asked to kick. */
START_TEST(test_merge_no_rx_buffers)
{
    const uint16_t *event = (const void *)(ram + receive.used + 4 + 8 * SIZE);

    negotiate(FEATURE(MRG_RXBUF));
    offer(DATA, 300);
    offer(DATA + 0x1000, 300);
    put(1000, 5);
    virtio_net_turn(net, false);
    ck_assert(net->state.no_rx_buffers && !ring_take(&receive, &head, &written));
    ck_assert_uint_eq(*event, 2);
    offer(DATA + 0x2000, 300);
    offer(DATA + 0x3000, 300);
    ring_kick(&receive);
    virtio_net_turn(net, false);
    for (unsigned i = 0; i < 4; i++)
        ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(net->counts.received, 1);
}
END_TEST

/* A ring so full of small buffers that the frame never fits: it is lost, the buffers are not. */
START_TEST(test_merge_never)
{
    negotiate(FEATURE(MRG_RXBUF));
    for (unsigned i = 0; i < SIZE; i++)
        offer(DATA + i * 0x100, HEADER);
    put(1000, 5);
    put(FRAME, 6);
    virtio_net_turn(net, false);
    ck_assert_uint_eq(net->counts.receive_failed, 1);
    ck_assert_uint_eq(net->counts.received, 1);
    for (unsigned i = 0; i < (HEADER + FRAME + HEADER - 1) / HEADER; i++)
        ck_assert(ring_take(&receive, &head, &written));
    ck_assert(!ring_take(&receive, &head, &written));
}
END_TEST

/* Buffers that may not be written come back empty, and the device lives. */
START_TEST(test_receive_hostile)
{
    negotiate(FEATURE(MRG_RXBUF));
    offer(OUTSIDE, 2048);
    put(FRAME, 1);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, 0);
    offer(DATA, 20);
    offer(OUTSIDE, 2048);
    offer(DATA, 2048);
    put(FRAME, 2);
    put(FRAME, 3);
    virtio_net_turn(net, false);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(ring_take(&receive, &head, &written));
        ck_assert_uint_eq(written, 0);
    }
    ck_assert(ring_take(&receive, &head, &written));
    expect_frame(ram + DATA + HEADER, FRAME, 3);
    ck_assert_uint_eq(net->counts.receive_failed, 2);
    ck_assert_ptr_null(net->device.needs_reset);
}
END_TEST

/* One without room for the header is what no driver may offer (5.1.6.3.1). */
START_TEST(test_receive_broken)
{
    offer(DATA, HEADER - 1);
    put(FRAME, 1);
    virtio_net_turn(net, false);
    ck_assert_ptr_nonnull(net->device.needs_reset);
    ck_assert(ring_status(&net->device) & VIRTIO_NEEDS_RESET);
    negotiate(0);
    offer(DATA, 2048);
    put(FRAME, 2);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
}
END_TEST

/* A frame that was fetched for one driver is not given to the next. */
START_TEST(test_receive_reset)
{
    put(FRAME, 1);
    virtio_net_turn(net, false);
    ck_assert(net->state.no_rx_buffers);
    negotiate(0);
    ck_assert(!net->state.no_rx_buffers);
    offer(DATA, 2048);
    put(FRAME, 2);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
    expect_frame(ram + DATA + HEADER, FRAME, 2);
}
END_TEST

/* Nothing that is no frame gets in. */
START_TEST(test_receive_runt)
{
    offer(DATA, 2048);
    put(NET_FRAME_MIN - 1, 1);
    put(NET_FRAME_MIN, 2);
    virtio_net_turn(net, false);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, HEADER + NET_FRAME_MIN);
    ck_assert_uint_eq(net->counts.receive_failed, 1);
}
END_TEST

/* Work is bounded: a turn takes so many frames and no more. */
START_TEST(test_receive_turn)
{
    unsigned n = 0;

    negotiate(FEATURE(CTRL_VQ) | FEATURE(CTRL_RX));
    for (unsigned i = 0; i < VIRTIO_NET_TURN + 5; i++) {
        uint8_t frame[FRAME] = { 2, 9 }; /* for somebody else */

        ck_assert_int_eq(send(wire, frame, sizeof(frame), 0), FRAME);
    }
    virtio_net_turn(net, false);
    ck_assert_uint_eq(net->counts.filtered, VIRTIO_NET_TURN);
    for (uint8_t bytes[FRAME]; recv(net->net.fd, bytes, FRAME, MSG_DONTWAIT) > 0; n++)
        ;
    ck_assert_uint_eq(n, 5);
}
END_TEST

/* ---- Link
 * ---------------------------------------------------------------------------------------- */

/* The backend ends: the link is down, the driver is told, and what is sent is lost. */
START_TEST(test_gone)
{
    uint32_t generation = net->device.state.config_generation;

    close(wire);
    virtio_net_turn(net, false);
    ck_assert(!net->state.link);
    ck_assert_uint_eq(ring_register(&net->device, VIRTIO_MMIO_CONFIG + 6, 2), 0);
    ck_assert_uint_ne(net->device.state.config_generation, generation);
    ck_assert_uint_eq(ring_mmio(&net->device)->state.interrupt_status & VIRTIO_INTERRUPT_CONFIG,
                      VIRTIO_INTERRUPT_CONFIG);
    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + FRAME, false }, 1);
    ring_kick(&transmit);
    ck_assert(ring_take(&transmit, &head, &written));
    ck_assert_uint_eq(net->counts.send_failed, 1);
    negotiate(0);
    ck_assert(!net->state.link);
}
END_TEST

START_TEST(test_gone_sending)
{
    close(wire);
    ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + FRAME, false }, 1);
    ring_kick(&transmit);
    ck_assert(ring_take(&transmit, &head, &written));
    ck_assert(!net->state.link);
}
END_TEST

/* ---- Control
 * --------------------------------------------------------------------------------------- */

static unsigned command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
    const struct ring_segment segments[] = { { DATA, 2, false },
                                             { DATA + 64, len, false },
                                             { DATA + 32, 1, true } };

    ram[DATA] = class;
    ram[DATA + 1] = cmd;
    ram[DATA + 32] = 0x55;
    memcpy(ram + DATA + 64, data, len);
    ring_add(&control, segments, 3);
    ring_kick(&control);
    ck_assert(ring_take(&control, &head, &written));
    ck_assert_uint_eq(written, 1);
    return ram[DATA + 32];
}

static bool passes(const uint8_t to[NET_MAC_BYTES])
{
    uint64_t before = net->counts.received;
    uint8_t frame[FRAME] = { 0 };

    memcpy(frame, to, NET_MAC_BYTES);
    offer(DATA + 0x2000, 2048);
    ck_assert_int_eq(send(wire, frame, sizeof(frame), 0), FRAME);
    virtio_net_turn(net, false);
    return net->counts.received > before;
}

#define CONTROLS (FEATURE(CTRL_VQ) | FEATURE(CTRL_RX) | FEATURE(CTRL_MAC_ADDR))

START_TEST(test_filter)
{
    static const uint8_t other[] = { 2, 0, 0, 0, 0, 2 }, group[] = { 1, 0, 0x5e, 0, 0, 1 },
                         all[] = { 255, 255, 255, 255, 255, 255 }, on = 1, off = 0;
    uint8_t table[2 * 4 + 2 * NET_MAC_BYTES] = { 0 };

    ck_assert(passes(other) && passes(group)); /* not negotiated: everything */
    negotiate(CONTROLS);
    ck_assert(passes(mac) && passes(all) && !passes(other) && !passes(group));
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &on, 1),
                      VIRTIO_NET_OK);
    ck_assert(passes(other) && passes(group));
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &off, 1),
                      VIRTIO_NET_OK);
    ck_assert(!passes(other));
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, &on, 1),
                      VIRTIO_NET_OK);
    ck_assert(!passes(other) && passes(group));
    negotiate(CONTROLS); /* a reset undoes it */
    ck_assert(!passes(group));
    table[0] = 1;
    memcpy(table + 4, other, NET_MAC_BYTES);
    table[10] = 1;
    memcpy(table + 14, group, NET_MAC_BYTES);
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, 20),
                      VIRTIO_NET_OK);
    ck_assert(passes(other) && passes(group) && passes(mac));
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, group, 6),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET,
                              (const uint8_t[]){ 2, 7, 7, 7, 7, 7 }, 6),
                      VIRTIO_NET_OK);
    ck_assert(passes((const uint8_t[]){ 2, 7, 7, 7, 7, 7 }) && !passes(mac));
}
END_TEST

/* A table of more than there is room for: everything of that kind. */
START_TEST(test_filter_overflow)
{
    uint8_t table[8 + (VIRTIO_NET_MACS_MAX + 1) * NET_MAC_BYTES] = { VIRTIO_NET_MACS_MAX + 1 };

    negotiate(CONTROLS);
    ck_assert_uint_eq(
        command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, table, sizeof(table)),
        VIRTIO_NET_OK);
    ck_assert(passes((const uint8_t[]){ 2, 3, 3, 3, 3, 3 }));
    ck_assert(!passes((const uint8_t[]){ 1, 3, 3, 3, 3, 3 }));
}
END_TEST

/* Commands that are too short, unknown, or lie about their length: refused, nothing changes. */
START_TEST(test_control_hostile)
{
    static const uint8_t huge[8] = { 0xff, 0xff, 0xff, 0xff };
    static const uint8_t short_table[] = { 2, 0, 0, 0, 1, 2, 3, 4, 5, 6 };

    negotiate(CONTROLS);
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, huge, 8),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, short_table, 10),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, mac, 5),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\2", 1),
                      VIRTIO_NET_ERR);
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_RX, 77, "\1", 1), VIRTIO_NET_ERR);
    ck_assert_uint_eq(command(77, 0, "\1", 1), VIRTIO_NET_ERR);
    ring_add(&control, &(struct ring_segment){ OUTSIDE, 2, false }, 1);
    ring_kick(&control);
    ck_assert(ring_take(&control, &head, &written));
    ck_assert_uint_eq(written, 0);
    ck_assert_uint_eq(net->state.nmacs, 0);
    ck_assert(!net->state.promiscuous);
    ck_assert_ptr_null(net->device.needs_reset);
    negotiate(FEATURE(CTRL_VQ)); /* and without what they belong to */
    ck_assert_uint_eq(command(VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, "\1", 1),
                      VIRTIO_NET_ERR);
}
END_TEST

/* ---- The thread
 * -------------------------------------------------------------------------------------- */

/* Waits until there is a used element: the thread has no other sign to give without a VM. */
static bool take_soon(struct ring *ring)
{
    for (unsigned i = 0; i < 20000; i++) {
        if (ring_take(ring, &head, &written))
            return true;
        usleep(1000);
    }
    return false;
}

START_TEST(test_thread)
{
    static uint8_t bytes[1000];

    ck_assert_int_eq(virtio_net_start(net), 0);
    offer(DATA, 2048);
    put(FRAME, 1);
    ck_assert(take_soon(&receive));
    put(FRAME, 2); /* no buffer: it waits for the kick */
    usleep(10000);
    offer(DATA, 2048);
    ring_kick(&receive);
    ck_assert(take_soon(&receive));
    expect_frame(ram + DATA + HEADER, FRAME, 2);
    /* The wire fills up; the thread sends the rest when somebody reads. */
    for (unsigned i = 0; i < SIZE; i++)
        ring_add(&transmit, &(struct ring_segment){ DATA, HEADER + NET_FRAME_MAX, false }, 1);
    ring_kick(&transmit);
    for (unsigned i = 0; i < SIZE; i++) {
        struct pollfd readable = { .fd = wire, .events = POLLIN };

        ck_assert_int_eq(poll(&readable, 1, 20000), 1);
        ck_assert_int_gt(sent(bytes, sizeof(bytes)), 0);
    }
    for (unsigned i = 0; i < SIZE; i++)
        ck_assert(take_soon(&transmit));
    ck_assert_uint_gt(net->counts.stalls, 0);
}
END_TEST

/* ---- Behind an IOMMU
 * ------------------------------------------------------------------------------------ */

/* What the driver has unmapped is neither sent nor written. */
START_TEST(test_iommu)
{
    const struct iommu_config config = { .faults_max = 8 };
    struct net backend = { .mtu = 1500 };
    struct iommu *iommu;
    struct dma behind;
    int ends[2];

    virtio_net_destroy(net);
    close(wire);
    ck_assert_int_eq(iommu_create(&iommu, &memory, &config), 0);
    ck_assert_int_eq(dma_create(&behind, &memory, iommu, 1), 0);
    ck_assert_int_eq(iommu_attach(iommu, 1, 1, false), 0);
    ck_assert_int_eq(iommu_map(iommu, 1, 0, RAM_BYTES - 1, 0, IOMMU_READ | IOMMU_WRITE), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    backend.fd = ends[0];
    wire = ends[1];
    ck_assert_int_eq(virtio_net_create_on(&net, NULL, &behind, &backend, mac), 0);
    negotiate(1ull << VIRTIO_F_ACCESS_PLATFORM);
    offer(DATA, 2048);
    put(FRAME, 1);
    ring_add(&transmit, &(struct ring_segment){ DATA + 0x1000, HEADER + FRAME, false }, 1);
    ck_assert_int_eq(iommu_unmap(iommu, 1, 0, RAM_BYTES - 1), 0);
    ck_assert_int_eq(iommu_map(iommu, 1, 0, DATA - 1, 0, IOMMU_READ | IOMMU_WRITE), 0);
    virtio_net_turn(net, false);
    ring_kick(&transmit);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, 0);
    ck_assert(ring_take(&transmit, &head, &written));
    ck_assert_uint_eq(ram[DATA + HEADER], 0);
    ck_assert_uint_eq(net->counts.sent + net->counts.received, 0);
    ck_assert_uint_eq(behind.faults, 2);
    virtio_net_destroy(net);
    dma_destroy(&behind);
    iommu_destroy(iommu);
    close(wire);
    create(false);
}
END_TEST

Suite *net_suite(void)
{
    Suite *suite = suite_create("net");
    TCase *tcase = tcase_create("net");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_transmit, 0, 4);
    tcase_add_test(tcase, test_config);
    tcase_add_test(tcase, test_default_mac);
    tcase_add_test(tcase, test_transmit_header);
    tcase_add_test(tcase, test_transmit_hostile);
    tcase_add_test(tcase, test_transmit_long);
    tcase_add_test(tcase, test_stall);
    tcase_add_test(tcase, test_stall_reset);
    tcase_add_test(tcase, test_receive);
    tcase_add_loop_test(tcase, test_restore, 0, 2);
    tcase_add_test(tcase, test_restore_refused);
    tcase_add_test(tcase, test_receive_no_rx_buffers);
    tcase_add_test(tcase, test_receive_long);
    tcase_add_test(tcase, test_merge);
    tcase_add_test(tcase, test_merge_no_rx_buffers);
    tcase_add_test(tcase, test_merge_never);
    tcase_add_test(tcase, test_receive_hostile);
    tcase_add_test(tcase, test_receive_broken);
    tcase_add_test(tcase, test_receive_reset);
    tcase_add_test(tcase, test_receive_runt);
    tcase_add_test(tcase, test_receive_turn);
    tcase_add_test(tcase, test_gone);
    tcase_add_test(tcase, test_gone_sending);
    tcase_add_test(tcase, test_filter);
    tcase_add_test(tcase, test_filter_overflow);
    tcase_add_test(tcase, test_control_hostile);
    tcase_add_test(tcase, test_thread);
    tcase_add_test(tcase, test_iommu);
    suite_add_tcase(suite, tcase);
    return suite;
}
