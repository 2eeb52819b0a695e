/* vmm/report/picture: every frame is told as it is, and in little enough room. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"
#include "vmm/report/memory_map.h"

#define MIB   (1ull << 20)
#define PWU   (PAGING_P | PAGING_W | PAGING_U)
#define UPPER 0xffff800000000000ull

static struct memory memory;
static uint64_t next_table;
static struct spaces spaces;
static struct memory_map memory_map;
static json_t *map;

static uint64_t *entry_at(uint64_t table, uint64_t index)
{
    return memory_at(&memory, table + 8 * index, 8);
}

/* Maps a page of 4K, whatever was there before. */
static void map_page(uint64_t root, uint64_t va, uint64_t entry)
{
    uint64_t table = root;

    for (unsigned shift = 39; shift > 12; shift -= 9) {
        uint64_t *at = entry_at(table, va >> shift & 511);

        if (!(*at & PAGING_P)) {
            *at = next_table | PWU;
            next_table += MEMORY_PAGE_BYTES;
        }
        table = *at & PAGING_ADDR;
    }
    *entry_at(table, va >> 12 & 511) = entry | PAGING_P;
}

static void setup_bytes(uint64_t bytes)
{
    ck_assert_int_eq(memory_create(&memory, -1, bytes, MEMORY_4K), 0);
    next_table = 4 * MEMORY_PAGE_BYTES;
    map = NULL;
    srand(1);
}

/* A picture of `n` spaces, whose roots are the frames from 1 on. */
static void take(unsigned n)
{
    struct space_cpu cpus[3];
    uint64_t budget = SPACES_BUDGET;

    for (unsigned i = 0; i < n; i++)
        cpus[i] = (struct space_cpu){
            .cr0 = 0x80000011, .cr3 = (i + 1) * MEMORY_PAGE_BYTES, .cr4 = 0x20, .efer = 0xd00
        };
    spaces_find(&spaces, &memory, cpus, n, 0);
    ck_assert_uint_eq(spaces.n, n);
    ck_assert_int_eq(memory_map_create(&memory_map, &memory), 0);
    ck_assert_int_eq(memory_map_capture(&memory_map, &spaces, NULL, &budget), 0);
    map = memory_map_json(&memory_map, &spaces);
    ck_assert_ptr_nonnull(map);
}

static void teardown(void)
{
    json_decref(map);
    memory_map_destroy(&memory_map);
    memory_destroy(&memory);
}

static uint64_t part(const json_t *list, size_t i)
{
    json_t *value = json_array_get(list, i);

    ck_assert(json_is_integer(value));
    return (uint64_t)json_integer_value(value);
}

static unsigned fold(void)
{
    return (unsigned)json_integer_value(json_object_get(map, "fold"));
}

/* Every place of a frame leads to it, in the space that it names, with the right it names. */
static void check_places(const json_t *run, uint64_t offset, uint64_t gpa)
{
    json_t *places = json_array_get(run, 6), *place;
    size_t i;

    ck_assert_uint_eq(json_array_size(places), part(run, 5) < 8 ? part(run, 5) : 8);
    json_array_foreach (places, i, place) {
        const struct space *space = &spaces.space[part(place, 0)];
        struct paging_walk walk;

        ck_assert_int_eq(paging_walk(space->format, &spaces.reader, space->root,
                                     (part(place, 1) + offset) * MEMORY_PAGE_BYTES, &walk),
                         0);
        ck_assert_uint_eq(walk.gpa, gpa);
        ck_assert_uint_eq(walk.leaf.writable, part(place, 2) & 1);
    }
}

/* The runs, frame by frame, against the table of frames. */
static void check_runs(void)
{
    size_t at = 0, i;
    json_t *run;

    ck_assert_uint_eq(fold(), 1);
    json_array_foreach (json_object_get(map, "runs"), i, run) {
        ck_assert_uint_eq(part(run, 0), at);
        for (uint64_t n = 0; n < part(run, 1); n++, at++) {
            const struct frame *frame = &memory_map.map.frame[at];

            ck_assert_uint_eq(part(run, 2), frame->kind);
            ck_assert_int_eq((int)part(run, 3), frame->owner - 1);
            ck_assert_uint_eq(part(run, 4), frame->flags);
            ck_assert_uint_eq(part(run, 5), frame->mappings);
            if (frame->mappings)
                check_places(run, n, frame_map_gpa(&memory_map.map, at));
        }
    }
    ck_assert_uint_eq(at, memory_map.map.n);
}

/* The cells against the table of frames: how many there are of each kind and owner. */
static void check_cells(void)
{
    size_t at = 0, i, g;
    json_t *cell, *group;

    json_array_foreach (json_object_get(map, "cells"), i, cell) {
        ck_assert_uint_eq(part(cell, 0), at / fold());
        for (uint64_t n = 0; n < part(cell, 1); n++) {
            uint64_t frames = 0, mapped = 0, really = 0;

            json_array_foreach (json_array_get(cell, 2), g, group) {
                frames += part(group, 4);
                mapped += part(group, 3) ? part(group, 4) : 0;
            }
            for (uint64_t f = 0; f < frames; f++)
                really += memory_map.map.frame[at + f].mappings > 0;
            ck_assert_uint_eq(mapped, really);
            at += frames;
            ck_assert(frames == fold() || at == memory_map.map.n);
        }
    }
    ck_assert_uint_eq(at, memory_map.map.n);
}

static size_t json_bytes(void)
{
    char *text = json_dumps(map, JSON_COMPACT);
    size_t bytes = strlen(text);

    free(text);
    return bytes;
}

START_TEST(empty)
{
    setup_bytes(16 * MIB);
    take(1);
    check_runs();
    /* The root, and the rest on both sides. */
    ck_assert_uint_eq(json_array_size(json_object_get(map, "runs")), 3);
    ck_assert(json_is_true(json_object_get(map, "complete")));
}
END_TEST

/* A thousand frames mapped side by side are one run, also where two spaces share them. */
START_TEST(side_by_side)
{
    setup_bytes(16 * MIB);
    for (uint64_t i = 0; i < 1000; i++) {
        map_page(0x1000, 0x400000 + i * 4096, (8 * MIB + i * 4096) | PWU);
        map_page(0x2000, 0x700000 + i * 4096, (8 * MIB + i * 4096) | PAGING_U);
    }
    take(2);
    check_runs();
    ck_assert_uint_lt(json_array_size(json_object_get(map, "runs")), 16);
}
END_TEST

/* Neighbours alike, but mapped in the other order, are not one run. */
START_TEST(out_of_order)
{
    setup_bytes(16 * MIB);
    for (uint64_t i = 0; i < 64; i++)
        map_page(0x1000, 0x400000 + i * 4096, (8 * MIB + (63 - i) * 4096) | PWU);
    take(1);
    check_runs();
    ck_assert_uint_gt(json_array_size(json_object_get(map, "runs")), 64);
}
END_TEST

START_TEST(at_random)
{
    setup_bytes(16 * MIB);
    for (unsigned i = 0; i < 3000; i++)
        map_page(0x1000 * (1 + (uint64_t)rand() % 3), 0x400000 + (uint64_t)(rand() % 4096) * 4096,
                 (8 * MIB + (uint64_t)(rand() % 2048) * 4096) | (rand() & 1 ? PWU : PAGING_U));
    take(3);
    check_runs();
}
END_TEST

/* What the kernel maps for itself is told apart, folded. */
START_TEST(kernel_half)
{
    json_t *kernel;

    setup_bytes(16 * MIB);
    for (uint64_t i = 0; i < 512; i++)
        map_page(0x1000, UPPER + i * 4096, (2 * MIB + i * 4096) | PAGING_W);
    map_page(0x1000, UPPER + 600 * 4096, 2 * MIB | PAGING_NX);
    take(1);
    check_runs();
    kernel = json_object_get(map, "kernel");
    ck_assert_uint_eq(json_array_size(kernel), 2);
    ck_assert_uint_eq(part(json_array_get(kernel, 0), 0), UPPER / 4096);
    ck_assert_uint_eq(part(json_array_get(kernel, 0), 1), 512);
    ck_assert_uint_eq(part(json_array_get(kernel, 0), 2), 512);
    ck_assert_uint_eq(part(json_array_get(kernel, 0), 3), 3);
    ck_assert_uint_eq(part(json_array_get(kernel, 1), 3), 0);
}
END_TEST

/* As bad as a guest of 256 MiB can make it: no two frames are alike. */
START_TEST(worst)
{
    setup_bytes(256 * MIB);
    for (uint64_t i = 0; i < 40000; i++)
        map_page(0x1000 * (1 + i % 3), 0x400000 + i * 4096,
                 (32 * MIB + i * 40009 % 50000 * 4096) | PWU);
    take(3);
    ck_assert_uint_gt(fold(), 1);
    check_cells();
    ck_assert_uint_lt(json_bytes(), 3 * MIB / 2);
}
END_TEST

/* More frames than cells. */
START_TEST(large)
{
    setup_bytes(2048 * MIB);
    for (uint64_t i = 0; i < 1000; i++)
        map_page(0x1000, 0x400000 + i * 4096, (512 * MIB + i * 4096) | PWU);
    take(1);
    ck_assert_uint_eq(fold(), 16);
    check_cells();
    ck_assert_uint_lt(json_bytes(), MIB);
}
END_TEST

Suite *memory_map_suite(void)
{
    Suite *suite = suite_create("picture");
    TCase *tcase = tcase_create("picture");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, NULL, teardown);
    tcase_add_test(tcase, empty);
    tcase_add_test(tcase, side_by_side);
    tcase_add_test(tcase, out_of_order);
    tcase_add_test(tcase, at_random);
    tcase_add_test(tcase, kernel_half);
    tcase_add_test(tcase, worst);
    tcase_add_test(tcase, large);
    suite_add_tcase(suite, tcase);
    return suite;
}
