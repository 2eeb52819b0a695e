#include "vmm/inspect/find.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/inspect/find_bytes.h"
#include "vmm/machine/memory.h"

#define PAGEMAP_ENTRIES 4096
#define PAGEMAP_THERE   (3ull << 62)  /* present or swapped (admin-guide/mm/pagemap.rst) */
#define PIECE_BYTES     (16ull << 20) /* between two questions to stop */

int find_create(struct find *find, const struct memory *memory, const void *pattern, size_t bytes)
{
    *find = (struct find){ .memory = memory, .bytes = bytes };
    if (!bytes || bytes > FIND_PATTERN_MAX)
        return -EINVAL;
    memcpy(find->pattern, pattern, bytes);
    find->hit = malloc(FIND_HITS_MAX * sizeof(*find->hit));
    return find->hit ? 0 : -ENOMEM;
}

void find_destroy(struct find *find)
{
    free(find->hit);
    find->hit = NULL;
    find->n = 0;
}

/* All places that begin in [at, at + n - bytes]; false: enough, or told to stop. */
static bool find_scan_piece(struct find *find, uint64_t gpa, const uint8_t *at, size_t n)
{
    const uint8_t *end = at + n, *from = at, *hit;

    while ((hit = find_bytes(from, (size_t)(end - from), find->pattern, find->bytes))) {
        if (find->n == FIND_HITS_MAX) {
            find->stopped = true;
            find->searched_bytes += (uint64_t)(hit - at);
            return false;
        }
        find->hit[find->n++] = (struct find_hit){ .gpa = gpa + (uint64_t)(hit - at) };
        from = hit + 1;
    }
    return true;
}

struct scan {
    struct find *find;
    const struct memory_slot *slot;
    uint64_t start, end; /* of the run of pages not yet searched, from the slot's start */
    bool (*stop)(void *owner);
    void *owner;
};

/* Searches what has come together; the last bytes stay for a place that goes on behind. */
static bool find_scan_run(struct scan *scan, bool more)
{
    struct find *find = scan->find;
    uint64_t n = scan->end - scan->start, kept = more ? find->bytes - 1 : 0;

    if (scan->stop && scan->stop(scan->owner)) {
        find->stopped = true;
        return false;
    }
    if (n >= find->bytes && !find_scan_piece(find, scan->slot->gpa + scan->start,
                                             (const uint8_t *)scan->slot->hva + scan->start, n))
        return false;
    find->searched_bytes += n > kept ? n - kept : 0;
    scan->start = scan->end - (n > kept ? kept : n);
    return true;
}

/* One slot, page by page as far as the host has something there. */
static bool find_scan_slot(struct scan *scan, int pagemap, uint64_t *entries)
{
    uint64_t pages = scan->slot->bytes / MEMORY_PAGE_BYTES;
    uint64_t first = (uintptr_t)scan->slot->hva / MEMORY_PAGE_BYTES;

    scan->start = scan->end = 0;
    for (uint64_t page = 0; page < pages;) {
        size_t n = pages - page < PAGEMAP_ENTRIES ? pages - page : PAGEMAP_ENTRIES;
        bool known = pagemap >= 0 && pread(pagemap, entries, n * 8, (off_t)((first + page) * 8)) ==
                                         (ssize_t)(n * 8);

        scan->find->untouched_too |= !known;
        for (size_t i = 0; i < n; i++, page++) {
            uint64_t at = page * MEMORY_PAGE_BYTES;

            if (known && !(entries[i] & PAGEMAP_THERE))
                continue;
            if (scan->end != at) {
                if (!find_scan_run(scan, false))
                    return false;
                scan->start = at;
            }
            scan->end = at + MEMORY_PAGE_BYTES;
            if (scan->end - scan->start >= PIECE_BYTES && !find_scan_run(scan, true))
                return false;
        }
    }
    return find_scan_run(scan, false);
}

void find_scan(struct find *find, bool (*stop)(void *owner), void *owner)
{
    struct scan scan = { .find = find, .stop = stop, .owner = owner };
    uint64_t *entries = malloc(PAGEMAP_ENTRIES * sizeof(*entries));
    int pagemap = entries ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;

    for (unsigned i = 0; i < find->memory->nslots; i++) {
        scan.slot = &find->memory->slots[i];
        if (!find_scan_slot(&scan, pagemap, entries))
            break;
    }
    if (pagemap >= 0)
        close(pagemap);
    free(entries);
}

void find_check(struct find *find)
{
    size_t kept = 0;

    for (size_t i = 0; i < find->n; i++) {
        const void *at = memory_at(find->memory, find->hit[i].gpa, find->bytes);

        if (at && !memcmp(at, find->pattern, find->bytes))
            find->hit[kept++] = find->hit[i];
    }
    find->n = kept;
}

/* ---- Who maps it ---------------------------------------------------------- */

static int find_by_gpa(const void *a, const void *b)
{
    const struct find_hit *x = a, *y = b;

    return (x->gpa > y->gpa) - (x->gpa < y->gpa);
}

/* The first hit at gpa or behind it. */
static size_t find_first_from(const struct find *find, uint64_t gpa)
{
    size_t low = 0, high = find->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (find->hit[middle].gpa < gpa)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Pages that hold many hits are as much work as many pages. */
struct placing {
    struct find *find;
    uint64_t work;
};

static int find_place_leaf(void *owner, unsigned space, const struct paging_leaf *leaf)
{
    struct placing *placing = owner;
    struct find *find = placing->find;

    for (size_t i = find_first_from(find, leaf->gpa);
         i < find->n && find->hit[i].gpa - leaf->gpa < leaf->page_bytes; i++) {
        struct find_hit *hit = &find->hit[i];

        if (!placing->work)
            return -E2BIG;
        placing->work--;
        if (hit->nplaces == FIND_PLACES_MAX) {
            hit->more++;
            continue;
        }
        hit->place[hit->nplaces].space = space;
        hit->place[hit->nplaces].va = leaf->va + (hit->gpa - leaf->gpa);
        hit->place[hit->nplaces++].user = leaf->user;
    }
    return 0;
}

int find_places(struct find *find, const struct spaces *spaces, uint64_t *budget)
{
    struct placing placing = { .find = find, .work = *budget };
    const struct spaces_visitor visitor = { .owner = &placing, .leaf = find_place_leaf };

    if (!find->n)
        return 0;
    qsort(find->hit, find->n, sizeof(*find->hit), find_by_gpa);
    return spaces_each(spaces, SPACES_LOWER | SPACES_UPPER, budget, &visitor);
}

/* ---- As people write it --------------------------------------------------- */

static int find_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int find_parse(const char *text, uint8_t pattern[FIND_PATTERN_MAX])
{
    size_t length = strlen(text);

    if (text[0] != '0' || (text[1] != 'x' && text[1] != 'X')) {
        if (!length)
            return -EINVAL;
        if (length > FIND_PATTERN_MAX)
            return -E2BIG;
        memcpy(pattern, text, length);
        return (int)length;
    }
    text += 2;
    length -= 2;
    if (!length || length % 2)
        return -EINVAL;
    if (length / 2 > FIND_PATTERN_MAX)
        return -E2BIG;
    for (size_t i = 0; i < length / 2; i++) {
        int high = find_digit(text[2 * i]), low = find_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EINVAL;
        pattern[i] = (uint8_t)(high << 4 | low);
    }
    return (int)(length / 2);
}
