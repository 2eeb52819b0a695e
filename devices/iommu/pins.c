#include "devices/iommu/pins.h"

#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>

#include "devices/iommu/iopt.h"

int pins_create(struct pins *pins, uint64_t end)
{
    uint64_t pages = end >> IOPT_PAGE_SHIFT;
    void *count = mmap(NULL, (pages + 1) * sizeof(*pins->count), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (count == MAP_FAILED)
        return -ENOMEM;
    *pins = (struct pins){ .count = count, .pages = pages };
    return 0;
}

void pins_destroy(struct pins *pins)
{
    if (pins->count)
        munmap(pins->count, (pins->pages + 1) * sizeof(*pins->count));
    pins->count = NULL;
}

/* The pages of a range: [*page, return value). */
static uint64_t pages_of(const struct pins *pins, uint64_t gpa, uint64_t len, uint64_t *page)
{
    uint64_t last = len && gpa + (len - 1) < gpa ? UINT64_MAX : gpa + (len - 1);
    uint64_t end = len ? (last >> IOPT_PAGE_SHIFT) + 1 : 0;

    *page = gpa >> IOPT_PAGE_SHIFT;
    return end < pins->pages ? end : pins->pages;
}

/*
 * The counts are atomic for pins_any alone, which asks for a moment that has passed when
 * it gets its answer: no order is needed, and there is one writer.
 */
void pins_add(struct pins *pins, uint64_t gpa, uint64_t bytes)
{
    uint64_t page, end = pages_of(pins, gpa, bytes, &page), fresh = 0;

    for (; page < end; page++) {
        uint32_t count = atomic_load_explicit(&pins->count[page], memory_order_relaxed);

        fresh += count == 0;
        atomic_store_explicit(&pins->count[page], count + 1, memory_order_relaxed);
    }
    atomic_fetch_add_explicit(&pins->pinned, fresh, memory_order_relaxed);
}

void pins_remove(struct pins *pins, uint64_t gpa, uint64_t bytes)
{
    uint64_t page, end = pages_of(pins, gpa, bytes, &page), freed = 0;

    for (; page < end; page++) {
        uint32_t count = atomic_load_explicit(&pins->count[page], memory_order_relaxed);

        freed += count == 1;
        atomic_store_explicit(&pins->count[page], count - 1, memory_order_relaxed);
    }
    atomic_fetch_sub_explicit(&pins->pinned, freed, memory_order_relaxed);
}

bool pins_any(const struct pins *pins, uint64_t gpa, uint64_t len)
{
    uint64_t page, end = pages_of(pins, gpa, len, &page);

    for (; page < end; page++) {
        if (atomic_load_explicit(&pins->count[page], memory_order_relaxed))
            return true;
    }
    return false;
}
