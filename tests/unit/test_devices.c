/* devices/: registers of the serial port, the hypercall port and the i8042, without a guest. */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "devices/core/hypercall_port.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/serial.h"
#include "guest/abi/machine.h"
#include "tests/unit/suites.h"
#include "vmm/machine/vm.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH };

static struct serial serial;
static struct bus bus;
static int out[2];
static int room;

static void setup(void)
{
    signal(SIGPIPE, SIG_IGN);
    ck_assert_int_eq(pipe(out), 0);
    room = eventfd(0, EFD_NONBLOCK);
    ck_assert_int_eq(serial_create(&serial, NULL, ABI_SERIAL_PORT, ABI_SERIAL_GSI, out[1], room),
                     0);
    bus_init(&bus, 0xffff);
    ck_assert_int_eq(bus_add(&bus, &serial.region), 0);
}

static void teardown(void)
{
    serial_destroy(&serial);
    close(room);
    close(out[0]);
    close(out[1]);
}

static uint8_t get(unsigned reg)
{
    uint8_t value;

    bus_read(&bus, NULL, ABI_SERIAL_PORT + reg, &value, 1, 1);
    return value;
}

static void put(unsigned reg, uint8_t value)
{
    bus_write(&bus, NULL, ABI_SERIAL_PORT + reg, &value, 1, 1);
}

static size_t output(char *text, size_t bytes)
{
    struct pollfd readable = { .fd = out[0], .events = POLLIN };

    return poll(&readable, 1, 0) == 1 ? (size_t)read(out[0], text, bytes) : 0;
}

START_TEST(test_registers)
{
    put(SCRATCH, 0x5a);
    ck_assert_uint_eq(get(SCRATCH), 0x5a);
    put(LCR, 0x83);
    put(DATA, 12);
    put(IER, 34);
    ck_assert_uint_eq(get(DATA), 12);
    ck_assert_uint_eq(get(IER), 34);
    put(LCR, 0x03);
    ck_assert_uint_eq(get(LCR), 0x03);
    ck_assert_uint_eq(get(IER), 0);
    put(IER, 0xff);
    ck_assert_uint_eq(get(IER), 0x0f);
    put(MCR, 0xff);
    ck_assert_uint_eq(get(MCR), 0x1f);
    ck_assert_uint_eq(get(LSR), 0x60);
    put(LSR, 0xff);
    ck_assert_uint_eq(get(LSR), 0x60);
    put(MCR, 0);
    ck_assert_uint_eq(get(MSR), 0xb0);
    ck_assert_uint_eq(get(IIR) & 0xc0, 0);
    put(IIR, 0x07);
    ck_assert_uint_eq(get(IIR) & 0xc0, 0xc0);
    /* The divisor never reached the line. */
    ck_assert_uint_eq(output((char[8]){ 0 }, 8), 0);
}
END_TEST

START_TEST(test_output)
{
    char text[1024] = "";

    put(DATA, 'a');
    ck_assert_uint_eq(output(text, sizeof(text)), 1);
    ck_assert_int_eq(text[0], 'a');
    /* A string instruction longer than the buffer. */
    for (unsigned i = 0; i < 600; i++)
        text[i] = (char)('a' + i % 26);
    bus_write(&bus, NULL, ABI_SERIAL_PORT, text, 1, 600);
    char got[1024];
    size_t bytes = 0;

    while (bytes < 600) {
        size_t more = output(got + bytes, sizeof(got) - bytes);

        ck_assert_uint_gt(more, 0);
        bytes += more;
    }
    ck_assert_int_eq(memcmp(got, text, 600), 0);
    ck_assert_uint_eq(serial.console.dropped, 0);
}
END_TEST

/* Another vCPU has filled the buffer up, and has not come to drain it. */
START_TEST(test_output_of_several)
{
    char got[SERIAL_OUT_BYTES + 1] = "";

    memset(serial.out, 'a', sizeof(serial.out));
    serial.out_count = sizeof(serial.out);
    serial.region.write(&serial, NULL, DATA, 1, 'b');
    ck_assert_uint_eq(serial.out_count, 1);
    ck_assert_uint_eq(output(got, sizeof(got)), SERIAL_OUT_BYTES);
    ck_assert_int_eq(memcmp(got, serial.out + 1, SERIAL_OUT_BYTES - 1), 0);
    serial.region.after_write(&serial, NULL);
    ck_assert_uint_eq(output(got, sizeof(got)), 1);
    ck_assert_int_eq(got[0], 'b');
}
END_TEST

START_TEST(test_input)
{
    uint64_t count;

    put(IIR, 0x07); /* FIFO on, cleared */
    put(IER, 0x01);
    ck_assert_uint_eq(serial_input(&serial, (const uint8_t *)"0123456789abcdefgh", 18), 16);
    ck_assert_uint_eq(get(LSR), 0x61);
    for (unsigned i = 0; i < 16; i++) {
        /* Nobody is told of room before the FIFO is empty. */
        ck_assert_int_lt(read(room, &count, sizeof(count)), 0);
        ck_assert_uint_eq(get(DATA), "0123456789abcdef"[i]);
    }
    ck_assert_int_eq(read(room, &count, sizeof(count)), (int)sizeof(count));
    ck_assert_uint_eq(get(LSR), 0x60);
    ck_assert_uint_eq(get(DATA), 0);
    ck_assert_uint_eq(serial_input(&serial, (const uint8_t *)"gh", 2), 2);
    put(IIR, 0x03); /* clears the receiver */
    ck_assert_uint_eq(get(LSR), 0x60);
    /* Without the FIFO there is room for one. */
    put(IIR, 0x00);
    ck_assert_uint_eq(serial_input(&serial, (const uint8_t *)"gh", 2), 1);
    ck_assert_uint_eq(get(DATA), 'g');
}
END_TEST

static size_t offer(const char *text)
{
    return serial_input(&serial, (const uint8_t *)text, strlen(text));
}

static bool told_of_room(void)
{
    uint64_t count;

    return read(room, &count, sizeof(count)) == sizeof(count);
}

/* What Linux's 8250 driver does until it is there loses nothing of what waits. */
START_TEST(test_input_for_a_driver)
{
    ck_assert_uint_eq(offer("input"), 0);
    /* Its early console. */
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_uint_eq(get(LSR), 0x60);
        put(DATA, '.');
        if (i % 10 == 0)
            get(LSR);
    }
    serial.out_count = 0;
    ck_assert_uint_eq(offer("input"), 0);
    /* Looking for what it is. */
    put(IER, 0x0f);
    ck_assert_uint_eq(offer("input"), 0);
    put(IER, 0);
    put(MCR, 0x1a);
    put(MCR, 0);
    put(IIR, 0x01);
    put(IIR, 0x07);
    get(DATA);
    /* Set-up; the FIFO comes last. */
    put(IIR, 0);
    get(LSR);
    get(DATA);
    put(MCR, 0x0b);
    ck_assert(!told_of_room());
    ck_assert_uint_eq(offer("input"), 0);
    put(IER, 0x05);
    ck_assert(told_of_room());
    ck_assert_uint_eq(offer("input"), 1);
    put(IIR, 0x01);
    ck_assert_uint_eq(offer("nput"), 4);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(get(DATA), "input"[i]);
    /* While it sends without interrupts, input waits. */
    put(IER, 0);
    ck_assert_uint_eq(offer("more"), 0);
    put(IER, 0x05);
    ck_assert(told_of_room());
    ck_assert_uint_eq(offer("more"), 4);
}
END_TEST

/* A guest without interrupts, which sends something between two looks for input. */
START_TEST(test_input_for_a_poll)
{
    unsigned looks = 0;

    for (; !offer("y"); looks++) {
        ck_assert_uint_lt(looks, 1000);
        get(LSR);
        get(LSR);
        put(DATA, '.');
    }
    serial.out_count = 0;
    ck_assert_uint_gt(looks, 10);
    ck_assert_uint_eq(get(LSR), 0x61);
    ck_assert_uint_eq(get(DATA), 'y');
    ck_assert_uint_eq(offer("z"), 1);
}
END_TEST

START_TEST(test_interrupts)
{
    ck_assert_uint_eq(get(IIR), 0x01);
    ck_assert(!serial.state.line);
    /* Enabling the transmitter's interrupt raises it; reading IIR takes it back. */
    put(IER, 0x02);
    ck_assert(serial.state.line);
    ck_assert_uint_eq(get(IIR), 0x02);
    ck_assert(!serial.state.line);
    ck_assert_uint_eq(get(IIR), 0x01);
    put(DATA, 'x');
    ck_assert(serial.state.line);
    /* Received data comes before it, and stays until it is read. */
    put(IER, 0x03);
    ck_assert_uint_eq(serial_input(&serial, (const uint8_t *)"y", 1), 1);
    ck_assert_uint_eq(get(IIR), 0x04);
    ck_assert_uint_eq(get(IIR), 0x04);
    ck_assert_uint_eq(get(DATA), 'y');
    ck_assert_uint_eq(get(IIR), 0x02);
    ck_assert_uint_eq(get(IIR), 0x01);
    ck_assert(!serial.state.line);
    /* No interrupt without its enable bit. */
    ck_assert_uint_eq(serial_input(&serial, (const uint8_t *)"z", 1), 1);
    put(IER, 0);
    ck_assert(!serial.state.line);
    put(IER, 0x01);
    ck_assert(serial.state.line);
}
END_TEST

START_TEST(test_loopback)
{
    put(MCR, 0x1f);
    ck_assert_uint_eq(get(MSR), 0xf0);
    put(MCR, 0x10);
    ck_assert_uint_eq(get(MSR), 0x00);
    put(DATA, 'q');
    ck_assert_uint_eq(get(LSR), 0x61);
    put(DATA, 'r'); /* no FIFO: overrun */
    ck_assert_uint_eq(get(LSR), 0x63);
    ck_assert_uint_eq(get(LSR), 0x61);
    ck_assert_uint_eq(get(DATA), 'q');
    ck_assert_uint_eq(output((char[8]){ 0 }, 8), 0);
}
END_TEST

START_TEST(test_wide_access)
{
    uint16_t value = 0x0312;
    uint64_t all;

    put(LCR, 0x80);
    bus_write(&bus, NULL, ABI_SERIAL_PORT, &value, 2, 1);
    value = 0;
    bus_read(&bus, NULL, ABI_SERIAL_PORT, &value, 2, 1);
    ck_assert_uint_eq(value, 0x0312);
    put(LCR, 0x00);
    bus_read(&bus, NULL, ABI_SERIAL_PORT, &all, 8, 1);
    bus_write(&bus, NULL, ABI_SERIAL_PORT, &all, 8, 1);
    /* Over the end of the window: nobody answers. */
    bus_read(&bus, NULL, ABI_SERIAL_PORT + 7, &value, 2, 1);
    ck_assert_uint_eq(value, 0xffff);
}
END_TEST

/* A reader that is gone, and one that does not read, cost output but no hang. */
START_TEST(test_lost_output)
{
    enum { WRITES = 1024 };
    uint8_t text[256] = { 0 };
    struct timespec before, after;
    long ms;

    clock_gettime(CLOCK_MONOTONIC, &before);
    for (unsigned i = 0; i < WRITES; i++)
        bus_write(&bus, NULL, ABI_SERIAL_PORT, text, 1, sizeof(text));
    clock_gettime(CLOCK_MONOTONIC, &after);
    ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    ck_assert_uint_gt(serial.console.dropped, 0);
    /* One wait, not one for each of the hundreds that do not fit into the pipe. */
    ck_assert_int_lt(ms, WRITES / 10 * CONSOLE_PATIENCE_MS);
    ck_assert(serial.console.tx_blocked);

    /* It goes on when the reader does. */
    while (output((char[4096]){ 0 }, 4096))
        ;
    put(DATA, '!');
    ck_assert_uint_eq(output((char *)text, 1), 1);
    ck_assert_int_eq(text[0], '!');

    unsigned long long dropped = serial.console.dropped;

    close(out[0]);
    put(DATA, '!');
    ck_assert_uint_eq(serial.console.dropped, dropped + 1);
}
END_TEST

struct rings {
    unsigned count;
    uint32_t frame;
    struct vcpu *vcpu;
};

static int count_ring(void *owner, struct vcpu *vcpu, uint32_t frame)
{
    struct rings *rings = owner;

    rings->count++;
    rings->frame = frame;
    rings->vcpu = vcpu;
    return frame == 13 ? -1 : 0;
}

/* Enough of a VM for vm_stop. */
static void vm_bare(struct vm *vm)
{
    *vm = (struct vm){ .end_fd = eventfd(0, EFD_NONBLOCK) };
    bus_init(&vm->pio, 0xffff);
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->changed, NULL);
}

static void ring(struct vm *vm, struct vcpu *vcpu, unsigned offset, uint32_t value, unsigned size)
{
    bus_write(&vm->pio, vcpu, ABI_HYPERCALL_PORT + offset, &value, size, 1);
}

START_TEST(test_hypercall_port)
{
    struct hypercall_port hypercall_port;
    struct rings rings = { 0 };
    struct vcpu vcpu;
    struct vm vm;
    uint32_t value;

    vm_bare(&vm);
    ck_assert_int_eq(hypercall_port_create(&hypercall_port, &vm, count_ring, &rings), 0);
    bus_read(&vm.pio, &vcpu, ABI_HYPERCALL_PORT, &value, 4, 1);
    ck_assert_uint_eq(value, ABI_HYPERCALL_MAGIC);
    bus_read(&vm.pio, &vcpu, ABI_HYPERCALL_PORT + 4, &value, 4, 1);
    ck_assert_uint_eq(value, 0xffffffff);

    ring(&vm, &vcpu, ABI_HYPERCALL_CHECKPOINT, 0x1234, 4);
    ck_assert_uint_eq(rings.count, 1);
    ck_assert_uint_eq(rings.frame, 0x1234);
    ck_assert_ptr_eq(rings.vcpu, &vcpu);
    ring(&vm, &vcpu, ABI_HYPERCALL_CHECKPOINT, 13, 4);
    ck_assert_uint_eq(hypercall_port.rings, 2);
    ck_assert_uint_eq(hypercall_port.failed_rings, 1);
    ring(&vm, &vcpu, ABI_HYPERCALL_YIELD, 1, 4);
    ck_assert_uint_eq(hypercall_port.yields, 1);

    /* Other sizes and odd places ring nothing. */
    ring(&vm, &vcpu, ABI_HYPERCALL_CHECKPOINT, 1, 2);
    ring(&vm, &vcpu, ABI_HYPERCALL_EXIT, 1, 1);
    ring(&vm, &vcpu, 2, 1, 4);
    ck_assert_uint_eq(hypercall_port.bad_accesses, 3);
    ck_assert_uint_eq(rings.count, 2);
    ck_assert_int_eq(vm.end.reason, VM_END_NONE);

    /* The low byte is the status, and the first end counts. */
    ring(&vm, &vcpu, ABI_HYPERCALL_EXIT, 0x1ff07, 4);
    ring(&vm, &vcpu, ABI_HYPERCALL_PANIC, 1, 4);
    ck_assert_int_eq(vm.end.reason, VM_END_GUEST_EXIT);
    ck_assert_int_eq(vm.end.status, 7);
    close(vm.end_fd);
}
END_TEST

START_TEST(test_hypercall_port_alone)
{
    struct hypercall_port hypercall_port;
    struct vm vm;

    vm_bare(&vm);
    ck_assert_int_eq(hypercall_port_create(&hypercall_port, &vm, NULL, NULL), 0);
    ring(&vm, NULL, ABI_HYPERCALL_CHECKPOINT, 1, 4);
    ck_assert_uint_eq(hypercall_port.rings, 1);
    ck_assert_int_eq(vm.end.reason, VM_END_NONE);
    ring(&vm, NULL, ABI_HYPERCALL_PANIC, 1, 4);
    ck_assert_int_eq(vm.end.reason, VM_END_GUEST_PANIC);
    ck_assert_int_eq(vm.end.status, 1);
    close(vm.end_fd);
}
END_TEST

START_TEST(test_i8042)
{
    struct i8042 i8042;
    struct vm vm;
    uint8_t value = 0xd1;

    vm_bare(&vm);
    ck_assert_int_eq(i8042_create(&i8042, &vm), 0);
    bus_write(&vm.pio, NULL, I8042_PORT, &value, 1, 1);
    ck_assert_int_eq(vm.end.reason, VM_END_NONE);
    bus_read(&vm.pio, NULL, I8042_PORT, &value, 1, 1);
    ck_assert_uint_eq(value & 2, 0);
    value = I8042_RESET;
    bus_write(&vm.pio, NULL, I8042_PORT, &value, 1, 1);
    ck_assert_int_eq(vm.end.reason, VM_END_GUEST_RESET);
    close(vm.end_fd);
}
END_TEST

Suite *devices_suite(void)
{
    Suite *suite = suite_create("devices");
    TCase *tc = tcase_create("serial");

    tcase_set_timeout(tc, 20);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_registers);
    tcase_add_test(tc, test_output);
    tcase_add_test(tc, test_output_of_several);
    tcase_add_test(tc, test_input);
    tcase_add_test(tc, test_input_for_a_driver);
    tcase_add_test(tc, test_input_for_a_poll);
    tcase_add_test(tc, test_interrupts);
    tcase_add_test(tc, test_loopback);
    tcase_add_test(tc, test_wide_access);
    tcase_add_test(tc, test_lost_output);
    suite_add_tcase(suite, tc);

    tc = tcase_create("others");
    tcase_set_timeout(tc, 10);
    tcase_add_test(tc, test_hypercall_port);
    tcase_add_test(tc, test_hypercall_port_alone);
    tcase_add_test(tc, test_i8042);
    suite_add_tcase(suite, tc);
    return suite;
}
