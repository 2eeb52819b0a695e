#include "vmm/tour/resident.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine/memory.h"

/* Documentation/admin-guide/mm/pagemap.rst */
#define WINDOW          512u /* entries read at once */
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_PRESENT (1ull << 63)

static bool is_ram(const struct memory *memory, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t at = (uintptr_t)memory->mapping[i];

        if (at && start < at + memory->mapping_bytes[i] && at < end)
            return true;
    }
    return false;
}

int64_t resident_bytes(const struct memory *memory)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    uint64_t start, end, kib, total = 0;
    bool ours = false, found = false;
    char line[512];

    if (!smaps)
        return -errno;
    while (fgets(line, sizeof(line), smaps)) {
        /* A mapping's own line starts with its addresses, those below with a word and a colon. */
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &start, &end) == 2) {
            ours = is_ram(memory, start, end);
            found |= ours;
        } else if (ours && sscanf(line, "Rss: %" SCNu64 " kB", &kib) == 1) {
            total += kib << 10;
        }
    }
    fclose(smaps);
    return found ? (int64_t)total : -ENOENT;
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
