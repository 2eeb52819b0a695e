#include "vmm/measure/table_memory.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmm/inspect/resident.h"
#include "vmm/machine/stats.h"

#define ENTRY_BYTES 8ull
#define BUDGET      (16ull << 20) /* entries of the guest's that are read at most */

/* ---- The guest's ------------------------------------------------------------- */

static int table_memory_count_table(void *owner, const struct paging_table *table)
{
    struct table_count *count = owner;
    unsigned levels = paging_x86_4level.nlevels;

    /* Each but the root is an entry of another, of which the root's are not counted. */
    count->tables += table->level < levels;
    count->entries += table->level + 1 < levels;
    return 0;
}

static int table_memory_count_leaf(void *owner, const struct paging_leaf *leaf)
{
    struct table_count *count = owner;

    (void)leaf;
    count->entries++;
    return 0;
}

int table_memory_count(const struct session *session, uint64_t va, uint64_t bytes,
                       struct table_count *count)
{
    const struct paging_visitor visitor = { .owner = count,
                                            .table = table_memory_count_table,
                                            .leaf = table_memory_count_leaf };

    *count = (struct table_count){ 0 };
    return paging_each(&paging_x86_4level, &session->program.view.reader, session->program.root,
                       (struct paging_range){ va, va + bytes - 1 }, BUDGET, &visitor);
}

/* ---- The second stage's ------------------------------------------------------- */

/* memory.stat of the control group that this process is in (cgroup-v2.rst). */
static bool table_memory_open_cgroup(FILE **file)
{
    FILE *self = fopen("/proc/self/cgroup", "re");
    char line[512], path[600];

    *file = NULL;
    while (self && !*file && fgets(line, sizeof(line), self)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0::", 3))
            continue;
        snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.stat", line + 3);
        *file = fopen(path, "re");
    }
    if (self)
        fclose(self);
    return *file != NULL;
}

static bool table_memory_cgroup_second_stage(uint64_t *bytes)
{
    char line[256];
    bool found = false;
    FILE *file;

    if (!table_memory_open_cgroup(&file))
        return false;
    while (!found && fgets(line, sizeof(line), file))
        found = sscanf(line, "sec_pagetables %" SCNu64, bytes) == 1;
    fclose(file);
    return found;
}

/*
 * The kernel's totals lag behind by what each CPU keeps to itself, up to a second long; root
 * may have them summed up at once (admin-guide/sysctl/vm.rst, stat_refresh).
 */
static bool table_memory_refresh_totals(void)
{
    int fd = open("/proc/sys/vm/stat_refresh", O_RDONLY | O_CLOEXEC);
    char nothing;
    bool ok = fd >= 0 && read(fd, &nothing, 1) >= 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

enum table_source table_memory_source(void)
{
    uint64_t bytes;

    if (table_memory_cgroup_second_stage(&bytes))
        return TABLES_OF_CGROUP;
    if (resident_second_stage(&bytes))
        return TABLES_UNKNOWN;
    return table_memory_refresh_totals() ? TABLES_OF_HOST : TABLES_LATE;
}

void table_memory_read(const struct session *session, struct table_memory *memory)
{
    static const char *const names[] = { "pages_4k", "pages_2m", "pages_1g" };
    uint64_t pages[3];
    struct resident resident;

    *memory = (struct table_memory){ 0 };
    if (stats_read(session->machine.vm.fd, names, pages, 3))
        pages[0] = pages[1] = pages[2] = UINT64_MAX;
    memory->pages_4k = pages[0];
    memory->pages_2m = pages[1];
    memory->pages_1g = pages[2];
    memory->second_known = table_memory_cgroup_second_stage(&memory->second_bytes) ||
                           (table_memory_refresh_totals() &&
                            !resident_second_stage(&memory->second_bytes));
    if (!resident_read(&session->machine.vm.memory, &resident))
        memory->process_bytes = resident.table_bytes;
}

/* ---- Arithmetic ----------------------------------------------------------------- */

uint64_t table_memory_limit(uint64_t page_bytes)
{
    uint64_t bytes = 0;

    /* A GiB's own entry is not counted with its table's, but with the page that it is. */
    for (uint64_t span = page_bytes; span < MEMORY_GIANT_BYTES; span <<= 9)
        bytes += MEMORY_GIANT_BYTES / span * ENTRY_BYTES;
    return bytes ? bytes : ENTRY_BYTES;
}

uint64_t table_memory_least(uint64_t va, uint64_t bytes, uint64_t page_bytes)
{
    uint64_t tables = 0, last = va + bytes - 1;

    for (uint64_t span = page_bytes << 9; span <= MEMORY_GIANT_BYTES << 9; span <<= 9)
        tables += last / span - va / span + 1;
    return tables;
}
