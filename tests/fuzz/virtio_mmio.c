/*
 * libFuzzer: register accesses of every kind, in any order, on an entropy device and a
 * console whose rings lie in memory that the input fills. Whatever a driver does, the
 * transport keeps its own rules (virtio 1.2, 2.1, 3.1 and 4.2).
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/virtio/console.h"
#include "devices/virtio/rng.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/memory.h"

#define PAGE          4096u
#define RAM_BYTES     (2 * PAGE)
#define TRANSMITS_MAX 4u /* each may send many times all of memory */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct access {
    uint8_t
        how; /* bit 0 write, 1 the console, 2 to 4 size - 1, 5 an odd offset, 6 set up, 7 input */
    uint8_t offset; /* in units of 4 bytes */
    uint8_t value[4];
};

static uint8_t *ram;
static struct memory memory;
static struct dma dmas[2];
static struct virtio_rng *rng;
static struct virtio_console *console;
static struct console sink;
static unsigned transmits;

static uint8_t *guarded_ram(void)
{
    uint8_t *at = mmap(NULL, RAM_BYTES + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED || mprotect(at + PAGE, RAM_BYTES, PROT_READ | PROT_WRITE))
        abort();
    return at + PAGE;
}

static void check(struct virtio_device *device)
{
    const struct virtio_mmio *mmio = ring_mmio(device);
    const uint64_t known = 1ull << VIRTIO_F_VERSION_1 | 3ull << 28;
    uint32_t status = device->state.status;

    CHECK(!(status & VIRTIO_DRIVER_OK) || status & VIRTIO_FEATURES_OK);
    CHECK(!(status & VIRTIO_FEATURES_OK) || status & VIRTIO_DRIVER);
    if (status & VIRTIO_FEATURES_OK) {
        CHECK(!(device->state.driver_features & ~known));
        CHECK(device->state.driver_features & 1ull << VIRTIO_F_VERSION_1);
    }
    CHECK(!(status & 48));
    CHECK(!!(status & VIRTIO_NEEDS_RESET) == !!device->needs_reset);
    CHECK(mmio->irq.level == (mmio->state.interrupt_status != 0));
    CHECK(!(mmio->state.interrupt_status & ~3u));
    CHECK(!mmio->state.interrupt_status || status & VIRTIO_DRIVER_OK);
    CHECK(!device->resetting);
    for (unsigned i = 0; i < device->class->nqueues; i++) {
        const struct virtqueue_state *state = &device->queues[i].state;

        if (!state->ready)
            continue;
        CHECK(status & VIRTIO_FEATURES_OK);
        CHECK(state->size && state->size <= device->queues[i].size_max);
        CHECK(!(state->size & (state->size - 1)));
        CHECK(state->descriptors % 16 == 0 && state->driver % 2 == 0 && state->device % 4 == 0);
    }
}

static void write_register(struct virtio_device *device, uint32_t offset, unsigned size,
                           uint64_t value)
{
    if (device == &console->device && offset == VIRTIO_MMIO_QUEUE_NOTIFY &&
        (uint32_t)value == VIRTIO_CONSOLE_TRANSMIT && transmits++ >= TRANSMITS_MAX)
        return;
    ring_write(device, offset, size, value);
    check(device);
}

/* What a driver does right, so that more than the first steps are reached. */
static void set_up(struct virtio_device *device, const uint8_t *value)
{
    write_register(device, VIRTIO_MMIO_STATUS, 4, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    write_register(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 4, 1);
    write_register(device, VIRTIO_MMIO_DRIVER_FEATURES, 4, 1);
    write_register(device, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 4, 0);
    write_register(device, VIRTIO_MMIO_DRIVER_FEATURES, 4, (value[0] & 3u) << 28);
    write_register(device, VIRTIO_MMIO_STATUS, 4, 0xb);
    for (uint32_t queue = 0; queue < device->class->nqueues; queue++) {
        write_register(device, VIRTIO_MMIO_QUEUE_SEL, 4, queue);
        write_register(device, VIRTIO_MMIO_QUEUE_NUM, 4, 1u << value[1] % 8);
        write_register(device, VIRTIO_MMIO_QUEUE_DESC_LOW, 4, value[2] * 32u);
        write_register(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 4, value[3] * 32u);
        write_register(device, VIRTIO_MMIO_QUEUE_USED_LOW, 4, PAGE + queue * 1024);
        write_register(device, VIRTIO_MMIO_QUEUE_READY, 4, 1);
    }
    write_register(device, VIRTIO_MMIO_STATUS, 4, 0xf);
}

static void carry_out(const struct access *access)
{
    struct virtio_device *device = access->how & 2 ? &console->device : &rng->device;
    uint32_t offset = access->offset * 4u + (access->how & 32 ? 1 + access->value[0] % 3 : 0);
    unsigned size = 1 + (access->how >> 2 & 7);
    uint64_t value = 0;

    memcpy(&value, access->value, sizeof(access->value));
    if (access->how & 64) {
        set_up(device, access->value);
    } else if (access->how & 128) {
        int64_t taken = virtio_console_input(console, access->value, sizeof(access->value));

        CHECK(taken == -11 || (taken >= 0 && taken <= (int64_t)sizeof(access->value)));
        check(&console->device);
    } else if (access->how & 1) {
        write_register(device, offset, size, value);
    } else {
        value = ring_register(device, offset, size);
        CHECK(size == 8 || value >> 8 * size == 0);
        check(device);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct rng_config rng_config = { .dma = &dmas[0] };
    const struct console_config console_config = { .dma = &dmas[1],
                                                   .out = &sink,
                                                   .input_ready_fd = -1 };
    size_t naccesses;

    if (!size)
        return -1;
    if (!ram)
        ram = guarded_ram();
    memset(ram, 0, RAM_BYTES);
    memory = (struct memory){ .vm_fd = -1, .bytes = RAM_BYTES, .nslots = 1 };
    memory.slots[0] = (struct memory_slot){ .bytes = RAM_BYTES, .hva = ram };
    for (unsigned i = 0; i < 2; i++) {
        if (dma_create(&dmas[i], &memory, NULL, i))
            abort();
    }
    console_init(&sink, -1);
    transmits = 0;
    if (virtio_rng_create(&rng, &rng_config) ||
        virtio_console_create(&console, &console_config, NULL, 0))
        abort();
    /* The first byte says how much of the input is accesses; the rest is memory. */
    naccesses = data[0] < size / sizeof(struct access) ? data[0] : size / sizeof(struct access);
    size_t image = 1 + naccesses * sizeof(struct access);

    if (image < size)
        memcpy(ram, data + image, size - image < RAM_BYTES ? size - image : RAM_BYTES);
    for (size_t i = 0; i < naccesses && 1 + (i + 1) * sizeof(struct access) <= size; i++) {
        struct access access;

        memcpy(&access, data + 1 + i * sizeof(access), sizeof(access));
        carry_out(&access);
    }
    virtio_console_destroy(console);
    virtio_rng_destroy(rng);
    for (unsigned i = 0; i < 2; i++)
        dma_destroy(&dmas[i]);
    return 0;
}
