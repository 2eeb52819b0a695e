/*
 * The reclaim exercise: a program that needed much memory and now needs half of it. A page
 * of the other half a device has still; that one must stay.
 *
 *   reclaim MIB HUGE-MIB [break]   so much in 4K, and in 2M pages
 */
#include "guest/abi/reclaim.h"
#include "guest/abi/dma.h"
#include "guest/abi/policy.h"
#include "guest/lib/lib.h"

#define DMA_READ_WRITE 3u

/* How long the kernel may take, on a busy host too; less where it is not going to do it. */
static uint64_t patience_ms = 10000;

static uint64_t arg[ABI_RECLAIM_NARGS];
static struct abi_sysinfo info;

static uint64_t new_region(enum abi_reclaim_arg bytes, uint32_t flags)
{
    char *region = map(NULL, arg[bytes], ABI_PROT_READ | ABI_PROT_WRITE, flags, 0);

    if (!region)
        exit(1);
    for (uint64_t at = 0; at < arg[bytes]; at += ABI_RECLAIM_STRIDE)
        *(volatile uint64_t *)(region + at) = ABI_RECLAIM_WORD(at / ABI_RECLAIM_STRIDE);
    return (uint64_t)region;
}

/* Lets the first probe, if there is one, have the page: where it sees it. */
static uint64_t pin(uint64_t va, uint32_t *device)
{
    struct abi_dma dma = { .device = 0 };

    for (; dma.kind != ABI_DEVICE_PROBE; dma.device = ++*device) {
        if (syscall(SYS_DMA, ABI_DMA_DEVICE, &dma))
            return 0;
        if (dma.kind == ABI_DEVICE_PROBE)
            break;
    }
    dma = (struct abi_dma){ .device = *device, .rights = DMA_READ_WRITE, .va = va, .bytes = PAGE };
    return syscall(SYS_DMA, ABI_DMA_MAP, &dma) ? 0 : dma.iova;
}

static void unpin(uint32_t device, uint64_t iova)
{
    struct abi_dma dma = { .device = device, .iova = iova, .bytes = PAGE };

    if (syscall(SYS_DMA, ABI_DMA_UNMAP, &dma))
        exit(1);
}

/* Until the kernel has given so many frames to the host, or none is left to hope for. */
static void wait_for_given(uint64_t frames)
{
    uint64_t start = ticks(), patience;

    syscall(SYS_SYSINFO, &info);
    patience = (info.tsc_hz ? info.tsc_hz : 2000000000) / 1000 * patience_ms;
    while (info.given_frames < frames && ticks() - start < patience) {
        yield();
        syscall(SYS_SYSINFO, &info);
    }
}

/* Until so many frames at least, or at most, are free; the same. */
static void wait_for_free(uint64_t least, uint64_t most)
{
    uint64_t start = ticks(), patience;

    syscall(SYS_SYSINFO, &info);
    patience = (info.tsc_hz ? info.tsc_hz : 2000000000) / 1000 * patience_ms;
    while ((info.free_frames < least || info.free_frames > most) && ticks() - start < patience) {
        yield();
        syscall(SYS_SYSINFO, &info);
    }
}

static void give_half(uint64_t va, uint64_t bytes)
{
    if (bytes && syscall(SYS_MADVISE, va + bytes / 2, bytes / 2, ABI_MADV_DONTNEED))
        exit(1);
}

static uint64_t nonzero(uint64_t va, uint64_t bytes)
{
    uint64_t count = 0;

    for (uint64_t at = bytes / 2; at < bytes; at += ABI_RECLAIM_STRIDE)
        count += *(volatile uint64_t *)(va + at) != 0;
    return count;
}

int main(int argc, char **argv)
{
    uint64_t iova, frames, start, before;
    uint32_t probe = 0;

    arg[ABI_RECLAIM_BYTES] = number(argc > 1 ? argv[1] : NULL, 4) << 20;
    arg[ABI_RECLAIM_HUGE_BYTES] = number(argc > 2 ? argv[2] : NULL, 4) << 20;
    if (argc > 3) {
        syscall(SYS_BREAK, (uint64_t)ABI_BREAK_MADVISE);
        patience_ms = 600;
    }
    arg[ABI_RECLAIM_VA] = new_region(ABI_RECLAIM_BYTES, 0);
    arg[ABI_RECLAIM_HUGE_VA] = new_region(ABI_RECLAIM_HUGE_BYTES, ABI_MAP_HUGE);
    arg[ABI_RECLAIM_PINNED_VA] = arg[ABI_RECLAIM_VA] + arg[ABI_RECLAIM_BYTES] / 4 * 3;
    iova = pin(arg[ABI_RECLAIM_PINNED_VA], &probe);
    if (!iova)
        arg[ABI_RECLAIM_PINNED_VA] = 0;
    checkpoint(ABI_RECLAIM, ABI_RECLAIM_FILLED, arg, ABI_RECLAIM_NARGS);

    syscall(SYS_SYSINFO, &info);
    before = info.given_frames;
    frames = (arg[ABI_RECLAIM_BYTES] + arg[ABI_RECLAIM_HUGE_BYTES]) / 2 / PAGE - 1;
    start = ticks();
    give_half(arg[ABI_RECLAIM_VA], arg[ABI_RECLAIM_BYTES]);
    give_half(arg[ABI_RECLAIM_HUGE_VA], arg[ABI_RECLAIM_HUGE_BYTES]);
    arg[ABI_RECLAIM_TICKS] = ticks() - start;
    if (iova)
        wait_for_given(before + frames);
    checkpoint(ABI_RECLAIM, ABI_RECLAIM_GIVEN, arg, ABI_RECLAIM_NARGS);
    if (!iova)
        return 0;

    arg[ABI_RECLAIM_NONZERO] = nonzero(arg[ABI_RECLAIM_VA], arg[ABI_RECLAIM_BYTES]) +
                               nonzero(arg[ABI_RECLAIM_HUGE_VA], arg[ABI_RECLAIM_HUGE_BYTES]);
    syscall(SYS_SYSINFO, &info);
    before = info.free_frames;
    checkpoint(ABI_RECLAIM, ABI_RECLAIM_TOUCHED, arg, ABI_RECLAIM_NARGS);
    wait_for_free(0, before - ABI_RECLAIM_BALLOON_PAGES);
    unpin(probe, iova);
    checkpoint(ABI_RECLAIM, ABI_RECLAIM_INFLATED, arg, ABI_RECLAIM_NARGS);
    wait_for_free(before + 1, UINT64_MAX);
    checkpoint(ABI_RECLAIM, ABI_RECLAIM_DEFLATED, arg, ABI_RECLAIM_NARGS);
    return 0;
}
