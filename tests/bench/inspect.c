/*
 * Looking at a guest: the maps of one of 4 GiB whose every page is mapped at 4K, against
 * one pass of memcpy over the page tables that it reads; and a search through memory
 * against memcpy of that memory. Pairs are measured side by side.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/bench/bench.h"
#include "vmm/inspect/find.h"
#include "vmm/inspect/maps.h"
#include "vmm/machine/memory.h"

#define GUEST_BYTES  (4ull << 30)
#define FIRST_VA     0x100000000ull
#define ROOT         0x1000ull
#define TABLES       0x100000ull /* page tables lie from here on, PTs last */
#define SEARCH_BYTES (256ull << 20)
#define PAIRS        9
#define SECOND_NS    1e9

static uint64_t *entry_at(const struct memory *memory, uint64_t table, uint64_t index)
{
    return memory_at(memory, table + 8 * index, 8);
}

/* Every page of RAM, in order; the tables' bytes are returned. */
static uint64_t map_all(const struct memory *memory)
{
    const uint64_t flags = PAGING_P | PAGING_W | PAGING_U;
    uint64_t pts = TABLES + 8 * MEMORY_PAGE_BYTES, page = 0;

    *entry_at(memory, ROOT, 0) = TABLES | flags;
    for (unsigned slot = 0; slot < memory->nslots; slot++) {
        for (uint64_t at = 0; at < memory->slots[slot].bytes; at += MEMORY_PAGE_BYTES, page++) {
            uint64_t va = FIRST_VA + page * MEMORY_PAGE_BYTES;
            uint64_t pd = TABLES + ((va >> 30) - 3) * MEMORY_PAGE_BYTES;
            uint64_t pt = pts + page / 512 * MEMORY_PAGE_BYTES;

            if (page % (512 * 512) == 0)
                *entry_at(memory, TABLES, va >> 30 & 511) = pd | flags;
            if (page % 512 == 0)
                *entry_at(memory, pd, va >> 21 & 511) = pt | flags;
            *entry_at(memory, pt, page % 512) = (memory->slots[slot].gpa + at) | flags;
        }
    }
    return pts + (page + 511) / 512 * MEMORY_PAGE_BYTES - TABLES;
}

/* What `inspect maps` does while the guest stands still, and before. < 0: it went wrong. */
static double maps_ns(const struct memory *memory)
{
    const struct space_cpu cpu = { .cr0 = 0x80000011, .cr3 = ROOT, .cr4 = 0x20, .efer = 0xd00 };
    uint64_t start = bench_now_ns(), end, budget = SPACES_BUDGET, pages = 0;
    struct frame_map frames;
    struct spaces spaces;
    struct maps maps;
    bool complete;

    if (frame_map_create(&frames, memory))
        return -1;
    spaces_find(&spaces, memory, &cpu, 1, 0);
    frame_map_count(&frames, &spaces, NULL, &budget);
    if (maps_make(&maps, &spaces, &frames, &budget))
        return -1;
    end = bench_now_ns();
    complete = maps.complete;
    for (size_t i = 0; i < maps.n; i++)
        pages += maps.range[i].pages;
    maps_destroy(&maps);
    frame_map_destroy(&frames);
    return complete && pages == GUEST_BYTES / MEMORY_PAGE_BYTES ? (double)(end - start) : -1;
}

static double copy_ns(void *to, const void *from, size_t bytes)
{
    uint64_t start = bench_now_ns();

    memcpy(to, from, bytes);
    /* The copy is wanted. */
    __asm__ volatile("" ::"r"(to) : "memory");
    return (double)(bench_now_ns() - start);
}

static int bench_maps(void)
{
    double ratio[PAIRS], took[PAIRS];
    struct memory memory;
    uint64_t bytes;
    void *copy;
    int err = memory_create(&memory, -1, GUEST_BYTES, MEMORY_4K);

    if (err)
        return err;
    bytes = map_all(&memory);
    copy = malloc(bytes);
    if (!copy) {
        err = -ENOMEM;
        goto destroy_memory;
    }
    memset(copy, 1, bytes);
    for (unsigned i = 0; i < PAIRS; i++) {
        took[i] = maps_ns(&memory);
        if (took[i] < 0) {
            fprintf(stderr, "bench: the maps of a 4 GiB guest are not complete\n");
            err = -EIO;
            goto free_copy;
        }
        ratio[i] = took[i] / copy_ns(copy, memory_at(&memory, TABLES, bytes), bytes);
    }
    bench_report("inspect_maps_ratio", bench_median(ratio, PAIRS), "ratio", BENCH_NO_LIMIT, PAIRS);
    bench_report("inspect_maps_ns", bench_median(took, PAIRS), "ns", SECOND_NS, PAIRS);

free_copy:
    free(copy);
destroy_memory:
    memory_destroy(&memory);
    return err;
}

/* Memory as it is: pages of zeroes, of text, of anything. */
static void fill(uint8_t *at, size_t bytes)
{
    static const char text[] = "it was the best of memory, it was the worst of memory; ";
    uint64_t state = 88172645463325252ull;

    for (size_t page = 0; page < bytes / MEMORY_PAGE_BYTES; page++) {
        uint8_t *to = at + page * MEMORY_PAGE_BYTES;

        for (size_t i = 0; i < MEMORY_PAGE_BYTES; i += 8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if (page % 4 == 0)
                memset(to + i, 0, 8);
            else if (page % 4 == 1)
                memcpy(to + i, text + i % (sizeof(text) - 8), 8);
            else
                memcpy(to + i, &state, 8);
        }
    }
}

static int find_pair(const struct memory *memory, void *copy, const char *pattern, double *ratio)
{
    double copied = copy_ns(copy, memory_at(memory, 0, SEARCH_BYTES), SEARCH_BYTES);
    uint64_t start, took;
    struct find find;
    int err = find_create(&find, memory, pattern, strlen(pattern));

    if (err)
        return err;
    start = bench_now_ns();
    find_scan(&find, NULL, NULL);
    took = bench_now_ns() - start;
    if (find.n != 1 || find.searched_bytes != SEARCH_BYTES) {
        fprintf(stderr, "bench: a search found %zu places in %llu bytes\n", find.n,
                (unsigned long long)find.searched_bytes);
        err = -EIO;
    }
    *ratio = copied / (double)took;
    find_destroy(&find);
    return err;
}

/* The worst of these: one place, at the very end of memory. */
static int bench_find(void)
{
    static const char *const patterns[] = { "a secret in memory", "it was the end", "\x7f\x45Qz" };
    double ratio[PAIRS], worst = 1e9, median;
    struct memory memory;
    uint8_t *copy;
    int err = memory_create(&memory, -1, SEARCH_BYTES, MEMORY_4K);

    if (err)
        return err;
    copy = malloc(SEARCH_BYTES);
    if (!copy) {
        err = -ENOMEM;
        goto destroy_memory;
    }
    memset(copy, 1, SEARCH_BYTES);
    for (size_t p = 0; p < sizeof(patterns) / sizeof(patterns[0]) && !err; p++) {
        size_t length = strlen(patterns[p]);

        fill(memory_at(&memory, 0, SEARCH_BYTES), SEARCH_BYTES);
        memcpy(memory_at(&memory, SEARCH_BYTES - length, length), patterns[p], length);
        for (unsigned i = 0; i < PAIRS && !err; i++)
            err = find_pair(&memory, copy, patterns[p], &ratio[i]);
        median = err ? 0 : bench_median(ratio, PAIRS);
        worst = median < worst ? median : worst;
    }
    if (!err)
        bench_report_at_least("find_vs_memcpy_ratio", worst, "ratio", 0.5, PAIRS);
    free(copy);

destroy_memory:
    memory_destroy(&memory);
    return err;
}

int bench_inspect(const struct bench *bench)
{
    int err = bench_maps();

    (void)bench;
    return err ? err : bench_find();
}
