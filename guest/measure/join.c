#include "guest/measure/workload.h"

/* The first half of the memory is the table, the second half the rows. */
struct slot {
    uint64_t key, payload; /* key 0: empty */
};

static uint64_t first_slot(uint64_t key, uint64_t mask)
{
    return key * 0x9e3779b97f4a7c15ull >> 20 & mask;
}

/* Key n of the table; another number is in no row of it. */
static uint64_t key_of(uint64_t n)
{
    return 2 * n + 2;
}

void join_build(void *memory, uint64_t bytes, uint64_t seed)
{
    struct slot *table = memory;
    uint64_t nslots = bytes / 2 / sizeof(table[0]), keys = nslots / 2;
    uint64_t *row = (uint64_t *)((char *)memory + bytes / 2);

    for (uint64_t i = 0; i < nslots; i++)
        table[i] = (struct slot){ 0 };
    for (uint64_t n = 0; n < keys; n++) {
        uint64_t at = first_slot(key_of(n), nslots - 1);

        while (table[at].key)
            at = (at + 1) & (nslots - 1);
        table[at] = (struct slot){ .key = key_of(n), .payload = random_next(&seed) };
    }
    /* Odd ones match nothing. */
    for (uint64_t i = 0; i < bytes / 2 / sizeof(row[0]); i++) {
        uint64_t chance = random_next(&seed);

        row[i] = key_of((chance >> 20) % keys) + (chance >> 8 & 1);
    }
}

struct workload_run join_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count)
{
    const struct slot *table = memory;
    uint64_t mask = bytes / 2 / sizeof(table[0]) - 1, result = 0;
    const uint64_t *row = (const uint64_t *)((const char *)memory + bytes / 2);
    uint64_t rows = bytes / 2 / sizeof(row[0]), next = random_next(&seed) & (rows - 1);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = row[next], at = first_slot(key, mask);

        while (table[at].key && table[at].key != key)
            at = (at + 1) & mask;
        if (table[at].key)
            result += table[at].payload ^ key;
        next = (next + 1) & (rows - 1);
    }
    return (struct workload_run){ .result = result, .operations = count };
}
