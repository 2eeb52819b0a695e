/*
 * The machine under attack, as the attacks see it: victims with canaries that only the
 * host knows, requests from every device's dma handle, and what came of each in memory.
 *
 * Everything here is called with the world stopped (lab_guest.h) unless it says otherwise.
 */
#ifndef STRATA_DMA_ENGINE_H
#define STRATA_DMA_ENGINE_H

#include <pthread.h>

#include "devices/iommu/dma_request.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/lab_guest.h"
#include "vmm/dma/rules.h"

#define LAB_FAULTS_MAX   64
#define LAB_BASELINE_MAX 64
#define LAB_PLACES_MAX   (ABI_POLICY_DEVICES_MAX + 1)
#define LAB_ADDRESSES    (ABI_POLICY_DEVICES_MAX * ABI_POLICY_DEVICES_MAX + 2)
#define LAB_NOBODY       (~0u)                 /* owner of an address that is physical */
#define LAB_HIGH_IOVA    POLICY_ATTACKED_FIRST /* far from what drivers map */
#define LAB_CALL_MS      60000                 /* a guest that has not answered by then is lost */

struct board;
struct vm;

/* Pages of the program, beyond those of the policy's regions. */
enum lab_page_use {
    LAB_PAGE_SECRET,   /* never mapped for any device */
    LAB_PAGE_SHARED,   /* a buffer, a callback pointer and a neighbour on one page */
    LAB_PAGE_SCRATCH,  /* for one attack at a time */
    LAB_PAGE_SCRATCH2, /* the same */
    LAB_PAGE_RING,     /* descriptor table and rings */
    LAB_PAGE_DATA,     /* what descriptors point at */
    LAB_PAGE_BLOCK,    /* a disk's data */
};

struct lab_page {
    uint64_t va, gpa;
    uint8_t *host;
    const uint8_t *truth; /* 4096 bytes that it must hold */
};

struct lab_baseline {
    struct iommu_range iova;
};

struct lab {
    const struct policy *policy;
    const struct lab_options *options;
    struct lab_result *result;
    struct vm *vm;
    struct board *board;
    const struct memory *memory;
    struct iommu *iommu; /* NULL: none */
    struct dma *dma[ABI_POLICY_DEVICES_MAX];
    struct lab_guest guest;
    uint64_t random;

    uint8_t *truth; /* of all arena pages */
    struct lab_page arena[ABI_LAB_ARENA_PAGES];
    unsigned first_page[ABI_POLICY_REGIONS_MAX]; /* of a region, in the arena */
    unsigned first_use;                          /* page of enum lab_page_use 0 */
    uint64_t region_gpa[ABI_POLICY_REGIONS_MAX]; /* where the kernel put it; 0: nowhere */
    /* Where the guest said it mapped page k of the n-th use; 0: nowhere. */
    uint64_t iova[ABI_POLICY_DEVICES_MAX][ABI_POLICY_USES_MAX][RULES_REGION_PAGES];
    /* The kernel's own mappings of each device (rings, pools, holes). */
    struct lab_baseline baseline[ABI_POLICY_DEVICES_MAX][LAB_BASELINE_MAX];
    unsigned nbaseline[ABI_POLICY_DEVICES_MAX];
    /* Once per device: what its sweep read that it could recognise (bit n: arena page n). */
    bool scanned[ABI_POLICY_DEVICES_MAX];
    uint64_t seen[ABI_POLICY_DEVICES_MAX][2];
    uint64_t swept[ABI_POLICY_DEVICES_MAX], answered[ABI_POLICY_DEVICES_MAX];

    struct lab_cell boot[ABI_POLICY_DEVICES_MAX]; /* what pre-init got before drivers attach */

    struct lab_cell guests_view[ABI_POLICY_DEVICES_MAX]; /* of one fault */
    struct lab_cell unmapping[ABI_POLICY_DEVICES_MAX];   /* what measures_windows had to check */

    pthread_mutex_t faults_lock; /* what iommu_watch_faults saw */
    uint64_t nfaults;
    struct iommu_fault faults[LAB_FAULTS_MAX]; /* ring, nfaults % LAB_FAULTS_MAX is next */
};

/* ---- Random numbers, time, checks ------------------------------------------------ */

uint64_t lab_random(struct lab *lab);
void lab_random_fill(struct lab *lab, void *to, size_t bytes);

void lab_sleep_ms(unsigned ms);

/* One check of a cell; the text says what was expected and what observed. True: it held. */
bool lab_check(struct lab_cell *cell, bool ok, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- Requests ------------------------------------------------------------------ */

enum lab_gate {
    LAB_OPEN, /* the dma handle must let it through */
    LAB_SHUT, /* the dma handle must refuse it, with a record of the fault; lab_attack takes it
                 for LAB_ANY where an address of the victim's also means something else */
    LAB_ANY,  /* either; only memory tells */
};

struct lab_request {
    unsigned device;
    uint64_t iova, len; /* len at most ATTACK_PAGE_BYTES */
    bool translated, claims;
    uint32_t requester;
    enum lab_gate gate;
};

/* What is there and should not be known, or changed. */
struct lab_victim {
    const uint8_t *truth; /* len bytes */
    uint64_t len;
    uint8_t *place[LAB_PLACES_MAX]; /* where changes show */
    unsigned nplaces;
    uint64_t address[LAB_ADDRESSES]; /* where the device may try */
    uint32_t owner[LAB_ADDRESSES];   /* endpoint that the address is of */
    unsigned naddresses;
};

/* Reads: how many bytes of the truth came out. */
uint64_t lab_read(struct lab *lab, struct lab_cell *cell, const struct lab_request *request,
                  const uint8_t *truth);

/*
 * Writes the complement of the truth: how many bytes of the victim's places changed. What
 * was changed is put back.
 */
uint64_t lab_write(struct lab *lab, struct lab_cell *cell, const struct lab_request *request,
                   const struct lab_victim *victim);

/*
 * Both, at every address of the victim, into cell->observed: the best of them is added.
 * `wanted`: RULES_READ, RULES_WRITE. forged->claims: as the owner of each address.
 */
void lab_attack(struct lab *lab, struct lab_cell *cell, const struct lab_request *forged,
                const struct lab_victim *victim, uint32_t wanted);

/* What was found out beforehand becomes part of a cell. */
void lab_merge(struct lab_cell *cell, const struct lab_cell *part);

/* The observed effect has its final form: it succeeded if anything got through. */
void lab_conclude(struct lab_cell *cell);

void lab_victim_page(struct lab_victim *victim, struct lab_page *page);
/* Page k of a region as all devices that use it have it. */
void lab_victim_region(struct lab *lab, struct lab_victim *victim, unsigned region, unsigned k);
void lab_victim_add(struct lab_victim *victim, uint64_t address, uint32_t owner);

/* Where the dma handle must lead by what the guest mapped and the policy says. */
enum lab_gate lab_gate(struct lab *lab, unsigned device, uint64_t iova);

/* Host memory behind an address of the device, by what the IOMMU says; NULL: none. */
uint8_t *lab_host(struct lab *lab, unsigned device, uint64_t iova, uint64_t len);

/* Where the device's domain has this page of RAM: false if nowhere, or everywhere. */
bool lab_iova_of(struct lab *lab, unsigned device, uint64_t gpa, uint64_t *iova);

/* Whether the IOMMU has anything at this address of the device. */
bool lab_mapped(struct lab *lab, unsigned device, uint64_t iova);

/* How many faults there were so far; the last one. From any thread. */
uint64_t lab_faults(struct lab *lab, struct iommu_fault *last);

#endif
