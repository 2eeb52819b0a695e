#include "vmm/report/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/machine/memory.h"
#include "vmm/report/inspect_json.h"

/* How many groups of a cell's frames are told apart; the rest counts with the last. */
#define GROUPS_MAX 6

int picture_create(struct picture *picture, const struct memory *memory)
{
    int err;

    *picture = (struct picture){ 0 };
    err = frame_map_create(&picture->map, memory);
    if (err)
        return err;
    picture->kernel = calloc(PICTURE_KERNEL_MAX, sizeof(*picture->kernel));
    return picture->kernel ? 0 : -ENOMEM;
}

void picture_destroy(struct picture *picture)
{
    frame_map_destroy(&picture->map);
    shared_list_destroy(&picture->mapped);
    free(picture->kernel);
    picture->kernel = NULL;
}

/* ---- Capturing ------------------------------------------------------------ */

static int gather_kernel(void *owner, unsigned space, const struct paging_leaf *leaf)
{
    struct picture *picture = owner;
    struct picture_kernel *last = picture->nkernel ? &picture->kernel[picture->nkernel - 1] : NULL;
    uint64_t pages = leaf->page_bytes / MEMORY_PAGE_BYTES;

    (void)space;
    if (leaf->user || !frame_map_at(&picture->map, leaf->gpa))
        return 0;
    if (last && last->va + last->pages * MEMORY_PAGE_BYTES == leaf->va &&
        last->gpa + last->pages * MEMORY_PAGE_BYTES == leaf->gpa &&
        last->writable == leaf->writable && last->nx == leaf->nx) {
        last->pages += pages;
        return 0;
    }
    if (picture->nkernel == PICTURE_KERNEL_MAX)
        return -E2BIG;
    picture->kernel[picture->nkernel++] = (struct picture_kernel){ leaf->va, leaf->gpa, pages,
                                                                   leaf->writable, leaf->nx };
    return 0;
}

int picture_capture(struct picture *picture, const struct spaces *spaces, const struct iommu *iommu,
                    uint64_t *budget)
{
    const struct spaces_visitor upper = { .owner = picture, .leaf = gather_kernel };
    bool folded = picture->map.n > PICTURE_CELLS_MAX;
    int err;

    frame_map_count(&picture->map, spaces, iommu, budget);
    frame_map_total(&picture->map, spaces, &picture->totals);
    picture->complete = picture->map.complete && !spaces->left_out;
    /* Folded frames are only counted; those that are shared are of interest even so. */
    err = shared_list_make(&picture->mapped, &picture->map, spaces, folded ? 2 : 1, budget);
    picture->complete &= folded || picture->mapped.complete;
    if (spaces_each(spaces, SPACES_UPPER, budget, &upper))
        picture->complete = false;
    return err;
}

/* ---- Frame by frame ------------------------------------------------------- */

static json_t *integer(uint64_t number)
{
    return json_integer((json_int_t)number);
}

static bool alike(const struct frame *a, const struct frame *b)
{
    return a->kind == b->kind && a->flags == b->flags && a->owner == b->owner &&
           a->mappings == b->mappings;
}

/* The mapped run that frame i begins, or NULL. *next is the first that may come. */
static const struct shared_run *run_at(const struct picture *picture, size_t i, size_t *next)
{
    const struct shared_list *list = &picture->mapped;
    uint64_t gpa = frame_map_gpa(&picture->map, i);

    while (*next < list->n && list->run[*next].gpa < gpa)
        ++*next;
    return *next < list->n && list->run[*next].gpa == gpa ? &list->run[*next] : NULL;
}

/* How many frames from i on are one run: alike, and mapped side by side. */
static size_t run_length(const struct picture *picture, size_t i, size_t next)
{
    const struct frame_map *map = &picture->map;
    const struct shared_run *run = run_at(picture, i, &next);
    size_t n = 1;

    while (i + n < map->n && alike(&map->frame[i], &map->frame[i + n]) &&
           (!run || n < run->frames) && (run || !run_at(picture, i + n, &next)))
        n++;
    return n;
}

/* How much the list of runs would be: each, and each place. */
static size_t count_runs(const struct picture *picture)
{
    size_t parts = 0, next = 0;

    for (size_t i = 0; i < picture->map.n;) {
        const struct shared_run *run = run_at(picture, i, &next);

        parts += 1 + (run ? run->nsharers : 0);
        i += run_length(picture, i, next);
    }
    return parts;
}

/* [[space, page of the VA, rights], …]: rights are 1 for writable, 2 for copy-on-write. */
static json_t *places(const struct shared_run *run)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < run->nsharers; i++)
        json_array_append_new(list, json_pack("[i, I, i]", (int)run->sharer[i].space,
                                              (json_int_t)(run->sharer[i].va / MEMORY_PAGE_BYTES),
                                              run->sharer[i].writable + 2 * run->sharer[i].cow));
    return list;
}

/* [[first frame, frames, kind, space that owns it or -1, flags, mappings, places], …] */
static json_t *runs(const struct picture *picture)
{
    json_t *list = json_array();
    size_t next = 0;

    for (size_t i = 0; i < picture->map.n;) {
        const struct frame *frame = &picture->map.frame[i];
        const struct shared_run *mapped = run_at(picture, i, &next);
        size_t n = run_length(picture, i, next);
        json_t *run = json_pack("[I, I, i, i, i, i]", (json_int_t)i, (json_int_t)n,
                                (int)frame->kind, frame->owner - 1, (int)frame->flags,
                                (int)frame->mappings);

        if (mapped)
            json_array_append_new(run, places(mapped));
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

static struct cell cell_at(const struct picture *picture, size_t first, size_t fold)
{
    struct cell cell = { 0 };

    for (size_t i = first; i < first + fold && i < picture->map.n; i++) {
        struct frame frame = picture->map.frame[i];
        size_t g = 0;

        frame.mappings = frame.mappings > 2 ? 2 : frame.mappings;
        while (g < cell.n && !alike(&cell.group[g].frame, &frame))
            g++;
        if (g == cell.n && g < GROUPS_MAX)
            cell.group[cell.n++].frame = frame;
        cell.group[g < GROUPS_MAX ? g : GROUPS_MAX - 1].frames++;
    }
    return cell;
}

static bool same_cell(const struct cell *a, const struct cell *b)
{
    if (a->n != b->n)
        return false;
    for (size_t g = 0; g < a->n; g++) {
        if (!alike(&a->group[g].frame, &b->group[g].frame) ||
            a->group[g].frames != b->group[g].frames)
            return false;
    }
    return true;
}

static size_t count_cells(const struct picture *picture, size_t fold)
{
    struct cell last = { 0 };
    size_t parts = 0;

    for (size_t i = 0; i < picture->map.n; i += fold) {
        struct cell cell = cell_at(picture, i, fold);

        parts += same_cell(&last, &cell) ? 0 : 1 + cell.n;
        last = cell;
    }
    return parts;
}

/* [[first cell, cells, [[kind, owner, flags, mappings, frames], …]], …] */
static json_t *cells(const struct picture *picture, size_t fold)
{
    json_t *list = json_array();

    for (size_t i = 0; i < picture->map.n;) {
        struct cell cell = cell_at(picture, i, fold), next;
        json_t *groups = json_array();
        size_t first = i;

        do {
            i += fold;
            next = i < picture->map.n ? cell_at(picture, i, fold) : (struct cell){ 0 };
        } while (same_cell(&cell, &next));
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
static size_t choose_fold(const struct picture *picture)
{
    size_t fold = 1;

    if (picture->map.n <= PICTURE_CELLS_MAX && count_runs(picture) <= PICTURE_PARTS_MAX)
        return fold;
    do
        fold *= 4;
    while (picture->map.n > fold * PICTURE_CELLS_MAX ||
           count_cells(picture, fold) > PICTURE_PARTS_MAX);
    return fold;
}

json_t *picture_map(const struct picture *picture, const struct spaces *spaces)
{
    const struct memory *memory = picture->map.memory;
    size_t fold = choose_fold(picture);
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
    json_object_set_new(json, "fold", integer(fold));
    if (fold == 1)
        json_object_set_new(json, "runs", runs(picture));
    else
        json_object_set_new(json, "cells", cells(picture, fold));
    list = json_array();
    for (size_t i = 0; i < picture->nkernel; i++) {
        const struct picture_kernel *kernel = &picture->kernel[i];

        json_array_append_new(
            list, json_pack("[I, I, I, i]", (json_int_t)(kernel->va / MEMORY_PAGE_BYTES),
                            (json_int_t)(kernel->gpa / MEMORY_PAGE_BYTES),
                            (json_int_t)kernel->pages, kernel->writable + 2 * !kernel->nx));
    }
    json_object_set_new(json, "kernel", list);
    json_object_set_new(json, "complete", json_boolean(picture->complete));
    return json;
}
