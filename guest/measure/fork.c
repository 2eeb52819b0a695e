#include <stdbool.h>

#include "guest/measure/order.h"

/* Odd, so that i times it meets every one of 2^n pages once, far from the one before. */
#define SPREAD 0x9e3779b1u

static volatile uint64_t *page_at(const struct abi_order *order, uint64_t i)
{
    uint64_t pages = order->bytes / order->stride;

    return (volatile uint64_t *)(order->va + (i * SPREAD & (pages - 1)) * order->stride);
}

/* The child's part; its answer lies where the parent sees it. */
static void store(const struct abi_order *order, struct abi_answer *answer)
{
    bool timed = order->flags & ABI_TOUCH_TIMED;
    uint64_t start = clock_begin();

    for (uint64_t i = 0; i < order->count; i++) {
        volatile uint64_t *word = page_at(order, i);
        uint64_t begin = timed ? clock_begin() : 0;

        *word = i;
        if (timed)
            abi_histogram_add(&answer->histogram, clock_end() - begin);
    }
    answer->value[ABI_FORK_STORES_TICKS] = clock_end() - start;
    answer->status = 0;
}

int order_fork(const struct platform *platform, const struct abi_order *order,
               struct abi_answer *answer)
{
    uint64_t pages = order->stride ? order->bytes / order->stride : 0, start, forked;
    struct abi_answer *shared = pages ? platform->shared() : NULL;
    int64_t child;
    int err;

    if (!pages || pages & (pages - 1) || order->count > pages)
        return -ABI_EINVAL;
    if (!shared)
        return -ABI_ENOMEM;
    /* Touched before, so that the child's answer takes no fault between two looks at the clock. */
    __builtin_memset(shared, 0, sizeof(*shared));
    shared->status = -ABI_EAGAIN;
    start = clock_begin();
    child = platform->fork((uint32_t)order->arg[0]);
    forked = clock_end();
    if (child < 0)
        return (int)child;
    if (child == 0) {
        store(order, shared);
        platform->leave();
    }
    err = platform->reap(child);
    __builtin_memcpy(answer, shared, sizeof(*answer));
    answer->value[ABI_FORK_TICKS] = forked - start;
    answer->value[ABI_FORK_ALL_TICKS] = clock_end() - start;
    /* Writable again for the parent, so that each time begins alike. */
    for (uint64_t i = 0; i < pages; i++)
        *page_at(order, i) = i;
    return err ? err : (int)answer->status;
}
