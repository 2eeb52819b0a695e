#include "vmm/measure/backing.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MIB          (1ull << 20)
#define KERNEL_BYTES (48 * MIB) /* the guest's own, and tables */
#define BYTES_LEAST  (64ull << 10)

#define POOL         "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB/free_hugepages"
#define THP          "/sys/kernel/mm/transparent_hugepage/enabled"

const char *backing_name(enum memory_backing backing)
{
    static const char *const names[BACKINGS] = { [MEMORY_4K] = "4k",
                                                 [MEMORY_THP] = "thp",
                                                 [MEMORY_HUGETLB] = "hugetlb",
                                                 [MEMORY_HUGETLB_1G] = "hugetlb-1g" };

    return names[backing];
}

const char *backing_guest_name(enum abi_page_kind page)
{
    static const char *const names[ABI_PAGE_KINDS] = {
        [ABI_PAGE_4K] = "4k", [ABI_PAGE_2M] = "2m", [ABI_PAGE_1G] = "1g"
    };

    return names[page];
}

static bool backing_read_line(const char *path, char *line, int bytes)
{
    FILE *file = fopen(path, "re");
    bool ok = file && fgets(line, bytes, file);

    if (file)
        fclose(file);
    return ok;
}

static uint64_t backing_pool_bytes(uint64_t page)
{
    char path[128], line[64];
    uint64_t free_pages;

    snprintf(path, sizeof(path), POOL, page >> 10);
    if (!backing_read_line(path, line, sizeof(line)) || sscanf(line, "%" SCNu64, &free_pages) != 1)
        return 0;
    return free_pages * page;
}

uint64_t backing_available(enum memory_backing backing, const char **why)
{
    char line[128];

    switch (backing) {
    case MEMORY_4K: return UINT64_MAX;
    case MEMORY_THP:
        if (backing_read_line(THP, line, sizeof(line)) && !strstr(line, "[never]"))
            return UINT64_MAX;
        *why = "the host has no transparent huge pages; echo madvise >" THP;
        return 0;
    case MEMORY_HUGETLB:
        *why = "the host has no free reserved pages of 2 MiB; sysctl vm.nr_hugepages=N";
        break;
    case MEMORY_HUGETLB_1G:
        *why = "the host has no free reserved pages of 1 GiB; hugepagesz=1G hugepages=N on its "
               "kernel's command line";
        break;
    }
    return backing_pool_bytes(memory_page_bytes(backing));
}

const char *backing_shortage(enum memory_backing backing)
{
    static const char *const why[BACKINGS] = {
        [MEMORY_4K] = "too little memory for a guest with such pages",
        [MEMORY_THP] = "too little memory for a guest with such pages",
        [MEMORY_HUGETLB] = "the host has too few free reserved pages of 2 MiB for that; more by "
                           "sysctl vm.nr_hugepages=N",
        [MEMORY_HUGETLB_1G] = "the host has too few free reserved pages of 1 GiB for that; more by "
                              "hugepagesz=1G hugepages=N on its kernel's command line",
    };

    return why[backing];
}

static uint64_t backing_available_for(uint64_t bytes)
{
    return KERNEL_BYTES + 2 * bytes + bytes / 32 + 2 * MEMORY_HUGE_BYTES;
}

bool backing_params(const struct measure_host *host, enum memory_backing backing,
                    struct session_params *params, uint64_t *bytes, const char **why)
{
    uint64_t available = backing_available(backing, why), unit = memory_page_bytes(backing), memory;

    if (!available)
        return false;
    memory = backing_available_for(*bytes) + (host->interprets ? 0 : 2 * MEMORY_GIANT_BYTES);
    memory = (memory + MIB - 1) & ~(MIB - 1);
    memory = (memory + unit - 1) / unit * unit;
    if (memory > available)
        memory = available / unit * unit;
    while (*bytes >= BYTES_LEAST && backing_available_for(*bytes) > memory)
        *bytes /= 2;
    *params = (struct session_params){
        .memory_bytes = memory, .cpus = 1, .backing = backing, .timeout_s = 240
    };
    *why = backing_shortage(backing);
    return *bytes >= BYTES_LEAST;
}
