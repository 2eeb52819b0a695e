#include "guest/kernel/mm/disk_map.h"

#include "guest/abi/dma.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/pagecache.h"
#include "guest/kernel/mm/paging.h"
#include "guest/kernel/mm/space.h"
#include "guest/kernel/mm/vma.h"

/* Pages that are read for one that is touched, a group of so many that belong together. */
#define AHEAD_PAGES 16

int64_t disk_map(struct process *p, uint64_t disk, uint64_t offset, uint64_t bytes, uint32_t prot,
                 uint64_t addr)
{
    struct vma vma = { .prot = (uint8_t)prot, .kind = VMA_DISK, .cache = pagecache_of(disk) };
    uint64_t pages;
    int result;

    if (!vma.cache)
        return -ABI_ENOENT;
    pages = pagecache_pages(vma.cache);
    vma.object_page = offset / ABI_PAGE_BYTES;
    if (!bytes || prot & ~7u || offset % ABI_PAGE_BYTES || addr % ABI_PAGE_BYTES ||
        vma.object_page >= pages || bytes > (pages - vma.object_page) * ABI_PAGE_BYTES)
        return -ABI_EINVAL;
    bytes = (bytes + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1);
    if (!addr)
        addr = vma_gap(p, bytes, ABI_PAGE_BYTES);
    if (addr < ABI_PAGE_BYTES || addr >= USER_END || bytes > USER_END - addr)
        return -ABI_ENOMEM;
    vma.start = addr;
    vma.end = addr + bytes;
    result = vma_add(p, &vma);
    return result ? result : (int64_t)addr;
}

static uint64_t page_of(const struct vma *vma, uint64_t va)
{
    return vma->object_page + (va - vma->start) / ABI_PAGE_BYTES;
}

/* ---- One page, by a fault ------------------------------------------------- */

/* Starts a read for the page, and what belongs to it: 0 or -ABI_E*. */
static int read_around(struct process *p, const struct vma *vma, uint64_t page)
{
    uint64_t first = page & ~(AHEAD_PAGES - 1ull), end = first + AHEAD_PAGES;
    uint64_t last = page_of(vma, vma->end);
    int n;

    if (vma->random || p->page_alone) {
        first = page;
        end = page + 1;
    }
    p->page_alone = false;
    if (first < vma->object_page)
        first = vma->object_page;
    if (end > last)
        end = last;
    n = pagecache_read(vma->cache, page, first, end, p->breaks & ABI_BREAK_PAGE);
    if (n < 0)
        return n;
    pagecache_kick(vma->cache);
    p->pub.major_faults++;
    return 0;
}

/* Puts p to sleep until the page at va, or room to read it, may be there. */
static int wait_for_page(struct process *p, struct vma *vma, uint64_t va)
{
    uint64_t page = page_of(vma, va);
    const void *what = pagecache_read_of(vma->cache, page);
    int err;

    if (p != cpu_self()->current || p->pub.state != ABI_PROCESS_RUNNING)
        return -ABI_EFAULT;
    if (p->page_failed) {
        p->page_failed = false;
        if (p->paging == va)
            return -ABI_EIO;
    }
    if (what) {
        p->pub.joined_faults += p->paging != va;
    } else {
        err = read_around(p, vma, page);
        if (err && err != -ABI_EAGAIN)
            return err;
        what = err ? pagecache_room() : pagecache_read_of(vma->cache, page);
    }
    p->paging = va;
    process_block(p, what);
    return -ABI_EAGAIN;
}

int disk_frame(struct process *p, struct vma *vma, uint64_t va, bool write, uint64_t *frame)
{
    uint64_t cached = pagecache_frame(vma->cache, page_of(vma, va));

    if (!cached)
        return wait_for_page(p, vma, va);
    p->page_failed = p->page_alone = false;
    p->pub.file_mapped++;
    *frame = cached;
    if (!write)
        return 0;
    *frame = frame_alloc(ABI_FRAME_USER, false);
    if (*frame)
        memcpy(frame_va(*frame), frame_va(cached), ABI_PAGE_BYTES);
    frame_put(cached, false);
    return *frame ? 0 : -ABI_ENOMEM;
}

/* ---- Many ----------------------------------------------------------------- */

/* Has everything from p->reading_to on read, as far as there is room. 0 or -ABI_E*. */
static int read_on(struct process *p, struct vma *vma, uint64_t end)
{
    int err = 0;

    while (p->reading_to < end) {
        uint64_t page = page_of(vma, p->reading_to), frame = pagecache_frame(vma->cache, page);
        int n = 1;

        if (frame)
            frame_put(frame, false);
        else if (!pagecache_read_of(vma->cache, page))
            n = pagecache_read(vma->cache, page, page, page_of(vma, end),
                               p->breaks & ABI_BREAK_PAGE);
        if (n < 0) {
            err = n;
            break;
        }
        p->reading_to += (uint64_t)n * ABI_PAGE_BYTES;
    }
    pagecache_kick(vma->cache);
    return err == -ABI_EAGAIN ? 0 : err;
}

/* Maps pages from p->populated on up to the first that is not there. 0 or -ABI_ENOMEM. */
static int map_on(struct process *p, struct vma *vma, uint64_t end)
{
    /* But for the frame, all are alike. */
    uint64_t like = space_leaf(p, vma, 0), *entry = NULL, frame;

    for (; p->populated < end; p->populated += ABI_PAGE_BYTES) {
        frame = pagecache_frame(vma->cache, page_of(vma, p->populated));
        if (!frame)
            return 0;
        /* The next page of the same table is next to it. */
        entry = entry && p->populated % ABI_HUGE_BYTES
                    ? entry + 1
                    : paging_place(p->pub.root, p->populated, false);
        if (!entry || *entry) {
            frame_put(frame, false);
            if (!entry)
                return -ABI_ENOMEM;
            continue;
        }
        paging_set(entry, like | frame << PAGE_SHIFT);
        p->pub.rss_frames++;
    }
    return 0;
}

int disk_advise(struct process *p, struct vma *vma, uint64_t start, uint64_t end)
{
    int err;

    p->populated = p->reading_to = start;
    err = read_on(p, vma, end);
    for (; !err && p->populated < end; p->populated += ABI_PAGE_BYTES)
        err = map_on(p, vma, end);
    return err;
}

/*
 * Maps all of [start, end) of a VMA. 0; PROCESS_WAITS, to be called again with the same
 * range when p's system call is started again; -ABI_E*.
 */
static int64_t map_all(struct process *p, struct vma *vma, uint64_t start, uint64_t end)
{
    const void *what;
    int err;

    if (p->populated < start)
        p->populated = start;
    if (p->reading_to < p->populated)
        p->reading_to = p->populated;
    err = read_on(p, vma, end);
    if (!err)
        err = map_on(p, vma, end);
    if (err || p->populated >= end)
        return err;
    what = pagecache_read_of(vma->cache, page_of(vma, p->populated));
    /* It was read, and is not there: not read in earnest, or not at all. */
    if (!what && p->populated < p->reading_to)
        return -ABI_EIO;
    return process_block(p, what ? what : pagecache_room());
}

int64_t disk_settle(struct process *p, uint64_t va, uint64_t bytes)
{
    uint64_t end = va + bytes;
    int64_t result = 0;

    if (va >= USER_END || bytes > USER_END - va)
        return -ABI_EFAULT;
    for (struct vma *vma = vma_after(p, va); !result && !vma_is_end(p, vma) && vma->start < end;
         vma++) {
        if (vma->kind == VMA_DISK)
            result = map_all(p, vma, vma->start > va ? vma->start : va & ~(ABI_PAGE_BYTES - 1),
                             vma->end < end ? vma->end
                                            : (end + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1));
    }
    return result;
}

/* ---- Locking -------------------------------------------------------------- */

/* All of [start, end) of one VMA is there, and its own where it may be written. */
static int64_t populate(struct process *p, struct vma *vma, uint64_t start, uint64_t end)
{
    uint64_t rest;

    if (!vma->prot)
        return 0;
    if (vma->kind == VMA_DISK)
        return map_all(p, vma, start, end);
    for (uint64_t va = start; va < end; va += rest) {
        if (!space_reach_page(p, va, vma->prot & ABI_PROT_WRITE, &rest))
            return -ABI_ENOMEM;
    }
    return 0;
}

int64_t space_lock(struct process *p, uint64_t start, uint64_t bytes, bool lock)
{
    uint64_t end, faults = p->pub.faults;
    int64_t result = space_range(p, start, bytes, &end);
    struct vma *vma;

    if (result)
        return result;
    for (uint64_t va = start; va < end; va = vma->end) {
        vma = vma_at(p, va);
        if (!vma)
            return -ABI_ENOMEM;
    }
    /* Broken on purpose: the program is told that all is there. */
    if (p->breaks & ABI_BREAK_LOCK)
        return 0;
    for (vma = vma_at(p, start); !result && !vma_is_end(p, vma) && vma->start < end; vma++) {
        vma->locked = lock;
        if (lock)
            result = populate(p, vma, vma->start, vma->end);
    }
    p->pub.faults = faults; /* nobody faulted */
    vma_merge(p, start, end);
    return result;
}
