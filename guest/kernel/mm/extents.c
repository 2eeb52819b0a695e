#include "guest/kernel/mm/extents.h"

#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/space.h"

#define EXTENTS_MAX (ABI_PAGE_BYTES / sizeof(struct extent))

static struct extent *all(struct extents *e)
{
    return e->more ? (struct extent *)extents_frame_va(e->more) : e->inside;
}

int extents_add(struct extents *e, uint64_t frame, uint64_t pages, bool join)
{
    struct extent *extent = all(e);

    if (join && e->count) {
        struct extent *last = &extent[e->count - 1];

        if (last->frame + last->pages == frame &&
            frames[frame_head(last->frame)].kind != ABI_FRAME_HUGE) {
            last->pages += (uint32_t)pages;
            return 0;
        }
    }
    if (!e->more && e->count == EXTENTS_INSIDE) {
        e->more = (uint32_t)frame_alloc(ABI_FRAME_KERNEL, false);
        if (!e->more)
            return -ABI_ENOMEM;
        extent = all(e);
        memcpy(extent, e->inside, sizeof(e->inside));
    }
    if (e->more && e->count == EXTENTS_MAX)
        return -ABI_ENOMEM;
    extent[e->count++] = (struct extent){ (uint32_t)frame, (uint32_t)pages };
    return 0;
}

int extents_of_user(struct extents *e, struct process *p, uint64_t va, uint64_t bytes, bool write,
                    bool pin)
{
    uint64_t end = va + bytes;

    for (va &= ~(ABI_PAGE_BYTES - 1); va < end;) {
        uint64_t rest, head, frame;
        const char *at = space_reach_page(p, va, write, &rest);
        int err = -ABI_EFAULT;

        if (!at)
            goto drop;
        frame = ((uint64_t)at - DIRECT_MAP) >> PAGE_SHIFT;
        head = frame_head(frame);
        if (rest > end - va)
            rest = (end - va + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1);
        if (pin && !frame_pin(head)) {
            err = -ABI_ENOMEM;
            goto drop;
        }
        err = extents_add(e, frame, rest >> PAGE_SHIFT,
                          head == frame && frames[head].kind != ABI_FRAME_HUGE);
        if (err) {
            if (pin)
                frame_unpin(head);
            goto drop;
        }
        va += rest;
        continue;

    drop:
        extents_drop(e, pin ? EXTENTS_PINNED : EXTENTS_NONE);
        return err;
    }
    return 0;
}

int extents_alloc(struct extents *e, uint64_t pages)
{
    while (pages--) {
        uint64_t frame = frame_alloc(ABI_FRAME_KERNEL, true);
        int err = frame ? extents_add(e, frame, 1, true) : -ABI_ENOMEM;

        if (err) {
            if (frame)
                frame_put(frame, true);
            extents_drop(e, EXTENTS_OWNED);
            return err;
        }
    }
    return 0;
}

char *extents_at(const struct extents *e, uint64_t offset)
{
    const struct extent *extent = extents_all(e);
    uint64_t page = offset >> PAGE_SHIFT;

    while (page >= extent->pages)
        page -= extent++->pages;
    return (char *)frame_va(extent->frame + page) + offset % ABI_PAGE_BYTES;
}

void extents_drop(struct extents *e, enum extents_hold hold)
{
    const struct extent *extent = extents_all(e);

    for (uint32_t i = 0; hold != EXTENTS_NONE && i < e->count; i++) {
        uint64_t frame = extent[i].frame, end = frame + extent[i].pages;

        if (hold == EXTENTS_PINNED && frames[frame_head(frame)].kind == ABI_FRAME_HUGE) {
            frame_unpin(frame_head(frame));
            continue;
        }
        for (; frame < end; frame++) {
            if (hold == EXTENTS_PINNED)
                frame_unpin(frame);
            else
                frame_put(frame, false);
        }
    }
    if (e->more)
        frame_put(e->more, false);
    e->count = e->more = 0;
}
