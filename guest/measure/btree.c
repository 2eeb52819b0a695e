#include "guest/measure/workload.h"

#define KEYS       15u
#define CHILDREN   16u
#define LEVELS_MAX 16

/*
 * The children of an inner node hold what is below key 0, from key 0 on, from key 1 on, and so
 * forth; those of a leaf are the values of its keys.
 */
struct node {
    uint64_t key[KEYS];
    uint32_t child[CHILDREN];
    uint32_t count; /* of keys */
    uint32_t padding[17];
};

_Static_assert(sizeof(struct node) == 256, "four cache lines");

/*
 * All nodes are full but the last of each level, so that the tree's size says where everything
 * is: node j of a level is the first[level] + j-th, and lies at workload_scatter of that.
 */
struct shape {
    unsigned bits;   /* of a node's place */
    unsigned levels; /* 0: leaves */
    uint64_t first[LEVELS_MAX], nodes[LEVELS_MAX];
    uint64_t keys;
};

static struct shape shape_of(uint64_t bytes)
{
    struct shape s = { .bits = workload_log2(bytes / sizeof(struct node)) };
    uint64_t n = (1ull << s.bits) / CHILDREN * KEYS - 2 * LEVELS_MAX;

    s.keys = n * KEYS;
    for (uint64_t first = 0;; n = (n + CHILDREN - 1) / CHILDREN) {
        s.first[s.levels] = first;
        s.nodes[s.levels++] = n;
        first += n;
        if (n == 1)
            return s;
    }
}

static uint32_t place(const struct shape *s, unsigned level, uint64_t j)
{
    return (uint32_t)workload_scatter(s->first[level] + j, s->bits);
}

/* Odd ones are not there. */
static uint64_t key_of(uint64_t n)
{
    return 2 * n + 2;
}

static void fill_leaf(struct node *node, uint64_t j, uint64_t *seed)
{
    node->count = KEYS;
    for (unsigned i = 0; i < KEYS; i++) {
        node->key[i] = key_of(j * KEYS + i);
        node->child[i] = (uint32_t)random_next(seed);
    }
}

static void fill_inner(const struct shape *s, struct node *node, unsigned level, uint64_t j)
{
    uint64_t leaves = 1; /* below each child */
    unsigned children = 0;

    for (unsigned i = 1; i < level; i++)
        leaves *= CHILDREN;
    for (uint64_t c = j * CHILDREN; c < s->nodes[level - 1] && children < CHILDREN; c++) {
        if (children)
            node->key[children - 1] = key_of(c * leaves * KEYS);
        node->child[children++] = place(s, level - 1, c);
    }
    node->count = children - 1;
}

void btree_build(void *memory, uint64_t bytes, uint64_t seed)
{
    struct shape s = shape_of(bytes);
    struct node *nodes = memory;

    for (uint64_t j = 0; j < s.nodes[0]; j++)
        fill_leaf(&nodes[place(&s, 0, j)], j, &seed);
    for (unsigned level = 1; level < s.levels; level++) {
        for (uint64_t j = 0; j < s.nodes[level]; j++)
            fill_inner(&s, &nodes[place(&s, level, j)], level, j);
    }
}

/* How many of the node's keys are not above this one. */
static unsigned rank(const struct node *node, uint64_t key)
{
    unsigned i = 0;

    while (i < node->count && node->key[i] <= key)
        i++;
    return i;
}

static uint64_t look_up(const struct shape *s, const struct node *nodes, uint32_t root,
                        uint64_t key)
{
    const struct node *node = &nodes[root];
    unsigned i;

    for (unsigned level = s->levels - 1; level; level--)
        node = &nodes[node->child[rank(node, key)]];
    i = rank(node, key);
    return i && node->key[i - 1] == key ? node->child[i - 1] : 0;
}

struct workload_run btree_run(void *memory, uint64_t bytes, uint64_t seed, uint64_t count)
{
    struct shape s = shape_of(bytes);
    uint32_t root = place(&s, s.levels - 1, 0);
    uint64_t result = 0;

    for (uint64_t i = 0; i < count; i++)
        result += look_up(&s, memory, root, 2 + (random_next(&seed) >> 16) % (2 * s.keys));
    return (struct workload_run){ .result = result, .operations = count };
}
