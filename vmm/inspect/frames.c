#include "vmm/inspect/frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/iommu/iommu.h"

/* A large page counts for more than one entry of the budget. */
#define FRAMES_FOR_ONE 8

int frame_map_create(struct frame_map *map, const struct memory *memory)
{
    *map = (struct frame_map){ .memory = memory };
    for (unsigned i = 0; i < memory->nslots; i++) {
        map->first[i] = map->n;
        map->n += memory->slots[i].bytes / MEMORY_PAGE_BYTES;
    }
    map->frame = calloc(map->n ? map->n : 1, sizeof(*map->frame));
    return map->frame ? 0 : -ENOMEM;
}

void frame_map_destroy(struct frame_map *map)
{
    free(map->frame);
    map->frame = NULL;
    map->n = 0;
}

/* The frame at gpa, and how many there are from it to the end of its slot. */
static struct frame *frames_from(const struct frame_map *map, uint64_t gpa, uint64_t *count)
{
    for (unsigned i = 0; i < map->memory->nslots; i++) {
        const struct memory_slot *slot = &map->memory->slots[i];

        if (gpa < slot->gpa || gpa - slot->gpa >= slot->bytes)
            continue;
        *count = (slot->bytes - (gpa - slot->gpa)) / MEMORY_PAGE_BYTES;
        return &map->frame[map->first[i] + (gpa - slot->gpa) / MEMORY_PAGE_BYTES];
    }
    return NULL;
}

struct frame *frame_map_at(const struct frame_map *map, uint64_t gpa)
{
    uint64_t count;

    return frames_from(map, gpa, &count);
}

uint64_t frame_map_gpa(const struct frame_map *map, size_t i)
{
    unsigned slot = map->memory->nslots - 1;

    while (slot && map->first[slot] > i)
        slot--;
    return map->memory->slots[slot].gpa + (i - map->first[slot]) * MEMORY_PAGE_BYTES;
}

const char *frame_kind_name(enum frame_kind kind)
{
    static const char *const names[FRAME_KINDS] = {
        [FRAME_UNKNOWN] = "unknown", [FRAME_FREE] = "free",     [FRAME_IMAGE] = "image",
        [FRAME_PROGRAM] = "program", [FRAME_KERNEL] = "kernel", [FRAME_TABLE] = "table",
        [FRAME_USER] = "user",
    };

    return kind < FRAME_KINDS ? names[kind] : "unknown";
}

/* ---- Counting ------------------------------------------------------------- */

struct counting {
    struct frame_map *map;
    const struct spaces *spaces;
    bool upper;
    uint64_t work; /* left for large pages */
};

static int frames_count_leaf(void *owner, unsigned space, const struct paging_leaf *leaf)
{
    struct counting *c = owner;
    uint64_t wanted = leaf->page_bytes / MEMORY_PAGE_BYTES, count;
    bool cow = c->spaces->bundled && leaf->software & ABI_PTE_COW;
    struct frame *frame;

    if (!leaf->user)
        return 0;
    frame = frames_from(c->map, leaf->gpa, &count);
    if (!frame) {
        c->map->outside++;
        return 0;
    }
    if (count > wanted)
        count = wanted;
    if (c->work < count / FRAMES_FOR_ONE)
        return -E2BIG;
    c->work -= count / FRAMES_FOR_ONE;
    for (; count; count--, frame++) {
        frame->mappings += frame->mappings < UINT16_MAX;
        if (!frame->owner)
            frame->owner = (uint8_t)(space + 1);
        if (cow)
            frame->flags |= FRAME_COW;
    }
    return 0;
}

static int frames_count_table(void *owner, unsigned space, const struct paging_table *table)
{
    struct counting *c = owner;
    struct frame *frame = frame_map_at(c->map, table->gpa);

    if (!frame || frame->flags & FRAME_SEEN)
        return 0;
    frame->flags |= FRAME_SEEN;
    if (!frame->owner)
        frame->owner = (uint8_t)(space + 1);
    if (c->upper)
        c->map->kernel_tables++;
    else
        c->map->user_tables++;
    return 0;
}

static int frames_count_broken(void *owner, unsigned space, uint64_t va, enum paging_status status)
{
    struct counting *c = owner;

    (void)space;
    (void)va;
    (void)status;
    c->map->broken++;
    return 0;
}

/* What the bundled guest's own table has a frame as. */
static enum frame_kind frames_claimed_kind(const struct guest_view *guest, uint64_t gpa)
{
    struct abi_frame head, frame = guest_frame(guest, gpa);

    if (gpa / ABI_PAGE_BYTES < guest->kernel.first_frame)
        return FRAME_IMAGE;
    switch (frame.kind) {
    case ABI_FRAME_KERNEL: return FRAME_KERNEL;
    case ABI_FRAME_TABLE: return FRAME_TABLE;
    case ABI_FRAME_USER:
    case ABI_FRAME_HUGE: return FRAME_USER;
    default:
        head = guest_frame(guest, gpa & ~(ABI_HUGE_BYTES - 1));
        return head.kind == ABI_FRAME_HUGE ? FRAME_USER : FRAME_FREE;
    }
}

static enum frame_kind frames_kind_of(const struct spaces *spaces, const struct frame *frame,
                                      uint64_t gpa)
{
    enum frame_kind kind;

    if (!spaces->bundled) {
        if (frame->flags & FRAME_SEEN)
            return FRAME_TABLE;
        return frame->mappings ? FRAME_USER : FRAME_UNKNOWN;
    }
    kind = frames_claimed_kind(&spaces->guest, gpa);
    return kind == FRAME_IMAGE && frame->mappings ? FRAME_PROGRAM : kind;
}

void frame_map_count(struct frame_map *map, const struct spaces *spaces, const struct iommu *iommu,
                     uint64_t *budget)
{
    struct counting c = { .map = map, .spaces = spaces, .work = *budget };
    const struct spaces_visitor lower = { .owner = &c,
                                          .leaf = frames_count_leaf,
                                          .table = frames_count_table,
                                          .broken = frames_count_broken };
    const struct spaces_visitor upper = { .owner = &c,
                                          .table = frames_count_table,
                                          .broken = frames_count_broken };
    int err = spaces_each(spaces, SPACES_LOWER, budget, &lower);

    /* After all lower halves, so that a root counts with those. */
    c.upper = true;
    if (!err)
        err = spaces_each(spaces, SPACES_UPPER, budget, &upper);
    map->complete = !err;

    for (unsigned slot = 0; slot < map->memory->nslots; slot++) {
        uint64_t gpa = map->memory->slots[slot].gpa;
        size_t end = slot + 1 < map->memory->nslots ? map->first[slot + 1] : map->n;

        for (size_t i = map->first[slot]; i < end; i++, gpa += MEMORY_PAGE_BYTES) {
            struct frame *frame = &map->frame[i];

            frame->kind = frames_kind_of(spaces, frame, gpa);
            if (iommu && iommu_pinned(iommu, gpa, MEMORY_PAGE_BYTES))
                frame->flags |= FRAME_PINNED;
        }
    }
}

/* ---- Totals --------------------------------------------------------------- */

static void frames_compare(const struct frame *frame, uint64_t gpa, const struct spaces *spaces,
                           struct frame_totals *totals)
{
    struct abi_frame claimed = guest_frame(&spaces->guest, gpa);
    bool is_head = claimed.kind == ABI_FRAME_USER || claimed.kind == ABI_FRAME_HUGE;

    totals->free_but_mapped += frame->kind == FRAME_FREE && frame->mappings;
    totals->table_not_seen += frame->kind == FRAME_TABLE && !(frame->flags & FRAME_SEEN);
    totals->seen_not_table += frame->kind != FRAME_TABLE && frame->kind != FRAME_IMAGE &&
                              frame->flags & FRAME_SEEN;
    totals->refs_unlike += is_head && claimed.refs < frame->mappings;
}

void frame_map_total(const struct frame_map *map, const struct spaces *spaces,
                     struct frame_totals *totals)
{
    *totals = (struct frame_totals){ .ram = map->n };
    for (size_t i = 0; i < map->n; i++) {
        const struct frame *frame = &map->frame[i];
        unsigned mappings = frame->mappings;

        totals->kind[frame->kind]++;
        totals->cow += !!(frame->flags & FRAME_COW);
        totals->pinned += !!(frame->flags & FRAME_PINNED);
        if (mappings > 1)
            totals->saved_bytes += (mappings - 1) * MEMORY_PAGE_BYTES;
        if (mappings || frame->kind == FRAME_USER)
            totals->mapped_by[mappings < FRAMES_SHARED_MAX ? mappings : FRAMES_SHARED_MAX]++;
        if (spaces->bundled)
            frames_compare(frame, frame_map_gpa(map, i), spaces, totals);
    }
}
