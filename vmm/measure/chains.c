#include "vmm/measure/chains.h"

#include <errno.h>

#include "guest/abi/checkpoint.h"
#include "guest/measure/chain.h"

#define NODES_LEAST 4096

int chain_order(const struct chain_place *place, const struct abi_order *order,
                struct abi_answer *answer)
{
    int err = 0;

    if (place->session)
        err = session_order(place->session, order, answer);
    else
        native_order(order, answer);
    return err ? err : (int)answer->status;
}

int chain_map(const struct chain_place *place, enum abi_page_kind page, uint64_t bytes,
              uint64_t *va)
{
    uint64_t whole = page == ABI_PAGE_1G   ? ABI_GIANT_BYTES
                     : page == ABI_PAGE_2M ? ABI_HUGE_BYTES
                                           : 1;
    struct abi_order order = { .kind = ABI_ORDER_MAP,
                               .page = page,
                               .bytes = (bytes + whole - 1) & ~(whole - 1) };
    struct abi_answer answer;
    int err = chain_order(place, &order, &answer);

    if (err)
        return err;
    *va = answer.value[0];
    order = (struct abi_order){ .kind = ABI_ORDER_TOUCH,
                                .va = *va,
                                .bytes = bytes,
                                .stride = CHAIN_PAGE_BYTES,
                                .flags = ABI_TOUCH_WRITE };
    return chain_order(place, &order, &answer);
}

int chain_make(const struct chain_place *place, uint64_t bytes, uint64_t seed)
{
    struct abi_order order = { .kind = ABI_ORDER_CHAIN_MAKE,
                               .va = place->spread,
                               .bytes = place->bytes,
                               .count = bytes / CHAIN_PAGE_BYTES,
                               .seed = seed };
    struct abi_answer answer;
    int err = chain_order(place, &order, &answer);

    if (err)
        return err;
    order.va = place->packed;
    order.bytes = place->packed_bytes;
    order.flags = ABI_CHAIN_PACKED;
    return chain_order(place, &order, &answer);
}

int chain_follow(const struct chain_place *place, uint64_t bytes, double ns_per_tick,
                 struct chain_series *series)
{
    uint64_t nodes = bytes / CHAIN_PAGE_BYTES;
    uint64_t count = nodes < NODES_LEAST ? NODES_LEAST : nodes;
    const struct abi_order order = { .kind = ABI_ORDER_CHAIN_FOLLOW,
                                     .va = place->spread,
                                     .arg = { place->packed, nodes },
                                     .count = count };
    struct abi_answer answer;
    int err = chain_order(place, &order, &answer);

    if (err)
        return err;
    if (answer.value[1] != place->spread || answer.value[3] != place->packed)
        return -EIO;
    if (series->n < CHAIN_SAMPLES) {
        series->spread[series->n] = (double)answer.value[0] * ns_per_tick / (double)count;
        series->packed[series->n++] = (double)answer.value[2] * ns_per_tick / (double)count;
    }
    return 0;
}
