#include <sys/mman.h>

#include "guest/measure/order.h"
#include "vmm/measure/session.h"

#define HUGE_BYTES (2ull << 20)

/* Aligned to 2M, so that either kind of page can be all of it. */
static void *map_pages(size_t bytes, enum abi_page_kind page)
{
    size_t room = bytes + HUGE_BYTES;
    char *base, *start;

    if (page > ABI_PAGE_2M || room < bytes)
        return NULL;
    base = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
    if (base == MAP_FAILED)
        return NULL;
    start = (char *)(((uintptr_t)base + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
    if (start > base)
        munmap(base, (size_t)(start - base));
    munmap(start + bytes, room - bytes - (size_t)(start - base));
    madvise(start, bytes, page == ABI_PAGE_2M ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return start;
}

static int unmap_pages(void *addr, size_t bytes)
{
    return munmap(addr, bytes) ? -ABI_EINVAL : 0;
}

void native_order(const struct abi_order *order, struct abi_answer *answer)
{
    static const struct platform platform = { .map = map_pages, .unmap = unmap_pages };

    order_run(&platform, order, answer);
}
