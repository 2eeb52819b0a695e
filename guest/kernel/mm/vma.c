#include "guest/kernel/mm/vma.h"

#include "guest/kernel/mm/pagecache.h"
#include "guest/kernel/mm/shared.h"

void vma_hold(const struct vma *vma)
{
    if (vma->kind == VMA_SHARED)
        shared_get(vma->object);
    else if (vma->kind == VMA_DISK)
        pagecache_get(vma->cache);
}

static void vma_release(const struct vma *vma)
{
    if (vma->kind == VMA_SHARED)
        shared_put(vma->object);
    else if (vma->kind == VMA_DISK)
        pagecache_put(vma->cache);
}

struct vma *vma_after(struct process *p, uint64_t va)
{
    struct vma *vma = p->vma, *end = p->vma + p->nvmas;

    while (vma < end && vma->end <= va)
        vma++;
    return vma;
}

bool vma_is_end(const struct process *p, const struct vma *vma)
{
    return vma == p->vma + p->nvmas;
}

struct vma *vma_at(struct process *p, uint64_t va)
{
    struct vma *vma = vma_after(p, va);

    return !vma_is_end(p, vma) && vma->start <= va ? vma : NULL;
}

/* Makes room for one more in front of `at`; there must be some. */
static void vma_open(struct process *p, struct vma *at)
{
    for (struct vma *vma = p->vma + p->nvmas++; vma > at; vma--)
        *vma = vma[-1];
}

static void vma_close(struct process *p, struct vma *at)
{
    for (struct vma *end = p->vma + --p->nvmas; at < end; at++)
        *at = at[1];
}

uint64_t vma_page_bytes(const struct vma *vma)
{
    return ABI_PAGE_BYTES << 9 * vma->level;
}

/* Moves a VMA's start up, and what it maps with it. */
static void vma_trim_start(struct vma *vma, uint64_t start)
{
    uint64_t bytes = start - vma->start;

    vma->start = start;
    vma->file_frame += bytes / ABI_PAGE_BYTES;
    vma->file_bytes = vma->file_bytes > bytes ? vma->file_bytes - bytes : 0;
    vma->object_page += bytes / ABI_PAGE_BYTES;
}

void vma_forget(struct process *p, struct vma *vma)
{
    p->pub.vsz_bytes -= vma->end - vma->start;
    vma_release(vma);
    vma_close(p, vma);
}

int vma_split(struct process *p, uint64_t va)
{
    struct vma *vma = vma_at(p, va);

    if (!vma || vma->start == va)
        return 0;
    if (va % vma_page_bytes(vma))
        return -ABI_EINVAL;
    if (p->nvmas == VMAS_MAX)
        return -ABI_ENOMEM;
    vma_open(p, vma);
    vma_trim_start(vma + 1, va);
    vma->end = va;
    vma_hold(vma);
    return 0;
}

void vma_merge(struct process *p, uint64_t start, uint64_t end)
{
    struct vma *vma = vma_after(p, start ? start - 1 : 0);

    while (!vma_is_end(p, vma) && !vma_is_end(p, vma + 1) && vma->end <= end) {
        const struct vma *next = vma + 1;

        if (vma->end == next->start && vma->kind == VMA_ZERO && next->kind == VMA_ZERO &&
            vma->prot == next->prot && vma->level == next->level && vma->locked == next->locked) {
            vma->end = next->end;
            vma_close(p, vma + 1);
        } else {
            vma++;
        }
    }
}

int vma_add(struct process *p, const struct vma *vma)
{
    struct vma *at = vma_after(p, vma->start);
    uint64_t bytes = vma->end - vma->start, limit = p->pub.vsz_limit;

    if (!vma_is_end(p, at) && at->start < vma->end)
        return -ABI_EEXIST;
    if (p->nvmas == VMAS_MAX)
        return -ABI_ENOMEM;
    /* As RLIMIT_AS: what counts is what is reserved, touched or not. */
    if (limit && (bytes > limit || p->pub.vsz_bytes > limit - bytes))
        return -ABI_ENOMEM;
    vma_open(p, at);
    *at = *vma;
    vma_hold(vma);
    p->pub.vsz_bytes += bytes;
    vma_merge(p, vma->start, vma->end);
    return 0;
}

uint64_t vma_gap(struct process *p, uint64_t bytes, uint64_t align)
{
    uint64_t at = USER_MMAP_BASE;

    for (struct vma *vma = vma_after(p, at); !vma_is_end(p, vma); vma++) {
        if (vma->start >= at && bytes <= vma->start - at)
            return at;
        at = (vma->end + align - 1) & ~(align - 1);
    }
    return at < USER_END && bytes <= USER_END - at ? at : 0;
}
