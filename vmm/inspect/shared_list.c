/* All mappings are gathered, sorted by frame, then folded. */
#include "vmm/inspect/shared_list.h"

#include <errno.h>
#include <stdlib.h>

/* As many mappings are listed at most; a guest decides how many there are. */
#define MAPPINGS_MAX (1u << 18)
#define FIRST_ROOM   256 /* a power of two, as that is */

struct mapping {
    uint64_t gpa, va;
    uint32_t space;
    bool writable, cow;
};

struct gathering {
    const struct frame_map *map;
    const struct spaces *spaces;
    unsigned least; /* mappings that a frame has to be listed */
    struct mapping *mapping;
    size_t n, room;
    uint64_t work; /* frames still to be looked at: large pages have many */
};

/* Room for one more mapping: 0, -E2BIG or -ENOMEM. */
static int shared_list_make_room(struct gathering *g)
{
    struct mapping *grown;

    if (g->n < g->room)
        return 0;
    if (g->n == MAPPINGS_MAX)
        return -E2BIG;
    grown = realloc(g->mapping, 2 * g->room * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    g->mapping = grown;
    g->room *= 2;
    return 0;
}

static int shared_list_gather(void *owner, unsigned space, const struct paging_leaf *leaf)
{
    struct gathering *g = owner;

    if (!leaf->user)
        return 0;
    for (uint64_t at = 0; at < leaf->page_bytes; at += MEMORY_PAGE_BYTES) {
        const struct frame *frame = frame_map_at(g->map, leaf->gpa + at);
        int err;

        /* Beyond RAM there may be a gigabyte of nothing. */
        if (!frame)
            return 0;
        if (!g->work)
            return -E2BIG;
        g->work--;
        if (frame->mappings < g->least)
            continue;
        err = shared_list_make_room(g);
        if (err)
            return err;
        g->mapping[g->n++] = (struct mapping){
            .gpa = leaf->gpa + at,
            .va = leaf->va + at,
            .space = space,
            .writable = leaf->writable,
            .cow = g->spaces->bundled && leaf->software & ABI_PTE_COW,
        };
    }
    return 0;
}

static int shared_list_by_frame(const void *a, const void *b)
{
    const struct mapping *x = a, *y = b;

    if (x->gpa != y->gpa)
        return x->gpa < y->gpa ? -1 : 1;
    if (x->space != y->space)
        return x->space < y->space ? -1 : 1;
    return (x->va > y->va) - (x->va < y->va);
}

/* Whether `next` goes on where `run` ends, in every space. */
static bool shared_list_goes_on(const struct shared_run *run, const struct shared_run *next)
{
    if (next->gpa != run->gpa + run->frames * MEMORY_PAGE_BYTES ||
        next->mappings != run->mappings || next->nsharers != run->nsharers)
        return false;
    for (unsigned i = 0; i < run->nsharers; i++) {
        if (next->sharer[i].space != run->sharer[i].space ||
            next->sharer[i].va != run->sharer[i].va + run->frames * MEMORY_PAGE_BYTES ||
            next->sharer[i].writable != run->sharer[i].writable ||
            next->sharer[i].cow != run->sharer[i].cow)
            return false;
    }
    return true;
}

/* The run of one frame that starts at mapping i; *end is behind its last mapping. */
static struct shared_run shared_list_one_frame(const struct gathering *g, size_t i, size_t *end)
{
    struct shared_run run = { .gpa = g->mapping[i].gpa, .frames = 1 };

    for (; i < g->n && g->mapping[i].gpa == run.gpa; i++) {
        const struct mapping *m = &g->mapping[i];

        run.mappings++;
        if (run.nsharers == SHARERS_MAX)
            continue;
        run.sharer[run.nsharers].space = m->space;
        run.sharer[run.nsharers].va = m->va;
        run.sharer[run.nsharers].writable = m->writable;
        run.sharer[run.nsharers++].cow = m->cow;
    }
    *end = i;
    return run;
}

static int shared_list_fold(struct shared_list *list, const struct gathering *g)
{
    size_t room = 0;

    for (size_t i = 0; i < g->n;) {
        struct shared_run next = shared_list_one_frame(g, i, &i);
        struct shared_run *grown;

        if (list->n && shared_list_goes_on(&list->run[list->n - 1], &next)) {
            list->run[list->n - 1].frames++;
            continue;
        }
        if (list->n == room) {
            room = room ? 2 * room : 64;
            grown = realloc(list->run, room * sizeof(*grown));
            if (!grown)
                return -ENOMEM;
            list->run = grown;
        }
        list->run[list->n++] = next;
    }
    return 0;
}

int shared_list_make(struct shared_list *list, const struct frame_map *map,
                     const struct spaces *spaces, unsigned least, uint64_t *budget)
{
    struct gathering g = {
        .map = map, .spaces = spaces, .least = least, .room = FIRST_ROOM, .work = *budget
    };
    const struct spaces_visitor visitor = { .owner = &g, .leaf = shared_list_gather };
    int err;

    *list = (struct shared_list){ 0 };
    g.mapping = malloc(g.room * sizeof(*g.mapping));
    if (!g.mapping)
        return -ENOMEM;
    err = spaces_each(spaces, SPACES_LOWER, budget, &visitor);
    list->complete = !err && map->complete;
    qsort(g.mapping, g.n, sizeof(*g.mapping), shared_list_by_frame);
    err = err == -ENOMEM ? err : shared_list_fold(list, &g);
    free(g.mapping);
    return err;
}

void shared_list_destroy(struct shared_list *list)
{
    free(list->run);
    *list = (struct shared_list){ 0 };
}
