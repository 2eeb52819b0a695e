/* devices/virtio/rng and console: the devices behind the transport. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_console.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/virtio/console.h"
#include "devices/virtio/rng.h"
#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES  (1ull << 20)
#define RING       0x1000ull
#define OTHER_RING 0x2000ull
#define DATA       0x10000ull
#define OUTSIDE    (RAM_BYTES + 0x1000)
#define SIZE       16
#define FEATURES   (1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_RING_F_EVENT_IDX)

static struct memory memory;
static struct dma dma;
static uint8_t *ram;
static uint32_t head, written;

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    ram = memory_at(&memory, 0, RAM_BYTES);
}

static void teardown(void)
{
    dma_destroy(&dma);
    memory_destroy(&memory);
}

static uint16_t add(struct ring *ring, uint64_t iova, uint32_t len, bool writable)
{
    return ring_add(ring, &(struct ring_segment){ iova, len, writable }, 1);
}

/* ---- Entropy ------------------------------------------------------------------------ */

static struct virtio_rng *rng;
static struct ring ring;

static void teardown_rng(void)
{
    virtio_rng_destroy(rng);
    teardown();
}

static void setup_rng(void)
{
    setup();
    ck_assert_int_eq(virtio_rng_create(&rng, &(struct rng_config){ .dma = &dma }), 0);
    ck_assert(ring_negotiate(&rng->device, FEATURES));
    ring_setup(&ring, &rng->device, 0, ram, RING, SIZE);
    ring_driver_ok(&rng->device);
}

static unsigned zeroes(uint64_t gpa, unsigned len)
{
    unsigned count = 0;

    for (unsigned i = 0; i < len; i++)
        count += !ram[gpa + i];
    return count;
}

START_TEST(test_rng)
{
    uint8_t first[512];

    ck_assert_uint_eq(ring_register(&rng->device, VIRTIO_MMIO_DEVICE_ID, 4), 4);
    add(&ring, DATA, sizeof(first), true);
    ring_kick(&ring);
    ck_assert(ring_take(&ring, &head, &written));
    ck_assert_uint_eq(written, sizeof(first));
    /* 512 random bytes have 2 zeroes on average; 40 or more once in 10^30 or so. */
    ck_assert_uint_lt(zeroes(DATA, sizeof(first)), 40);
    ck_assert_uint_eq(ram[DATA - 1] | ram[DATA + sizeof(first)], 0);
    memcpy(first, ram + DATA, sizeof(first));
    add(&ring, DATA, sizeof(first), true);
    ring_kick(&ring);
    ck_assert_mem_ne(first, ram + DATA, sizeof(first));
    ck_assert_uint_eq(rng->bytes, 2 * sizeof(first));
}
END_TEST

/* A large buffer is filled in part, however large it claims to be (5.4.6.2). */
START_TEST(test_rng_short)
{
    add(&ring, DATA, 0xffffffff, true);
    ring_kick(&ring);
    ck_assert(ring_take(&ring, &head, &written));
    ck_assert_uint_eq(written, VIRTIO_RNG_FILL_MAX);
    ck_assert_uint_eq(ram[DATA + VIRTIO_RNG_FILL_MAX], 0);
}
END_TEST

/* Nothing to fill, or nothing that may be: given back with no bytes, and the device lives. */
START_TEST(test_rng_nothing)
{
    add(&ring, DATA, 16, false);
    add(&ring, OUTSIDE, 16, true);
    add(&ring, DATA, 16, true);
    ring_kick(&ring);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(ring_take(&ring, &head, &written));
        ck_assert_uint_eq(written, i == 2 ? 16 : 0);
    }
    ck_assert_uint_eq(zeroes(DATA + 16, 16), 16);
    ck_assert_ptr_null(rng->device.needs_reset);
}
END_TEST

/* A kick's work is bounded: the rest comes in turns, with the lock free in between. */
START_TEST(test_rng_turns)
{
    struct virtio_mmio *mmio = ring_mmio(&rng->device);

    ck_assert(ring_negotiate(&rng->device, FEATURES));
    ring_setup(&ring, &rng->device, 0, ram, RING, 64);
    ring_driver_ok(&rng->device);
    for (unsigned i = 0; i < 2 * VIRTIO_RNG_TURN; i++)
        add(&ring, DATA + i, 1, true);
    mmio->region.write(mmio, NULL, VIRTIO_MMIO_QUEUE_NOTIFY, 4, 0);
    for (unsigned i = 0; i < VIRTIO_RNG_TURN; i++)
        ck_assert(ring_take(&ring, &head, &written));
    ck_assert(!ring_take(&ring, &head, &written));
    mmio->region.after_write(mmio, NULL);
    for (unsigned i = 0; i < VIRTIO_RNG_TURN; i++)
        ck_assert(ring_take(&ring, &head, &written));
}
END_TEST

START_TEST(test_rng_broken)
{
    add(&ring, DATA, 16, true);
    ring_descriptor(&ring, 0)->flags |= VRING_DESC_F_NEXT;
    ring_descriptor(&ring, 0)->next = 0;
    ring_kick(&ring);
    ck_assert(ring_status(&rng->device) & VIRTIO_NEEDS_RESET);
    ck_assert(!ring_take(&ring, &head, &written));
}
END_TEST

/* ---- Console ------------------------------------------------------------------------- */

static struct virtio_console *console;
static struct console out;
static struct ring receive, transmit;
static int pipe_fds[2], input_ready_fd;

static void drive_console(void)
{
    ck_assert(ring_negotiate(&console->device, FEATURES));
    ring_setup(&receive, &console->device, VIRTIO_CONSOLE_RECEIVE, ram, RING, SIZE);
    ring_setup(&transmit, &console->device, VIRTIO_CONSOLE_TRANSMIT, ram, OTHER_RING, SIZE);
    ring_driver_ok(&console->device);
}

static void setup_console(void)
{
    struct console_config config = { .dma = &dma, .out = &out };

    setup();
    ck_assert_int_eq(pipe2(pipe_fds, O_NONBLOCK), 0);
    input_ready_fd = eventfd(0, EFD_NONBLOCK);
    console_init(&out, pipe_fds[1]);
    config.input_ready_fd = input_ready_fd;
    ck_assert_int_eq(virtio_console_create(&console, &config, NULL, 0), 0);
}

static void teardown_console(void)
{
    virtio_console_destroy(console);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    close(input_ready_fd);
    teardown();
}

static ssize_t printed(char *text, size_t max)
{
    return read(pipe_fds[0], text, max);
}

static bool asked_again(void)
{
    uint64_t count;

    return read(input_ready_fd, &count, sizeof(count)) == sizeof(count);
}

static int64_t type(const char *text)
{
    return virtio_console_input(console, (const uint8_t *)text, strlen(text));
}

START_TEST(test_transmit)
{
    char text[64];

    drive_console();
    memcpy(ram + DATA, "hello, virtio\n", 14);
    ring_add(&transmit, (struct ring_segment[]){ { DATA, 5, false }, { DATA + 5, 9, false } }, 2);
    add(&transmit, DATA, 1, false);
    ring_kick(&transmit);
    ck_assert_int_eq(printed(text, sizeof(text)), 15);
    ck_assert_mem_eq(text, "hello, virtio\nh", 15);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(ring_take(&transmit, &head, &written));
        ck_assert_uint_eq(written, 0);
    }
    for (uint32_t i = 0; i < 12; i++) /* no known size, no ports */
        ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG + i, 1), 0);
    ck_assert_uint_eq(ring_features(&console->device) & 0xffffff, 1u << VIRTIO_CONSOLE_F_SIZE);
}
END_TEST

/* A new size is told by an interrupt, the same one again is not. */
START_TEST(test_resize)
{
    uint32_t generation;

    virtio_console_resize(console, 80, 25); /* before there is a driver */
    drive_console();
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG, 2), 80);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG + 2, 2), 25);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_INTERRUPT_STATUS, 4), 0);
    generation = (uint32_t)ring_register(&console->device, VIRTIO_MMIO_CONFIG_GENERATION, 4);
    virtio_console_resize(console, 80, 25);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG_GENERATION, 4),
                      generation);
    virtio_console_resize(console, 132, 50);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG, 4), 50 << 16 | 132);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_INTERRUPT_STATUS, 4), 2);
    ck_assert_uint_ne(ring_register(&console->device, VIRTIO_MMIO_CONFIG_GENERATION, 4),
                      generation);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_CONFIG + 4, 8), 0);
    /* Each new driver hears of it, once, when it begins to write. */
    drive_console();
    for (unsigned i = 0; i < 2; i++) {
        add(&transmit, DATA, 1, false);
        ring_kick(&transmit);
        ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_INTERRUPT_STATUS, 4) & 2,
                          i ? 0 : 2);
        ring_set_register(&console->device, VIRTIO_MMIO_INTERRUPT_ACK, 3);
    }
}
END_TEST

/* Longer than what is copied at once; and a reader that stops does not stop the guest. */
START_TEST(test_transmit_long)
{
    static char text[RAM_BYTES];
    ssize_t count;

    drive_console();
    for (unsigned i = 0; i < 20000; i++)
        ram[DATA + i] = (uint8_t)(i * 7);
    add(&transmit, DATA, 20000, false);
    ring_kick(&transmit);
    ck_assert(ring_take(&transmit, &head, &written));
    count = printed(text, sizeof(text));
    ck_assert_int_eq(count, 20000);
    ck_assert_mem_eq(text, ram + DATA, 20000);

    add(&transmit, DATA, 200000, false);
    ring_kick(&transmit);
    ck_assert(ring_take(&transmit, &head, &written));
    ck_assert_uint_gt(out.dropped, 0);
    count = printed(text, sizeof(text));
    ck_assert_uint_eq((uint64_t)count + out.dropped, 200000);
}
END_TEST

/* What may not be read is not sent, what is writable is not touched. */
START_TEST(test_transmit_bad)
{
    char text[8];

    drive_console();
    ram[DATA] = '!';
    add(&transmit, OUTSIDE, 4, false);
    add(&transmit, DATA, 4, true);
    add(&transmit, DATA, 0, false);
    add(&transmit, DATA, 1, false);
    ring_kick(&transmit);
    for (unsigned i = 0; i < 4; i++)
        ck_assert(ring_take(&transmit, &head, &written));
    ck_assert_int_eq(printed(text, sizeof(text)), 1);
    ck_assert_int_eq(text[0], '!');
    ck_assert_ptr_null(console->device.needs_reset);

    ring_offer(&transmit, SIZE);
    ring_kick(&transmit);
    ck_assert(ring_status(&console->device) & VIRTIO_NEEDS_RESET);
    drive_console();
    add(&transmit, DATA, 1, false);
    ring_kick(&transmit);
    ck_assert_int_eq(printed(text, sizeof(text)), 1);
}
END_TEST

/* A reset in the middle of a chain forgets the chain. */
START_TEST(test_transmit_reset)
{
    char text[8];

    drive_console();
    console->state.sending = true; /* as between two pieces */
    console->state.sent = 5;
    drive_console();
    memcpy(ram + DATA, "abc", 3);
    add(&transmit, DATA, 3, false);
    ring_kick(&transmit);
    ck_assert_int_eq(printed(text, sizeof(text)), 3);
    ck_assert_mem_eq(text, "abc", 3);
}
END_TEST

START_TEST(test_receive)
{
    /* Without a driver somebody else gets it, until there is one. */
    ck_assert_int_eq(type("x"), -EAGAIN);
    ck_assert(!asked_again());
    drive_console();
    asked_again(); /* the reset */

    /* One that has given no buffer only writes. */
    ck_assert_int_eq(type("x"), -EAGAIN);
    ck_assert(!asked_again());
    add(&receive, DATA, 3, true);
    ring_kick(&receive);
    ck_assert(asked_again());
    ck_assert_int_eq(type("hello"), 3);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, 3);
    ck_assert_mem_eq(ram + DATA, "hel\0", 4);
    ck_assert_uint_eq(ring_register(&console->device, VIRTIO_MMIO_INTERRUPT_STATUS, 4), 1);
    /* No buffer left: asked again when there is one. */
    ck_assert_int_eq(type("lo"), 0);
    ck_assert(!asked_again());
    add(&receive, DATA + 64, 64, true);
    ring_kick(&receive);
    ck_assert(asked_again());
    ck_assert_int_eq(type("lo"), 2);
    ck_assert(ring_take(&receive, &head, &written));
    ck_assert_uint_eq(written, 2);

    /* All taken: nobody asks. */
    add(&receive, DATA, 3, true);
    ring_kick(&receive);
    ck_assert(!asked_again());

    /* The driver goes: to somebody else. */
    ring_set_register(&console->device, VIRTIO_MMIO_STATUS, 0);
    ck_assert(asked_again());
    ck_assert_int_eq(type("x"), -EAGAIN);
}
END_TEST

/* Buffers that hold nothing lose nothing. */
START_TEST(test_receive_bad)
{
    drive_console();
    asked_again();
    add(&receive, DATA, 8, false);
    add(&receive, OUTSIDE, 8, true);
    add(&receive, DATA, 8, true);
    ck_assert_int_eq(type("text"), 4);
    ck_assert_mem_eq(ram + DATA, "text", 4);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert(ring_take(&receive, &head, &written));
        ck_assert_uint_eq(written, i == 2 ? 4 : 0);
    }
    ring_offer(&receive, SIZE);
    ck_assert_int_eq(type("more"), 0);
    ck_assert(ring_status(&console->device) & VIRTIO_NEEDS_RESET);
    ck_assert(asked_again());
    ck_assert_int_eq(type("more"), -EAGAIN);
}
END_TEST

Suite *virtio_devices_suite(void)
{
    Suite *suite = suite_create("virtio_devices");
    TCase *tc = tcase_create("rng");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup_rng, teardown_rng);
    tcase_add_test(tc, test_rng);
    tcase_add_test(tc, test_rng_short);
    tcase_add_test(tc, test_rng_nothing);
    tcase_add_test(tc, test_rng_turns);
    tcase_add_test(tc, test_rng_broken);
    suite_add_tcase(suite, tc);

    tc = tcase_create("console");
    tcase_set_timeout(tc, 20);
    tcase_add_checked_fixture(tc, setup_console, teardown_console);
    tcase_add_test(tc, test_resize);
    tcase_add_test(tc, test_transmit);
    tcase_add_test(tc, test_transmit_long);
    tcase_add_test(tc, test_transmit_bad);
    tcase_add_test(tc, test_transmit_reset);
    tcase_add_test(tc, test_receive);
    tcase_add_test(tc, test_receive_bad);
    suite_add_tcase(suite, tc);
    return suite;
}
