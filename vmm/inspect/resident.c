#include "vmm/inspect/resident.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine/memory.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define WINDOW          512u /* entries read at once */
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_PRESENT (1ull << 63)

/* Whether [start, end) of this process lies in a slot. Mappings of RAM are never merged
 * with others: each has unused address space around it, or is a file. */
static bool resident_in_slot(const struct memory *memory, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < memory->nslots; i++) {
        uint64_t hva = (uintptr_t)memory->slots[i].hva;

        if (start < hva + memory->slots[i].bytes && hva < end)
            return true;
    }
    return false;
}

/* "NAME:   123 kB" as bytes. */
static bool resident_field(const char *line, const char *name, uint64_t *bytes)
{
    size_t length = strlen(name);
    uint64_t kib;

    if (strncmp(line, name, length) || line[length] != ':' ||
        sscanf(line + length + 1, "%" SCNu64, &kib) != 1)
        return false;
    *bytes = kib << 10;
    return true;
}

static int resident_find_field(const char *path, const char *name, uint64_t *bytes)
{
    FILE *file = fopen(path, "re");
    char line[256];
    int err = -ENOENT;

    if (!file)
        return -errno;
    while (err && fgets(line, sizeof(line), file))
        err = resident_field(line, name, bytes) ? 0 : -ENOENT;
    fclose(file);
    return err;
}

int resident_read(const struct memory *memory, struct resident *resident)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    bool inside = false;
    char line[512];

    *resident = (struct resident){ 0 };
    if (!file)
        return -errno;
    while (fgets(line, sizeof(line), file)) {
        uint64_t start, end, bytes;

        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2)
            inside = resident_in_slot(memory, start, end);
        else if (!inside)
            continue;
        else if (resident_field(line, "Rss", &bytes))
            resident->rss_bytes += bytes;
        else if (resident_field(line, "Swap", &bytes))
            resident->swap_bytes += bytes;
        else if (resident_field(line, "AnonHugePages", &bytes) ||
                 resident_field(line, "ShmemPmdMapped", &bytes))
            resident->huge_bytes += bytes;
        else if (resident_field(line, "Private_Hugetlb", &bytes) ||
                 resident_field(line, "Shared_Hugetlb", &bytes)) {
            /* Not part of Rss. */
            resident->rss_bytes += bytes;
            resident->huge_bytes += bytes;
        }
    }
    fclose(file);
    return resident_find_field("/proc/self/status", "VmPTE", &resident->table_bytes);
}

int64_t resident_pages(const struct memory *memory, const uint64_t *gpa, uint64_t n)
{
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    int64_t count = fd < 0 ? -errno : 0;
    uint64_t entry[WINDOW], window = 0; /* the last part read: window * WINDOW pages from 0 on */

    for (uint64_t i = 0; i < n && count >= 0; i++) {
        uintptr_t host = (uintptr_t)memory_at(memory, gpa[i], 1);
        uintptr_t page = host / MEMORY_PAGE_BYTES;

        if (!host)
            count = -EFAULT;
        else if (page / WINDOW != window &&
                 pread(fd, entry, sizeof(entry), (off_t)(page / WINDOW * sizeof(entry))) !=
                     sizeof(entry))
            count = -EIO;
        else
            count += (entry[page % WINDOW] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) != 0;
        window = page / WINDOW;
    }
    if (fd >= 0)
        close(fd);
    return count;
}

int resident_second_stage(uint64_t *bytes)
{
    return resident_find_field("/proc/meminfo", "SecPageTables", bytes);
}
