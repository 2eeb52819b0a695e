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

int command_workload(const struct abi_command *command, struct abi_reply *reply)
{
    void *memory = (void *)command->va;
    struct workload_run run;
    uint64_t begin;

    if (command->arg[0] >= ABI_WORKLOADS || !command->seed || command->bytes < BYTES_MIN ||
        command->bytes > BYTES_MAX || command->bytes & (command->bytes - 1))
        return -ABI_EINVAL;
    if (command->flags & ABI_WORKLOAD_BUILD) {
        workloads[command->arg[0]].build(memory, command->bytes, command->seed);
        return 0;
    }
    if (workloads[command->arg[0]].clear)
        workloads[command->arg[0]].clear(memory, command->bytes);
    begin = clock_begin();
    run = workloads[command->arg[0]].run(memory, command->bytes, command->seed, command->count);
    reply->value[0] = clock_end() - begin;
    reply->value[1] = run.result;
    reply->value[2] = run.operations;
    return 0;
}
