#include "guest/measure/command.h"

static int command_zeroing(const struct platform *platform, const struct abi_command *command,
                           struct abi_reply *reply)
{
    int64_t before = platform->zeroing ? platform->zeroing(command->count) : -ABI_ENOSYS;

    reply->value[0] = (uint64_t)before;
    return before < 0 ? (int)before : 0;
}

static int command_copy(const struct abi_command *command, struct abi_reply *reply)
{
    uint64_t start = clock_begin();

    if (!command->stride)
        return -ABI_EINVAL;
    for (uint64_t at = 0; at + command->stride <= command->bytes; at += command->stride) {
        void *to = (void *)(command->va + at);
        const void *from = (const void *)(command->arg[0] + at);
        uint64_t words = command->stride / sizeof(uint64_t);

        /* The fault first: one that interrupts a string instruction takes longer. */
        *(volatile uint64_t *)to = 0;
        /* As kernels copy pages. */
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
    }
    reply->value[0] = clock_end() - start;
    return 0;
}

int command_fault(const struct platform *platform, const struct abi_command *command,
                  struct abi_reply *reply)
{
    switch (command->kind) {
    case ABI_COMMAND_DISCARD: return platform->discard((void *)command->va, command->bytes);
    case ABI_COMMAND_ZEROING: return command_zeroing(platform, command, reply);
    case ABI_COMMAND_COPY: return command_copy(command, reply);
    case ABI_COMMAND_FORK: return command_fork(platform, command, reply);
    case ABI_COMMAND_CHANGE: return command_change(platform, command, reply);
    }
    return -ABI_ENOSYS;
}
