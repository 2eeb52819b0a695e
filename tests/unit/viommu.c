#include "tests/unit/viommu.h"

#include <check.h>
#include <string.h>

#define REQUESTS_GPA 0x1000ull
#define EVENTS_GPA   0x3000ull
#define RING_SIZE    16
#define EVENT_STRIDE 32

static void put(uint8_t *at, uint64_t value, unsigned size)
{
    memcpy(at, &value, size);
}

void viommu_create(struct viommu *viommu, const struct iommu_config *config)
{
    static const uint32_t ids[NENDPOINTS] = { ENDPOINT_A, ENDPOINT_B, ENDPOINT_C };
    const struct iommu_config none = { .boot_bypass = false };
    const struct iommu_reserved reserved = { .range = { RESERVED_FIRST, RESERVED_LAST },
                                             .kind = IOMMU_RESERVED };

    memset(viommu, 0, sizeof(*viommu));
    ck_assert_int_eq(memory_create(&viommu->memory, -1, RAM_BYTES, MEMORY_4K), 0);
    viommu->ram = memory_at(&viommu->memory, 0, RAM_BYTES);
    ck_assert_ptr_nonnull(viommu->ram);
    ck_assert_int_eq(iommu_create(&viommu->iommu, &viommu->memory, config ? config : &none), 0);
    ck_assert_int_eq(dma_create(&viommu->dma, &viommu->memory, NULL, 0), 0);
    for (unsigned i = 0; i < NENDPOINTS; i++)
        ck_assert_int_eq(dma_create(&viommu->endpoints[i], &viommu->memory, viommu->iommu, ids[i]),
                         0);
    ck_assert_int_eq(iommu_add_reserved(viommu->iommu, ENDPOINT_B, &reserved), 0);
    ck_assert_int_eq(
        virtio_iommu_create(&viommu->device,
                            &(struct viommu_config){ .dma = &viommu->dma, .iommu = viommu->iommu }),
        0);
}

void viommu_destroy(struct viommu *viommu)
{
    virtio_iommu_destroy(viommu->device);
    for (unsigned i = 0; i < NENDPOINTS; i++)
        dma_destroy(&viommu->endpoints[i]);
    iommu_destroy(viommu->iommu);
    dma_destroy(&viommu->dma);
    memory_destroy(&viommu->memory);
}

void viommu_start(struct viommu *viommu, uint64_t features)
{
    ck_assert(ring_negotiate(&viommu->device->device, features));
    ring_setup(&viommu->requests, &viommu->device->device, 0, viommu->ram, REQUESTS_GPA, RING_SIZE);
    ring_setup(&viommu->events, &viommu->device->device, 1, viommu->ram, EVENTS_GPA, RING_SIZE);
    ring_driver_ok(&viommu->device->device);
    ck_assert_uint_eq(ring_status(&viommu->device->device) & VIRTIO_NEEDS_RESET, 0);
}

uint64_t viommu_config(struct viommu *viommu, uint32_t offset, unsigned size)
{
    return ring_register(&viommu->device->device, VIRTIO_MMIO_CONFIG + offset, size);
}

void viommu_set_config(struct viommu *viommu, uint32_t offset, unsigned size, uint64_t value)
{
    ring_write(&viommu->device->device, VIRTIO_MMIO_CONFIG + offset, size, value);
}

uint8_t viommu_send(struct viommu *viommu, const void *request, uint32_t len, uint32_t writable,
                    uint32_t tail)
{
    const struct ring_segment segments[] = { { REQUEST_GPA, len, false },
                                             { ANSWER_GPA, writable, true } };
    uint32_t head, used;

    memcpy(viommu->ram + REQUEST_GPA, request, len);
    memset(viommu->ram + ANSWER_GPA, 0xee, PAGE);
    head = ring_add(&viommu->requests, segments, writable ? 2 : 1);
    ring_kick(&viommu->requests);
    ck_assert(ring_take(&viommu->requests, &used, &viommu->written));
    ck_assert_uint_eq(used, head);
    /* What was not said to be written was not written. */
    for (uint64_t i = viommu->written; i < PAGE; i++)
        ck_assert_uint_eq(viommu->ram[ANSWER_GPA + i], 0xee);
    return viommu->written ? viommu->ram[ANSWER_GPA + tail] : NO_STATUS;
}

uint8_t viommu_attach(struct viommu *viommu, uint32_t domain, uint32_t endpoint, uint32_t flags)
{
    uint8_t request[20] = { ATTACH };

    put(request + 4, domain, 4);
    put(request + 8, endpoint, 4);
    put(request + 12, flags, 4);
    return viommu_send(viommu, request, sizeof(request), 4, 0);
}

uint8_t viommu_detach(struct viommu *viommu, uint32_t domain, uint32_t endpoint)
{
    uint8_t request[20] = { DETACH };

    put(request + 4, domain, 4);
    put(request + 8, endpoint, 4);
    return viommu_send(viommu, request, sizeof(request), 4, 0);
}

uint8_t viommu_map(struct viommu *viommu, uint32_t domain, uint64_t first, uint64_t last,
                   uint64_t gpa, uint32_t flags)
{
    uint8_t request[36] = { MAP };

    put(request + 4, domain, 4);
    put(request + 8, first, 8);
    put(request + 16, last, 8);
    put(request + 24, gpa, 8);
    put(request + 32, flags, 4);
    return viommu_send(viommu, request, sizeof(request), 4, 0);
}

uint8_t viommu_unmap(struct viommu *viommu, uint32_t domain, uint64_t first, uint64_t last)
{
    uint8_t request[28] = { UNMAP };

    put(request + 4, domain, 4);
    put(request + 8, first, 8);
    put(request + 16, last, 8);
    return viommu_send(viommu, request, sizeof(request), 4, 0);
}

uint8_t viommu_probe(struct viommu *viommu, uint32_t endpoint)
{
    uint32_t properties = (uint32_t)viommu_config(viommu, 32, 4);
    uint8_t request[72] = { PROBE };

    put(request + 4, endpoint, 4);
    return viommu_send(viommu, request, sizeof(request), properties + 4, properties);
}

bool viommu_reads(struct viommu *viommu, unsigned endpoint, uint64_t iova, uint64_t *value)
{
    struct dma *dma = &viommu->endpoints[endpoint];
    uint64_t ignored;
    int err;

    dma_lock(dma);
    err = dma_read(dma, iova, value ? value : &ignored, 8);
    dma_unlock(dma);
    return !err;
}

bool viommu_writes(struct viommu *viommu, unsigned endpoint, uint64_t iova, uint64_t value)
{
    struct dma *dma = &viommu->endpoints[endpoint];
    int err;

    dma_lock(dma);
    err = dma_write(dma, iova, &value, 8);
    dma_unlock(dma);
    return !err;
}

uint64_t viommu_ram(struct viommu *viommu, uint64_t gpa)
{
    uint64_t value;

    memcpy(&value, viommu->ram + gpa, 8);
    return value;
}

void viommu_set_ram(struct viommu *viommu, uint64_t gpa, uint64_t value)
{
    memcpy(viommu->ram + gpa, &value, 8);
}

void viommu_offer_events(struct viommu *viommu, unsigned n, uint32_t bytes)
{
    while (n--) {
        struct ring_segment segment = { EVENT_GPA + (uint64_t)viommu->events.free * EVENT_STRIDE,
                                        bytes, true };

        memset(viommu->ram + segment.iova, 0xee, EVENT_STRIDE);
        ring_add(&viommu->events, &segment, 1);
    }
    ring_kick(&viommu->events);
}

bool viommu_event(struct viommu *viommu, struct viommu_event *event, uint32_t *written)
{
    uint32_t head, len;

    if (!ring_take(&viommu->events, &head, written ? written : &len))
        return false;
    memcpy(event, viommu->ram + EVENT_GPA + (uint64_t)head * EVENT_STRIDE, sizeof(*event));
    return true;
}
