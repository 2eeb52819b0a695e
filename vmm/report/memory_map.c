#include "vmm/report/memory_map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/memory.h"
#include "vmm/report/inspect_json.h"

/* How many groups of a cell's frames are told apart; the rest counts with the last. */
#define GROUPS_MAX 6

int memory_map_create(struct memory_map *memory_map, const struct memory *memory)
{
    int err;

    *memory_map = (struct memory_map){ 0 };
    err = frame_map_create(&memory_map->map, memory);
    if (err)
        return err;
    memory_map->kernel = calloc(MEMORY_MAP_KERNEL_MAX, sizeof(*memory_map->kernel));
    return memory_map->kernel ? 0 : -ENOMEM;
}

void memory_map_destroy(struct memory_map *memory_map)
{
    frame_map_destroy(&memory_map->map);
    shared_list_destroy(&memory_map->mapped);
    free(memory_map->kernel);
    memory_map->kernel = NULL;
}

/* ---- Capturing ------------------------------------------------------------ */

static int memory_map_gather_kernel(void *owner, unsigned space, const struct paging_leaf *leaf)
{
    struct memory_map *memory_map = owner;
    struct memory_map_kernel *last = memory_map->nkernel
                                         ? &memory_map->kernel[memory_map->nkernel - 1]
                                         : NULL;
    uint64_t pages = leaf->page_bytes / MEMORY_PAGE_BYTES;

    (void)space;
    if (leaf->user || !frame_map_at(&memory_map->map, leaf->gpa))
        return 0;
    if (last && last->va + last->pages * MEMORY_PAGE_BYTES == leaf->va &&
        last->gpa + last->pages * MEMORY_PAGE_BYTES == leaf->gpa &&
        last->writable == leaf->writable && last->nx == leaf->nx) {
        last->pages += pages;
        return 0;
    }
    if (memory_map->nkernel == MEMORY_MAP_KERNEL_MAX)
        return -E2BIG;
    memory_map->kernel[memory_map->nkernel++] = (struct memory_map_kernel){ leaf->va, leaf->gpa,
                                                                            pages, leaf->writable,
                                                                            leaf->nx };
    return 0;
}

int memory_map_capture(struct memory_map *memory_map, const struct spaces *spaces,
                       const struct iommu *iommu, uint64_t *budget)
{
    const struct spaces_visitor upper = { .owner = memory_map, .leaf = memory_map_gather_kernel };
    bool folded = memory_map->map.n > MEMORY_MAP_CELLS_MAX;
    int err;

    frame_map_count(&memory_map->map, spaces, iommu, budget);
    frame_map_total(&memory_map->map, spaces, &memory_map->totals);
    memory_map->complete = memory_map->map.complete && !spaces->left_out;
    /* Folded frames are only counted; those that are shared are of interest even so. */
    err = shared_list_make(&memory_map->mapped, &memory_map->map, spaces, folded ? 2 : 1, budget);
    memory_map->complete &= folded || memory_map->mapped.complete;
    if (spaces_each(spaces, SPACES_UPPER, budget, &upper))
        memory_map->complete = false;
    return err;
}

/* ---- Frame by frame ------------------------------------------------------- */

static json_t *memory_map_integer(uint64_t number)
{
    return json_integer((json_int_t)number);
}

static bool memory_map_alike(const struct frame *a, const struct frame *b)
{
    return a->kind == b->kind && a->flags == b->flags && a->owner == b->owner &&
           a->mappings == b->mappings;
}

/* The mapped run that frame i begins, or NULL. *next is the first that may come. */
static const struct shared_run *memory_map_run_at(const struct memory_map *memory_map, size_t i,
                                                  size_t *next)
{
    const struct shared_list *list = &memory_map->mapped;
    uint64_t gpa = frame_map_gpa(&memory_map->map, i);

    while (*next < list->n && list->run[*next].gpa < gpa)
        ++*next;
    return *next < list->n && list->run[*next].gpa == gpa ? &list->run[*next] : NULL;
}

/* How many frames from i on are one run: alike, and mapped side by side. */
static size_t memory_map_run_length(const struct memory_map *memory_map, size_t i, size_t next)
{
    const struct frame_map *map = &memory_map->map;
    const struct shared_run *run = memory_map_run_at(memory_map, i, &next);
    size_t n = 1;

    while (i + n < map->n && memory_map_alike(&map->frame[i], &map->frame[i + n]) &&
           (!run || n < run->frames) && (run || !memory_map_run_at(memory_map, i + n, &next)))
        n++;
    return n;
}

/* How much the list of runs would be: each, and each place. */
static size_t memory_map_count_runs(const struct memory_map *memory_map)
{
    size_t parts = 0, next = 0;

    for (size_t i = 0; i < memory_map->map.n;) {
        const struct shared_run *run = memory_map_run_at(memory_map, i, &next);

        parts += 1 + (run ? run->nsharers : 0);
        i += memory_map_run_length(memory_map, i, next);
    }
    return parts;
}

/* [[space, page of the VA, rights], …]: rights are 1 for writable, 2 for copy-on-write. */
static json_t *memory_map_places(const struct shared_run *run)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < run->nsharers; i++)
        json_array_append_new(list, json_pack("[i, I, i]", (int)run->sharer[i].space,
                                              (json_int_t)(run->sharer[i].va / MEMORY_PAGE_BYTES),
                                              run->sharer[i].writable + 2 * run->sharer[i].cow));
    return list;
}

/* [[first frame, frames, kind, space that owns it or -1, flags, mappings, places], …] */
static json_t *memory_map_runs(const struct memory_map *memory_map)
{
    json_t *list = json_array();
    size_t next = 0;

    for (size_t i = 0; i < memory_map->map.n;) {
        const struct frame *frame = &memory_map->map.frame[i];
        const struct shared_run *mapped = memory_map_run_at(memory_map, i, &next);
        size_t n = memory_map_run_length(memory_map, i, next);
        json_t *run = json_pack("[I, I, i, i, i, i]", (json_int_t)i, (json_int_t)n,
                                (int)frame->kind, frame->owner - 1, (int)frame->flags,
                                (int)frame->mappings);

        if (mapped)
            json_array_append_new(run, memory_map_places(mapped));
        json_array_append_new(list, run);
        i += n;
    }
    return list;
}

/* ---- Folded --------------------------------------------------------------- */

/* Frames of a cell that look the same: of a kind, an owner, and shared or not. */
struct group {
    struct frame frame; /* mappings are 0, 1 or 2, which stands for more */
    uint64_t frames;
};

struct cell {
    size_t n;
    struct group group[GROUPS_MAX];
};

static struct cell memory_map_cell_at(const struct memory_map *memory_map, size_t first,
                                      size_t fold)
{
    struct cell cell = { 0 };

    for (size_t i = first; i < first + fold && i < memory_map->map.n; i++) {
        struct frame frame = memory_map->map.frame[i];
        size_t g = 0;

        frame.mappings = frame.mappings > 2 ? 2 : frame.mappings;
        while (g < cell.n && !memory_map_alike(&cell.group[g].frame, &frame))
            g++;
        if (g == cell.n && g < GROUPS_MAX)
            cell.group[cell.n++].frame = frame;
        cell.group[g < GROUPS_MAX ? g : GROUPS_MAX - 1].frames++;
    }
    return cell;
}

static bool memory_map_same_cell(const struct cell *a, const struct cell *b)
{
    if (a->n != b->n)
        return false;
    for (size_t g = 0; g < a->n; g++) {
        if (!memory_map_alike(&a->group[g].frame, &b->group[g].frame) ||
            a->group[g].frames != b->group[g].frames)
            return false;
    }
    return true;
}

static size_t memory_map_count_cells(const struct memory_map *memory_map, size_t fold)
{
    struct cell last = { 0 };
    size_t parts = 0;

    for (size_t i = 0; i < memory_map->map.n; i += fold) {
        struct cell cell = memory_map_cell_at(memory_map, i, fold);

        parts += memory_map_same_cell(&last, &cell) ? 0 : 1 + cell.n;
        last = cell;
    }
    return parts;
}

/* [[first cell, cells, [[kind, owner, flags, mappings, frames], …]], …] */
static json_t *memory_map_cells(const struct memory_map *memory_map, size_t fold)
{
    json_t *list = json_array();

    for (size_t i = 0; i < memory_map->map.n;) {
        struct cell cell = memory_map_cell_at(memory_map, i, fold), next;
        json_t *groups = json_array();
        size_t first = i;

        do {
            i += fold;
            next = i < memory_map->map.n ? memory_map_cell_at(memory_map, i, fold)
                                         : (struct cell){ 0 };
        } while (memory_map_same_cell(&cell, &next));
        for (size_t g = 0; g < cell.n; g++) {
            const struct frame *frame = &cell.group[g].frame;

            json_array_append_new(groups,
                                  json_pack("[i, i, i, i, I]", (int)frame->kind, frame->owner - 1,
                                            (int)frame->flags, (int)frame->mappings,
                                            (json_int_t)cell.group[g].frames));
        }
        json_array_append_new(list, json_pack("[I, I, o]", (json_int_t)(first / fold),
                                              (json_int_t)((i - first) / fold), groups));
    }
    return list;
}

/* ---- All of it ------------------------------------------------------------ */

/* How many frames one cell stands for, so that few enough runs of them are different. */
static size_t memory_map_choose_fold(const struct memory_map *memory_map)
{
    size_t fold = 1;

    if (memory_map->map.n <= MEMORY_MAP_CELLS_MAX &&
        memory_map_count_runs(memory_map) <= MEMORY_MAP_PARTS_MAX)
        return fold;
    do
        fold *= 4;
    while (memory_map->map.n > fold * MEMORY_MAP_CELLS_MAX ||
           memory_map_count_cells(memory_map, fold) > MEMORY_MAP_PARTS_MAX);
    return fold;
}

json_t *memory_map_json(const struct memory_map *memory_map, const struct spaces *spaces)
{
    const struct memory *memory = memory_map->map.memory;
    size_t fold = memory_map_choose_fold(memory_map);
    json_t *json = json_object(), *list = json_array();

    for (unsigned i = 0; i < memory->nslots; i++)
        json_array_append_new(
            list, json_pack("[I, I]", (json_int_t)(memory->slots[i].gpa / MEMORY_PAGE_BYTES),
                            (json_int_t)(memory->slots[i].bytes / MEMORY_PAGE_BYTES)));
    json_object_set_new(json, "slots", list);
    list = json_array();
    for (unsigned i = 0; i < spaces->n; i++)
        json_array_append_new(list, json_space(spaces, i));
    json_object_set_new(json, "spaces", list);
    list = json_array();
    for (unsigned kind = 0; kind < FRAME_KINDS; kind++)
        json_array_append_new(list, json_string(frame_kind_name((enum frame_kind)kind)));
    json_object_set_new(json, "kinds", list);
    json_object_set_new(json, "bundled", json_boolean(spaces->bundled));
    json_object_set_new(json, "fold", memory_map_integer(fold));
    if (fold == 1)
        json_object_set_new(json, "runs", memory_map_runs(memory_map));
    else
        json_object_set_new(json, "cells", memory_map_cells(memory_map, fold));
    list = json_array();
    for (size_t i = 0; i < memory_map->nkernel; i++) {
        const struct memory_map_kernel *kernel = &memory_map->kernel[i];

        json_array_append_new(
            list, json_pack("[I, I, I, i]", (json_int_t)(kernel->va / MEMORY_PAGE_BYTES),
                            (json_int_t)(kernel->gpa / MEMORY_PAGE_BYTES),
                            (json_int_t)kernel->pages, kernel->writable + 2 * !kernel->nx));
    }
    json_object_set_new(json, "kernel", list);
    json_object_set_new(json, "complete", json_boolean(memory_map->complete));
    return json;
}
