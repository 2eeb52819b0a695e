#include "vmm/measure/references.h"

#include <cpuid.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PAGE  MEMORY_PAGE_BYTES
#define HUGE  MEMORY_HUGE_BYTES
#define GIANT MEMORY_GIANT_BYTES

unsigned references_down_to(unsigned levels, uint64_t page_bytes)
{
    return levels - (page_bytes >= GIANT ? 2 : page_bytes >= HUGE ? 1 : 0);
}

unsigned references_nested(const uint64_t *tables, unsigned n, uint64_t page,
                           unsigned second_levels)
{
    unsigned count = references_down_to(second_levels, page);

    for (unsigned i = 0; i < n; i++)
        count += references_down_to(second_levels, tables[i]) + 1;
    return count;
}

/* The kernel takes "la57" away from the flags where it runs with four levels. */
unsigned references_host_levels(void)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    static char line[16384];
    bool five = false;

    while (file && !five && fgets(line, sizeof(line), file))
        five = !strncmp(line, "flags", 5) && strstr(line, " la57");
    if (file)
        fclose(file);
    return five ? 5 : 4;
}

static unsigned references_physical_bits(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid(0x80000008u, &eax, &ebx, &ecx, &edx) ? eax & 0xff : 36;
}

/* EPT has a fifth level only for guests with more physical addresses than four reach. */
unsigned references_second_levels(const struct kvm_host *host)
{
    unsigned levels = references_host_levels();

    return host->backend == KVM_BACKEND_EPT && references_physical_bits() <= 48 ? 4 : levels;
}

void references_open(struct references *references, const struct kvm_host *host,
                     const struct memory *memory)
{
    *references = (struct references){ .host = host,
                                       .memory = memory,
                                       .host_levels = references_host_levels(),
                                       .second_levels = references_second_levels(host) };
    host_pages_open(&references->pages);
}

void references_close(struct references *references)
{
    host_pages_close(&references->pages);
}

void references_forget(struct references *references)
{
    memset(references->seen, 0, sizeof(references->seen));
}

/*
 * What the frames say: a large page of which this is not the matching part is mapped by
 * small ones, as are the large folios below 2 MiB.
 */
static uint64_t references_look(struct references *references, uintptr_t hva)
{
    struct host_page page;
    uint64_t bytes;

    host_pages_read(&references->pages, (const void *)hva, &page);
    if (!page.bytes) {
        references->unknown = page.size_unknown;
        return 0;
    }
    for (bytes = page.bytes; bytes > PAGE; bytes >>= 9) {
        if ((page.pfn * PAGE) % bytes == hva / PAGE * PAGE % bytes)
            break;
    }
    return bytes;
}

/* What the kernel was told of memory of the guest holds for every process that looks. */
static uint64_t references_told(const struct references *references)
{
    if (!references->memory)
        return 0;
    switch (references->memory->backing) {
    case MEMORY_4K: return PAGE;
    case MEMORY_THP: return 0;
    case MEMORY_HUGETLB: return HUGE;
    case MEMORY_HUGETLB_1G: return GIANT;
    }
    return 0;
}

uint64_t references_host_page(struct references *references, const void *hva)
{
    uintptr_t at = (uintptr_t)hva, block = at & ~(HUGE - 1);
    unsigned i = block / HUGE % REFERENCES_BLOCKS;
    uint64_t bytes;

    if (references->seen[i].block == block)
        return references->seen[i].bytes;
    bytes = references_look(references, at);
    if (!bytes)
        bytes = references_told(references);
    if (bytes) {
        references->seen[i].block = block;
        references->seen[i].bytes = bytes;
    }
    return bytes;
}

static const struct memory_slot *references_slot_of(const struct memory *memory, uint64_t gpa)
{
    for (unsigned i = 0; i < memory->nslots; i++) {
        if (gpa >= memory->slots[i].gpa && gpa - memory->slots[i].gpa < memory->slots[i].bytes)
            return &memory->slots[i];
    }
    return NULL;
}

uint64_t references_second_stage_page(struct references *references, uint64_t gpa)
{
    const struct memory_slot *slot = references_slot_of(references->memory, gpa);
    uint64_t bytes, start;
    uintptr_t hva;

    if (!slot) {
        references->unknown = "not in RAM";
        return 0;
    }
    hva = (uintptr_t)slot->hva + (gpa - slot->gpa);
    bytes = references_host_page(references, (const void *)hva);
    if (bytes > PAGE && slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
        return PAGE;
    for (; bytes > PAGE; bytes >>= 9) {
        start = gpa & ~(bytes - 1);
        if (hva % bytes == gpa % bytes && start >= slot->gpa &&
            start - slot->gpa + bytes <= slot->bytes)
            break;
    }
    return bytes;
}

static void references_add(struct reference_range *range, unsigned count)
{
    if (!range->pages || count < range->least)
        range->least = count;
    if (count > range->most)
        range->most = count;
    range->mean += (count - range->mean) / (double)++range->pages;
}

/* Shadow tables have a large page only where both sides have one (one dimension). */
static unsigned references_count_shadow(const struct references *references, uint64_t guest,
                                        uint64_t host)
{
    return references_down_to(references->host_levels, guest < host ? guest : host);
}

static int references_count_walk(struct references *references, const struct paging_walk *walk,
                                 unsigned *count)
{
    uint64_t tables[PAGING_LEVELS_MAX];
    uint64_t page = references_second_stage_page(references, walk->gpa);

    if (!page)
        return -ENODATA;
    if (references->host->backend > KVM_BACKEND_NPT) {
        *count = references_count_shadow(references, walk->leaf.page_bytes, page);
        return 0;
    }
    for (unsigned i = 0; i < walk->nsteps; i++) {
        tables[i] = references_second_stage_page(references, walk->step[i].table);
        if (!tables[i])
            return -ENODATA;
    }
    *count = references_nested(tables, walk->nsteps, page, references->second_levels);
    return 0;
}

/* By 4K of it, for what is behind one large page of the guest may differ. */
int references_of_guest(struct references *references, const struct session *session, uint64_t va,
                        uint64_t bytes, struct reference_range *range)
{
    uint64_t end = va + bytes;

    *range = (struct reference_range){ 0 };
    for (; va < end; va += PAGE) {
        struct paging_walk walk;
        unsigned count;
        int err = program_walk(&session->program, va, &walk);

        if (!err)
            err = references_count_walk(references, &walk, &count);
        if (err)
            return err;
        references_add(range, count);
    }
    return 0;
}

int references_of_process(struct references *references, const void *start, uint64_t bytes,
                          struct reference_range *range)
{
    const char *at = start, *end = at + bytes;

    *range = (struct reference_range){ 0 };
    for (; at < end; at += PAGE) {
        uint64_t page = references_host_page(references, at);

        if (!page)
            return -ENODATA;
        references_add(range, references_down_to(references->host_levels, page));
    }
    return 0;
}
