#include "guest/kernel/dma/bounce.h"

#include "guest/kernel/dma/region.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"

struct bounce_pool {
    bool ready;
    uint64_t gpa;
    uint32_t nslots, next;
    struct abi_bounce_slot *meta;
};

static struct bounce_pool pools[ABI_POLICY_REGIONS_MAX];

#define META_PER_FRAME (ABI_PAGE_BYTES / sizeof(struct abi_bounce_slot))

struct bounce_pool *bounce_pool_of(uint32_t region, bool meta_inside)
{
    struct bounce_pool *pool;
    uint64_t frame = region_frame(region), meta;

    if (!frame)
        return NULL;
    pool = &pools[region];
    if (pool->ready)
        return pool;
    pool->gpa = frame << PAGE_SHIFT;
    pool->nslots = (uint32_t)(region_pages(region) * (ABI_PAGE_BYTES / ABI_BOUNCE_BYTES));
    if (meta_inside) {
        pool->meta = frame_va(frame);
        pool->next = (uint32_t)(pool->nslots * sizeof(*pool->meta) / ABI_BOUNCE_BYTES + 1);
        for (uint32_t i = 0; i < pool->next && i < pool->nslots; i++)
            pool->meta[i].in_use = ~0u;
    } else {
        if (pool->nslots > META_PER_FRAME * HUGE_FRAMES)
            pool->nslots = META_PER_FRAME * HUGE_FRAMES;
        meta = pool->nslots <= META_PER_FRAME ? frame_alloc(ABI_FRAME_KERNEL, true)
                                              : frame_alloc_huge(true);
        if (!meta)
            return NULL;
        pool->meta = frame_va(meta);
    }
    pool->ready = true;
    return pool;
}

uint64_t bounce_room(const struct bounce_pool *pool)
{
    return (uint64_t)pool->nslots * ABI_BOUNCE_BYTES;
}

static uint32_t slots_of(uint64_t va, uint64_t bytes)
{
    return (uint32_t)((va % ABI_BOUNCE_BYTES + bytes + ABI_BOUNCE_BYTES - 1) / ABI_BOUNCE_BYTES);
}

/* So many free slots in a row, looked for from where the last ones were. */
static int64_t find(struct bounce_pool *pool, uint32_t count)
{
    uint32_t run = 0, at = pool->next;

    for (uint32_t i = 0; i < 2 * pool->nslots; i++, at++) {
        if (at >= pool->nslots)
            at = 0, run = 0;
        run = pool->meta[at].in_use ? 0 : run + 1;
        if (run == count) {
            pool->next = at + 1;
            return at + 1 - count;
        }
    }
    return -ABI_ENOMEM;
}

static char *slot_va(const struct bounce_pool *pool, uint32_t slot)
{
    return (char *)DIRECT_MAP + pool->gpa + (uint64_t)slot * ABI_BOUNCE_BYTES;
}

int64_t bounce_in(struct bounce_pool *pool, const struct extents *memory, uint64_t va,
                  uint64_t bytes, uint32_t rights, uint64_t *offset)
{
    uint64_t from = va % ABI_PAGE_BYTES, rest;
    int64_t first = find(pool, slots_of(va, bytes));

    if (first < 0)
        return first;
    *offset = (uint64_t)first * ABI_BOUNCE_BYTES + va % ABI_BOUNCE_BYTES;
    for (uint32_t slot = (uint32_t)first; bytes; slot++, from += rest, bytes -= rest) {
        char *buffer = extents_at(memory, from);

        rest = ABI_BOUNCE_BYTES - from % ABI_BOUNCE_BYTES;
        if (rest > bytes)
            rest = bytes;
        pool->meta[slot] = (struct abi_bounce_slot){
            .gpa = (uint64_t)buffer - DIRECT_MAP,
            .bytes = (uint32_t)rest,
            .in_use = rights + 4,
        };
        /* Also where the device only writes: what it leaves out must come back unchanged. */
        memcpy(slot_va(pool, slot) + from % ABI_BOUNCE_BYTES, buffer, rest);
    }
    return first;
}

void bounce_out(struct bounce_pool *pool, uint32_t slot, uint64_t bytes, uint64_t va, bool copy)
{
    uint64_t ram = kernel_info.nframes << PAGE_SHIFT;

    for (uint32_t end = slot + slots_of(va, bytes); slot < end; slot++) {
        struct abi_bounce_slot *meta = &pool->meta[slot];

        /*
         * Where the book-keeping lies in the pool, the device may have written all of this.
         * It is believed as far as the guest survives it.
         */
        if (copy && meta->in_use & 2 && meta->gpa < ram && meta->bytes <= ABI_BOUNCE_BYTES)
            memcpy((char *)DIRECT_MAP + meta->gpa,
                   slot_va(pool, slot) + meta->gpa % ABI_BOUNCE_BYTES, meta->bytes);
        *meta = (struct abi_bounce_slot){ 0 };
    }
}
