#include "vmm/boot/pvh.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/layout.h"
#include "vmm/boot/memory_map.h"

#define START_MAGIC   0x336ec578u
#define START_VERSION 1

struct start_info {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t nr_modules;
    uint64_t modlist_paddr;
    uint64_t cmdline_paddr;
    uint64_t rsdp_paddr;
    uint64_t memmap_paddr;
    uint32_t memmap_entries;
    uint32_t reserved;
};

struct modlist_entry {
    uint64_t paddr;
    uint64_t size;
    uint64_t cmdline_paddr;
    uint64_t reserved;
};

struct memmap_entry {
    uint64_t addr;
    uint64_t size;
    uint32_t type;
    uint32_t reserved;
};

/* All of it as it lies at LAYOUT_START_INFO_GPA. */
struct boot_page {
    struct start_info start;
    struct modlist_entry modules[2];
    struct memmap_entry memmap[MEMORY_MAP_MAX];
};

_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info, version 1");
_Static_assert(sizeof(struct boot_page) <= LAYOUT_CMDLINE_GPA - LAYOUT_START_INFO_GPA, "room");

static uint64_t pvh_gpa_of(size_t offset)
{
    return LAYOUT_START_INFO_GPA + offset;
}

static void pvh_add_module(struct boot_page *page, uint64_t gpa, uint64_t bytes)
{
    page->modules[page->start.nr_modules++] = (struct modlist_entry){ .paddr = gpa, .size = bytes };
}

static void pvh_write_modules(struct boot_page *page, const struct pvh_info *info)
{
    if (info->initrd.bytes || (info->fdt_bytes && !info->fdt_first))
        pvh_add_module(page, info->initrd.gpa, info->initrd.bytes);
    if (info->fdt_bytes)
        pvh_add_module(page, LAYOUT_FDT_GPA, info->fdt_bytes);
}

static void pvh_write_memory_map(struct boot_page *page, const struct memory *memory)
{
    struct memory_range ranges[MEMORY_MAP_MAX];

    page->start.memmap_entries = memory_map(memory, ranges);
    for (unsigned i = 0; i < page->start.memmap_entries; i++)
        page->memmap[i] = (struct memmap_entry){ .addr = ranges[i].gpa,
                                                 .size = ranges[i].bytes,
                                                 .type = ranges[i].type };
}

int pvh_write(struct memory *memory, const struct pvh_info *info, struct error *error)
{
    size_t cmdline_bytes = strlen(info->cmdline) + 1;
    uint64_t cmdline_max = info->cmdline_max ? info->cmdline_max : LAYOUT_STRINGS_BYTES - 1;
    uint64_t cmdline_gpa = cmdline_bytes <= LAYOUT_CMDLINE_BYTES ? LAYOUT_CMDLINE_GPA
                                                                 : LAYOUT_STRINGS_GPA;
    struct boot_page *page = memory_at(memory, LAYOUT_START_INFO_GPA,
                                       LAYOUT_END_GPA - LAYOUT_START_INFO_GPA);

    if (!page)
        return error_field(error, -ENOSPC, BOOT_FIELD_MEMORY,
                           "too little memory for the boot structures; give more");
    if (cmdline_bytes - 1 > cmdline_max)
        return error_field(error, -E2BIG, BOOT_FIELD_BOOT_ARGS,
                           "boot arguments are %zu bytes long; the limit is %" PRIu64
                           "; shorten them",
                           cmdline_bytes - 1, cmdline_max);
    *page = (struct boot_page){
        .start = { .magic = START_MAGIC,
                   .version = START_VERSION,
                   .modlist_paddr = pvh_gpa_of(offsetof(struct boot_page, modules)),
                   .cmdline_paddr = cmdline_gpa,
                   .rsdp_paddr = info->rsdp_gpa,
                   .memmap_paddr = pvh_gpa_of(offsetof(struct boot_page, memmap)) },
    };
    pvh_write_modules(page, info);
    pvh_write_memory_map(page, memory);
    memcpy(memory_at(memory, cmdline_gpa, cmdline_bytes), info->cmdline, cmdline_bytes);
    return 0;
}
