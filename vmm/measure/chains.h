/*
 * Pairs of pointer chains (guest/measure/chain.h), one spread over pages and one packed,
 * in the guest and in this process, followed by turns.
 */
#ifndef STRATA_MEASURE_CHAINS_H
#define STRATA_MEASURE_CHAINS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/measure/session.h"

/* Memory for both chains. */
struct chain_place {
    struct session *session; /* NULL: in this process */
    uint64_t spread, packed; /* addresses */
    uint64_t bytes, packed_bytes;
};

#define CHAIN_SAMPLES 256

/* One number for each batch: ns for each node. */
struct chain_series {
    size_t n;
    double spread[CHAIN_SAMPLES], packed[CHAIN_SAMPLES];
};

/* A command at a place, in the guest or here: 0, its own -ABI_E*, or session_command's -errno. */
int chain_order(const struct chain_place *place, const struct abi_command *command,
                struct abi_reply *reply);

/* Maps memory there by pages of that kind, as many as it takes, and touches `bytes` of it.
 * As chain_order. */
int chain_map(const struct chain_place *place, enum abi_page_kind page, uint64_t bytes,
              uint64_t *va);

/* Makes both chains, of a node for each 4K of `bytes`. */
int chain_make(const struct chain_place *place, uint64_t bytes, uint64_t seed);

/*
 * One batch: each chain once around untimed, then timed, at least 4096 nodes. Appends to
 * the series while there is room. -EIO: it did not end where it began.
 */
int chain_follow(const struct chain_place *place, uint64_t bytes, double ns_per_tick,
                 struct chain_series *series);

#endif
