/* vmm/machine/irq_line: lines that devices share. Routes need KVM: test_vm.c. */
#include <check.h>
#include <string.h>

#include "devices/core/virtio_mmio.h"
#include "tests/unit/suites.h"
#include "vmm/machine/bus.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vm.h"

#define PER_LINE 3
#define SHARED   (IRQ_LINES - IRQ_LINE_SHARED)

static struct vm vm;
static bool line[IRQ_LINES]; /* as KVM heard of them */
static unsigned calls;

static int set_line(struct vm *of, unsigned gsi, bool level)
{
    ck_assert_ptr_eq(of, &vm);
    ck_assert_uint_lt(gsi, IRQ_LINES);
    line[gsi] = level;
    calls++;
    return 0;
}

static void setup(void)
{
    vm = (struct vm){ .fd = -1, .irq_lines.set = set_line };
    memset(line, 0, sizeof(line));
    calls = 0;
}

/* All of the shared lines are used alike, and no other one. */
START_TEST(test_alloc)
{
    unsigned users[IRQ_LINES] = { 0 };

    for (unsigned i = 0; i < PER_LINE * SHARED; i++) {
        unsigned gsi = irq_line_alloc(&vm);

        ck_assert_uint_eq(gsi, IRQ_LINE_SHARED + i % SHARED);
        users[gsi]++;
    }
    for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++)
        ck_assert_uint_eq(users[gsi], gsi < IRQ_LINE_SHARED ? 0 : PER_LINE);
}
END_TEST

/* What a device without sharing would do: each tells KVM of its own level. */
static void set_alone(struct irq_source *source, bool level)
{
    source->level = level;
    set_line(source->vm, source->gsi, level);
}

/*
 * Random levels of the sources of two lines: how often a line was not high when one of its
 * sources was, or was high when none was.
 */
static unsigned count_wrong(void (*set)(struct irq_source *source, bool level))
{
    struct irq_source sources[2 * PER_LINE];
    unsigned wrong = 0, random = 1;

    for (unsigned i = 0; i < 2 * PER_LINE; i++)
        sources[i] = (struct irq_source){ .vm = &vm, .gsi = IRQ_LINE_SHARED + i % 2 };
    for (unsigned step = 0; step < 1000; step++) {
        bool high[2] = { false, false };

        random = random * 1103515245u + 12345u;
        set(&sources[(random >> 16) % (2 * PER_LINE)], random >> 30 & 1);
        for (unsigned i = 0; i < 2 * PER_LINE; i++)
            high[i % 2] |= sources[i].level;
        for (unsigned i = 0; i < 2; i++)
            wrong += line[IRQ_LINE_SHARED + i] != high[i];
    }
    return wrong;
}

/* A line is high while any of its sources is; without sharing it would not be. */
START_TEST(test_shared)
{
    ck_assert_uint_eq(count_wrong(irq_source_set), 0);
    setup();
    ck_assert_uint_gt(count_wrong(set_alone), 0);
}
END_TEST

/* KVM hears of changes of the line only. */
START_TEST(test_calls)
{
    struct irq_source a = { .vm = &vm, .gsi = 16 }, b = { .vm = &vm, .gsi = 16 };
    struct irq_source nowhere = { .vm = &vm, .gsi = IRQ_LINES }, none = { .gsi = 16 };

    irq_source_set(&a, false);
    ck_assert_uint_eq(calls, 0);
    irq_source_set(&a, true);
    irq_source_set(&a, true);
    irq_source_set(&b, true);
    ck_assert_uint_eq(calls, 1);
    irq_source_set(&a, false);
    ck_assert(line[16]);
    ck_assert_uint_eq(calls, 1);
    irq_source_set(&b, false);
    ck_assert(!line[16]);
    ck_assert_uint_eq(calls, 2);
    irq_source_set(&nowhere, true);
    irq_source_set(&none, true);
    ck_assert_uint_eq(calls, 2);
}
END_TEST

static void nothing(void *owner, unsigned queue)
{
    (void)owner;
    (void)queue;
}

/* Two devices on one line: the acknowledgement of one leaves the other's interrupt. */
START_TEST(test_devices)
{
    static const struct virtio_class class = {
        .name = "test", .device_id = 42, .nqueues = 1, .queue_max = 8, .notify = nothing
    };
    struct virtio_device device[2];
    struct virtio_mmio mmio[2];
    struct dma dma[2];
    uint32_t ack = VIRTIO_INTERRUPT_CONFIG, reset = 0;

    bus_init(&vm.mmio, ~0ull);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(dma_create(&dma[i], &vm.memory, NULL, 0), 0);
        virtio_device_init(&device[i], &class, NULL, &dma[i]);
        ck_assert_int_eq(virtio_mmio_create(&mmio[i], &device[i], &vm, i * VIRTIO_MMIO_BYTES, 20),
                         0);
        device[i].state.status = VIRTIO_DRIVER_OK;
        dma_lock(&dma[i]);
        virtio_device_config_changed(&device[i]);
        dma_unlock(&dma[i]);
        ck_assert(line[20]);
    }
    bus_write(&vm.mmio, NULL, 0x64, &ack, 4, 1);
    ck_assert(line[20]);
    bus_write(&vm.mmio, NULL, VIRTIO_MMIO_BYTES + 0x70, &reset, 4, 1);
    ck_assert(!line[20]);
    for (unsigned i = 0; i < 2; i++)
        dma_destroy(&dma[i]);
}
END_TEST

Suite *irq_suite(void)
{
    Suite *suite = suite_create("irq");
    TCase *tc = tcase_create("irq");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, test_alloc);
    tcase_add_test(tc, test_shared);
    tcase_add_test(tc, test_calls);
    tcase_add_test(tc, test_devices);
    suite_add_tcase(suite, tc);
    return suite;
}
