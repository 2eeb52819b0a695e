/*
 * Devices at work while a driver takes their memory away, under ThreadSanitizer. When
 * iommu_unmap, iommu_detach or iommu_reset has returned, a page is the driver's alone: it
 * writes it without any lock and looks whether that stays. A device that could still get
 * at it is a data race, or bytes that changed.
 *
 * revoke [ROUNDS]: TAP; status 1 if bytes changed, ThreadSanitizer's own (66) for a race.
 * Linked with an IOMMU that does not wait, or does not invalidate (make tsan), it must
 * fail: tests/tsan/run.sh.
 */
#include <err.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/iommu/dma.h"
#include "devices/iommu/dma_transfer.h"
#include "vmm/machine/memory.h"

#define PAGE    4096ull
#define RAM     (4ull << 20)
#define DEVICES 2u
#define PAGES   4u /* of each device, far apart: each in tables of its own */
#define DOMAIN  1u
#define GPA(i)  (64 * PAGE + (i)*PAGE)
#define IOVA(i) (((uint64_t)(i) << 30) + 16 * PAGE)
#define RW      (IOMMU_READ | IOMMU_WRITE)
#define CANARY  0x5a

static struct memory memory;
static struct iommu *iommu;
static struct dma handle[DEVICES];
static atomic_bool stop;
static atomic_ulong got_through, refused;
static unsigned long changed;

/*
 * What a device does that has a list of addresses and no idea which are still good. Each
 * has a half of every page, so as not to race with the other.
 */

static uint64_t next(uint64_t *rng)
{
    *rng = *rng * 6364136223846793005ull + 1442695040888963407ull;
    return *rng >> 33;
}

static bool copy(struct dma *dma, uint64_t iova, uint64_t choice)
{
    char data[64];
    int err;

    memset(data, (int)choice | 1, sizeof(data));
    dma_lock(dma);
    err = choice % 2 ? dma_write(dma, iova, data, sizeof(data))
                     : dma_read(dma, iova, data, sizeof(data));
    dma_unlock(dma);
    return !err;
}

static bool ring(struct dma *dma, struct dma_window *window, uint64_t iova)
{
    char *host;

    dma_lock(dma);
    host = dma_window(dma, window, iova + 256, 16, DMA_WRITE, NULL);
    if (host)
        host[3]++;
    dma_unlock(dma);
    return host;
}

/* The bytes move without the lock, as a backend's do. */
static bool transfer(struct dma *dma, uint64_t iova)
{
    const struct dma_range range = { iova + 1024, 512, DMA_WRITE };
    struct dma_transfer flight = { 0 };
    struct iovec piece;
    int n;

    dma_lock(dma);
    n = dma_transfer_begin(dma, &flight, &range, 1, &piece, 1);
    dma_unlock(dma);
    if (n < 0)
        return false;
    sched_yield();
    memset(piece.iov_base, 1, piece.iov_len);
    dma_transfer_end(&flight);
    return true;
}

static void *device(void *owner)
{
    struct dma *dma = owner;
    struct dma_window window[PAGES] = { 0 };
    uint64_t rng = dma->id;

    while (!atomic_load(&stop)) {
        uint64_t choice = next(&rng);
        unsigned page = (unsigned)(choice >> 8) % PAGES;
        uint64_t iova = IOVA(page) + dma->id * PAGE / DEVICES;
        bool through;

        if (choice % 3 == 0)
            through = copy(dma, iova, choice >> 4);
        else if (choice % 3 == 1)
            through = ring(dma, &window[page], iova);
        else
            through = transfer(dma, iova);
        atomic_fetch_add(through ? &got_through : &refused, 1);
    }
    return NULL;
}

/* Somebody who only looks, from a thread of his own. */
static void *onlooker(void *unused)
{
    struct iommu_counts counts;
    struct iommu_fault fault;

    (void)unused;
    while (!atomic_load(&stop)) {
        while (iommu_next_fault(iommu, &fault))
            ;
        iommu_count(iommu, &counts);
        iommu_pinned(iommu, 0, RAM);
        sched_yield();
    }
    return NULL;
}

static void must(int ret, const char *what)
{
    if (ret)
        errx(2, "%s: %s", what, strerror(-ret));
}

static void map(unsigned page)
{
    must(iommu_map(iommu, DOMAIN, IOVA(page), IOVA(page) + PAGE - 1, GPA(page), RW), "map");
}

/* The page is the driver's again. */
static void use(unsigned page)
{
    char *host = memory_at(&memory, GPA(page), PAGE);

    memset(host, CANARY, PAGE);
    sched_yield();
    for (unsigned i = 0; i < PAGE; i++)
        changed += host[i] != CANARY;
}

static void drive_unmap(unsigned round)
{
    unsigned page = round % PAGES;

    must(iommu_unmap(iommu, DOMAIN, IOVA(page), IOVA(page) + PAGE - 1), "unmap");
    use(page);
    map(page);
}

static void attach_all(void)
{
    for (unsigned i = 0; i < DEVICES; i++)
        must(iommu_attach(iommu, i, DOMAIN, false), "attach");
    for (unsigned page = 0; page < PAGES; page++)
        map(page);
}

static void drive_detach(unsigned round)
{
    (void)round;
    for (unsigned i = 0; i < DEVICES; i++)
        must(iommu_detach(iommu, i, DOMAIN), "detach");
    for (unsigned page = 0; page < PAGES; page++)
        use(page);
    attach_all();
}

static void drive_reset(unsigned round)
{
    iommu_reset(iommu, round % 2);
    for (unsigned page = 0; page < PAGES; page++)
        use(page);
    attach_all();
}

static const struct {
    const char *name;
    void (*drive)(unsigned round);
    unsigned divide; /* rounds by */
} drives[] = {
    { "unmap", drive_unmap, 1 },
    { "detach", drive_detach, 8 },
    { "reset", drive_reset, 8 },
};

#define NDRIVES (sizeof(drives) / sizeof(drives[0]))

int main(int argc, char **argv)
{
    static const struct iommu_config config = { .faults_max = 8 };
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 4000;
    pthread_t thread[DEVICES + 1];
    unsigned n = 0;
    int failed = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    must(memory_create(&memory, -1, RAM, MEMORY_4K), "memory");
    must(iommu_create(&iommu, &memory, &config), "iommu");
    for (unsigned i = 0; i < DEVICES; i++)
        must(dma_create(&handle[i], &memory, iommu, i), "dma handle");
    attach_all();
    for (unsigned i = 0; i < DEVICES; i++)
        must(-pthread_create(&thread[i], NULL, device, &handle[i]), "thread");
    must(-pthread_create(&thread[DEVICES], NULL, onlooker, NULL), "thread");

    for (unsigned i = 0; i < NDRIVES; i++) {
        unsigned long before = atomic_load(&got_through), no = atomic_load(&refused);

        changed = 0;
        for (unsigned round = 0; round < rounds / drives[i].divide; round++)
            drives[i].drive(round);
        /* Where nothing got through, or nothing was refused, nothing was tested. */
        before = atomic_load(&got_through) - before;
        no = atomic_load(&refused) - no;
        failed |= changed || !before || !no;
        printf("%s %u - tsan: revoked by %s: %lu accesses, %lu refused, %lu bytes changed after\n",
               changed || !before || !no ? "not ok" : "ok", ++n, drives[i].name, before, no,
               changed);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i <= DEVICES; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < DEVICES; i++)
        dma_destroy(&handle[i]);
    iommu_destroy(iommu);
    memory_destroy(&memory);
    printf("1..%u\n", n);
    return failed;
}
