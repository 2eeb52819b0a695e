#include "vmm/machine/guest_memory.h"

#include <errno.h>
#include <stddef.h>

#include "vmm/machine/memory.h"

static int read_entry(void *owner, uint64_t gpa, uint64_t *entry)
{
    const uint64_t *p = memory_at(owner, gpa, sizeof(*p));

    if (!p)
        return -EFAULT;
    /* Relaxed: one load that is not torn is all we need; order comes from stopping the vCPUs. */
    *entry = __atomic_load_n(p, __ATOMIC_RELAXED);
    return 0;
}

static const uint64_t *read_table(void *owner, uint64_t gpa)
{
    return memory_at(owner, gpa, MEMORY_PAGE_BYTES);
}

struct paging_reader guest_memory_reader(const struct memory *memory)
{
    return (
        struct paging_reader){ .read = read_entry, .table = read_table, .owner = (void *)memory };
}
