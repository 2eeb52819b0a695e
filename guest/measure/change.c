#include <stdbool.h>

#include "guest/measure/command.h"

static uint64_t bytes_of(uint32_t page)
{
    return page == ABI_PAGE_2M ? 2ull << 20 : 4096;
}

static int change_each(const struct platform *platform, const struct abi_command *command,
                       char *base, struct abi_reply *reply)
{
    uint64_t page = bytes_of(command->page), begin;
    bool unmaps = command->arg[0];
    int err = 0;

    for (uint64_t i = 0; i < command->count && !err; i++) {
        char *at = base + i * page;

        *(volatile uint64_t *)at = i;
        begin = clock_begin();
        err = unmaps ? platform->unmap(at, page) : platform->read_only(at, page);
        abi_histogram_add(&reply->histogram, clock_end() - begin);
    }
    return err;
}

/*
 * One page more than is changed: its table stays, so that no change has the table's end to pay
 * for. The pages go in ascending order, so that what is left is always one range.
 */
int command_change(const struct platform *platform, const struct abi_command *command,
                   struct abi_reply *reply)
{
    uint64_t page = bytes_of(command->page), bytes = (command->count + 1) * page, start, done;
    char *base;
    int err, stopped;

    if (command->count > 1u << 20)
        return -ABI_EINVAL;
    base = platform->map(bytes, command->page);
    if (!base)
        return -ABI_ENOMEM;
    *(volatile uint64_t *)(base + bytes - page) = 1;
    start = clock_begin();
    err = platform->companions((unsigned)command->arg[1]);
    reply->value[0] = clock_end() - start;
    if (!err)
        err = change_each(platform, command, base, reply);
    start = clock_begin();
    stopped = platform->companions(0);
    reply->value[0] += clock_end() - start;
    /* Whatever is left of it. */
    done = command->arg[0] ? reply->histogram.count * page : 0;
    platform->unmap(base + done, bytes - done);
    return err ? err : stopped;
}
