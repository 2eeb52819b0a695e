#include "guest/measure/workload.h"

#define DEGREE 8

/* 40 bytes for each vertex, which are less than the memory's 64. */
struct graph {
    uint64_t vertices;
    uint32_t (*edge)[DEGREE];
    uint32_t *distance; /* 0: not seen; of the first one: 1 */
    uint32_t *queue;
};

static struct graph graph_in(void *memory, uint64_t bytes)
{
    struct graph g = { .vertices = bytes / 64, .edge = memory };

    g.distance = (uint32_t *)((char *)memory + g.vertices * sizeof(g.edge[0]));
    g.queue = g.distance + g.vertices;
    return g;
}

void bfs_build(void *memory, uint64_t bytes, uint64_t seed)
{
    struct graph g = graph_in(memory, bytes);

    for (uint64_t v = 0; v < g.vertices; v++) {
        for (unsigned i = 0; i < DEGREE; i++)
            g.edge[v][i] = (uint32_t)(random_next(&seed) >> 20 & (g.vertices - 1));
    }
}

void bfs_clear(void *memory, uint64_t bytes)
{
    struct graph g = graph_in(memory, bytes);

    for (uint64_t v = 0; v < g.vertices; v++)
        g.distance[v] = g.queue[v] = 0;
}

struct workload_run bfs_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count)
{
    struct graph g = graph_in(memory, bytes);
    struct workload_run run = { 0 };
    uint64_t head = 0, tail = 0;

    g.queue[tail++] = (uint32_t)(random_next(&seed) >> 20 & (g.vertices - 1));
    g.distance[g.queue[0]] = 1;
    while (head < tail && head < count) {
        uint32_t v = g.queue[head++], next = g.distance[v] + 1;

        for (unsigned i = 0; i < DEGREE; i++) {
            uint32_t to = g.edge[v][i];

            run.operations++;
            if (g.distance[to])
                continue;
            g.distance[to] = next;
            g.queue[tail++] = to;
            run.result += (uint64_t)next * (to | 1);
        }
    }
    return run;
}
