#include "vmm/tour/handover.h"

#include <stdbool.h>
#include <stdlib.h>

#include "vmm/inspect/translate.h"
#include "vmm/machine/memory.h"

#define CHUNK_PAGES 64u /* looked at to the end, once a noted frame is there */

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

void handover_note(struct handover *handover, const struct memory *memory, const uint64_t *gpa,
                   uint64_t n)
{
    struct host_pages pages;

    *handover = (struct handover){ .unknown = "no frame behind the pages" };
    host_pages_open(&pages);
    for (uint64_t i = 0; i < n && handover->n < HANDOVER_FRAMES_MAX; i++) {
        const void *hva = memory_at(memory, gpa[i], MEMORY_PAGE_BYTES);
        struct host_page page;

        if (!hva)
            continue;
        host_pages_read(&pages, hva, &page);
        if (page.pfn_unknown)
            handover->unknown = page.pfn_unknown;
        else
            handover->pfn[handover->n++] = page.pfn;
    }
    host_pages_close(&pages);
    if (handover->n)
        handover->unknown = NULL;
    qsort(handover->pfn, handover->n, sizeof(handover->pfn[0]), by_number);
}

/* Has the host put a frame behind an untouched page, and counts what is in it. */
static void take_frame(uint8_t *hva, struct handed *handed)
{
    const uint64_t *word = (const uint64_t *)hva;
    volatile uint8_t *at = hva;
    uint8_t first = *at;

    /* Written as it is: to read it only shows the one zero page of the host. */
    *at = first;
    handed->fresh++;
    for (unsigned i = 0; i < MEMORY_PAGE_BYTES / sizeof(*word); i++)
        handed->nonzero += word[i] != 0;
}

static void look_at(const struct handover *handover, const struct host_pages *pages, uint8_t *hva,
                    struct handed *handed)
{
    struct host_page page;

    handed->looked++;
    host_pages_read(pages, hva, &page);
    if (!page.present && !page.swapped) {
        take_frame(hva, handed);
        host_pages_read(pages, hva, &page);
    }
    handed->seen += page.pfn && bsearch(&page.pfn, handover->pfn, handover->n,
                                        sizeof(handover->pfn[0]), by_number);
}

void handover_look(const struct handover *handover, const struct memory *memory,
                   struct handed *handed)
{
    uint64_t most = handover->n ? FRAME_REUSE_SEARCH_MAX : FRAME_REUSE_SEARCH_BLIND;
    struct host_pages pages;

    *handed = (struct handed){ 0 };
    host_pages_open(&pages);
    for (unsigned i = 0; i < memory->nslots; i++) {
        const struct memory_slot *slot = &memory->slots[i];

        for (uint64_t at = 0; at < slot->bytes && handed->looked < most; at += MEMORY_PAGE_BYTES) {
            if (handed->seen && handed->looked % CHUNK_PAGES == 0)
                break;
            look_at(handover, &pages, (uint8_t *)slot->hva + at, handed);
        }
    }
    host_pages_close(&pages);
}
