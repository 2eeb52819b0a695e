/*
 * A rig for the conformance suites of virtio-iommu: the device over a small RAM, driven
 * by a driver of our own through real queues, and endpoints behind it that do DMA, so that
 * what a request promised can be seen to hold. Numbers are the specification's (virtio
 * 1.2, 5.13), written down here a second time on purpose.
 */
#ifndef STRATA_TESTS_VIOMMU_H
#define STRATA_TESTS_VIOMMU_H

#include "devices/virtio/iommu.h"
#include "guest/abi/machine.h"
#include "tests/unit/ring.h"
#include "vmm/machine/memory.h"

enum { ATTACH = 1, DETACH, MAP, UNMAP, PROBE };
enum { OK, IOERR, UNSUPP, DEVERR, INVAL, RANGE, NOENT, FAULT, NOMEM, NO_STATUS = 255 };
enum { F_INPUT_RANGE, F_DOMAIN_RANGE, F_MAP_UNMAP, F_BYPASS, F_PROBE, F_MMIO, F_BYPASS_CONFIG };
enum { READ = 1, WRITE = 2, MMIO = 4 };
enum { ATTACH_BYPASS = 1 };

#define VIOMMU_FEATURES                                                                            \
    (1ull << 32 | 1u << F_INPUT_RANGE | 1u << F_DOMAIN_RANGE | 1u << F_MAP_UNMAP | 1u << F_PROBE | \
     1u << F_MMIO | 1u << F_BYPASS_CONFIG)

/* Guest-physical layout: rings and requests low, what endpoints may reach from DATA on. */
#define RAM_BYTES   (8ull << 20)
#define REQUEST_GPA 0x10000ull
#define ANSWER_GPA  0x11000ull
#define EVENT_GPA   0x12000ull
#define DATA_GPA    0x100000ull
#define PAGE        0x1000ull

#define NENDPOINTS  3
#define ENDPOINT_A  7u
#define ENDPOINT_B  9u
#define ENDPOINT_C  0xabcdefu
#define NO_ENDPOINT 8u

/* Where endpoint B, and it alone, has a reserved region. */
#define RESERVED_FIRST 0x8000000ull
#define RESERVED_LAST  0x8003fffull

struct viommu {
    struct memory memory;
    uint8_t *ram;
    struct iommu *iommu;
    struct dma dma;
    struct dma endpoints[NENDPOINTS]; /* A, B, C */
    struct virtio_iommu *device;
    struct ring requests, events;
    uint32_t written; /* used length of the last request */
};

/* With the unit as given (NULL: as it is by default) and the driver not yet started. */
void viommu_create(struct viommu *viommu, const struct iommu_config *config);
void viommu_destroy(struct viommu *viommu);

/* The driver's start, from the device's reset to DRIVER_OK. */
void viommu_start(struct viommu *viommu, uint64_t features);

/* Config space, `size` bytes at `offset`. */
uint64_t viommu_config(struct viommu *viommu, uint32_t offset, unsigned size);
void viommu_set_config(struct viommu *viommu, uint32_t offset, unsigned size, uint64_t value);

/*
 * Sends one request and returns the first byte of the tail, which is at ANSWER_GPA + tail;
 * NO_STATUS where nothing was written. `writable` bytes have room.
 */
uint8_t viommu_send(struct viommu *viommu, const void *request, uint32_t len, uint32_t writable,
                    uint32_t tail);

uint8_t viommu_attach(struct viommu *viommu, uint32_t domain, uint32_t endpoint, uint32_t flags);
uint8_t viommu_detach(struct viommu *viommu, uint32_t domain, uint32_t endpoint);
uint8_t viommu_map(struct viommu *viommu, uint32_t domain, uint64_t first, uint64_t last,
                   uint64_t gpa, uint32_t flags);
uint8_t viommu_unmap(struct viommu *viommu, uint32_t domain, uint64_t first, uint64_t last);
/* The properties are then at ANSWER_GPA. */
uint8_t viommu_probe(struct viommu *viommu, uint32_t endpoint);

/* Whether the endpoint (0 A, 1 B, 2 C) can read, or write, 8 bytes at `iova`. */
bool viommu_reads(struct viommu *viommu, unsigned endpoint, uint64_t iova, uint64_t *value);
bool viommu_writes(struct viommu *viommu, unsigned endpoint, uint64_t iova, uint64_t value);
/* The 8 bytes of RAM at `gpa`. */
uint64_t viommu_ram(struct viommu *viommu, uint64_t gpa);
void viommu_set_ram(struct viommu *viommu, uint64_t gpa, uint64_t value);

/* A fault record as the driver finds it. */
struct viommu_event {
    uint8_t reason;
    uint8_t reserved[3];
    uint32_t flags, endpoint, reserved1;
    uint64_t address;
};

/* Gives the event queue `n` buffers of `bytes` and kicks. */
void viommu_offer_events(struct viommu *viommu, unsigned n, uint32_t bytes);
/* The next event and its used length; false: none. */
bool viommu_event(struct viommu *viommu, struct viommu_event *event, uint32_t *written);

#endif
