#include <stdbool.h>

#include "guest/measure/order.h"

static uint64_t bytes_of(uint32_t page)
{
    return page == ABI_PAGE_2M ? 2ull << 20 : 4096;
}

static int change_each(const struct platform *platform, const struct abi_order *order, char *base,
                       struct abi_answer *answer)
{
    uint64_t page = bytes_of(order->page), begin;
    bool unmaps = order->arg[0];
    int err = 0;

    for (uint64_t i = 0; i < order->count && !err; i++) {
        char *at = base + i * page;

        *(volatile uint64_t *)at = i;
        begin = clock_begin();
        err = unmaps ? platform->unmap(at, page) : platform->read_only(at, page);
        abi_histogram_add(&answer->histogram, clock_end() - begin);
    }
    return err;
}

/*
 * One page more than is changed: its table stays, so that no change has the table's end to pay
 * for. The pages go in ascending order, so that what is left is always one range.
 */
int order_change(const struct platform *platform, const struct abi_order *order,
                 struct abi_answer *answer)
{
    uint64_t page = bytes_of(order->page), bytes = (order->count + 1) * page, start, done;
    char *base;
    int err, stopped;

    if (order->count > 1u << 20)
        return -ABI_EINVAL;
    base = platform->map(bytes, order->page);
    if (!base)
        return -ABI_ENOMEM;
    *(volatile uint64_t *)(base + bytes - page) = 1;
    start = clock_begin();
    err = platform->companions((unsigned)order->arg[1]);
    answer->value[0] = clock_end() - start;
    if (!err)
        err = change_each(platform, order, base, answer);
    start = clock_begin();
    stopped = platform->companions(0);
    answer->value[0] += clock_end() - start;
    /* Whatever is left of it. */
    done = order->arg[0] ? answer->histogram.count * page : 0;
    platform->unmap(base + done, bytes - done);
    return err ? err : stopped;
}
