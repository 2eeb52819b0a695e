#include "vmm/measure/fork_side.h"

#include <errno.h>

#include "guest/abi/syscall.h"
#include "vmm/measure/native.h"
#include "vmm/measure/test_region.h"

#define PAGE_BYTES 4096ull

static int fork_side_carry_out(struct fork_side *side, const struct abi_command *command,
                               struct abi_reply *reply)
{
    if (side->session)
        return test_region_command(side->session, command, reply, "fork or copy");
    native_command(command, reply);
    return reply->status ? -EIO : 0;
}

static uint64_t fork_side_bytes_of(const struct fork_side *side)
{
    return side->pages * PAGE_BYTES;
}

static int fork_side_map(struct fork_side *side, uint64_t *va)
{
    const struct abi_command command = { .kind = ABI_COMMAND_MAP,
                                         .bytes = fork_side_bytes_of(side) };
    struct abi_reply reply;
    int err = fork_side_carry_out(side, &command, &reply);

    *va = reply.value[0];
    return err;
}

static int fork_side_unmap(struct fork_side *side, uint64_t va)
{
    const struct abi_command command = { .kind = ABI_COMMAND_UNMAP,
                                         .va = va,
                                         .bytes = fork_side_bytes_of(side) };
    struct abi_reply reply;

    return fork_side_carry_out(side, &command, &reply);
}

static int fork_side_drop_copy(struct fork_side *side)
{
    const struct abi_command command = { .kind = ABI_COMMAND_DISCARD,
                                         .va = side->to,
                                         .bytes = fork_side_bytes_of(side) };
    struct abi_reply reply;

    return fork_side_carry_out(side, &command, &reply);
}

static int fork_side_touch(struct fork_side *side, uint64_t va, uint64_t pages, double *ticks)
{
    const struct abi_command command = { .kind = ABI_COMMAND_TOUCH,
                                         .va = va,
                                         .bytes = pages * PAGE_BYTES,
                                         .stride = PAGE_BYTES,
                                         .flags = ABI_TOUCH_WRITE };
    struct abi_reply reply;
    int err = fork_side_carry_out(side, &command, &reply);

    *ticks = (double)reply.value[0];
    return err;
}

static int fork_side_copy(struct fork_side *side, double *ticks)
{
    const struct abi_command command = { .kind = ABI_COMMAND_COPY,
                                         .va = side->to,
                                         .bytes = fork_side_bytes_of(side),
                                         .stride = PAGE_BYTES,
                                         .arg = { side->from } };
    struct abi_reply reply;
    int err = fork_side_carry_out(side, &command, &reply);

    *ticks = (double)reply.value[0];
    return err;
}

/* Nothing but the pages is there to be forked: the copy has been dropped. */
static int fork_side_fork_and_store(struct fork_side *side, uint32_t flags, uint64_t pages,
                                    double *fork_ticks, double *store_ticks)
{
    const struct abi_command command = { .kind = ABI_COMMAND_FORK,
                                         .va = side->from,
                                         .bytes = fork_side_bytes_of(side),
                                         .stride = PAGE_BYTES,
                                         .count = pages,
                                         .arg = { flags } };
    struct abi_reply reply;
    int err = fork_side_carry_out(side, &command, &reply);

    *fork_ticks = (double)reply.value[ABI_FORK_TICKS];
    *store_ticks = (double)reply.value[ABI_FORK_STORES_TICKS];
    return err;
}

/* Each part of the formula by itself. */
static int fork_side_measure_costs(struct fork_side *side, double cost[FORK_COSTS])
{
    double ignored;
    int err = fork_side_fork_and_store(side, 0, 0, &cost[FORK_COST_PT], &ignored);

    if (!err)
        err = fork_side_fork_and_store(side, 0, side->pages, &ignored, &cost[FORK_COST_COW]);
    if (!err && side->eager)
        err = fork_side_fork_and_store(side, ABI_FORK_EAGER, 0, &cost[FORK_COST_EAGER], &ignored);
    if (!err)
        err = fork_side_touch(side, side->to, side->pages, &cost[FORK_COST_ALLOC]);
    if (!err)
        err = fork_side_copy(side, &cost[FORK_COST_COPY]);
    for (unsigned i = 0; i < FORK_COSTS; i++)
        cost[i] /= (double)side->pages;
    return err ? err : fork_side_drop_copy(side);
}

/* From the decision to the last of so many pages written. */
static int fork_side_measure_total(struct fork_side *side, enum fork_way way, uint64_t written,
                                   double *total)
{
    double first = 0, then = 0;
    int err;

    if (way == FORK_WAY_COPIED) {
        err = fork_side_copy(side, &first);
        if (!err)
            err = fork_side_touch(side, side->to, written, &then);
        if (!err)
            err = fork_side_drop_copy(side);
    } else {
        err = fork_side_fork_and_store(side, way == FORK_WAY_EAGER ? ABI_FORK_EAGER : 0, written,
                                       &first, &then);
    }
    *total = first + then;
    return err;
}

static int fork_side_one_batch(struct fork_side *side, unsigned batch)
{
    double cost[FORK_COSTS] = { 0 };
    int err = fork_side_measure_costs(side, cost);

    for (unsigned i = 0; i < FORK_COSTS; i++)
        side->cost[i][batch] = cost[i];
    for (unsigned step = 0; step <= side->steps && !err; step++) {
        for (enum fork_way way = 0; way < FORK_WAYS && !err; way++) {
            if (way != FORK_WAY_EAGER || side->eager)
                err = fork_side_measure_total(side, way, side->pages * step / side->steps,
                                              &side->total[way][step][batch]);
        }
    }
    return err;
}

/* The first batch is overwritten by the second: it is to warm up. */
int fork_side_measure(struct measure_run *run, struct fork_side *side)
{
    double ignored;
    int err = fork_side_map(side, &side->from);

    if (!err)
        err = fork_side_map(side, &side->to);
    if (!err)
        err = fork_side_touch(side, side->from, side->pages, &ignored);
    for (unsigned i = 0; i <= side->batches && !err; i++) {
        measure_progress(run, ((side->session ? 0 : 1) + (double)i / (side->batches + 1)) / 2,
                         side->name);
        err = fork_side_one_batch(side, i ? i - 1 : 0);
    }
    if (!err)
        err = fork_side_unmap(side, side->from);
    return err ? err : fork_side_unmap(side, side->to);
}
