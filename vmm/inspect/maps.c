#include "vmm/inspect/maps.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_ROOM 64 /* a power of two, as MAPS_RANGES_MAX is */

struct folding {
    struct maps *maps;
    const struct spaces *spaces;
    const struct frame_map *frames;
    size_t start; /* first range of this space */
};

const char *map_sharing_name(enum map_sharing sharing)
{
    switch (sharing) {
    case MAPS_KERNEL: return "kernel";
    case MAPS_PRIVATE: return "private";
    case MAPS_SHARED: return "shared";
    case MAPS_COW: return "cow";
    case MAPS_DEVICE: return "device";
    }
    return "unknown";
}

static enum map_sharing maps_sharing_of(const struct folding *f, const struct paging_leaf *leaf)
{
    const struct frame *frame = frame_map_at(f->frames, leaf->gpa);

    if (!frame)
        return MAPS_DEVICE;
    if (!leaf->user)
        return MAPS_KERNEL;
    if (f->spaces->bundled && leaf->software & ABI_PTE_COW)
        return MAPS_COW;
    return frame->mappings > 1 ? MAPS_SHARED : MAPS_PRIVATE;
}

/* The range that this leaf continues, or NULL. */
static struct map_range *maps_last_alike(const struct folding *f, const struct paging_leaf *leaf,
                                         enum map_sharing sharing)
{
    struct map_range *last;

    if (f->maps->n == f->start)
        return NULL;
    last = &f->maps->range[f->maps->n - 1];
    if (last->last + 1 != leaf->va || last->page_bytes != leaf->page_bytes ||
        last->writable != leaf->writable || last->user != leaf->user || last->nx != leaf->nx ||
        last->sharing != sharing)
        return NULL;
    return last;
}

/* Room for one more range: 0, -E2BIG or -ENOMEM. */
static int maps_make_room(struct maps *maps)
{
    struct map_range *grown;

    if (maps->n < maps->room)
        return 0;
    if (maps->n == MAPS_RANGES_MAX)
        return -E2BIG;
    grown = realloc(maps->range, 2 * maps->room * sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    maps->range = grown;
    maps->room *= 2;
    return 0;
}

static int maps_fold_leaf(void *owner, unsigned space, const struct paging_leaf *leaf)
{
    struct folding *f = owner;
    enum map_sharing sharing = maps_sharing_of(f, leaf);
    struct map_range *range = maps_last_alike(f, leaf, sharing);

    int err;

    (void)space;
    if (!range) {
        err = maps_make_room(f->maps);
        if (err)
            return err;
        range = &f->maps->range[f->maps->n++];
        *range = (struct map_range){
            .first = leaf->va,
            .gpa = leaf->gpa,
            .contiguous = true,
            .page_bytes = leaf->page_bytes,
            .writable = leaf->writable,
            .user = leaf->user,
            .nx = leaf->nx,
            .sharing = sharing,
        };
    }
    range->contiguous &= leaf->gpa == range->gpa + (leaf->va - range->first);
    range->last = leaf->va + leaf->page_bytes - 1;
    range->pages++;
    range->accessed += leaf->accessed;
    range->dirty += leaf->dirty;
    return 0;
}

int maps_make(struct maps *maps, const struct spaces *spaces, const struct frame_map *frames,
              uint64_t *budget)
{
    struct folding f = { .maps = maps, .spaces = spaces, .frames = frames };
    const struct spaces_visitor visitor = { .owner = &f, .leaf = maps_fold_leaf };
    int err = 0;

    *maps = (struct maps){ .room = FIRST_ROOM };
    maps->range = malloc(maps->room * sizeof(*maps->range));
    if (!maps->range)
        return -ENOMEM;
    for (unsigned i = 0; i < spaces->n; i++) {
        f.start = maps->n;
        if (!err)
            err = spaces_visit(spaces, i,
                               SPACES_LOWER | (spaces->space[i].upper_as == i ? SPACES_UPPER : 0),
                               budget, &visitor);
        maps->end[i] = maps->n;
    }
    maps->complete = !err && frames->complete;
    return err == -ENOMEM ? err : 0;
}

void maps_destroy(struct maps *maps)
{
    free(maps->range);
    *maps = (struct maps){ 0 };
}
