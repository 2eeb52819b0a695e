/*
 * Workloads (enum abi_workload): each builds its data in the memory it is given, and runs on
 * it. A run counts what it does and what comes of it, so that two can be held to have done the
 * same.
 */
#ifndef STRATA_MEASURE_WORKLOAD_H
#define STRATA_MEASURE_WORKLOAD_H

#include <stddef.h>
#include <stdint.h>

#include "guest/measure/command.h"

struct workload_run {
    uint64_t result, operations;
};

void gups_build(void *memory, uint64_t bytes, uint64_t seed);
struct workload_run gups_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count);

/* Comer, The Ubiquitous B-Tree (1979): nodes of four cache lines, scattered in memory. */
void btree_build(void *memory, uint64_t bytes, uint64_t seed);
struct workload_run btree_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count);

/* A table with linear probing, half full, and rows that are read in order. */
void join_build(void *memory, uint64_t bytes, uint64_t seed);
struct workload_run join_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count);

/* A graph in which each vertex has eight edges to random others. */
void bfs_build(void *memory, uint64_t bytes, uint64_t seed);
struct workload_run bfs_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count);
/* What a run needs done first, not timed. */
void bfs_clear(void *memory, uint64_t bytes);

/*
 * A number below 2^bits, each from exactly one below 2^bits: multiplications by odd numbers
 * and shifts can be undone (as in the finaliser of MurmurHash3).
 */
static inline uint64_t workload_scatter(uint64_t x, unsigned bits)
{
    const uint64_t mask = (1ull << bits) - 1;

    x ^= x >> (bits / 2);
    x = x * 0x9e3779b97f4a7c15ull & mask;
    x ^= x >> (bits / 2);
    x = x * 0xbf58476d1ce4e5b9ull & mask;
    return x ^ x >> (bits / 2);
}

static inline unsigned workload_log2(uint64_t x)
{
    return 63u - (unsigned)__builtin_clzll(x);
}

#endif
