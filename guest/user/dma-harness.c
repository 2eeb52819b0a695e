/*
 * The guest's side of `strata dma test`: a driver and its victims at the host's command.
 * It maps, unmaps and frees as it is told (guest/abi/harness.h); what comes of an attack the
 * host finds out in memory.
 */
#include "guest/abi/harness.h"
#include "guest/lib/lib.h"

static struct abi_harness harness __attribute__((aligned(4096)));

static uint64_t honest(void)
{
    return ABI_HARNESS_HONEST;
}

/* Where a spoofed callback pointer leads. */
static uint64_t hijacked(void)
{
    return ABI_HARNESS_HIJACKED;
}

static uint64_t flag(void)
{
    return __atomic_load_n(&harness.flag, __ATOMIC_ACQUIRE);
}

/* Until the host says stop, or for so long; the timer goes on interrupting. */
static void wait_ms(uint64_t ms)
{
    uint64_t start = ticks(), limit = harness.tsc_hz / 1000 * ms;

    while (flag() != ABI_HARNESS_STOP && ticks() - start < limit)
        ;
}

static void touch(uint64_t va, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += PAGE)
        *(volatile char *)(va + at) = 1;
}

static int64_t map_pages(struct abi_dma *dma)
{
    dma->va = (uint64_t)map(NULL, dma->bytes, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    if (!dma->va)
        return -ABI_ENOMEM;
    touch(dma->va, dma->bytes);
    return 0;
}

static int64_t copy_pages(const struct abi_dma *dma)
{
    int64_t child = fork();

    if (child < 0)
        return child;
    /* It is only there; nobody types anything. */
    while (!child)
        read(&child, sizeof(child));
    touch(dma->va, dma->bytes);
    syscall(SYS_KILL, child);
    wait_for(child);
    return 0;
}

static int64_t carry_out(struct abi_harness_command *command)
{
    struct abi_dma *dma = &command->dma;
    int64_t result;

    switch (command->op) {
    case ABI_HARNESS_NOTHING: return 0;
    case ABI_HARNESS_DMA:
        result = syscall(SYS_DMA, command->operation, dma);
        /* Its pages are there once they are used. */
        if (command->operation == ABI_DMA_REGION && !result && dma->va)
            touch(dma->va, dma->bytes);
        return result;
    case ABI_HARNESS_BLOCK: return syscall(SYS_BLOCK, command->operation, &command->block);
    case ABI_HARNESS_UNMAP_WATCHED:
        __atomic_store_n(&harness.flag, ABI_HARNESS_MAPPED, __ATOMIC_RELEASE);
        result = syscall(SYS_DMA, ABI_DMA_UNMAP, dma);
        __atomic_store_n(&harness.flag, ABI_HARNESS_RETURNED, __ATOMIC_RELEASE);
        wait_ms(command->operation);
        return result;
    case ABI_HARNESS_MAP_PAGE: return map_pages(dma);
    case ABI_HARNESS_COPY_PAGES: return copy_pages(dma);
    case ABI_HARNESS_UNMAP_PAGE: return unmap((void *)dma->va, dma->bytes);
    case ABI_HARNESS_CALL: dma->value = (*(uint64_t(**)(void))dma->va)(); return 0;
    case ABI_HARNESS_WAIT: wait_ms(command->operation); return 0;
    default: return -ABI_ENOSYS;
    }
}

int main(int argc, char **argv)
{
    static uint64_t arg[ABI_HARNESS_NARGS];
    char *test_pages = map(NULL, ABI_HARNESS_TEST_PAGES * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0,
                           0);

    (void)argc, (void)argv;
    if (!test_pages)
        return 1;
    touch((uint64_t)test_pages, ABI_HARNESS_TEST_PAGES * PAGE);
    arg[ABI_HARNESS_VA] = (uint64_t)&harness;
    arg[ABI_HARNESS_PAGES] = (uint64_t)test_pages;
    arg[ABI_HARNESS_PID] = (uint64_t)syscall(SYS_GETPID);
    harness.magic = ABI_HARNESS_MAGIC;
    harness.honest = (uint64_t)honest;
    harness.hijacked = (uint64_t)hijacked;
    for (;;) {
        uint32_t n;

        if (checkpoint(ABI_DMA_HARNESS, ABI_HARNESS_STEP, arg, ABI_HARNESS_NARGS))
            return 0;
        n = harness.ncommands;
        for (uint32_t i = 0; i < n && i < ABI_HARNESS_COMMANDS; i++)
            harness.command[i].result = carry_out(&harness.command[i]);
        harness.answer = ABI_HARNESS_ANSWER(harness.challenge);
    }
}
