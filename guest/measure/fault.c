#include "guest/measure/order.h"

static int order_zeroing(const struct platform *platform, const struct abi_order *order,
                         struct abi_answer *answer)
{
    int64_t before = platform->zeroing ? platform->zeroing(order->count) : -ABI_ENOSYS;

    answer->value[0] = (uint64_t)before;
    return before < 0 ? (int)before : 0;
}

static int order_copy(const struct abi_order *order, struct abi_answer *answer)
{
    uint64_t start = clock_begin();

    if (!order->stride)
        return -ABI_EINVAL;
    for (uint64_t at = 0; at + order->stride <= order->bytes; at += order->stride) {
        void *to = (void *)(order->va + at);
        const void *from = (const void *)(order->arg[0] + at);
        uint64_t words = order->stride / sizeof(uint64_t);

        /* The fault first: one that interrupts a string instruction takes longer. */
        *(volatile uint64_t *)to = 0;
        /* As kernels copy pages. */
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    }
    answer->value[0] = clock_end() - start;
    return 0;
}

int order_fault(const struct platform *platform, const struct abi_order *order,
                struct abi_answer *answer)
{
    switch (order->kind) {
    case ABI_ORDER_DISCARD: return platform->discard((void *)order->va, order->bytes);
    case ABI_ORDER_ZEROING: return order_zeroing(platform, order, answer);
    case ABI_ORDER_COPY: return order_copy(order, answer);
    case ABI_ORDER_FORK: return order_fork(platform, order, answer);
    case ABI_ORDER_CHANGE: return order_change(platform, order, answer);
    }
    return -ABI_ENOSYS;
}
