/* devices/virtio/vsock: connections both ways, credit, ends, and packets that no driver sends. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/unix_socket.h"
#include "devices/virtio/vsock.h"
#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES (1ull << 20)
#define RING(i)   (0x1000ull + (i)*0x1000ull)
#define SENT      0x10000ull /* packets to the device; data behind the header */
#define RECEIVED  0x40000ull /* buffers of it */
#define BUFFER    4096u
#define OUTSIDE   (RAM_BYTES + 0x1000)
#define SIZE      16
#define CID       5u
#define HEADER    ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define BASIC     (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX)
#define ROOM      (1u << 20) /* what the guest says that it has, if nothing else is said */

static struct memory memory;
static struct dma dma;
static struct virtio_vsock *vsock;
static struct ring receive, transmit, event;
static struct unix_listener host; /* at PATH_80 */
static char directory[] = "/tmp/strata-vsock-XXXXXX", path[64], path80[72], error[256];
static uint8_t *ram;
static uint32_t head, written, fwd_cnt, taken;
static struct virtio_vsock_hdr packet; /* the last one from the device */
static const uint8_t *data;

static void offer(unsigned n)
{
    for (; n; n--)
        ring_add(&receive, &(struct ring_segment){ RECEIVED + receive.free * BUFFER, BUFFER, true },
                 1);
    ring_kick(&receive);
}

static void negotiate(unsigned buffers)
{
    ck_assert(ring_negotiate(&vsock->device, BASIC));
    ring_setup(&receive, &vsock->device, VIRTIO_VSOCK_RECEIVE, ram, RING(0), SIZE);
    ring_setup(&transmit, &vsock->device, VIRTIO_VSOCK_TRANSMIT, ram, RING(1), SIZE);
    ring_setup(&event, &vsock->device, VIRTIO_VSOCK_EVENT, ram, RING(2), SIZE);
    ring_driver_ok(&vsock->device);
    offer(buffers);
    fwd_cnt = taken = 0;
}

static void setup(void)
{
    const struct vsock_config config = { .dma = &dma, .guest_cid = CID, .path = path };

    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/v", directory);
    snprintf(path80, sizeof(path80), "%s_80", path);
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    ram = memory_at(&memory, 0, RAM_BYTES);
    ck_assert_int_eq(virtio_vsock_create(&vsock, &config, error, sizeof(error)), 0);
    ck_assert_int_eq(unix_listen(&host, path80, 200, error, sizeof(error)), 0);
    negotiate(SIZE - 1);
}

static void teardown(void)
{
    virtio_vsock_destroy(vsock);
    unix_listener_close(&host);
    dma_destroy(&dma);
    memory_destroy(&memory);
    ck_assert_int_eq(rmdir(directory), 0); /* both socket files are gone */
}

/* The guest sends; what it says of its credit is in fwd_cnt. */
static void send_raw(struct virtio_vsock_hdr header, uint64_t iova, uint32_t bytes)
{
    memcpy(ram + SENT, &header, sizeof(header));
    ring_add(&transmit, &(struct ring_segment){ iova, bytes, false }, 1);
    ring_kick(&transmit);
    ck_assert(ring_take(&transmit, &head, &written));
}

static struct virtio_vsock_hdr header_of(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    return (struct virtio_vsock_hdr){ .src_cid = CID,
                                      .dst_cid = VSOCK_CID_HOST,
                                      .src_port = guest_port,
                                      .dst_port = host_port,
                                      .type = VIRTIO_VSOCK_TYPE_STREAM,
                                      .op = op,
                                      .buf_alloc = ROOM,
                                      .fwd_cnt = fwd_cnt };
}

static void send_op(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
    send_raw(header_of(op, guest_port, host_port), SENT, HEADER);
}

static void send_flags(uint16_t op, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
    struct virtio_vsock_hdr header = header_of(op, guest_port, host_port);

    header.flags = flags;
    send_raw(header, SENT, HEADER);
}

static void send_data(uint32_t guest_port, uint32_t host_port, uint32_t len)
{
    struct virtio_vsock_hdr header = header_of(VIRTIO_VSOCK_OP_RW, guest_port, host_port);

    header.len = len;
    send_raw(header, SENT, HEADER + len);
}

/* The next packet from the device: its op, or -1. */
static int next(void)
{
    uint64_t at;

    virtio_vsock_turn(vsock);
    if (!ring_take(&receive, &head, &written))
        return -1;
    at = RECEIVED + head * BUFFER;
    memcpy(&packet, ram + at, HEADER);
    ck_assert_uint_eq(packet.src_cid, VSOCK_CID_HOST);
    ck_assert_uint_eq(packet.dst_cid, CID);
    ck_assert_uint_eq(written, HEADER + packet.len);
    data = ram + at + HEADER;
    taken += packet.len;
    return packet.op;
}

static int expect_op(int op, uint32_t guest_port, uint32_t host_port)
{
    int got = next();

    return got == op && packet.dst_port == guest_port && packet.src_port == host_port;
}

/* The guest's port 1000 and our port 80. */
static int connect_out(void)
{
    int fd;

    send_op(VIRTIO_VSOCK_OP_REQUEST, 1000, 80);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RESPONSE, 1000, 80));
    ck_assert_uint_eq(packet.buf_alloc, VIRTIO_VSOCK_BUFFER);
    fd = unix_accept(&host);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* Whether the host's end sees the end. */
static bool ended(int fd)
{
    char byte;

    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* ---- The device ----------------------------------------------------------------------------- */

START_TEST(test_config)
{
    struct stat status;

    ck_assert_uint_eq(ring_register(&vsock->device, VIRTIO_MMIO_DEVICE_ID, 4), VIRTIO_ID_VSOCK);
    ck_assert_uint_eq(ring_register(&vsock->device, VIRTIO_MMIO_CONFIG, 4), CID);
    ck_assert_uint_eq(ring_register(&vsock->device, VIRTIO_MMIO_CONFIG + 4, 4), 0);
    ck_assert_uint_eq(ring_register(&vsock->device, VIRTIO_MMIO_CONFIG + 8, 4), 0);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
}
END_TEST

START_TEST(test_path)
{
    struct vsock_config config = { .dma = &dma, .guest_cid = CID, .path = path };
    struct virtio_vsock *second;
    char file[72];
    int fd;

    ck_assert_int_eq(virtio_vsock_create(&second, &config, error, sizeof(error)), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(error, "another process listens"));
    snprintf(file, sizeof(file), "%s.file", path);
    fd = creat(file, 0600);
    close(fd);
    config.path = file;
    ck_assert_int_eq(virtio_vsock_create(&second, &config, error, sizeof(error)), -EEXIST);
    ck_assert_int_eq(unlink(file), 0);
}
END_TEST

/* ---- The guest connects ------------------------------------------------------------------------
 */

START_TEST(test_out)
{
    char bytes[100];
    int fd = connect_out();

    memcpy(ram + SENT + HEADER, "from the guest", 14);
    send_data(1000, 80, 14);
    ck_assert_int_eq(recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT), 14);
    ck_assert_mem_eq(bytes, "from the guest", 14);
    ck_assert_int_eq(send(fd, "from the host", 13, 0), 13);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RW, 1000, 80));
    ck_assert_uint_eq(packet.len, 13);
    ck_assert_uint_eq(packet.fwd_cnt, 14);
    ck_assert_mem_eq(data, "from the host", 13);
    ck_assert_int_eq(next(), -1);
    ck_assert_uint_eq(vsock->counts.from_guest, 1);
    close(fd);
}
END_TEST

START_TEST(test_out_refused)
{
    send_op(VIRTIO_VSOCK_OP_REQUEST, 1000, 81);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 81));
    ck_assert_uint_eq(vsock->counts.refused, 1);
    send_op(VIRTIO_VSOCK_OP_RW, 1000, 81);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 81));
}
END_TEST

/* ---- The host connects
 * --------------------------------------------------------------------------- */

static int ask(const char *line)
{
    int fd = unix_connect(path);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(send(fd, line, strlen(line), MSG_NOSIGNAL), (int)strlen(line));
    virtio_vsock_turn(vsock);
    virtio_vsock_turn(vsock);
    return fd;
}

START_TEST(test_in)
{
    char line[64], want[64];
    int fd = ask("CONNECT 22\nearly");
    uint32_t port;

    ck_assert_int_eq(next(), VIRTIO_VSOCK_OP_REQUEST);
    ck_assert_uint_eq(packet.dst_port, 22);
    port = packet.src_port;
    ck_assert_int_eq(recv(fd, line, sizeof(line), MSG_DONTWAIT), -1); /* not before the answer */
    send_op(VIRTIO_VSOCK_OP_RESPONSE, 22, port);
    snprintf(want, sizeof(want), "OK %u\n", port);
    ck_assert_int_eq(recv(fd, line, sizeof(line), MSG_DONTWAIT), (int)strlen(want));
    ck_assert_mem_eq(line, want, strlen(want));
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RW, 22, port)); /* what came behind the line */
    ck_assert_uint_eq(packet.len, 5);
    ck_assert_mem_eq(data, "early", 5);
    ck_assert_uint_eq(vsock->counts.to_guest, 1);
    close(fd);
}
END_TEST

START_TEST(test_in_refused)
{
    int fd = ask("CONNECT 22\n");

    ck_assert_int_eq(next(), VIRTIO_VSOCK_OP_REQUEST);
    send_op(VIRTIO_VSOCK_OP_RST, 22, packet.src_port);
    ck_assert(ended(fd));
    ck_assert_int_eq(next(), -1);
    ck_assert_uint_eq(vsock->counts.refused, 1);
    close(fd);
}
END_TEST

START_TEST(test_in_bad_line)
{
    static const char *const lines[] = {
        "CONNECT\n",    "CONNECT \n",
        "CONNECT -1\n", "CONNECT 4294967296\n",
        "CONNECT 1x\n", "HELLO 5\n",
        "\n",           "CONNECT 00000000000000000000000000000000000001\n",
    };

    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        int fd = ask(lines[i]);

        ck_assert_int_eq(next(), -1);
        ck_assert_msg(recv(fd, error, 1, MSG_DONTWAIT) <= 0 && errno != EAGAIN, "%s", lines[i]);
        close(fd);
    }
}
END_TEST

/* The host gives up before the guest has answered. */
START_TEST(test_in_gone)
{
    int fd = ask("CONNECT 22\n");

    ck_assert_int_eq(next(), VIRTIO_VSOCK_OP_REQUEST);
    close(fd);
    ck_assert_int_eq(next(), VIRTIO_VSOCK_OP_RST);
    fd = ask("CONN");
    close(fd);
    ck_assert_int_eq(next(), -1);
}
END_TEST

/* No driver: nobody to wait for. */
START_TEST(test_in_no_driver)
{
    int fd;

    ring_set_register(&vsock->device, VIRTIO_MMIO_STATUS, 0);
    fd = ask("");
    ck_assert(ended(fd));
    close(fd);
}
END_TEST

/* ---- Ends
 * ------------------------------------------------------------------------------------------ */

/* One half is shut, the other goes on; then the other. From the guest, from the host. */
START_TEST(test_guest_shuts)
{
    int fd = connect_out();
    char byte;

    send_data(1000, 80, 1);
    send_flags(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80, VIRTIO_VSOCK_SHUTDOWN_SEND);
    ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 1);
    ck_assert(ended(fd));
    ck_assert_int_eq(send(fd, "x", 1, MSG_NOSIGNAL), 1);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RW, 1000, 80));
    send_flags(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80, VIRTIO_VSOCK_SHUTDOWN_RCV);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
    ck_assert_int_eq(send(fd, "x", 1, MSG_NOSIGNAL), -1);
    close(fd);
}
END_TEST

START_TEST(test_host_shuts)
{
    int fd = connect_out();
    char byte;

    ck_assert_int_eq(send(fd, "x", 1, 0), 1);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RW, 1000, 80));
    ck_assert(expect_op(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80));
    ck_assert_uint_eq(packet.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
    send_data(1000, 80, 1);
    ck_assert_int_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 1);
    close(fd);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80));
    ck_assert_uint_eq(packet.flags, 3);
    ck_assert_int_eq(next(), -1);
    send_op(VIRTIO_VSOCK_OP_RST, 1000, 80);
    ck_assert_int_eq(next(), -1);
    send_op(VIRTIO_VSOCK_OP_RW, 1000, 80); /* it is gone */
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
}
END_TEST

/* The host's end is closed with data left to read: all of it arrives first. */
START_TEST(test_host_closes)
{
    int fd = connect_out();

    ck_assert_int_eq(send(fd, ram, 3 * BUFFER, 0), 3 * BUFFER);
    close(fd);
    for (taken = 0; taken < 3 * BUFFER;)
        ck_assert(expect_op(VIRTIO_VSOCK_OP_RW, 1000, 80));
    ck_assert(expect_op(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80));
    ck_assert_uint_eq(packet.flags, 3);
    send_flags(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80, 3); /* both at once */
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
}
END_TEST

START_TEST(test_guest_resets)
{
    int fd = connect_out();

    send_op(VIRTIO_VSOCK_OP_RST, 1000, 80);
    ck_assert(ended(fd));
    ck_assert_int_eq(next(), -1);
    close(fd);
}
END_TEST

/* ---- Credit
 * --------------------------------------------------------------------------------------------- */

/* No more goes to the guest than it has room for; then it is asked, once. */
START_TEST(test_credit_of_guest)
{
    struct virtio_vsock_hdr header = header_of(VIRTIO_VSOCK_OP_REQUEST, 1000, 80);
    int fd;

    header.buf_alloc = 100;
    send_raw(header, SENT, HEADER);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RESPONSE, 1000, 80));
    fd = unix_accept(&host);
    ck_assert_int_eq(send(fd, ram, 250, 0), 250);
    taken = 0;
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RW, 1000, 80));
    ck_assert_uint_eq(taken, 100);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_CREDIT_REQUEST, 1000, 80));
    ck_assert_int_eq(next(), -1);
    header.op = VIRTIO_VSOCK_OP_CREDIT_UPDATE;
    send_raw(header, SENT, HEADER); /* still none: it is not asked again */
    ck_assert_int_eq(next(), -1);
    header.fwd_cnt = 60;
    send_raw(header, SENT, HEADER);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RW, 1000, 80));
    ck_assert_uint_eq(taken, 160);
    header.fwd_cnt = 5000; /* more than it got */
    header.buf_alloc = 10;
    send_raw(header, SENT, HEADER);
    ck_assert_int_eq(next(), VIRTIO_VSOCK_OP_CREDIT_REQUEST);
    ck_assert_uint_eq(taken, 160);
    close(fd);
}
END_TEST

/* What the socket does not take waits, within the guest's credit; and arrives, in order. */
START_TEST(test_credit_of_host)
{
    static uint8_t got[1 << 20];
    uint32_t sent = 0, credit = VIRTIO_VSOCK_BUFFER, at = 0;
    int fd = connect_out();
    ssize_t n;

    while (credit - sent >= 8192) {
        for (unsigned i = 0; i < 8192; i++)
            ram[SENT + HEADER + i] = (uint8_t)((sent + i) * 7 >> 3);
        send_data(1000, 80, 8192);
        sent += 8192;
        /* Credit comes back while the socket's own buffer takes it. */
        while (next() == VIRTIO_VSOCK_OP_CREDIT_UPDATE) {
            credit = packet.fwd_cnt + packet.buf_alloc;
            offer(1);
        }
        ck_assert_uint_lt(sent, sizeof(got));
    }
    ck_assert_uint_gt(vsock->connections[0].waiting, VIRTIO_VSOCK_BUFFER - 8192);
    do {
        while ((n = recv(fd, got + at, sizeof(got) - at, MSG_DONTWAIT)) > 0)
            at += (uint32_t)n;
        next();
    } while (at < sent);
    for (uint32_t i = 0; i < sent; i++)
        ck_assert_uint_eq(got[i], (uint8_t)(i * 7 >> 3));
    ck_assert_uint_eq(vsock->connections[0].fwd_cnt, sent);
    send_op(VIRTIO_VSOCK_OP_CREDIT_REQUEST, 1000, 80);
    while (next() != VIRTIO_VSOCK_OP_CREDIT_UPDATE || packet.fwd_cnt != sent)
        ck_assert_int_ge(packet.op, 0);
    close(fd);
}
END_TEST

/* The guest shuts while data waits: it arrives all the same, then comes the RST. */
START_TEST(test_shut_with_data)
{
    static uint8_t got[1 << 20];
    uint32_t sent = 0, at = 0;
    int fd = connect_out();
    ssize_t n;

    while (vsock->connections[0].waiting < VIRTIO_VSOCK_BUFFER - 8192) {
        send_data(1000, 80, 8192);
        sent += 8192;
    }
    send_flags(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80, 3);
    while (next() != -1)
        ck_assert_uint_ne(packet.op, VIRTIO_VSOCK_OP_RST);
    for (unsigned i = 0; at < sent && i < 1000; i++) {
        while ((n = recv(fd, got + at, sizeof(got) - at, MSG_DONTWAIT)) > 0)
            at += (uint32_t)n;
        virtio_vsock_turn(vsock);
    }
    ck_assert_uint_eq(at, sent);
    ck_assert(ended(fd));
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
    close(fd);
}
END_TEST

/* The reader is gone while data waits: it is dropped, and the guest is told. */
START_TEST(test_reader_gone)
{
    int fd = connect_out(), op;

    while (vsock->connections[0].waiting < VIRTIO_VSOCK_BUFFER - 8192)
        send_data(1000, 80, 8192);
    close(fd);
    do {
        op = next();
        ck_assert_int_ne(op, -1);
    } while (op != VIRTIO_VSOCK_OP_SHUTDOWN || packet.flags != 3);
    ck_assert_uint_eq(vsock->connections[0].waiting, 0);
}
END_TEST

/* ---- Packets that no driver sends
 * ------------------------------------------------------------------------ */

START_TEST(test_overdraft)
{
    struct virtio_vsock_hdr header;
    int fd = connect_out(), other;

    send_op(VIRTIO_VSOCK_OP_REQUEST, 1001, 80);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RESPONSE, 1001, 80));
    other = unix_accept(&host);
    header = header_of(VIRTIO_VSOCK_OP_RW, 1000, 80);
    header.len = VIRTIO_VSOCK_BUFFER + 1;
    send_raw(header, SENT, HEADER + header.len);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
    ck_assert(ended(fd));
    ck_assert_uint_eq(vsock->counts.bad_packets, 1);
    send_data(1001, 80, 1); /* the other one goes on */
    ck_assert_int_eq(recv(other, error, 1, MSG_DONTWAIT), 1);
    close(fd);
    close(other);
}
END_TEST

/* Lengths that lie, addresses that are not its own, what means nothing: no harm, and counted. */
START_TEST(test_hostile)
{
    struct virtio_vsock_hdr header;
    int fd = connect_out();

    header = header_of(VIRTIO_VSOCK_OP_RW, 1000, 80);
    send_raw(header, SENT, HEADER - 1);
    send_raw(header, OUTSIDE, HEADER);
    header.src_cid = CID + 1;
    send_raw(header, SENT, HEADER);
    header.src_cid = CID;
    header.dst_cid = 7;
    send_raw(header, SENT, HEADER);
    ck_assert_uint_eq(vsock->counts.bad_packets, 4);
    ck_assert_int_eq(next(), -1);
    header = header_of(VIRTIO_VSOCK_OP_REQUEST, 1, 80);
    header.type = 9;
    send_raw(header, SENT, HEADER);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1, 80));
    ck_assert_uint_eq(packet.type, 9);
    header.op = VIRTIO_VSOCK_OP_RST; /* never answered, or there would be no end */
    send_raw(header, SENT, HEADER);
    send_op(VIRTIO_VSOCK_OP_RST, 77, 77);
    ck_assert_int_eq(next(), -1);
    header = header_of(VIRTIO_VSOCK_OP_RW, 1000, 80);
    header.len = 100; /* more than there is */
    send_raw(header, SENT, HEADER + 99);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
    ck_assert(ended(fd));
    ck_assert_ptr_null(vsock->device.needs_reset);
    close(fd);
}
END_TEST

/* What does not fit the state of the connection ends it. */
START_TEST(test_wrong_op)
{
    static const uint16_t ops[] = { VIRTIO_VSOCK_OP_REQUEST, VIRTIO_VSOCK_OP_RESPONSE, 0, 99 };
    int fd = connect_out();

    send_op(ops[_i], 1000, 80);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
    ck_assert(ended(fd));
    ck_assert_int_eq(next(), -1);
    close(fd);
    fd = ask("CONNECT 22\n");
    ck_assert_int_eq(next(), VIRTIO_VSOCK_OP_REQUEST);
    send_data(22, packet.src_port, 1); /* before it has answered */
    ck_assert_int_eq(next(), VIRTIO_VSOCK_OP_RST);
    close(fd);
}
END_TEST

/* Data after the end of data. */
START_TEST(test_data_after_shutdown)
{
    int fd = connect_out();

    send_flags(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 80, VIRTIO_VSOCK_SHUTDOWN_SEND);
    send_data(1000, 80, 1);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
    close(fd);
}
END_TEST

/* More connections than there is room for are refused; with one less there is room again. */
START_TEST(test_many)
{
    unsigned n;

    for (n = 0; n < VIRTIO_VSOCK_CONNECTIONS; n++) {
        send_op(VIRTIO_VSOCK_OP_REQUEST, n, 80);
        ck_assert(expect_op(VIRTIO_VSOCK_OP_RESPONSE, n, 80));
        offer(1);
    }
    send_op(VIRTIO_VSOCK_OP_REQUEST, n, 80);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, n, 80));
    offer(1);
    send_op(VIRTIO_VSOCK_OP_RST, 7, 80);
    send_op(VIRTIO_VSOCK_OP_REQUEST, n, 80);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RESPONSE, n, 80));
}
END_TEST

/* Without receive buffers answers wait; when they are too many, so do the guest's packets. */
START_TEST(test_no_rx_buffers)
{
    unsigned n, done = 0;

    negotiate(0);
    for (n = 0; n < VIRTIO_VSOCK_RESETS; n++)
        send_op(VIRTIO_VSOCK_OP_RW, n, 80);
    for (unsigned i = 0; i < 3; i++)
        ring_add(&transmit, &(struct ring_segment){ SENT, HEADER, false }, 1);
    ring_kick(&transmit);
    ck_assert(vsock->state.tx_blocked && !ring_take(&transmit, &head, &written));
    for (unsigned i = 0; i < 10; i++) {
        offer(SIZE - 1);
        while (next() == VIRTIO_VSOCK_OP_RST)
            done++;
    }
    ck_assert(!vsock->state.tx_blocked);
    ck_assert_uint_eq(done, n + 3);
}
END_TEST

/* Receive buffers that may not be written, or are no buffers. */
START_TEST(test_bad_buffers)
{
    int fd;

    negotiate(0);
    send_op(VIRTIO_VSOCK_OP_REQUEST, 1000, 80);
    ring_add(&receive, &(struct ring_segment){ OUTSIDE, BUFFER, true }, 1);
    ring_kick(&receive);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, 0);
    fd = unix_accept(&host);
    ck_assert_int_eq(send(fd, "x", 1, 0), 1);
    ring_add(&receive, &(struct ring_segment){ OUTSIDE, BUFFER, true }, 1);
    virtio_vsock_turn(vsock);
    ring_kick(&receive);
    virtio_vsock_turn(vsock);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert(ended(fd)); /* the stream has a hole now */
    ring_add(&receive, &(struct ring_segment){ RECEIVED, HEADER - 1, true }, 1);
    ring_kick(&receive);
    ck_assert_ptr_nonnull(vsock->device.needs_reset);
    negotiate(4);
    close(fd);
    close(connect_out());
}
END_TEST

/* ---- Reset
 * -------------------------------------------------------------------------------------------------
 */

START_TEST(test_reset)
{
    int fd = connect_out(), in = ask("CONNECT 22\n");

    negotiate(SIZE - 1);
    ck_assert(ended(fd) && ended(in));
    ck_assert_int_eq(next(), -1);
    send_op(VIRTIO_VSOCK_OP_RW, 1000, 80);
    ck_assert(expect_op(VIRTIO_VSOCK_OP_RST, 1000, 80));
    close(fd);
    close(in);
    close(connect_out());
}
END_TEST

START_TEST(test_transport_reset)
{
    int fd = connect_out();

    virtio_vsock_transport_reset(vsock);
    ck_assert(ended(fd));
    ck_assert(!ring_take(&event, &head, &written)); /* no buffer yet */
    memset(ram + RECEIVED, 0xff, 8);
    ring_add(&event, &(struct ring_segment){ RECEIVED, 4, true }, 1);
    ring_kick(&event);
    ck_assert(ring_take(&event, &head, &written));
    ck_assert_uint_eq(written, 4);
    ck_assert_mem_eq(ram + RECEIVED, "\0\0\0\0\xff", 5);
    ring_add(&event, &(struct ring_segment){ RECEIVED, 4, true }, 1);
    ring_kick(&event);
    ck_assert(!ring_take(&event, &head, &written)); /* once */
    close(fd);
}
END_TEST

/* ---- The thread
 * -------------------------------------------------------------------------------------------- */

static bool take_soon(uint16_t op)
{
    for (unsigned i = 0; i < 20000; i++) {
        if (ring_take(&receive, &head, &written)) {
            memcpy(&packet, ram + RECEIVED + head * BUFFER, HEADER);
            return packet.op == op;
        }
        usleep(1000);
    }
    return false;
}

/* The thread hears of what others do: a connection that the guest made, credit that it gave. */
START_TEST(test_thread)
{
    char byte;
    int fd, in;

    ck_assert_int_eq(virtio_vsock_start(vsock), 0);
    send_op(VIRTIO_VSOCK_OP_REQUEST, 1000, 80);
    ck_assert(take_soon(VIRTIO_VSOCK_OP_RESPONSE));
    fd = unix_accept(&host);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(send(fd, "x", 1, 0), 1);
        ck_assert(take_soon(VIRTIO_VSOCK_OP_RW));
    }
    in = unix_connect(path);
    ck_assert_int_eq(send(in, "CONNECT 9\n", 10, 0), 10);
    ck_assert(take_soon(VIRTIO_VSOCK_OP_REQUEST));
    send_op(VIRTIO_VSOCK_OP_RST, 1000, 80); /* closed on this thread while that one polls it */
    ck_assert(ended(fd));
    send_op(VIRTIO_VSOCK_OP_RESPONSE, 9, packet.src_port);
    ck_assert_int_eq(recv(in, &byte, 1, 0), 1);
    close(fd);
    close(in);
}
END_TEST

Suite *vsock_suite(void)
{
    Suite *suite = suite_create("vsock");
    TCase *tcase = tcase_create("vsock");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_config);
    tcase_add_test(tcase, test_path);
    tcase_add_test(tcase, test_out);
    tcase_add_test(tcase, test_out_refused);
    tcase_add_test(tcase, test_in);
    tcase_add_test(tcase, test_in_refused);
    tcase_add_test(tcase, test_in_bad_line);
    tcase_add_test(tcase, test_in_gone);
    tcase_add_test(tcase, test_in_no_driver);
    tcase_add_test(tcase, test_guest_shuts);
    tcase_add_test(tcase, test_host_shuts);
    tcase_add_test(tcase, test_host_closes);
    tcase_add_test(tcase, test_guest_resets);
    tcase_add_test(tcase, test_credit_of_guest);
    tcase_add_test(tcase, test_credit_of_host);
    tcase_add_test(tcase, test_shut_with_data);
    tcase_add_test(tcase, test_reader_gone);
    tcase_add_test(tcase, test_overdraft);
    tcase_add_test(tcase, test_hostile);
    tcase_add_loop_test(tcase, test_wrong_op, 0, 4);
    tcase_add_test(tcase, test_data_after_shutdown);
    tcase_add_test(tcase, test_many);
    tcase_add_test(tcase, test_no_rx_buffers);
    tcase_add_test(tcase, test_bad_buffers);
    tcase_add_test(tcase, test_reset);
    tcase_add_test(tcase, test_transport_reset);
    tcase_add_test(tcase, test_thread);
    suite_add_tcase(suite, tcase);
    return suite;
}
