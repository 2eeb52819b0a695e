#include "guest/measure/workload.h"

void gups_build(void *memory, uint64_t bytes, uint64_t seed)
{
    uint64_t *table = memory;

    for (uint64_t i = 0; i < bytes / sizeof(table[0]); i++)
        table[i] = i ^ seed;
}

struct workload_run gups_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count)
{
    uint64_t *table = memory, mask = bytes / sizeof(table[0]) - 1, result = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t chance = random_next(&seed), *word = &table[chance >> 20 & mask];

        result += *word;
        *word ^= chance;
    }
    return (struct workload_run){ .result = result, .operations = count };
}
