#include "guest/measure/command.h"

static int command_map(const struct platform *platform, const struct abi_command *command,
                       struct abi_reply *reply)
{
    void *va = platform->map(command->bytes, command->page);

    reply->value[0] = (uint64_t)va;
    return va ? 0 : -ABI_ENOMEM;
}

static int command_kernel(const struct platform *platform, const struct abi_command *command,
                          struct abi_reply *reply)
{
    int64_t done;

    if (!platform->kernel || command->arg[0] >= ABI_MEASURE_OPS)
        return -ABI_ENOSYS;
    done = platform->kernel((enum abi_measure_op)command->arg[0], command->count, command->arg[1]);
    reply->value[0] = (uint64_t)done;
    return done < 0 ? (int)done : 0;
}

static int carry_out(const struct platform *platform, const struct abi_command *command,
                     struct abi_reply *reply)
{
    switch (command->kind) {
    case ABI_COMMAND_CLOCK: return command_clock(command, reply);
    case ABI_COMMAND_MAP: return command_map(platform, command, reply);
    case ABI_COMMAND_UNMAP: return platform->unmap((void *)command->va, command->bytes);
    case ABI_COMMAND_TOUCH: return command_touch(command, reply);
    case ABI_COMMAND_KERNEL: return command_kernel(platform, command, reply);
    case ABI_COMMAND_WAIT: return command_wait(command, reply);
    case ABI_COMMAND_CHAIN_MAKE: return command_chain_make(command, reply);
    case ABI_COMMAND_CHAIN_FOLLOW: return command_chain_follow(command, reply);
    case ABI_COMMAND_WORKLOAD: return command_workload(command, reply);
    }
    return command_fault(platform, command, reply);
}

void command_run(const struct platform *platform, const struct abi_command *command,
                 struct abi_reply *reply)
{
    __builtin_memset(reply, 0, sizeof(*reply));
    reply->status = carry_out(platform, command, reply);
}
