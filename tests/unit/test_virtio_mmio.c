/* devices/core/virtio_mmio: the transport as a driver sees it, rules of the specification. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/unit/ring.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES  (1ull << 20)
#define RING       0x1000ull
#define DATA       0x10000ull
#define QUEUE_MAX  16
#define FEATURE(n) (1ull << (n))
#define OWN        FEATURE(5)
#define VERSION_1  FEATURE(VIRTIO_F_VERSION_1)
#define RULES      (VERSION_1 | FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_RING_F_INDIRECT_DESC))
#define READY      (VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK)

/* A device that gives every chain back, and remembers what it was told. */
struct echo {
    struct virtio_device device;
    unsigned notified, resets, starts, stops, deferred;
    uint64_t features;
    uint64_t config;
    unsigned again; /* so many times */
};

static struct memory memory;
static struct dma dma;
static struct echo echo;
static struct ring ring;

static void notify(void *owner, unsigned index)
{
    struct echo *to = owner;
    static struct virtqueue_chain chain;
    int taken;

    to->notified++;
    while ((taken = virtqueue_pop(&to->device.queues[index], &chain)) > 0)
        ck_assert_int_eq(virtqueue_push(&to->device.queues[index], chain.head, 1), 0);
    if (taken < 0)
        virtio_device_set_needs_reset(&to->device, to->device.queues[index].broken);
    virtio_device_notify_used(&to->device, index);
    if (to->again && to->again--)
        virtio_device_set_pending(&to->device, index);
}

static void on_reset(void *owner)
{
    ((struct echo *)owner)->resets++;
}

static void on_start(void *owner, uint64_t features)
{
    ((struct echo *)owner)->starts++;
    ((struct echo *)owner)->features = features;
}

static void on_stop(void *owner, unsigned queue)
{
    ((struct echo *)owner)->stops += 1 + queue;
}

static void on_deferred_work(void *owner, struct vm_thread *self)
{
    (void)self;
    ((struct echo *)owner)->deferred++;
}

static uint64_t config_read(void *owner, uint32_t offset, unsigned size)
{
    uint64_t value = 0;

    memcpy(&value, (uint8_t *)&((struct echo *)owner)->config + offset, size);
    return value;
}

static void config_write(void *owner, uint32_t offset, unsigned size, uint64_t value)
{
    memcpy((uint8_t *)&((struct echo *)owner)->config + offset, &value, size);
}

static const struct virtio_class class = { .name = "echo",
                                           .device_id = 42,
                                           .features = OWN,
                                           .nqueues = 2,
                                           .queue_max = QUEUE_MAX,
                                           .config_bytes = 8,
                                           .notify = notify,
                                           .reset = on_reset,
                                           .start = on_start,
                                           .stop = on_stop,
                                           .deferred_work = on_deferred_work,
                                           .config_read = config_read,
                                           .config_write = config_write };

static struct virtio_mmio *mmio(void)
{
    return ring_mmio(&echo.device);
}

static uint32_t reg(uint32_t offset)
{
    return (uint32_t)ring_register(&echo.device, offset, 4);
}

static void set(uint32_t offset, uint32_t value)
{
    ring_set_register(&echo.device, offset, value);
}

static void setup(void)
{
    ck_assert_int_eq(memory_create(&memory, -1, RAM_BYTES, MEMORY_4K), 0);
    ck_assert_int_eq(dma_create(&dma, &memory, NULL, 0), 0);
    echo = (struct echo){ .config = 0x8877665544332211 };
    virtio_device_init(&echo.device, &class, &echo, &dma);
}

static void teardown(void)
{
    dma_destroy(&dma);
    memory_destroy(&memory);
}

/* A driver that does all as it should, with these features. */
static void drive(uint64_t features)
{
    ck_assert(ring_negotiate(&echo.device, features));
    ring_setup(&ring, &echo.device, 0, memory_at(&memory, 0, RAM_BYTES), RING, QUEUE_MAX);
    ring_driver_ok(&echo.device);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), READY);
}

static void offer(unsigned count)
{
    while (count--)
        ring_add(&ring, &(struct ring_segment){ DATA, 8, true }, 1);
}

START_TEST(test_identity)
{
    ck_assert_uint_eq(reg(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_VERSION), 2);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_DEVICE_ID), 42);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_VENDOR_ID), 0x41525453);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), 0);
    ck_assert_uint_eq(ring_features(&echo.device), RULES | OWN);
    set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_DEVICE_FEATURES), 0);
    ck_assert_uint_eq(echo.device.bad_accesses, 0);
}
END_TEST

/* What 4.2.2 says of registers behind features that are not offered. */
START_TEST(test_absent)
{
    for (uint32_t id = 0; id < 2; id++) {
        set(VIRTIO_MMIO_SHM_SEL, id);
        ck_assert_uint_eq(reg(VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff);
        ck_assert_uint_eq(reg(VIRTIO_MMIO_SHM_LEN_HIGH), 0xffffffff);
        ck_assert_uint_eq(reg(VIRTIO_MMIO_SHM_BASE_LOW), 0xffffffff);
        ck_assert_uint_eq(reg(VIRTIO_MMIO_SHM_BASE_HIGH), 0xffffffff);
    }
    drive(RULES);
    set(0x0c0, 1); /* QueueReset */
    ck_assert_uint_eq(reg(0x0c0), 0);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_READY), 1);
}
END_TEST

START_TEST(test_negotiation)
{
    static const struct {
        uint64_t features;
        bool accepted;
    } cases[] = {
        { RULES, true },
        { VERSION_1, true },
        { VERSION_1 | OWN, true },
        { RULES & ~VERSION_1, false },
        { 0, false },
        { VERSION_1 | FEATURE(6), false },
        { VERSION_1 | FEATURE(VIRTIO_F_ACCESS_PLATFORM), false }, /* there is no IOMMU */
        { VERSION_1 | FEATURE(63), false },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ck_assert_msg(ring_negotiate(&echo.device, cases[i].features) == cases[i].accepted,
                      "features 0x%llx", (unsigned long long)cases[i].features);
        ck_assert(virtio_device_has_feature(&echo.device, VIRTIO_F_VERSION_1) == cases[i].accepted);
        ring_driver_ok(&echo.device);
        ck_assert(!(reg(VIRTIO_MMIO_STATUS) & VIRTIO_DRIVER_OK) == !cases[i].accepted);
        ck_assert_uint_eq(echo.starts, cases[i].accepted);
        if (cases[i].accepted)
            ck_assert_uint_eq(echo.features, cases[i].features);
        echo.starts = 0;
    }
    /* A bit beyond 63 is not offered either: counted. */
    ck_assert(ring_negotiate(&echo.device, VERSION_1));
}
END_TEST

/* Behind an IOMMU the platform's way of access is offered, and must be taken (6.2). */
START_TEST(test_access_platform)
{
    dma.iommu = (struct iommu *)&echo; /* only looked at */
    ck_assert_uint_eq(ring_features(&echo.device), RULES | OWN | FEATURE(VIRTIO_F_ACCESS_PLATFORM));
    ck_assert(!ring_negotiate(&echo.device, RULES));
    ck_assert(ring_negotiate(&echo.device, RULES | FEATURE(VIRTIO_F_ACCESS_PLATFORM)));
    dma.iommu = NULL;
}
END_TEST

START_TEST(test_status)
{
    /* Not before DRIVER, and DRIVER_OK not before FEATURES_OK. */
    set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
    set(VIRTIO_MMIO_DRIVER_FEATURES, 1);
    set(VIRTIO_MMIO_STATUS, VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), 0);
    ck_assert_uint_eq(echo.starts, 0);
    ck_assert_uint_gt(echo.device.bad_accesses, 0);
    /* All in one go is unusual, and in order. */
    set(VIRTIO_MMIO_STATUS, READY);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), READY);
    ck_assert_uint_eq(echo.starts, 1);
    /* No bit can be cleared but all at once; NEEDS_RESET and unknown ones cannot be set. */
    set(VIRTIO_MMIO_STATUS, VIRTIO_ACKNOWLEDGE | 16 | 32 | VIRTIO_NEEDS_RESET);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), READY);
    set(VIRTIO_MMIO_STATUS, READY | VIRTIO_FAILED);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), READY | VIRTIO_FAILED);
    ck_assert_uint_eq(echo.starts, 1);
    set(VIRTIO_MMIO_STATUS, 0);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), 0);
    ck_assert_uint_eq(echo.resets, 1);
    /* The features are forgotten, too. */
    set(VIRTIO_MMIO_STATUS, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
}
END_TEST

START_TEST(test_features_are_final)
{
    drive(VERSION_1);
    set(VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
    set(VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)OWN);
    ck_assert(!virtio_device_has_feature(&echo.device, 5));
    ck_assert_uint_eq(echo.device.bad_accesses, 1);
}
END_TEST

START_TEST(test_queue_registers)
{
    /* Not before the features are settled (3.1.1). */
    set(VIRTIO_MMIO_QUEUE_SEL, 0);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_NUM_MAX), QUEUE_MAX);
    set(VIRTIO_MMIO_QUEUE_READY, 1);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_READY), 0);
    drive(RULES);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_READY), 1);

    /* Not while it is ready. */
    set(VIRTIO_MMIO_QUEUE_DESC_LOW, 0x7000);
    set(VIRTIO_MMIO_QUEUE_NUM, 2);
    ck_assert_uint_eq(echo.device.queues[0].state.descriptors, RING);
    ck_assert_uint_eq(echo.device.queues[0].state.size, QUEUE_MAX);

    /* Sizes that cannot be leave it not ready. */
    for (uint32_t size = 0; size <= 2 * QUEUE_MAX; size++) {
        bool good = size && size <= QUEUE_MAX && !(size & (size - 1));

        set(VIRTIO_MMIO_QUEUE_SEL, 1);
        set(VIRTIO_MMIO_QUEUE_NUM, size);
        set(VIRTIO_MMIO_QUEUE_READY, 1);
        ck_assert_msg(reg(VIRTIO_MMIO_QUEUE_READY) == good, "size %u", size);
        set(VIRTIO_MMIO_QUEUE_READY, 0);
    }
    set(VIRTIO_MMIO_QUEUE_NUM, 0x10000 | QUEUE_MAX);
    set(VIRTIO_MMIO_QUEUE_READY, 1);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_READY), 0);

    /* A queue that does not exist. */
    set(VIRTIO_MMIO_QUEUE_SEL, 2);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    set(VIRTIO_MMIO_QUEUE_NUM, 8);
    set(VIRTIO_MMIO_QUEUE_READY, 1);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_READY), 0);
    set(VIRTIO_MMIO_QUEUE_SEL, 0xffffffff);
    set(VIRTIO_MMIO_QUEUE_DESC_HIGH, 8);
}
END_TEST

START_TEST(test_addresses)
{
    static const uint32_t low[] = { VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
                                    VIRTIO_MMIO_QUEUE_USED_LOW };
    const struct virtqueue_state *state = &echo.device.queues[1].state;
    const uint64_t *parts[] = { &state->descriptors, &state->driver, &state->device };

    ck_assert(ring_negotiate(&echo.device, RULES));
    set(VIRTIO_MMIO_QUEUE_SEL, 1);
    for (unsigned i = 0; i < 3; i++) {
        set(low[i], 0xaaaaaaaa);
        set(low[i] + 4, 0x12345678);
        ck_assert_uint_eq(*parts[i], 0x12345678aaaaaaaa);
        set(low[i], 0xbbbbbbbb);
        ck_assert_uint_eq(*parts[i], 0x12345678bbbbbbbb);
    }
}
END_TEST

START_TEST(test_notify)
{
    uint32_t head, written;

    ck_assert(ring_negotiate(&echo.device, RULES));
    ring_setup(&ring, &echo.device, 0, memory_at(&memory, 0, RAM_BYTES), RING, QUEUE_MAX);
    offer(1);
    ring_driver_ok(&echo.device);
    ck_assert_uint_eq(echo.notified, 0);
    ring_kick(&ring);
    ck_assert_uint_eq(echo.notified, 1);
    ck_assert(ring_take(&ring, &head, &written));
    ck_assert_uint_eq(reg(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INTERRUPT_USED);
    ck_assert(mmio()->irq.level);

    /* The line falls when everything was acknowledged, and not before. */
    dma_lock(&dma);
    virtio_device_config_changed(&echo.device);
    dma_unlock(&dma);
    set(VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_INTERRUPT_USED);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INTERRUPT_CONFIG);
    ck_assert(mmio()->irq.level);
    set(VIRTIO_MMIO_INTERRUPT_ACK, 0xffffffff);
    ck_assert(!mmio()->irq.level);
    ck_assert_uint_eq(echo.device.interrupts, 2);

    uint64_t bad = echo.device.bad_accesses;

    set(VIRTIO_MMIO_QUEUE_NOTIFY, 1); /* not ready */
    set(VIRTIO_MMIO_QUEUE_NOTIFY, 2); /* no such queue */
    set(VIRTIO_MMIO_QUEUE_NOTIFY, 0x10000);
    ck_assert_uint_eq(echo.notified, 1);
    ck_assert_uint_eq(echo.device.bad_accesses, bad + 3);
    ck_assert_uint_eq(echo.device.kicks, 1);
}
END_TEST

/*
 * A transport is put where another one was, its interrupt line too. Control (_i = 1): with no
 * reason for it, the line stays low.
 */
START_TEST(test_restore)
{
    struct virtio_mmio_state state;
    bool level = !_i;

    drive(RULES);
    offer(1);
    ring_kick(&ring);
    set(VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
    set(VIRTIO_MMIO_QUEUE_SEL, 7);
    state = mmio()->state;
    set(VIRTIO_MMIO_STATUS, 0);
    ck_assert(!mmio()->irq.level);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_NUM_MAX), QUEUE_MAX);
    if (_i)
        state.interrupt_status = 0;
    dma_lock(&dma);
    virtio_mmio_restore(mmio(), &state);
    dma_unlock(&dma);
    ck_assert(mmio()->irq.level == level);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_INTERRUPT_STATUS), level ? VIRTIO_INTERRUPT_USED : 0);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_DEVICE_FEATURES), VERSION_1 >> 32);
    /* A line that is high falls, too. */
    dma_lock(&dma);
    virtio_mmio_restore(mmio(), &(struct virtio_mmio_state){ 0 });
    dma_unlock(&dma);
    ck_assert(!mmio()->irq.level);
}
END_TEST

/* A notification before DRIVER_OK is a mistake (3.1.1), but not lost; a reset forgets it. */
START_TEST(test_early)
{
    uint32_t head, written;

    for (unsigned resets = 0; resets < 2; resets++) {
        ck_assert(ring_negotiate(&echo.device, RULES));
        ring_setup(&ring, &echo.device, 0, memory_at(&memory, 0, RAM_BYTES), RING, QUEUE_MAX);
        offer(1);
        if (!resets)
            ring_kick(&ring);
        ck_assert_uint_eq(echo.notified, 0);
        ck_assert_uint_eq(echo.device.bad_accesses, 1);
        if (!resets)
            set(VIRTIO_MMIO_STATUS, 0);
    }
    ring_driver_ok(&echo.device);
    ck_assert_uint_eq(echo.notified, 0);

    ck_assert(ring_negotiate(&echo.device, RULES));
    ring_setup(&ring, &echo.device, 0, memory_at(&memory, 0, RAM_BYTES), RING, QUEUE_MAX);
    offer(1);
    ring_kick(&ring);
    ck_assert_uint_eq(echo.notified, 0);
    ring_driver_ok(&echo.device);
    ck_assert_uint_eq(echo.notified, 1);
    ck_assert(ring_take(&ring, &head, &written));
}
END_TEST

/* What a device left for later is done after the access, as often as it asks. */
START_TEST(test_again)
{
    drive(RULES);
    echo.again = 5;
    echo.deferred = 0;
    set(VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    ck_assert_uint_eq(echo.notified, 6);
    ck_assert_uint_eq(echo.deferred, 1);
    ck_assert_uint_eq(echo.device.kicks, 1);
    /* But not for a device that was reset in between. */
    echo.again = 1;
    mmio()->region.write(mmio(), NULL, VIRTIO_MMIO_QUEUE_NOTIFY, 4, 0);
    ring_set_register(&echo.device, VIRTIO_MMIO_STATUS, 0);
    mmio()->region.after_write(mmio(), NULL);
    ck_assert_uint_eq(echo.notified, 7);
}
END_TEST

/* DEVICE_NEEDS_RESET (2.1.2): told, nothing is taken any more, gone after a reset. */
START_TEST(test_needs_reset)
{
    uint32_t head, written;

    drive(RULES);
    ring_descriptor(&ring, 0)->flags = VRING_DESC_F_NEXT; /* a loop */
    ring_offer(&ring, 0);
    ring_kick(&ring);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), READY | VIRTIO_NEEDS_RESET);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_INTERRUPT_CONFIG);
    ck_assert_ptr_nonnull(echo.device.needs_reset);
    ck_assert_ptr_nonnull(strstr(echo.device.needs_reset, "loop"));
    ck_assert_uint_eq(echo.device.needed_resets, 1);

    ring_kick(&ring);
    ck_assert_uint_eq(echo.notified, 1);
    ck_assert(!ring_take(&ring, &head, &written));
    /* Stopping and starting a queue heals nothing. */
    set(VIRTIO_MMIO_QUEUE_SEL, 0);
    set(VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert_ptr_nonnull(echo.device.queues[0].broken);

    drive(RULES);
    ck_assert_ptr_null(echo.device.needs_reset);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    ck_assert(!mmio()->irq.level);
    offer(1);
    ring_kick(&ring);
    ck_assert(ring_take(&ring, &head, &written));
    ck_assert_ptr_nonnull(echo.device.last_needs_reset);
}
END_TEST

/* A queue that is stopped starts from the beginning (4.2.2.2). */
START_TEST(test_stop)
{
    uint32_t head, written;

    drive(RULES);
    offer(3);
    ring_kick(&ring);
    set(VIRTIO_MMIO_QUEUE_SEL, 0);
    set(VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert_uint_eq(echo.stops, 1);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_QUEUE_READY), 0);
    set(VIRTIO_MMIO_QUEUE_READY, 0);
    ck_assert_uint_eq(echo.stops, 1);
    offer(1);
    ring_kick(&ring);
    ck_assert_uint_eq(echo.notified, 1);
    ring_setup(&ring, &echo.device, 0, memory_at(&memory, 0, RAM_BYTES), RING, 4);
    offer(2);
    ring_kick(&ring);
    ck_assert(ring_take(&ring, &head, &written) && head == 0);
    ck_assert(ring_take(&ring, &head, &written) && head == 1);
}
END_TEST

START_TEST(test_config)
{
    uint32_t generation = reg(VIRTIO_MMIO_CONFIG_GENERATION);
    uint64_t bad = echo.device.bad_accesses;

    for (unsigned size = 1; size <= 8; size++)
        ck_assert_uint_eq(ring_register(&echo.device, VIRTIO_MMIO_CONFIG, size),
                          0x8877665544332211 & (~0ull >> (64 - 8 * size)));
    ck_assert_uint_eq(ring_register(&echo.device, VIRTIO_MMIO_CONFIG + 5, 3), 0x887766);
    mmio()->region.write(mmio(), NULL, VIRTIO_MMIO_CONFIG + 2, 2, 0xabcd);
    ck_assert_uint_eq(echo.config, 0x88776655abcd2211);
    ck_assert_uint_eq(echo.device.bad_accesses, bad);

    ck_assert_uint_eq(ring_register(&echo.device, VIRTIO_MMIO_CONFIG + 5, 4), 0);
    ck_assert_uint_eq(ring_register(&echo.device, VIRTIO_MMIO_CONFIG + 8, 1), 0);
    mmio()->region.write(mmio(), NULL, VIRTIO_MMIO_CONFIG + 7, 2, 0xffff);
    ck_assert_uint_eq(echo.config, 0x88776655abcd2211);
    ck_assert_uint_eq(echo.device.bad_accesses, bad + 3);

    ck_assert_uint_eq(reg(VIRTIO_MMIO_CONFIG_GENERATION), generation);
    dma_lock(&dma);
    virtio_device_config_changed(&echo.device);
    dma_unlock(&dma);
    ck_assert_uint_ne(reg(VIRTIO_MMIO_CONFIG_GENERATION), generation);
    /* No driver, no interrupt. */
    ck_assert_uint_eq(reg(VIRTIO_MMIO_INTERRUPT_STATUS), 0);
}
END_TEST

/* 4.2.2.2: 32 bits wide and aligned. Anything else reads 0, writes nothing and is counted. */
START_TEST(test_malformed)
{
    static const struct {
        uint32_t offset;
        unsigned size;
    } cases[] = { { 0, 1 },    { 0, 2 },    { 0, 8 },    { 1, 4 },    { 2, 4 },
                  { 3, 1 },    { 0x6e, 4 }, { 0xfe, 4 }, { 0x70, 1 }, { 0x70, 8 },
                  { 0x18, 4 }, { 0xf8, 4 }, { 0x14, 4 }, { 0x50, 4 }, { 0xffc, 4 } };

    drive(RULES);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t bad = echo.device.bad_accesses;

        ck_assert_uint_eq(ring_register(&echo.device, cases[i].offset, cases[i].size), 0);
        ck_assert_msg(echo.device.bad_accesses == bad + 1, "case %u", i);
    }
    /* Writes to what is read-only, or wide. */
    for (uint32_t offset = 0; offset < 0x10; offset += 4)
        set(offset, 0);
    mmio()->region.write(mmio(), NULL, VIRTIO_MMIO_STATUS, 1, 0);
    mmio()->region.write(mmio(), NULL, VIRTIO_MMIO_STATUS, 8, 0);
    mmio()->region.write(mmio(), NULL, VIRTIO_MMIO_STATUS - 2, 4, 0);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_STATUS), READY);
    ck_assert_uint_eq(reg(VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
}
END_TEST

Suite *virtio_mmio_suite(void)
{
    Suite *suite = suite_create("virtio_mmio");
    TCase *tc = tcase_create("virtio_mmio");

    tcase_set_timeout(tc, 10);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_identity);
    tcase_add_test(tc, test_absent);
    tcase_add_test(tc, test_negotiation);
    tcase_add_test(tc, test_access_platform);
    tcase_add_test(tc, test_status);
    tcase_add_test(tc, test_features_are_final);
    tcase_add_test(tc, test_queue_registers);
    tcase_add_test(tc, test_addresses);
    tcase_add_test(tc, test_notify);
    tcase_add_loop_test(tc, test_restore, 0, 2);
    tcase_add_test(tc, test_early);
    tcase_add_test(tc, test_again);
    tcase_add_test(tc, test_needs_reset);
    tcase_add_test(tc, test_stop);
    tcase_add_test(tc, test_config);
    tcase_add_test(tc, test_malformed);
    suite_add_tcase(suite, tc);
    return suite;
}
