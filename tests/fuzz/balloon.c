/*
 * libFuzzer: a driver of the balloon that breaks every rule, its rings and buffers anywhere in
 * RAM. Whatever it asks for: bounded work, nothing outside RAM, and a page that is mapped for
 * another device keeps its memory.
 */
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "devices/virtio/balloon.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/machine/memory.h"

#define PAGE      4096u
#define RAM_BYTES (64u * PAGE)
#define PINNED    (40u * PAGE)
#define OPS_MAX   48u
#define DOMAIN    1
#define ENDPOINT  3
#define QUEUES    5u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The head of an input; then what memory holds from address 0 on. */
struct plan {
    uint8_t features; /* of the device's own */
    uint8_t size_log2[QUEUES];
    uint8_t base[QUEUES]; /* of the rings, in units of 256 bytes */
    uint8_t ops[OPS_MAX]; /* a queue to kick, or what else there is to do */
};

static struct memory memory;
static struct iommu *iommu;
static struct dma dma, other;
static struct virtio_balloon *balloon;
static uint8_t *ram;

static void open_world(void)
{
    const struct iommu_config config = { 0 };

    if (memory_create(&memory, -1, RAM_BYTES, MEMORY_4K) ||
        iommu_create(&iommu, &memory, &config) || dma_create(&dma, &memory, NULL, 0) ||
        dma_create(&other, &memory, iommu, ENDPOINT) ||
        iommu_attach(iommu, ENDPOINT, DOMAIN, false) ||
        iommu_map(iommu, DOMAIN, 0, PAGE - 1, PINNED, IOMMU_READ))
        abort();
    ram = memory_at(&memory, 0, RAM_BYTES);
}

static void do_one(uint8_t op)
{
    switch (op % 16) {
    case 8: virtio_balloon_ask_stats(balloon); break;
    case 9: virtio_balloon_set_target(balloon, op); break;
    case 10: ring_set_register(&balloon->device, VIRTIO_MMIO_CONFIG + op / 16, op); break;
    case 11: ring_register(&balloon->device, VIRTIO_MMIO_CONFIG + op / 16, 1u << op / 64); break;
    case 12:
        ring_set_register(&balloon->device, VIRTIO_MMIO_QUEUE_SEL, op / 16);
        ring_set_register(&balloon->device, VIRTIO_MMIO_QUEUE_READY, 0);
        break;
    case 13: ring_set_register(&balloon->device, VIRTIO_MMIO_STATUS, 0); break;
    default: ring_set_register(&balloon->device, VIRTIO_MMIO_QUEUE_NOTIFY, op % 16 % QUEUES); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan plan;
    unsigned char there;

    if (size < sizeof(plan) || size - sizeof(plan) > RAM_BYTES)
        return -1;
    if (!ram)
        open_world();
    memcpy(&plan, data, sizeof(plan));
    memset(ram, 0, RAM_BYTES);
    if (virtio_balloon_create(&balloon, &(struct balloon_config){ .dma = &dma, .iommu = iommu }))
        abort();
    CHECK(ring_negotiate(&balloon->device, 1ull << VIRTIO_F_VERSION_1 |
                                               (uint64_t)(plan.features & 3) << 28 |
                                               (plan.features & 4 ? 1ull << 1 : 0) | 1ull << 5));
    fuzz_rings(&balloon->device, ram, QUEUES, plan.base, plan.size_log2, 8);
    memcpy(ram, data + sizeof(plan), size - sizeof(plan));
    for (unsigned i = 0; i < OPS_MAX; i++) {
        do_one(plan.ops[i]);
        CHECK(!mincore(ram + PINNED, PAGE, &there) && (there & 1));
    }
    virtio_balloon_destroy(balloon);
    return 0;
}
