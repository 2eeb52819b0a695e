/*
 * The dma exercise: a driver and its secret. It maps two pages for the DMA probe, takes
 * notice of the faults that the host's attacks provoke, then frees the pages while the
 * device still has them, and only after that takes them away from it.
 */
#include "guest/abi/dma.h"
#include "guest/abi/policy.h"
#include "guest/lib/lib.h"

#define WORDS (PAGE / sizeof(uint64_t))
/* Without news of a fault, so many questions and so many ticks are enough. */
#define PATIENCE       500
#define PATIENCE_TICKS 20000000ul
#define DMA_READ       1u
#define DMA_WRITE      2u

static uint64_t arg[ABI_TOUR_DMA_NARGS];
static struct abi_dma told[2 * ABI_TOUR_DMA_FAULTS];

static void check(int64_t result, const char *what)
{
    if (result >= 0)
        return;
    printf("dma: %s: error %ld\n", what, -result);
    exit(1);
}

static uint64_t new_page(enum abi_tour_dma_arg which)
{
    uint64_t *page = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);

    if (!page)
        exit(1);
    for (uint64_t i = 0; i < WORDS; i++)
        page[i] = ABI_TOUR_DMA_WORD(which, i);
    return (uint64_t)page;
}

/* The first probe: its number. */
static uint32_t find_probe(struct abi_dma *probe)
{
    for (uint32_t i = 0;; i++) {
        *probe = (struct abi_dma){ .device = i };
        check(syscall(SYS_DMA, ABI_DMA_DEVICE, probe), "there is no probe");
        if (probe->kind == ABI_DEVICE_PROBE)
            return i;
    }
}

static uint64_t map_for(uint32_t device, uint64_t va, uint32_t rights)
{
    struct abi_dma dma = { .device = device, .rights = rights, .va = va, .bytes = PAGE };

    check(syscall(SYS_DMA, ABI_DMA_MAP, &dma), "map");
    return dma.iova;
}

static void unmap_for(uint32_t device, uint64_t iova)
{
    struct abi_dma dma = { .device = device, .iova = iova, .bytes = PAGE };

    check(syscall(SYS_DMA, ABI_DMA_UNMAP, &dma), "unmap");
}

/* All that the driver is told within a while. */
static uint64_t take_faults(void)
{
    uint64_t n = 0, asked = 0, since = ticks();

    while (n < ABI_TOUR_DMA_FAULTS && (asked < PATIENCE || ticks() - since < PATIENCE_TICKS)) {
        asked++;
        if (syscall(SYS_DMA, ABI_DMA_FAULT, &told[n]) == 0)
            n++;
        else
            yield();
    }
    /* There should be no more. */
    while (n < sizeof(told) / sizeof(told[0]) && syscall(SYS_DMA, ABI_DMA_FAULT, &told[n]) == 0)
        n++;
    return n;
}

/* A child that writes pages it shares with this process, and rings when it has its copies. */
static void copy_pages(enum abi_tour_dma_step step, volatile char *pages)
{
    int64_t child = fork();

    check(child, "fork");
    if (child == 0) {
        for (unsigned i = 0; i < ABI_TOUR_DMA_COPIES; i++)
            pages[i * PAGE] = 2;
        exit(checkpoint(ABI_DMA, step, arg, ABI_TOUR_DMA_NARGS));
    }
    if (wait_for(child))
        exit(1);
}

int main(int argc, char **argv)
{
    uint64_t faults[2] = { (uint64_t)told, 0 };
    struct abi_dma probe, transfer;
    uint32_t device = find_probe(&probe);
    volatile char *pages;

    /* `break`: it is the machine that is broken then, the guest does all as always. */
    (void)argc, (void)argv;
    pages = map(NULL, ABI_TOUR_DMA_COPIES * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    if (!pages)
        return 1;
    for (unsigned i = 0; i < ABI_TOUR_DMA_COPIES; i++)
        pages[i * PAGE] = 1;
    memset(told, 0, sizeof(told));
    arg[ABI_TOUR_DMA_VA_SECRET] = new_page(ABI_TOUR_DMA_VA_SECRET);
    arg[ABI_TOUR_DMA_VA_READ] = new_page(ABI_TOUR_DMA_VA_READ);
    arg[ABI_TOUR_DMA_VA_WRITE] = new_page(ABI_TOUR_DMA_VA_WRITE);
    arg[ABI_TOUR_DMA_DEVICE] = probe.mmio;
    arg[ABI_TOUR_DMA_ENDPOINT] = probe.endpoint;
    arg[ABI_TOUR_DMA_PARENT] = (uint64_t)syscall(SYS_GETPID);
    checkpoint(ABI_DMA, ABI_TOUR_DMA_SECRET, arg, ABI_TOUR_DMA_NARGS);
    if (probe.mode == ABI_DMA_OFF)
        return 0;

    arg[ABI_TOUR_DMA_IOVA_READ] = map_for(device, arg[ABI_TOUR_DMA_VA_READ], DMA_READ);
    arg[ABI_TOUR_DMA_IOVA_WRITE] = map_for(device, arg[ABI_TOUR_DMA_VA_WRITE], DMA_WRITE);
    transfer = (struct abi_dma){
        .device = device, .rights = DMA_READ, .iova = arg[ABI_TOUR_DMA_IOVA_READ], .bytes = PAGE
    };
    check(syscall(SYS_DMA, ABI_DMA_TRANSFER, &transfer), "transfer");
    checkpoint(ABI_DMA, ABI_TOUR_DMA_MAPPED, arg, ABI_TOUR_DMA_NARGS);

    faults[1] = take_faults();
    checkpoint(ABI_DMA, ABI_TOUR_DMA_TOLD, faults, 2);

    unmap((void *)arg[ABI_TOUR_DMA_VA_READ], PAGE);
    unmap((void *)arg[ABI_TOUR_DMA_VA_WRITE], PAGE);
    copy_pages(ABI_TOUR_DMA_FREED, pages);

    unmap_for(device, arg[ABI_TOUR_DMA_IOVA_READ]);
    unmap_for(device, arg[ABI_TOUR_DMA_IOVA_WRITE]);
    checkpoint(ABI_DMA, ABI_TOUR_DMA_REVOKED, arg, ABI_TOUR_DMA_NARGS);
    copy_pages(ABI_TOUR_DMA_REUSED, pages);
    return 0;
}
