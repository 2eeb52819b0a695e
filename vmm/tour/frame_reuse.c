#include "vmm/tour/frame_reuse.h"

#include <stdbool.h>
#include <stdlib.h>

#include "vmm/inspect/translate.h"
#include "vmm/machine/memory.h"

#define CHUNK_PAGES 64u /* looked at to the end, once a noted frame is there */

static int frame_reuse_by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void frame_reuse_note(struct frame_reuse *reuse, const struct memory *memory, const uint64_t *gpa,
                      uint64_t n)
{
    struct host_pages pages;

    *reuse = (struct frame_reuse){ .unknown = "no frame behind the pages" };
    host_pages_open(&pages);
    for (uint64_t i = 0; i < n && reuse->n < FRAME_REUSE_FRAMES_MAX; i++) {
        const void *hva = memory_at(memory, gpa[i], MEMORY_PAGE_BYTES);
        struct host_page page;

        if (!hva)
            continue;
        host_pages_read(&pages, hva, &page);
        if (page.pfn_unknown)
            reuse->unknown = page.pfn_unknown;
        else
            reuse->pfn[reuse->n++] = page.pfn;
    }
    host_pages_close(&pages);
    if (reuse->n)
        reuse->unknown = NULL;
    qsort(reuse->pfn, reuse->n, sizeof(reuse->pfn[0]), frame_reuse_by_number);
}

/* Has the host put a frame behind an untouched page, and counts what is in it. */
static void frame_reuse_take_frame(uint8_t *hva, struct frame_reuse_found *found)
{
    const uint64_t *word = (const uint64_t *)hva;
    volatile uint8_t *at = hva;
    uint8_t first = *at;

    /* Written as it is: to read it only shows the one zero page of the host. */
    *at = first;
    found->fresh++;
    for (unsigned i = 0; i < MEMORY_PAGE_BYTES / sizeof(*word); i++)
        found->nonzero += word[i] != 0;
}

static void frame_reuse_look_at(const struct frame_reuse *reuse, const struct host_pages *pages,
                                uint8_t *hva, struct frame_reuse_found *found)
{
    struct host_page page;

    found->looked++;
    host_pages_read(pages, hva, &page);
    if (!page.present && !page.swapped) {
        frame_reuse_take_frame(hva, found);
        host_pages_read(pages, hva, &page);
    }
    found->seen += page.pfn && bsearch(&page.pfn, reuse->pfn, reuse->n, sizeof(reuse->pfn[0]),
                                       frame_reuse_by_number);
}

void frame_reuse_find(const struct frame_reuse *reuse, const struct memory *memory,
                      struct frame_reuse_found *found)
{
    uint64_t most = reuse->n ? FRAME_REUSE_SEARCH_MAX : FRAME_REUSE_SEARCH_BLIND;
    struct host_pages pages;

    *found = (struct frame_reuse_found){ 0 };
    host_pages_open(&pages);
    for (unsigned i = 0; i < memory->nslots; i++) {
        const struct memory_slot *slot = &memory->slots[i];

        for (uint64_t at = 0; at < slot->bytes && found->looked < most; at += MEMORY_PAGE_BYTES) {
            if (found->seen && found->looked % CHUNK_PAGES == 0)
                break;
            frame_reuse_look_at(reuse, &pages, (uint8_t *)slot->hva + at, found);
        }
    }
    host_pages_close(&pages);
}
