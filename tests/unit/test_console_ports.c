/* devices/virtio/console_ports and console_control: messages, streams, who comes and goes. */
#include <check.h>
#include <errno.h>
#include <linux/virtio_console.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/unix_socket.h"
#include "devices/virtio/console.h"
#include "devices/virtio/console_ports.h"
#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES (1ull << 20)
#define RING(i)   (0x1000ull + (i)*0x1000ull)
#define SENT      0x10000ull /* what the driver sends */
#define BUFFERS   0x40000ull /* buffers for the device, 4096 bytes each */
#define BUFFER    4096u
#define SIZE      16
#define OUTSIDE   (RAM_BYTES + 0x1000)
#define QUEUES    8u /* port 0, control, ports 1 and 2 */
#define FEATURES  (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_CONSOLE_F_SIZE)
#define PORTS     (FEATURES | 1ull << VIRTIO_CONSOLE_F_MULTIPORT)

enum { RX0, TX0, CONTROL_RX, CONTROL_TX, RX1, TX1, RX2, TX2 };

static struct memory memory;
static struct dma dma;
static struct virtio_console *console;
static struct console out;
static struct ring ring[QUEUES];
static char directory[] = "/tmp/strata-ports-XXXXXX", paths[2][64], error[256];
static const struct console_port_config configs[] = { { "org.one", paths[0] },
                                                      { "two", paths[1] } };
static uint8_t *ram;
static uint32_t head, written;
static struct virtio_console_control message;
static char more[128]; /* behind it */
static int clients[4];

static void offer(unsigned queue, unsigned n)
{
    for (; n; n--)
        ring_add(&ring[queue],
                 &(struct ring_segment){ BUFFERS + (queue * SIZE + ring[queue].free) * BUFFER,
                                         BUFFER, true },
                 1);
    ring_kick(&ring[queue]);
}

static uint8_t *taken(unsigned queue)
{
    return ram + BUFFERS + (queue * SIZE + head) * BUFFER;
}

static void drive(uint64_t features)
{
    ck_assert(ring_negotiate(&console->device, features));
    for (unsigned i = 0; i < QUEUES; i++)
        ring_setup(&ring[i], &console->device, i, ram, RING(i), SIZE);
    ring_driver_ok(&console->device);
}

static void create(bool first)
{
    const struct console_config config = { .dma = &dma,
                                           .out = &out,
                                           .input_ready_fd = -1,
                                           .ports = configs,
                                           .nports = 2,
                                           .ports_only = !first };

    strcpy(directory + strlen(directory) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    for (unsigned i = 0; i < 2; i++)
        snprintf(paths[i], sizeof(paths[i]), "%s/%u", directory, i);
    console_init(&out, -1);
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    ram = memory_at(&memory, 0, RAM_BYTES);
    ck_assert_int_eq(virtio_console_create(&console, &config, error, sizeof(error)), 0);
    memset(clients, 0xff, sizeof(clients));
}

static void setup(void)
{
    create(true);
}

static void teardown(void)
{
    struct stat status;

    for (unsigned i = 0; i < 4; i++) {
        if (clients[i] >= 0)
            close(clients[i]);
    }
    virtio_console_destroy(console);
    dma_destroy(&dma);
    memory_destroy(&memory);
    ck_assert_int_eq(stat(paths[0], &status), -1);
    ck_assert_int_eq(rmdir(directory), 0);
}

/* ---- Control ----------------------------------------------------------------------------- */

static void tell(uint32_t id, uint16_t event, uint16_t value)
{
    const struct virtio_console_control told = { id, event, value };

    memcpy(ram + SENT, &told, sizeof(told));
    ring_add(&ring[CONTROL_TX], &(struct ring_segment){ SENT, sizeof(told), false }, 1);
    ring_kick(&ring[CONTROL_TX]);
    ck_assert(ring_take(&ring[CONTROL_TX], &head, &written));
}

/* The next message of the device; its buffer is offered again. */
static bool hear(void)
{
    if (!ring_take(&ring[CONTROL_RX], &head, &written))
        return false;
    ck_assert_uint_ge(written, sizeof(message));
    memcpy(&message, taken(CONTROL_RX), sizeof(message));
    memset(more, 0, sizeof(more));
    memcpy(more, taken(CONTROL_RX) + sizeof(message), written - sizeof(message));
    offer(CONTROL_RX, 1);
    return true;
}

static void hear_this(uint32_t id, uint16_t event, uint16_t value)
{
    ck_assert(hear());
    ck_assert_uint_eq(message.id, id);
    ck_assert_uint_eq(message.event, event);
    ck_assert_uint_eq(message.value, value);
}

/* As Linux does it. */
static void begin(void)
{
    drive(PORTS);
    offer(CONTROL_RX, SIZE / 2);
    tell(VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_DEVICE_READY, 1);
    for (unsigned id = 0; id < 3; id++)
        hear_this(id, VIRTIO_CONSOLE_PORT_ADD, 1);
    ck_assert(!hear());
}

static void begin_port(uint32_t id)
{
    begin();
    tell(id, VIRTIO_CONSOLE_PORT_READY, 1);
    while (hear())
        ;
}

static void client_comes(unsigned i)
{
    clients[i] = unix_connect(paths[0]);
    ck_assert_int_ge(clients[i], 0);
    console_ports_turn(console);
}

static void client_goes(unsigned i)
{
    close(clients[i]);
    clients[i] = -1;
    console_ports_turn(console);
    console_ports_turn(console);
}

START_TEST(test_announced)
{
    ck_assert_uint_eq(ring_features(&console->device) & 0xffffff, 3);
    begin();
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG + 4, 4), 3);
    tell(1, VIRTIO_CONSOLE_PORT_READY, 1);
    hear_this(1, VIRTIO_CONSOLE_PORT_NAME, 1);
    ck_assert_str_eq(more, "org.one");
    ck_assert(!hear());
    tell(0, VIRTIO_CONSOLE_PORT_READY, 1);
    hear_this(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
    hear_this(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    ck_assert(!hear());
    /* Somebody is there already when the other port comes up. */
    clients[0] = unix_connect(paths[1]);
    console_ports_turn(console);
    ck_assert(!hear());
    tell(2, VIRTIO_CONSOLE_PORT_READY, 1);
    hear_this(2, VIRTIO_CONSOLE_PORT_NAME, 1);
    ck_assert_str_eq(more, "two");
    hear_this(2, VIRTIO_CONSOLE_PORT_OPEN, 1);
    ck_assert_uint_eq(console->ports->bad_messages, 0);
}
END_TEST

START_TEST(test_no_console)
{
    teardown();
    create(false);
    drive(PORTS);
    offer(CONTROL_RX, 8);
    tell(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    hear_this(1, VIRTIO_CONSOLE_PORT_ADD, 1);
    hear_this(2, VIRTIO_CONSOLE_PORT_ADD, 1);
    ck_assert(!hear());
    tell(0, VIRTIO_CONSOLE_PORT_READY, 1);
    ck_assert(!hear());
    ck_assert_uint_eq(console->ports->bad_messages, 1);
}
END_TEST

/* Where there is no room for a message it waits; it tells what is so by then. */
START_TEST(test_no_control_buffers)
{
    drive(PORTS);
    tell(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    ck_assert(!hear());
    offer(CONTROL_RX, 3);
    for (unsigned id = 0; id < 3; id++) {
        ck_assert(ring_take(&ring[CONTROL_RX], &head, &written));
        ck_assert_uint_eq(written, 8);
    }
    tell(1, VIRTIO_CONSOLE_PORT_READY, 1);
    client_comes(0);
    offer(CONTROL_RX, 8);
    hear_this(1, VIRTIO_CONSOLE_PORT_NAME, 1);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    ck_assert(!hear());
}
END_TEST

static const struct {
    uint32_t id;
    uint16_t event;
    uint32_t len;
} bad_messages[] = {
    { 3, VIRTIO_CONSOLE_PORT_READY, 8 }, { VIRTIO_CONSOLE_BAD_ID, VIRTIO_CONSOLE_PORT_OPEN, 8 },
    { 1, VIRTIO_CONSOLE_PORT_OPEN, 8 }, /* before it is ready */
    { 1, VIRTIO_CONSOLE_PORT_ADD, 8 },   { 1, 0xffff, 8 },
    { 1, VIRTIO_CONSOLE_PORT_READY, 7 },
};

START_TEST(test_bad_message)
{
    const struct virtio_console_control told = { bad_messages[_i].id, bad_messages[_i].event, 1 };

    begin();
    memcpy(ram + SENT, &told, sizeof(told));
    ring_add(&ring[CONTROL_TX], &(struct ring_segment){ SENT, bad_messages[_i].len, false }, 1);
    ring_kick(&ring[CONTROL_TX]);
    ck_assert(ring_take(&ring[CONTROL_TX], &head, &written));
    ck_assert_uint_eq(console->ports->bad_messages, 1);
    ck_assert(!hear());
    ck_assert_ptr_null(console->device.needs_reset);
}
END_TEST

/* A message that may not be read, and a buffer without room for one. */
START_TEST(test_bad_buffers)
{
    begin();
    ring_add(&ring[CONTROL_TX], &(struct ring_segment){ OUTSIDE, 8, false }, 1);
    ring_kick(&ring[CONTROL_TX]);
    ck_assert(ring_take(&ring[CONTROL_TX], &head, &written));
    ck_assert_uint_eq(console->ports->bad_messages, 1);
    drive(PORTS);
    ring_add(&ring[CONTROL_RX], &(struct ring_segment){ BUFFERS, 7, true }, 1);
    ring_kick(&ring[CONTROL_RX]);
    ck_assert_ptr_null(console->device.needs_reset);
    memcpy(ram + SENT, &(struct virtio_console_control){ .value = 1 }, 8);
    ring_add(&ring[CONTROL_TX], &(struct ring_segment){ SENT, 8, false }, 1);
    ring_kick(&ring[CONTROL_TX]);
    ck_assert(ring_status(&console->device) & VIRTIO_NEEDS_RESET);
    begin();
}
END_TEST

/* ---- The console ---------------------------------------------------------------------------- */

/* A driver throws input away that comes before it has opened the port. */
START_TEST(test_console_input)
{
    begin();
    offer(RX0, 2);
    ck_assert_int_eq(virtio_console_input(console, (const uint8_t *)"x", 1), -EAGAIN);
    tell(0, VIRTIO_CONSOLE_PORT_READY, 1);
    ck_assert_int_eq(virtio_console_input(console, (const uint8_t *)"x", 1), -EAGAIN);
    tell(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    ck_assert_int_eq(virtio_console_input(console, (const uint8_t *)"x", 1), 1);
    /* One that knows of no ports has a console as ever. */
    drive(FEATURES);
    offer(RX0, 2);
    ck_assert_int_eq(virtio_console_input(console, (const uint8_t *)"x", 1), 1);
}
END_TEST

START_TEST(test_resize)
{
    const uint16_t columns_rows[] = { 132, 50 };

    begin();
    virtio_console_resize(console, 80, 25);
    ck_assert(!hear());
    tell(0, VIRTIO_CONSOLE_PORT_READY, 1);
    hear_this(0, VIRTIO_CONSOLE_CONSOLE_PORT, 1);
    hear_this(0, VIRTIO_CONSOLE_RESIZE, 1);
    hear_this(0, VIRTIO_CONSOLE_PORT_OPEN, 1);
    virtio_console_resize(console, 132, 50);
    hear_this(0, VIRTIO_CONSOLE_RESIZE, 1);
    ck_assert_mem_eq(more, columns_rows, 4);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG, 4), 50 << 16 | 132);
}
END_TEST

/* ---- Streams -------------------------------------------------------------------------------- */

static void send_bytes(const char *text)
{
    memcpy(ram + SENT, text, strlen(text));
    ring_add(&ring[TX1], &(struct ring_segment){ SENT, (uint32_t)strlen(text), false }, 1);
    ring_kick(&ring[TX1]);
}

static void client_reads(unsigned i, const char *text)
{
    char bytes[64] = "";

    ck_assert_int_eq(recv(clients[i], bytes, sizeof(bytes) - 1, MSG_DONTWAIT), strlen(text));
    ck_assert_str_eq(bytes, text);
}

static void client_writes(unsigned i, const char *text)
{
    ck_assert_int_eq(send(clients[i], text, strlen(text), MSG_DONTWAIT), strlen(text));
    console_ports_turn(console);
}

static void guest_reads(const char *text)
{
    ck_assert(ring_take(&ring[RX1], &head, &written));
    ck_assert_uint_eq(written, strlen(text));
    ck_assert_mem_eq(taken(RX1), text, written);
}

START_TEST(test_to_host)
{
    begin_port(1);
    client_comes(0);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    send_bytes("hello");
    ck_assert(ring_take(&ring[TX1], &head, &written));
    ck_assert_uint_eq(written, 0);
    client_reads(0, "hello");
    /* What may not be read is not sent; an empty buffer is nothing. */
    ring_add(&ring[TX1], &(struct ring_segment){ OUTSIDE, 5, false }, 1);
    ring_add(&ring[TX1], &(struct ring_segment){ BUFFERS, 5, true }, 1);
    send_bytes("again");
    for (unsigned i = 0; i < 3; i++)
        ck_assert(ring_take(&ring[TX1], &head, &written));
    client_reads(0, "again");
    ck_assert_uint_eq(console->ports->port[1].counts.received_bytes, 10);
}
END_TEST

/* Nobody there: it stays in the queue. Somebody goes in the middle: the next gets the rest. */
START_TEST(test_nobody)
{
    begin_port(1);
    send_bytes("one ");
    ck_assert(!ring_take(&ring[TX1], &head, &written));
    client_comes(0);
    ck_assert(ring_take(&ring[TX1], &head, &written));
    client_reads(0, "one ");
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    client_goes(0);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    send_bytes("two");
    ck_assert(!ring_take(&ring[TX1], &head, &written));
    console_ports_turn(console);
    client_comes(1);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    client_reads(1, "two");
    ck_assert_uint_eq(console->ports->port[1].counts.connections, 2);
}
END_TEST

/* A reader that takes nothing: the guest's buffer stays, and comes whole in the end. */
START_TEST(test_slow_reader)
{
    static uint8_t bytes[RAM_BYTES / 2];
    struct ring_segment all[8];
    size_t sum = 0;

    begin_port(1);
    client_comes(0);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        ram[i % sizeof(bytes) + RAM_BYTES / 2] = (uint8_t)(i / 251);
    for (unsigned i = 0; i < 8; i++)
        all[i] = (struct ring_segment){ RAM_BYTES / 2, RAM_BYTES / 2, false };
    ring_add(&ring[TX1], all, 8); /* 4 MiB, more than any socket holds */
    ring_kick(&ring[TX1]);
    ck_assert(!ring_take(&ring[TX1], &head, &written));
    ck_assert(console->ports->port[1].tx_blocked);
    for (unsigned i = 0; i < 100000 && sum < 8 * sizeof(bytes); i++) {
        ssize_t got = recv(clients[0], bytes, sizeof(bytes), MSG_DONTWAIT);

        for (ssize_t n = 0; n < got; n++, sum++) {
            if (bytes[n] != (uint8_t)(sum % sizeof(bytes) / 251))
                ck_abort_msg("byte %zu is another", sum);
        }
        console_ports_turn(console);
    }
    ck_assert_uint_eq(sum, 8 * sizeof(bytes));
    ck_assert(ring_take(&ring[TX1], &head, &written));
}
END_TEST

/* Nothing is read from the socket before the guest has opened the port, and has room. */
START_TEST(test_to_guest)
{
    begin_port(1);
    offer(RX1, 1);
    client_comes(0);
    client_writes(0, "hello");
    ck_assert(!ring_take(&ring[RX1], &head, &written));
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    guest_reads("hello");
    client_writes(0, "more");
    client_writes(0, " of it");
    ck_assert(!ring_take(&ring[RX1], &head, &written));
    ck_assert(console->ports->state->port[1].no_rx_buffers);
    offer(RX1, 2);
    guest_reads("more");
    guest_reads(" of it");
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    offer(RX1, 1);
    client_writes(0, "later");
    ck_assert(!ring_take(&ring[RX1], &head, &written));
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    guest_reads("later");
    /* A buffer that may not be written goes back empty, the bytes go into the next. */
    ring_add(&ring[RX1], &(struct ring_segment){ OUTSIDE, 100, true }, 1);
    offer(RX1, 1);
    client_writes(0, "kept");
    ck_assert(ring_take(&ring[RX1], &head, &written));
    ck_assert_uint_eq(written, 0);
    guest_reads("kept");
    ck_assert_uint_eq(console->ports->port[1].counts.sent_bytes, 24);
}
END_TEST

/* Who writes and goes has written; the next one is let in after the guest has had it. */
START_TEST(test_left_behind)
{
    begin_port(1);
    client_comes(0);
    client_writes(0, "first");
    client_goes(0);
    clients[1] = unix_connect(paths[0]);
    client_writes(1, "second");
    ck_assert_uint_eq(console->ports->port[1].counts.connections, 1);
    offer(RX1, 1);
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    guest_reads("first");
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    console_ports_turn(console);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
    console_ports_turn(console);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    console_ports_turn(console);
    offer(RX1, 1);
    guest_reads("second");
    ck_assert_uint_eq(console->ports->port[1].counts.connections, 2);
}
END_TEST

/* The end that only stops writing still gets what the guest sends. */
START_TEST(test_half_closed)
{
    begin_port(1);
    offer(RX1, 2);
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    client_comes(0);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    client_writes(0, "question");
    shutdown(clients[0], SHUT_WR);
    console_ports_turn(console);
    console_ports_turn(console);
    guest_reads("question");
    ck_assert(!hear());
    send_bytes("answer");
    client_reads(0, "answer");
    client_goes(0);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 0);
}
END_TEST

/* Another driver: the client stays, and what it has sent comes to that one. */
START_TEST(test_reset)
{
    begin_port(1);
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    client_comes(0);
    client_writes(0, "kept");
    ck_assert(console->ports->state->port[1].no_rx_buffers);
    begin();
    offer(RX1, 1);
    ck_assert(!ring_take(&ring[RX1], &head, &written));
    tell(1, VIRTIO_CONSOLE_PORT_READY, 1);
    hear_this(1, VIRTIO_CONSOLE_PORT_NAME, 1);
    hear_this(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    guest_reads("kept");
    /* A queue that stops is forgotten, with the buffer that was being sent. */
    ring_set_register(&console->device, VIRTIO_MMIO_QUEUE_SEL, TX1);
    ring_set_register(&console->device, VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert(!console->ports->state->port[1].sending);
}
END_TEST

START_TEST(test_broken)
{
    begin_port(1);
    client_comes(0);
    ring_add(&ring[TX1], &(struct ring_segment){ SENT, 5, false }, 1);
    ring_descriptor(&ring[TX1], 0)->flags |= VRING_DESC_F_NEXT;
    ring_descriptor(&ring[TX1], 0)->next = 0;
    ring_kick(&ring[TX1]);
    ck_assert(ring_status(&console->device) & VIRTIO_NEEDS_RESET);
    console_ports_turn(console);
    begin_port(1);
    send_bytes("well");
    client_reads(0, "well");
}
END_TEST

/* A driver that did not ask for ports kicks their queues. */
START_TEST(test_not_negotiated)
{
    drive(FEATURES);
    offer(CONTROL_RX, 4);
    memcpy(ram + SENT, &(struct virtio_console_control){ .value = 1 }, 8);
    ring_add(&ring[CONTROL_TX], &(struct ring_segment){ SENT, 8, false }, 1);
    ring_kick(&ring[CONTROL_TX]);
    ck_assert(!ring_take(&ring[CONTROL_TX], &head, &written));
    ck_assert(!hear());
    client_comes(0);
    send_bytes("nowhere");
    ck_assert(!ring_take(&ring[TX1], &head, &written));
    ck_assert_ptr_null(console->device.needs_reset);
}
END_TEST

START_TEST(test_taken_path)
{
    const struct console_config config = {
        .dma = &dma, .out = &out, .input_ready_fd = -1, .ports = configs, .nports = 2
    };
    struct virtio_console *other;

    ck_assert_int_eq(virtio_console_create(&other, &config, error, sizeof(error)), -EADDRINUSE);
    ck_assert_ptr_nonnull(strstr(error, "--virtio-port: another process listens"));
}
END_TEST

/* The thread: a client is heard and answered without anybody's help. */
START_TEST(test_thread)
{
    char byte;

    begin_port(1);
    ck_assert_int_eq(console_ports_start(console), 0);
    offer(RX1, 4);
    tell(1, VIRTIO_CONSOLE_PORT_OPEN, 1);
    for (unsigned i = 0; i < 3; i++) {
        bool read = false;

        clients[0] = unix_connect(paths[0]);
        ck_assert_int_eq(send(clients[0], "x", 1, 0), 1);
        while (!read) {
            usleep(100);
            dma_lock(&dma);
            read = ring_take(&ring[RX1], &head, &written);
            dma_unlock(&dma);
        }
        send_bytes("y");
        ck_assert_int_eq(shutdown(clients[0], SHUT_WR), 0);
        while (recv(clients[0], &byte, 1, 0) != 1)
            ;
        close(clients[0]);
        clients[0] = -1;
        /* So that the guest can be told of its going, and the next one let in. */
        offer(CONTROL_RX, 2);
    }
}
END_TEST

Suite *console_ports_suite(void)
{
    Suite *suite = suite_create("console_ports");
    TCase *tcase = tcase_create("console_ports");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_announced);
    tcase_add_test(tcase, test_no_console);
    tcase_add_test(tcase, test_no_control_buffers);
    tcase_add_loop_test(tcase, test_bad_message, 0, sizeof(bad_messages) / sizeof(bad_messages[0]));
    tcase_add_test(tcase, test_bad_buffers);
    tcase_add_test(tcase, test_console_input);
    tcase_add_test(tcase, test_resize);
    tcase_add_test(tcase, test_to_host);
    tcase_add_test(tcase, test_nobody);
    tcase_add_test(tcase, test_slow_reader);
    tcase_add_test(tcase, test_to_guest);
    tcase_add_test(tcase, test_left_behind);
    tcase_add_test(tcase, test_half_closed);
    tcase_add_test(tcase, test_reset);
    tcase_add_test(tcase, test_broken);
    tcase_add_test(tcase, test_not_negotiated);
    tcase_add_test(tcase, test_taken_path);
    tcase_add_test(tcase, test_thread);
    suite_add_tcase(suite, tcase);
    return suite;
}
