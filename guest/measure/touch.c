#include <stdbool.h>

#include "guest/measure/command.h"

int command_clock(const struct abi_command *command, struct abi_reply *reply)
{
    for (uint64_t i = 0; i < command->count; i++) {
        uint64_t begin = clock_begin();

        abi_histogram_add(&reply->histogram, clock_end() - begin);
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

int command_touch(const struct abi_command *command, struct abi_reply *reply)
{
    bool write = command->flags & ABI_TOUCH_WRITE, timed = command->flags & ABI_TOUCH_TIMED;
    uint64_t start = clock_begin();

    if (!command->stride)
        return -ABI_EINVAL;
    for (uint64_t at = 0; at + sizeof(uint64_t) <= command->bytes; at += command->stride) {
        volatile uint64_t *word = (volatile uint64_t *)(command->va + at);
        uint64_t begin = timed ? clock_begin() : 0;

        touch(word, write);
        if (timed)
            abi_histogram_add(&reply->histogram, clock_end() - begin);
    }
    reply->value[0] = clock_end() - start;
    return 0;
}
