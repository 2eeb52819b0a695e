#include "guest/kernel/mm/paging.h"

#include "guest/abi/machine.h"
#include "guest/kernel/arch/cpu.h"
#include "guest/kernel/kernel.h"
#include "guest/kernel/mm/frame.h"

#define ENTRIES 512
#define LEVELS  4

extern char image_start[], text_end[], rodata_end[], data_end[], image_end[];

/* start.S loads it on the other CPUs. */
uint64_t kernel_pml4[ENTRIES] __attribute__((aligned(4096)));
static uint64_t kernel_pdpt[ENTRIES] __attribute__((aligned(4096)));

static uint64_t page_bytes(unsigned level)
{
    return 1ull << (PAGE_SHIFT + 9 * level);
}

static unsigned index_of(uint64_t va, unsigned level)
{
    return va >> (PAGE_SHIFT + 9 * level) & (ENTRIES - 1);
}

static uint64_t *table_of(uint64_t entry)
{
    return (uint64_t *)(DIRECT_MAP + (entry & PTE_FRAME));
}

/* ---- The kernel's own tables ---------------------------------------------- */

static uint64_t image_address(const void *va)
{
    return (uint64_t)va - KERNEL_OFFSET;
}

/* Frames right behind the image, before there is an allocator. They read zero. */
static uint64_t early_end;

static uint64_t *early_table(void)
{
    uint64_t at = early_end;

    early_end += ABI_PAGE_BYTES;
    if (early_end > BOOT_MAPPED_BYTES)
        panic("too much memory for the boot page tables");
    return (uint64_t *)(KERNEL_OFFSET + at);
}

/* Entries of `step` bytes each for [from, to), which lies within what one table maps. */
static void fill(uint64_t *table, uint64_t from, uint64_t to, uint64_t step, uint64_t flags)
{
    uint64_t *entry = &table[from / step % ENTRIES];

    for (; from < to; from += step)
        *entry++ = from | flags;
}

/* The direct map of [from, to) in the page directory `pd`: 2M pages, and 4K for the rest. */
static void fill_direct(uint64_t *pd, uint64_t from, uint64_t to)
{
    const uint64_t rw = PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_GLOBAL;
    uint64_t whole = to & ~(ABI_HUGE_BYTES - 1);
    uint64_t *rest;

    fill(pd, from, whole, ABI_HUGE_BYTES, rw | PTE_HUGE);
    if (whole == to)
        return;
    rest = early_table();
    fill(rest, whole, to, ABI_PAGE_BYTES, rw);
    pd[index_of(whole, 1)] = image_address(rest) | PTE_PRESENT | PTE_WRITE;
}

/*
 * The 2M block at `block` by 4K pages, where it holds a part of the image: each
 * section with just the permissions it needs, in the direct map too.
 */
static uint64_t *image_table(uint64_t block)
{
    const uint64_t rw = PTE_PRESENT | PTE_GLOBAL | PTE_WRITE | PTE_NX;
    const struct {
        const void *end;
        uint64_t flags;
    } part[] = {
        { image_start, rw },
        { text_end, PTE_PRESENT | PTE_GLOBAL },
        { rodata_end, PTE_PRESENT | PTE_GLOBAL | PTE_NX },
        { data_end, rw },
        { image_end, PTE_PRESENT | PTE_GLOBAL | PTE_NX },
        { (const void *)~0ull, rw },
    };
    uint64_t *table = early_table();
    uint64_t at = block;

    for (unsigned i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        uint64_t end = image_address(part[i].end);

        if (end > block + ABI_HUGE_BYTES)
            end = block + ABI_HUGE_BYTES;
        if (end <= at)
            continue;
        fill(table, at, end, ABI_PAGE_BYTES, part[i].flags);
        at = end;
    }
    return table;
}

void paging_setup(void)
{
    const uint64_t table_flags = PTE_PRESENT | PTE_WRITE;
    const uint64_t device = PTE_PRESENT | PTE_WRITE | PTE_NX | PTE_HUGE | PTE_GLOBAL | PTE_NOCACHE;
    uint64_t low_end = boot_info.low_frames << PAGE_SHIFT;
    uint64_t high_end = ABI_RAM_HIGH_START + (boot_info.high_frames << PAGE_SHIFT);
    uint64_t gib = page_bytes(2);
    uint64_t image_end_address = image_address(image_end);
    uint64_t *image_pd, *table, frames_start, frames_bytes;

    early_end = image_end_address;
    kernel_pml4[ENTRIES - 1] = image_address(kernel_pdpt) | table_flags;
    image_pd = early_table();
    kernel_pdpt[index_of(KERNEL_OFFSET, 2)] = image_address(image_pd) | table_flags;

    for (uint64_t at = 0; at < high_end; at += gib) {
        uint64_t end = at < ABI_RAM_HIGH_START ? low_end : high_end;
        bool controllers = at == ABI_RAM_HIGH_START - gib;

        if (end > at + gib)
            end = at + gib;
        if (end <= at && !controllers)
            continue;
        table = early_table();
        kernel_pdpt[at / gib] = image_address(table) | table_flags;
        if (end > at)
            fill_direct(table, at, end);
        if (controllers) {
            fill(table, ABI_IOAPIC_GPA, ABI_IOAPIC_GPA + 1, ABI_HUGE_BYTES, device);
            fill(table, ABI_LAPIC_GPA, ABI_LAPIC_GPA + 1, ABI_HUGE_BYTES, device);
            if (boot_info.ndevices)
                fill(table, ABI_MMIO_GPA, ABI_MMIO_GPA + 1, ABI_HUGE_BYTES, device);
        }
    }

    /* The image: the same 4K tables serve its own window and the direct map. */
    for (uint64_t block = image_address(image_start) & ~(ABI_HUGE_BYTES - 1);
         block < image_end_address; block += ABI_HUGE_BYTES) {
        uint64_t entry = image_address(image_table(block)) | table_flags;

        image_pd[index_of(block, 1)] = entry;
        table = (uint64_t *)(KERNEL_OFFSET + (kernel_pdpt[0] & PTE_FRAME));
        table[index_of(block, 1)] = entry;
    }

    /* The frame table comes next; from here on it is reached by the direct map. */
    frames_start = early_end;
    frames_bytes = (boot_info.high_frames ? high_end : low_end) / ABI_PAGE_BYTES *
                   sizeof(struct abi_frame);
    early_end = (frames_start + frames_bytes + ABI_PAGE_BYTES - 1) & ~(ABI_PAGE_BYTES - 1);
    if (early_end + ABI_HUGE_BYTES > low_end)
        panic("%lu MiB of memory is too little", low_end >> 20);
    write_cr3(paging_kernel_root());
    frames = (struct abi_frame *)(DIRECT_MAP + frames_start);
    frame_setup(early_end >> PAGE_SHIFT, low_end >> PAGE_SHIFT, boot_info.high_frames);
    kernel_info.root = paging_kernel_root();
    kernel_info.frames = frames_start;
    kernel_info.image_start_va = (uint64_t)image_start;
    kernel_info.image_end_va = (uint64_t)image_end;
    kernel_info.direct_map_va = DIRECT_MAP;
}

uint64_t paging_kernel_root(void)
{
    return image_address(kernel_pml4);
}

/* ---- A process's tables --------------------------------------------------- */

uint64_t paging_new_root(void)
{
    uint64_t frame = frame_alloc(ABI_FRAME_TABLE, true);
    uint64_t *root = frame_va(frame);

    if (!frame)
        return 0;
    root[ENTRIES - 1] = kernel_pml4[ENTRIES - 1];
    return frame << PAGE_SHIFT;
}

void paging_free_root(uint64_t root)
{
    table_of(root)[ENTRIES - 1] = 0;
    frame_put(root >> PAGE_SHIFT, true);
}

/* A leaf that holds a frame; it need not be present (PROT_NONE keeps the frame). */
static bool is_leaf(uint64_t entry, unsigned level)
{
    return level == 0 || (level < LEVELS - 1 && (entry & PTE_HUGE));
}

uint64_t *paging_find(uint64_t root, uint64_t va, uint64_t *bytes)
{
    uint64_t *table = table_of(root);

    for (unsigned level = LEVELS; level-- > 0;) {
        uint64_t *entry = &table[index_of(va, level)];

        if (!*entry)
            return NULL;
        if (is_leaf(*entry, level)) {
            *bytes = page_bytes(level);
            return entry;
        }
        table = table_of(*entry);
    }
    return NULL;
}

uint64_t *paging_place(uint64_t root, uint64_t va, unsigned leaf)
{
    uint64_t *table = table_of(root);

    for (unsigned level = LEVELS - 1; level > leaf; level--) {
        uint64_t *entry = &table[index_of(va, level)];

        if (!*entry) {
            uint64_t frame = frame_alloc(ABI_FRAME_TABLE, true);

            if (!frame) {
                paging_prune(root, va);
                return NULL;
            }
            paging_set(entry, frame << PAGE_SHIFT | PTE_PRESENT | PTE_WRITE | PTE_USER);
        }
        table = table_of(*entry);
    }
    return &table[index_of(va, leaf)];
}

void paging_set(uint64_t *entry, uint64_t value)
{
    struct abi_frame *frame = &frames[((uint64_t)entry - DIRECT_MAP) >> PAGE_SHIFT];

    frame->link += (value != 0) - (*entry != 0);
    *entry = value;
}

void paging_prune(uint64_t root, uint64_t va)
{
    uint64_t *path[LEVELS];
    uint64_t *table = table_of(root);
    unsigned level = LEVELS;

    while (level-- > 1) {
        path[level] = &table[index_of(va, level)];
        if (!*path[level] || is_leaf(*path[level], level))
            break;
        table = table_of(*path[level]);
    }
    /* From the lowest table there is, up to one that is still in use. */
    for (level++; level < LEVELS; level++) {
        uint64_t frame = (*path[level] & PTE_FRAME) >> PAGE_SHIFT;

        if (frames[frame].link)
            return;
        paging_set(path[level], 0);
        frame_put(frame, true);
    }
}

/*
 * How many of the next n entries are empty. One string instruction: empty stretches
 * are long, and each instruction costs where the kernel is interpreted.
 */
static uint64_t count_empty(const uint64_t *entry, uint64_t n)
{
    uint64_t left = n;
    bool found;

    __asm__ volatile("repe scasq" : "+D"(entry), "+c"(left), "=@ccnz"(found) : "a"(0) : "memory");
    return n - left - found;
}

uint64_t *paging_next(uint64_t root, uint64_t *va, uint64_t end, uint64_t *bytes)
{
    while (*va < end) {
        uint64_t *table = table_of(root);

        for (unsigned level = LEVELS; level-- > 0;) {
            unsigned index = index_of(*va, level);
            uint64_t step = page_bytes(level);
            uint64_t *entry = &table[index];

            if (*entry && is_leaf(*entry, level)) {
                *bytes = step;
                return entry;
            }
            if (!*entry) {
                uint64_t start = *va & ~(step - 1);
                uint64_t n = (end - start + step - 1) / step;

                if (n > ENTRIES - index)
                    n = ENTRIES - index;
                *va = start + count_empty(entry, n) * step;
                break;
            }
            table = table_of(*entry);
        }
    }
    return NULL;
}
