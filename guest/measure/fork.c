#include <stdbool.h>

#include "guest/measure/command.h"

/* Odd, so that i times it meets every one of 2^n pages once, far from the one before. */
#define SPREAD 0x9e3779b1u

static volatile uint64_t *page_at(const struct abi_command *command, uint64_t i)
{
    uint64_t pages = command->bytes / command->stride;

    return (volatile uint64_t *)(command->va + (i * SPREAD & (pages - 1)) * command->stride);
}

/* The child's part; its answer lies where the parent sees it. */
static void store(const struct abi_command *command, struct abi_reply *reply)
{
    bool timed = command->flags & ABI_TOUCH_TIMED;
    uint64_t start = clock_begin();

    for (uint64_t i = 0; i < command->count; i++) {
        volatile uint64_t *word = page_at(command, i);
        uint64_t begin = timed ? clock_begin() : 0;

        *word = i;
        if (timed)
            abi_histogram_add(&reply->histogram, clock_end() - begin);
    }
    reply->value[ABI_FORK_STORES_TICKS] = clock_end() - start;
    reply->status = 0;
}

int command_fork(const struct platform *platform, const struct abi_command *command,
                 struct abi_reply *reply)
{
    uint64_t pages = command->stride ? command->bytes / command->stride : 0, start, forked;
    struct abi_reply *shared = pages ? platform->shared() : NULL;
    int64_t child;
    int err;

    if (!pages || pages & (pages - 1) || command->count > pages)
        return -ABI_EINVAL;
    if (!shared)
        return -ABI_ENOMEM;
    /* Touched before, so that the child's answer takes no fault between two looks at the clock. */
    __builtin_memset(shared, 0, sizeof(*shared));
    shared->status = -ABI_EAGAIN;
    start = clock_begin();
    child = platform->fork((uint32_t)command->arg[0]);
    forked = clock_end();
    if (child < 0)
        return (int)child;
    if (child == 0) {
        store(command, shared);
        platform->leave();
    }
    err = platform->reap(child);
    __builtin_memcpy(reply, shared, sizeof(*reply));
    reply->value[ABI_FORK_TICKS] = forked - start;
    reply->value[ABI_FORK_ALL_TICKS] = clock_end() - start;
    /* Writable again for the parent, so that each time begins alike. */
    for (uint64_t i = 0; i < pages; i++)
        *page_at(command, i) = i;
    return err ? err : (int)reply->status;
}
