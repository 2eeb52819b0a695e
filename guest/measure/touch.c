#include <stdbool.h>

#include "guest/measure/order.h"

int order_clock(const struct abi_order *order, struct abi_answer *answer)
{
    for (uint64_t i = 0; i < order->count; i++) {
        uint64_t begin = clock_begin();

        abi_histogram_add(&answer->histogram, clock_end() - begin);
    }
    return 0;
}

/* A store alone: a load before it would take one fault, and the store another. */
static void touch(volatile uint64_t *word, bool write)
{
    if (write)
        *word = 0;
    else
        (void)*word;
}

int order_touch(const struct abi_order *order, struct abi_answer *answer)
{
    bool write = order->flags & ABI_TOUCH_WRITE, timed = order->flags & ABI_TOUCH_TIMED;
    uint64_t start = clock_begin();

    if (!order->stride)
        return -ABI_EINVAL;
    for (uint64_t at = 0; at + sizeof(uint64_t) <= order->bytes; at += order->stride) {
        volatile uint64_t *word = (volatile uint64_t *)(order->va + at);
        uint64_t begin = timed ? clock_begin() : 0;

        touch(word, write);
        if (timed)
            abi_histogram_add(&answer->histogram, clock_end() - begin);
    }
    answer->value[0] = clock_end() - start;
    return 0;
}
