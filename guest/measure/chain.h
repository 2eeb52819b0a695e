/*
 * Pointer chains: nodes, each of which holds the address of the next, in one cycle of random
 * order. Following one waits for each load before it knows the next address.
 *
 * Two chains of as many nodes differ in nothing but pages: a spread one has a node in each
 * 4K, a packed one has them side by side. Both lie evenly over the sets of a cache: nodes are
 * numbered so that, for any number of sets that is a power of two, no set gets more nodes
 * of the one than of the other. A node takes a pair of lines of 64 bytes, since CPUs fetch
 * the neighbour along: what comes unasked is then useless to both.
 */
#ifndef STRATA_MEASURE_CHAIN_H
#define STRATA_MEASURE_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#define CHAIN_NODE_BYTES 128ull
#define CHAIN_PAGE_BYTES 4096ull
#define CHAIN_IN_PAGE    (CHAIN_PAGE_BYTES / CHAIN_NODE_BYTES)

/*
 * Where node i of n, a power of two, lies from the chain's start on. Of a spread chain the
 * place within the page goes up once with all of the pages, not with each: page and place
 * together then name every pair of sets equally often.
 */
static inline uint64_t chain_place(uint64_t i, uint64_t n, bool packed)
{
    uint64_t within = n < CHAIN_IN_PAGE ? i : i / (n / CHAIN_IN_PAGE);

    return packed ? i * CHAIN_NODE_BYTES : i * CHAIN_PAGE_BYTES + within * CHAIN_NODE_BYTES;
}

/* Bytes from a chain's start to behind its end. */
static inline uint64_t chain_bytes(uint64_t n, bool packed)
{
    return n * (packed ? CHAIN_NODE_BYTES : CHAIN_PAGE_BYTES);
}

#endif
