/*
 * The machine under attack, as the attacks see it: victims with canaries that only the
 * host knows, requests from every device's dma handle, and what came of each in memory.
 *
 * Everything here is called with the world stopped (harness_guest.h) unless it says otherwise.
 */
#ifndef STRATA_DMA_ENGINE_H
#define STRATA_DMA_ENGINE_H

#include <pthread.h>

#include "devices/iommu/dma_request.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/harness_guest.h"
#include "vmm/dma/rules.h"

#define HARNESS_FAULTS_MAX   64
#define HARNESS_BASELINE_MAX 64
#define HARNESS_PLACES_MAX   (ABI_POLICY_DEVICES_MAX + 1)
#define HARNESS_ADDRESSES    (ABI_POLICY_DEVICES_MAX * ABI_POLICY_DEVICES_MAX + 2)
#define HARNESS_NOBODY       (~0u)                 /* owner of an address that is physical */
#define HARNESS_HIGH_IOVA    POLICY_ATTACKED_FIRST /* far from what drivers map */
#define HARNESS_CALL_MS      60000 /* a guest that has not answered by then is lost */

struct board;
struct vm;

/* Pages of the program, beyond those of the policy's regions. */
enum harness_page_use {
    HARNESS_PAGE_SECRET,   /* never mapped for any device */
    HARNESS_PAGE_SHARED,   /* a buffer, a callback pointer and a neighbour on one page */
    HARNESS_PAGE_SCRATCH,  /* for one attack at a time */
    HARNESS_PAGE_SCRATCH2, /* the same */
    HARNESS_PAGE_RING,     /* descriptor table and rings */
    HARNESS_PAGE_DATA,     /* what descriptors point at */
    HARNESS_PAGE_BLOCK,    /* a disk's data */
};

struct harness_page {
    uint64_t va, gpa;
    uint8_t *host;
    const uint8_t *expected_bytes; /* 4096 bytes that it must hold */
};

struct harness_baseline {
    struct iommu_range iova;
};

struct harness {
    const struct policy *policy;
    const struct harness_options *options;
    struct harness_result *result;
    struct vm *vm;
    struct board *board;
    const struct memory *memory;
    struct iommu *iommu; /* NULL: none */
    struct dma *dma[ABI_POLICY_DEVICES_MAX];
    struct harness_guest guest;
    uint64_t random;

    uint8_t *expected_bytes; /* of all test pages pages */
    struct harness_page test_pages[ABI_HARNESS_TEST_PAGES];
    unsigned first_page[ABI_POLICY_REGIONS_MAX]; /* of a region, in the test pages */
    unsigned first_use;                          /* page of enum harness_page_use 0 */
    uint64_t region_gpa[ABI_POLICY_REGIONS_MAX]; /* where the kernel put it; 0: nowhere */
    /* Where the guest said it mapped page k of the n-th use; 0: nowhere. */
    uint64_t iova[ABI_POLICY_DEVICES_MAX][ABI_POLICY_USES_MAX][RULES_REGION_PAGES];
    /* The kernel's own mappings of each device (rings, pools, identity windows). */
    struct harness_baseline baseline[ABI_POLICY_DEVICES_MAX][HARNESS_BASELINE_MAX];
    unsigned nbaseline[ABI_POLICY_DEVICES_MAX];
    /* Once per device: what its sweep read that it could recognise (bit n: test pages page n). */
    bool scanned[ABI_POLICY_DEVICES_MAX];
    uint64_t seen[ABI_POLICY_DEVICES_MAX][2];
    uint64_t swept[ABI_POLICY_DEVICES_MAX], answered[ABI_POLICY_DEVICES_MAX];

    struct matrix_cell boot[ABI_POLICY_DEVICES_MAX]; /* what pre-init got before drivers attach */

    struct matrix_cell guests_view[ABI_POLICY_DEVICES_MAX]; /* of one fault */
    struct matrix_cell unmapping[ABI_POLICY_DEVICES_MAX];   /* what measures_windows had to check */

    pthread_mutex_t faults_lock; /* what iommu_watch_faults saw */
    uint64_t nfaults;
    struct iommu_fault faults[HARNESS_FAULTS_MAX]; /* ring, nfaults % HARNESS_FAULTS_MAX is next */
};

/* ---- Random numbers, time, checks ------------------------------------------------ */

uint64_t harness_random(struct harness *harness);
void harness_random_fill(struct harness *harness, void *to, size_t bytes);

void harness_sleep_ms(unsigned ms);

/* One check of a cell; the text says what was expected and what observed. True: it held. */
bool harness_check(struct matrix_cell *cell, bool ok, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- Requests ------------------------------------------------------------------ */

enum harness_expect {
    HARNESS_EXPECT_ALLOW, /* the dma handle must let it through */
    HARNESS_EXPECT_DENY,  /* the dma handle must refuse it, with a record of the fault;
                  harness_attack takes it  for HARNESS_EXPECT_ANY where an address of the victim's
                  also means something else */
    HARNESS_EXPECT_ANY,   /* either; only memory tells */
};

struct harness_request {
    unsigned device;
    uint64_t iova, len; /* len at most ATTACK_PAGE_BYTES */
    bool translated, claims;
    uint32_t requester;
    enum harness_expect expect;
};

/* What is there and should not be known, or changed. */
struct harness_victim {
    const uint8_t *expected_bytes; /* len bytes */
    uint64_t len;
    uint8_t *place[HARNESS_PLACES_MAX]; /* where changes show */
    unsigned nplaces;
    uint64_t address[HARNESS_ADDRESSES]; /* where the device may try */
    uint32_t owner[HARNESS_ADDRESSES];   /* endpoint that the address is of */
    unsigned naddresses;
};

/* Reads: how many bytes of the expected bytes came out. */
uint64_t harness_read(struct harness *harness, struct matrix_cell *cell,
                      const struct harness_request *request, const uint8_t *expected_bytes);

/*
 * Writes the complement of the expected bytes: how many bytes of the victim's places changed. What
 * was changed is put back.
 */
uint64_t harness_write(struct harness *harness, struct matrix_cell *cell,
                       const struct harness_request *request, const struct harness_victim *victim);

/*
 * Both, at every address of the victim, into cell->observed: the best of them is added.
 * `wanted`: RULES_READ, RULES_WRITE. spoofed->claims: as the owner of each address.
 */
void harness_attack(struct harness *harness, struct matrix_cell *cell,
                    const struct harness_request *spoofed, const struct harness_victim *victim,
                    uint32_t wanted);

/* What was found out beforehand becomes part of a cell. */
void harness_merge(struct matrix_cell *cell, const struct matrix_cell *part);

/* The observed effect has its final form: it succeeded if anything got through. */
void harness_conclude(struct matrix_cell *cell);

void harness_victim_page(struct harness_victim *victim, struct harness_page *page);
/* Page k of a region as all devices that use it have it. */
void harness_victim_region(struct harness *harness, struct harness_victim *victim, unsigned region,
                           unsigned k);
void harness_victim_add(struct harness_victim *victim, uint64_t address, uint32_t owner);

/* Where the dma handle must lead by what the guest mapped and the policy says. */
enum harness_expect harness_expected(struct harness *harness, unsigned device, uint64_t iova);

/* Host memory behind an address of the device, by what the IOMMU says; NULL: none. */
uint8_t *harness_host(struct harness *harness, unsigned device, uint64_t iova, uint64_t len);

/* Where the device's domain has this page of RAM: false if nowhere, or everywhere. */
bool harness_iova_of(struct harness *harness, unsigned device, uint64_t gpa, uint64_t *iova);

/* Whether the IOMMU has anything at this address of the device. */
bool harness_mapped(struct harness *harness, unsigned device, uint64_t iova);

/* How many faults there were so far; the last one. From any thread. */
uint64_t harness_faults(struct harness *harness, struct iommu_fault *last);

#endif
