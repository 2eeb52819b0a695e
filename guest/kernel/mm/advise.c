#include "guest/kernel/mm/advise.h"

#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/arch/layout.h"
#include "guest/kernel/mm/disk_map.h"
#include "guest/kernel/mm/space.h"
#include "guest/kernel/mm/vma.h"

/* Maps the pages of a file in [va, end) that the process has not touched. */
static int map_file(struct process *p, const struct vma *vma, uint64_t va, uint64_t end)
{
    uint64_t rest, faults = p->pub.faults;
    int result = 0;

    if (!(vma->prot & ABI_PROT_READ))
        return 0;
    for (; !result && va < end; va += ABI_PAGE_BYTES)
        result = space_reach_page(p, va, false, &rest) ? 0 : -ABI_ENOMEM;
    p->pub.faults = faults; /* nobody faulted */
    return result;
}

static int advise(struct process *p, struct vma *vma, uint64_t va, uint64_t end, uint32_t advice)
{
    if ((va | end) & (vma_page_bytes(vma) - 1))
        return -ABI_EINVAL;
    switch (advice) {
    case ABI_MADV_NORMAL:
    case ABI_MADV_RANDOM: vma->random = advice == ABI_MADV_RANDOM; break;
    case ABI_MADV_WILLNEED:
        if (vma->kind == VMA_FILE)
            return map_file(p, vma, va, end);
        if (vma->kind == VMA_DISK && vma->prot & ABI_PROT_READ)
            return disk_advise(p, vma, va, end);
        break;
    default:
        if (vma->locked)
            return -ABI_EINVAL;
        space_drop(p, va, end);
    }
    return 0;
}

static bool is_advice(uint32_t advice)
{
    return advice == ABI_MADV_NORMAL || advice == ABI_MADV_RANDOM || advice == ABI_MADV_WILLNEED ||
           advice == ABI_MADV_DONTNEED || advice == ABI_MADV_FREE;
}

int space_advise(struct process *p, uint64_t start, uint64_t bytes, uint32_t advice)
{
    uint64_t end = start + ((bytes + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1));
    int result = 0;

    if (start % ABI_PAGE_BYTES || bytes > USER_END || start >= USER_END || end > USER_END ||
        !is_advice(advice))
        return -ABI_EINVAL;
    /* How pages are read ahead is a matter of whole VMAs. */
    if (advice <= ABI_MADV_RANDOM)
        result = space_range(p, start, bytes, &end);
    /* Broken on purpose: the program is told that all went well. */
    if (p->breaks & ABI_BREAK_MADVISE)
        return 0;
    while (!result && start < end) {
        struct vma *vma = vma_at(p, start);
        uint64_t stop = vma && vma->end < end ? vma->end : end;

        result = vma ? advise(p, vma, start, stop, advice) : -ABI_ENOMEM;
        start = stop;
    }
    space_flush(p);
    return result;
}
