/*
 * The guest's side of `strata dma test`: a driver and its victims at the host's command.
 * It maps, unmaps and frees as it is told (guest/abi/lab.h); what comes of an attack the
 * host finds out in memory.
 */
#include "guest/abi/lab.h"
#include "guest/lib/lib.h"

static struct abi_lab lab __attribute__((aligned(4096)));

static uint64_t honest(void)
{
    return ABI_LAB_HONEST;
}

/* Where a forged callback pointer leads. */
static uint64_t hijacked(void)
{
    return ABI_LAB_HIJACKED;
}

static uint64_t flag(void)
{
    return __atomic_load_n(&lab.flag, __ATOMIC_ACQUIRE);
}

/* Until the host says stop, or for so long; the timer goes on interrupting. */
static void wait_ms(uint64_t ms)
{
    uint64_t start = ticks(), limit = lab.tsc_hz / 1000 * ms;

    while (flag() != ABI_LAB_STOP && ticks() - start < limit)
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

static int64_t carry_out(struct abi_lab_command *command)
{
    struct abi_dma *dma = &command->dma;
    int64_t result;

    switch (command->op) {
    case ABI_LAB_NOTHING: return 0;
    case ABI_LAB_DMA:
        result = syscall(SYS_DMA, command->operation, dma);
        /* Its pages are there once they are used. */
        if (command->operation == ABI_DMA_REGION && !result && dma->va)
            touch(dma->va, dma->bytes);
        return result;
    case ABI_LAB_BLOCK: return syscall(SYS_BLOCK, command->operation, &command->block);
    case ABI_LAB_UNMAP_WATCHED:
        __atomic_store_n(&lab.flag, ABI_LAB_MAPPED, __ATOMIC_RELEASE);
        result = syscall(SYS_DMA, ABI_DMA_UNMAP, dma);
        __atomic_store_n(&lab.flag, ABI_LAB_RETURNED, __ATOMIC_RELEASE);
        wait_ms(command->operation);
        return result;
    case ABI_LAB_MAP_PAGE: return map_pages(dma);
    case ABI_LAB_COPY_PAGES: return copy_pages(dma);
    case ABI_LAB_UNMAP_PAGE: return unmap((void *)dma->va, dma->bytes);
    case ABI_LAB_CALL: dma->value = (*(uint64_t(**)(void))dma->va)(); return 0;
    case ABI_LAB_WAIT: wait_ms(command->operation); return 0;
    default: return -ABI_ENOSYS;
    }
}

int main(int argc, char **argv)
{
    static uint64_t arg[ABI_LAB_NARGS];
    char *arena = map(NULL, ABI_LAB_ARENA_PAGES * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);

    (void)argc, (void)argv;
    if (!arena)
        return 1;
    touch((uint64_t)arena, ABI_LAB_ARENA_PAGES * PAGE);
    arg[ABI_LAB_VA] = (uint64_t)&lab;
    arg[ABI_LAB_ARENA] = (uint64_t)arena;
    arg[ABI_LAB_PID] = (uint64_t)syscall(SYS_GETPID);
    lab.magic = ABI_LAB_MAGIC;
    lab.honest = (uint64_t)honest;
    lab.hijacked = (uint64_t)hijacked;
    for (;;) {
        uint32_t n;

        if (checkpoint(ABI_DMA_LAB, ABI_LAB_STEP, arg, ABI_LAB_NARGS))
            return 0;
        n = lab.ncommands;
        for (uint32_t i = 0; i < n && i < ABI_LAB_COMMANDS; i++)
            lab.command[i].result = carry_out(&lab.command[i]);
        lab.answer = ABI_LAB_ANSWER(lab.challenge);
    }
}
