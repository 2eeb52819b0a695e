#include "guest/measure/chain.h"

#include "guest/measure/command.h"

/*
 * A cycle through all nodes, each as likely as any other (Sattolo 1986): shuffled as by
 * Fisher and Yates, but nothing is ever swapped with itself. It is made where it lies.
 */
int command_chain_make(const struct abi_command *command, struct abi_reply *reply)
{
    uint64_t base = command->va, n = command->count, state = command->seed;
    bool packed = command->flags & ABI_CHAIN_PACKED;

    (void)reply;
    if (!n || n & (n - 1) || !state || chain_bytes(n, packed) > command->bytes)
        return -ABI_EINVAL;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t node = base + chain_place(i, n, packed);

        *(uint64_t *)node = node;
    }
    for (uint64_t i = n - 1; i; i--) {
        uint64_t *one = (uint64_t *)(base + chain_place(i, n, packed));
        uint64_t *other = (uint64_t *)(base + chain_place(random_next(&state) % i, n, packed));
        uint64_t next = *one;

        *one = *other;
        *other = next;
    }
    return 0;
}

static uint64_t follow(uint64_t node, uint64_t count)
{
    while (count--)
        node = *(volatile uint64_t *)node;
    return node;
}

int command_chain_follow(const struct abi_command *command, struct abi_reply *reply)
{
    const uint64_t start[2] = { command->va, command->arg[0] };
    uint64_t warm = command->arg[1];

    for (unsigned i = 0; i < 2; i++) {
        uint64_t node = follow(start[i], warm), begin = clock_begin();

        node = follow(node, command->count);
        reply->value[2 * i] = clock_end() - begin;
        reply->value[2 * i + 1] = node;
    }
    return 0;
}
