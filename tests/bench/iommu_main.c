/*
 * The IOMMU's tables beside what others use, a program of its own because of GLib:
 *
 *   lookups  at 16,384 mappings of a page each, by the same random addresses: the IOTLB
 *            (addresses that hit it), the radix tables, a GLib GTree keyed by interval
 *            (QEMU's virtio-iommu has one), a sorted array with bsearch(3);
 *   growth   iommu_map and iommu_unmap, of one page, in a domain with 1,000 and in one with
 *            1,000,000 mappings: in the order of a ring of buffers, which takes the oldest
 *            away and adds the next (tables come and go with them); and, without a limit,
 *            unmapping at random, where what grows are the host's cache and TLB misses.
 *
 * All are measured in turn, round after round, so that what disturbs the machine disturbs
 * all; medians of the rounds. Prints `name value unit rounds`. Status 2: could not measure.
 */
#include <err.h>
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/iommu/dma.h"
#include "devices/iommu/iopt.h"
#include "devices/iommu/iotlb.h"
#include "guest/abi/machine.h"
#include "vmm/machine/memory.h"

#define PAGE     4096ull
#define MAPPINGS 16384u
#define FIRST    (0x100000000ull - MAPPINGS * PAGE) /* where Linux begins: below 4 GiB */
#define LOOKUPS  16384u
#define HOT      128u /* pages that are in the IOTLB */
#define ROUNDS   41u
#define RW       (IOMMU_READ | IOMMU_WRITE)

#define FEW      1000u
#define MANY     1000000u
#define BATCH    256u
#define PAGES    (MANY + 65536ull) /* of RAM, in turn */
#define BASE     (8ull << 30)

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t rng = 88172645463325252ull;

static uint64_t rnd(uint64_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng % below;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(const double *values, unsigned n)
{
    double sorted[ROUNDS];

    memcpy(sorted, values, n * sizeof(*values));
    qsort(sorted, n, sizeof(*sorted), by_value);
    return sorted[n / 2];
}

/* The median of the ratios of rounds. */
static double median_ratio(const double *over, const double *under, unsigned n)
{
    double ratio[ROUNDS];

    for (unsigned i = 0; i < n; i++)
        ratio[i] = over[i] / under[i];
    return median(ratio, n);
}

static void print(const char *name, double value, const char *unit)
{
    printf("%s %.10g %s %u\n", name, value, unit, ROUNDS);
}

static void must(int ret, const char *what)
{
    if (ret)
        errx(2, "%s: %s", what, strerror(-ret));
}

/* Lookups. Each store gives the target's address, or 0 for what may not be. */

struct mapping {
    uint64_t low, high, target;
    uint32_t prot;
};

static struct mapping mapping[MAPPINGS];
static GTree *tree;
static struct iopt iopt;
static struct iotlb tlb;

static gint by_interval(gconstpointer a, gconstpointer b, gpointer unused)
{
    const struct mapping *x = a, *y = b;

    (void)unused;
    return x->high < y->low ? -1 : y->high < x->low;
}

static int by_place(const void *a, const void *b)
{
    return by_interval(a, b, NULL);
}

static uint64_t target_of(const struct mapping *found, uint64_t address, uint32_t need)
{
    return found && !(need & ~found->prot) ? found->target + (address - found->low) : 0;
}

static uint64_t find_in_tree(uint64_t address, uint32_t need)
{
    const struct mapping key = { .low = address, .high = address };

    return target_of(g_tree_lookup(tree, &key), address, need);
}

static uint64_t find_in_array(uint64_t address, uint32_t need)
{
    const struct mapping key = { .low = address, .high = address };

    return target_of(bsearch(&key, mapping, MAPPINGS, sizeof(key), by_place), address, need);
}

static uint64_t find_in_radix(uint64_t address, uint32_t need)
{
    struct iopt_leaf leaf;

    return iopt_walk(&iopt, address, &leaf) && !(need & ~leaf.prot)
               ? leaf.gpa + (address - leaf.first)
               : 0;
}

/* As dma.c does: tag, prot, and whether the access ends on the page. */
static uint64_t find_in_tlb(uint64_t address, uint32_t need)
{
    const struct iotlb_entry *entry = iotlb_find(&tlb, address, need);

    return entry && entry->bytes - (address - entry->first) >= 8
               ? (uintptr_t)entry->host + (address - entry->first)
               : 0;
}

static uint64_t all[LOOKUPS], hot[LOOKUPS];

/* ns for each lookup; the loop is compiled for each store, as it is where it is used. */
#define TIME(addresses, find)                           \
    ({                                                  \
        uint64_t begin = now_ns(), sum = 0;             \
        for (unsigned i_ = 0; i_ < LOOKUPS; i_++)       \
            sum += (find)((addresses)[i_], IOMMU_READ); \
        begin = now_ns() - begin;                       \
        if (sum != addresses##_sum)                     \
            errx(2, "%s finds something else", #find);  \
        (double)begin / LOOKUPS;                        \
    })

static void lookups(void)
{
    static double hit[ROUNDS], walk[ROUNDS], array[ROUNDS], gtree[ROUNDS], gtree_hot[ROUNDS];
    struct iopt_budget budget = { .tables_max = 1000 };
    uint64_t all_sum = 0, hot_sum = 0;
    unsigned command[MAPPINGS];

    must(iopt_create(&iopt, (1ull << 48) - 1, PAGE, &budget), "iopt");
    tree = g_tree_new_full(by_interval, NULL, NULL, NULL);
    for (unsigned i = 0; i < MAPPINGS; i++) {
        command[i] = i;
        mapping[i] = (struct mapping){ .low = FIRST + i * PAGE,
                                       .high = FIRST + i * PAGE + PAGE - 1,
                                       .target = PAGE + (i * 7919ull % MAPPINGS) * PAGE,
                                       .prot = RW };
    }
    /* Made in random order, as buffers come and go. */
    for (unsigned i = MAPPINGS - 1; i; i--) {
        unsigned k = (unsigned)rnd(i + 1), swap = command[i];

        command[i] = command[k];
        command[k] = swap;
    }
    for (unsigned i = 0; i < MAPPINGS; i++) {
        struct mapping *m = g_malloc(sizeof(*m));

        *m = mapping[command[i]];
        g_tree_insert(tree, m, m);
        must(iopt_map(&iopt, m->low, m->high, m->target, m->prot), "map");
    }
    for (unsigned i = 0; i < HOT; i++) {
        const struct mapping *m = &mapping[(i * 2 + rnd(MAPPINGS / 256) * 256) % MAPPINGS];

        *iotlb_slot(&tlb, m->low) = (struct iotlb_entry){
            .first = m->low, .bytes = PAGE, .prot = RW, .host = (char *)(uintptr_t)m->target
        };
        for (unsigned k = i; k < LOOKUPS; k += HOT)
            hot[k] = m->low + rnd(PAGE / 8) * 8;
    }
    for (unsigned i = 0; i < LOOKUPS; i++) {
        unsigned k = (unsigned)rnd(LOOKUPS);
        uint64_t swap = hot[i];

        hot[i] = hot[k];
        hot[k] = swap;
        all[i] = FIRST + rnd(MAPPINGS * PAGE);
    }
    for (unsigned i = 0; i < LOOKUPS; i++) {
        all_sum += find_in_array(all[i], IOMMU_READ);
        hot_sum += find_in_array(hot[i], IOMMU_READ);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        gtree[i] = TIME(all, find_in_tree);
        walk[i] = TIME(all, find_in_radix);
        array[i] = TIME(all, find_in_array);
        gtree_hot[i] = TIME(hot, find_in_tree);
        hit[i] = TIME(hot, find_in_tlb);
    }
    print("iotlb_hit_vs_gtree", median_ratio(hit, gtree_hot, ROUNDS), "ratio");
    print("iopt_walk_vs_gtree", median_ratio(walk, gtree, ROUNDS), "ratio");
    print("iotlb_hit_ns", median(hit, ROUNDS), "ns");
    print("iopt_walk_ns", median(walk, ROUNDS), "ns");
    print("sorted_array_ns", median(array, ROUNDS), "ns");
    print("gtree_ns", median(gtree, ROUNDS), "ns");
    print("gtree_hot_ns", median(gtree_hot, ROUNDS), "ns");
    iopt_destroy(&iopt);
}

/* Growth. */

static struct memory memory;

struct side {
    struct iommu *iommu;
    struct dma dma;
    uint64_t live;   /* mappings */
    uint64_t oldest; /* page from BASE on; all up to oldest + live are mapped */
    double map[ROUNDS], unmap[ROUNDS], unmap_random[ROUNDS];
};

static struct side few, many;

static int map(struct side *side, uint64_t page)
{
    uint64_t iova = BASE + page * PAGE, gpa = page % PAGES * PAGE;

    /* RAM has a hole below 4 GiB. */
    if (gpa >= ABI_RAM_LOW_END)
        gpa += ABI_RAM_HIGH_START - ABI_RAM_LOW_END;
    return iommu_map(side->iommu, 1, iova, iova + PAGE - 1, gpa, RW);
}

static int unmap(struct side *side, uint64_t page)
{
    return iommu_unmap(side->iommu, 1, BASE + page * PAGE, BASE + page * PAGE + PAGE - 1);
}

static void create(struct side *side, uint64_t live)
{
    static const struct iommu_config config = { .input = { 0, (1ull << 48) - 1 },
                                                .mappings_of_domain_max = 4 * MANY,
                                                .mappings_max = 4 * MANY };

    side->live = live;
    must(iommu_create(&side->iommu, &memory, &config), "iommu");
    must(dma_create(&side->dma, &memory, side->iommu, 1), "dma handle");
    must(iommu_attach(side->iommu, 1, 1, false), "attach");
    for (uint64_t page = 0; page < live; page++)
        must(map(side, page), "map");
}

static void destroy(struct side *side)
{
    dma_destroy(&side->dma);
    iommu_destroy(side->iommu);
}

/* ns for each of BATCH calls. */
static double time_calls(int (*call)(struct side *side, uint64_t page), struct side *side,
                         const uint64_t page[BATCH])
{
    uint64_t begin = now_ns();
    int err = 0;

    for (unsigned i = 0; i < BATCH; i++)
        err |= call(side, page[i]);
    begin = now_ns() - begin;
    must(err, "map and unmap");
    return (double)begin / BATCH;
}

static void measure_ring(struct side *side, unsigned round)
{
    uint64_t page[BATCH];

    for (unsigned i = 0; i < BATCH; i++)
        page[i] = side->oldest + i;
    side->unmap[round] = time_calls(unmap, side, page);
    for (unsigned i = 0; i < BATCH; i++)
        page[i] += side->live;
    side->map[round] = time_calls(map, side, page);
    side->oldest += BATCH;
}

static void measure_random(struct side *side, unsigned round)
{
    uint64_t page[BATCH], stretch = side->live / BATCH;

    /* No page twice: one in each stretch of live/BATCH pages, the stretches at random. */
    for (unsigned i = 0; i < BATCH; i++)
        page[i] = side->oldest + i * 97 % BATCH * stretch + rnd(stretch);
    side->unmap_random[round] = time_calls(unmap, side, page);
    /* Not a result: they have just been in the cache. */
    time_calls(map, side, page);
}

static void growth(void)
{
    must(memory_create(&memory, -1, PAGES * PAGE, MEMORY_4K), "memory");
    create(&few, FEW);
    create(&many, MANY);
    for (unsigned i = 0; i < ROUNDS; i++) {
        measure_ring(&few, i);
        measure_ring(&many, i);
        measure_random(&few, i);
        measure_random(&many, i);
    }
    print("iommu_map_growth", median_ratio(many.map, few.map, ROUNDS), "ratio");
    print("iommu_unmap_growth", median_ratio(many.unmap, few.unmap, ROUNDS), "ratio");
    print("iommu_map_ns", median(many.map, ROUNDS), "ns");
    print("iommu_unmap_ns", median(many.unmap, ROUNDS), "ns");
    print("iommu_unmap_random_growth", median_ratio(many.unmap_random, few.unmap_random, ROUNDS),
          "ratio");
    print("iommu_unmap_random_ns", median(many.unmap_random, ROUNDS), "ns");
    destroy(&few);
    destroy(&many);
    memory_destroy(&memory);
}

int main(void)
{
    lookups();
    growth();
    return 0;
}
