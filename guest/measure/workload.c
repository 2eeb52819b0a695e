#include "guest/measure/workload.h"

#define BYTES_MIN (1ull << 20)
#define BYTES_MAX (64ull << 30)

static const struct {
    void (*build)(void *memory, uint64_t bytes, uint64_t seed);
    void (*clear)(void *memory, uint64_t bytes);
    struct workload_run (*run)(void *memory, uint64_t bytes, uint64_t seed, uint64_t count);
} workloads[ABI_WORKLOADS] = {
    [ABI_WORKLOAD_GUPS] = { gups_build, NULL, gups_run },
    [ABI_WORKLOAD_BTREE] = { btree_build, NULL, btree_run },
    [ABI_WORKLOAD_JOIN] = { join_build, NULL, join_run },
    [ABI_WORKLOAD_BFS] = { bfs_build, bfs_clear, bfs_run },
};

int order_workload(const struct abi_order *order, struct abi_answer *answer)
{
    void *memory = (void *)order->va;
    struct workload_run run;
    uint64_t begin;

    if (order->arg[0] >= ABI_WORKLOADS || !order->seed || order->bytes < BYTES_MIN ||
        order->bytes > BYTES_MAX || order->bytes & (order->bytes - 1))
        return -ABI_EINVAL;
    if (order->flags & ABI_WORKLOAD_BUILD) {
        workloads[order->arg[0]].build(memory, order->bytes, order->seed);
        return 0;
    }
    if (workloads[order->arg[0]].clear)
        workloads[order->arg[0]].clear(memory, order->bytes);
    begin = clock_begin();
    run = workloads[order->arg[0]].run(memory, order->bytes, order->seed, order->count);
    answer->value[0] = clock_end() - begin;
    answer->value[1] = run.result;
    answer->value[2] = run.operations;
    return 0;
}
