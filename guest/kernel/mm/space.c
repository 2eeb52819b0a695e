#include "guest/kernel/mm/space.h"

#include "guest/kernel/arch/smp.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/kstring.h"
#include "guest/kernel/mm/disk_map.h"
#include "guest/kernel/mm/frame.h"
#include "guest/kernel/mm/paging.h"
#include "guest/kernel/mm/shared.h"
#include "guest/kernel/mm/vma.h"
#include "guest/kernel/proc/program.h"

int space_range(struct process *p, uint64_t start, uint64_t bytes, uint64_t *end)
{
    int result;

    *end = start + ((bytes + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1));
    if (start % ABI_PAGE_BYTES || bytes == 0 || bytes > USER_END || start >= USER_END ||
        *end > USER_END)
        return -ABI_EINVAL;
    result = vma_split(p, start);
    return result ? result : vma_split(p, *end);
}

static uint8_t level_of(uint32_t flags)
{
    return flags & ABI_MAP_GIANT ? 2 : flags & ABI_MAP_HUGE ? 1 : 0;
}

int64_t space_mmap(struct process *p, uint64_t addr, uint64_t bytes, uint32_t prot, uint32_t flags,
                   uint64_t object)
{
    struct vma vma = { .prot = (uint8_t)prot, .kind = VMA_ZERO, .level = level_of(flags) };
    uint64_t page = vma_page_bytes(&vma);
    int result;

    if (bytes == 0 || bytes > USER_END || prot & ~7u || flags & ~15u || addr % page)
        return -ABI_EINVAL;
    bytes = (bytes + page - 1) & ~(page - 1);
    if (flags & ABI_MAP_GIANT && !cpu_has_giant_pages())
        return -ABI_EINVAL;
    if (flags & ABI_MAP_GIANT && bytes / ABI_GIANT_BYTES > frame_giant_free())
        return -ABI_ENOMEM;
    if (flags & ABI_MAP_SHARED) {
        vma.object = shared_of(object);
        if (!vma.object || vma.level || bytes > shared_pages(vma.object) * ABI_PAGE_BYTES)
            return -ABI_EINVAL;
        vma.kind = VMA_SHARED;
        /* Broken on purpose: the process sees memory of its own instead. */
        if (p->breaks & ABI_BREAK_SHARED)
            vma.kind = VMA_ZERO;
    }
    if (!(flags & ABI_MAP_FIXED))
        addr = vma_gap(p, bytes, page);
    if (addr < ABI_PAGE_BYTES || addr >= USER_END || bytes > USER_END - addr)
        return flags & ABI_MAP_FIXED ? -ABI_EINVAL : -ABI_ENOMEM;
    vma.start = addr;
    vma.end = addr + bytes;
    result = vma_add(p, &vma);
    return result ? result : (int64_t)addr;
}

int64_t space_map_file(struct process *p, const struct file *file, uint64_t offset, uint64_t bytes,
                       uint32_t prot, uint64_t addr)
{
    struct vma vma = { .prot = (uint8_t)prot, .kind = VMA_FILE, .file_bytes = bytes };
    uint64_t room = (bytes + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1);
    int result;

    if (bytes == 0 || prot & ~7u || offset % ABI_PAGE_BYTES || addr % ABI_PAGE_BYTES ||
        offset > file->bytes || bytes > file->bytes - offset)
        return -ABI_EINVAL;
    if (!addr)
        addr = vma_gap(p, room, ABI_PAGE_BYTES);
    if (addr < ABI_PAGE_BYTES || addr >= USER_END || room > USER_END - addr)
        return -ABI_ENOMEM;
    vma.start = addr;
    vma.end = addr + room;
    vma.file_frame = frame_of_image(file->image + offset);
    result = vma_add(p, &vma);
    return result ? result : (int64_t)addr;
}

int64_t space_map_region(struct process *p, uint64_t frame, uint64_t pages)
{
    struct vma vma = { .prot = ABI_PROT_READ | ABI_PROT_WRITE,
                       .kind = VMA_REGION,
                       .file_frame = frame };
    int result;

    vma.start = vma_gap(p, pages * ABI_PAGE_BYTES, ABI_PAGE_BYTES);
    if (!vma.start)
        return -ABI_ENOMEM;
    vma.end = vma.start + pages * ABI_PAGE_BYTES;
    result = vma_add(p, &vma);
    return result ? result : (int64_t)vma.start;
}

/* ---- Leaf entries --------------------------------------------------------- */

static uint64_t frame_of(uint64_t entry)
{
    return (entry & PTE_FRAME) >> PAGE_SHIFT;
}

/* Whether a private mapping may write to the frame itself. */
static bool exclusive(uint64_t frame)
{
    return frame >= kernel_info.first_frame && frames[frame].refs - frames[frame].pins == 1;
}

/* Inaccessible ones only hold the frame. */
uint64_t space_leaf(const struct process *p, const struct vma *vma, uint64_t frame)
{
    uint64_t entry = frame << PAGE_SHIFT | PTE_USER | (vma->level ? PTE_HUGE : 0);

    /* Broken on purpose: everything is writable and executable. */
    if (p->breaks & ABI_BREAK_PROTECTION)
        return entry | PTE_PRESENT | PTE_WRITE;
    if (vma->prot)
        entry |= PTE_PRESENT;
    if (!(vma->prot & ABI_PROT_EXEC))
        entry |= PTE_NX;
    if (vma->prot & ABI_PROT_WRITE)
        entry |= vma->kind >= VMA_SHARED || exclusive(frame) ? PTE_WRITE : PTE_COW;
    return entry;
}

static void flush_companions(const struct process *p)
{
    for (unsigned i = 0; i < cpu_count; i++) {
        const struct process *runs = cpus[i].current;

        if (runs && runs->leader == p && runs->pub.state == ABI_PROCESS_RUNNING)
            smp_flush(&cpus[i]);
    }
}

void space_flush(const struct process *p)
{
    if (read_cr3() == p->pub.root)
        write_cr3(p->pub.root);
    else if (p->pub.state == ABI_PROCESS_RUNNING)
        smp_flush(&cpus[p->pub.cpu]);
    if (p->companions)
        flush_companions(p);
}

/*
 * The entry of va, found from that of the page before it (NULL: from the root) if they
 * share a table. NULL if there is none.
 */
static uint64_t *leaf_after(const struct process *p, uint64_t *before, uint64_t va)
{
    uint64_t bytes;

    if (!before || va % ABI_HUGE_BYTES == 0)
        return paging_find(p->pub.root, va, &bytes);
    return before[1] ? before + 1 : NULL;
}

static uint64_t frames_in(uint64_t bytes)
{
    return bytes / ABI_PAGE_BYTES;
}

/* A 1G page is as many 2M ones, one behind the other. */
static void put_page(uint64_t frame, uint64_t bytes)
{
    uint64_t end = frame + frames_in(bytes);

    for (; frame < end; frame += HUGE_FRAMES)
        frame_put(frame, false);
}

void space_drop(struct process *p, uint64_t start, uint64_t end)
{
    uint64_t va = start, bytes, last = 0;
    uint64_t *entry;
    bool any = false;

    while ((entry = paging_next(p->pub.root, &va, end, &bytes))) {
        /* The tables of a 2M stretch are looked at when it is left. */
        if (any && (last ^ va) >= ABI_HUGE_BYTES)
            paging_prune(p->pub.root, last);
        /* Broken on purpose: the first page of the range is lost. */
        if (any || !(p->breaks & ABI_BREAK_EXIT))
            put_page(frame_of(*entry), bytes);
        paging_set(entry, 0);
        p->pub.rss_frames -= frames_in(bytes);
        any = true;
        last = va;
        va += bytes;
    }
    if (any)
        paging_prune(p->pub.root, last);
}

int space_unmap(struct process *p, uint64_t start, uint64_t bytes)
{
    uint64_t end;
    struct vma *vma;
    int result = space_range(p, start, bytes, &end);

    if (result)
        return result;
    space_drop(p, start, end);
    for (vma = vma_after(p, start); !vma_is_end(p, vma) && vma->start < end;)
        vma_forget(p, vma);
    space_flush(p);
    return 0;
}

void space_clear(struct process *p)
{
    while (p->nvmas) {
        struct vma *last = &p->vma[p->nvmas - 1];

        space_drop(p, last->start, last->end);
        vma_forget(p, last);
    }
    space_flush(p);
}

/*
 * Makes the entries of a VMA what it says. True if one was present: what was not is in
 * no TLB (Intel SDM vol. 3, 4.10.2.3).
 */
static bool reprotect(struct process *p, const struct vma *vma)
{
    /* Without the right to write, all entries get the same bits. */
    uint64_t same = vma->prot & ABI_PROT_WRITE ? 0 : space_leaf(p, vma, 0);
    uint64_t kept = PTE_ACCESSED | PTE_DIRTY | (same ? PTE_FRAME : 0);
    uint64_t *entry = NULL, page = 0;
    bool cached = false;

    for (uint64_t va = vma->start; va < vma->end; va += page) {
        /* The next page of the same table is next to it. */
        if (entry && page == ABI_PAGE_BYTES && va % ABI_HUGE_BYTES && entry[1])
            entry++;
        else
            entry = paging_next(p->pub.root, &va, vma->end, &page);
        if (!entry)
            break;
        cached |= *entry & PTE_PRESENT;
        *entry = (*entry & kept) | (same ? same : space_leaf(p, vma, frame_of(*entry)));
    }
    return cached;
}

int space_protect(struct process *p, uint64_t start, uint64_t bytes, uint32_t prot)
{
    uint64_t end, va;
    struct vma *vma;
    bool cached = false;
    int result = prot & ~7u ? -ABI_EINVAL : space_range(p, start, bytes, &end);

    if (result)
        return result;
    for (va = start; va < end; va = vma->end) {
        vma = vma_at(p, va);
        if (!vma)
            return -ABI_ENOMEM;
    }
    for (vma = vma_at(p, start); !vma_is_end(p, vma) && vma->start < end; vma++) {
        vma->prot = (uint8_t)prot;
        cached |= reprotect(p, vma);
    }
    vma_merge(p, start, end);
    if (cached)
        space_flush(p);
    return 0;
}

/* The VMA that holds all of a range of private 4K pages, or NULL. */
static struct vma *private_vma(struct process *p, uint64_t va, uint64_t bytes)
{
    struct vma *vma = va < USER_END ? vma_at(p, va) : NULL;

    if (!vma || vma->kind != VMA_ZERO || vma->level || va % ABI_PAGE_BYTES || bytes > vma->end - va)
        return NULL;
    return vma;
}

/* A page whose frame can be given away: there is one, and nobody else has it. */
static bool swappable(const uint64_t *entry)
{
    uint64_t frame = entry ? frame_of(*entry) : 0;

    return frame >= kernel_info.first_frame && frames[frame].refs == 1 && !frames[frame].pins;
}

int space_swap(struct process *p, uint64_t va, struct process *other, uint64_t other_va,
               uint64_t bytes)
{
    const uint64_t moves = PTE_FRAME, used = PTE_ACCESSED | PTE_DIRTY;
    struct vma *vma = private_vma(p, va, bytes), *other_vma = private_vma(other, other_va, bytes);
    uint64_t *one = NULL, *two = NULL;

    if (!vma || !other_vma || p == other || bytes == 0 || bytes % ABI_PAGE_BYTES)
        return -ABI_EINVAL;
    for (uint64_t at = 0; at < bytes; at += ABI_PAGE_BYTES) {
        one = leaf_after(p, one, va + at);
        two = leaf_after(other, two, other_va + at);
        if (!swappable(one) || !swappable(two))
            return -ABI_EINVAL;
    }
    one = two = NULL;
    for (uint64_t at = 0; at < bytes; at += ABI_PAGE_BYTES) {
        uint64_t difference;

        one = leaf_after(p, one, va + at);
        two = leaf_after(other, two, other_va + at);
        difference = (*one ^ *two) & moves;
        *one = (*one ^ difference) & ~used;
        *two = (*two ^ difference) & ~used;
    }
    if (vma->prot)
        space_flush(p);
    if (other_vma->prot)
        space_flush(other);
    return 0;
}

/* ---- Faults --------------------------------------------------------------- */

static void copy_page(uint64_t to, uint64_t from, uint64_t bytes)
{
    memcpy(frame_va(to), frame_va(from), bytes);
}

/* A frame of its own that holds what `from` holds, or zeroes if from is 0. */
static uint64_t private_copy(const struct vma *vma, uint64_t from)
{
    uint64_t frame = vma->level == 2   ? frame_alloc_giant()
                     : vma->level == 1 ? frame_alloc_huge(!from)
                                       : frame_alloc(ABI_FRAME_USER, !from);

    if (frame && from)
        copy_page(frame, from, vma_page_bytes(vma));
    return frame;
}

/* First touch of a page of a file: its own frame, or a copy if it is to be written. */
static uint64_t file_frame(struct process *p, const struct vma *vma, uint64_t va, bool write)
{
    uint64_t offset = va - vma->start;
    uint64_t from = vma->file_frame + offset / ABI_PAGE_BYTES;
    uint64_t valid = vma->file_bytes - offset;
    uint64_t frame;

    p->pub.file_mapped++;
    /* Broken on purpose: nothing of a file is shared. */
    if (p->breaks & ABI_BREAK_FILE)
        write = true;
    /* Behind the end of the file's data, writable memory must read zero. */
    if (!write && (valid >= ABI_PAGE_BYTES || !(vma->prot & ABI_PROT_WRITE))) {
        frame_get(from);
        return from;
    }
    frame = private_copy(vma, from);
    if (frame && valid < ABI_PAGE_BYTES)
        memset((char *)frame_va(frame) + valid, 0, ABI_PAGE_BYTES - valid);
    return frame;
}

static int first_touch(struct process *p, struct vma *vma, uint64_t va, bool write)
{
    uint64_t *entry, frame = 0;
    /* First what may have to wait, so that no table is made in vain. */
    int err = vma->kind == VMA_DISK ? disk_frame(p, vma, va, write, &frame) : 0;

    if (err)
        return err;
    entry = paging_place(p->pub.root, va, vma->level);
    if (!entry) {
        if (frame)
            frame_put(frame, false);
        return -ABI_ENOMEM;
    }
    switch (vma->kind) {
    case VMA_DISK: break;
    case VMA_FILE: frame = file_frame(p, vma, va, write); break;
    case VMA_SHARED:
        frame = shared_frame(vma->object, vma->object_page + (va - vma->start) / ABI_PAGE_BYTES);
        break;
    case VMA_REGION:
        frame = vma->file_frame + (va - vma->start) / ABI_PAGE_BYTES;
        frame_get(frame);
        break;
    default: frame = private_copy(vma, 0); p->pub.demand_zero++;
    }
    if (!frame) {
        paging_prune(p->pub.root, va);
        return -ABI_ENOMEM;
    }
    p->pub.rss_frames += frames_in(vma_page_bytes(vma));
    paging_set(entry, space_leaf(p, vma, frame));
    return 0;
}

/* `at` was to be written, on the page at va. */
static int cow_break(struct process *p, const struct vma *vma, uint64_t va, uint64_t at,
                     uint64_t *entry)
{
    uint64_t old = frame_of(*entry), frame = old;

    if (exclusive(old)) {
        p->pub.cow_reuses++;
    } else {
        frame = private_copy(vma, old);
        if (!frame)
            return -ABI_ENOMEM;
        frame_put(old, false);
        /* Where the kernel itself writes for a system call, rip is behind the gate's instruction.
         */
        p->pub.cow[p->pub.cow_copies++ % ABI_COWS] = (struct abi_cow){ at, p->regs.rip };
    }
    paging_set(entry, space_leaf(p, vma, frame));
    if (read_cr3() == p->pub.root)
        invlpg(va);
    /* Where only the right to write is new, an older translation does no harm. */
    if (frame != old && p->companions)
        flush_companions(p);
    return 0;
}

/* Of a test build, which measuring must notice (tests/guests/measure.sh); else nothing. */
static void fault_delay(void)
{
#ifdef FAULT_DELAY_NS
    uint64_t end = rdtsc() + boot_info.tsc_hz / 1000 * (FAULT_DELAY_NS) / 1000000;

    while (rdtsc() < end)
        cpu_relax();
#endif
}

int space_fault(struct process *p, uint64_t va, uint32_t error)
{
    struct vma *vma = va < USER_END ? vma_at(p, va) : NULL;
    bool write = error & ABI_PF_WRITE;
    uint32_t need = error & ABI_PF_FETCH ? ABI_PROT_EXEC : write ? ABI_PROT_WRITE : ABI_PROT_READ;
    uint64_t bytes, *entry, at = va;
    int result;

    fault_delay();
    /* One that had to wait for a page is the same one when it comes again. */
    if (!p->paging || p->paging != (va & ~(ABI_PAGE_BYTES - 1)))
        p->pub.faults++;
    /* A reserved bit: pages of a size that this host does not walk, whatever CPUID says. */
    if (error & ABI_PF_RSVD)
        return -ABI_EFAULT;
    /* There is no write-only or execute-only memory on x86-64. */
    if (!vma || !vma->prot || (need != ABI_PROT_READ && !(vma->prot & need)))
        return -ABI_EFAULT;
    va &= ~(vma_page_bytes(vma) - 1);
    entry = paging_find(p->pub.root, va, &bytes);
    if (!entry) {
        result = first_touch(p, vma, va, write);
        if (result != -ABI_EAGAIN)
            p->paging = 0;
        return result;
    }
    if (write && (*entry & PTE_COW))
        return cow_break(p, vma, va, at, entry);
    /* The tables allow it: the CPU had an older entry in its TLB. */
    if (read_cr3() == p->pub.root)
        invlpg(va);
    return 0;
}

/* ---- fork ----------------------------------------------------------------- */

static int fork_leaf(struct process *parent, struct process *child, bool eager, struct vma *vma,
                     uint64_t va, uint64_t *entry)
{
    uint64_t frame = frame_of(*entry);
    bool is_private = vma->kind < VMA_SHARED;
    uint64_t *place = paging_place(child->pub.root, va, vma->level);
    uint64_t copy;

    if (!place)
        return -ABI_ENOMEM;
    /* What a device has pinned stays the parent's, whoever writes first. */
    if ((eager || frames[frame].pins) && is_private && frame >= kernel_info.first_frame) {
        copy = private_copy(vma, frame);
        if (!copy)
            return -ABI_ENOMEM;
        paging_set(place, space_leaf(child, vma, copy));
        return 0;
    }
    frame_get(frame);
    /* Broken on purpose: both sides of an mmap go on writing to the one frame. */
    if (parent->breaks & ABI_BREAK_COW && va >= USER_MMAP_BASE &&
        va < USER_STACK_TOP - USER_STACK_BYTES)
        is_private = false;
    if (is_private && (*entry & PTE_WRITE))
        *entry = (*entry & ~PTE_WRITE) | PTE_COW;
    paging_set(place, *entry);
    return 0;
}

static int fork_vma(struct process *parent, struct process *child, bool eager, struct vma *vma)
{
    uint64_t bytes, *entry;

    for (uint64_t va = vma->start; (entry = paging_next(parent->pub.root, &va, vma->end, &bytes));
         va += bytes) {
        int result = fork_leaf(parent, child, eager, vma, va, entry);

        if (result) {
            paging_prune(child->pub.root, va);
            return result;
        }
        child->pub.rss_frames += frames_in(bytes);
    }
    return 0;
}

int space_fork(struct process *parent, struct process *child, bool eager)
{
    int result = 0;

    for (unsigned i = 0; !result && i < parent->nvmas; i++) {
        struct vma *vma = &parent->vma[i], *copy = &child->vma[child->nvmas];

        /* Nobody copies a GiB on write. */
        if (vma->level == 2)
            continue;
        child->nvmas++;
        *copy = *vma;
        copy->locked = false;
        child->pub.vsz_bytes += vma->end - vma->start;
        vma_hold(vma);
        result = fork_vma(parent, child, eager, vma);
    }
    space_flush(parent);
    if (result)
        space_clear(child);
    return result;
}

/* ---- The kernel's own access to user memory ------------------------------- */

void *space_reach_page(struct process *p, uint64_t va, bool write, uint64_t *rest)
{
    uint64_t need = PTE_PRESENT | (write ? PTE_WRITE : 0);

    for (unsigned tries = 0; tries < 3; tries++) {
        uint64_t bytes;
        uint64_t *entry = va < USER_END ? paging_find(p->pub.root, va, &bytes) : NULL;

        if (entry && (*entry & need) == need) {
            *rest = bytes - (va & (bytes - 1));
            return (char *)frame_va(frame_of(*entry)) + (va & (bytes - 1));
        }
        if (space_fault(p, va, ABI_PF_USER | (write ? ABI_PF_WRITE : 0)))
            return NULL;
    }
    return NULL;
}

void *space_reach(struct process *p, uint64_t va, bool write)
{
    uint64_t rest;

    return space_reach_page(p, va, write, &rest);
}

/* Bytes from va to the end of its page, at most `most`. */
static uint64_t page_rest(uint64_t va, uint64_t most)
{
    uint64_t rest = ABI_PAGE_BYTES - va % ABI_PAGE_BYTES;

    return rest < most ? rest : most;
}

int space_read(struct process *p, void *to, uint64_t va, uint64_t bytes)
{
    char *at = to;

    while (bytes) {
        uint64_t part = page_rest(va, bytes);
        void *from = space_reach(p, va, false);

        if (!from)
            return -ABI_EFAULT;
        memcpy(at, from, part);
        at += part;
        va += part;
        bytes -= part;
    }
    return 0;
}

int space_write(struct process *p, uint64_t va, const void *from, uint64_t bytes)
{
    const char *at = from;

    while (bytes) {
        uint64_t part = page_rest(va, bytes);
        void *to = space_reach(p, va, true);

        if (!to)
            return -ABI_EFAULT;
        memcpy(to, at, part);
        at += part;
        va += part;
        bytes -= part;
    }
    return 0;
}

int space_read_string(struct process *p, char *to, uint64_t room, uint64_t va)
{
    for (uint64_t i = 0; i < room;) {
        uint64_t part = page_rest(va + i, room - i);
        const char *from = space_reach(p, va + i, false);

        if (!from)
            return -ABI_EFAULT;
        for (; part--; i++) {
            to[i] = *from++;
            if (!to[i])
                return 0;
        }
    }
    return -ABI_E2BIG;
}
