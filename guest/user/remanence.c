/*
 * The remanence exercise: a secret in memory that was "erased" and freed; then erased in
 * earnest; then freed under kernels that zero what is freed, or what is allocated.
 *
 *   remanence [break]   wipe with what the compiler removes, and leave the kernel as it is
 */
#include "guest/abi/remanence.h"
#include "guest/abi/dma.h"
#include "guest/abi/policy.h"
#include "guest/lib/lib.h"

#define BYTES       (ABI_SECRET_WORDS * sizeof(uint64_t))
#define LINE        64
#define PAGES       16 /* for the cost */
#define ROUNDS      3
#define PATIENCE_MS 10000 /* on a busy host too */

void free(void *memory);

static uint64_t arg[ABI_REMANENCE_NARGS];
static struct abi_sysinfo info;
static bool broken;

/* A page for each secret. */
static void *new_page(void)
{
    void *memory = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);

    if (!memory)
        exit(1);
    return memory;
}

__attribute__((noipa)) void free(void *memory)
{
    unmap(memory, PAGE);
}

/* What many programs do. The memory is dead after free, so no store to it is needed. */
__attribute__((noipa)) static void forget(uint64_t *secret)
{
    __builtin_memset(secret, 0, BYTES);
    __builtin_free(secret);
}

/* The barrier may read the memory, for all the compiler knows; then it leaves the caches. */
__attribute__((noipa)) static void wipe(uint64_t *secret)
{
    __builtin_memset(secret, 0, BYTES);
    __asm__ volatile("" : : "r"(secret) : "memory");
    for (unsigned at = 0; at < BYTES; at += LINE)
        __asm__ volatile("clflush (%0)" : : "r"((char *)secret + at) : "memory");
    __asm__ volatile("mfence" : : : "memory");
    __builtin_free(secret);
}

static void write_secret(volatile uint64_t *to, unsigned n)
{
    for (unsigned i = 0; i < ABI_SECRET_WORDS; i++)
        to[i] = ABI_SECRET_WORD(n, i);
}

static uint64_t *new_secret(unsigned n)
{
    uint64_t *secret = new_page();

    write_secret(secret, n);
    return secret;
}

static void zeroing(enum abi_zeroing policy)
{
    if (!broken)
        syscall(SYS_ZEROING, (uint64_t)policy);
}

static void ring(enum abi_remanence_step step)
{
    checkpoint(ABI_REMANENCE, step, arg, ABI_REMANENCE_NARGS);
}

/* Maps, touches and unmaps: ticks. */
static uint64_t use_pages(unsigned n, enum abi_zeroing at_alloc, enum abi_zeroing at_free)
{
    uint64_t start;
    char *pages;

    zeroing(at_alloc);
    start = ticks();
    pages = map(NULL, n * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    if (!pages)
        exit(1);
    for (unsigned i = 0; i < n; i++)
        *(volatile char *)(pages + i * PAGE) = 1;
    zeroing(at_free);
    unmap(pages, n * PAGE);
    start = ticks() - start;
    zeroing(ABI_ZERO_NEEDED);
    return start;
}

/* Frees so much that the kernel tells the host, a secret on all of it, and waits until it has. */
static void let_host_have(void)
{
    char *pages = map(NULL, ABI_REMANENCE_MANY * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    uint64_t start, before;

    if (!pages)
        exit(1);
    for (unsigned i = 0; i < ABI_REMANENCE_MANY; i++)
        write_secret((uint64_t *)(pages + i * PAGE), 5);
    ring(ABI_REMANENCE_FILLED);
    syscall(SYS_SYSINFO, &info);
    before = info.given_frames;
    unmap(pages, ABI_REMANENCE_MANY * PAGE);
    start = ticks();
    do {
        yield();
        syscall(SYS_SYSINFO, &info);
    } while (info.given_frames < before + ABI_REMANENCE_MANY &&
             ticks() - start < (info.tsc_hz ? info.tsc_hz : 2000000000) / 1000 * PATIENCE_MS);
}

static bool has_balloon(void)
{
    struct abi_dma dma = { 0 };

    for (; !syscall(SYS_DMA, ABI_DMA_DEVICE, &dma); dma.device++) {
        if (dma.kind == ABI_DEVICE_BALLOON)
            return true;
    }
    return false;
}

/*
 * Each round with the frames of the one before, that the host has memory behind already:
 * zeroed when allocated; when freed, and so clean for the next, which then zeroes nothing.
 */
static void measure(void)
{
    uint64_t taken[ABI_ZERO_COUNT][ROUNDS];

    for (unsigned i = 0; i < ROUNDS; i++) {
        use_pages(PAGES, ABI_ZERO_ON_ALLOC, ABI_ZERO_NEEDED);
        taken[ABI_ZERO_ON_ALLOC][i] = use_pages(PAGES, ABI_ZERO_ON_ALLOC, ABI_ZERO_NEEDED);
        use_pages(PAGES, ABI_ZERO_ON_ALLOC, ABI_ZERO_ON_FREE);
        taken[ABI_ZERO_ON_FREE][i] = use_pages(PAGES, ABI_ZERO_NEEDED, ABI_ZERO_ON_FREE);
        taken[ABI_ZERO_NEEDED][i] = use_pages(PAGES, ABI_ZERO_NEEDED, ABI_ZERO_NEEDED);
    }
    for (unsigned policy = 0; policy < ABI_ZERO_COUNT; policy++)
        arg[ABI_REMANENCE_TICKS + policy] = median(taken[policy], ROUNDS);
}

int main(int argc, char **argv)
{
    (void)argv;
    broken = argc > 1;
    if (!has_balloon()) {
        use_pages(ABI_REMANENCE_ELSEWHERE_PAGES, ABI_ZERO_NEEDED, ABI_ZERO_NEEDED);
        ring(ABI_REMANENCE_ELSEWHERE);
        return 0;
    }
    arg[ABI_REMANENCE_FORGET] = (uint64_t)forget;
    arg[ABI_REMANENCE_WIPE] = (uint64_t)(broken ? forget : wipe);
    arg[ABI_REMANENCE_FREE] = (uint64_t)free;
    arg[ABI_REMANENCE_PAGES] = PAGES;
    syscall(SYS_SYSINFO, &info);

    forget(new_secret(1));
    ring(ABI_REMANENCE_LEFT);
    (broken ? forget : wipe)(new_secret(2));
    ring(ABI_REMANENCE_WIPED);
    if (!broken)
        let_host_have();
    ring(ABI_REMANENCE_GIVEN);

    zeroing(ABI_ZERO_ON_FREE);
    forget(new_secret(3));
    ring(ABI_REMANENCE_ON_FREE);
    zeroing(ABI_ZERO_ON_ALLOC);
    forget(new_secret(4));
    ring(ABI_REMANENCE_ON_ALLOC);
    *(volatile char *)new_page() = 1;
    *(volatile char *)new_page() = 1;
    ring(ABI_REMANENCE_REUSED);
    zeroing(ABI_ZERO_NEEDED);
    measure();
    ring(ABI_REMANENCE_COST);
    return 0;
}
