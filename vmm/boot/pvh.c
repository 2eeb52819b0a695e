#include "vmm/boot/pvh.h"

#include <errno.h>
#include <string.h>

#include "guest/abi/machine.h"
#include "vmm/boot/layout.h"

#define START_MAGIC   0x336ec578u
#define START_VERSION 1

enum { MEMMAP_RAM = 1, MEMMAP_RESERVED = 2 };

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
    struct modlist_entry module;
    struct memmap_entry memmap[4];
};

_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info, version 1");
_Static_assert(sizeof(struct boot_page) <= LAYOUT_CMDLINE_GPA - LAYOUT_START_INFO_GPA, "room");

static uint64_t gpa_of(size_t offset)
{
    return LAYOUT_START_INFO_GPA + offset;
}

static void add_range(struct boot_page *page, uint64_t start, uint64_t end, uint32_t type)
{
    if (start < end)
        page->memmap[page->start.memmap_entries++] = (struct memmap_entry){ .addr = start,
                                                                            .size = end - start,
                                                                            .type = type };
}

int pvh_write(struct memory *memory, const char *cmdline, uint32_t fdt_bytes,
              struct boot_error *error)
{
    size_t cmdline_bytes = strlen(cmdline) + 1;
    struct boot_page *page = memory_at(memory, LAYOUT_START_INFO_GPA,
                                       LAYOUT_END_GPA - LAYOUT_START_INFO_GPA);
    uint64_t low_end = memory_low_end(memory);

    if (!page)
        return boot_fail(error, -ENOSPC,
                         "too little memory for the boot structures; give more "
                         "with --memory");
    if (cmdline_bytes > LAYOUT_CMDLINE_BYTES)
        return boot_fail(error, -E2BIG,
                         "boot arguments are %zu bytes long; the limit is %llu, "
                         "shorten --append or --exec",
                         cmdline_bytes - 1, LAYOUT_CMDLINE_BYTES - 1);
    *page = (struct boot_page){
        .start = { .magic = START_MAGIC,
                   .version = START_VERSION,
                   .nr_modules = fdt_bytes ? 1 : 0,
                   .modlist_paddr = gpa_of(offsetof(struct boot_page, module)),
                   .cmdline_paddr = LAYOUT_CMDLINE_GPA,
                   .memmap_paddr = gpa_of(offsetof(struct boot_page, memmap)) },
        .module = { .paddr = LAYOUT_FDT_GPA, .size = fdt_bytes },
    };
    add_range(page, 0, LAYOUT_LOW_MEMORY_END, MEMMAP_RAM);
    add_range(page, LAYOUT_LOW_MEMORY_END, LAYOUT_HIGH_MEMORY_GPA, MEMMAP_RESERVED);
    add_range(page, LAYOUT_HIGH_MEMORY_GPA, low_end, MEMMAP_RAM);
    add_range(page, ABI_RAM_HIGH_START, ABI_RAM_HIGH_START + (memory->bytes - low_end), MEMMAP_RAM);
    memcpy(memory_at(memory, LAYOUT_CMDLINE_GPA, LAYOUT_CMDLINE_BYTES), cmdline, cmdline_bytes);
    return 0;
}
