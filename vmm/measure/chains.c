#include "vmm/measure/chains.h"

#include <errno.h>

#include "guest/abi/checkpoint.h"
#include "guest/measure/chain.h"
#include "vmm/measure/native.h"

#define NODES_LEAST 4096

int chain_order(const struct chain_place *place, const struct abi_command *command,
                struct abi_reply *reply)
{
    int err = 0;

    if (place->session)
        err = session_command(place->session, command, reply);
    else
        native_command(command, reply);
    return err ? err : (int)reply->status;
}

int chain_map(const struct chain_place *place, enum abi_page_kind page, uint64_t bytes,
              uint64_t *va)
{
    uint64_t whole = page == ABI_PAGE_1G   ? ABI_GIANT_BYTES
                     : page == ABI_PAGE_2M ? ABI_HUGE_BYTES
                                           : 1;
    struct abi_command command = { .kind = ABI_COMMAND_MAP,
                                   .page = page,
                                   .bytes = (bytes + whole - 1) & ~(whole - 1) };
    struct abi_reply reply;
    int err = chain_order(place, &command, &reply);

    if (err)
        return err;
    *va = reply.value[0];
    command = (struct abi_command){ .kind = ABI_COMMAND_TOUCH,
                                    .va = *va,
                                    .bytes = bytes,
                                    .stride = CHAIN_PAGE_BYTES,
                                    .flags = ABI_TOUCH_WRITE };
    return chain_order(place, &command, &reply);
}

int chain_make(const struct chain_place *place, uint64_t bytes, uint64_t seed)
{
    struct abi_command command = { .kind = ABI_COMMAND_CHAIN_MAKE,
                                   .va = place->spread,
                                   .bytes = place->bytes,
                                   .count = bytes / CHAIN_PAGE_BYTES,
                                   .seed = seed };
    struct abi_reply reply;
    int err = chain_order(place, &command, &reply);

    if (err)
        return err;
    command.va = place->packed;
    command.bytes = place->packed_bytes;
    command.flags = ABI_CHAIN_PACKED;
    return chain_order(place, &command, &reply);
}

int chain_follow(const struct chain_place *place, uint64_t bytes, double ns_per_tick,
                 struct chain_series *series)
{
    uint64_t nodes = bytes / CHAIN_PAGE_BYTES;
    uint64_t count = nodes < NODES_LEAST ? NODES_LEAST : nodes;
    const struct abi_command command = { .kind = ABI_COMMAND_CHAIN_FOLLOW,
                                         .va = place->spread,
                                         .arg = { place->packed, nodes },
                                         .count = count };
    struct abi_reply reply;
    int err = chain_order(place, &command, &reply);

    if (err)
        return err;
    if (reply.value[1] != place->spread || reply.value[3] != place->packed)
        return -EIO;
    if (series->n < CHAIN_SAMPLES) {
        series->spread[series->n] = (double)reply.value[0] * ns_per_tick / (double)count;
        series->packed[series->n++] = (double)reply.value[2] * ns_per_tick / (double)count;
    }
    return 0;
}
