/*
 * libFuzzer: a hostile driver of virtio-iommu. The input is a program of requests, well
 * and badly formed, of raw writes to the rings and registers, and of DMA by the endpoints
 * behind the device. After each step: nothing is mapped beyond the quotas, outside of RAM,
 * outside of the input range or over a reserved region, and an endpoint reaches exactly
 * what the IOMMU says is mapped for it, at the right place in memory.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/virtio/iommu.h"
#include "guest/abi/machine.h"
#include "tests/unit/ring.h"
#include "vmm/machine/memory.h"

#define RAM_BYTES    (4ull << 20)
#define PAGE         4096ull
#define STEPS_MAX    256
#define ENDPOINTS    3
#define DOMAINS_MAX  2
#define MAPPINGS_MAX 24
#define OF_DOMAIN    16
#define INPUT_FIRST  0x4000ull
#define INPUT_LAST   0xffffffffull
#define RING_SIZE    8
#define REQUESTS_GPA 0x1000ull
#define EVENTS_GPA   0x2000ull
#define BUFFER_GPA   0x3000ull /* requests and answers, and event buffers */
#define FEATURES     (1ull << VIRTIO_F_VERSION_1 | 0x67)

struct list {
    unsigned n;
    bool bypass;
    struct iommu_mapping mapping[MAPPINGS_MAX];
};

struct input {
    const uint8_t *bytes;
    size_t left;
};

static struct memory memory;
static uint8_t *ram;
static struct iommu *iommu;
static struct dma handle, endpoints[ENDPOINTS];
static struct virtio_iommu *device;
static struct ring requests, events;

static const struct iommu_reserved reserved = { .range = { 0x20000, 0x23fff } }; /* of endpoint 1 */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static uint64_t take(struct input *input, unsigned bytes)
{
    uint64_t value = 0;

    if (bytes > input->left)
        bytes = (unsigned)input->left;
    memcpy(&value, input->bytes, bytes);
    input->bytes += bytes;
    input->left -= bytes;
    return value;
}

static void create(void)
{
    const struct iommu_config config = { .input = { INPUT_FIRST, INPUT_LAST },
                                         .domains = { 1, 6 },
                                         .domains_max = DOMAINS_MAX,
                                         .mappings_max = MAPPINGS_MAX,
                                         .mappings_of_domain_max = OF_DOMAIN,
                                         .faults_max = 4 };

    must(!memory_create(&memory, -1, RAM_BYTES, MEMORY_4K));
    ram = memory_at(&memory, 0, RAM_BYTES);
    must(!iommu_create(&iommu, &memory, &config));
    must(!dma_create(&handle, &memory, NULL, 0));
    for (unsigned i = 0; i < ENDPOINTS; i++)
        must(!dma_create(&endpoints[i], &memory, iommu, i));
    must(!iommu_add_reserved(iommu, 1, &reserved));
    must(!virtio_iommu_create(&device, &(struct viommu_config){ .dma = &handle, .iommu = iommu }));
}

static void destroy(void)
{
    virtio_iommu_destroy(device);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        dma_destroy(&endpoints[i]);
    iommu_destroy(iommu);
    dma_destroy(&handle);
    memory_destroy(&memory);
}

static void start(uint64_t features)
{
    if (!ring_negotiate(&device->device, features))
        return;
    ring_setup(&requests, &device->device, 0, ram, REQUESTS_GPA, RING_SIZE);
    ring_setup(&events, &device->device, 1, ram, EVENTS_GPA, RING_SIZE);
    ring_driver_ok(&device->device);
}

/* Sends `len` bytes in one to three pieces, with room for `writable` of an answer. */
static void send(const uint8_t *bytes, uint32_t len, uint32_t writable, unsigned cut)
{
    struct ring_segment segments[4];
    unsigned n = 0;
    uint32_t first = len ? cut % len : 0;

    memcpy(ram + BUFFER_GPA, bytes, len);
    if (first)
        segments[n++] = (struct ring_segment){ BUFFER_GPA, first, false };
    if (len)
        segments[n++] = (struct ring_segment){ BUFFER_GPA + first, len - first, false };
    if (writable > 1)
        segments[n++] = (struct ring_segment){ BUFFER_GPA + 0x400, 1, true };
    if (writable)
        segments[n++] = (struct ring_segment){ BUFFER_GPA + 0x500, writable - (writable > 1),
                                               true };
    if (!n)
        return;
    ring_add(&requests, segments, n);
    ring_kick(&requests);
}

/* A request whose fields are likely to mean something. */
static void plausible(struct input *input)
{
    uint8_t type = (uint8_t)(1 + take(input, 1) % 5);
    uint32_t domain = (uint32_t)take(input, 1) % 4, endpoint = (uint32_t)take(input, 1) % 4;
    uint64_t first = take(input, 1) % 64 * PAGE, pages = take(input, 1) % 20;
    uint64_t last = first + pages * PAGE - 1, gpa = take(input, 2) % (RAM_BYTES / PAGE + 8) * PAGE;
    uint32_t flags = (uint32_t)take(input, 1) % 8;
    uint8_t bytes[72] = { type };

    memcpy(bytes + 4, type == 5 ? &endpoint : &domain, 4);
    switch (type) {
    case 1: memcpy(bytes + 12, &flags, 4); /* fall through */
    case 2: memcpy(bytes + 8, &endpoint, 4); break;
    case 3: memcpy(bytes + 24, &gpa, 8); memcpy(bytes + 32, &flags, 4); /* fall through */
    case 4:
        memcpy(bytes + 8, &first, 8);
        memcpy(bytes + 16, &last, 8);
        break;
    default: break;
    }
    send(bytes, (const uint32_t[]){ 20, 20, 36, 28, 72 }[type - 1], type == 5 ? 388 : 4, pages);
}

static void raw(struct input *input)
{
    uint8_t bytes[256];
    uint32_t len = (uint32_t)take(input, 1), writable = (uint32_t)take(input, 2) % 0x200;
    unsigned cut = (unsigned)take(input, 1);

    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)take(input, 1);
    send(bytes, len, writable, cut);
}

/* Anything anywhere in the rings and buffers. */
static void scribble(struct input *input)
{
    uint64_t at = REQUESTS_GPA + take(input, 2) % 0x2800, value = take(input, 8);
    unsigned queue = (unsigned)take(input, 1);

    memcpy(ram + at, &value, 8);
    ring_set_register(&device->device, VIRTIO_MMIO_QUEUE_NOTIFY, queue % 3);
}

static void poke(struct input *input)
{
    uint64_t offset = take(input, 2) % 0x140;
    unsigned size = 1u << take(input, 1) % 4;
    uint64_t value = take(input, 8) & (~0ull >> (64 - 8 * size));

    ring_write(&device->device, offset, size, value);
    ring_register(&device->device, offset, size);
}

static void offer_event(struct input *input)
{
    struct ring_segment segment = { BUFFER_GPA + 0x800, 1 + (uint32_t)take(input, 1) % 32, true };

    ring_add(&events, &segment, 1);
    ring_kick(&events);
}

static void collect(void *owner, const struct iommu_mapping *mapping)
{
    struct list *list = owner;

    must(list->n < OF_DOMAIN);
    list->mapping[list->n++] = *mapping;
}

/* Translates one byte: where it lies in RAM, or -1. */
static int64_t reach(struct dma *dma, uint64_t iova, enum dma_direction direction)
{
    struct iovec piece;
    int64_t at = -1;
    int n;

    dma_lock(dma);
    n = dma_translate(dma, iova, 1, direction, &piece, 1);
    if (n > 0) {
        must(n == 1 && piece.iov_len == 1);
        at = (uint8_t *)piece.iov_base - ram;
        must(at >= 0 && (uint64_t)at < RAM_BYTES);
    }
    dma_unlock(dma);
    return at;
}

/* What the IOMMU says of an address, against what the endpoint finds there. */
static void compare(unsigned endpoint, const struct list *list, uint64_t iova)
{
    for (enum dma_direction direction = DMA_READ; direction <= DMA_WRITE; direction++) {
        int64_t want = list->bypass && iova < RAM_BYTES ? (int64_t)iova : -1;

        for (unsigned i = 0; i < list->n; i++) {
            const struct iommu_mapping *mapping = &list->mapping[i];

            if (iova >= mapping->iova.first && iova <= mapping->iova.last &&
                mapping->prot & direction)
                want = (int64_t)(mapping->gpa + (iova - mapping->iova.first));
        }
        must(reach(&endpoints[endpoint], iova, direction) == want);
    }
}

static void check_endpoint(unsigned endpoint, struct input *input)
{
    struct list list = { .n = 0 };

    must(!iommu_each_mapping(iommu, endpoint, &list.bypass, collect, &list));
    must(!list.n || !list.bypass);
    for (unsigned i = 0; i < list.n; i++) {
        const struct iommu_mapping *mapping = &list.mapping[i];
        uint64_t bytes = mapping->iova.last - mapping->iova.first + 1;

        must(mapping->iova.first <= mapping->iova.last);
        must(mapping->iova.first % PAGE == 0 && bytes % PAGE == 0 && mapping->gpa % PAGE == 0);
        must(mapping->iova.first >= INPUT_FIRST && mapping->iova.last <= INPUT_LAST);
        must(!i || list.mapping[i - 1].iova.last < mapping->iova.first);
        must(mapping->gpa < RAM_BYTES && bytes <= RAM_BYTES - mapping->gpa);
        must(mapping->iova.last < IOMMU_MSI_FIRST || mapping->iova.first > IOMMU_MSI_LAST);
        must(endpoint != 1 || mapping->iova.last < reserved.range.first ||
             mapping->iova.first > reserved.range.last);
        must(iommu_pinned(iommu, mapping->gpa, bytes));
        compare(endpoint, &list, mapping->iova.first);
        compare(endpoint, &list, mapping->iova.last);
        compare(endpoint, &list, mapping->iova.last + 1);
        compare(endpoint, &list, mapping->iova.first - 1);
    }
    compare(endpoint, &list, take(input, 1) * PAGE);
}

static void check(struct input *input)
{
    struct iommu_counts counts;

    iommu_count(iommu, &counts);
    must(counts.domains <= DOMAINS_MAX && counts.mappings <= MAPPINGS_MAX);
    must(counts.pinned_pages <= RAM_BYTES / PAGE);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        check_endpoint(i, input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };

    create();
    start(FEATURES);
    for (unsigned i = 0; i < STEPS_MAX && input.left; i++) {
        switch (take(&input, 1) % 8) {
        case 0: raw(&input); break;
        case 1: scribble(&input); break;
        case 2: poke(&input); break;
        case 3: offer_event(&input); break;
        case 4:
            start(take(&input, 1) & 1 ? FEATURES : take(&input, 8) | 1ull << VIRTIO_F_VERSION_1);
            break;
        default: plausible(&input); break;
        }
        check(&input);
    }
    destroy();
    return 0;
}
