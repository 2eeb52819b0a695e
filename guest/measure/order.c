#include "guest/measure/order.h"

static int order_map(const struct platform *platform, const struct abi_order *order,
                     struct abi_answer *answer)
{
    void *va = platform->map(order->bytes, order->page);

    answer->value[0] = (uint64_t)va;
    return va ? 0 : -ABI_ENOMEM;
}

static int order_kernel(const struct platform *platform, const struct abi_order *order,
                        struct abi_answer *answer)
{
    int64_t done;

    if (!platform->kernel || order->arg[0] >= ABI_MEASURE_OPS)
        return -ABI_ENOSYS;
    done = platform->kernel((enum abi_measure_op)order->arg[0], order->count, order->arg[1]);
    answer->value[0] = (uint64_t)done;
    return done < 0 ? (int)done : 0;
}

static int carry_out(const struct platform *platform, const struct abi_order *order,
                     struct abi_answer *answer)
{
    switch (order->kind) {
    case ABI_ORDER_CLOCK: return order_clock(order, answer);
    case ABI_ORDER_MAP: return order_map(platform, order, answer);
    case ABI_ORDER_UNMAP: return platform->unmap((void *)order->va, order->bytes);
    case ABI_ORDER_TOUCH: return order_touch(order, answer);
    case ABI_ORDER_KERNEL: return order_kernel(platform, order, answer);
    case ABI_ORDER_WAIT: return order_wait(order, answer);
    case ABI_ORDER_CHAIN_MAKE: return order_chain_make(order, answer);
    case ABI_ORDER_CHAIN_FOLLOW: return order_chain_follow(order, answer);
    case ABI_ORDER_WORKLOAD: return order_workload(order, answer);
    }
    return order_fault(platform, order, answer);
}

void order_run(const struct platform *platform, const struct abi_order *order,
               struct abi_answer *answer)
{
    __builtin_memset(answer, 0, sizeof(*answer));
    answer->status = carry_out(platform, order, answer);
}
